//! The ledger's clock against those of this machine: written by who looks at it, read by every request.

use super::UnixMs;
use crate::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};

/// What another process's clock shows against the monotonic clock of this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// That clock minus [`mono_us`](super::Clock::mono_us), in microseconds: at least so much.
    pub offset_us: i64,
    /// When that was so, on the monotonic clock, in microseconds.
    pub at_us: u64,
    /// How far ahead of it that clock may be, in milliseconds.
    pub err_ms: u16,
}

/// What is added to a clock of this machine.
#[derive(Debug, Default)]
pub(super) struct LedgerOffset {
    /// Ledger minus wall clock, in milliseconds, where the ledger reads this machine's clock.
    offset_ms: AtomicI64,
    /// Ledger minus monotonic clock, in microseconds, where it does not.
    offset_us: AtomicI64,
    /// Since when, on the monotonic clock; 0: it reads this machine's clock.
    at_us: AtomicU64,
    err_ms: AtomicU32,
    /// The ledger's clock is not behind this.
    least_ms: AtomicU64,
}

impl LedgerOffset {
    /// The ledger's time when the clocks of this machine show `wall` and `mono_us`, and how far it may be
    /// ahead of that.
    pub(super) fn at(&self, wall: UnixMs, mono_us: u64) -> (UnixMs, u16) {
        let at_us = self.at_us.load(Ordering::Acquire);
        let (ledger, err_ms) = if at_us == 0 {
            (wall.0.saturating_add_signed(self.offset_ms.load(Ordering::Relaxed)), 0)
        } else {
            let offset_us = self.offset_us.load(Ordering::Relaxed);
            let age_us = mono_us.saturating_sub(at_us);
            let mono_us = mono_us.saturating_sub(lead_us(age_us));
            // Twice the lead: that clock may be as much faster as this reading took it to be slower.
            (mono_us.saturating_add_signed(offset_us) / 1000, age_us / 1_000_000)
        };
        let err_ms = err_ms.saturating_add(self.err_ms.load(Ordering::Relaxed).into());
        let ledger = UnixMs(ledger.max(self.least_ms.load(Ordering::Relaxed)));
        (ledger, u16::try_from(err_ms).unwrap_or(u16::MAX))
    }

    /// The ledger reads this machine's clock, and is ahead of it by so much.
    pub(super) fn set(&self, offset_ms: i64, err_ms: u16) {
        self.at_us.store(0, Ordering::Release);
        self.offset_ms.store(offset_ms, Ordering::Relaxed);
        self.err_ms.store(u32::from(err_ms), Ordering::Relaxed);
    }

    /// It has a clock of its own. For one caller at a time.
    pub(super) fn follow(&self, reading: Reading) {
        self.err_ms.store(u32::from(reading.err_ms), Ordering::Relaxed);
        self.offset_us.store(reading.offset_us, Ordering::Relaxed);
        // Last: who reads a new time reads its offset too, or a newer one. An old time with a new offset
        // only says that it is earlier.
        self.at_us.store(reading.at_us.max(1), Ordering::Release);
    }

    /// From now on no reading is before `now`; returns the latest of those that were so far.
    pub(super) fn latch(&self, now: UnixMs) -> UnixMs {
        UnixMs(self.least_ms.fetch_max(now.0, Ordering::Relaxed).max(now.0))
    }
}

/// How far this machine's clock may get ahead of another one in `age_us` microseconds: 488 in a million,
/// since NTP slews a clock by at most 500 (and quartz is ten times better than that).
pub fn lead_us(age_us: u64) -> u64 {
    age_us >> 11
}
