//! One request through hyper: a connection object that lives for exactly that request.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};

use hyper::server::conn::http1;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::Lingers;
use super::feed::{Feed, Gate};
use super::link::Link;
use super::respond::{Ask, Once};
use super::transfer::{Failure, Transfer};
use crate::http::drain::Timer;
use crate::http::limits::Limits;
use crate::http::walker::BodyWalker;
use crate::http::{Interim, Work};
use crate::outcome::CloseReason;

/// hyper's write buffer of one connection, and its largest read.
const HYPER_BUFFER_BYTES_MAX: usize = 64 * 1024;

/// How a cold request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The whole response is with the kernel.
    Answered,
    /// hyper gave up: a broken body, a broken response, or a close we asked for.
    Broken,
    /// The client left, or its socket failed.
    ClientGone,
    /// The client did not take its response.
    WriteTimeout,
    /// hyper took more than the one request it was given.
    Disagreement,
}

/// What is left of a cold request when hyper is gone.
pub(super) struct Left {
    pub end: End,
    /// Where the request's body is: it may have to be drained.
    pub walker: BodyWalker,
    /// Whether bytes are out, or may be, behind which another answer cannot be written.
    pub wrote: bool,
}

impl Left {
    /// Whether the request was the last of its connection: why, and whether to linger.
    pub(super) fn ends(&self, transfer: &Transfer) -> Option<(CloseReason, Lingers)> {
        let failure = transfer.failure.get().map(Failure::close_reason);
        Some(match self.end {
            End::Answered => (failure.or(transfer.close.get())?, !self.walker.is_done()),
            End::ClientGone => (CloseReason::ClientAborted, false),
            End::WriteTimeout => (CloseReason::WriteTimeout, false),
            End::Disagreement => (CloseReason::Internal, false),
            // The client sees that the response is not whole; there is nothing to add.
            End::Broken if transfer.response_failed.get() => (CloseReason::ResponseClose, false),
            End::Broken if self.wrote => (failure.unwrap_or(CloseReason::ClientAborted), true),
            End::Broken => (failure.unwrap_or(CloseReason::Internal), true),
        })
    }
}

/// Drives one request through hyper.
pub(super) async fn run<IO>(
    link: &RefCell<Link<IO>>,
    timer: &Timer,
    limits: &Limits,
    work: Work,
    ask: Ask,
    transfer: Rc<Transfer>,
) -> Left
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    // HTTP/1.0 knows none (RFC 9110 15.2).
    let interim = if ask.asked.is_old { Interim::default() } else { Interim::open() };
    let feed = Feed::new(&ask.asked, interim.clone());
    let gate = Gate { link, feed: &feed, transfer: &transfer };
    let mut connection = http1::Builder::new()
        // Without this hyper reads while a response is outstanding, and a read past the end of the
        // request would not mean that the response is complete.
        .half_close(true)
        .header_read_timeout(None)
        .max_buf_size(HYPER_BUFFER_BYTES_MAX)
        .serve_connection(gate, Once::new(work, interim, ask, transfer.clone()));
    let mut driver = Driver { link, feed: &feed, transfer: &transfer, timer, limits };
    let end = poll_fn(|cx| {
        loop {
            let polled = connection.poll_without_shutdown(cx);
            // Who has none that waits to be written costs a look.
            let _ = feed.poll_interims(&mut link.borrow_mut().io, cx);
            if let Poll::Ready(end) = driver.judge(polled) {
                return Poll::Ready(end);
            }
            match driver.wait(cx) {
                Wait::End(end) => return Poll::Ready(end),
                Wait::Again => {}
                Wait::Pending => return Poll::Pending,
            }
        }
    })
    .await;
    let rest = connection.into_parts().read_buf;
    debug_assert!(end != End::Answered || !past_request(&rest, &transfer), "hyper kept bytes back");
    let wrote = feed.wrote_response.get() || feed.stall.get().is_waiting() || feed.cut_interim();
    let walker = feed.walker.borrow().clone();
    Left { end, walker, wrote }
}

/// hyper may hold undecoded bytes of a body that the handler gave up, and never any other.
fn past_request(rest: &[u8], transfer: &Transfer) -> bool {
    !rest.is_empty() && !transfer.body_abandoned() && transfer.failure.get().is_none()
}

/// What to do after hyper has nothing to do.
enum Wait {
    End(End),
    Again,
    Pending,
}

struct Driver<'a, IO> {
    link: &'a RefCell<Link<IO>>,
    feed: &'a Feed,
    transfer: &'a Transfer,
    timer: &'a Timer,
    limits: &'a Limits,
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Driver<'_, IO> {
    /// Whether the exchange is over, judged only when hyper has returned: within a poll its state is
    /// between states.
    fn judge(&self, polled: Poll<hyper::Result<()>>) -> Poll<End> {
        let transfer = self.transfer;
        if transfer.calls.get() > 1 {
            return Poll::Ready(End::Disagreement);
        }
        let flushed = !self.feed.stall.get().is_waiting();
        let ended = transfer.response_ended.get() && self.feed.wrote_response.get() && flushed;
        let answered = ended && !transfer.response_failed.get();
        match polled {
            Poll::Ready(Ok(())) if answered => Poll::Ready(End::Answered),
            Poll::Ready(_) => Poll::Ready(End::Broken),
            Poll::Pending => {
                let past_end = self.feed.past_end.take();
                debug_assert!(!past_end || answered, "hyper reads while a response is outstanding");
                // hyper goes on to wait for a body that will not end, or that nobody reads.
                let endless = transfer.body_abandoned() || transfer.failure.get().is_some();
                let over = answered && (past_end || endless);
                if over { Poll::Ready(End::Answered) } else { Poll::Pending }
            }
        }
    }

    /// Watches the client and the timers while hyper or the handler waits.
    fn wait(&mut self, cx: &mut Context<'_>) -> Wait {
        // While hyper waits for the body, it sees for itself what comes.
        if self.feed.read_waits.get().is_none()
            && let Some(end) = self.watch(cx)
        {
            return Wait::End(end);
        }
        let write_due = self.feed.stall.get().due(self.limits);
        let read_due = self.feed.read_waits.get().map(|at| at + self.limits.body_idle_timeout);
        let Some(due) = earliest(write_due, read_due) else { return Wait::Pending };
        if self.timer.poll(due, cx).is_pending() {
            return Wait::Pending;
        }
        let now = Instant::now();
        if write_due.is_some_and(|due| due <= now) {
            return Wait::End(End::WriteTimeout);
        }
        self.feed.read_waits.set(None);
        self.transfer.fail(Failure::TimedOut);
        Wait::Again
    }

    /// Reads ahead, within bounds, to learn whether the client is still there. A client that closes
    /// before its response has begun is taken for gone, as one that only half-closed must be too;
    /// but one that cut its body is the handler's, which hears of it.
    fn watch(&self, cx: &mut Context<'_>) -> Option<End> {
        let mut link = self.link.borrow_mut();
        while !link.at_eof() {
            let room = self.limits.read_ahead_bytes_max.saturating_sub(link.input().len());
            if room == 0 {
                return None;
            }
            match link.poll_read_more(cx, room) {
                Poll::Pending => return None,
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(_)) => return Some(End::ClientGone),
            }
        }
        let heard = self.transfer.response_given.get() || self.transfer.failure.get().is_some();
        (!heard).then_some(End::ClientGone)
    }
}

fn earliest(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
