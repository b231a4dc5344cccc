//! The store of pages, shared by all workers: what is kept, what is under way, and purges.
//!
//! A fill may store only while the table of flights still names it, and what it brings is judged by
//! the purges since it began, whenever that is looked at: see `ban.rs`.

mod ban;
mod filling;
mod index;
mod pins;
mod purge;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use dashmap::DashMap;
use dashmap::mapref::entry::Entry as Place;
use quick_cache::sync::Cache as QuickCache;
use quick_cache::{DefaultHashBuilder, Lifecycle, OptionsBuilder, Weighter};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::flight::{Flight, Held, Waiter};
use super::key::{Key, KeyRef};
use super::pace::Pace;
use super::record::Record;
use crate::clock::MonoMs;
use crate::config::Settings;
use crate::config::schema;
use crate::metrics::{Counter, Sink};

pub use ban::Ban;
pub(in crate::page) use ban::FIRST;
pub use filling::Filling;
pub use purge::{Mode, Purge};

use ban::Bans;
use index::Index;

use pins::Pins;

/// The cache, shared by all workers.
pub struct Cache {
    settings: ArcSwap<schema::Cache>,
    entry_bytes_max: usize,
    /// A heavier record has no room in its shard.
    weight_max: u64,
    records: QuickCache<Arc<Key>, Arc<Record>, ByWeight, DefaultHashBuilder, Evictions>,
    /// Pages by their tags, and what all take.
    index: Arc<Index>,
    /// Purges.
    bans: Bans,
    flights: DashMap<Arc<Key>, Arc<Flight>>,
    /// Keys of the fills that are one client's and that nobody joins, by their numbers.
    alone: DashMap<u64, Arc<Key>>,
    /// Fills under way, those that nobody joins any more too.
    fills: AtomicUsize,
    /// What they keep of their bodies, and what they may.
    held: Arc<Held>,
    evictions: AtomicU64,
    pins: Pins,
    /// Turns at making codings: more at once would only take the processors from the workers.
    encoders: Semaphore,
    /// Pages that wait for a turn.
    encoder_waits: AtomicUsize,
    /// How fast keys may come that nothing is known of.
    new_keys: Pace,
    /// The next selector's.
    pub(super) generation: AtomicU64,
    /// URLs forgotten: a fill that moves to another key meanwhile is disowned too.
    forgotten: AtomicU64,
}

/// The state of the cache, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Entries, remarks included.
    pub entries: u64,
    /// Bytes that they take: heads, bodies in every coding, keys, index and tags.
    pub bytes: u64,
    /// Bytes that fills under way keep of their bodies.
    pub fill_bytes: u64,
    /// Bytes that both may take.
    pub bytes_max: u64,
    /// Tags that pages have.
    pub tags: u64,
    /// Entries pushed out by newer ones since the start.
    pub evictions: u64,
    /// Fills under way.
    pub fills: u64,
}

/// What [`Cache::join`] came to.
pub enum Joined {
    /// Nobody was filling: the caller must.
    Began(Filling, Waiter),
    /// A fill is under way.
    Waits(Waiter),
    /// It was stored in the meantime.
    Found(Arc<Record>),
    /// Nothing is known of the key, and such keys come faster than they may.
    TooNew,
    /// There are as many fills as there may be.
    Busy,
    /// The fill has as many waiters as it may have.
    Full,
}

impl Cache {
    /// For `[cache]`.
    pub fn new(settings: &Settings) -> Arc<Cache> {
        let settings = settings.cache.clone();
        let size = settings.size.bytes;
        // A body takes at most its own length again for all its codings. What does not fit into an
        // eighth of the cache would push out everything else.
        let entry_bytes_max = settings.entry_bytes_max.bytes.min(size / 8);
        let weight_max = 2 * entry_bytes_max + OVERHEAD_BYTES_MAX;
        // quick_cache refuses what is heavier than the hot part (97 %) of one shard.
        let shards = (size / (2 * weight_max).max(1)).clamp(1, SHARDS_MAX);
        let shards = 1 << shards.ilog2();
        // The rest is for bodies of fills under way.
        let fill_bytes_max = size / FILLS_SHARE;
        let capacity = size - fill_bytes_max;
        let least = capacity.checked_div(settings.entries_max.into()).unwrap_or(0);
        let index = Arc::<Index>::default();
        let evictions = || Evictions { index: index.clone() };
        let records = OptionsBuilder::new()
            .shards(shards)
            .weight_capacity(capacity)
            .estimated_items_capacity(
                usize::try_from(capacity / ENTRY_BYTES_TYPICAL).unwrap_or(0).max(64),
            )
            .build();
        let entry_bytes_max = usize::try_from(entry_bytes_max).unwrap_or(usize::MAX);
        let records = match records {
            Ok(options) => QuickCache::with_options(
                options,
                ByWeight { least },
                DefaultHashBuilder::default(),
                evictions(),
            ),
            // Both numbers it asks for are given.
            Err(_) => {
                let weighter = ByWeight { least };
                QuickCache::with(64, capacity, weighter, DefaultHashBuilder::default(), evictions())
            }
        };
        Arc::new(Cache {
            entry_bytes_max,
            // quick_cache's own bound, and one for its rounding.
            weight_max: records.shard_capacity() / 100 * 97,
            records,
            index,
            bans: Bans::new(),
            flights: DashMap::new(),
            alone: DashMap::new(),
            fills: AtomicUsize::new(0),
            held: Held::of(fill_bytes_max),
            evictions: AtomicU64::new(0),
            pins: Pins::default(),
            encoders: Semaphore::new(ENCODERS),
            encoder_waits: AtomicUsize::new(0),
            new_keys: Pace::default(),
            generation: AtomicU64::new(1),
            forgotten: AtomicU64::new(0),
            settings: ArcSwap::from_pointee(settings),
        })
    }

