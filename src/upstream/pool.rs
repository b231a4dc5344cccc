//! How a request comes by a connection: an idle one, a new one, or a place in a bounded queue.
//!
//! Connections live on the worker that made them; how many a server gets is counted over all workers.
//! A connection that becomes free goes to a waiter of its own worker. It is closed instead where only
//! others wait, or where this worker has more than its share, so that they can open theirs.
//!
//! Connections that many share are few: who comes while one is made waits for it.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

use super::address::ConnectError;
use super::conn::Conn;
use super::link::Opening;
use super::places::Taken;
use super::sent::Progress;
use super::shared::Server;
use super::stream::Stream;
use super::wire::Seat;
use super::{Group, Stage, UpstreamError};
use crate::metrics::Counter;

/// Where a request may go.
#[derive(Debug, Default)]
pub(super) struct Wish {
    /// Servers that this request could not reach.
    pub unreachable: Vec<usize>,
    /// Whether only a new connection will do.
    pub is_fresh: bool,
    /// Whether others may use the connection meanwhile.
    pub is_shared: bool,
    /// Whether connecting took too long, the last time.
    timed_out: bool,
    cause: Option<String>,
}

impl Wish {
    /// Any server; `is_shared`: on a connection that others may use meanwhile.
    pub(super) fn new(is_shared: bool) -> Wish {
        Wish { is_shared, ..Wish::default() }
    }
}

/// What a request gets: a connection, or leave to make one.
enum Slot {
    Idle(Conn),
    New(Leave),
}

/// Leave to make a connection.
struct Leave {
    at: usize,
    taken: Taken,
    /// Where many will share it, until it is there.
    opening: Option<Opening>,
}

/// Who waits for a connection.
#[derive(Debug)]
pub(super) struct Waiter {
    is_shared: bool,
    sender: oneshot::Sender<Conn>,
}

impl Group {
    /// A connection for one exchange. Servers that cannot be reached are passed over until none is
    /// left.
    pub(super) async fn connection(
        self: &Rc<Self>,
        wish: &mut Wish,
        at_stage: impl Fn(Stage),
    ) -> Result<Conn, UpstreamError> {
        loop {
            at_stage(Stage::Queue);
            let slot = match self.pick(wish) {
                Some(slot) => slot,
                None if self.candidates(wish).is_empty() => return Err(unreachable(wish)),
                None => self.wait(wish).await?,
            };
            let Leave { at, taken, opening } = match slot {
                Slot::Idle(conn) if !conn.is_alive() => continue,
                Slot::Idle(mut conn) => {
                    conn.begin(self.server(conn.at));
                    return Ok(conn);
                }
                Slot::New(leave) => leave,
            };
            at_stage(Stage::Connect);
            let connected = self.connect(at, taken, wish).await;
            // Who waited for it is served by now, or makes another.
            drop(opening);
            if let Some(mut conn) = connected {
                conn.begin(self.server(at));
                return Ok(conn);
            }
        }
    }

    /// The exchange on `conn` ended as it should: it may serve the next one, if its request was sent
    /// whole, too.
    pub(super) fn finished(self: &Rc<Self>, mut conn: Conn, request: &Progress) {
        if conn.is_shared {
            conn.rests();
            // Where there are too few connections for all workers, one that is never idle gives way.
            if self.waiters.borrow().is_empty() && self.is_wanted_elsewhere(conn.at) {
                conn.retire();
            }
            self.sweep();
            return;
        }
        if request.done_at.get().is_none() || conn.is_over() {
            return;
        }
        let group = self.clone();
        let mut context = Context::from_waker(std::task::Waker::noop());
        match conn.poll_ready(&mut context) {
            Poll::Ready(true) => {
                conn.rests();
                self.give_back(conn);
            }
            Poll::Ready(false) => {}
            // hyper has not yet seen for itself that the exchange is over.
            Poll::Pending => {
                spawn_local(async move {
                    let ready = poll_fn(|cx| conn.poll_ready(cx));
                    if timeout(SETTLE, ready).await == Ok(true) {
                        conn.rests();
                        group.give_back(conn);
                    }
                });
            }
        }
    }

