//! The HTTP/1.1 driver: one loop owns the socket for life and takes one request after the other.
//!
//! ```text
//! next ─ refused ──────────────→ short answer, lingering close
//!      ─ decided ─ Step::Answer → one write, drain what is left of the body, next
//!                ─ Step::Work ──→ hyper for exactly this request (cold), then next
//!      ─ closed
//! ```
//!
//! An idle connection owns no buffer: reads go through the thread's, and only what does not fit one
//! request is kept.

mod cold;
mod feed;
mod linger;
mod link;
mod respond;
mod scratch;
mod timer;
mod transfer;
mod write;

use std::cell::RefCell;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Method, Version};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use self::cold::{End, Left};
use self::link::Link;
use self::timer::Timer;
use self::transfer::{Failure, Transfer};
use super::drain::{DrainSignal, Listener};
use super::head::BodyKind;
use super::limits::Limits;
use super::reader::{Request, read_head};
use super::refusal::Refusal;
use super::walker::BodyWalker;
use super::{Done, Exchange, Note, Peer, Ready, Service, Step, Work};
use crate::answer::Fill;
use crate::clock::Clock;
use crate::ident::RequestId;
use crate::metrics::{Counter, Sink};
use crate::outcome::{CloseReason, Reason};

/// Serves one connection until it ends, and counts why it did. It has to run on a current-thread
/// runtime with time enabled; nothing in it is `Send`.
pub async fn serve<IO, S>(
    io: IO,
    peer: Peer,
    service: Rc<S>,
    limits: Rc<Limits>,
    clock: Clock,
    sink: Sink,
    drain: DrainSignal,
) -> CloseReason
where
    IO: AsyncRead + AsyncWrite + Unpin,
    S: Service,
{
    let accepted = Instant::now();
    let mut conn = Conn {
        link: RefCell::new(Link::new(io)),
        timer: Timer::new(accepted + limits.first_byte_timeout),
        accepted,
        ages_at: accepted + limits.connection_age_max.mul_f32(0.9 + 0.2 * rand::random::<f32>()),
        listener: drain.listen(),
        drain,
        answered: false,
        idle_since: None,
        head_since: None,
        door: Door { peer, service, limits, clock, sink },
    };
    let reason = conn.run().await;
    conn.door.sink.close(reason);
    reason
}

/// One connection.
struct Conn<IO, S> {
    link: RefCell<Link<IO>>,
    timer: Timer,
    accepted: Instant,
    /// When the connection closes after its current response.
    ages_at: Instant,
    listener: Listener,
    drain: DrainSignal,
    /// Whether a request was answered on this connection.
    answered: bool,
    /// Since when nothing at all has come after the last answer.
    idle_since: Option<Instant>,
    /// Since when a head is incomplete.
    head_since: Option<Instant>,
    door: Door<S>,
}

/// What a connection decides with.
struct Door<S> {
    peer: Peer,
    service: Rc<S>,
    limits: Rc<Limits>,
    clock: Clock,
    sink: Sink,
}

/// What came next on a connection.
enum Next {
    Decided { exchange: Exchange, step: std::thread::Result<Step>, ask: Asked },
    Refused(Refusal),
    Closed(CloseReason),
}

/// What a head said about its message and connection, kept when the head itself is gone.
#[derive(Clone, Copy, Debug)]
struct Asked {
    is_head: bool,
    is_old: bool,
    persistent: bool,
    expects_continue: bool,
    body: BodyKind,
}

/// Whether the connection goes on; if not, why, and whether the client may still be sending.
enum Flow {
    Continue,
    Close(CloseReason, Lingers),
}

type Lingers = bool;

/// How long a drain leaves an idle connection open. A client that is about to send its next request
/// gets an answer that says `connection: close`, instead of a reset.
const DRAIN_IDLE: Duration = Duration::from_secs(1);

