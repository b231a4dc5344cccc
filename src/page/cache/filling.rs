//! The right to fill a key: storing, moving to the key of a variant, giving up.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use dashmap::mapref::entry::Entry as Place;

use super::Cache;
use super::ban::Birth;
use crate::clock::MonoMs;
use crate::metrics::{Counter, Sink};
use crate::outcome::Reason;
use crate::page::flight::{Flight, Landing};
use crate::page::key::{Key, KeyRef};
use crate::page::policy::judge::Windows;
use crate::page::record::{Record, What};
use crate::page::select::Selector;

/// The right to fill a key. Dropping it ends the flight: who still waits is told.
#[derive(Debug)]
pub struct Filling {
    pub(super) cache: Arc<Cache>,
    pub(super) key: RefCell<Arc<Key>>,
    pub(super) flight: Arc<Flight>,
    /// Keeps the bans that it is judged by.
    pub(super) birth: Birth,
    /// What is stored under the key, a stale page perhaps.
    pub(super) old: Option<Arc<Record>>,
    /// Whether it counts as a fill under way.
    pub(super) asks: Cell<bool>,
    /// Its number, where it is one client's alone.
    pub(super) alone: Option<u64>,
    /// The other key of its page, by its language.
    pub(super) alias: RefCell<Option<Arc<Key>>>,
}

impl Filling {
    /// The shop has answered whole: what is left to do is ours, and another fill may begin.
    pub fn answered(&self) {
        if self.asks.replace(false) {
            self.cache.fills.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Whether it is one client's, whom nobody joins.
    pub fn is_alone(&self) -> bool {
        self.alone.is_some()
    }

    /// Whether it may still store.
    pub fn may_store(&self) -> bool {
        match self.alone {
            Some(number) => self.cache.alone.contains_key(&number),
            None => true,
        }
    }

    /// What was stored when it began.
    pub fn old(&self) -> Option<&Arc<Record>> {
        self.old.as_ref()
    }

    /// Its flight.
    pub fn flight(&self) -> &Arc<Flight> {
        &self.flight
    }

    /// Its key.
    pub fn key(&self) -> Arc<Key> {
        self.key.borrow().clone()
    }

    /// The cache.
    pub fn cache(&self) -> &Arc<Cache> {
        &self.cache
    }

    /// Stores `record` unless a purge disowned this fill, and makes room for the next fill of the
    /// key. Says whether it was stored.
    pub fn store(&self, record: Arc<Record>, sink: &Sink) -> bool {
        let key = self.key();
        if let Some(number) = self.alone {
            return self.cache.alone.remove(&number).is_some() && self.put(key, record, sink);
        }
        let Place::Occupied(place) = self.cache.flights.entry(key.clone()) else {
            return false;
        };
        if !Arc::ptr_eq(place.get(), &self.flight) {
            return false;
        }
        let is_stored = self.put(key, record, sink);
        place.remove();
        is_stored
    }

    fn put(&self, key: Arc<Key>, record: Arc<Record>, sink: &Sink) -> bool {
        record.begun_at(self.birth.number);
        if self.cache.bans.is_past(&key, Some(record.tags()), record.born()) {
            sink.inc(Counter::CacheRefusedPurged);
            return false;
        }
        if let Some(alias) = self.alias.take() {
            self.cache.put(alias, record.clone(), sink);
        }
        self.cache.put(key, record, sink)
    }

    /// The response says what selects the pages of `url`: notes that, and moves this fill to the key
    /// of its page, so that who says the same joins it there. A selector that is there and looks at
    /// more is kept. Does nothing if a purge disowned this fill.
    pub fn select(
        &self,
        url: &[u8],
        names: &[Box<str>],
        language: Option<&[u8]>,
        value: impl Fn(&str) -> Option<Vec<u8>>,
        variants_max: usize,
        sink: &Sink,
    ) {
        let (cache, old) = (&self.cache, self.key());
        let forgotten = cache.forgotten.load(Ordering::SeqCst);
        let is_owned = match self.alone {
            Some(number) => cache.alone.remove(&number).is_some(),
            None => {
                let is_it = |_: &Arc<Key>, flight: &Arc<Flight>| Arc::ptr_eq(flight, &self.flight);
                cache.flights.remove_if(&old, is_it).is_some()
            }
        };
        if !is_owned {
            return;
        }
        let stored = cache.records.peek(&KeyRef::of(url));
        let known = stored.as_ref().and_then(|record| record.selector());
        let chosen = match known {
            Some(selector) if selector.covers(names) => stored.clone(),
            _ => {
                let mut all = names.to_vec();
                all.extend(known.iter().flat_map(|selector| selector.names().iter().cloned()));
                all.sort_unstable();
                all.dedup();
                let generation = cache.generation.fetch_add(1, Ordering::Relaxed);
                let what = What::Selector(Selector::new(all, generation));
                let forever = Windows { fresh_ms: u64::MAX, ..Windows::default() };
                let key = Arc::new(KeyRef::of(url).to_key());
                let record = Record::new(key.clone(), what, forever, MonoMs(0));
                record.begun_at(self.birth.number);
                cache.put(key, record.clone(), sink);
                Some(record)
            }
        };
        let Some(selector) = chosen.as_ref().and_then(|record| record.selector()) else { return };
        let key = Arc::new(KeyRef::of(&selector.key(url, &value)).to_key());
        let alias = language.and_then(|language| selector.key_in(url, language, &value));
        let alias = alias.map(|bytes| Arc::new(KeyRef::of(&bytes).to_key()));
        for noted in [Some(&key), alias.as_ref()].into_iter().flatten() {
            if let Some(oldest) = selector.note(noted, variants_max)
                && let Some((_, record)) = cache.records.remove(&oldest)
            {
                cache.index.let_go(&record);
                sink.inc(Counter::CacheEvictions);
            }
        }
        *self.alias.borrow_mut() = alias;
        match self.alone {
            Some(number) => {
                cache.alone.insert(number, key.clone());
            }
            None => {
                if let Place::Vacant(place) = cache.flights.entry(key.clone()) {
                    place.insert(self.flight.clone());
                }
            }
        }
        *self.key.borrow_mut() = key;
        // An invalidation that looked through the table while this fill was in neither place.
        if cache.forgotten.load(Ordering::SeqCst) != forgotten {
            self.leave();
        }
    }

    /// Makes room for the next fill of the key without storing anything.
    pub fn leave(&self) {
        if let Some(number) = self.alone {
            self.cache.alone.remove(&number);
            return;
        }
        self.cache.flights.remove_if(&self.key(), |_, flight| Arc::ptr_eq(flight, &self.flight));
    }
}

impl Drop for Filling {
    fn drop(&mut self) {
        self.leave();
        self.old.iter().for_each(|record| record.release());
        self.flight.land(Landing::Failed(Reason::Internal));
        self.flight.end(false);
        self.answered();
    }
}