    fn give_back(self: &Rc<Self>, mut conn: Conn) {
        if conn.is_shared {
            return;
        }
        let nobody_here = self.waiters.borrow().is_empty();
        if self.waiting_elsewhere() > 0 && (nobody_here || self.has_more_than_its_share(conn.at)) {
            return;
        }
        while let Some(waiter) = self.next_waiter(false) {
            match waiter.send(conn) {
                Ok(()) => return,
                Err(back) => conn = back,
            }
        }
        self.lanes[conn.at].idle.borrow_mut().push(conn);
        self.sweep();
    }

    /// Waiters that cannot be handed a connection of this worker.
    fn waiting_elsewhere(&self) -> usize {
        (self.shared.limits.waiting.get() as usize).saturating_sub(self.waiting.get())
    }

    /// A connection that is shared has room: those who wait for one get it, as many as it takes.
    pub(super) fn has_room(self: &Rc<Self>, at: usize) {
        while self.waiters.borrow().iter().any(|waiter| waiter.is_shared) {
            let Some(mut conn) = self.common(at) else { return };
            while let Some(waiter) = self.next_waiter(true) {
                match waiter.send(conn) {
                    Ok(()) => break,
                    Err(back) => conn = back,
                }
            }
        }
    }

    /// A shared connection that takes one more.
    fn common(self: &Rc<Self>, at: usize) -> Option<Conn> {
        let keep_alive = self.settings().keep_alive_timeout.duration();
        let mut common = self.lanes[at].common.borrow_mut();
        common.retain(|conn| conn.is_usable(keep_alive));
        common.iter().find_map(|conn| conn.share(self))
    }

    /// Whether another worker waits for a connection to this server, and there is no place for one.
    fn is_wanted_elsewhere(&self, at: usize) -> bool {
        self.waiting_elsewhere() > 0 && self.server(at).open.free() == 0
    }

    fn next_waiter(&self, is_shared: bool) -> Option<oneshot::Sender<Conn>> {
        let mut waiters = self.waiters.borrow_mut();
        let at = waiters.iter().position(|waiter| waiter.is_shared == is_shared)?;
        Some(waiters.remove(at)?.sender)
    }

    fn has_more_than_its_share(&self, at: usize) -> bool {
        let workers = self.shared.limits.workers.load(Ordering::Relaxed).max(1);
        let share = (self.settings().connections_max as usize / workers).max(1);
        self.lanes[at].open.get() > share
    }

    /// An idle connection or leave for a new one, at the next server in turn that has either.
    fn pick(self: &Rc<Self>, wish: &Wish) -> Option<Slot> {
        // Those who wait come first.
        if !self.waiters.borrow().is_empty() {
            return None;
        }
        self.candidates(wish).into_iter().find_map(|at| {
            let idle = match wish {
                Wish { is_shared: true, .. } => self.common(at),
                Wish { is_fresh: true, .. } => None,
                _ => self.take_idle(at),
            };
            idle.map(Slot::Idle).or_else(|| {
                let openings = wish.is_shared.then(|| &self.lanes[at].openings);
                if openings.is_some_and(|openings| !openings.is_none()) {
                    return None;
                }
                let taken = self.server(at).open.try_take()?;
                let opening = openings.map(|openings| openings.begin());
                Some(Slot::New(Leave { at, taken, opening }))
            })
        })
    }

    /// The servers to try, beginning with the next in turn: those that are not held, or all of them
    /// where all are.
    fn candidates(&self, wish: &Wish) -> Vec<usize> {
        let count = self.lanes.len();
        let first = self.turn.get();
        self.turn.set(first.wrapping_add(1));
        let untried = (0..count)
            .map(|i| first.wrapping_add(i) % count)
            .filter(|at| !wish.unreachable.contains(at));
        let (well, held): (Vec<_>, Vec<_>) = untried.partition(|at| !self.server(*at).is_held());
        if well.is_empty() { held } else { well }
    }