    /// Its settings.
    pub fn settings(&self) -> Arc<schema::Cache> {
        self.settings.load_full()
    }

    /// Other waits and bounds for those who come from now on; the size stays.
    pub fn set(&self, settings: &schema::Cache) {
        self.settings.store(Arc::new(settings.clone()));
    }

    /// Largest body that is stored: `entry_bytes_max`, but no more than an eighth of `size`.
    pub fn entry_bytes_max(&self) -> usize {
        self.entry_bytes_max
    }

    /// What is stored under `key`.
    pub fn get(&self, key: &KeyRef<'_>) -> Option<Arc<Record>> {
        let record = self.records.get(key)?;
        if !self.is_true(*key, &record) {
            return None;
        }
        record.note_use();
        Some(record)
    }

    /// Everything that is stored and that no purge means.
    pub(super) fn all(&self) -> Vec<Arc<Record>> {
        let all = self.records.iter().map(|(_, record)| record);
        all.filter(|record| self.is_current(record)).collect()
    }

    /// The same for who only looks: it is no use of the page.
    pub fn peek(&self, key: &KeyRef<'_>) -> Option<Arc<Record>> {
        self.records.peek(key).filter(|record| self.is_true(*key, record))
    }

    /// The number of the last purge.
    #[inline]
    pub fn newest(&self) -> u64 {
        self.bans.newest()
    }

    /// Whether no purge that a page was not judged by means it.
    pub fn is_current(&self, record: &Arc<Record>) -> bool {
        self.is_true(record.key().to_ref(), record)
    }

    /// Whether fills under way may keep more of their bodies.
    pub fn has_room(&self) -> bool {
        self.held.has_room()
    }

    /// Joins the fill of `key` or begins it. `seen` is what the caller found stored: if something
    /// else is there by now, that is returned.
    pub fn join(
        self: &Arc<Self>,
        key: KeyRef<'_>,
        seen: Option<&Arc<Record>>,
        now: MonoMs,
    ) -> Joined {
        let waiters_max = self.settings.load().waiters_max as usize;
        let kept = seen.map_or_else(|| Arc::new(key.to_key()), |record| record.key().clone());
        self.disown(&kept);
        match self.flights.entry(kept.clone()) {
            Place::Occupied(place) => {
                place.get().join(waiters_max).map_or(Joined::Full, Joined::Waits)
            }
            Place::Vacant(place) => {
                // Within the lock of the table's shard: a fill stores first and leaves then.
                let stored = self.records.peek(&key).filter(|record| self.is_true(key, record));
                let is_new = |record: &Arc<Record>| seen.is_none_or(|s| !Arc::ptr_eq(s, record));
                if let Some(record) = stored.filter(is_new) {
                    return Joined::Found(record);
                }
                if seen.is_none() && !self.may_learn(now) {
                    return Joined::TooNew;
                }
                let Some(filling) = self.begin(kept, seen.cloned()) else { return Joined::Busy };
                let Some(waiter) = filling.flight.join(waiters_max) else {
                    // Unlocks the shard before `filling` is dropped, which locks it.
                    drop(place);
                    return Joined::Full;
                };
                place.insert(filling.flight.clone());
                Joined::Began(filling, waiter)
            }
        }
    }

