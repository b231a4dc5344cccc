//! Purges: what they mean, how what is stored is judged by them, and the sweep that removes it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Cache;
use super::ban::Ban;
use crate::metrics::{Counter, Sink};
use crate::page::key::KeyRef;
use crate::page::policy::judge::Kind;
use crate::page::record::Record;

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
    /// What is stored for the URL of a sale page.
    Url {
        /// Host, as it is sent to the shop.
        host: &'a str,
        /// Path, without a query.
        path: &'a str,
        /// The city that the URL's query names; `None`: all of them.
        city: Option<&'a str>,
    },
    /// What is stored for a URL of an ordinary route: all its variants.
    Stored {
        /// What its keys begin with, see [`super::super::key::Url`].
        url: &'a [u8],
    },
    /// Everything of a host.
    Host {
        /// The host; without a port, with every port.
        host: &'a str,
        /// The host of its sale pages: the first of its site.
        canonical: &'a str,
    },
    /// Everything whose path begins so, of one host or of all.
    Prefix {
        /// The host, and that of its sale pages; `None`: all.
        host: Option<(&'a str, &'a str)>,
        /// What the path begins with.
        path: &'a str,
    },
    /// Everything that the shop gave this tag by `Surrogate-Key` or `Cache-Tag`.
    Tag {
        /// The site; `None`: all.
        site: Option<&'a str>,
        /// The tag.
        tag: &'a str,
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

impl Cache {
    /// Purges: [`Cache::ban`] and [`Cache::sweep`] at once. Says how many pages it met.
    pub fn purge(&self, what: &Purge<'_>, mode: Mode, sink: &Sink) -> u64 {
        let ban = self.ban(what, mode);
        self.sweep(&ban, sink)
    }

    /// From now on nothing that is meant is served (softly: served as fresh), and nothing of it that
    /// was asked for before is stored or joined. Takes microseconds, whatever is stored.
    pub fn ban(&self, what: &Purge<'_>, mode: Mode) -> Arc<Ban> {
        self.bans.add(what, mode)
    }

    /// Removes what `ban` means, or ends its freshness, slice by slice: no lock is held for longer
    /// than some microseconds. For a thread that serves nobody. Says how many pages the ban met, those
    /// too that requests found first.
    pub fn sweep(&self, ban: &Ban, sink: &Sink) -> u64 {
        match (&ban.meant.tag, &ban.meant.url) {
            (Some(tag), _) => self.sweep_tag(ban, tag),
            (None, Some(url)) => self.sweep_url(url),
            (None, None) => self.sweep_all(),
        }
        ban.swept();
        self.bans.expire();
        let found = ban.found.load(Ordering::Relaxed);
        sink.add(Counter::CachePurged, found);
        found
    }

    fn sweep_tag(&self, ban: &Ban, tag: &str) {
        let sites = match ban.meant.site() {
            Some(site) => vec![site.to_owned()],
            None => self.index.sites(tag),
        };
        for site in sites {
            let mut after = None;
            while let Some((slice, last)) = self.index.slice(&site, tag, after) {
                for record in slice {
                    self.is_true(record.key().to_ref(), &record);
                }
                after = Some(last);
                std::thread::yield_now();
            }
        }
    }

    fn sweep_url(&self, url: &[u8]) {
        let mut keys = vec![Arc::new(KeyRef::of(url).to_key())];
        if let Some(record) = self.records.peek(&KeyRef::of(url)) {
            keys.extend(record.selector().into_iter().flat_map(|selector| selector.variants()));
        }
        // The selector last: what it names is found by it.
        for key in keys.into_iter().rev() {
            if let Some(record) = self.records.peek(&key.to_ref()) {
                self.is_true(key.to_ref(), &record);
            }
        }
    }

    fn sweep_all(&self) {
        for (at, (key, record)) in self.records.iter().enumerate() {
            self.is_true(key.to_ref(), &record);
            if at % SLICE == SLICE - 1 {
                std::thread::yield_now();
            }
        }
    }

    /// Whether what stands under `key` may still be served: no purge since it was asked for means it.
    /// One comparison where there was no purge since it was last looked at.
    #[inline]
    pub(super) fn is_true(&self, key: KeyRef<'_>, record: &Arc<Record>) -> bool {
        record.checked() >= self.bans.newest() || self.look_again(key, record)
    }

    #[cold]
    fn look_again(&self, key: KeyRef<'_>, record: &Arc<Record>) -> bool {
        let list = self.bans.list();
        let checked = record.checked();
        let from = checked.max(record.born());
        let is_meant = |ban: &&Arc<Ban>| ban.meant.is(record.key(), record.tags());
        let hard = list.after(from).filter(is_meant).find(|ban| ban.mode == Mode::Hard);
        // The sweep of a ban that has expired met it, unless its fill is just storing it.
        let is_judged = record.is_settled() || from >= list.floor;
        if hard.is_some() || record.is_ended() || !is_judged {
            if self.take_out(key, record)
                && record.stored().kind == Kind::Page
                && let Some(ban) = hard
            {
                ban.found.fetch_add(1, Ordering::Relaxed);
            }
            return false;
        }
        let soft: Vec<&Arc<Ban>> = list.after(from).filter(is_meant).collect();
        if !soft.is_empty() {
            record.purge_softly();
        }
        // Who says so first counts.
        if record.looked_at(checked, list.newest) && record.stored().kind == Kind::Page {
            for ban in soft {
                ban.found.fetch_add(1, Ordering::Relaxed);
            }
        }
        true
    }

    /// Takes `record` out of its place. Says whether this was the first word of its end.
    pub(super) fn take_out(&self, key: KeyRef<'_>, record: &Arc<Record>) -> bool {
        record.end();
        let is_first = record.retire();
        if self.records.remove_if(&key, |held| Arc::ptr_eq(held, record)).is_some() {
            self.index.let_go(record);
        }
        is_first
    }
}

/// What is looked at before those who serve may have the processor.
const SLICE: usize = 1_024;
