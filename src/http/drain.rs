//! What ends a wait on the connections of one worker: the order to drain, and their deadlines.
//!
//! When a worker drains, busy connections say `connection: close` with their current response, idle
//! ones close a moment later, so that a request that is on its way is answered.
//!
//! It lives on the worker's thread, so that looking at it costs a request nothing.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::deadlines::{Deadlines, Wait};

/// The worker's end: keeps the time, and begins the drain.
#[derive(Debug)]
pub struct Drainer(Rc<Shared>);

/// What the connections of one listener listen to: the order for all of the worker's, or for theirs.
#[derive(Clone, Debug)]
pub struct DrainSignal {
    shared: Rc<Shared>,
    /// Since when this listener alone is closed. Clones share it.
    own: Rc<Cell<Option<Instant>>>,
}

#[derive(Debug)]
struct Shared {
    since: Cell<Option<Instant>>,
    /// How long connections may wait for a request while memory is short; `None`: it is not.
    patience: Cell<Option<Duration>>,
    /// Deadlines count from here.
    start: Instant,
    deadlines: RefCell<Deadlines>,
    /// A deadline is earlier than the one that is slept for.
    sooner: Notify,
}

impl Default for Drainer {
    fn default() -> Drainer {
        Drainer::new()
    }
}

impl Drainer {
    /// No drain yet.
    pub fn new() -> Drainer {
        Drainer(Rc::new(Shared {
            since: Cell::new(None),
            patience: Cell::new(None),
            start: Instant::now(),
            deadlines: RefCell::default(),
            sooner: Notify::new(),
        }))
    }

    /// What the connections of one listener listen to.
    pub fn signal(&self) -> DrainSignal {
        DrainSignal { shared: self.0.clone(), own: Rc::default() }
    }

    /// Wakes the connections whose deadlines come up. It never ends; while it is not polled, no
    /// connection of this worker times out.
    pub fn keep_time(&self) -> impl Future<Output = ()> + 'static {
        let shared = self.0.clone();
        async move {
            loop {
                let soonest = shared.deadlines.borrow().soonest();
                let Some(ms) = soonest else {
                    shared.sooner.notified().await;
                    continue;
                };
                tokio::select! {
                    biased;
                    () = shared.sooner.notified() => {}
                    () = sleep_until(shared.start + Duration::from_millis(ms)) => {
                        let passed = Instant::now().duration_since(shared.start).as_millis();
                        let now = u64::try_from(passed).unwrap_or(u64::MAX);
                        shared.deadlines.borrow_mut().sweep(now);
                    }
                }
            }
        }
    }

    /// Says that memory is short: connections that wait for a request, or for the rest of its head,
    /// close after so long, others after their response. `None`: it is not.
    pub fn shed(&self, patience: Option<Duration>) {
        if self.0.patience.replace(patience) != patience {
            self.0.deadlines.borrow().wake_all();
        }
    }

    /// Begins to drain; there is no way back.
    pub fn begin(&self) {
        self.0.since.set(Some(self.0.since.get().unwrap_or_else(Instant::now)));
        self.0.deadlines.borrow().wake_all();
    }
}

impl DrainSignal {
    /// Begins to drain those who listen to this signal; there is no way back.
    pub fn begin(&self) {
        self.own.set(Some(self.own.get().unwrap_or_else(Instant::now)));
        // The others look, see that they are not meant, and wait on.
        self.shared.deadlines.borrow().wake_all();
    }

    /// Whether the drain has begun.
    pub fn is_draining(&self) -> bool {
        self.since().is_some()
    }

    /// How long a request may be waited for while memory is short; `None`: it is not.
    pub(super) fn patience(&self) -> Option<Duration> {
        self.shared.patience.get()
    }

    /// When the drain began. Whoever has a [`Timer`] that waits is woken when it does.
    pub(in crate::http) fn since(&self) -> Option<Instant> {
        self.shared.since.get().or_else(|| self.own.get())
    }

    /// A timer for one connection.
    pub(in crate::http) fn timer(&self) -> Timer {
        let at = self.shared.deadlines.borrow_mut().enter();
        Timer { shared: self.shared.clone(), at }
    }
}

/// One connection's place among the deadlines, whatever it waits for at the moment.
#[derive(Debug)]
pub(super) struct Timer {
    shared: Rc<Shared>,
    at: u32,
}

impl Timer {
    /// Ready once `deadline` is past; a moment after it, never before.
    pub(super) fn poll(&self, deadline: Instant, cx: &Context<'_>) -> Poll<()> {
        let Shared { start, deadlines, sooner, .. } = &*self.shared;
        let due = ms(deadline.saturating_duration_since(*start));
        let wait = deadlines.borrow_mut().wait(self.at, due, cx.waker());
        if wait == Wait::Soonest {
            sooner.notify_one();
        }
        if wait == Wait::Past { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        let waker = self.shared.deadlines.borrow_mut().leave(self.at);
        drop(waker);
    }
}

/// Whole milliseconds, rounded up: no deadline is early.
fn ms(duration: Duration) -> u64 {
    duration.as_secs() * 1000 + u64::from(duration.subsec_nanos().div_ceil(1_000_000))
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::task::{LocalSet, spawn_local};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn deadlines_pass_in_their_order_and_never_early() {
        let drainer = Drainer::new();
        let set = LocalSet::new();
        set.spawn_local(drainer.keep_time());
        set.run_until(async move {
            let begun = Instant::now();
            let tasks: Vec<_> = [700, 20, 75_000, 20, 1]
                .map(|after| {
                    let timer = drainer.signal().timer();
                    spawn_local(async move {
                        let due = begun + Duration::from_micros(after * 1000 - 300);
                        poll_fn(|cx| timer.poll(due, cx)).await;
                        (after, begun.elapsed() >= due - begun, begun.elapsed().as_millis())
                    })
                })
                .into();
            for task in tasks {
                let (after, not_early, took) = task.await.expect("no panic");
                assert!(not_early && (after.into()..=u128::from(after) + 1).contains(&took));
            }
        })
        .await;
    }

    #[tokio::test]
    async fn who_waits_hears_of_the_drain() {
        let drainer = Drainer::new();
        let (signal, timer) = (drainer.signal(), drainer.signal().timer());
        let heard = poll_fn(|cx| match signal.since() {
            Some(since) => Poll::Ready(since),
            None => {
                let far = Instant::now() + Duration::from_secs(3600);
                assert!(timer.poll(far, cx).is_pending());
                Poll::Pending
            }
        });
        let (heard, ()) = tokio::join!(heard, async { drainer.begin() });
        assert!(heard <= Instant::now() && signal.is_draining());
    }

    #[tokio::test]
    async fn one_listener_can_end_alone() {
        let drainer = Drainer::new();
        let (one, other) = (drainer.signal(), drainer.signal());
        one.clone().begin();
        assert!(one.is_draining() && !other.is_draining());
        drainer.begin();
        assert!(other.is_draining());
    }
}
