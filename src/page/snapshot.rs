//! What is stored, as bytes: written when a process ends or makes way, read by the next, so that it is
//! warm. Pinned pages come first, then those that are used most, until a bound is reached.
//!
//! ```text
//! magic ─ version ─ meta ─ record ─ record ─ … ─ 0 ─ blake3 of all before
//! ```
//!
//! Each piece is its length and its bytes. Ages are kept: what is left of a page's windows is written,
//! and the time until it is read is taken off, by the wall clock. Remarks are left out.

mod form;

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::cache::Cache;
use super::record::Record;
use crate::clock::{Now, UnixMs};
use crate::metrics::Sink;

/// What is said of a snapshot as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// When it was written.
    pub written: UnixMs,
    /// The store whose purges are in it.
    pub store: String,
    /// How far those were heard, where the store tells them.
    pub place: Option<String>,
}

/// How large it may be, and until when it may be worked on.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// All of it, in bytes.
    pub bytes_max: u64,
    /// After this nothing is added any more.
    pub until: Instant,
}

/// What was written or read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Entries.
    pub entries: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Entries that a bound left out, or that are too old to be of any use.
    pub left_out: u64,
}

/// Why a snapshot is not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Something else, or another version's.
    #[error("it is no snapshot of this version")]
    Foreign,
    /// Not as it was written.
    #[error("it is torn or was changed: its checksum is another")]
    Torn,
    /// Whole, and not to be used: why.
    #[error("{0}")]
    Unfit(String),
}

impl Cache {
    /// Writes what is stored at `now`.
    pub fn write_snapshot(
        &self,
        to: impl Write,
        meta: &Meta,
        bounds: Bounds,
        now: Now,
    ) -> io::Result<Count> {
        let mut out = Out { to, hasher: blake3::Hasher::new(), bytes: 0 };
        out.write(MAGIC)?;
        out.write(&VERSION.to_le_bytes())?;
        out.piece(&serde_json::to_vec(meta)?)?;
        out.piece(&self.generation.load(Ordering::Relaxed).to_le_bytes())?;
        let mut count = Count::default();
        for record in self.by_use() {
            // What a purge took out meanwhile.
            if record.is_retired() || !self.is_current(&record) {
                continue;
            }
            let room = bounds.bytes_max.saturating_sub(out.bytes + END_BYTES);
            if Instant::now() >= bounds.until || form::bytes_min(&record) > room {
                count.left_out += 1;
                continue;
            }
            let sale = self.pinned_for(record.key());
            let Some(bytes) = form::write(&record, sale.as_ref(), now.mono) else { continue };
            if bytes.len() as u64 > room {
                count.left_out += 1;
                continue;
            }
            out.piece(&bytes)?;
            count.entries += 1;
        }
        out.write(&0u32.to_le_bytes())?;
        let hash = out.hasher.finalize();
        out.to.write_all(hash.as_bytes())?;
        out.to.flush()?;
        count.bytes = out.bytes;
        Ok(count)
    }

    /// Stores what a snapshot has, as old as it is at `now`. `is_fit` says whether it may be used.
    pub fn read_snapshot(
        &self,
        bytes: &[u8],
        is_fit: impl FnOnce(&Meta) -> Result<(), String>,
        until: Instant,
        now: Now,
        sink: &Sink,
    ) -> Result<(Meta, Count), Refused> {
        let (rest, _) = check(bytes)?;
        let mut pieces = Pieces(rest);
        let meta = pieces.next().and_then(|bytes| serde_json::from_slice(bytes).ok());
        let meta: Meta = meta.ok_or(Refused::Foreign)?;
        is_fit(&meta).map_err(Refused::Unfit)?;
        let generation = pieces.next().and_then(|bytes| bytes.try_into().ok());
        let generation = generation.map(u64::from_le_bytes).ok_or(Refused::Foreign)?;
        // Keys of variants name it: none may be given a second time.
        self.generation.fetch_max(generation, Ordering::Relaxed);
        let passed_ms = now.wall.since(meta.written);
        let mut count = Count { bytes: bytes.len() as u64, ..Count::default() };
        for piece in pieces {
            if Instant::now() >= until {
                count.left_out += 1;
                continue;
            }
            let Some((record, sale)) = form::read(piece, passed_ms, now.mono) else {
                count.left_out += 1;
                continue;
            };
            if record.page().is_some_and(|page| page.body().len() > self.entry_bytes_max()) {
                count.left_out += 1;
                continue;
            }
            // Purges that were told since it was written come by the notices.
            record.begun_at(self.newest());
            let key = record.key().clone();
            self.put(key.clone(), record, sink);
            if let Some(sale) = sale {
                self.pin(&super::key::KeyRef::of(key.bytes()), &sale);
            }
            count.entries += 1;
        }
        Ok((meta, count))
    }

    /// What is stored, remarks left out: what is pinned first, then what is used most.
    fn by_use(&self) -> Vec<Arc<Record>> {
        let mut all = self.all();
        all.retain(|record| record.page().is_some() || record.selector().is_some());
        all.sort_by_key(|record| std::cmp::Reverse((record.is_pinned(), record.uses())));
        all
    }
}

/// The pieces of a snapshot that is whole, and its hash.
fn check(bytes: &[u8]) -> Result<(&[u8], &[u8; 32]), Refused> {
    let version = VERSION.to_le_bytes();
    let rest = bytes.strip_prefix(MAGIC).and_then(|rest| rest.strip_prefix(&version));
    let (rest, hash) = rest.ok_or(Refused::Foreign)?.split_last_chunk().ok_or(Refused::Torn)?;
    let whole = bytes.len() - hash.len();
    let is_it =
        bytes.get(..whole).is_some_and(|all| blake3::hash(all) == blake3::Hash::from(*hash));
    if is_it { Ok((rest, hash)) } else { Err(Refused::Torn) }
}

/// Writes, and hashes what it writes.
struct Out<W> {
    to: W,
    hasher: blake3::Hasher,
    bytes: u64,
}

impl<W: Write> Out<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        self.to.write_all(bytes)
    }

    fn piece(&mut self, bytes: &[u8]) -> io::Result<()> {
        // `form::write` makes none that is longer.
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.write(&length.to_le_bytes())?;
        self.write(bytes)
    }
}

/// The pieces until the one without a length.
struct Pieces<'a>(&'a [u8]);

impl<'a> Iterator for Pieces<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.0.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok().filter(|l| *l > 0)?;
        let (piece, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some(piece)
    }
}

const MAGIC: &[u8] = b"penstock cache\n";
/// Rises with every change of the form: another version's is refused.
const VERSION: u32 = 2;
/// The end of a snapshot, with the length in front of a last piece.
const END_BYTES: u64 = 4 + 4 + 32;

#[cfg(test)]
mod tests;
