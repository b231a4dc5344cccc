//! Purges as bans: a word about everything that began before it. Each has a number, the generation;
//! a page knows up to which number it was looked at, so that a hit compares two integers, and what is
//! newer is read only once for each page and purge.
//!
//! A fill has the number that was the newest when it began. What it brings is judged by every ban
//! since then, whenever it is stored and whenever it is found: nothing that was fetched before a purge
//! is served after it.
//!
//! A ban expires when everything stored was looked through and no fill is under way that began before
//! it: nothing is left that it could mean. Where such a fill takes so long that [`BANS_KEPT`] newer ones
//! have come, it expires all the same, and what the fill brings is refused.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

use super::{Mode, Purge};
use crate::page::key::Key;

/// The bans that still matter.
#[derive(Debug)]
pub(super) struct Bans {
    newest: AtomicU64,
    list: ArcSwap<List>,
    /// One adds at a time.
    turn: Mutex<()>,
}

/// Bans as they stood at one time.
#[derive(Debug)]
pub(super) struct List {
    /// What began before this cannot be judged.
    pub floor: u64,
    /// The number of the last one.
    pub newest: u64,
    /// Fills under way that began when the ban with number `floor` was the newest.
    fills: Fills,
    /// The oldest first.
    bans: Vec<Arc<Ban>>,
}

/// One purge.
#[derive(Debug)]
pub struct Ban {
    number: u64,
    /// What it is about.
    pub(super) meant: Meant,
    /// How thorough it is.
    pub(super) mode: Mode,
    /// Pages that it met.
    pub(super) found: AtomicU64,
    is_swept: AtomicBool,
    /// Fills under way that began when this was the newest.
    fills: Fills,
}

/// How many there are.
type Fills = Arc<AtomicU64>;

/// When a fill began, as long as it is under way.
#[derive(Debug)]
pub(super) struct Birth {
    /// The number of the newest ban.
    pub number: u64,
    fills: Fills,
}

/// Conditions, all of which hold for what is meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Meant {
    site: Option<Box<str>>,
    /// The host, and that of sale pages, which may be another name of the site.
    host: Option<[Box<str>; 2]>,
    path: Option<Box<str>>,
    path_prefix: Option<Box<str>>,
    activity: Option<Box<str>>,
    city: Option<Option<Box<str>>>,
    /// Its key begins so.
    pub url: Option<Box<[u8]>>,
    /// It has this tag.
    pub tag: Option<Box<str>>,
}

impl Bans {
    pub(super) fn new() -> Bans {
        let list = List { floor: 0, newest: FIRST, fills: Fills::default(), bans: Vec::new() };
        let newest = AtomicU64::new(FIRST);
        Bans { newest, list: ArcSwap::from_pointee(list), turn: Mutex::default() }
    }

    /// The number of the last ban.
    #[inline]
    pub(super) fn newest(&self) -> u64 {
        self.newest.load(Ordering::Acquire)
    }

    /// All that matter now.
    pub(super) fn list(&self) -> Arc<List> {
        self.list.load_full()
    }

    /// Adds one, which holds when this returns. Where too many wait for their sweep, it becomes one of
    /// everything: rather fetched again than not true.
    pub(super) fn add(&self, what: &Purge<'_>, mode: Mode) -> Arc<Ban> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let old = self.list();
        let number = old.newest + 1;
        let is_full = old.bans.len() >= BANS_MAX && !old.bans[0].is_swept();
        let (meant, mode) = match is_full {
            true => (Meant::default(), Mode::Hard),
            false => (Meant::of(what), mode),
        };
        let (found, is_swept, fills) = Default::default();
        let ban = Arc::new(Ban { number, meant, mode, found, is_swept, fills });
        let gone = if is_full { old.bans.len() } else { old.expired() };
        let bans = old.bans.iter().skip(gone).chain([&ban]).cloned().collect();
        self.list.store(Arc::new(List { newest: number, bans, ..old.without(gone) }));
        self.newest.store(number, Ordering::Release);
        ban
    }

    /// Forgets those that expired.
    pub(super) fn expire(&self) {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let old = self.list();
        let gone = old.expired();
        if gone > 0 {
            self.list.store(Arc::new(old.without(gone)));
        }
    }

    /// A fill begins.
    pub(super) fn birth(&self) -> Birth {
        let list = self.list.load();
        let fills = list.bans.last().map_or(&list.fills, |ban| &ban.fills);
        fills.fetch_add(1, Ordering::SeqCst);
        Birth { number: list.newest, fills: fills.clone() }
    }

    /// Whether a fill that began at `born` must not be joined any more. `tags` are unknown until its
    /// answer comes.
    pub(super) fn is_past(&self, key: &Key, tags: Option<&[Box<str>]>, born: u64) -> bool {
        if born >= self.newest() {
            return false;
        }
        let list = self.list();
        born < list.floor || list.after(born).any(|ban| ban.meant.may_be(key, tags))
    }
}