    /// Begins a fill that nobody waits for, to renew `record`, unless one is under way or there are
    /// too many.
    pub fn refill(self: &Arc<Self>, record: &Arc<Record>, now: MonoMs) -> Option<Filling> {
        if !record.begin_refill(now) {
            return None;
        }
        self.disown(record.key());
        match self.flights.entry(record.key().clone()) {
            Place::Vacant(place) => match self.begin(record.key().clone(), Some(record.clone())) {
                Some(filling) => {
                    place.insert(filling.flight.clone());
                    return Some(filling);
                }
                None => drop(place),
            },
            Place::Occupied(place) => drop(place),
        }
        record.release();
        None
    }

    /// Begins a fill for one client alone, whom nobody joins. Where there are as many fills as there
    /// may be, or where unknown keys come too fast, it stores nothing: it is not slower than the proxy
    /// then, and takes no more memory.
    pub fn alone(
        self: &Arc<Self>,
        key: KeyRef<'_>,
        seen: Option<&Arc<Record>>,
        now: MonoMs,
    ) -> Option<(Filling, Waiter)> {
        let is_allowed = seen.is_some() || self.may_learn(now);
        let key = seen.map_or_else(|| Arc::new(key.to_key()), |record| record.key().clone());
        let counted = self.count_fill();
        let mut filling = self.filling(key.clone(), seen.cloned(), counted);
        let number = self.generation.fetch_add(1, Ordering::Relaxed);
        filling.alone = Some(number);
        if counted && is_allowed {
            self.alone.insert(number, key);
        }
        let waiter = filling.flight.join(1)?;
        Some((filling, waiter))
    }

    /// Forgets a URL with all that is stored for it, and disowns its fills: the selector goes, and
    /// without its generation nobody finds a variant again.
    pub fn invalidate(&self, url: &[u8], sink: &Sink) {
        self.forgotten.fetch_add(1, Ordering::SeqCst);
        self.flights.retain(|key, _| !key.bytes().starts_with(url));
        self.alone.retain(|_, key| !key.bytes().starts_with(url));
        if let Some((_, record)) = self.records.remove(&KeyRef::of(url)) {
            self.index.let_go(&record);
            sink.inc(Counter::CacheInvalidated);
        }
    }

    /// Nobody joins a fill any more that a purge means which came after it.
    fn disown(&self, key: &Arc<Key>) {
        let is_past = |key: &Arc<Key>, flight: &Arc<Flight>| {
            self.bans.is_past(key, flight.tags(), flight.born())
        };
        self.flights.remove_if(key, is_past);
    }

    /// A turn at making codings, which takes a processor for a while. `None`: so many pages wait for
    /// one that this is stored as it came.
    pub async fn encoding_turn(&self) -> Option<SemaphorePermit<'_>> {
        let _waits = Waits::enter(&self.encoder_waits, ENCODER_WAITS_MAX)?;
        // The semaphore is never closed.
        self.encoders.acquire().await.ok()
    }

    /// Makes room for an eighth less than there is, and pushes out what does not fit. Says whether
    /// there was anything to give; below a sixteenth of the set size there is not.
    pub fn shrink(&self, sink: &Sink) -> bool {
        let (size, least) = (self.records.weight(), self.settings.load().size.bytes / 16);
        let less = (size - size / 8).max(least);
        if less >= self.records.capacity() {
            return false;
        }
        let before = self.records.len();
        self.records.set_capacity(less);
        let evicted = before.saturating_sub(self.records.len()) as u64;
        self.evictions.fetch_add(evicted, Ordering::Relaxed);
        sink.add(Counter::CacheEvictions, evicted);
        true
    }

    /// After it was made smaller: room for a sixteenth of the set size more, up to that size, if all
    /// of its room together is at most `free` bytes. Says whether it grew.
    pub fn grow(&self, free: u64) -> bool {
        let size = self.settings.load().size.bytes;
        let (now, set) = (self.records.capacity(), size - size / FILLS_SHARE);
        let next = (now + set / 16).min(set);
        let grows = now < set && next.saturating_sub(self.records.weight()) <= free;
        if grows {
            self.records.set_capacity(next);
        }
        grows
    }

    /// The state of the cache.
    pub fn report(&self) -> Report {
        Report {
            entries: self.records.len() as u64,
            bytes: self.index.bytes(),
            fill_bytes: self.held.bytes(),
            bytes_max: self.records.capacity() + self.held.bytes_max(),
            tags: self.index.tags(),
            evictions: self.evictions.load(Ordering::Relaxed),
            fills: self.fills.load(Ordering::Relaxed) as u64,
        }
    }

    /// Puts a record in its place, if it has room there, and no purge means it that came after it was
    /// asked for.
    pub(super) fn put(&self, key: Arc<Key>, record: Arc<Record>, sink: &Sink) -> bool {
        if record.weight() > self.weight_max {
            sink.inc(Counter::CacheRefusedWeight);
            return false;
        }
        sink.inc(Counter::CacheAdmitted);
        // A key that is replaced keeps its place in the eviction order.
        if let Some(replaced) = self.records.peek(&key).filter(|r| !Arc::ptr_eq(r, &record)) {
            replaced.retire();
        }
        self.pins.settle(&key, &record, self.pinned_bytes_max());
        self.index.hold(&record);
        let mut gone = Vec::new();
        self.records.insert_with_lifecycle(key.clone(), record.clone(), &mut gone);
        let evicted = gone.iter().filter(|(is_first, _)| *is_first).count() as u64;
        if evicted > 0 {
            self.evictions.fetch_add(evicted, Ordering::Relaxed);
            sink.add(Counter::CacheEvictions, evicted);
        }
        // Only now: a purge that came before this is heard of here, and the sweep of one that comes
        // after it finds the record.
        if self.bans.is_past(record.key(), Some(record.tags()), record.born()) {
            self.take_out(key.to_ref(), &record);
            sink.inc(Counter::CacheRefusedPurged);
            return false;
        }
        record.settle();
        true
    }

    fn begin(self: &Arc<Self>, key: Arc<Key>, old: Option<Arc<Record>>) -> Option<Filling> {
        self.count_fill().then(|| self.filling(key, old, true))
    }

    /// Whether a key that nothing is known of may come now.
    fn may_learn(&self, now: MonoMs) -> bool {
        self.new_keys.allows(self.settings.load().new_keys, now)
    }

    fn count_fill(&self) -> bool {
        let fills_max = self.settings.load().fills_max as usize;
        let has_room = self.fills.fetch_add(1, Ordering::Relaxed) < fills_max;
        if !has_room {
            self.fills.fetch_sub(1, Ordering::Relaxed);
        }
        has_room
    }

    fn filling(self: &Arc<Self>, key: Arc<Key>, old: Option<Arc<Record>>, asks: bool) -> Filling {
        let window_bytes = self.entry_bytes_max.max(WINDOW_BYTES_MIN);
        let birth = self.bans.birth();
        let flight = Flight::begun(window_bytes, birth.number, self.held.clone());
        let (key, asks) = (RefCell::new(key), Cell::new(asks));
        Filling {
            cache: self.clone(),
            key,
            flight,
            birth,
            old,
            asks,
            alone: None,
            alias: RefCell::default(),
        }
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").field("report", &self.report()).finish_non_exhaustive()
    }
}

