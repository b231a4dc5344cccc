//! A pool whose stock is the shop's number: what was read of it, and how far that may be trusted.
//!
//! The number is read from outside, so it is a little old, may be missing and may be wrong. Nobody is
//! admitted on a number that is unknown or older than [`READ_MAX_MS`], and no pool closes on a single
//! reading of 0.

use serde::{Deserialize, Serialize};

use crate::clock::UnixMs;
use crate::config::stock::Source;

/// Nobody is admitted on a reading older than this, in milliseconds.
pub const READ_MAX_MS: u64 = 2_000;

/// Two readings of 0 that lie so far apart, in milliseconds, with none other between them, say that
/// the shop has sold everything; one may be an order that fails in a moment.
pub const APART_MS: u64 = 200;

/// What was read of the shop's number.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Follow {
    /// Where it stands.
    pub source: Source,
    /// When the last reading that counts began; 0: the number is unknown.
    pub read_at: UnixMs,
    /// Readings that did not begin after this count no more.
    pub not_before: UnixMs,
    /// When the first of the last readings began that all said 0; 0: the last one did not.
    pub empty_since: UnixMs,
}

impl Follow {
    /// A number that nobody has read yet.
    pub fn new(source: Source) -> Follow {
        let [read_at, not_before, empty_since] = [UnixMs(0); 3];
        Follow { source, read_at, not_before, empty_since }
    }

    /// What was read counts no more, nor does a reading that is under way at `now`.
    pub fn forget(&mut self, now: UnixMs) {
        (self.read_at, self.empty_since) = (UnixMs(0), UnixMs(0));
        self.not_before = now;
    }

    /// Whether the number is known, and young enough to admit somebody.
    pub fn is_known_at(&self, now: UnixMs) -> bool {
        self.read_at != UnixMs(0) && now <= self.read_at.plus(READ_MAX_MS)
    }

    /// Whether the shop has said twice that nothing is left.
    pub fn is_empty_at(&self, now: UnixMs) -> bool {
        self.empty_since != UnixMs(0)
            && self.read_at >= self.empty_since.plus(APART_MS)
            && self.is_known_at(now)
    }
}
