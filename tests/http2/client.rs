//! A client that writes frames as it likes and reads them one by one.

use std::collections::BTreeMap;

use penstock::outcome::CloseReason;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::task::JoinHandle;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PUSH_PROMISE: u8 = 5;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const ES: u8 = 1;
pub const ACK: u8 = 1;
pub const EH: u8 = 4;
pub const PAD: u8 = 8;
pub const PRIO: u8 = 0x20;

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A frame as it lies on the wire.
pub fn frame(kind: u8, flags: u8, stream: u32, content: &[u8]) -> Vec<u8> {
    let len = u32::try_from(content.len()).expect("short").to_be_bytes();
    let mut out = vec![len[1], len[2], len[3], kind, flags];
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(content);
    out
}

/// Fields as literals that are never indexed nor compressed.
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        out.push(0);
        for text in [name, value] {
            integer(text.len(), 7, 0, &mut out);
            out.extend_from_slice(text.as_bytes());
        }
    }
    out
}

/// RFC 7541 5.1.
pub fn integer(mut value: usize, bits: u32, first: u8, out: &mut Vec<u8>) {
    let max = (1 << bits) - 1;
    if value < max {
        out.push(first | u8::try_from(value).expect("small"));
        return;
    }
    out.push(first | u8::try_from(max).expect("small"));
    value -= max;
    while value >= 128 {
        out.push(u8::try_from(value % 128).expect("small") | 0x80);
        value /= 128;
    }
    out.push(u8::try_from(value).expect("small"));
}

/// What every request has.
pub const GET: [(&str, &str); 4] =
    [(":method", "GET"), (":scheme", "https"), (":authority", "shop.example"), (":path", "/")];
pub const POST: [(&str, &str); 4] =
    [(":method", "POST"), (":scheme", "https"), (":authority", "shop.example"), (":path", "/read")];

pub fn with(
    base: &[(&'static str, &'static str)],
    more: &[(&'static str, &'static str)],
) -> Vec<u8> {
    block(&[base, more].concat())
}

/// A whole GET for `path`.
pub fn get(stream: u32, path: &str) -> Vec<u8> {
    let mut fields = GET;
    fields[3].1 = path;
    frame(HEADERS, ES | EH, stream, &block(&fields))
}

/// A frame that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Came {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub content: Vec<u8>,
}

impl Came {
    pub fn ends(&self) -> bool {
        matches!(self.kind, DATA | HEADERS) && self.flags & ES != 0
    }

    fn word(&self, at: usize) -> u32 {
        let bytes = self.content.get(at..at + 4).expect("four bytes");
        u32::from_be_bytes(bytes.try_into().expect("four"))
    }

    /// The code of RST_STREAM and GOAWAY.
    pub fn code(&self) -> u32 {
        self.word(if self.kind == GOAWAY { 4 } else { 0 })
    }

    /// The status in the block of a response's head, which is its first field.
    pub fn status(&self) -> u16 {
        const INDEXED: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];
        let mut at = 0;
        // A change of the table's size may stand before it.
        while self.content[at] & 0xe0 == 0x20 {
            at += 1;
        }
        match self.content[at] {
            first @ 0x88..=0x8e => INDEXED[usize::from(first - 0x88)],
            0x08 | 0x18 | 0x48 => digits(&self.content[at + 1..]),
            other => panic!("no status begins with {other:#x}"),
        }
    }
}

/// Three digits, compressed or not (RFC 7541 appendix B).
fn digits(text: &[u8]) -> u16 {
    let (length, text) = text.split_first().expect("a length");
    let text = &text[..usize::from(length & 0x7f)];
    if length & 0x80 == 0 {
        return std::str::from_utf8(text).expect("digits").parse().expect("a number");
    }
    let bits: Vec<u8> = text.iter().flat_map(|b| (0..8).rev().map(move |n| b >> n & 1)).collect();
    let (mut at, mut number) = (0, 0);
    for _ in 0..3 {
        let take =
            |n: usize| bits[at..at + n].iter().fold(0, |sum, bit| sum << 1 | u16::from(*bit));
        let (digit, used) = match take(5) {
            digit @ 0..=2 => (digit, 5),
            _ => (take(6) - 0b01_1001 + 3, 6),
        };
        (at, number) = (at + used, number * 10 + digit);
    }
    number
}

