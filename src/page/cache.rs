//! The store of pages, shared by all workers: what is kept, what is under way, and purges.
//!
//! A fill may store only while the table of flights still names it. A purge takes it out of the table
//! first and removes entries afterwards, so that a fill that began before a purge can never store
//! after it: the flight's own identity is the generation.

mod filling;
mod pins;

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

use super::flight::{Flight, Waiter};
use super::key::{Key, KeyRef};
use super::pace::Pace;
use super::policy::judge::Kind;
use super::record::Record;
use crate::clock::MonoMs;
use crate::config::Settings;
use crate::config::schema;
use crate::metrics::{Counter, Sink};

pub use filling::Filling;

use pins::Pins;

/// The cache, shared by all workers.
pub struct Cache {
    settings: ArcSwap<schema::Cache>,
    entry_bytes_max: usize,
    records: QuickCache<Arc<Key>, Arc<Record>, ByWeight, DefaultHashBuilder, CountEvictions>,
    flights: DashMap<Arc<Key>, Arc<Flight>>,
    /// Keys of the fills that are one client's and that nobody joins, by their numbers.
    alone: DashMap<u64, Arc<Key>>,
    /// Fills under way, those that a purge took out of the table too.
    fills: AtomicUsize,
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
    /// Purges begun: a fill that moves to another key meanwhile is disowned too.
    purges: AtomicU64,
}

/// What a purge is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purge<'a> {
    /// All pages of an activity, whatever the city.
    Activity {
        /// The site.
        site: &'a str,
        /// The activity.
        activity: &'a str,
    },
    /// The page of an activity for one city.
    ActivityCity {
        /// The site.
        site: &'a str,
        /// The activity.
        activity: &'a str,
        /// The city; `None`: the page without one.
        city: Option<&'a str>,
    },
    /// What is stored for a URL.
    Url {
        /// Host, as it is sent to the shop.
        host: &'a str,
        /// Path, without a query.
        path: &'a str,
        /// The city that the URL's query names; `None`: all of them.
        city: Option<&'a str>,
    },
    /// Everything.
    All,
}

/// How thorough a purge is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Entries are removed.
    Hard,
    /// Entries are stale at once, and still there if the shop does not answer.
    Soft,
}

