//! What one node tells all others, such as a purge: a stream that the nodes read behind a place of
//! their own. The bus only says that there is something; a node that was cut off reads it later.
//!
//! Nothing is skipped in silence. The entry that was read last is read again with what follows it: where
//! it is gone (the stream was trimmed, emptied, or lost by a failover) the node hears
//! [`Notice::Missed`].

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use redis::{Cmd, Value};
use tokio::time::Instant;

use super::decode;
use super::fault::{Fault, odd};
use super::keys;
use super::slot::Slot;
use super::{READ_TIMEOUT, Redis};
use crate::store::{Ear, Notice, StoreError};

/// How far one node has read.
#[derive(Default)]
pub(super) struct Notices {
    ear: OnceLock<Ear>,
    read: Mutex<Read>,
    /// Whether anything was read in this process.
    is_heard: AtomicBool,
}

/// The place behind which to read on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Read {
    /// Nothing was read yet.
    #[default]
    Nothing,
    /// There was no entry.
    Empty,
    /// The id of the last entry.
    Until(String),
}

/// An entry: its id, and what was said.
type Entry = (String, String);

impl Notices {
    /// From now on `ear` hears. Only the first one does.
    pub(super) fn listen(&self, ear: Ear) {
        let _ = self.ear.set(ear);
    }

    /// How far was heard, in words for [`Notices::resume`].
    pub(super) fn place(&self) -> Option<String> {
        if !self.is_heard.load(Ordering::Acquire) {
            return None;
        }
        match self.until() {
            Read::Nothing => None,
            Read::Empty => Some(EMPTY.to_owned()),
            Read::Until(id) => Some(id),
        }
    }

    /// Reads on behind a place that another process had reached. One that is gone is heard as missed.
    pub(super) fn resume(&self, place: &str) {
        self.set(match place {
            EMPTY => Read::Empty,
            id => Read::Until(id.to_owned()),
        });
    }

    fn until(&self) -> Read {
        self.read.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, read: Read) {
        *self.read.lock().unwrap_or_else(PoisonError::into_inner) = read;
    }
}

impl std::fmt::Debug for Notices {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Notices").field("read", &self.until()).finish_non_exhaustive()
    }
}

impl Redis {
    /// Writes `words` for every node, and says on the bus that they are there.
    pub(super) async fn tell_all(&self, words: &str, end: Instant) -> Result<(), StoreError> {
        let mut add = redis::cmd("XADD");
        add.arg(keys::NOTICES).arg("MAXLEN").arg(KEPT).arg("*").arg(FIELD).arg(words);
        let slot = Slot::of_key(keys::NOTICES);
        self.routes.send(slot, &add, end).await.map_err(blame)?;
        let mut publish = redis::cmd("PUBLISH");
        publish.arg(keys::BUS).arg(keys::NOTICE_WORD);
        // Lost or refused, the poll tells it.
        if let Err(fault) = self.routes.send(slot, &publish, end).await {
            tracing::debug!(?fault, "a notice was written and not published");
        }
        Ok(())
    }

    /// Reads what was told since the last time.
    pub(super) async fn hear_notices(&self) -> Result<(), StoreError> {
        let Some(ear) = self.notices.ear.get() else { return Ok(()) };
        let read = self.notices.until();
        let look = match &read {
            Read::Nothing => newest(),
            Read::Empty => following("-"),
            Read::Until(id) => following(id),
        };
        let slot = Slot::of_key(keys::NOTICES);
        let value = self.routes.send(slot, &look, Instant::now() + READ_TIMEOUT).await;
        let entries = entries(value.map_err(blame)?).map_err(blame)?;
        let next = entries.last().map_or(Read::Empty, |(id, _)| Read::Until(id.clone()));
        let heard = news(&read, entries);
        // The place moves only behind what was heard.
        heard.into_iter().for_each(ear);
        self.notices.set(next);
        self.notices.is_heard.store(true, Ordering::Release);
        Ok(())
    }
}

