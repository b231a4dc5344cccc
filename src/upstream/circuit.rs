//! The circuit breaker between purchases and a group of servers: while the shop does not answer, nothing
//! is claimed for it, and one purchase at a time tries whether it does again.
//!
//! It opens when no server of the group could be reached, or when [`SILENT_MAX`] purchases in a row
//! had no answer: each of those leaves a unit in limbo. Any answer closes it.

mod state;

use std::sync::Arc;

use tokio::time::Instant;

use state::State;

use super::Place;
use crate::ident::Name;
use crate::metrics::{Counter, Sink};

/// What a purchase came to, as far as its servers' health goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reached {
    /// A server answered.
    Answered,
    /// No server could be reached: nothing was sent.
    Unreachable,
    /// It was sent, and no server answered it, or only a proxy in front of them did.
    Silent,
    /// It says nothing about the servers.
    Unclear,
}

/// One group's breaker.
#[derive(Debug)]
pub(super) struct Circuit {
    group: Name,
    state: State,
    start: Instant,
}

/// Leave to send a purchase. One that tries an open circuit lets the next one try when it is dropped
/// without having learnt anything.
#[derive(Debug)]
pub(super) struct Leave {
    circuit: Arc<Circuit>,
    is_try: bool,
}

impl Circuit {
    pub(super) fn new(group: Name) -> Circuit {
        Circuit { group, state: State::default(), start: Instant::now() }
    }

    /// Whether a purchase would get leave now. A forecast: another may come first.
    pub(super) fn lets_through(&self) -> bool {
        self.state.lets_through(|| self.now_ms())
    }

    /// Whether purchases are refused until one has tried.
    pub(super) fn is_open(&self) -> bool {
        self.state.is_open()
    }

    /// Leave to claim and send a purchase; `None`: the shop is down.
    pub(super) fn enter(self: &Arc<Self>) -> Option<Leave> {
        let is_try = self.state.enter(|| self.now_ms())?;
        Some(Leave { circuit: self.clone(), is_try })
    }

    fn answered(&self) {
        if self.state.answered() {
            tracing::warn!("{}: the shop answers again: purchases are sent to it", self.group);
        }
    }

    fn failed(&self, is_try: bool, sink: &Sink) {
        if self.state.failed(is_try, self.now_ms() + PAUSE_MS) {
            sink.inc(Counter::UpstreamCircuitOpened);
            tracing::error!(
                "{}: the shop does not answer: nothing is claimed for it, one purchase every {PAUSE_MS} \
                 ms tries it",
                self.group
            );
        }
    }

    fn now_ms(&self) -> u64 {
        // Never 0, which means "closed".
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX / 2) + 1
    }
}

impl Leave {
    fn tell(mut self, reached: Reached, sink: &Sink) {
        match reached {
            Reached::Answered => self.circuit.answered(),
            Reached::Unreachable => self.circuit.failed(self.is_try, sink),
            Reached::Silent => {
                if self.circuit.state.silent() >= SILENT_MAX || self.is_try {
                    self.circuit.failed(self.is_try, sink);
                }
            }
            Reached::Unclear => return,
        }
        self.is_try = false;
    }
}

impl Drop for Leave {
    fn drop(&mut self) {
        if self.is_try {
            self.circuit.state.gave_up(self.circuit.now_ms());
        }
    }
}

impl Place {
    /// Tells what became of the purchase that had this place, and gives it back. A place that is
    /// dropped without a word says nothing about the servers.
    pub fn tell(self, reached: Reached) {
        let Place { leave, sink, .. } = self;
        leave.tell(reached, &sink);
    }
}

/// Purchases in a row without an answer that open the circuit: more than a crowd has by chance of a
/// shop that loses one in ten, few enough to keep the units.
const SILENT_MAX: u32 = 8;

/// From a failure to the next try, in milliseconds: as long as a server that could not be reached is
/// passed over.
const PAUSE_MS: u64 = super::shared::HOLD_MS;

#[cfg(test)]
mod tests {
    use super::*;

    fn circuit() -> (Arc<Circuit>, Sink) {
        let name = Name::new("shop").unwrap();
        (Arc::new(Circuit::new(name)), Sink::detached())
    }

    async fn pause() {
        tokio::time::advance(std::time::Duration::from_millis(PAUSE_MS)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_shop_that_cannot_be_reached_is_tried_by_one_at_a_time() {
        let (circuit, sink) = circuit();
        let (one, two) = (circuit.enter().unwrap(), circuit.enter().unwrap());
        one.tell(Reached::Unreachable, &sink);
        assert!(circuit.enter().is_none() && !circuit.lets_through() && circuit.is_open());
        // One that was on its way says nothing new, and puts off nothing.
        tokio::time::advance(std::time::Duration::from_millis(PAUSE_MS - 1)).await;
        two.tell(Reached::Unreachable, &sink);
        assert!(circuit.enter().is_none());
        tokio::time::advance(std::time::Duration::from_millis(1)).await;
        assert!(circuit.lets_through());
        let tries = circuit.enter().unwrap();
        pause().await;
        assert!(circuit.enter().is_none() && !circuit.lets_through(), "it is still trying");
        tries.tell(Reached::Unreachable, &sink);
        assert!(circuit.enter().is_none());
        pause().await;
        circuit.enter().unwrap().tell(Reached::Answered, &sink);
        assert!(circuit.enter().is_some() && circuit.enter().is_some() && !circuit.is_open());
        assert_eq!(sink.get(Counter::UpstreamCircuitOpened), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn who_tries_and_learns_nothing_lets_the_next_one_try() {
        let (circuit, sink) = circuit();
        circuit.enter().unwrap().tell(Reached::Unreachable, &sink);
        pause().await;
        drop(circuit.enter().unwrap());
        circuit.enter().unwrap().tell(Reached::Unclear, &sink);
        let tries = circuit.enter().unwrap();
        assert!(circuit.enter().is_none());
        // An answer to one that was on its way closes it, and the one that tries opens it no more.
        circuit.answered();
        tries.tell(Reached::Silent, &sink);
        assert!(!circuit.is_open());
    }

    #[tokio::test(start_paused = true)]
    async fn silence_opens_it_only_in_a_row() {
        let (circuit, sink) = circuit();
        let tell = |reached| circuit.enter().unwrap().tell(reached, &sink);
        for _ in 0..2 {
            (1..SILENT_MAX).for_each(|_| tell(Reached::Silent));
            tell(Reached::Unclear);
            tell(Reached::Answered);
        }
        assert!(!circuit.is_open());
        (0..SILENT_MAX).for_each(|_| tell(Reached::Silent));
        assert!(circuit.is_open());
        pause().await;
        tell(Reached::Silent);
        assert!(circuit.enter().is_none(), "one more is enough");
    }
}
