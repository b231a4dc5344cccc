//! The same client by HTTP/2: ten requests under way, the next ten when all of them are answered. Its
//! fields stand in the table of the header compression after the first request, as a browser's do.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Sends the same request again and again; every answer must be 200.
pub struct Client {
    /// What the next reads get.
    ready: Vec<u8>,
    /// The head of the first request, and of all others.
    first: Vec<u8>,
    others: Vec<u8>,
    stream: u32,
    left: u64,
    open: u64,
    /// Whether the driver was told once that nothing has come, as it is by a socket.
    waited: bool,
    reader: Option<Waker>,
    head: [u8; HEAD_BYTES],
    have: usize,
    body_left: usize,
    answered: Rc<Cell<u64>>,
}

impl Client {
    /// So many requests like `request`, which is written as for HTTP/1.1 and has no body.
    pub fn new(request: &str, count: u64) -> Client {
        let fields = fields(request);
        let mut ready = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        frame(SETTINGS, 0, 0, &[], &mut ready);
        frame(WINDOW_UPDATE, 0, 0, &(1u32 << 30).to_be_bytes(), &mut ready);
        let mut first = Vec::new();
        for (name, value) in &fields {
            first.push(0x40);
            for text in [name, value] {
                integer(text.len(), &mut first);
                first.extend_from_slice(text.as_bytes());
            }
        }
        // The newest entry of the table is 62.
        let others =
            (0..fields.len()).rev().map(|back| 0x80 | u8::try_from(62 + back).unwrap_or(0));
        Client {
            ready,
            first,
            others: others.collect(),
            stream: 1,
            left: count,
            open: 0,
            waited: false,
            reader: None,
            head: [0; HEAD_BYTES],
            have: 0,
            body_left: 0,
            answered: Rc::default(),
        }
    }

    /// How many answers have come whole; it can be read when the driver has dropped the client.
    pub fn answered(&self) -> Rc<Cell<u64>> {
        self.answered.clone()
    }

    fn ask(&mut self) {
        for _ in 0..self.left.min(AT_ONCE) {
            let block = if self.stream == 1 { &self.first } else { &self.others };
            frame(HEADERS, END_STREAM | END_HEADERS, self.stream, block, &mut self.ready);
            self.stream += 2;
            self.left -= 1;
            self.open += 1;
        }
    }

    /// Walks over what the server writes.
    fn take(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            if self.have < HEAD_BYTES {
                let taken = bytes.len().min(HEAD_BYTES - self.have);
                self.head[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
                self.have += taken;
                bytes = &bytes[taken..];
                if self.have < HEAD_BYTES {
                    return Ok(());
                }
                let [a, b, c, ..] = self.head;
                self.body_left = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
                // `:status: 200` is one byte, and stands first.
                let is_other = self.head[3] == HEADERS
                    && bytes.first().is_some_and(|byte| *byte != 0x88 && byte & 0xe0 != 0x20);
                if is_other || matches!(self.head[3], RST_STREAM | GOAWAY) {
                    eprintln!("another answer than expected: {:?}, then {bytes:?}", self.head);
                    return Err(io::ErrorKind::InvalidData.into());
                }
            }
            let taken = bytes.len().min(self.body_left);
            self.body_left -= taken;
            bytes = &bytes[taken..];
            if self.body_left == 0 {
                self.have = 0;
                self.end();
            }
        }
        Ok(())
    }

    fn end(&mut self) {
        let [.., kind, flags, _, _, _, _] = self.head;
        match kind {
            SETTINGS if flags == 0 => frame(SETTINGS, ACK, 0, &[], &mut self.ready),
            HEADERS | DATA if flags & END_STREAM != 0 => {
                self.answered.set(self.answered.get() + 1);
                self.open -= 1;
                self.waited &= self.open > 0;
            }
            _ => return,
        }
        self.reader.take().into_iter().for_each(Waker::wake);
    }
}

impl AsyncRead for Client {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.ready.is_empty() && self.open > 0 {
            self.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        if !self.waited {
            self.waited = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if self.open == 0 {
            self.ask();
        }
        let taken = self.ready.len().min(buffer.remaining());
        buffer.put_slice(&self.ready[..taken]);
        self.ready.drain(..taken);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Client {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(self.take(bytes).map(|()| bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// The fields of a request of HTTP/1.1, as HTTP/2 has them.
fn fields(request: &str) -> Vec<(String, String)> {
    let mut lines = request.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let mut word = |name: &str| (name.to_owned(), words.next().unwrap_or_default().to_owned());
    let mut fields = vec![word(":method"), word(":path"), (":scheme".into(), "https".into())];
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        let name = name.to_lowercase();
        match name.as_str() {
            "host" => fields.insert(0, (":authority".into(), value.into())),
            "connection" | "keep-alive" => {}
            _ => fields.push((name, value.into())),
        }
    }
    fields
}

fn frame(kind: u8, flags: u8, stream: u32, content: &[u8], out: &mut Vec<u8>) {
    let [_, a, b, c] = u32::try_from(content.len()).unwrap_or(0).to_be_bytes();
    out.extend_from_slice(&[a, b, c, kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(content);
}

/// A length of RFC 7541 5.1, seven bits at first.
fn integer(length: usize, out: &mut Vec<u8>) {
    let Some(mut left) = length.checked_sub(127) else {
        out.push(u8::try_from(length).unwrap_or(0));
        return;
    };
    out.push(127);
    while left >= 128 {
        out.push(u8::try_from(left % 128).unwrap_or(0) | 128);
        left /= 128;
    }
    out.push(u8::try_from(left).unwrap_or(0));
}

/// Requests that are under way.
const AT_ONCE: u64 = 10;
const HEAD_BYTES: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
