//! Writes ready-made answers: one call where the kernel takes it all, and what is kept where it does
//! not.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};

use super::link::Link;
use super::scratch;
use super::stall::Stall;
use crate::http::Ready;
use crate::http::drain::Timer;
use crate::http::limits::Limits;
use crate::outcome::CloseReason;

/// Bodies up to this size are copied behind their head and sent as one piece. Copying more costs more
/// than the second piece of a `writev`.
const CONTIGUOUS_BODY_BYTES_MAX: usize = 4 * 1024;

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

/// How far an answer has come.
pub(super) enum Sent {
    /// The kernel has all of it.
    Whole,
    /// The client is gone.
    Gone,
    /// The client does not take it yet.
    Stalled(Rest),
}

/// Writes as much of an answer as the kernel takes now.
pub(super) fn start<IO>(link: &mut Link<IO>, cx: &mut Context<'_>, message: &Message<'_>) -> Sent
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let mut out = scratch::take_out();
    // A large body is written from where it is, and shared only when it has to wait.
    let body = compose(message, &mut out);
    let mut sent = 0;
    let polled = poll_send(link, &out, body.map_or(&[], |body| body), &mut sent, cx);
    if polled.is_pending() {
        let mut stall = Stall::default();
        stall.waits();
        let body = body.cloned().unwrap_or_default();
        if sent < out.len() {
            return Sent::Stalled(Rest { head: out, body, sent, stall });
        }
        sent -= out.len();
        scratch::return_out(out);
        return Sent::Stalled(Rest { head: Vec::new(), body, sent, stall });
    }
    scratch::return_out(out);
    if matches!(polled, Poll::Ready(Ok(()))) { Sent::Whole } else { Sent::Gone }
}

/// Writes an answer, however long it takes. An error is why the connection ends instead.
pub(super) async fn answer<IO>(
    link: &mut Link<IO>,
    timer: &Timer,
    limits: &Limits,
    message: Message<'_>,
) -> Result<(), CloseReason>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    match poll_fn(|cx| Poll::Ready(start(link, cx, &message))).await {
        Sent::Whole => Ok(()),
        Sent::Gone => Err(CloseReason::ClientAborted),
        Sent::Stalled(mut rest) => poll_fn(|cx| rest.poll_send(link, timer, limits, cx)).await,
    }
}

/// Appends head and small body to `out`; a large body is given back to be written from where it is.
fn compose<'a>(message: &Message<'a>, out: &mut Vec<u8>) -> Option<&'a Bytes> {
    let Ready { answer, fill, .. } = message.ready;
    answer.write_h1_head(fill, message.close, out);
    if message.keeps_old {
        // In front of the empty line that ends the head.
        out.truncate(out.len() - 2);
        out.extend_from_slice(b"connection: keep-alive\r\n\r\n");
    }
    if message.is_head {
        return None;
    }
    match answer.shared_body() {
        Some(body) if body.len() > CONTIGUOUS_BODY_BYTES_MAX => Some(body),
        _ => {
            answer.write_body(fill, out);
            None
        }
    }
}

fn poll_send<IO>(
    link: &mut Link<IO>,
    head: &[u8],
    body: &[u8],
    sent: &mut usize,
    cx: &mut Context<'_>,
) -> Poll<io::Result<()>>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    while *sent < head.len() + body.len() {
        let head_left = &head[(*sent).min(head.len())..];
        let body_left = &body[sent.saturating_sub(head.len())..];
        let written = ready!(link.poll_write_two(cx, head_left, body_left))?;
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        *sent += written;
    }
    link.poll_flush(cx)
}

/// What the client has not taken yet. Bounded: a head with a small body, and a share of a large one.
pub(super) struct Rest {
    head: Vec<u8>,
    body: Bytes,
    sent: usize,
    stall: Stall,
}

impl Rest {
    /// Writes it, as the client takes it. An error is why the connection ends instead.
    pub(super) fn poll_send<IO>(
        &mut self,
        link: &mut Link<IO>,
        timer: &Timer,
        limits: &Limits,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), CloseReason>>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let before = self.sent;
        let polled = poll_send(link, &self.head, &self.body, &mut self.sent, cx);
        if self.sent > before {
            self.stall.took(self.sent - before);
        }
        match polled {
            Poll::Ready(Ok(())) => Poll::Ready(Ok(())),
            Poll::Ready(Err(_)) => Poll::Ready(Err(CloseReason::ClientAborted)),
            Poll::Pending => {
                self.stall.waits();
                // A stall that has begun has an end.
                let Some(due) = self.stall.due(limits) else { return Poll::Pending };
                timer.poll(due, cx).map(|()| Err(CloseReason::WriteTimeout))
            }
        }
    }
}
