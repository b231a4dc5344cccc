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
mod door;
mod feed;
mod linger;
mod link;
pub(super) mod respond;
pub(super) mod scratch;
pub(super) mod stall;
mod transfer;
mod tunnel;
mod write;

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use self::cold::End;
use self::door::{Decided, Open};
use self::link::Link;
use self::transfer::Transfer;
use self::write::{Message, Rest, Sent};
use super::drain::Timer;
use super::head::BodyKind;
use super::limits::Limits;
use super::refusal::Refusal;
use super::walker::BodyWalker;
use super::{Done, Exchange, Peer, Ready, Service, Step, Work};
use crate::answer::Fill;
use crate::metrics::Counter;
use crate::outcome::{CloseReason, Reason};

pub use self::door::Door;

/// Serves one connection until it ends, and counts why it did. It has to run on a current-thread
/// runtime with time enabled, beside [`super::Drainer::keep_time`] of the door's drainer; nothing in
/// it is `Send`. `keep` is dropped with the connection.
pub fn serve<IO, S, K>(
    io: IO,
    peer: Peer,
    door: Rc<Door<S>>,
    keep: K,
) -> impl Future<Output = CloseReason>
where
    IO: AsyncRead + AsyncWrite + Unpin,
    S: Service,
{
    let accepted = Instant::now();
    let lives = door.limits.connection_age_max.mul_f32(0.9 + 0.2 * rand::random::<f32>());
    let mut conn = Conn {
        link: RefCell::new(Link::new(io)),
        timer: door.drain.timer(),
        ages_at: accepted + lives,
        waits: Waits::First,
        since: accepted,
        stalled: None,
        peer,
        door,
    };
    // Not an `async fn`: its arguments would lie in the future twice, before and after they become
    // the connection.
    async move {
        let _keep = &keep;
        let reason = conn.run().await;
        conn.door.sink.close(reason);
        reason
    }
}

