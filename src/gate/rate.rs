//! Limits by GCRA in memory of a fixed size: 8 bytes a key, one cache line a lookup, one
//! compare-and-swap an update.
//!
//! A slot is `tag:24 | TAT:40`: a part of the key's hash, and the *theoretical arrival time* at which
//! the key is fully replenished, in sixteenths of a millisecond on the monotonic clock (2.1 years).
//! Where a bucket is full, the key with the smallest TAT goes: it is the most replenished, and
//! forgetting it gives back at most its burst. A key over its limit has the largest TAT, so a flood of
//! new keys pushes out idle ones first, never the penalised.

mod slots;

use std::hash::{BuildHasher, Hash, RandomState};

use slots::TAT_BITS;
pub use slots::{Limit, Taken};

use crate::clock::MonoMs;
use crate::sync::atomic::AtomicU64;

/// Keys and when each is replenished.
#[derive(Debug)]
pub struct RateTable {
    /// Buckets of [`WAYS`] slots.
    slots: Box<[AtomicU64]>,
    buckets: u64,
    hasher: RandomState,
}

/// A hashed key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key(u64);

impl RateTable {
    /// Room for at least `keys` keys.
    pub fn new(keys: u32) -> RateTable {
        let buckets = (u64::from(keys).div_ceil(WAYS as u64)).next_power_of_two();
        let slots = usize::try_from(buckets).unwrap_or(1) * WAYS;
        RateTable {
            slots: std::iter::repeat_with(AtomicU64::default).take(slots).collect(),
            buckets,
            hasher: RandomState::new(),
        }
    }

    /// The key of `what`. Hashed with a secret of this process, so that nobody can aim at a bucket.
    pub fn key(&self, what: impl Hash) -> Key {
        Key(self.hasher.hash_one(what))
    }

    /// One arrival of `key` at `now`.
    pub fn take(&self, key: Key, limit: &Limit, now: MonoMs) -> Taken {
        let tag = (key.0 >> TAT_BITS).max(1);
        let bucket = usize::try_from(key.0 & (self.buckets - 1)).unwrap_or(0) * WAYS;
        slots::take(&self.slots[bucket..bucket + WAYS], tag, limit, now)
    }
}

/// Slots of a bucket: one cache line.
const WAYS: usize = 8;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::units::Rate;
    use crate::sync::atomic::Ordering;

    /// GCRA as it is written down, with exact fractions: times in units of 1/per_1000s ms.
    struct Model {
        rate: Rate,
        tat: u128,
    }

    impl Model {
        fn take(&mut self, now_ms: u64) -> bool {
            let scale = u128::from(self.rate.per_1000s);
            let (now, interval) = (u128::from(now_ms) * scale, 1_000_000_u128);
            let tolerance = interval * u128::from(self.rate.burst - 1);
            if self.tat > now + tolerance {
                return false;
            }
            self.tat = self.tat.max(now) + interval;
            true
        }
    }

    fn allowed(taken: Taken) -> bool {
        matches!(taken, Taken::Allowed { .. })
    }

    proptest! {
        /// Rates whose interval is a whole number of ticks agree with the model to the last arrival.
        #[test]
        fn it_is_gcra(
            burst in 1_u32..20,
            per_1000s in prop::sample::select(vec![500_u32, 1_000, 2_000, 10_000, 50_000, 1_000_000]),
            gaps in prop::collection::vec(0_u64..3_000, 1..200),
        ) {
            let rate = Rate { burst, per_1000s };
            let limit = Limit::new(rate).expect("on");
            let table = RateTable::new(1024);
            let key = table.key("one");
            let mut model = Model { rate, tat: 0 };
            let mut now = 0;
            for gap in gaps {
                now += gap;
                let taken = table.take(key, &limit, MonoMs(now));
                prop_assert_eq!(allowed(taken), model.take(now), "at {}", now);
            }
        }

        /// Any rate: never more than burst and average allow, and a refusal says when.
        #[test]
        fn it_never_gives_more_than_the_rate(
            burst in 1_u32..50,
            per_1000s in 1_u32..20_000_000,
            gaps in prop::collection::vec(0_u64..200, 1..200),
        ) {
            let limit = Limit::new(Rate { burst, per_1000s }).expect("on");
            let table = RateTable::new(1024);
            let key = table.key("one");
            let (mut now, mut given) = (0_u64, 0_u128);
            for gap in gaps {
                now += gap;
                match table.take(key, &limit, MonoMs(now)) {
                    Taken::Allowed { .. } => given += 1,
                    Taken::Refused { wait_ms } => {
                        prop_assert!(wait_ms > 0);
                        let late = MonoMs(now + wait_ms);
                        prop_assert!(allowed(table.take(key, &limit, late)));
                        (now, given) = (late.0, given + 1);
                    }
                }
                let average = u128::from(now) * u128::from(per_1000s) / 1_000_000;
                prop_assert!(given <= u128::from(burst) + average);
            }
        }
    }

    #[test]
    fn keys_do_not_touch_each_other() {
        let table = RateTable::new(1024);
        let limit = Limit::new(Rate::new(1, 1)).expect("on");
        let at = MonoMs(5_000);
        for i in 0..100 {
            assert!(allowed(table.take(table.key(i), &limit, at)), "{i}");
        }
        for i in 0..100 {
            assert_eq!(table.take(table.key(i), &limit, at), Taken::Refused { wait_ms: 1000 });
        }
    }

    #[test]
    fn a_flood_of_new_keys_does_not_free_the_penalised() {
        let table = RateTable::new(8);
        let (strict, loose) = (Rate::new(3, 1), Rate::new(100, 1_000));
        let (strict, loose) = (Limit::new(strict).expect("on"), Limit::new(loose).expect("on"));
        let (bad, at) = (table.key("bad"), MonoMs(10_000));
        while allowed(table.take(bad, &strict, at)) {}
        let mut evicted = 0;
        for i in 0..10_000 {
            let taken = table.take(table.key(i), &loose, at);
            evicted += u32::from(taken == Taken::Allowed { evicted_live: true });
        }
        assert!(evicted > 9_900, "{evicted}");
        assert!(!allowed(table.take(bad, &strict, at)));
    }

    #[test]
    fn threads_that_race_give_the_burst_once() {
        let table = RateTable::new(1024);
        let limit = Limit::new(Rate::new(50, 1)).expect("on");
        let key = table.key("hot");
        let given = std::sync::atomic::AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        if allowed(table.take(key, &limit, MonoMs(1))) {
                            given.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        // A thread that loses eight races in one arrival passes uncounted.
        assert!((50..=60).contains(&given.into_inner()));
    }

    #[test]
    fn off_is_off() {
        assert_eq!(Limit::new(Rate { burst: 0, per_1000s: 0 }), None);
    }
}