    /// The idle connection that was used last, closing those that are of no use.
    fn take_idle(&self, at: usize) -> Option<Conn> {
        let keep_alive = self.settings().keep_alive_timeout.duration();
        loop {
            let conn = self.lanes[at].idle.borrow_mut().pop()?;
            if conn.is_usable(keep_alive) {
                return Some(conn);
            }
        }
    }

    /// Waits in the queue.
    async fn wait(self: &Rc<Self>, wish: &Wish) -> Result<Slot, UpstreamError> {
        let settings = self.settings();
        let Some(_counted) = self.shared.limits.waiting.enter(settings.queue_max) else {
            self.sink.inc(Counter::UpstreamQueueFull);
            return Err(UpstreamError::unsent(Stage::Queue, false, "the queue is full"));
        };
        let mut handed = Handed::new(self, wish);
        let candidates = self.candidates(wish).into_iter();
        let mut leaves: Vec<Leaving> = candidates.map(|at| self.leave(at, wish)).collect();
        self.shared.limits.wanted.notify_waiters();
        let late = sleep(settings.queue_timeout.duration());
        tokio::pin!(late);
        poll_fn(|cx| {
            if let Poll::Ready(Ok(conn)) = Pin::new(&mut handed.receiver).poll(cx) {
                return Poll::Ready(Ok(Slot::Idle(conn)));
            }
            for leave in &mut leaves {
                if let Poll::Ready(Some(leave)) = leave.as_mut().poll(cx) {
                    return Poll::Ready(Ok(Slot::New(leave)));
                }
            }
            late.as_mut().poll(cx).map(|()| {
                Err(UpstreamError::unsent(Stage::Queue, true, "no connection became free in time"))
            })
        })
        .await
    }

    /// Waits for leave to make a connection to server `at`.
    fn leave(&self, at: usize, wish: &Wish) -> Leaving {
        let open = self.server(at).open.clone();
        let openings = wish.is_shared.then(|| self.lanes[at].openings.clone());
        Box::pin(async move {
            let Some(openings) = openings else {
                return Some(Leave { at, taken: open.take().await?, opening: None });
            };
            loop {
                openings.over().await;
                let taken = open.clone().take().await?;
                // Another may have begun meanwhile.
                if openings.is_none() {
                    return Some(Leave { at, taken, opening: Some(openings.begin()) });
                }
            }
        })
    }

    /// Makes a connection; nothing, and the server noted, if it cannot be reached.
    async fn connect(self: &Rc<Self>, at: usize, permit: Taken, wish: &mut Wish) -> Option<Conn> {
        let (settings, server) = (self.settings(), self.server(at));
        server.connecting();
        let limit = settings.connect_timeout.duration();
        let stream = match self.dial(server, limit).await {
            Ok(stream) => stream,
            Err(error) => {
                server.connect_failed(&error);
                self.sink.inc(Counter::UpstreamConnectErrors);
                wish.unreachable.push(at);
                wish.timed_out = error.timed_out;
                wish.cause = Some(error.cause);
                return None;
            }
        };
        server.connected();
        self.sink.inc(Counter::UpstreamConnects);
        let seat = Seat::new(permit, &self.lanes[at].open);
        match Conn::new(stream, seat, (at, wish.is_shared), settings, self.sink.clone()).await {
            Ok(conn) if wish.is_shared => {
                let shared = conn.share(self);
                self.lanes[at].common.borrow_mut().push(conn);
                self.has_room(at);
                self.sweep();
                shared
            }
            Ok(conn) => Some(conn),
            Err(error) => {
                server.failed(&error.to_string());
                wish.unreachable.push(at);
                wish.cause = Some(error.to_string());
                None
            }
        }
    }

    /// Connects, the handshake of TLS included, within `limit`.
    async fn dial(&self, server: &Server, limit: Duration) -> Result<Stream, ConnectError> {
        let begun = Instant::now();
        let stream = server.address.connect(&server.names, limit).await?;
        if self.settings().tls.is_none() {
            return Ok(stream);
        }
        let bad = |timed_out, cause: &str| ConnectError { timed_out, cause: cause.to_owned() };
        let Some(tls) = &self.shared.tls else { return Err(bad(false, "TLS is not set up")) };
        match timeout_at(begun + limit, tls.connect(&server.address.host(), stream)).await {
            Ok(Ok(stream)) => Ok(Stream::Tls(Box::new(stream))),
            Ok(Err(cause)) => Err(bad(false, &cause)),
            Err(_) => Err(bad(true, "the TLS handshake took too long")),
        }
    }

