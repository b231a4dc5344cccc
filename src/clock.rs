//! The one place that reads a clock.
//!
//! A request reads [`Now`] once and passes it down, so that every decision about it is made at one
//! instant. Durations are measured on the monotonic clock; the wall clock is for what people and
//! headers read; the ledger's clock (the store's) decides when a sale opens and ends. A ledger in another
//! process is followed on the monotonic clock, so that nobody who sets this machine's clock opens a sale,
//! and from below: what is read is never ahead of what the ledger itself shows.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

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

/// What another process's clock shows against the monotonic clock of this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// That clock minus [`Clock::mono_us`], in microseconds: at least so much.
    pub offset_us: i64,
    /// When that was so, on the monotonic clock, in microseconds.
    pub at_us: u64,
    /// How far ahead of it that clock may be, in milliseconds.
    pub err_ms: u16,
}

#[derive(Debug, Default)]
struct LedgerOffset {
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
        self.ledger.at_us.store(0, Ordering::Release);
        self.ledger.offset_ms.store(offset_ms, Ordering::Relaxed);
        self.ledger.err_ms.store(u32::from(err_ms), Ordering::Relaxed);
    }

    /// Says what the store's own clock shows. For one caller at a time.
    pub fn follow_ledger(&self, reading: Reading) {
        self.ledger.err_ms.store(u32::from(reading.err_ms), Ordering::Relaxed);
        self.ledger.offset_us.store(reading.offset_us, Ordering::Relaxed);
        // Last: who reads a new time reads its offset too, or a newer one. An old time with a new offset
        // only says that it is earlier.
        self.ledger.at_us.store(reading.at_us.max(1), Ordering::Release);
    }

    /// Reads the ledger's clock for a ledger that is kept in this process, and whose clock therefore
    /// never goes back: from now on every reading is this one or later. When the machine's clock is
    /// set back, the ledger's stands still until it is past again, for everybody alike.
    pub fn latch_ledger(&self) -> UnixMs {
        let now = self.now().ledger;
        UnixMs(self.ledger.least_ms.fetch_max(now.0, Ordering::Relaxed).max(now.0))
    }
}

impl LedgerOffset {
    /// The ledger's time when the clocks of this machine show `wall` and `mono_us`, and how far it may be
    /// ahead of that.
    fn at(&self, wall: UnixMs, mono_us: u64) -> (UnixMs, u16) {
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
}

/// How far this machine's clock may get ahead of another one in `age_us` microseconds: 488 in a million,
/// since NTP slews a clock by at most 500 (and quartz is ten times better than that).
pub fn lead_us(age_us: u64) -> u64 {
    age_us >> 11
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
            assert_eq!(at(wall, 1_000_001 + 2_048_000), 3_001 + 2_047, "it may be slower than ours");
        }
        let err_ms = |mono_us| clock.ledger.at(UnixMs(0), mono_us).1;
        assert_eq!((err_ms(1_000_000), err_ms(61_000_000)), (1, 61), "unheard it knows less");
        assert_eq!(err_ms(u64::MAX), u16::MAX);
        let earlier = Reading { offset_us: -10_000_000, at_us: 1, err_ms: 1 };
        clock.follow_ledger(earlier);
        assert_eq!(at(7, 9_000), 0);
    }
}
