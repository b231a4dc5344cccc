//! The HTTP/2 driver: hyper speaks the protocol, and we watch it.
//!
//! ```text
//! stream ⇄ cork (gathers writes, watches frames) ⇄ hyper ─ each request → Head → decide ─┬─ ready answer
//!                                                                                        └─ a task
//! ```
//!
//! What hyper has no timer or bound for is seen in the frames and ended here: silence, half a head, a
//! client that takes nothing, floods, age, drains.

mod exec;
mod frames;
mod head;
mod request;
mod sniff;
mod unread;
pub(in crate::http) mod watch;

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::server::conn::http2::{Builder, Connection};
use tokio::time::Instant;

use self::exec::Tasks;
use self::request::Requests;
use self::watch::Watch;
use super::cork::{Cork, Corked};
use super::drain::Timer;
use super::{Door, Peer, Service};
use crate::config::units::Size;
use crate::metrics::Counter;
use crate::outcome::CloseReason;

pub use self::sniff::sniff;
pub use super::cork::Plain;

/// Serves one HTTP/2 connection until it ends, and counts why it did. It has to run where
/// [`super::serve`] may; `keep` is dropped with the connection.
pub fn serve<S: Service, K>(
    io: Plain,
    peer: Peer,
    door: Rc<Door<S>>,
    keep: K,
) -> impl Future<Output = CloseReason> {
    let now = Instant::now();
    let limits = &door.limits;
    let lives = limits.connection_age_max.mul_f32(0.9 + 0.2 * rand::random::<f32>());
    let cork = Cork::new(io, Watch::new(limits.clone(), now));
    let mut driver = Driver {
        timer: door.drain.timer(),
        accepted: now,
        ages_at: now + lives,
        leaves: None,
        cork,
        tasks: Tasks::default(),
        door,
    };
    async move {
        let _keep = keep;
        driver.door.sink.inc(Counter::Http2Connections);
        let reason = driver.run(peer).await;
        driver.close(reason).await;
        driver.door.sink.close(reason);
        reason
    }
}

/// One connection.
struct Driver<S: Service> {
    cork: Rc<RefCell<Cork>>,
    tasks: Tasks,
    timer: Timer,
    accepted: Instant,
    /// When the connection takes no new requests.
    ages_at: Instant,
    /// Why it takes none any more, and since when.
    leaves: Option<(CloseReason, Instant)>,
    door: Rc<Door<S>>,
}

type Http2<S> = Connection<Corked, Requests<S>, Tasks>;

/// What is next to happen by itself.
enum Due {
    End(CloseReason),
    Leave(CloseReason),
    GiveUp(u32),
}

impl<S: Service> Driver<S> {
    async fn run(&mut self, peer: Peer) -> CloseReason {
        let limits = &self.door.limits.http2;
        let size = |size: Size| u32::try_from(size.in_memory()).unwrap_or(u32::MAX);
        let requests = Requests { door: self.door.clone(), peer };
        let http2 = Builder::new(self.tasks.clone())
            .max_concurrent_streams(limits.streams_max)
            .max_header_list_size(size(limits.header_list_bytes_max))
            .header_table_size(size(limits.header_table_bytes_max))
            .initial_stream_window_size(size(limits.stream_window_bytes))
            .initial_connection_window_size(size(limits.connection_window_bytes))
            .max_frame_size(FRAME_BYTES_MAX)
            .max_send_buf_size(limits.send_buffer_bytes_max.in_memory())
            .max_pending_accept_reset_streams(PENDING_RESETS_MAX)
            .max_local_error_reset_streams(limits.resets_max as usize)
            .adaptive_window(false)
            // Whoever is silent is found by our own timers.
            .keep_alive_interval(None)
            .auto_date_header(false)
            .serve_connection(Corked(self.cork.clone()), requests);
        let mut http2 = pin!(http2);
        poll_fn(|cx| self.poll(cx, http2.as_mut())).await
    }

