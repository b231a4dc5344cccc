//! What all have in common who use one connection: one exchange after the other, or many at once.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::shared::Server;
use super::wire::Wire;

/// One connection. It closes with the last who holds it.
#[derive(Debug)]
pub(super) struct Link {
    pub wire: Rc<Wire>,
    /// Ends with the connection, or with what hyper had read behind a 101.
    driver: RefCell<JoinHandle<Bytes>>,
    /// Exchanges that are under way.
    busy: Cell<usize>,
    /// Whether it served an exchange before.
    has_served: Cell<bool>,
    /// Whether it serves no further one.
    is_retired: Cell<bool>,
    /// How long the server keeps it idle, if it said so.
    keeps: Cell<Option<Duration>>,
    used_at: Cell<Instant>,
}

impl Link {
    pub(super) fn new(wire: Rc<Wire>, driver: JoinHandle<Bytes>) -> Rc<Link> {
        Rc::new(Link {
            wire,
            driver: RefCell::new(driver),
            busy: Cell::new(0),
            has_served: Cell::new(false),
            is_retired: Cell::new(false),
            keeps: Cell::new(None),
            used_at: Cell::new(Instant::now()),
        })
    }

    /// What hyper had read behind a 101, once it lets go.
    pub(super) async fn early(&self) -> Option<Bytes> {
        poll_fn(|cx| Pin::new(&mut *self.driver.borrow_mut()).poll(cx)).await.ok()
    }

    pub(super) fn busy(&self) -> usize {
        self.busy.get()
    }

    pub(super) fn has_served(&self) -> bool {
        self.has_served.get()
    }

    /// From now on it serves no further exchange.
    pub(super) fn retire(&self) {
        self.is_retired.set(true);
    }

    /// Whether it can serve no further exchange.
    pub(super) fn is_over(&self) -> bool {
        self.is_retired.get() || self.wire.is_closed()
    }

    /// The server says with an answer how long it keeps the connection.
    pub(super) fn hears(&self, keeps: Option<Duration>) {
        self.keeps.set(keeps);
    }

    /// Marks the end of an exchange.
    pub(super) fn served(&self) {
        self.has_served.set(true);
        self.used_at.set(Instant::now());
    }

    /// When it is to be closed, idle as it is.
    pub(super) fn expires(&self, keep_alive: Duration) -> Instant {
        let since = if self.busy.get() > 0 { Instant::now() } else { self.used_at.get() };
        since + self.keeps.get().map_or(keep_alive, |keeps| keeps.min(keep_alive))
    }

    /// Whether the server is still there; and silent, where nothing was asked.
    pub(super) fn is_alive(&self) -> bool {
        !self.is_over() && (self.busy.get() > 0 || self.wire.is_quiet())
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.wire.close();
        self.driver.get_mut().abort();
    }
}

/// One exchange that a server and a connection are busy with.
#[derive(Debug)]
pub(super) struct InFlight(Arc<Server>, Rc<Link>);

impl InFlight {
    pub(super) fn new(server: &Arc<Server>, link: &Rc<Link>) -> InFlight {
        server.in_flight.fetch_add(1, Ordering::Relaxed);
        link.busy.set(link.busy.get() + 1);
        InFlight(server.clone(), link.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.1.busy.set(self.1.busy.get().saturating_sub(1));
    }
}

/// Connections to one server that many will share, and that are being made: who comes meanwhile waits
/// for them rather than make one more.
#[derive(Debug, Default)]
pub(super) struct Openings {
    count: Cell<usize>,
    fewer: Notify,
}

/// One of them, until it is dropped.
#[derive(Debug)]
pub(super) struct Opening(Rc<Openings>);

impl Openings {
    pub(super) fn begin(self: &Rc<Self>) -> Opening {
        self.count.set(self.count.get() + 1);
        Opening(self.clone())
    }

    pub(super) fn is_none(&self) -> bool {
        self.count.get() == 0
    }

    /// Waits until there is none.
    pub(super) async fn over(&self) {
        loop {
            let fewer = self.fewer.notified();
            tokio::pin!(fewer);
            fewer.as_mut().enable();
            if self.is_none() {
                return;
            }
            fewer.await;
        }
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        self.0.count.set(self.0.count.get().saturating_sub(1));
        self.0.fewer.notify_waiters();
    }
}
