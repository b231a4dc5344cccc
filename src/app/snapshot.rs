//! The cache's snapshot as a file: written when the node drains or makes way, and read, once, by the
//! next process before it serves. What is read is removed: a crash never brings back what was purged
//! since.
//!
//! Purges: a store that tells them to all nodes has a place, which is in the snapshot; the next process
//! reads on behind it, and keeps nothing of the snapshot if it cannot. Where nobody tells them, no purge
//! is taken between the writing and the end of the process.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, ErrorKind};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::Node;
use crate::admin::Context;
use crate::clock::{Clock, Now};
use crate::config::Settings;
use crate::metrics::{Counter, Sink};
use crate::page::snapshot::{Bounds, Count, Meta, Refused};
use crate::page::{Cache, Mode, Purge};
use crate::store::Store;

/// Writes it. From now on no purge is taken where only this process would hear of it.
pub(super) async fn save(node: &Node) {
    let settings = &node.settings;
    let (bytes_max, longest) =
        (settings.cache.snapshot_size.bytes, settings.cache.snapshot_timeout);
    if bytes_max == 0 {
        return;
    }
    let store = &node.ledger.store;
    if !store.carries_notices() {
        // Waits for the purge that is under way.
        *node.context.purges_end.write().await = true;
    }
    let place = store.notices_place();
    if store.carries_notices() && place.is_none() {
        return tracing::warn!(
            "cache.snapshot: none is written: purges of other nodes were not heard, so that nobody \
             knows what of the cache is still true"
        );
    }
    let now = node.context.clock.now();
    let meta = Meta { written: now.wall, store: store_name(settings), place };
    let bounds = Bounds { bytes_max, until: Instant::now() + longest.duration() };
    let (cache, path) = (node.kit.cache.clone(), path(settings));
    let turn = Arc::new(AtomicU8::new(OPEN));
    let theirs = turn.clone();
    let work = move || write(&cache, &path, &meta, bounds, now, &theirs);
    let longest = longest.duration() + DISK_LONGEST;
    match tokio::time::timeout(longest, tokio::task::spawn_blocking(work)).await {
        Ok(Ok(Ok(Count { entries, bytes, left_out }))) => {
            node.context.sink.inc(Counter::SnapshotsWritten);
            tracing::info!("cache.snapshot: {entries} entries, {bytes} bytes; {left_out} left out");
        }
        Ok(Ok(Err(cause))) => failed(&node.context, &cause.to_string()),
        Ok(Err(panic)) => failed(&node.context, &panic.to_string()),
        // The thread may hang in a disk; what it ends with then is not put in place.
        Err(_) if turn.swap(GIVEN_UP, Ordering::SeqCst) == OPEN => {
            failed(&node.context, "the disk takes too long");
        }
        // It was done in the same moment.
        Err(_) => {}
    }
}

fn failed(context: &Context, cause: &str) {
    context.sink.inc(Counter::SnapshotsFailed);
    tracing::error!("cache.snapshot: cannot be written: {cause}; the next start is cold");
}

/// No other process takes over: purges are taken again, and what was written is none of theirs.
pub(super) async fn forget(node: &Node) {
    *node.context.purges_end.write().await = false;
    let path = path(&node.settings);
    // It may be gone, read by a process that did not come up.
    let _ = tokio::task::spawn_blocking(move || fs::remove_file(path)).await;
}

fn write(
    cache: &Cache,
    path: &Path,
    meta: &Meta,
    bounds: Bounds,
    now: Now,
    turn: &AtomicU8,
) -> io::Result<Count> {
    let part = path.with_extension("snapshot.new");
    let written = write_part(cache, &part, meta, bounds, now).and_then(|count| {
        match turn.compare_exchange(OPEN, DONE, Ordering::SeqCst, Ordering::SeqCst) {
            Ok(_) => fs::rename(&part, path).map(|()| count),
            Err(_) => Err(io::Error::other("it took too long")),
        }
    });
    if written.is_err() {
        // The journal may need the room.
        let _ = fs::remove_file(&part);
    }
    written
}

fn write_part(
    cache: &Cache,
    part: &Path,
    meta: &Meta,
    bounds: Bounds,
    now: Now,
) -> io::Result<Count> {
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(part)?;
    let mut buffer = BufWriter::with_capacity(BUFFER_BYTES, file);
    let count = cache.write_snapshot(&mut buffer, meta, bounds, now)?;
    let file = buffer.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.sync_all()?;
    Ok(count)
}