    /// Runs HTTP/2, then writes what it wrote, and again where that made room.
    fn poll(&mut self, cx: &mut Context<'_>, mut http2: Pin<&mut Http2<S>>) -> Poll<CloseReason> {
        loop {
            self.tasks.reap(cx, &self.door.sink);
            let polled = http2.as_mut().poll(cx);
            let mut cork = self.cork.borrow_mut();
            if let Some(why) = cork.watch.verdict() {
                return Poll::Ready(why);
            }
            let drained = cork.poll_drain(cx);
            // How it ended is in the frames.
            if polled.is_ready() {
                return Poll::Ready(self.reason(&cork));
            }
            if let Poll::Ready(Err(_)) = drained {
                return Poll::Ready(CloseReason::ClientAborted);
            }
            if cork.has_made_room() {
                continue;
            }
            let due = self.poll_due(cx, &mut cork);
            drop(cork);
            match due {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Due::End(reason)) => return Poll::Ready(reason),
                Poll::Ready(Due::Leave(reason)) => {
                    self.leaves = Some((reason, Instant::now()));
                    http2.as_mut().graceful_shutdown();
                }
                Poll::Ready(Due::GiveUp(stream)) => self.give_up(stream),
            }
        }
    }

    /// Why HTTP/2 is over.
    fn reason(&self, cork: &Cork) -> CloseReason {
        match (self.leaves, cork.watch.said_goodbye()) {
            (Some((reason, _)), Some(NO_ERROR) | None) => reason,
            (_, Some(ENHANCE_YOUR_CALM)) => CloseReason::Flood,
            (_, Some(1..)) => CloseReason::Protocol,
            _ if cork.watch.idle_since().is_some() => CloseReason::ClientClosed,
            _ => CloseReason::ClientAborted,
        }
    }

    /// What has to happen although nobody did anything; it is asked for after everything that was done.
    fn poll_due(&self, cx: &mut Context<'_>, cork: &mut Cork) -> Poll<Due> {
        let Some((at, due)) = self.due(cork) else { return Poll::Pending };
        if self.timer.poll(at, cx).is_pending() {
            return Poll::Pending;
        }
        // A frame that HTTP/2 has half written comes first.
        if matches!(due, Due::GiveUp(_)) && !cork.watch.is_between_writes() {
            return Poll::Pending;
        }
        Poll::Ready(due)
    }

    fn due(&self, cork: &mut Cork) -> Option<(Instant, Due)> {
        let limits = &*self.door.limits;
        let mut first: Option<(Instant, Due)> = None;
        let mut next = |at: Instant, due: Due| {
            if first.as_ref().is_none_or(|(first, _)| at < *first) {
                first = Some((at, due));
            }
        };
        if let Some(at) = cork.stall.due(limits) {
            next(at, Due::End(CloseReason::WriteTimeout));
        }
        if let Some((at, stream)) = cork.watch.starving() {
            next(at, Due::GiveUp(stream));
        }
        if let Some(since) = cork.watch.open_since() {
            next(since + limits.head_timeout, Due::End(CloseReason::HeadTimeout));
        }
        if !cork.watch.has_heard() {
            let at = self.accepted + limits.first_byte_timeout;
            next(at, Due::End(CloseReason::FirstByteTimeout));
        } else if !cork.watch.has_begun() {
            next(
                self.accepted + limits.first_byte_timeout + limits.head_timeout,
                Due::End(CloseReason::HeadTimeout),
            );
        } else {
            match (self.leaves, cork.watch.idle_since(), self.door.drain.since()) {
                // The client has heard that it should go, and has nothing to wait for.
                (Some((reason, since)), Some(idle), _) => {
                    next(since.max(idle) + LEAVE_LONGEST, Due::End(reason));
                }
                (Some(_), None, _) => {}
                (None, _, Some(since)) => next(since, Due::Leave(CloseReason::Drain)),
                (None, idle, None) => {
                    next(self.ages_at, Due::Leave(CloseReason::MaxAge));
                    if let Some(idle) = idle {
                        let at = idle + limits.keep_alive_timeout;
                        next(at, Due::Leave(CloseReason::IdleTimeout));
                    }
                }
            }
        }
        first
    }

    /// Gives up one request whose response the client does not take.
    fn give_up(&self, stream: u32) {
        let mut cork = self.cork.borrow_mut();
        if cork.reset(stream) {
            cork.watch.gave_up(stream);
            self.door.sink.inc(Counter::Http2Stalled);
        }
    }

    /// Says goodbye, and reads on for a moment, so that the client sees it.
    async fn close(&mut self, reason: CloseReason) {
        self.tasks.clear();
        match reason {
            _ if self.cork.borrow().watch.said_goodbye().is_some_and(|code| code != NO_ERROR) => {}
            CloseReason::Flood => self.cork.borrow_mut().go_away(ENHANCE_YOUR_CALM),
            CloseReason::Protocol => self.cork.borrow_mut().go_away(PROTOCOL_ERROR),
            CloseReason::ClientAborted | CloseReason::ClientClosed | CloseReason::WriteTimeout => {
                return;
            }
            _ if self.cork.borrow().watch.said_goodbye().is_none() => {
                self.cork.borrow_mut().go_away(NO_ERROR);
            }
            _ => {}
        }
        let limits = &*self.door.limits;
        let due = Instant::now() + limits.drain_timeout;
        let mut left = limits.drain_bytes_max;
        poll_fn(|cx| {
            if self.timer.poll(due, cx).is_ready() {
                return Poll::Ready(());
            }
            let mut cork = self.cork.borrow_mut();
            match cork.poll_shut(cx) {
                Poll::Ready(Ok(())) => cork.poll_discard(cx, &mut left),
                Poll::Ready(Err(_)) => Poll::Ready(()),
                Poll::Pending => Poll::Pending,
            }
        })
        .await;
    }
}

/// The least that a frame may have (RFC 9113 6.5.2): clients send nothing large.
const FRAME_BYTES_MAX: u32 = 16_384;
/// Requests that were given up before they were looked at; more at once is an attack.
const PENDING_RESETS_MAX: usize = 20;
/// How long a client that has nothing to wait for may take to go, once it was told to.
const LEAVE_LONGEST: Duration = Duration::from_secs(1);
const NO_ERROR: u32 = 0;
const PROTOCOL_ERROR: u32 = 1;
const ENHANCE_YOUR_CALM: u32 = 11;
