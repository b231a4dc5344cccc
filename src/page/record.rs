//! What is stored under a key: a page, or a remark about it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use super::cache::FIRST;
use super::entry::{Entry, Part, Wanted};
use super::key::Key;
use super::policy::judge::{Asked, Kind, Life, Refill, Stored, Windows};
use super::select::Selector;
use crate::answer::{Fill, heap};
use crate::clock::{MonoMs, Now};
use crate::http::{Exchange, Ready};
use crate::outcome::Reason;

/// What is stored under a key.
#[derive(Debug)]
pub struct Record {
    key: Arc<Key>,
    stored: Stored,
    what: What,
    /// When it came, and how old it was.
    at: MonoMs,
    windows: Windows,
    weight: u64,
    /// The newest purge when it was asked for.
    born: AtomicU64,
    /// The newest purge that it was judged by; 0: the cache holds it no longer.
    checked: AtomicU64,
    /// Places of the cache that hold it.
    holds: AtomicU32,
    /// A soft purge ended its freshness.
    is_purged: AtomicBool,
    /// It is not pushed out.
    is_pinned: AtomicBool,
    /// It has its place, and was judged there by the purges that came while it was fetched.
    is_settled: AtomicBool,
    /// A purge ended it, wherever it stands.
    is_ended: AtomicBool,
    /// How often the shared cache was asked for it, roughly.
    uses: AtomicU64,
    /// [`REFILLING`], or until when no refill begins after one that failed.
    refill: AtomicU64,
}

/// A page, or a remark.
#[derive(Debug)]
pub enum What {
    /// A page.
    Page(Box<Entry>),
    /// The page may not be stored.
    HitForMiss,
    /// The shop did not answer just now, and what clients are told.
    Failed(Reason),
    /// The fields of a request that select a page of this URL.
    Selector(Selector),
}

impl Record {
    /// A record that came at `now`.
    pub fn new(key: Arc<Key>, what: What, windows: Windows, now: MonoMs) -> Arc<Record> {
        let kind = match &what {
            What::Page(_) => Kind::Page,
            What::HitForMiss => Kind::HitForMiss,
            What::Failed(_) => Kind::Failed,
            What::Selector(_) => Kind::Selector,
        };
        let content = match &what {
            What::Page(entry) => entry.weight(),
            What::HitForMiss | What::Failed(_) => 0,
            What::Selector(selector) => selector.weight(),
        };
        let weight = key.weight() + content + heap::shared(size_of::<Record>()) + INDEX_BYTES;
        let fresh_until = now.plus(windows.fresh_ms);
        Arc::new(Record {
            stored: Stored {
                kind,
                fresh_until,
                refill_until: fresh_until.plus(windows.refill_ms),
                error_until: fresh_until.plus(windows.error_ms),
            },
            key,
            what,
            at: now,
            windows,
            weight: weight as u64,
            born: AtomicU64::new(FIRST),
            checked: AtomicU64::new(FIRST),
            holds: AtomicU32::new(0),
            is_purged: AtomicBool::new(false),
            is_pinned: AtomicBool::new(false),
            is_settled: AtomicBool::new(false),
            is_ended: AtomicBool::new(false),
            uses: AtomicU64::new(0),
            refill: AtomicU64::new(0),
        })
    }

    /// Its key.
    pub fn key(&self) -> &Arc<Key> {
        &self.key
    }

    /// What it is.
    pub fn what(&self) -> &What {
        &self.what
    }

    /// Bytes that it takes in all; constant.
    pub fn weight(&self) -> u64 {
        self.weight
    }

    /// What the policy looks at.
    pub fn stored(&self) -> Stored {
        match self.is_purged.load(Ordering::Relaxed) {
            true => Stored { fresh_until: MonoMs(0), ..self.stored },
            false => self.stored,
        }
    }

