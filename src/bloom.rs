//! A Bloom filter over users: whether something may be known of a user, at the price of two reads.
//!
//! The tables that hold what is known are behind locks, and a lock that is taken to read is a write
//! that all processors see. Of nearly everybody in a crowd nothing is known.
//! (B. H. Bloom, *Space/time trade-offs in hash coding with allowable errors*, 1970.)

use std::sync::atomic::{AtomicU64, Ordering};

use crate::ident::UserKey;

/// Users of whom something was ever known. It only grows: a user who was forgotten costs a lookup.
#[derive(Debug)]
pub struct Bloom {
    words: Box<[AtomicU64]>,
}

impl Bloom {
    /// A filter that is wrong about one in 40 while it holds at most `users`.
    pub fn new(users: u64) -> Bloom {
        let words = (users.saturating_mul(BITS_PER_USER) / 64).next_power_of_two();
        let words = usize::try_from(words).unwrap_or(1).max(1);
        Bloom { words: std::iter::repeat_with(AtomicU64::default).take(words).collect() }
    }

    /// Something is known of `user` from now on. Comes before whatever is written about the user.
    pub fn add(&self, user: &UserKey) {
        for (word, bit) in self.bits(user) {
            word.fetch_or(bit, Ordering::AcqRel);
        }
    }

    /// Whether something may be known of `user`; `false` is certain.
    pub fn may_know(&self, user: &UserKey) -> bool {
        self.bits(user).iter().all(|(word, bit)| word.load(Ordering::Acquire) & bit != 0)
    }

    /// Two bits. A user's key is a hash with a secret: its parts are as good as hashes of their own.
    fn bits(&self, user: &UserKey) -> [(&AtomicU64, u64); 2] {
        let key = u128::from_le_bytes(user.0);
        [key as u64, (key >> 64) as u64].map(|half| {
            let at = (half >> 6) as usize & (self.words.len() - 1);
            (&self.words[at], 1 << (half & 63))
        })
    }
}

const BITS_PER_USER: u64 = 12;

#[cfg(test)]
mod tests {
    use super::*;

    fn user(n: u64) -> UserKey {
        let hash = blake3::hash(&n.to_le_bytes());
        let mut key = [0; 16];
        key.copy_from_slice(&hash.as_bytes()[..16]);
        UserKey(key)
    }

    #[test]
    fn nobody_who_was_added_is_missed_and_few_others_are_taken_for_them() {
        let bloom = Bloom::new(10_000);
        (0..10_000).for_each(|n| bloom.add(&user(n)));
        assert!((0..10_000).all(|n| bloom.may_know(&user(n))));
        let wrong = (10_000..20_000).filter(|n| bloom.may_know(&user(*n))).count();
        assert!(wrong < 250, "{wrong} of 10,000");
    }

    #[test]
    fn the_smallest_filter_works() {
        let bloom = Bloom::new(0);
        assert!(!bloom.may_know(&user(1)));
        bloom.add(&user(1));
        assert!(bloom.may_know(&user(1)));
    }
}
