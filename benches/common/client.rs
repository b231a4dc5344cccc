//! A client in memory: a stream that hands the driver one request after the other and checks that
//! each is answered as the first was.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Sends the same request again and again, never before the last was answered whole.
pub struct Client {
    request: Vec<u8>,
    /// Where the digits of the user stand: each request is another user's.
    user: Option<std::ops::Range<usize>>,
    status: u16,
    left: u64,
    /// Whether the driver was told once that nothing has come, as it is by a socket.
    waited: bool,
    /// The first answer, until it is whole.
    first: Vec<u8>,
    /// Length of every answer, once the first is known.
    whole: Option<usize>,
    /// Bytes of the current answer that are to come; `None` between answers.
    open: Option<usize>,
    /// Answers that came whole.
    answered: Rc<Cell<u64>>,
}

impl Client {
    /// So many requests, each answered with `status`. The first run of digits behind `uid=u` is
    /// counted up.
    pub fn new(request: &str, status: u16, count: u64) -> Client {
        let request = request.as_bytes().to_vec();
        let user = find(&request, b"uid=u").map(|at| {
            let from = at + 5;
            let digits = request[from..].iter().take_while(|b| b.is_ascii_digit()).count();
            from..from + digits
        });
        Client {
            request,
            user,
            status,
            left: count,
            waited: false,
            first: Vec::new(),
            whole: None,
            open: None,
            answered: Rc::default(),
        }
    }

    /// How many answers have come whole; it can be read when the driver has dropped the client.
    pub fn answered(&self) -> Rc<Cell<u64>> {
        self.answered.clone()
    }

    fn next_user(&mut self) {
        let Some(digits) = self.user.clone() else { return };
        for digit in self.request[digits].iter_mut().rev() {
            if *digit != b'9' {
                *digit += 1;
                return;
            }
            *digit = b'0';
        }
    }

    /// Takes a piece of an answer.
    fn take(&mut self, piece: &[u8]) -> io::Result<()> {
        let Some(whole) = self.whole else { return self.take_first(piece) };
        let left = self.open.unwrap_or(whole);
        if left == whole && !has_status(piece, self.status) || piece.len() > left {
            return Err(wrong(piece));
        }
        self.open = Some(left - piece.len());
        self.end();
        Ok(())
    }

    /// Takes a piece of the first answer, which says how long all are.
    fn take_first(&mut self, piece: &[u8]) -> io::Result<()> {
        self.first.extend_from_slice(piece);
        let Some(head) = find(&self.first, b"\r\n\r\n").map(|at| at + 4) else { return Ok(()) };
        if !has_status(&self.first, self.status) {
            return Err(wrong(&self.first));
        }
        let is_bodiless = self.request.starts_with(b"HEAD ") || self.status == 304;
        let text = String::from_utf8_lossy(&self.first[..head]).to_lowercase();
        let length = text.split("content-length:").nth(1).and_then(|rest| {
            rest.split("\r\n").next().and_then(|length| length.trim().parse::<usize>().ok())
        });
        let whole =
            head + if is_bodiless { 0 } else { length.ok_or_else(|| wrong(&self.first))? };
        self.whole = Some(whole);
        self.open = Some(whole.checked_sub(self.first.len()).ok_or_else(|| wrong(&self.first))?);
        self.end();
        Ok(())
    }

    fn end(&mut self) {
        if self.open == Some(0) {
            self.open = None;
            self.waited = false;
            self.answered.set(self.answered.get() + 1);
        }
    }
}

impl AsyncRead for Client {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.open.is_some() {
            // The driver may look whether the client is still there.
            return Poll::Pending;
        }
        if !self.waited {
            self.waited = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if self.left > 0 {
            self.left -= 1;
            self.next_user();
            buffer.put_slice(&self.request);
            self.open = Some(self.whole.unwrap_or(usize::MAX));
        }
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

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut sum = 0;
        for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
            self.take(piece)?;
            sum += piece.len();
        }
        Poll::Ready(Ok(sum))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn has_status(piece: &[u8], status: u16) -> bool {
    piece.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok())
        == Some(status)
}

/// The driver keeps no error of a client's socket, so it is said here.
fn wrong(answer: &[u8]) -> io::Error {
    let begin = &answer[..answer.len().min(400)];
    eprintln!("another answer than expected: {}", String::from_utf8_lossy(begin));
    io::ErrorKind::InvalidData.into()
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}