/// Reads it, before the first client comes and before the store tells what was purged. Whatever is
/// wrong with it, the node starts. Says whether anything was read.
pub(super) async fn load(
    settings: &Settings,
    cache: &Arc<Cache>,
    store: &Arc<dyn Store>,
    clock: &Clock,
    sink: &Sink,
) -> bool {
    let bytes_max = settings.cache.snapshot_size.bytes;
    let path = path(settings);
    let taken = tokio::task::spawn_blocking(move || take(&path, bytes_max)).await;
    let bytes = match taken {
        Ok(Ok(Some(bytes))) => bytes,
        Ok(Ok(None)) => return false,
        Ok(Err(cause)) => return refused(sink, &cause),
        Err(panic) => return refused(sink, &panic),
    };
    let (name, carries) = (store_name(settings), store.carries_notices());
    let (age_ms_max, now) = (settings.cache.snapshot_age_max.ms, clock.now());
    let until = Instant::now() + settings.cache.snapshot_timeout.duration();
    let (cache, counts) = (cache.clone(), sink.clone());
    let work = move || {
        let is_fit = |meta: &Meta| fit(meta, &name, carries, age_ms_max, now);
        cache.read_snapshot(&bytes, is_fit, until, now, &counts)
    };
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok((meta, Count { entries, bytes, left_out }))) => {
            if let Some(place) = &meta.place {
                store.resume_notices(place);
            }
            sink.inc(Counter::SnapshotsRead);
            let age_s = now.wall.since(meta.written) / 1000;
            tracing::info!(
                "cache.snapshot: {entries} entries of {age_s} s ago, {bytes} bytes; {left_out} left out"
            );
            true
        }
        Ok(Err(why)) => refused::<Refused>(sink, &why),
        Err(panic) => refused(sink, &panic),
    }
}

fn refused<E: std::fmt::Display>(sink: &Sink, why: &E) -> bool {
    sink.inc(Counter::SnapshotsRefused);
    tracing::warn!("cache.snapshot: not used: {why}; the cache begins empty");
    false
}

/// Whether what purges there were since can be known, and the pages are not too old.
fn fit(meta: &Meta, store: &str, carries: bool, age_ms_max: u64, now: Now) -> Result<(), String> {
    if meta.store != store || meta.place.is_some() != carries {
        return Err("it was written with another store, whose purges are not known".to_owned());
    }
    let ahead_ms = meta.written.since(now.wall);
    if ahead_ms > CLOCK_BACK_MS_MAX {
        return Err("it is from the future: this machine's clock was set back".to_owned());
    }
    let age_ms = now.wall.since(meta.written);
    if age_ms > age_ms_max {
        let age_s = age_ms / 1000;
        return Err(format!("it is {age_s} s old, more than cache.snapshot_age_max allows"));
    }
    Ok(())
}

/// What the store could not confirm must not be served: the pages of a snapshot that was read may have
/// been purged since. For who has waited for the store already.
pub(super) fn confirm(is_warm: bool, cache: &Cache, store: &Arc<dyn Store>, sink: &Sink) {
    if is_warm && store.carries_notices() && store.notices_place().is_none() {
        let purged = cache.purge(&Purge::All, Mode::Hard, sink);
        tracing::warn!(
            "cache.snapshot: {purged} pages dropped: the store does not say what was purged since"
        );
    }
}

/// Its bytes; the file is gone then. `None`: there is none.
fn take(path: &Path, bytes_max: u64) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(cause) if cause.kind() == ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(cause),
    };
    fs::remove_file(path)?;
    let length = file.metadata()?.len();
    if length > bytes_max {
        return Err(io::Error::other(format!("{length} bytes are more than cache.snapshot_size")));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
    // One that grows meanwhile is not ours.
    io::Read::read_to_end(&mut io::Read::take(file, bytes_max), &mut bytes)?;
    Ok(Some(bytes))
}

fn path(settings: &Settings) -> PathBuf {
    settings.state_dir().join("cache.snapshot")
}

/// Another store has other purges. Its address may hold a password: a hash is enough.
fn store_name(settings: &Settings) -> String {
    let store = &settings.store;
    let said = serde_json::to_string(&(store.kind, &store.url)).unwrap_or_default();
    blake3::hash(said.as_bytes()).to_hex()[..16].to_owned()
}

const OPEN: u8 = 0;
const DONE: u8 = 1;
const GIVEN_UP: u8 = 2;
const BUFFER_BYTES: usize = 1 << 20;
/// For the disk to have all of it, beyond `cache.snapshot_timeout`.
const DISK_LONGEST: Duration = Duration::from_secs(3);
/// A clock that is corrected by so much says nothing.
const CLOCK_BACK_MS_MAX: u64 = 1_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::UnixMs;

    fn meta(written: u64, place: Option<&str>) -> Meta {
        Meta { written: UnixMs(written), store: "a".to_owned(), place: place.map(str::to_owned) }
    }

    #[test]
    fn only_what_is_young_and_whose_purges_are_known_is_fit() {
        let now = Now { wall: UnixMs(100_000), ..Now::default() };
        let is_fit = |meta: Meta, carries| fit(&meta, "a", carries, 10_000, now).is_ok();
        assert!(is_fit(meta(90_000, None), false) && is_fit(meta(100_500, Some("-")), true));
        assert!(!is_fit(meta(89_999, None), false), "too old");
        assert!(!is_fit(meta(101_001, None), false), "the clock was set back");
        assert!(!is_fit(meta(99_000, None), true) && !is_fit(meta(99_000, Some("1-0")), false));
        assert!(!is_fit(Meta { store: "b".to_owned(), ..meta(99_000, None) }, false));
    }

    #[test]
    fn what_is_read_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cache.snapshot");
        assert_eq!(take(&path, 9).unwrap(), None);
        fs::write(&path, "123456789").unwrap();
        assert_eq!(take(&path, 9).unwrap().as_deref(), Some(&b"123456789"[..]));
        assert!(!path.exists());
        fs::write(&path, "1234567890").unwrap();
        assert!(take(&path, 9).is_err() && !path.exists());
    }
}