/// The state of the cache, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Entries, remarks included.
    pub entries: u64,
    /// Bytes that they take.
    pub bytes: u64,
    /// Bytes that they may take.
    pub bytes_max: u64,
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
        let records = OptionsBuilder::new()
            .shards(shards)
            .weight_capacity(size)
            .estimated_items_capacity(
                usize::try_from(size / ENTRY_BYTES_TYPICAL).unwrap_or(0).max(64),
            )
            .build();
        let entry_bytes_max = usize::try_from(entry_bytes_max).unwrap_or(usize::MAX);
        let records = match records {
            Ok(options) => QuickCache::with_options(
                options,
                ByWeight,
                DefaultHashBuilder::default(),
                CountEvictions,
            ),
            // Both numbers it asks for are given.
            Err(_) => {
                QuickCache::with(64, size, ByWeight, DefaultHashBuilder::default(), CountEvictions)
            }
        };
        Arc::new(Cache {
            entry_bytes_max,
            records,
            flights: DashMap::new(),
            alone: DashMap::new(),
            fills: AtomicUsize::new(0),
            evictions: AtomicU64::new(0),
            pins: Pins::default(),
            encoders: Semaphore::new(ENCODERS),
            encoder_waits: AtomicUsize::new(0),
            new_keys: Pace::new(settings.new_keys),
            generation: AtomicU64::new(1),
            purges: AtomicU64::new(0),
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
        let record = self.records.get(key);
        record.iter().for_each(|record| record.note_use());
        record
    }

    /// Everything that is stored.
    pub(super) fn all(&self) -> Vec<Arc<Record>> {
        self.records.iter().map(|(_, record)| record).collect()
    }

    /// The same for who only looks: it is no use of the page.
    pub fn peek(&self, key: &KeyRef<'_>) -> Option<Arc<Record>> {
        self.records.peek(key)
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
        match self.flights.entry(kept.clone()) {
            Place::Occupied(place) => {
                place.get().join(waiters_max).map_or(Joined::Full, Joined::Waits)
            }
            Place::Vacant(place) => {
                // Within the lock of the table's shard: a fill stores first and leaves then.
                let stored = self.records.peek(&key);
                let is_new = |record: &Arc<Record>| seen.is_none_or(|s| !Arc::ptr_eq(s, record));
                if let Some(record) = stored.filter(is_new) {
                    return Joined::Found(record);
                }
                if seen.is_none() && !self.new_keys.allows(now) {
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
        let is_allowed = seen.is_some() || self.new_keys.allows(now);
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
        self.purges.fetch_add(1, Ordering::SeqCst);
        self.flights.retain(|key, _| !key.bytes().starts_with(url));
        self.alone.retain(|_, key| !key.bytes().starts_with(url));
        if let Some((_, record)) = self.records.remove(&KeyRef::of(url)) {
            record.retire();
            sink.inc(Counter::CacheInvalidated);
        }
    }

    /// Removes entries, or ends their freshness, and disowns the fills under way. Says how many pages
    /// it found.
    pub fn purge(&self, what: &Purge<'_>, mode: Mode, sink: &Sink) -> u64 {
        self.purges.fetch_add(1, Ordering::SeqCst);
        self.flights.retain(|key, _| !what.matches(key));
        self.alone.retain(|_, key| !what.matches(key));
        let found = AtomicU64::new(0);
        let hit = |key: &Key, record: &Record| {
            let is_hit = what.matches(key);
            if is_hit && record.stored().kind == Kind::Page {
                found.fetch_add(1, Ordering::Relaxed);
            }
            is_hit
        };
        match mode {
            Mode::Hard => self.records.retain(|key, record| {
                let is_hit = hit(key, record);
                if is_hit {
                    record.retire();
                }
                !is_hit
            }),
            Mode::Soft => {
                for (key, record) in self.records.iter() {
                    if hit(&key, &record) {
                        record.purge_softly();
                    }
                }
            }
        }
        let found = found.into_inner();
        sink.add(Counter::CachePurged, found);
        found
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
        let (now, set) = (self.records.capacity(), self.settings.load().size.bytes);
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
            bytes: self.records.weight(),
            bytes_max: self.records.capacity(),
            evictions: self.evictions.load(Ordering::Relaxed),
            fills: self.fills.load(Ordering::Relaxed) as u64,
        }
    }

    /// Puts a record in its place.
    pub(super) fn put(&self, key: Arc<Key>, record: Arc<Record>, sink: &Sink) {
        // A key that is replaced keeps its place in the eviction order.
        let replaced = self.records.peek(&key);
        replaced.iter().for_each(|record| {
            record.retire();
        });
        self.pins.settle(&key, &record, self.pinned_bytes_max());
        let mut evicted = 0;
        self.records.insert_with_lifecycle(key, record, &mut evicted);
        if evicted > 0 {
            self.evictions.fetch_add(evicted, Ordering::Relaxed);
            sink.add(Counter::CacheEvictions, evicted);
        }
    }

    fn begin(self: &Arc<Self>, key: Arc<Key>, old: Option<Arc<Record>>) -> Option<Filling> {
        self.count_fill().then(|| self.filling(key, old, true))
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
        let flight = Flight::new(self.entry_bytes_max.max(WINDOW_BYTES_MIN));
        let (key, asks) = (RefCell::new(key), Cell::new(asks));
        Filling {
            cache: self.clone(),
            key,
            flight,
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

impl Purge<'_> {
    /// Whether a page with this key is meant.
    fn matches(&self, key: &Key) -> bool {
        let fields = key.fields();
        match *self {
            Purge::Activity { site, activity } => {
                (fields.site, fields.activity) == (site, activity)
            }
            Purge::ActivityCity { site, activity, city } => {
                (fields.site, fields.activity, fields.city) == (site, activity, city)
            }
            Purge::Url { host, path, city } => {
                (fields.host, fields.path) == (host, path)
                    && (city.is_none() || fields.city == city)
            }
            Purge::All => true,
        }
    }
}

/// Weighs a record by the bytes that it takes.
#[derive(Clone)]
struct ByWeight;

impl Weighter<Arc<Key>, Arc<Record>> for ByWeight {
    fn weight(&self, _: &Arc<Key>, record: &Arc<Record>) -> u64 {
        record.weight()
    }
}

/// Retires what an insertion pushes out, and counts it unless the insertion took its place.
#[derive(Clone)]
struct CountEvictions;

impl Lifecycle<Arc<Key>, Arc<Record>> for CountEvictions {
    type RequestState = u64;

    fn is_pinned(&self, _: &Arc<Key>, record: &Arc<Record>) -> bool {
        record.is_pinned()
    }

    fn on_evict(&self, evicted: &mut u64, _: Arc<Key>, record: Arc<Record>) {
        *evicted += u64::from(record.retire());
    }
}

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
