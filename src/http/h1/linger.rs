//! What is still to be read when nothing more is to be written: the rest of a request body, or
//! whatever a client sends while we close.

use std::future::poll_fn;
use std::task::Poll;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::link::Link;
use crate::http::drain::Timer;
use crate::http::limits::Limits;
use crate::http::walker::BodyWalker;
use crate::metrics::{Counter, Sink};
use crate::outcome::CloseReason;

/// Reads the rest of a request body that nobody wants, so that the connection can go on. An error is
/// why it cannot.
pub(super) async fn drain_body<IO>(
    link: &mut Link<IO>,
    timer: &Timer,
    limits: &Limits,
    walker: &mut BodyWalker,
    sink: &Sink,
) -> Result<(), CloseReason>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let mut drained = 0;
    let mut due = None;
    poll_fn(|cx| {
        loop {
            let Ok(used) = walker.advance(link.input()) else {
                sink.inc(Counter::Malformed);
                return Poll::Ready(Err(CloseReason::Malformed));
            };
            link.consume(used);
            drained += used;
            if walker.is_done() {
                return Poll::Ready(Ok(()));
            }
            if link.at_eof() {
                return Poll::Ready(Err(CloseReason::ClientAborted));
            }
            if drained >= limits.drain_bytes_max {
                return Poll::Ready(Err(CloseReason::UndrainedBody));
            }
            match link.poll_read_more(cx, limits.drain_bytes_max - drained) {
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(Err(CloseReason::ClientAborted)),
                Poll::Pending => {
                    let due = *due.get_or_insert_with(|| Instant::now() + limits.drain_timeout);
                    return timer.poll(due, cx).map(|()| Err(CloseReason::UndrainedBody));
                }
            }
        }
    })
    .await
}

/// Closes so that the client sees our last answer: says that we send no more, then reads and drops
/// what still comes until the client closes too, within bounds. Data that arrives at a closed socket
/// would make the kernel throw away what the client has not read yet.
pub(super) async fn lingering_close<IO>(
    link: &mut Link<IO>,
    timer: &Timer,
    limits: &Limits,
    lingers: bool,
) where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let due = Instant::now() + limits.drain_timeout;
    let mut shut = false;
    let mut left = limits.drain_bytes_max;
    poll_fn(|cx| {
        if timer.poll(due, cx).is_ready() {
            return Poll::Ready(());
        }
        if !shut {
            match link.poll_shutdown(cx) {
                Poll::Ready(Ok(())) if lingers => shut = true,
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
        loop {
            let used = link.input().len();
            link.consume(used);
            if left == 0 || link.at_eof() {
                return Poll::Ready(());
            }
            match link.poll_read_more(cx, left) {
                Poll::Ready(Ok(read)) => left -= read,
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await;
}
