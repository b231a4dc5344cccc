//! How a request comes by a connection: an idle one, a new one, or a place in a bounded queue.
//!
//! Connections live on the worker that made them; how many a server gets is counted over all workers.
//! A connection that becomes free goes to a waiter of its own worker. It is closed instead where only
//! others wait, or where this worker has more than its share, so that they can open theirs.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::conn::Conn;
use super::places::Taken;
use super::sent::Progress;
use super::shared::Server;
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
    /// Whether connecting took too long, the last time.
    timed_out: bool,
    cause: Option<String>,
}

/// What a request gets: a connection, or leave to make one.
enum Slot {
    Idle(Conn),
    New(usize, Taken),
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
            let (at, permit) = match slot {
                Slot::Idle(conn) if !conn.wire.is_quiet() => continue,
                Slot::Idle(mut conn) => {
                    conn.begin(self.server(conn.at));
                    return Ok(conn);
                }
                Slot::New(at, permit) => (at, permit),
            };
            at_stage(Stage::Connect);
            if let Some(mut conn) = self.connect(at, permit, wish).await {
                conn.begin(self.server(at));
                return Ok(conn);
            }
        }
    }

    /// The exchange on `conn` ended as it should: it may serve the next one, if its request was sent
    /// whole, too.
    pub(super) fn finished(self: &Rc<Self>, mut conn: Conn, request: &Progress) {
        if request.done_at.get().is_none() || conn.wire.is_closed() {
            return;
        }
        let group = self.clone();
        let mut context = Context::from_waker(std::task::Waker::noop());
        match conn.poll_ready(&mut context) {
            Poll::Ready(true) => self.give_back(conn),
            Poll::Ready(false) => {}
            // hyper has not yet seen for itself that the exchange is over.
            Poll::Pending => {
                spawn_local(async move {
                    let ready = poll_fn(|cx| conn.poll_ready(cx));
                    if timeout(SETTLE, ready).await == Ok(true) {
                        group.give_back(conn);
                    }
                });
            }
        }
    }

    fn give_back(self: &Rc<Self>, mut conn: Conn) {
        conn.rests();
        let nobody_here = self.waiters.borrow().is_empty();
        if self.waiting_elsewhere() > 0 && (nobody_here || self.has_more_than_its_share(conn.at)) {
            return;
        }
        while let Some(waiter) = self.next_waiter() {
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
        (self.shared.limits.waiting.get() as usize).saturating_sub(self.waiters.borrow().len())
    }

    fn next_waiter(&self) -> Option<oneshot::Sender<Conn>> {
        self.waiters.borrow_mut().pop_front()
    }

    fn has_more_than_its_share(&self, at: usize) -> bool {
        let workers = self.shared.limits.workers.load(Ordering::Relaxed).max(1);
        let share = (self.settings().connections_max as usize / workers).max(1);
        self.lanes[at].open.get() > share
    }

    /// An idle connection or leave for a new one, at the next server in turn that has either.
    fn pick(&self, wish: &Wish) -> Option<Slot> {
        // Those who wait come first.
        if !self.waiters.borrow().is_empty() {
            return None;
        }
        self.candidates(wish).into_iter().find_map(|at| {
            let idle = if wish.is_fresh { None } else { self.take_idle(at) };
            idle.map(Slot::Idle).or_else(|| {
                let permit = self.server(at).open.try_take()?;
                Some(Slot::New(at, permit))
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
        let mut handed = Handed::new(self, wish.is_fresh);
        let candidates = self.candidates(wish).into_iter();
        let mut permits: Vec<Permit> = candidates.map(|at| permit(self.server(at), at)).collect();
        self.shared.limits.wanted.notify_waiters();
        let late = sleep(settings.queue_timeout.duration());
        tokio::pin!(late);
        poll_fn(|cx| {
            if let Poll::Ready(Ok(conn)) = Pin::new(&mut handed.receiver).poll(cx) {
                return Poll::Ready(Ok(Slot::Idle(conn)));
            }
            for permit in &mut permits {
                if let Poll::Ready((at, Some(permit))) = permit.as_mut().poll(cx) {
                    return Poll::Ready(Ok(Slot::New(at, permit)));
                }
            }
            late.as_mut().poll(cx).map(|()| {
                Err(UpstreamError::unsent(Stage::Queue, true, "no connection became free in time"))
            })
        })
        .await
    }

    /// Makes a connection; nothing, and the server noted, if it cannot be reached.
    async fn connect(self: &Rc<Self>, at: usize, permit: Taken, wish: &mut Wish) -> Option<Conn> {
        let (settings, server) = (self.settings(), self.server(at));
        server.connecting();
        let limit = settings.connect_timeout.duration();
        let stream = match server.address.connect(&server.names, limit).await {
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
        let head_bytes_max = settings.head_bytes_max.in_memory();
        match Conn::new(stream, seat, at, head_bytes_max, self.sink.clone()).await {
            Ok(conn) => Some(conn),
            Err(error) => {
                server.failed(&error.to_string());
                wish.unreachable.push(at);
                wish.cause = Some(error.to_string());
                None
            }
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
            let expired = |conn: &Conn| conn.wire.is_closed() || conn.expires(keep_alive) <= now;
            lane.idle.borrow_mut().retain(|conn| !expired(conn));
        }
        let idle = self
            .lanes
            .iter()
            .flat_map(|lane| lane.idle.borrow().iter().map(|conn| conn.expires(keep_alive)).min());
        idle.min()
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
    group: Rc<Group>,
}

impl Handed {
    fn new(group: &Rc<Group>, is_fresh: bool) -> Handed {
        let (sender, receiver) = oneshot::channel();
        // Who needs a new one is not handed an old one.
        if !is_fresh {
            group.waiters.borrow_mut().push_back(sender);
        }
        Handed { receiver, group: group.clone() }
    }
}

impl Drop for Handed {
    fn drop(&mut self) {
        self.receiver.close();
        if let Ok(conn) = self.receiver.try_recv() {
            self.group.give_back(conn);
        }
        self.group.waiters.borrow_mut().retain(|waiter| !waiter.is_closed());
    }
}

type Permit = Pin<Box<dyn Future<Output = (usize, Option<Taken>)>>>;

fn permit(server: &Arc<Server>, at: usize) -> Permit {
    let open = server.open.clone();
    Box::pin(async move { (at, open.take().await) })
}

fn unreachable(wish: &Wish) -> UpstreamError {
    let cause = wish.cause.as_deref().unwrap_or("the upstream has no servers");
    UpstreamError::unsent(Stage::Connect, wish.timed_out, cause)
}

/// hyper sees the end of an exchange at once, but for a last write that has not left yet.
const SETTLE: Duration = Duration::from_secs(1);
