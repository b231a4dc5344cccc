//! How long things take: histograms of milliseconds, by a table as the counters are.

use std::sync::atomic::{AtomicU64, Ordering};

/// One row of the table of timings.
#[derive(Clone, Copy, Debug)]
pub struct TimingRow {
    /// The timing.
    pub timing: Timing,
    /// Metric name without the `penstock_` prefix and the `_seconds` suffix.
    pub name: &'static str,
    /// One constant label, if several rows share a name.
    pub label: Option<(&'static str, &'static str)>,
    /// Help text.
    pub help: &'static str,
}

macro_rules! timings {
    ($($variant:ident, $name:literal, $label:expr, $help:literal;)*) => {
        /// Everything whose time is measured.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(usize)]
        pub enum Timing { $(#[doc = $help] $variant,)* }

        /// All rows, in the order of the enum; those that share a name stand together.
        pub const TIMINGS: &[TimingRow] = &[$(TimingRow {
            timing: Timing::$variant, name: $name, label: $label, help: $help,
        },)*];
    };
}

timings! {
    RequestPage, "request", Some(("route", "page")), "From the complete head of a request to the last byte of its answer.";
    RequestAvailability, "request", Some(("route", "availability")), "From the complete head of a request to the last byte of its answer.";
    RequestPurchase, "request", Some(("route", "purchase")), "From the complete head of a request to the last byte of its answer.";
    RequestProxy, "request", Some(("route", "proxy")), "From the complete head of a request to the last byte of its answer.";
    RequestOwn, "request", Some(("route", "own")), "From the complete head of a request to the last byte of its answer.";
    Upstream, "upstream", None, "From a request to the shop, its wait for a connection included, to the head of the answer.";
    Purchase, "purchase", None, "From the sending of an admitted purchase to what became of it.";
}

/// Upper bounds of the buckets, in milliseconds; the last bucket has none.
pub const BUCKETS_MS: [u32; 13] = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000];

/// Counts by bucket, and the sum of all times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// How many took less than the bucket's bound and not less than the one before it.
    pub counts: [u64; BUCKETS_MS.len() + 1],
    /// All milliseconds together.
    pub sum_ms: u64,
}

impl Times {
    /// How many there are.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// What came since `earlier`.
    pub fn since(&self, earlier: &Times) -> Times {
        let less = |at: usize| self.counts[at].saturating_sub(earlier.counts[at]);
        Times {
            counts: std::array::from_fn(less),
            sum_ms: self.sum_ms.saturating_sub(earlier.sum_ms),
        }
    }

    /// The bound in milliseconds that so many of 1,000 stay under: the bucket's, so it is never too
    /// small. `None` where there are none, or the slowest took longer than the last bound.
    pub fn below_ms(&self, permille: u64) -> Option<u32> {
        let all = self.count();
        let needed = (all * permille).div_ceil(1_000).max(1);
        let mut seen = 0;
        for (count, bound) in self.counts.iter().zip(BUCKETS_MS) {
            seen += count;
            if seen >= needed && all > 0 {
                return Some(bound);
            }
        }
        None
    }
}

/// The cells of one timing.
#[derive(Debug)]
pub(super) struct Cells {
    counts: [AtomicU64; BUCKETS_MS.len() + 1],
    sum_ms: AtomicU64,
}

impl Cells {
    pub(super) const fn new() -> Cells {
        Cells {
            counts: [const { AtomicU64::new(0) }; BUCKETS_MS.len() + 1],
            sum_ms: AtomicU64::new(0),
        }
    }

    pub(super) fn add(&self, took_ms: u64) {
        self.counts[bucket(took_ms)].fetch_add(1, Ordering::Relaxed);
        if took_ms > 0 {
            self.sum_ms.fetch_add(took_ms, Ordering::Relaxed);
        }
    }

    pub(super) fn add_to(&self, times: &mut Times) {
        for (sum, count) in times.counts.iter_mut().zip(&self.counts) {
            *sum += count.load(Ordering::Relaxed);
        }
        times.sum_ms += self.sum_ms.load(Ordering::Relaxed);
    }
}

/// Most answers take less than a millisecond: the first bound is looked at first.
fn bucket(took_ms: u64) -> usize {
    BUCKETS_MS.iter().position(|bound| took_ms < u64::from(*bound)).unwrap_or(BUCKETS_MS.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_stand_in_the_order_of_their_enum() {
        for (i, row) in TIMINGS.iter().enumerate() {
            assert_eq!(row.timing as usize, i, "{:?}", row.timing);
        }
    }

    #[test]
    fn a_quantile_is_the_bound_of_its_bucket() {
        let cells = Cells::new();
        let times = || {
            let mut times = Times::default();
            cells.add_to(&mut times);
            times
        };
        assert_eq!(times().below_ms(500), None);
        (0..99).for_each(|_| cells.add(0));
        cells.add(7);
        let before = times();
        assert_eq!((before.below_ms(500), before.below_ms(990)), (Some(1), Some(1)));
        assert_eq!((before.below_ms(999), before.sum_ms), (Some(10), 7));
        cells.add(10_000);
        assert_eq!(times().below_ms(1_000), None, "slower than all bounds");
        let since = times().since(&before);
        assert_eq!((since.count(), since.sum_ms), (1, 10_000));
    }
}
