//! The one place that reads a clock.
//!
//! A request reads [`Now`] once and passes it down, so that every decision about it is made at one
//! instant. Durations are measured on the monotonic clock; the wall clock is for what people and
//! headers read; the ledger's clock (the store's) decides when a sale opens and ends.

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
    /// How far `ledger` may be off, in milliseconds.
    pub ledger_err_ms: u16,
}

/// Source of [`Now`]. Cheap to clone; all clones share the ledger's offset.
#[derive(Clone, Debug)]
pub struct Clock {
    start: Instant,
    ledger: Arc<LedgerOffset>,
}

#[derive(Debug, Default)]
struct LedgerOffset {
    /// Ledger minus wall clock, in milliseconds.
    offset_ms: AtomicI64,
    err_ms: AtomicU32,
    /// The ledger's clock is not behind this.
    least_ms: AtomicU64,
}

impl Clock {
    /// A clock whose ledger time is the machine's own until [`Clock::set_ledger_offset`] is called.
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
        let offset = self.ledger.offset_ms.load(Ordering::Relaxed);
        let least = self.ledger.least_ms.load(Ordering::Relaxed);
        Now {
            mono: self.mono_at(now),
            wall,
            ledger: UnixMs(wall.0.saturating_add_signed(offset).max(least)),
            ledger_err_ms: u16::try_from(self.ledger.err_ms.load(Ordering::Relaxed))
                .unwrap_or(u16::MAX),
        }
    }

    /// Monotonic time alone.
    pub fn mono(&self) -> MonoMs {
        self.mono_at(Instant::now())
    }

    /// A reading of the monotonic clock as milliseconds; 0 where it is older than this clock.
    pub fn mono_at(&self, instant: Instant) -> MonoMs {
        let since = instant.saturating_duration_since(self.start);
        MonoMs(since.as_secs() * 1000 + u64::from(since.subsec_millis()))
    }

    /// Tells what the store's clock shows: ledger minus wall clock, and how sure that is.
    pub fn set_ledger_offset(&self, offset_ms: i64, err_ms: u16) {
        self.ledger.offset_ms.store(offset_ms, Ordering::Relaxed);
        self.ledger.err_ms.store(u32::from(err_ms), Ordering::Relaxed);
    }

    /// Reads the ledger's clock for a ledger that is kept in this process, and whose clock therefore
    /// never goes back: from now on every reading is this one or later. When the machine's clock is
    /// set back, the ledger's stands still until it is past again, for everybody alike.
    pub fn latch_ledger(&self) -> UnixMs {
        let now = self.now().ledger;
        UnixMs(self.ledger.least_ms.fetch_max(now.0, Ordering::Relaxed).max(now.0))
    }
}

fn wall() -> UnixMs {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMs(since.as_secs() * 1000 + u64::from(since.subsec_millis()))
}