/// One connection. There may be thousands that are idle: what only a busy one needs is boxed.
struct Conn<IO, S: Service> {
    link: RefCell<Link<IO>>,
    timer: Timer,
    /// When the connection closes after its current response.
    ages_at: Instant,
    /// What is awaited between two answers, and since when.
    waits: Waits,
    since: Instant,
    /// An answer that is not out yet.
    stalled: Option<Box<Stalled>>,
    peer: Peer,
    door: Rc<Door<S>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waits {
    /// The first byte since the connection was accepted.
    First,
    /// The next request.
    Next,
    /// The rest of a head.
    Head,
}

/// What came next on a connection that does not go by itself.
enum Next {
    Closed(CloseReason),
    Later(Box<Later>),
}

/// What takes time.
#[expect(clippy::large_enum_variant, reason = "it is boxed as a whole")]
enum Later {
    Refused(Refusal),
    Decided(Decided),
    /// An answer is out; this is left of the request's body.
    Undrained(BodyWalker),
    Close(CloseReason, Lingers),
}

/// An answer that the client does not take at once, and what follows it.
struct Stalled {
    rest: Rest,
    exchange: Exchange,
    done: Done,
    close: Option<CloseReason>,
    walker: BodyWalker,
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

/// What one poll of a connection may write before others get their turn. Each answer counts as
/// [`ANSWER_COST`] bytes more than it has: a pipeline of small answers costs time too.
const TURN_BYTES_MAX: usize = 256 * 1024;
const ANSWER_COST: usize = 8 * 1024;

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
            let later = match poll_fn(|cx| self.poll_next(cx)).await {
                Next::Closed(reason) => return reason,
                Next::Later(later) => later,
            };
            // Boxed is what is rare: it must not make every idle connection larger.
            let flow = Box::pin(self.go_on(later)).await;
            if let Flow::Close(reason, lingers) = flow {
                let link = self.link.get_mut();
                let lingers = lingers || !link.input().is_empty();
                let limits = &self.door.limits;
                let close = linger::lingering_close(link, &self.timer, limits, lingers);
                Box::pin(close).await;
                return reason;
            }
            self.answered(Instant::now());
        }
    }

    fn answered(&mut self, at: Instant) {
        (self.waits, self.since) = (Waits::Next, at);
    }

    async fn go_on(&mut self, later: Box<Later>) -> Flow {
        match *later {
            Later::Refused(refusal) => self.refuse(refusal).await,
            Later::Undrained(mut walker) => self.drain_body(&mut walker).await,
            Later::Close(reason, lingers) => Flow::Close(reason, lingers),
            Later::Decided(Decided { exchange, step, ask, .. }) => match step {
                Ok(Step::Work(work)) => Box::pin(self.work(exchange, work, ask)).await,
                // Answers were written at once.
                Ok(Step::Answer(_) | Step::Refuse(_)) | Err(_) => {
                    self.panicked(exchange, ask).await
                }
            },
        }
    }

    /// Answers what is ready-made, one request after the other, until something takes time. A client
    /// with a long pipeline, or with large pages in it, waits for the others after its share.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        if let Some(slow) = ready!(self.poll_stalled(cx)) {
            return later(slow);
        }
        let mut left = TURN_BYTES_MAX;
        // A head that is not whole was looked at when it came.
        if self.waits != Waits::Head
            && !self.link.get_mut().input().is_empty()
            && let Some(end) = self.answer_input(cx, &mut left)
        {
            return end;
        }
        while !self.link.get_mut().at_eof() {
            let end = scratch::with_read_buffer(|buffer| self.answer_read(cx, buffer, &mut left));
            if let Some(end) = end {
                return end;
            }
        }
        self.closed()
    }

    /// Reads once and answers what is whole then. `None`: there may be more to read.
    fn answer_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
        left: &mut usize,
    ) -> Option<Poll<Next>> {
        let link = self.link.get_mut();
        let read = match link.poll_fill(cx, buffer) {
            Poll::Ready(Ok(read)) => read,
            Poll::Ready(Err(_)) => return Some(self.closed()),
            Poll::Pending => return Some(self.poll_idle(cx)),
        };
        if !link.input().is_empty() {
            link.keep(&buffer[..read]);
            return if read > 0 { self.answer_input(cx, left) } else { None };
        }
        // Answered where it was read: what comes whole is never copied.
        let (used, end) = self.answer_all(cx, &buffer[..read], left);
        self.link.get_mut().keep(&buffer[used..read]);
        end
    }

    /// Answers what is whole of the input.
    fn answer_input(&mut self, cx: &mut Context<'_>, left: &mut usize) -> Option<Poll<Next>> {
        let input = self.link.get_mut().take_input();
        let (used, end) = self.answer_all(cx, &input, left);
        self.link.get_mut().put_back(input, used);
        end
    }

    /// Answers the requests that `bytes` begin with. Says how many of the bytes were used, and what
    /// ends the turn, if it is not that nothing more is whole.
    fn answer_all(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
        left: &mut usize,
    ) -> (usize, Option<Poll<Next>>) {
        let mut used = 0;
        while used < bytes.len() {
            let decided = match self.door.judge(&self.peer, &bytes[used..]) {
                None => break,
                Some(Err(refusal)) => return (used, Some(later(Later::Refused(refusal)))),
                Some(Ok(decided)) => decided,
            };
            used += decided.bytes;
            let (ready, refused) = match &decided.step {
                Ok(Step::Answer(ready)) => (ready, None),
                Ok(Step::Refuse(ready)) => (ready, Some(CloseReason::Malformed)),
                Ok(Step::Work(_)) | Err(_) => return (used, Some(later(Later::Decided(decided)))),
            };
            *left = left.saturating_sub(ANSWER_COST + ready.answer.body_len());
            let (body, slow) = self.answer(cx, &decided, ready, refused, &bytes[used..]);
            used += body;
            match slow.map_or_else(|| self.poll_stalled(cx), |slow| Poll::Ready(Some(slow))) {
                Poll::Ready(None) => {}
                Poll::Ready(Some(slow)) => return (used, Some(later(slow))),
                Poll::Pending => return (used, Some(Poll::Pending)),
            }
            if *left == 0 {
                return (used, Some(give_way(cx)));
            }
        }
        (used, None)
    }

    /// The client sends no more.
    fn closed(&mut self) -> Poll<Next> {
        let between = self.link.get_mut().input().is_empty();
        let reason = if between { CloseReason::ClientClosed } else { CloseReason::ClientAborted };
        Poll::Ready(Next::Closed(reason))
    }

    /// What ends the wait for a head: a timer, or a drain between requests.
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        let limits = &self.door.limits;
        if self.waits != Waits::Head && !self.link.get_mut().input().is_empty() {
            (self.waits, self.since) = (Waits::Head, Instant::now());
        }
        let shed = self.door.drain.patience();
        let (due, next) = match (self.waits, self.door.drain.since()) {
            (Waits::Head, _) => {
                let longest =
                    shed.map_or(limits.head_timeout, |shed| shed.min(limits.head_timeout));
                (self.since + longest, Err(Refusal::HeadTimeout))
            }
            // Not even a drain cuts a connection that has not had its first answer: its request may
            // be on its way.
            (Waits::First, _) => {
                (self.since + limits.first_byte_timeout, Ok(CloseReason::FirstByteTimeout))
            }
            (Waits::Next, Some(drains)) => (drains + DRAIN_IDLE, Ok(CloseReason::Drain)),
            (Waits::Next, None) => {
                let due = self.since + limits.keep_alive_timeout;
                let shed = shed.map(|shed| self.since + shed).filter(|shed| *shed < due);
                if let Some(shed) = shed {
                    (shed, Ok(CloseReason::Overload))
                } else if due <= self.ages_at {
                    (due, Ok(CloseReason::IdleTimeout))
                } else {
                    (self.ages_at, Ok(CloseReason::MaxAge))
                }
            }
        };
        ready!(self.timer.poll(due, cx));
        match next {
            Ok(reason) => Poll::Ready(Next::Closed(reason)),
            Err(refusal) => later(Later::Refused(refusal)),
        }
    }

    /// Writes a ready-made answer. `rest` is what came behind its head: says how much of that is its
    /// body, and what is left to do if something is. `refused` is why the connection closes after it
    /// whatever else.
    fn answer(
        &mut self,
        cx: &mut Context<'_>,
        decided: &Decided,
        ready: &Ready,
        refused: Option<CloseReason>,
        rest: &[u8],
    ) -> (usize, Option<Later>) {
        let Decided { exchange, ask, heard, .. } = decided;
        let mut walker = BodyWalker::new(ask.body);
        let (used, close) = match self.pass_over_body(&mut walker, ask, rest) {
            Ok(used) => (used, refused.or_else(|| self.close_wish(ask, *heard))),
            Err(reason) => (0, Some(reason)),
        };
        let keeps_old = ask.is_old && close.is_none();
        let message = Message { ready, is_head: ask.is_head, keeps_old, close: close.is_some() };
        let mut done = Done {
            status: ready.answer.status().as_u16(),
            bytes: if ask.is_head { 0 } else { ready.answer.body_len() as u64 },
            complete: true,
            reason: ready.reason,
            ..Done::default()
        };
        let later = match write::start(self.link.get_mut(), cx, &message) {
            Sent::Whole => {
                let ended = self.door.finished(exchange, &mut done);
                self.answered(ended);
                after_answer(close, walker)
            }
            Sent::Gone => Some(self.gone(exchange, done, CloseReason::ClientAborted)),
            Sent::Stalled(rest) => {
                let exchange = exchange.clone();
                self.stalled = Some(Box::new(Stalled { rest, exchange, done, close, walker }));
                None
            }
        };
        (used, later)
    }

    /// Goes on with an answer that the client did not take at once, and says what is left to do when
    /// it is out.
    fn poll_stalled(&mut self, cx: &mut Context<'_>) -> Poll<Option<Later>> {
        let Some(stalled) = &mut self.stalled else { return Poll::Ready(None) };
        let (link, limits) = (self.link.get_mut(), &self.door.limits);
        let sent = ready!(stalled.rest.poll_send(link, &self.timer, limits, cx));
        let Some(stalled) = self.stalled.take() else { return Poll::Ready(None) };
        let Stalled { exchange, mut done, close, walker, .. } = *stalled;
        Poll::Ready(match sent {
            Ok(()) => {
                let ended = self.door.finished(&exchange, &mut done);
                self.answered(ended);
                after_answer(close, walker)
            }
            Err(reason) => Some(self.gone(&exchange, done, reason)),
        })
    }

    /// The client does not get its answer.
    fn gone(&self, exchange: &Exchange, done: Done, reason: CloseReason) -> Later {
        self.door.finished(exchange, &mut Done { bytes: 0, complete: false, ..done });
        Later::Close(reason, false)
    }

    /// Skips what has come of a body that nobody will read, and says how much that was. An error is
    /// why the connection cannot go on after the answer, as far as that is known before it.
    fn pass_over_body(
        &self,
        walker: &mut BodyWalker,
        ask: &Asked,
        rest: &[u8],
    ) -> Result<usize, CloseReason> {
        if walker.is_done() {
            return Ok(0);
        }
        let Ok(used) = walker.advance(rest) else {
            self.door.sink.inc(Counter::Malformed);
            return Err(CloseReason::Malformed);
        };
        let too_much = walker.left_bytes() > self.door.limits.drain_bytes_max as u64;
        // A client that waits for `100 Continue` may send the body now or not.
        let unsure = ask.expects_continue && !walker.is_done();
        if too_much || unsure { Err(CloseReason::UndrainedBody) } else { Ok(used) }
    }

    async fn drain_body(&mut self, walker: &mut BodyWalker) -> Flow {
        if walker.is_done() {
            return Flow::Continue;
        }
        let Door { limits, sink, .. } = &*self.door;
        let link = self.link.get_mut();
        match linger::drain_body(link, &self.timer, limits, walker, sink).await {
            Ok(()) => Flow::Continue,
            Err(reason) => Flow::Close(reason, true),
        }
    }

    /// Why the connection closes after the current response although its body is no obstacle.
    fn close_wish(&self, ask: &Asked, heard: Instant) -> Option<CloseReason> {
        if !ask.persistent {
            Some(CloseReason::RequestClose)
        } else if self.door.drain.is_draining() {
            Some(CloseReason::Drain)
        } else if self.door.drain.patience().is_some() {
            Some(CloseReason::Overload)
        } else {
            (heard >= self.ages_at).then_some(CloseReason::MaxAge)
        }
    }

    /// Runs one request through hyper.
    async fn work(&mut self, exchange: Exchange, work: Work, ask: Asked) -> Flow {
        let door = &*self.door;
        door.sink.inc(Counter::ColdRequests);
        let transfer = Rc::new(Transfer::new(ask.body, door.sink.clone()));
        let full = respond::Ask {
            asked: ask,
            fill: Fill { now: exchange.now, request: exchange.id, ..Fill::default() },
            drain: door.drain.clone(),
            drain_bytes_max: door.limits.drain_bytes_max,
            ages_at: self.ages_at,
        };
        let mut open = Open::new(door, &exchange, Done::default());
        let link = &self.link;
        let limits = &door.limits;
        let mut left = cold::run(link, &self.timer, limits, work, full, transfer.clone()).await;
        open.done.status = transfer.status.get();
        open.done.reason = transfer.reason.get();
        open.done.cache = transfer.cache.take();
        open.done.bytes = transfer.body_bytes.get();
        open.done.complete = left.end == End::Answered;
        if left.end == End::Broken && !left.wrote {
            let refusal = transfer.own_answer();
            open.done.status = refusal.row().status;
            open.done.bytes = 0;
            open.done.reason = Some(refusal.row().reason);
            let link = self.link.get_mut();
            let sent = send_refusal(link, &self.timer, limits, refusal, &exchange, ask.is_head);
            open.done.complete = sent.await.is_ok();
        }
        drop(open);
        if left.end == End::Answered
            && let Some(upgraded) = transfer.upgraded.take()
        {
            let link = self.link.get_mut();
            let relay = tunnel::run(link, &self.timer, &door.drain, *upgraded, &door.sink);
            return Flow::Close(Box::pin(relay).await, false);
        }
        match left.ends(&transfer) {
            Some((reason, lingers)) => Flow::Close(reason, lingers),
            None => self.drain_body(&mut left.walker).await,
        }
    }

    /// Answers what the reader refused.
    async fn refuse(&mut self, refusal: Refusal) -> Flow {
        let door = &*self.door;
        let exchange = door.exchange(&self.peer, Instant::now());
        let reason = if refusal == Refusal::HeadTimeout {
            CloseReason::HeadTimeout
        } else {
            door.sink.inc(Counter::Malformed);
            CloseReason::Malformed
        };
        door.sink.reason(refusal.row().reason);
        let link = self.link.get_mut();
        let sent = send_refusal(link, &self.timer, &door.limits, refusal, &exchange, false).await;
        match sent {
            Ok(()) => Flow::Close(reason, true),
            Err(gone) => Flow::Close(gone, false),
        }
    }

    /// Answers for a decision that panicked.
    async fn panicked(&mut self, exchange: Exchange, ask: Asked) -> Flow {
        let door = &*self.door;
        door.sink.inc(Counter::Panics);
        let mut open = Open::new(door, &exchange, Done::default());
        open.done.status = Refusal::Panic.row().status;
        open.done.reason = Some(Reason::Internal);
        let link = self.link.get_mut();
        let (limits, panic) = (&door.limits, Refusal::Panic);
        let sent = send_refusal(link, &self.timer, limits, panic, &exchange, ask.is_head).await;
        open.done.complete = sent.is_ok();
        match sent {
            Ok(()) => Flow::Close(CloseReason::Internal, true),
            Err(gone) => Flow::Close(gone, false),
        }
    }
}