impl<IO, S> Conn<IO, S>
where
    IO: AsyncRead + AsyncWrite + Unpin,
    S: Service,
{
    async fn run(&mut self) -> CloseReason {
        loop {
            // Boxed is what is rare: it must not make every idle connection larger.
            let flow = match self.next().await {
                Next::Closed(reason) => return reason,
                Next::Refused(refusal) => Box::pin(self.refuse(refusal)).await,
                Next::Decided { exchange, step, ask } => match step {
                    Ok(Step::Answer(ready)) => self.answer(exchange, ready, ask, None).await,
                    Ok(Step::Refuse(ready)) => {
                        let close = Some(CloseReason::Malformed);
                        self.answer(exchange, ready, ask, close).await
                    }
                    Ok(Step::Work(work)) => Box::pin(self.work(exchange, work, ask)).await,
                    Err(_) => Box::pin(self.panicked(exchange, ask)).await,
                },
            };
            if let Flow::Close(reason, lingers) = flow {
                let link = self.link.get_mut();
                let lingers = lingers || !link.input().is_empty();
                let limits = &self.door.limits;
                let close = linger::lingering_close(link, &mut self.timer, limits, lingers);
                Box::pin(close).await;
                return reason;
            }
            self.answered = true;
            self.idle_since = None;
            self.head_since = None;
        }
    }

    /// The next head and what was decided about it, or why there is none.
    async fn next(&mut self) -> Next {
        let link = self.link.get_mut();
        if !link.input().is_empty()
            && let Some((used, next)) = self.door.judge(link.input())
        {
            link.consume(used);
            return next;
        }
        poll_fn(|cx| self.poll_next(cx)).await
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        let (link, door) = (self.link.get_mut(), &self.door);
        while !link.at_eof() {
            let read = if link.input().is_empty() {
                // Judged where it was read: a head that comes whole is never copied.
                link.poll_read(cx, usize::MAX, |bytes| match door.judge(bytes) {
                    Some((used, next)) => (used, Some(next)),
                    None => (0, None),
                })
                .map_ok(Option::flatten)
            } else {
                link.poll_read_more(cx, usize::MAX).map_ok(|read| {
                    let (used, next) = (read > 0).then(|| door.judge(link.input())).flatten()?;
                    link.consume(used);
                    Some(next)
                })
            };
            match read {
                Poll::Ready(Ok(Some(next))) => return Poll::Ready(next),
                Poll::Ready(Ok(None)) => {}
                Poll::Ready(Err(_)) => break,
                Poll::Pending => return self.poll_idle(cx),
            }
        }
        let between = link.input().is_empty();
        let reason = if between { CloseReason::ClientClosed } else { CloseReason::ClientAborted };
        Poll::Ready(Next::Closed(reason))
    }

    /// What ends the wait for a head: a timer, or a drain between requests.
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        let limits = &self.door.limits;
        let (due, next) = if !self.link.get_mut().input().is_empty() {
            let since = *self.head_since.get_or_insert_with(Instant::now);
            (since + limits.head_timeout, Next::Refused(Refusal::HeadTimeout))
        } else if !self.answered {
            // Not even a drain cuts a connection that has not had its first answer: its request may
            // be on its way.
            let due = self.accepted + limits.first_byte_timeout;
            (due, Next::Closed(CloseReason::FirstByteTimeout))
        } else if let Some(since) = self.listener.poll(cx) {
            (since + DRAIN_IDLE, Next::Closed(CloseReason::Drain))
        } else {
            let since = *self.idle_since.get_or_insert_with(Instant::now);
            let due = since + limits.keep_alive_timeout;
            if due <= self.ages_at {
                (due, Next::Closed(CloseReason::IdleTimeout))
            } else {
                (self.ages_at, Next::Closed(CloseReason::MaxAge))
            }
        };
        self.timer.poll(due, cx).map(|()| next)
    }

    /// Writes a ready-made answer; `refused` is why the connection closes after it whatever else.
    async fn answer(
        &mut self,
        exchange: Exchange,
        ready: Ready,
        ask: Asked,
        refused: Option<CloseReason>,
    ) -> Flow {
        let mut walker = BodyWalker::new(ask.body);
        let close = match self.pass_over_body(&mut walker, &ask) {
            Ok(()) => refused.or_else(|| self.close_wish(&ask)),
            Err(reason) => Some(reason),
        };
        let link = self.link.get_mut();
        let mut open = Open::new(&self.door, &exchange);
        open.done.reason = ready.reason;
        let keeps_old = ask.is_old && close.is_none();
        let message = write::Message {
            ready: &ready,
            is_head: ask.is_head,
            keeps_old,
            close: close.is_some(),
        };
        let sent = write::answer(link, &mut self.timer, &self.door.limits, message).await;
        open.done.status = ready.answer.status().as_u16();
        if let Err(reason) = sent {
            return Flow::Close(reason, false);
        }
        open.done.complete = true;
        open.done.bytes = if ask.is_head { 0 } else { ready.answer.body_len() as u64 };
        drop(open);
        match close {
            Some(reason) => Flow::Close(reason, !walker.is_done()),
            None => self.drain_body(&mut walker).await,
        }
    }

    /// Skips what has come of a body that nobody will read. An error is why the connection cannot go
    /// on after the answer, as far as that is known before it.
    fn pass_over_body(&mut self, walker: &mut BodyWalker, ask: &Asked) -> Result<(), CloseReason> {
        if walker.is_done() {
            return Ok(());
        }
        let link = self.link.get_mut();
        let Ok(used) = walker.advance(link.input()) else {
            self.door.sink.inc(Counter::Malformed);
            return Err(CloseReason::Malformed);
        };
        link.consume(used);
        let too_much = walker.left_bytes() > self.door.limits.drain_bytes_max as u64;
        // A client that waits for `100 Continue` may send the body now or not.
        let unsure = ask.expects_continue && !walker.is_done();
        if too_much || unsure { Err(CloseReason::UndrainedBody) } else { Ok(()) }
    }

    async fn drain_body(&mut self, walker: &mut BodyWalker) -> Flow {
        if walker.is_done() {
            return Flow::Continue;
        }
        let Door { limits, sink, .. } = &self.door;
        let link = self.link.get_mut();
        match Box::pin(linger::drain_body(link, &mut self.timer, limits, walker, sink)).await {
            Ok(()) => Flow::Continue,
            Err(reason) => Flow::Close(reason, true),
        }
    }

    /// Why the connection closes after the current response although its body is no obstacle.
    fn close_wish(&self, ask: &Asked) -> Option<CloseReason> {
        if !ask.persistent {
            Some(CloseReason::RequestClose)
        } else if self.drain.is_draining() {
            Some(CloseReason::Drain)
        } else {
            (Instant::now() >= self.ages_at).then_some(CloseReason::MaxAge)
        }
    }

    /// Runs one request through hyper.
    async fn work(&mut self, exchange: Exchange, work: Work, ask: Asked) -> Flow {
        let door = &self.door;
        door.sink.inc(Counter::ColdRequests);
        let transfer = Rc::new(Transfer::new(ask.body, door.sink.clone()));
        let full = respond::Ask {
            asked: ask,
            fill: Fill { now: exchange.now, request: exchange.id, ..Fill::default() },
            drain: self.drain.clone(),
            drain_bytes_max: door.limits.drain_bytes_max,
            ages_at: self.ages_at,
        };
        let mut open = Open::new(door, &exchange);
        let link = &self.link;
        let limits = &door.limits;
        let mut left = cold::run(link, &mut self.timer, limits, work, full, transfer.clone()).await;
        open.done.status = transfer.status.get();
        open.done.reason = transfer.reason.get();
        open.done.cache = transfer.cache.take();
        open.done.bytes = transfer.body_bytes.get();
        open.done.complete = left.end == End::Answered;
        if left.end == End::Broken && !left.wrote {
            let refusal = own_answer(&transfer);
            open.done.status = refusal.row().status;
            open.done.bytes = 0;
            open.done.reason = Some(refusal.row().reason);
            let link = self.link.get_mut();
            let sent = send_refusal(link, &mut self.timer, limits, refusal, &exchange, ask.is_head);
            open.done.complete = Box::pin(sent).await.is_ok();
        }
        drop(open);
        match after_work(&transfer, &left) {
            Some((reason, lingers)) => Flow::Close(reason, lingers),
            None => self.drain_body(&mut left.walker).await,
        }
    }

    /// Answers what the reader refused.
    async fn refuse(&mut self, refusal: Refusal) -> Flow {
        let door = &self.door;
        let exchange = door.exchange();
        let reason = if refusal == Refusal::HeadTimeout {
            CloseReason::HeadTimeout
        } else {
            door.sink.inc(Counter::Malformed);
            CloseReason::Malformed
        };
        door.sink.reason(refusal.row().reason);
        let link = self.link.get_mut();
        let sent =
            send_refusal(link, &mut self.timer, &door.limits, refusal, &exchange, false).await;
        match sent {
            Ok(()) => Flow::Close(reason, true),
            Err(gone) => Flow::Close(gone, false),
        }
    }

    /// Answers for a decision that panicked.
    async fn panicked(&mut self, exchange: Exchange, ask: Asked) -> Flow {
        let door = &self.door;
        door.sink.inc(Counter::Panics);
        let mut open = Open::new(door, &exchange);
        open.done.status = Refusal::Panic.row().status;
        open.done.reason = Some(Reason::Internal);
        let link = self.link.get_mut();
        let (limits, panic) = (&door.limits, Refusal::Panic);
        let sent = send_refusal(link, &mut self.timer, limits, panic, &exchange, ask.is_head).await;
        open.done.complete = sent.is_ok();
        match sent {
            Ok(()) => Flow::Close(CloseReason::Internal, true),
            Err(gone) => Flow::Close(gone, false),
        }
    }
}