    /// Closes idle connections when their time is over, or when others wait for their places. Runs
    /// while there are any.
    fn sweep(self: &Rc<Self>) {
        if self.is_sweeping.replace(true) {
            return;
        }
        let group = self.clone();
        spawn_local(async move {
            loop {
                let wanted = group.shared.limits.wanted.notified();
                tokio::pin!(wanted);
                wanted.as_mut().enable();
                group.give_up(group.waiting_elsewhere());
                let Some(due) = group.drop_expired() else { break };
                tokio::select! {
                    () = sleep_until(due) => {}
                    () = wanted => {}
                }
            }
            group.is_sweeping.set(false);
        });
    }

    /// Closes what expired or was closed; says when the next one will, if any is left.
    fn drop_expired(&self) -> Option<Instant> {
        let keep_alive = self.settings().keep_alive_timeout.duration();
        let now = Instant::now();
        for lane in &self.lanes {
            let expired = |conn: &Conn| conn.is_over() || conn.expires(keep_alive) <= now;
            lane.idle.borrow_mut().retain(|conn| !expired(conn));
            lane.common.borrow_mut().retain(|conn| !expired(conn));
        }
        let first = |conns: &RefCell<Vec<Conn>>| {
            conns.borrow().iter().map(|conn| conn.expires(keep_alive)).min()
        };
        self.lanes
            .iter()
            .flat_map(|lane| first(&lane.idle).into_iter().chain(first(&lane.common)))
            .min()
    }

    /// Closes up to `count` idle connections, the longest idle of each server in turn.
    fn give_up(&self, count: usize) {
        let mut left = count;
        while left > 0 {
            let before = left;
            for lane in &self.lanes {
                let mut idle = lane.idle.borrow_mut();
                if left > 0 && !idle.is_empty() {
                    idle.remove(0);
                    left -= 1;
                }
                // What is shared goes only where that makes a place.
                let may_go = |conn: &Conn| conn.is_idle() && self.is_wanted_elsewhere(conn.at);
                let mut common = lane.common.borrow_mut();
                if left > 0
                    && let Some(at) = common.iter().position(may_go)
                {
                    common.remove(at);
                    left -= 1;
                }
            }
            if left == before {
                return;
            }
        }
    }
}

/// A waiter of this worker, to whom a connection may be handed.
struct Handed {
    receiver: oneshot::Receiver<Conn>,
    /// One, unless a new connection is needed.
    count: usize,
    group: Rc<Group>,
}

impl Handed {
    fn new(group: &Rc<Group>, wish: &Wish) -> Handed {
        let (sender, receiver) = oneshot::channel();
        // Who needs a new one is not handed an old one.
        if !wish.is_fresh {
            let is_shared = wish.is_shared;
            group.waiters.borrow_mut().push_back(Waiter { is_shared, sender });
        }
        let count = usize::from(!wish.is_fresh);
        group.waiting.set(group.waiting.get() + count);
        Handed { receiver, count, group: group.clone() }
    }
}

impl Drop for Handed {
    fn drop(&mut self) {
        self.receiver.close();
        if let Ok(conn) = self.receiver.try_recv() {
            self.group.give_back(conn);
        }
        self.group.waiters.borrow_mut().retain(|waiter| !waiter.sender.is_closed());
        self.group.waiting.set(self.group.waiting.get() - self.count);
    }
}

type Leaving = Pin<Box<dyn Future<Output = Option<Leave>>>>;

fn unreachable(wish: &Wish) -> UpstreamError {
    let cause = wish.cause.as_deref().unwrap_or("the upstream has no servers");
    UpstreamError::unsent(Stage::Connect, wish.timed_out, cause)
}

/// hyper sees the end of an exchange at once, but for a last write that has not left yet.
const SETTLE: Duration = Duration::from_secs(1);
