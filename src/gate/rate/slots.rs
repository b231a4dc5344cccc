//! One bucket of the table: what an arrival does to it while others arrive.

use crate::clock::MonoMs;
use crate::config::units::Rate;
use crate::sync::atomic::{AtomicU64, Ordering};

/// A rate as the table computes with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Between two arrivals at the average rate, in ticks.
    interval: u64,
    /// How far a TAT may lie ahead of an arrival that is allowed, in ticks.
    tolerance: u64,
}

/// What became of an arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// Within the limit.
    Allowed {
        /// A key that was not yet replenished was forgotten for it.
        evicted_live: bool,
    },
    /// Over the limit; nothing was taken.
    Refused {
        /// Until the next arrival would be allowed, in milliseconds.
        wait_ms: u64,
    },
}

impl Limit {
    /// `None` for a rate that is off. Averages above 16,000 a second count as 16,000.
    pub fn new(rate: Rate) -> Option<Limit> {
        if rate.is_off() || rate.per_1000s == 0 {
            return None;
        }
        let interval = (1_000_000 * TICKS_PER_MS).div_ceil(u64::from(rate.per_1000s));
        Some(Limit { interval, tolerance: interval * u64::from(rate.burst - 1) })
    }
}

/// One arrival, at `now`, of the key with this `tag` (not 0).
pub(super) fn take(slots: &[AtomicU64], tag: u64, limit: &Limit, now: MonoMs) -> Taken {
    let now = now.0.saturating_mul(TICKS_PER_MS).min(TAT_MAX);
    for _ in 0..RACES_MAX {
        let (slot, seen) = pick(slots, tag);
        let known = seen >> TAT_BITS == tag;
        let tat = if known { seen & TAT_MAX } else { 0 };
        let allowed_from = tat.saturating_sub(limit.tolerance);
        if allowed_from > now {
            return Taken::Refused { wait_ms: (allowed_from - now).div_ceil(TICKS_PER_MS) };
        }
        let next = tat.max(now).saturating_add(limit.interval).min(TAT_MAX);
        let (new, order) = (tag << TAT_BITS | next, Ordering::Relaxed);
        if slot.compare_exchange(seen, new, order, order).is_ok() {
            return Taken::Allowed { evicted_live: !known && seen & TAT_MAX > now };
        }
    }
    // Others changed the slot again and again: as many as race may pass uncounted.
    Taken::Allowed { evicted_live: false }
}

/// The slot of `tag` in its bucket, else the one to give up: an empty one, or the smallest TAT.
fn pick(slots: &[AtomicU64], tag: u64) -> (&AtomicU64, u64) {
    let mut best = (&slots[0], slots[0].load(Ordering::Relaxed));
    for slot in slots {
        let seen = slot.load(Ordering::Relaxed);
        if seen >> TAT_BITS == tag {
            return (slot, seen);
        }
        if seen & TAT_MAX < best.1 & TAT_MAX {
            best = (slot, seen);
        }
    }
    best
}

/// Bits of a slot that are the TAT.
pub(super) const TAT_BITS: u32 = 40;
/// The latest TAT.
pub(super) const TAT_MAX: u64 = (1 << TAT_BITS) - 1;
/// Ticks of a millisecond.
pub(super) const TICKS_PER_MS: u64 = 16;
/// How often one arrival tries again when others changed its slot meanwhile.
const RACES_MAX: u32 = 8;