/// What we answer where hyper gave up before it wrote anything.
fn own_answer(transfer: &Transfer) -> Refusal {
    match transfer.failure.get() {
        Some(Failure::Malformed(refusal)) => refusal,
        Some(Failure::TimedOut) => Refusal::BodyTimeout,
        _ if transfer.response_failed.get() => Refusal::ResponseCut,
        Some(Failure::Cut) | None => Refusal::Panic,
    }
}

/// Whether a cold request was the last of its connection: why, and whether to linger.
fn after_work(transfer: &Transfer, left: &Left) -> Option<(CloseReason, Lingers)> {
    let failure = transfer.failure.get().map(Failure::close_reason);
    Some(match left.end {
        End::Answered => (failure.or(transfer.close.get())?, !left.walker.is_done()),
        End::ClientGone => (CloseReason::ClientAborted, false),
        End::WriteTimeout => (CloseReason::WriteTimeout, false),
        End::Disagreement => (CloseReason::Internal, false),
        // The client sees that the response is not whole; there is nothing to add.
        End::Broken if transfer.response_failed.get() => (CloseReason::ResponseClose, false),
        End::Broken if left.wrote => (failure.unwrap_or(CloseReason::ClientAborted), true),
        End::Broken => (failure.unwrap_or(CloseReason::Internal), true),
    })
}