/// One that waits, counted until it is dropped.
struct Waits<'a>(&'a AtomicUsize);

impl Waits<'_> {
    fn enter(count: &AtomicUsize, max: usize) -> Option<Waits<'_>> {
        let waits = Waits(count);
        (count.fetch_add(1, Ordering::Relaxed) < max).then_some(waits)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Weighs a record by the bytes that it takes, but no less than bounds the number of entries.
#[derive(Clone)]
struct ByWeight {
    least: u64,
}

impl Weighter<Arc<Key>, Arc<Record>> for ByWeight {
    fn weight(&self, _: &Arc<Key>, record: &Arc<Record>) -> u64 {
        record.weight().max(self.least)
    }
}

/// Lets go of what is pushed out or replaced. It is kept until the lock is released; the flag says
/// whether this was the first word of its end.
#[derive(Clone)]
struct Evictions {
    index: Arc<Index>,
}

impl Lifecycle<Arc<Key>, Arc<Record>> for Evictions {
    type RequestState = Vec<(bool, Arc<Record>)>;

    fn is_pinned(&self, _: &Arc<Key>, record: &Arc<Record>) -> bool {
        record.is_pinned()
    }

    fn on_evict(&self, gone: &mut Vec<(bool, Arc<Record>)>, _: Arc<Key>, record: Arc<Record>) {
        gone.push((self.index.let_go(&record), record));
    }
}

/// Of the whole cache, so much is for bodies of fills under way: one part in this.
const FILLS_SHARE: u64 = 8;

/// More than key, fields and heads of an entry take by default settings, in bytes: four codings with
/// four heads each of at most 16 KiB.
const OVERHEAD_BYTES_MAX: u64 = 512 * 1024;

/// More shards serve no purpose: a shard's lock is held for less than a microsecond.
const SHARDS_MAX: u64 = 64;

/// For the size of the index alone.
const ENTRY_BYTES_TYPICAL: u64 = 16 * 1024;

/// Bodies that are encoded at once, in the whole process.
const ENCODERS: usize = 2;

/// Pages that wait to be encoded, in the whole process: about a second's work for small ones.
const ENCODER_WAITS_MAX: usize = 256;

/// Least window of a body that is not stored.
const WINDOW_BYTES_MIN: usize = 256 * 1024;

#[cfg(test)]
mod tests;
