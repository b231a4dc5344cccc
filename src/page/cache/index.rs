//! Which pages have a tag: for each site and tag the records, to be counted and removed slice by
//! slice. The lock of a tag is held for a slice at most.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry as Place;

use crate::page::record::Record;

/// The index.
#[derive(Debug, Default)]
pub(super) struct Index {
    tags: DashMap<Box<[u8]>, Members>,
    /// Bytes of records that are held.
    bytes: AtomicU64,
}

/// Records by their addresses: an order in which to go on behind any of them. Most tags are of one page.
#[derive(Debug)]
enum Members {
    One(Arc<Record>),
    Many(BTreeMap<usize, Arc<Record>>),
}

impl Index {
    /// The cache holds `record` once more.
    pub(super) fn hold(&self, record: &Arc<Record>) {
        if !record.keep() {
            return;
        }
        self.bytes.fetch_add(record.weight(), Ordering::Relaxed);
        for tag in record.tags() {
            match self.tags.entry(name(site(record), tag)) {
                Place::Occupied(mut place) => place.get_mut().add(record),
                Place::Vacant(place) => drop(place.insert(Members::One(record.clone()))),
            }
        }
    }

    /// The cache has let go of `record` in one place. Says whether this was the first word of it.
    pub(super) fn let_go(&self, record: &Arc<Record>) -> bool {
        let is_first = record.retire();
        if record.let_go() {
            self.bytes.fetch_sub(record.weight(), Ordering::Relaxed);
            for tag in record.tags() {
                if let Place::Occupied(mut place) = self.tags.entry(name(site(record), tag))
                    && place.get_mut().remove(record)
                {
                    place.remove();
                }
            }
        }
        is_first
    }

    /// The next records of a tag behind the one at `after`, and where to go on; nothing at the end.
    pub(super) fn slice(
        &self,
        site: &str,
        tag: &str,
        after: Option<usize>,
    ) -> Option<(Vec<Arc<Record>>, usize)> {
        let members = self.tags.get(&*name(site, tag))?;
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let slice: Vec<Arc<Record>> = match &*members {
            Members::One(record) if after.is_none_or(|after| after < address(record)) => {
                vec![record.clone()]
            }
            Members::One(_) => Vec::new(),
            Members::Many(members) => {
                let behind = members.range((from, Bound::Unbounded)).take(SLICE);
                behind.map(|(_, record)| record.clone()).collect()
            }
        };
        let last = address(slice.last()?);
        Some((slice, last))
    }

    /// The sites that have a tag.
    pub(super) fn sites(&self, tag: &str) -> Vec<String> {
        let suffix = [&[0], tag.as_bytes()].concat();
        let site = |name: &[u8]| {
            let site = name.strip_suffix(&*suffix)?;
            (!site.contains(&0)).then(|| String::from_utf8_lossy(site).into_owned())
        };
        self.tags.iter().filter_map(|entry| site(entry.key())).collect()
    }

    /// Tags that pages have.
    pub(super) fn tags(&self) -> u64 {
        self.tags.len() as u64
    }

    /// Bytes that the held records take.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

impl Members {
    fn add(&mut self, record: &Arc<Record>) {
        match self {
            Members::One(one) => {
                let both = [one.clone(), record.clone()].map(|record| (address(&record), record));
                *self = Members::Many(both.into());
            }
            Members::Many(members) => drop(members.insert(address(record), record.clone())),
        }
    }

    /// Says whether nothing is left.
    fn remove(&mut self, record: &Arc<Record>) -> bool {
        match self {
            Members::One(one) => Arc::ptr_eq(one, record),
            Members::Many(members) => {
                members.remove(&address(record));
                members.is_empty()
            }
        }
    }
}

/// No name of a site has a zero byte.
fn name(site: &str, tag: &str) -> Box<[u8]> {
    [site.as_bytes(), &[0], tag.as_bytes()].concat().into()
}

fn site(record: &Record) -> &str {
    record.key().fields().site
}

fn address(record: &Arc<Record>) -> usize {
    Arc::as_ptr(record).addr()
}

/// Records that are taken under one lock.
const SLICE: usize = 256;
