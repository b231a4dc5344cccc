//! What the workers share of a circuit: two numbers, changed without a lock.

use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Whether purchases may be sent. Times are milliseconds of one clock, never 0.
#[derive(Debug, Default)]
pub(super) struct State {
    /// [`CLOSED`]. [`TRYING`]: a purchase is trying. Else it is open, and the next one may try then.
    try_at_ms: AtomicU64,
    /// Purchases in a row that had no answer.
    silent: AtomicU32,
}

impl State {
    /// Whether a purchase would get through now.
    pub(super) fn lets_through(&self, now_ms: impl Fn() -> u64) -> bool {
        let try_at = self.try_at_ms.load(Ordering::Relaxed);
        try_at == CLOSED || now_ms() >= try_at
    }

    pub(super) fn is_open(&self) -> bool {
        self.try_at_ms.load(Ordering::Relaxed) != CLOSED
    }

    /// A purchase goes through: whether it is one that tries. `None`: it may not.
    pub(super) fn enter(&self, now_ms: impl Fn() -> u64) -> Option<bool> {
        let try_at = self.try_at_ms.load(Ordering::Acquire);
        if try_at == CLOSED {
            return Some(false);
        }
        if now_ms() < try_at {
            return None;
        }
        match self.change(try_at, TRYING) {
            Ok(_) => Some(true),
            // Closed meanwhile, or another one tries.
            Err(now) => (now == CLOSED).then_some(false),
        }
    }

    /// The shop answered: whether that closed the circuit.
    pub(super) fn answered(&self) -> bool {
        self.silent.store(0, Ordering::Relaxed);
        self.is_open() && self.try_at_ms.swap(CLOSED, Ordering::AcqRel) != CLOSED
    }

    /// A purchase had no answer: how many in a row.
    pub(super) fn silent(&self) -> u32 {
        self.silent.fetch_add(1, Ordering::Relaxed).saturating_add(1)
    }

    /// The shop is not there: whether that opened the circuit, until `try_at_ms`. While it is open
    /// already only the one that tries says anything new.
    pub(super) fn failed(&self, is_try: bool, try_at_ms: u64) -> bool {
        let from = if is_try { TRYING } else { CLOSED };
        self.change(from, try_at_ms).is_ok() && !is_try
    }

    /// The one that tries has learnt nothing: the next one may, at once. It may have been closed
    /// meanwhile; then it stays closed.
    pub(super) fn gave_up(&self, now_ms: u64) {
        let _ = self.change(TRYING, now_ms);
    }

    fn change(&self, from: u64, to: u64) -> Result<u64, u64> {
        self.try_at_ms.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire)
    }
}

const CLOSED: u64 = 0;
/// Nobody else tries meanwhile, however long it takes.
const TRYING: u64 = u64::MAX;