    /// What the policy has to know about a request for it at `now`.
    pub fn asked(&self, now: MonoMs) -> Asked {
        let refill = match self.refill.load(Ordering::Relaxed) {
            REFILLING => Refill::UnderWay,
            until if now.0 < until => Refill::Held,
            _ => Refill::Idle,
        };
        Asked { refill }
    }

    /// What of its life only a client's demands ask for.
    pub fn life(&self) -> Life {
        let Windows { age_ms, overdue_ms, never_stale, .. } = self.windows;
        Life { at: self.at, age_ms, overdue_ms, never_stale }
    }

    /// How old what is stored is at `now`, in milliseconds.
    fn age_ms(&self, now: MonoMs) -> u64 {
        self.windows.age_ms.saturating_add(now.since(self.at))
    }

    /// Whether each request for it asks the shop, side by side.
    pub fn is_alone(&self) -> bool {
        self.windows.alone
    }

    /// The selector, if it is one.
    pub fn selector(&self) -> Option<&Selector> {
        match &self.what {
            What::Selector(selector) => Some(selector),
            What::Page(_) | What::HitForMiss | What::Failed(_) => None,
        }
    }

    /// The page, if it is one.
    pub fn page(&self) -> Option<&Entry> {
        match &self.what {
            What::Page(entry) => Some(entry),
            What::HitForMiss | What::Failed(_) | What::Selector(_) => None,
        }
    }

    /// The page, where it may stand in for an error at `now`.
    pub fn stands_in(&self, now: MonoMs) -> bool {
        self.stored.kind == Kind::Page && now < self.stored.error_until
    }

    /// The cache holds it no longer: who kept it on the side must not serve it. Says whether this was
    /// the first word of it.
    pub fn retire(&self) -> bool {
        self.checked.swap(0, Ordering::AcqRel) != 0
    }

    /// The newest purge that it was judged by; 0 once it is retired.
    #[inline]
    pub fn checked(&self) -> u64 {
        self.checked.load(Ordering::Acquire)
    }

    /// It has its place.
    pub fn settle(&self) {
        self.is_settled.store(true, Ordering::Release);
    }

    /// Whether [`Record::settle`] was called.
    pub fn is_settled(&self) -> bool {
        self.is_settled.load(Ordering::Acquire)
    }

    /// A purge means it: it is not served from any place any more.
    pub fn end(&self) {
        self.is_ended.store(true, Ordering::Release);
    }

    /// Whether [`Record::end`] was called.
    pub fn is_ended(&self) -> bool {
        self.is_ended.load(Ordering::Acquire)
    }

    /// Whether the cache has let it go.
    pub fn is_retired(&self) -> bool {
        self.checked() == 0
    }

    /// The newest purge when it was asked for.
    pub fn born(&self) -> u64 {
        self.born.load(Ordering::Acquire)
    }

    /// It was asked for when `born` was the newest purge. To be said before it is stored.
    pub fn begun_at(&self, born: u64) {
        self.born.store(born, Ordering::Release);
        self.checked.store(born, Ordering::Release);
    }

    /// It was judged by the purges up to `newest`, those up to `before` earlier. Says whether nobody
    /// else did that in the meantime. What is retired stays so.
    pub fn looked_at(&self, before: u64, newest: u64) -> bool {
        before != 0
            && self
                .checked
                .compare_exchange(before, newest, Ordering::AcqRel, Ordering::Acquire)
                .is_ok()
    }

    /// One more place of the cache holds it. Says whether it is the first.
    pub fn keep(&self) -> bool {
        self.holds.fetch_add(1, Ordering::AcqRel) == 0
    }

