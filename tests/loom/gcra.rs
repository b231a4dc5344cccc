//! A bucket of the table of limits: arrivals of one key, and of two that race for a slot.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread;

use crate::clock::MonoMs;
use crate::config::units::Rate;
use crate::slots::{Limit, TAT_BITS, TAT_MAX, Taken, take};

const NOW: MonoMs = MonoMs(1_000);

fn limit() -> Limit {
    Limit::new(Rate { burst: 1, per_1000s: 1_000 }).expect("on")
}

fn bucket(slots: usize) -> Arc<Vec<AtomicU64>> {
    Arc::new((0..slots).map(|_| AtomicU64::new(0)).collect())
}

/// Whether arrivals of these keys at once are allowed.
fn arrive(slots: &Arc<Vec<AtomicU64>>, tags: [u64; 2]) -> [Taken; 2] {
    let other = {
        let slots = slots.clone();
        thread::spawn(move || take(&slots, tags[0], &limit(), NOW))
    };
    let second = take(slots, tags[1], &limit(), NOW);
    [other.join().expect("no panic"), second]
}

fn is_allowed(taken: &Taken) -> bool {
    matches!(taken, Taken::Allowed { .. })
}

#[test]
fn of_two_arrivals_of_a_key_one_is_within_a_limit_of_one() {
    loom::model(|| {
        let taken = arrive(&bucket(2), [7, 7]);
        assert_eq!(taken.iter().filter(|taken| is_allowed(taken)).count(), 1, "{taken:?}");
    });
}

#[test]
fn two_keys_that_race_for_the_last_slot_leave_one_of_them_whole() {
    loom::model(|| {
        let slots = bucket(1);
        let taken = arrive(&slots, [7, 8]);
        assert!(taken.iter().all(is_allowed));
        let left = slots[0].load(Ordering::Relaxed);
        assert!([7, 8].contains(&(left >> TAT_BITS)));
        // The interval of one a second, from now on.
        assert_eq!(left & TAT_MAX, (NOW.0 + 1_000) * 16);
    });
}

#[test]
fn two_keys_with_room_for_both_are_both_remembered() {
    loom::model(|| {
        let slots = bucket(2);
        arrive(&slots, [7, 8]);
        for tag in [7, 8] {
            assert!(!is_allowed(&take(&slots, tag, &limit(), NOW)), "{tag} was forgotten");
        }
    });
}
