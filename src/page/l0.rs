//! A worker's own small table of pages, in front of the cache that all workers share: a lookup there
//! takes a lock and moves the page in the order of eviction, which are writes that all workers see.
//!
//! A place is believed for a moment only; then the shared cache is asked again, which so learns that
//! the page is still wanted. A page that was purged, replaced or pushed out is not believed at all.

use std::sync::Arc;

use super::record::Record;
use crate::clock::MonoMs;

/// The table.
#[derive(Debug)]
pub(super) struct L0 {
    places: Box<[Option<Place>]>,
}

#[derive(Clone, Debug)]
struct Place {
    record: Arc<Record>,
    until: MonoMs,
}

impl L0 {
    pub(super) fn new() -> L0 {
        L0 { places: vec![None; PLACES].into() }
    }

    /// The record of `key`, if it was put here a moment ago, is still what the cache holds, and was
    /// judged by the `newest` purge.
    pub(super) fn get(&self, key: &[u8], now: MonoMs, newest: u64) -> Option<&Arc<Record>> {
        let place = self.places[index(key)].as_ref()?;
        // What the cache has let go was judged by none.
        let holds = now < place.until
            && place.record.checked() >= newest
            && place.record.key().bytes() == key;
        holds.then_some(&place.record)
    }

    /// Keeps what the cache holds for a key.
    pub(super) fn put(&mut self, record: &Arc<Record>, now: MonoMs) {
        let is_small = record.weight() <= WEIGHT_MAX;
        let place = Place { record: record.clone(), until: now.plus(BELIEVED_MS) };
        self.places[index(record.key().bytes())] = is_small.then_some(place);
    }
}

/// Where a key belongs. Whoever makes keys collide on purpose gains nothing: the whole key is
/// compared, and the shared cache hashes it with blake3.
fn index(key: &[u8]) -> usize {
    let mixed =
        |hash: u64, word: u64| (hash.rotate_left(5) ^ word).wrapping_mul(0x517C_C1B7_2722_0A95);
    let (words, rest) = key.as_chunks::<8>();
    let hash = words.iter().fold(0, |hash, word| mixed(hash, u64::from_le_bytes(*word)));
    let rest = rest.iter().fold(key.len() as u64, |word, byte| word << 8 | u64::from(*byte));
    usize::try_from(mixed(hash, rest) >> (64 - PLACES.ilog2())).unwrap_or(0)
}

/// Places of one worker.
const PLACES: usize = 512;
/// How long a place is believed, in milliseconds.
const BELIEVED_MS: u64 = 100;
/// A heavier record is not kept here, in bytes: what the cache has let go stays in memory until its
/// place is taken. Of such pages the copying costs so much that a lookup is nothing beside it.
const WEIGHT_MAX: u64 = 128 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::cache::FIRST;
    use crate::page::key::Fields;
    use crate::page::policy::judge::Windows;
    use crate::page::record::What;

    const NOW: MonoMs = MonoMs(1_000);

    fn record(activity: &str) -> Arc<Record> {
        let fields =
            Fields { site: "shop", host: "h", path: "/a", activity, city: None, state: None };
        let key = Arc::new(fields.key(&mut Vec::new()).to_key());
        Record::new(key, What::HitForMiss, Windows::default(), NOW)
    }

    #[test]
    fn a_record_is_found_for_a_moment() {
        let (mut l0, record) = (L0::new(), record("1"));
        let key = record.key().bytes();
        assert!(l0.get(key, NOW, FIRST).is_none());
        l0.put(&record, NOW);
        let last = NOW.plus(BELIEVED_MS - 1);
        assert!(l0.get(key, last, FIRST).is_some_and(|found| Arc::ptr_eq(found, &record)));
        assert!(l0.get(key, last.plus(1), FIRST).is_none());
    }

    #[test]
    fn what_the_cache_let_go_is_not_believed() {
        let (mut l0, record) = (L0::new(), record("1"));
        l0.put(&record, NOW);
        record.retire();
        assert!(l0.get(record.key().bytes(), NOW, FIRST).is_none());
    }

    #[test]
    fn a_newer_purge_sends_to_the_cache() {
        let (mut l0, record) = (L0::new(), record("1"));
        l0.put(&record, NOW);
        assert!(l0.get(record.key().bytes(), NOW, FIRST + 1).is_none());
        record.looked_at(FIRST, FIRST + 1);
        assert!(l0.get(record.key().bytes(), NOW, FIRST + 1).is_some());
    }

    #[test]
    fn two_keys_in_one_place_are_two_pages() {
        let records: Vec<_> = (0..4 * PLACES).map(|n| record(&n.to_string())).collect();
        let mut l0 = L0::new();
        records.iter().for_each(|record| l0.put(record, NOW));
        let found = |record: &Arc<Record>| l0.get(record.key().bytes(), NOW, FIRST).cloned();
        assert!(records.iter().all(|r| found(r).is_none_or(|found| Arc::ptr_eq(&found, r))));
        assert!(records.iter().filter(|r| found(r).is_some()).count() <= PLACES);
    }
}
