//! How fast something may happen in the whole process: one number that all workers share (GCRA).

use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock::MonoMs;
use crate::config::units::Rate;

/// What has passed, held against a rate that may change.
#[derive(Debug, Default)]
pub struct Pace {
    /// When what was let through will have been allowed, in microseconds.
    paid_until_us: AtomicU64,
}

impl Pace {
    /// Whether one more may pass at `now`, at `rate`.
    pub fn allows(&self, rate: Rate, now: MonoMs) -> bool {
        if rate.is_off() {
            return true;
        }
        let each_us = (1_000_000_000 / u64::from(rate.per_1000s.max(1))).max(1);
        let ahead_us = each_us.saturating_mul(rate.burst.saturating_sub(1).into());
        let now_us = now.0.saturating_mul(1000);
        let pay = |paid_until_us: u64| {
            let start_us = paid_until_us.max(now_us);
            (start_us - now_us <= ahead_us).then(|| start_us.saturating_add(each_us))
        };
        let order = Ordering::Relaxed;
        self.paid_until_us.fetch_update(order, order, pay).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_the_rate() {
        let (pace, rate) = (Pace::default(), Rate::new(3, 10));
        let allowed = |at, n| (0..n).filter(|_| pace.allows(rate, MonoMs(at))).count();
        assert_eq!(allowed(1_000, 9), 3);
        assert_eq!(allowed(1_099, 9), 0);
        assert_eq!(allowed(1_100, 9), 1);
        assert_eq!(allowed(9_000, 9), 3);
        let off = Rate { burst: 0, per_1000s: 0 };
        assert!((0..1_000).all(|_| pace.allows(off, MonoMs(0))));
    }
}
