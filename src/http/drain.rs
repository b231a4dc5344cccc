//! The order to drain, for the connections of one worker: busy ones say `connection: close` with their
//! current response, idle ones close a moment later, so that a request that is on its way is answered.
//!
//! It lives on the worker's thread, so that looking at it costs a request nothing.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Waker};

use tokio::time::Instant;

/// The worker's end: begins the drain.
#[derive(Debug, Default)]
pub struct Drainer(Rc<Shared>);

/// A connection's end.
#[derive(Clone, Debug)]
pub struct DrainSignal(Rc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    since: Cell<Option<Instant>>,
    /// One place for each connection that listens; at most as many as there are connections.
    wakers: RefCell<Vec<Option<Waker>>>,
    free: RefCell<Vec<usize>>,
}

impl Drainer {
    /// No drain yet.
    pub fn new() -> Drainer {
        Drainer::default()
    }

    /// What a connection listens to.
    pub fn signal(&self) -> DrainSignal {
        DrainSignal(self.0.clone())
    }

    /// Begins to drain; there is no way back.
    pub fn begin(&self) {
        self.0.since.set(Some(self.0.since.get().unwrap_or_else(Instant::now)));
        for waker in self.0.wakers.borrow().iter().flatten() {
            waker.wake_by_ref();
        }
    }
}

impl DrainSignal {
    /// Whether the drain has begun.
    pub fn is_draining(&self) -> bool {
        self.0.since.get().is_some()
    }

    /// A place to be woken at when the drain begins.
    pub(super) fn listen(&self) -> Listener {
        let slot = self.0.free.borrow_mut().pop().unwrap_or_else(|| {
            let mut wakers = self.0.wakers.borrow_mut();
            wakers.push(None);
            wakers.len() - 1
        });
        Listener { shared: self.0.clone(), slot }
    }
}

/// One connection's place; given back when dropped.
#[derive(Debug)]
pub(super) struct Listener {
    shared: Rc<Shared>,
    slot: usize,
}

impl Listener {
    /// When the drain began; if it has not, the task is woken when it does.
    pub(super) fn poll(&self, cx: &Context<'_>) -> Option<Instant> {
        if let Some(since) = self.shared.since.get() {
            return Some(since);
        }
        let place = &mut self.shared.wakers.borrow_mut()[self.slot];
        match place {
            Some(waker) => waker.clone_from(cx.waker()),
            None => *place = Some(cx.waker().clone()),
        }
        None
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.shared.wakers.borrow_mut()[self.slot] = None;
        self.shared.free.borrow_mut().push(self.slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_used_again() {
        let drainer = Drainer::new();
        let signal = drainer.signal();
        let (one, two) = (signal.listen(), signal.listen());
        drop(one);
        let three = signal.listen();
        assert_eq!((two.slot, three.slot), (1, 0));
        let cx = Context::from_waker(Waker::noop());
        assert!(three.poll(&cx).is_none());
        drainer.begin();
        assert!(three.poll(&cx).is_some() && signal.is_draining());
    }
}