    /// One place holds it no longer. Says whether it was the last.
    pub fn let_go(&self) -> bool {
        self.holds.fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// The tags that the shop gave it.
    pub fn tags(&self) -> &[Box<str>] {
        self.page().map_or(&[], |page| page.tags())
    }

    /// Notes a use. Two at once may count as one: it only says what is used more.
    pub(super) fn note_use(&self) {
        self.uses.store(self.uses.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// How often it was used, roughly; who keeps it on the side counts ten times a second.
    pub fn uses(&self) -> u64 {
        self.uses.load(Ordering::Relaxed)
    }

    /// What is left of its windows at `now`, as those of one that came then.
    pub fn left(&self, now: MonoMs) -> Windows {
        let stored = self.stored();
        let fresh_ms = stored.fresh_until.since(now);
        let over_ms = now.since(self.stored.fresh_until);
        Windows {
            age_ms: self.age_ms(now),
            fresh_ms,
            refill_ms: stored.refill_until.since(now) - fresh_ms,
            error_ms: stored.error_until.since(now) - fresh_ms,
            overdue_ms: self.windows.overdue_ms.saturating_add(over_ms),
            ..self.windows
        }
    }

    /// Whether it is not pushed out by others.
    pub fn is_pinned(&self) -> bool {
        self.is_pinned.load(Ordering::Relaxed)
    }

    /// Pins it, or no longer. The cache alone does, which counts them.
    pub(super) fn set_pinned(&self, is_pinned: bool) {
        self.is_pinned.store(is_pinned, Ordering::Relaxed);
    }

    /// Ends its freshness. A refill that is under way was disowned: the next request begins another.
    pub fn purge_softly(&self) {
        self.is_purged.store(true, Ordering::Relaxed);
        self.refill.store(0, Ordering::Relaxed);
    }

    /// Takes the right to refill it; only one gets it. It ends with [`Record::hold`],
    /// [`Record::release`] or a new record in its place.
    pub fn begin_refill(&self, now: MonoMs) -> bool {
        let held = self.refill.load(Ordering::Relaxed);
        held <= now.0
            && self
                .refill
                .compare_exchange(held, REFILLING, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }

    /// The refill that was under way, if any, came to nothing.
    pub fn release(&self) {
        let _ = self.refill.compare_exchange(REFILLING, 0, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// No refill begins before `until`.
    pub fn hold(&self, until: MonoMs) {
        self.refill.store(until.0, Ordering::Relaxed);
    }

    /// The answer for a client at `now`, if this is a page.
    pub fn ready(&self, wanted: &Wanted<'_>, exchange: &Exchange, now: Now) -> Option<Ready> {
        let entry = self.page()?;
        let fill = self.fill(exchange, now);
        Some(Ready { answer: entry.answer_for(wanted), fill, reason: None })
    }

    /// The answer for a client that may ask for ranges, if what is stored has them.
    pub fn ready_in_part(
        &self,
        wanted: &Wanted<'_>,
        exchange: &Exchange,
        now: Now,
    ) -> Option<Ready> {
        let entry = self.page()?;
        let fill = self.fill(exchange, now);
        let answer = match entry.part_for(wanted)? {
            Part::Whole => entry.answer_for(wanted),
            Part::Made(answer) => answer.into(),
        };
        Some(Ready { answer, fill, reason: None })
    }

    /// What fills the slots of its answer at `now`.
    fn fill(&self, exchange: &Exchange, now: Now) -> Fill {
        let fresh_until = self.stored().fresh_until;
        let is_stale = now.mono >= fresh_until;
        // The distance to the end of its freshness; a stale one is stale by a second at least.
        let ttl_ms = match is_stale {
            true => now.mono.since(self.stored.fresh_until).max(1000),
            false => fresh_until.since(now.mono),
        };
        let seconds = |ms: u64| u32::try_from(ms / 1000).unwrap_or(u32::MAX);
        Fill {
            now,
            age_s: seconds(self.age_ms(now.mono)),
            max_age_s: seconds(ttl_ms),
            is_stale,
            request: exchange.id,
            ..Fill::default()
        }
    }
}

/// A refill is under way.
const REFILLING: u64 = u64::MAX;

/// What the table holds for an entry, and for one that was pushed out lately, in bytes.
const INDEX_BYTES: usize = 96;
