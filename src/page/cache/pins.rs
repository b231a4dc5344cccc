//! Pins: pages that are not pushed out until their sale ends, whatever else is stored. A pin is on the
//! key, so that what is filled next is pinned again; together pins take at most half of the cache.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Cache;
use crate::ident::SaleId;
use crate::page::key::{Key, KeyRef};
use crate::page::record::Record;

/// What is pinned.
#[derive(Debug, Default)]
pub(super) struct Pins {
    kept: Mutex<Kept>,
    /// How many there are: fills look here before they take the lock.
    count: AtomicUsize,
}

#[derive(Debug, Default)]
struct Kept {
    pins: HashMap<Arc<Key>, Pin>,
    bytes: u64,
}

#[derive(Debug)]
struct Pin {
    sale: SaleId,
    /// What its page takes; 0 where none was stored, or where it was too large to be pinned.
    bytes: u64,
}

impl Pins {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Pins what is stored from now on under a key that is pinned, before it is.
    pub(super) fn settle(&self, key: &Arc<Key>, record: &Record, bytes_max: u64) {
        if self.count.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut kept = self.lock();
        let kept = &mut *kept;
        let Some(pin) = kept.pins.get_mut(key) else { return };
        kept.bytes -= pin.bytes;
        pin.bytes = if record.page().is_some() { record.weight() } else { 0 };
        let fits = kept.bytes.saturating_add(pin.bytes) <= bytes_max;
        if !fits {
            tracing::warn!(path = key.fields().path, "a pinned page grew too large to be pinned");
            pin.bytes = 0;
        }
        kept.bytes += pin.bytes;
        record.set_pinned(fits && pin.bytes > 0);
    }
}

impl Cache {
    /// Pins the page under `key` for `sale`. Says whether it is pinned: there is a page, and pins have
    /// room for it.
    pub fn pin(&self, key: &KeyRef<'_>, sale: &SaleId) -> bool {
        let Some(record) = self.peek(key).filter(|record| record.page().is_some()) else {
            return false;
        };
        let mut kept = self.pins.lock();
        let old = kept.pins.get(record.key()).map_or(0, |pin| pin.bytes);
        let bytes = kept.bytes - old + record.weight();
        let has_place = kept.pins.contains_key(record.key()) || kept.pins.len() < PINS_MAX;
        if bytes > self.pinned_bytes_max() || !has_place {
            return false;
        }
        kept.bytes = bytes;
        let pin = Pin { sale: sale.clone(), bytes: record.weight() };
        kept.pins.insert(record.key().clone(), pin);
        self.pins.count.store(kept.pins.len(), Ordering::Release);
        record.set_pinned(true);
        drop(kept);
        // Pushed out or replaced in the same moment: what came in its place was settled, or is missing.
        !record.is_retired() || self.peek(key).is_some_and(|record| record.is_pinned())
    }

    /// Ends the pins of the sales that `is_over` says. Says how many.
    pub fn unpin(&self, is_over: impl Fn(&SaleId) -> bool) -> u64 {
        if self.pins.count.load(Ordering::Acquire) == 0 {
            return 0;
        }
        let mut kept = self.pins.lock();
        let kept = &mut *kept;
        let before = kept.pins.len();
        let bytes = &mut kept.bytes;
        kept.pins.retain(|key, pin| {
            let stays = !is_over(&pin.sale);
            if !stays {
                *bytes -= pin.bytes;
                if let Some(record) = self.records.peek(key) {
                    record.set_pinned(false);
                }
            }
            stays
        });
        self.pins.count.store(kept.pins.len(), Ordering::Release);
        (before - kept.pins.len()) as u64
    }

    /// How many pages are pinned that are stored, and their bytes.
    pub fn pinned(&self) -> (u64, u64) {
        if self.pins.count.load(Ordering::Acquire) == 0 {
            return (0, 0);
        }
        let kept = self.pins.lock();
        let stored = kept.pins.keys().filter_map(|key| self.records.peek(key));
        let pinned = stored.filter(|record| record.is_pinned());
        pinned.fold((0, 0), |(count, bytes), record| (count + 1, bytes + record.weight()))
    }

    /// The sale that a key is pinned for.
    pub fn pinned_for(&self, key: &Arc<Key>) -> Option<SaleId> {
        self.pins.lock().pins.get(key).map(|pin| pin.sale.clone())
    }

    /// What pins may take together.
    pub(super) fn pinned_bytes_max(&self) -> u64 {
        self.records.capacity() / 2
    }
}

/// Keys that may be pinned: every page of the largest sale, and some.
const PINS_MAX: usize = 65_536;