/// A response, whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    pub body: Vec<u8>,
}

impl Response {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }
}

/// A connection to the driver.
pub struct Client {
    pub stream: DuplexStream,
    task: JoinHandle<CloseReason>,
    came: Vec<u8>,
}

impl Client {
    pub fn new(stream: DuplexStream, task: JoinHandle<CloseReason>) -> Client {
        Client { stream, task, came: Vec::new() }
    }

    /// Begins as every client does, and waits until the server has answered that.
    pub async fn greet(&mut self, settings: &[u8]) {
        // No table for responses: their heads are read without the history of the connection.
        let settings = [&[0, 1, 0, 0, 0, 0][..], settings].concat();
        self.send(PREFACE).await;
        self.send(frame(SETTINGS, 0, 0, &settings)).await;
        self.send(frame(PING, 0, 0, b"greeting")).await;
        let (mut window, mut ping) = (false, false);
        while !window || !ping {
            let came = self.next().await.expect("settings, the window, the ping");
            window |= came.kind == WINDOW_UPDATE;
            ping |= came.kind == PING;
        }
        self.send(frame(SETTINGS, ACK, 0, &[])).await;
    }

    /// Sends; a server that has gone shows when it is read.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(bytes.as_ref()).await;
    }

    /// The next frame; nothing at the end.
    pub async fn next(&mut self) -> Option<Came> {
        loop {
            if let Some(head) = self.came.first_chunk::<9>() {
                let [a, b, c, kind, flags, stream @ ..] = *head;
                let len = usize::try_from(u32::from_be_bytes([0, a, b, c])).expect("small");
                if self.came.len() >= 9 + len {
                    let content = self.came[9..9 + len].to_vec();
                    self.came.drain(..9 + len);
                    let stream = u32::from_be_bytes(stream);
                    return Some(Came { kind, flags, stream, content });
                }
            }
            let read = self.stream.read_buf(&mut self.came).await.unwrap_or(0);
            if read == 0 {
                assert!(self.came.is_empty(), "half a frame at the end: {:?}", self.came);
                return None;
            }
        }
    }

    /// The responses to these requests, in whatever order they come. Windows are kept open.
    pub async fn responses(&mut self, streams: &[u32]) -> BTreeMap<u32, Response> {
        let mut all: BTreeMap<u32, Response> = BTreeMap::new();
        let mut open = streams.to_vec();
        while !open.is_empty() {
            let came = self.next().await.expect("a response");
            let response = all.entry(came.stream).or_default();
            match came.kind {
                HEADERS => response.status = came.status(),
                DATA => {
                    response.body.extend_from_slice(&came.content);
                    let more = u32::try_from(came.content.len()).expect("small").to_be_bytes();
                    if !came.content.is_empty() {
                        self.send(frame(WINDOW_UPDATE, 0, 0, &more)).await;
                        if !came.ends() {
                            self.send(frame(WINDOW_UPDATE, 0, came.stream, &more)).await;
                        }
                    }
                }
                RST_STREAM => assert_eq!(came.code(), 0, "reset: {came:?}"),
                SETTINGS | PING | WINDOW_UPDATE => {
                    all.remove(&came.stream)
                        .filter(|response| response.status != 0)
                        .map(|r| all.insert(came.stream, r));
                    continue;
                }
                _ => panic!("not expected: {came:?}"),
            }
            if came.ends() {
                open.retain(|stream| *stream != came.stream);
            }
        }
        all
    }

    /// The response to one request.
    pub async fn response(&mut self, stream: u32) -> Response {
        self.responses(&[stream]).await.remove(&stream).expect("a response")
    }

    /// Everything that still comes.
    pub async fn rest(&mut self) -> Vec<Came> {
        let mut all = Vec::new();
        while let Some(came) = self.next().await {
            all.push(came);
        }
        all
    }

    /// With which code the server says goodbye; nothing if it just closes.
    pub async fn goodbye(&mut self) -> Option<u32> {
        let came = self.rest().await;
        came.iter().rev().find(|came| came.kind == GOAWAY).map(Came::code)
    }

    /// Closes and says why the driver ended.
    pub async fn close(self) -> CloseReason {
        drop(self.stream);
        self.task.await.expect("no panic")
    }

    /// Why the driver ended, of itself.
    pub async fn reason(self) -> CloseReason {
        self.task.await.expect("no panic")
    }
}
