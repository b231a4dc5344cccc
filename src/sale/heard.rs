//! When the store was heard about a sale. Written by who brings news, read by every request.

use crate::clock::MonoMs;
use crate::sync::atomic::{AtomicU64, Ordering};

/// What changes without a new version: when the store was heard, and since when there is no room.
#[derive(Debug, Default)]
pub struct Heard {
    at: AtomicU64,
    /// Since when no pool has room, 0 where one has.
    full_since: AtomicU64,
}

impl Heard {
    /// When the store was last heard.
    pub fn at(&self) -> MonoMs {
        MonoMs(self.at.load(Ordering::Relaxed))
    }

    /// Since when no pool has room; `None` where one has.
    pub fn full_since(&self) -> Option<MonoMs> {
        let since = self.full_since.load(Ordering::Relaxed);
        (since != 0).then_some(MonoMs(since))
    }

    /// The store was heard at `at`; `has_room` says whether a unit may be admitted.
    pub fn note(&self, at: MonoMs, has_room: bool) {
        self.at.fetch_max(at.0, Ordering::Relaxed);
        if has_room {
            self.full_since.store(0, Ordering::Relaxed);
        } else {
            let since = at.0.max(1);
            let _ =
                self.full_since.compare_exchange(0, since, Ordering::Relaxed, Ordering::Relaxed);
        }
    }
}