/// Writes the answer of a refusal.
async fn send_refusal<IO>(
    link: &mut Link<IO>,
    timer: &mut Timer,
    limits: &Limits,
    refusal: Refusal,
    exchange: &Exchange,
    is_head: bool,
) -> Result<(), CloseReason>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let ready = Ready {
        answer: refusal.answer().into(),
        fill: Fill { now: exchange.now, request: exchange.id, ..Fill::default() },
        reason: Some(refusal.row().reason),
    };
    let message = write::Message { ready: &ready, is_head, keeps_old: false, close: true };
    write::answer(link, timer, limits, message).await
}

impl<S: Service> Door<S> {
    fn exchange(&self) -> Exchange {
        Exchange {
            now: self.clock.now(),
            id: RequestId::random(),
            peer: self.peer.clone(),
            note: Note::default(),
        }
    }

    /// Reads a head from what has come and has it decided. `None`: it is not complete. The number
    /// is how many bytes are used.
    fn judge(&self, bytes: &[u8]) -> Option<(usize, Next)> {
        scratch::with_fields(|fields| match read_head(bytes, &self.limits, fields) {
            Ok(None) => None,
            Err(refusal) => Some((0, Next::Refused(refusal))),
            Ok(Some(request)) => {
                let exchange = self.exchange();
                let ask = Asked::of(&request);
                let step = catch_unwind(AssertUnwindSafe(|| {
                    self.service.decide(&request.head, &exchange)
                }));
                Some((request.bytes, Next::Decided { exchange, step, ask }))
            }
        })
    }
}

impl Asked {
    fn of(request: &Request<'_>) -> Asked {
        Asked {
            is_head: request.head.method == Method::HEAD,
            is_old: request.head.version == Version::HTTP_10,
            persistent: request.persistent,
            expects_continue: request.expects_continue,
            body: request.head.body,
        }
    }
}

/// An exchange that was decided: however it ends, even if its connection is dropped, the service
/// hears of it once.
struct Open<'a, S: Service> {
    door: &'a Door<S>,
    exchange: &'a Exchange,
    done: Done,
}

impl<'a, S: Service> Open<'a, S> {
    fn new(door: &'a Door<S>, exchange: &'a Exchange) -> Open<'a, S> {
        let done =
            Done { status: 0, bytes: 0, took_ms: 0, complete: false, reason: None, cache: None };
        Open { door, exchange, done }
    }
}

impl<S: Service> Drop for Open<'_, S> {
    fn drop(&mut self) {
        let door = self.door;
        self.done.took_ms = door.clock.mono().since(self.exchange.now.mono);
        door.sink.add(Counter::ResponseBytes, self.done.bytes);
        let finished = || door.service.finished(self.exchange, &self.done);
        if catch_unwind(AssertUnwindSafe(finished)).is_err() {
            door.sink.inc(Counter::Panics);
        }
    }
}