/// What `entries` say to a node that has read so far.
fn news(read: &Read, entries: Vec<Entry>) -> Vec<Notice> {
    let skipped = match read {
        Read::Nothing => return vec![Notice::Missed],
        Read::Empty if entries.len() < KEPT => 0,
        Read::Until(id) if entries.first().is_some_and(|(first, _)| first == id) => 1,
        Read::Empty | Read::Until(_) => return vec![Notice::Missed],
    };
    entries.into_iter().skip(skipped).map(|(_, words)| Notice::Said(words)).collect()
}

fn newest() -> Cmd {
    let mut look = redis::cmd("XREVRANGE");
    look.arg(keys::NOTICES).arg("+").arg("-").arg("COUNT").arg(1);
    look
}

fn following(from: &str) -> Cmd {
    let mut look = redis::cmd("XRANGE");
    look.arg(keys::NOTICES).arg(from).arg("+").arg("COUNT").arg(KEPT + 1);
    look
}

/// The entries of `XRANGE`. One without our field was written by somebody else, and says nothing.
fn entries(value: Value) -> Result<Vec<Entry>, Fault> {
    let Value::Array(all) = value else { return Err(odd(keys::NOTICES)) };
    let entry = |value| {
        let Value::Array(pair) = value else { return Err(odd(keys::NOTICES)) };
        let Ok([id, Value::Array(fields)]) = <[Value; 2]>::try_from(pair) else {
            return Err(odd(keys::NOTICES));
        };
        let words = decode::pairs(fields)?.remove(FIELD).unwrap_or_default();
        Ok((decode::text(id)?, words))
    };
    all.into_iter().map(entry).collect()
}

fn blame(fault: Fault) -> StoreError {
    match fault.is_wrong_type() {
        true => super::wrong_type(keys::NOTICES, "something else", "stream"),
        false => fault.into(),
    }
}

/// Entries that are kept: a node that was cut off for longer hears that it missed something.
const KEPT: usize = 1_000;

/// The place of a stream without entries; no id is so.
const EMPTY: &str = "-";

/// The field of an entry.
const FIELD: &str = "words";

#[cfg(test)]
mod tests {
    use super::*;

    fn said(ids: &[u32]) -> Vec<Entry> {
        ids.iter().map(|id| (format!("{id}-0"), format!("words {id}"))).collect()
    }

    fn words(ids: &[u32]) -> Vec<Notice> {
        ids.iter().map(|id| Notice::Said(format!("words {id}"))).collect()
    }

    #[test]
    fn what_follows_the_place_is_heard_once() {
        let until = Read::Until("3-0".into());
        assert_eq!(news(&until, said(&[3])), []);
        assert_eq!(news(&until, said(&[3, 4, 9])), words(&[4, 9]));
        assert_eq!(news(&Read::Empty, said(&[])), []);
        assert_eq!(news(&Read::Empty, said(&[1, 2])), words(&[1, 2]));
    }

    #[test]
    fn a_place_is_told_once_something_was_heard() {
        let notices = Notices::default();
        for (place, read) in [("-", Read::Empty), ("3-0", Read::Until("3-0".into()))] {
            notices.resume(place);
            assert_eq!(notices.until(), read);
        }
        assert_eq!(notices.place(), None, "nothing was heard in this process");
        notices.is_heard.store(true, Ordering::Release);
        assert_eq!(notices.place().as_deref(), Some("3-0"));
        notices.set(Read::Empty);
        assert_eq!(notices.place().as_deref(), Some("-"));
    }

    #[test]
    fn a_place_that_is_gone_is_said() {
        let until = Read::Until("3-0".into());
        let trimmed: Vec<u32> = (1..=1_000).collect();
        for (read, entries) in [
            (Read::Nothing, said(&[])),
            (Read::Nothing, said(&[7])),
            (until.clone(), said(&[])),
            (until, said(&[4, 5])),
            (Read::Empty, said(&trimmed)),
        ] {
            assert_eq!(news(&read, entries), [Notice::Missed], "{read:?}");
        }
    }
}
