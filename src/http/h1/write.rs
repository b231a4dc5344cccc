//! Writes ready-made answers: one call where the kernel takes it all.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::link::Link;
use super::scratch;
use super::timer::Timer;
use crate::http::Ready;
use crate::http::limits::Limits;
use crate::outcome::CloseReason;

/// Bodies up to this size are copied behind their head and sent as one piece.
const CONTIGUOUS_BODY_BYTES_MAX: usize = 16 * 1024;

/// One answer and how it is framed.
pub(super) struct Message<'a> {
    pub ready: &'a Ready,
    /// The request was HEAD: no body.
    pub is_head: bool,
    /// The request was HTTP/1.0 and the connection is kept, which has to be said.
    pub keeps_old: bool,
    /// The connection closes after this, which has to be said.
    pub close: bool,
}

/// Writes an answer. An error is why the connection ends instead.
pub(super) async fn answer<IO>(
    link: &mut Link<IO>,
    timer: &mut Timer,
    limits: &Limits,
    message: Message<'_>,
) -> Result<(), CloseReason>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let mut out = scratch::take_out();
    let body = compose(&message, &mut out);
    let mut sending = Sending { head: &out, body: &body, sent: 0, stalled_since: None };
    let result = poll_fn(|cx| sending.poll(link, timer, limits, cx)).await;
    scratch::return_out(out);
    result
}

/// Appends head and small body to `out`; a large body is given back to be written from where it is.
fn compose(message: &Message<'_>, out: &mut Vec<u8>) -> Bytes {
    let Ready { answer, fill, .. } = message.ready;
    answer.write_h1_head(fill, message.close, out);
    if message.keeps_old {
        // In front of the empty line that ends the head.
        out.truncate(out.len() - 2);
        out.extend_from_slice(b"connection: keep-alive\r\n\r\n");
    }
    if message.is_head {
        return Bytes::new();
    }
    match answer.shared_body() {
        Some(body) if body.len() > CONTIGUOUS_BODY_BYTES_MAX => body.clone(),
        _ => {
            answer.write_body(fill, out);
            Bytes::new()
        }
    }
}

/// Two pieces on their way out.
struct Sending<'a> {
    head: &'a [u8],
    body: &'a [u8],
    sent: usize,
    stalled_since: Option<Instant>,
}

impl Sending<'_> {
    fn poll<IO>(
        &mut self,
        link: &mut Link<IO>,
        timer: &mut Timer,
        limits: &Limits,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), CloseReason>>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        match self.poll_send(link, cx) {
            Poll::Ready(Ok(())) => Poll::Ready(Ok(())),
            Poll::Ready(Err(_)) => Poll::Ready(Err(CloseReason::ClientAborted)),
            Poll::Pending => {
                let since = *self.stalled_since.get_or_insert_with(Instant::now);
                let due = since + limits.write_timeout;
                timer.poll(due, cx).map(|()| Err(CloseReason::WriteTimeout))
            }
        }
    }

    fn poll_send<IO>(&mut self, link: &mut Link<IO>, cx: &mut Context<'_>) -> Poll<io::Result<()>>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        while self.sent < self.head.len() + self.body.len() {
            let head = &self.head[self.sent.min(self.head.len())..];
            let body = &self.body[self.sent.saturating_sub(self.head.len())..];
            let written = ready!(link.poll_write_two(cx, head, body))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += written;
            self.stalled_since = None;
        }
        link.poll_flush(cx)
    }
}