impl<IO, S: Service> Drop for Conn<IO, S> {
    /// Tells of an answer that was on its way, and counts a bug in the driver itself: it costs its
    /// connection.
    fn drop(&mut self) {
        if let Some(stalled) = self.stalled.take() {
            let Stalled { exchange, done, .. } = *stalled;
            self.door.finished(&exchange, &mut Done { bytes: 0, complete: false, ..done });
        }
        if std::thread::panicking() {
            self.door.sink.inc(Counter::Panics);
        }
    }
}

fn later(what: Later) -> Poll<Next> {
    Poll::Ready(Next::Later(Box::new(what)))
}

/// Has the task run again when the runtime has looked at all sockets. A plain wake would not do: a
/// worker runs dozens of tasks that are awake, or one of them as often, before it looks.
fn give_way<T>(cx: &mut Context<'_>) -> Poll<T> {
    // It is for this call that the first poll of this future puts the waker off.
    let _ = pin!(tokio::task::yield_now()).poll(cx);
    Poll::Pending
}

/// What is left to do behind an answer that is out.
fn after_answer(close: Option<CloseReason>, walker: BodyWalker) -> Option<Later> {
    match close {
        Some(reason) => Some(Later::Close(reason, !walker.is_done())),
        None => (!walker.is_done()).then_some(Later::Undrained(walker)),
    }
}

/// Writes the answer of a refusal.
async fn send_refusal<IO>(
    link: &mut Link<IO>,
    timer: &Timer,
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
    let message = Message { ready: &ready, is_head, keeps_old: false, close: true };
    write::answer(link, timer, limits, message).await
}