impl List {
    /// Those that came after number `from`.
    pub(super) fn after(&self, from: u64) -> impl Iterator<Item = &Arc<Ban>> {
        let first = self.bans.partition_point(|ban| ban.number <= from);
        self.bans.iter().skip(first)
    }

    /// How many of the oldest have expired. A fill that is just beginning and not counted yet is
    /// refused in the end: it is older than the floor.
    fn expired(&self) -> usize {
        let over = self.bans.len().saturating_sub(BANS_KEPT);
        let older = [&self.fills].into_iter().chain(self.bans.iter().map(|ban| &ban.fills));
        let is_over = |(at, (ban, older)): &(usize, (&Arc<Ban>, &Fills))| {
            ban.is_swept() && (*at < over || older.load(Ordering::SeqCst) == 0)
        };
        self.bans.iter().zip(older).enumerate().take_while(is_over).count()
    }

    /// The same without the oldest `gone`.
    fn without(&self, gone: usize) -> List {
        let (floor, fills) = match self.bans[..gone].last() {
            Some(last) => (last.number, last.fills.clone()),
            None => (self.floor, self.fills.clone()),
        };
        List { floor, newest: self.newest, fills, bans: self.bans[gone..].to_vec() }
    }
}

impl Drop for Birth {
    fn drop(&mut self) {
        self.fills.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Ban {
    /// Everything that was stored before it was looked through.
    pub(super) fn swept(&self) {
        self.is_swept.store(true, Ordering::Release);
    }

    fn is_swept(&self) -> bool {
        self.is_swept.load(Ordering::Acquire)
    }
}

impl Meant {
    /// The only site that is meant, if there is one.
    pub(super) fn site(&self) -> Option<&str> {
        self.site.as_deref()
    }

    fn of(what: &Purge<'_>) -> Meant {
        let some = |text: &str| Some(Box::from(text));
        let mut meant = Meant::default();
        match *what {
            Purge::All => {}
            Purge::Activity { site, activity } => {
                (meant.site, meant.activity) = (some(site), some(activity));
            }
            Purge::ActivityCity { site, activity, city } => {
                (meant.site, meant.activity) = (some(site), some(activity));
                meant.city = Some(city.map(Box::from));
            }
            Purge::Url { host, path, city } => {
                meant.host = Some([host.into(), host.into()]);
                meant.path = some(path);
                meant.city = city.map(some);
            }
            Purge::Stored { url } => meant.url = Some(url.into()),
            Purge::Host { host, canonical } => {
                meant.host = Some([host.into(), canonical.into()]);
            }
            Purge::Prefix { host, path } => {
                meant.host = host.map(|(host, canonical)| [host.into(), canonical.into()]);
                meant.path_prefix = some(path);
            }
            Purge::Tag { site, tag } => {
                (meant.site, meant.tag) = (site.and_then(some), some(tag));
            }
        }
        meant
    }

    /// Whether a page is meant.
    pub(super) fn is(&self, key: &Key, tags: &[Box<str>]) -> bool {
        self.may_be(key, Some(tags))
    }

    /// The same, where the tags may be unknown: then it may have any.
    fn may_be(&self, key: &Key, tags: Option<&[Box<str>]>) -> bool {
        if let (Some(tag), Some(tags)) = (&self.tag, tags)
            && !tags.contains(tag)
        {
            return false;
        }
        if let Some(url) = &self.url {
            return key.bytes().starts_with(url);
        }
        let fields = key.fields();
        let is = |said: &Option<Box<str>>, field: &str| said.as_ref().is_none_or(|s| **s == *field);
        let is_host = |[host, canonical]: &[Box<str>; 2]| match fields.activity {
            "" => **host == *fields.host || is_bare(host, fields.host),
            _ => **canonical == *fields.host || is_bare(canonical, fields.host),
        };
        is(&self.site, fields.site)
            && is(&self.activity, fields.activity)
            && is(&self.path, fields.path)
            && self.path_prefix.as_ref().is_none_or(|prefix| fields.path.starts_with(&**prefix))
            && self.host.as_ref().is_none_or(is_host)
            && self.city.as_ref().is_none_or(|city| city.as_deref() == fields.city)
    }
}

/// A host without a port is meant with every port, as in the config.
fn is_bare(said: &str, host: &str) -> bool {
    host.strip_prefix(said)
        .and_then(|rest| rest.strip_prefix(':'))
        .is_some_and(|port| port.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The number before the first purge. 0 is that of a page which the cache has let go.
pub(in crate::page) const FIRST: u64 = 1;

/// Bans that are kept for fills that began before them, where those take long.
const BANS_KEPT: usize = 1_024;
/// Bans that may wait for their sweep.
const BANS_MAX: usize = 4_096;
