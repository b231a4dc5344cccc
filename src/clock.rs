//! The one place that reads a clock.
//!
//! A request reads [`Now`] once and passes it down, so that every decision about it is made at one
//! instant. Durations are measured on the monotonic clock; the wall clock is for what people and
//! headers read; the ledger's clock (the store's) decides when a sale opens and ends. A ledger in another
//! process is followed on the monotonic clock, so that nobody who sets this machine's clock opens a sale,
//! and from below: what is read is never ahead of what the ledger itself shows.

mod offset;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use offset::LedgerOffset;
pub use offset::{Reading, lead_us};

/// Milliseconds on this process's monotonic clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MonoMs(pub u64);

/// Milliseconds since 1970-01-01T00:00:00Z.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(transparent)]
pub struct UnixMs(pub u64);

impl MonoMs {
    /// Milliseconds from `earlier` to `self`, 0 if `earlier` is later.
    pub fn since(self, earlier: MonoMs) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// This instant plus `ms` milliseconds.
    pub fn plus(self, ms: u64) -> MonoMs {
        MonoMs(self.0.saturating_add(ms))
    }
}

impl UnixMs {
    /// Milliseconds from `earlier` to `self`, 0 if `earlier` is later.
    pub fn since(self, earlier: UnixMs) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// This instant plus `ms` milliseconds.
    pub fn plus(self, ms: u64) -> UnixMs {
        UnixMs(self.0.saturating_add(ms))
    }

    /// Whole seconds since the Unix epoch.
    pub fn secs(self) -> u64 {
        self.0 / 1000
    }

    /// The same instant for libraries that speak [`SystemTime`].
    pub fn system(self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.0)
    }
}

/// One reading of all clocks, taken once for each request and passed down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Monotonic time, for durations and timeouts.
    pub mono: MonoMs,
    /// Wall clock of this machine, for headers and logs.
    pub wall: UnixMs,
    /// The store's clock as this node knows it: sales open and end by it.
    pub ledger: UnixMs,
    /// How far the store's clock may be ahead of `ledger`, in milliseconds.
    pub ledger_err_ms: u16,
}

impl Now {
    /// The latest that the store's clock may show: for deadlines, as `ledger` is for openings.
    pub fn ledger_latest(&self) -> UnixMs {
        self.ledger.plus(self.ledger_err_ms.into())
    }
}

/// Source of [`Now`]. Cheap to clone; all clones share the ledger's offset.
#[derive(Clone, Debug)]
pub struct Clock {
    start: Instant,
    ledger: Arc<LedgerOffset>,
}

impl Clock {
    /// A clock whose ledger time is the machine's own until [`Clock::follow_ledger`] is called.
    pub fn system() -> Clock {
        Clock { start: Instant::now(), ledger: Arc::default() }
    }

    /// Reads every clock once.
    pub fn now(&self) -> Now {
        self.at(Instant::now())
    }

    /// The same for who has read the monotonic clock just now.
    pub fn at(&self, now: Instant) -> Now {
        let wall = wall();
        let mono_us = self.mono_us_at(now);
        let (ledger, ledger_err_ms) = self.ledger.at(wall, mono_us);
        Now { mono: MonoMs(mono_us / 1000), wall, ledger, ledger_err_ms }
    }

    /// Monotonic time alone.
    pub fn mono(&self) -> MonoMs {
        self.mono_at(Instant::now())
    }

    /// Monotonic time alone, in microseconds.
    pub fn mono_us(&self) -> u64 {
        self.mono_us_at(Instant::now())
    }

    /// A reading of the monotonic clock as milliseconds; 0 where it is older than this clock.
    pub fn mono_at(&self, instant: Instant) -> MonoMs {
        MonoMs(self.mono_us_at(instant) / 1000)
    }

    /// A reading of the monotonic clock in microseconds; 0 where it is older than this clock.
    pub fn mono_us_at(&self, instant: Instant) -> u64 {
        let since = instant.saturating_duration_since(self.start);
        since.as_secs() * 1_000_000 + u64::from(since.subsec_micros())
    }

    /// Says that the ledger reads this machine's clock, and is ahead of it by so much.
    pub fn set_ledger_offset(&self, offset_ms: i64, err_ms: u16) {
        self.ledger.set(offset_ms, err_ms);
    }

    /// Says what the store's own clock shows. For one caller at a time.
    pub fn follow_ledger(&self, reading: Reading) {
        self.ledger.follow(reading);
    }

    /// Reads the ledger's clock for a ledger that is kept in this process, and whose clock therefore
    /// never goes back: from now on every reading is this one or later. When the machine's clock is
    /// set back, the ledger's stands still until it is past again, for everybody alike.
    pub fn latch_ledger(&self) -> UnixMs {
        self.ledger.latch(self.now().ledger)
    }
}

fn wall() -> UnixMs {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMs(since.as_secs() * 1000 + u64::from(since.subsec_millis()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ledger_that_is_followed_does_not_care_what_the_machines_clock_is_set_to() {
        let clock = Clock::system();
        let at = |wall, mono_us| clock.ledger.at(UnixMs(wall), mono_us).0.0;
        clock.set_ledger_offset(-7, 0);
        assert_eq!((at(1_000, 5), at(5_000, 5)), (993, 4_993));
        clock.follow_ledger(Reading { offset_us: 2_000_999, at_us: 1_000_000, err_ms: 1 });
        for wall in [0, 1_000, u64::MAX] {
            assert_eq!(at(wall, 1_000_000), 3_000, "rounded down");
            assert_eq!(at(wall, 1_000_001), 3_001);
            assert_eq!(
                at(wall, 1_000_001 + 2_048_000),
                3_001 + 2_047,
                "it may be slower than ours"
            );
        }
        let err_ms = |mono_us| clock.ledger.at(UnixMs(0), mono_us).1;
        assert_eq!((err_ms(1_000_000), err_ms(61_000_000)), (1, 61), "unheard it knows less");
        assert_eq!(err_ms(u64::MAX), u16::MAX);
        let earlier = Reading { offset_us: -10_000_000, at_us: 1, err_ms: 1 };
        clock.follow_ledger(earlier);
        assert_eq!(at(7, 9_000), 0);
    }
}
