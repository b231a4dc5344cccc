//! What is remembered of client addresses: connections that are open, and how fast they came. A
//! bounded table: an address without an open connection is forgotten when there is no more to know.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::clock::MonoMs;
use crate::config::units::Rate;

/// An address as it is counted: a /64 in IPv6, since one client has all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key(IpAddr);

impl Key {
    pub(super) fn of(address: IpAddr) -> Key {
        Key(match address.to_canonical() {
            IpAddr::V4(address) => IpAddr::V4(address),
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        })
    }
}

/// Open connections and rates, by address.
#[derive(Debug)]
pub(super) struct Addresses {
    shards: [Mutex<Shard>; SHARDS],
    hasher: RandomState,
}

#[derive(Debug, Default)]
struct Shard {
    entries: HashMap<Key, Entry>,
    /// When entries were last looked through.
    swept_at: MonoMs,
}

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    open: u32,
    /// GCRA: when the bucket is full again, in microseconds of the monotonic clock.
    full_at_us: u64,
}

impl Addresses {
    pub(super) fn new() -> Addresses {
        Addresses { shards: std::array::from_fn(|_| Mutex::default()), hasher: RandomState::new() }
    }

    /// Counts one more connection of `key`, unless it has `open_max` already or they come faster than
    /// `rate`.
    pub(super) fn open(&self, key: Key, now: MonoMs, open_max: u32, rate: Rate) -> bool {
        let mut shard = self.shard(key);
        shard.make_room(now);
        let now_us = now.0.saturating_mul(1000);
        let entry = shard.entries.entry(key).or_default();
        if entry.open >= open_max || !entry.conforms(rate, now_us) {
            return false;
        }
        entry.open += 1;
        true
    }

    /// A connection of `key` ended.
    pub(super) fn close(&self, key: Key, now: MonoMs) {
        let mut shard = self.shard(key);
        if let Some(entry) = shard.entries.get_mut(&key) {
            entry.open = entry.open.saturating_sub(1);
            if entry.is_forgettable(now) {
                shard.entries.remove(&key);
            }
        }
    }

    fn shard(&self, key: Key) -> MutexGuard<'_, Shard> {
        let at = self.hasher.hash_one(key) as usize % SHARDS;
        self.shards[at].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shard {
    /// Keeps the number of idle entries bounded. Those with open connections are bounded by the cap
    /// on connections.
    fn make_room(&mut self, now: MonoMs) {
        if self.entries.len() < IDLE_MAX || now.since(self.swept_at) < SWEEP_EVERY_MS {
            return;
        }
        self.swept_at = now;
        self.entries.retain(|_, entry| !entry.is_forgettable(now));
        let idle = self.entries.values().filter(|entry| entry.open == 0).count();
        if idle >= IDLE_MAX {
            // More addresses than we remember rates of: all begin anew rather than grow.
            self.entries.retain(|_, entry| entry.open > 0);
        }
    }
}

impl Entry {
    fn is_forgettable(&self, now: MonoMs) -> bool {
        self.open == 0 && self.full_at_us <= now.0.saturating_mul(1000)
    }

    /// The generic cell rate algorithm: `rate.burst` at once, `rate.per_1000s` a second on average.
    fn conforms(&mut self, rate: Rate, now_us: u64) -> bool {
        if rate.is_off() {
            return true;
        }
        let each_us = 1_000_000_000 / u64::from(rate.per_1000s.max(1));
        let next = self.full_at_us.max(now_us) + each_us;
        if next - now_us > each_us.saturating_mul(u64::from(rate.burst)) {
            return false;
        }
        self.full_at_us = next;
        true
    }
}

const SHARDS: usize = 16;
/// Entries of a shard that may be kept only for their rate.
const IDLE_MAX: usize = 4096;
/// A sweep walks a shard: not more often than this.
const SWEEP_EVERY_MS: u64 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Key {
        Key::of(text.parse().unwrap())
    }

    /// A table with bounds of its own.
    struct Table(Addresses, u32, Rate);

    impl Table {
        fn open(&self, key: Key, now: MonoMs) -> bool {
            self.0.open(key, now, self.1, self.2)
        }

        fn close(&self, key: Key, now: MonoMs) {
            self.0.close(key, now);
        }
    }

    fn table(open_max: u32, rate: Rate) -> Table {
        Table(Addresses::new(), open_max, rate)
    }

    #[test]
    fn an_address_has_so_many_connections() {
        let table = table(2, Rate { burst: 0, per_1000s: 0 });
        let (one, other) = (key("10.0.0.1"), key("10.0.0.2"));
        assert!(table.open(one, MonoMs(1)) && table.open(one, MonoMs(1)));
        assert!(!table.open(one, MonoMs(1)));
        assert!(table.open(other, MonoMs(1)));
        table.close(one, MonoMs(2));
        assert!(table.open(one, MonoMs(2)));
    }

    #[test]
    fn connections_come_so_fast() {
        let table = table(100, Rate::new(3, 10));
        let one = key("10.0.0.1");
        let come = |ms| {
            let came = table.open(one, MonoMs(ms));
            if came {
                table.close(one, MonoMs(ms));
            }
            came
        };
        assert_eq!([come(5), come(5), come(5), come(5)], [true, true, true, false]);
        assert_eq!([come(105), come(105)], [true, false]);
        assert_eq!([come(1000), come(1000), come(1000), come(1000)], [true, true, true, false]);
    }

    #[test]
    fn a_64_is_one_client_and_a_mapped_address_is_itself() {
        assert_eq!(key("2001:db8::1"), key("2001:db8::ffff:0:0:1"));
        assert_ne!(key("2001:db8::1"), key("2001:db8:0:1::1"));
        assert_eq!(key("::ffff:10.0.0.1"), key("10.0.0.1"));
    }

    #[test]
    fn a_million_addresses_take_bounded_memory() {
        let table = table(10, Rate::new(10, 1));
        for n in 0..1_000_000u32 {
            let key = Key::of(IpAddr::V4(n.into()));
            let now = MonoMs(u64::from(n) / 1000);
            assert!(table.open(key, now), "{n}");
            table.close(key, now);
        }
        let kept: usize = table.0.shards.iter().map(|s| s.lock().unwrap().entries.len()).sum();
        assert!(kept < SHARDS * IDLE_MAX * 3, "{kept}");
    }
}
