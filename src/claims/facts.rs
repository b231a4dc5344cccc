//! What this node knows of each sale and the ledger may forget: every claim that it handed out with its
//! outcome, from the journal; the sale as it was seen last; who else is there.
//!
//! A claim takes about 150 bytes, for as long as the sale runs; those that failed are kept for
//! [`FAILED_KEPT_MS`], since a ledger that lost an older F lost much else.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::Limits;
use super::memory::{History, Past};
use crate::clock::{MonoMs, UnixMs};
use crate::ident::{ClaimId, NodeId, SaleId};
use crate::journal::Event;
use crate::ledger::{Assertion, Fence, Reassert};
use crate::outcome::Verdict;
use crate::sale::{Mark, SaleState};

/// All that this node knows.
#[derive(Debug)]
pub(super) struct Facts {
    sales: Mutex<HashMap<SaleId, Facet>>,
    learn_ms: u64,
    /// Something must be said to a ledger.
    pub(super) wake: Notify,
}

/// What is known of one sale.
#[derive(Debug, Default)]
struct Facet {
    claims: HashMap<ClaimId, Assertion>,
    /// Claims of this node that failed, oldest first.
    failed: VecDeque<(ClaimId, MonoMs)>,
    /// The sale as it was seen last, by (epoch, version).
    known: Option<SaleState>,
    /// Claims before this, by the ledger's clock, are of an earlier sale of the same name.
    since: UnixMs,
    /// The highest `seq` that was seen.
    seen: u64,
    reported: Option<Mark>,
    /// Claims may be made from then on: until then others may not know that this node is there.
    joined: Option<MonoMs>,
    peers: Vec<NodeId>,
}

/// What a sale was when it was seen last, as it is kept on the disk.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Remembered {
    pub(super) state: SaleState,
    /// When this sale of its name was seen first, by the ledger's clock.
    pub(super) since: UnixMs,
    /// The nodes that were alive. A node that starts again beside a ledger that is gone would else know
    /// nobody to wait for.
    #[serde(default)]
    pub(super) peers: Vec<NodeId>,
}

impl Facts {
    /// What the journal and the memory of earlier runs tell.
    pub(super) fn of(history: &History, remembered: Vec<Remembered>, limits: &Limits) -> Facts {
        let mut sales: HashMap<SaleId, Facet> = HashMap::new();
        for Remembered { state, since, peers } in remembered {
            let (seen, id) = (state.seq, state.id.clone());
            sales.insert(id, Facet { known: Some(state), since, seen, peers, ..Facet::default() });
        }
        let facts =
            Facts { sales: Mutex::new(sales), learn_ms: limits.learn_ms, wake: Notify::new() };
        facts.learn(history, limits);
        facts
    }

    /// What runs that have ended left in the journal.
    pub(super) fn learn(&self, history: &History, limits: &Limits) {
        for (claim, past) in history.claims() {
            let admitted_at = past.admitted_at.unwrap_or_default();
            let of_earlier = |facet: &Facet| past.admitted_at.is_some_and(|at| at < facet.since);
            if self.lock().get(&past.sale).is_some_and(of_earlier) {
                continue;
            }
            let ttl_ms = match past.event {
                Event::Pending => limits.pay_ttl_ms,
                _ => limits.claim_ttl_ms,
            };
            let mut past = past.clone();
            // Its process is dead: nobody knows what became of it.
            if past.event == Event::Admitted {
                past.event = Event::Unknown;
            }
            self.note(*claim, &past, Some(admitted_at.plus(ttl_ms)), MonoMs(0));
        }
    }

    /// Something happened to a claim; `deadline` where that is new.
    pub(super) fn note(&self, claim: ClaimId, past: &Past, deadline: Option<UnixMs>, now: MonoMs) {
        let verdict = match past.event {
            Event::Admitted => None,
            Event::Confirmed => Some(Verdict::Confirmed),
            Event::Failed => Some(Verdict::Failed),
            Event::Unknown => Some(Verdict::Unknown),
            Event::Pending => Some(Verdict::Pending),
            Event::Void => Some(Verdict::Void),
        };
        let mut sales = self.lock();
        let facet = sales.entry(past.sale.clone()).or_default();
        facet.note(claim, past, verdict, deadline, now);
    }

    /// A claim was admitted that was sent when everything had been said to `told`. False where a report
    /// began since then: it did not say this one, so the ledger may not have it, and nobody may be sent.
    pub(super) fn admit(
        &self,
        claim: ClaimId,
        past: &Past,
        deadline: UnixMs,
        now: MonoMs,
        told: Option<Mark>,
    ) -> bool {
        let mut sales = self.lock();
        let facet = sales.entry(past.sale.clone()).or_default();
        let is_said = facet.reported == told;
        if is_said {
            facet.note(claim, past, None, Some(deadline), now);
        }
        is_said
    }

    /// A ledger said what the sale is. Whether it is news that should be remembered.
    pub(super) fn hear(&self, state: &SaleState, now: UnixMs) -> bool {
        let mut sales = self.lock();
        let facet = sales.entry(state.id.clone()).or_default();
        facet.seen = facet.seen.max(state.seq);
        let is_other = facet.known.as_ref().is_some_and(|known| known.salt != state.salt);
        // What runs is not replaced by a sale that was declared anew: it is re-asserted.
        if is_other && facet.known.as_ref().is_some_and(|known| !known.is_ended_at(now)) {
            return false;
        }
        if is_other {
            *facet = Facet { since: now, seen: state.seq, ..Facet::default() };
        }
        let is_news = facet.known.as_ref().is_none_or(|known| order(state) > order(known));
        if is_news {
            facet.known = Some(state.clone());
        }
        is_news
    }

    /// The ledger keeps what it has, whatever this node knew.
    pub(super) fn accept(&self, state: &SaleState) {
        self.lock().entry(state.id.clone()).or_default().known = Some(state.clone());
    }

    /// What the fence of `sale` needs.
    pub(super) fn fence(&self, sale: &SaleId) -> Fence {
        let seen = self.lock().get(sale).map_or(0, |facet| facet.seen);
        Fence { learn_ms: self.learn_ms, seen }
    }

    /// The generation of the ledger's memory to which everything has been said.
    pub(super) fn reported(&self, sale: &SaleId) -> Option<Mark> {
        self.lock().get(sale)?.reported
    }

    /// What was said to the ledger counts no more.
    pub(super) fn begin_report(&self, sale: &SaleId) {
        self.lock().entry(sale.clone()).or_default().reported = None;
    }

    /// Everything was said to this generation. `others` are the nodes beside this one: should the ledger
    /// lose everything now, they must know that this node is there, and wait for it.
    pub(super) fn end_report(&self, sale: &SaleId, mark: Mark, others: usize, now: MonoMs) {
        let mut sales = self.lock();
        let facet = sales.entry(sale.clone()).or_default();
        facet.reported = Some(mark);
        let wait_ms = if others == 0 { 0 } else { beats_of(others) * BEAT_MS + BEAT_MS / 2 };
        facet.joined.get_or_insert(now.plus(wait_ms));
    }

    /// Whether the others know that this node is there.
    pub(super) fn has_joined(&self, sale: &SaleId, now: MonoMs) -> bool {
        let joined = self.lock().get(sale).and_then(|facet| facet.joined);
        joined.is_some_and(|at| now >= at)
    }

    /// Every how many beats this node asks which others live.
    pub(super) fn roll_call_beats(&self, sale: &SaleId) -> u64 {
        beats_of(self.lock().get(sale).map_or(0, |facet| facet.peers.len()))
    }

    /// The nodes that live, as the ledger says.
    pub(super) fn set_peers(&self, sale: &SaleId, peers: Vec<NodeId>) {
        self.lock().entry(sale.clone()).or_default().peers = peers;
    }

    /// How many nodes live, this one among them.
    pub(super) fn nodes(&self, sale: &SaleId) -> usize {
        self.lock().get(sale).map_or(1, |facet| facet.peers.len().max(1))
    }

    /// The sale as it was seen last, unless it is over.
    pub(super) fn known(&self, sale: &SaleId, now: UnixMs) -> Option<SaleState> {
        let known = self.lock().get(sale)?.known.clone();
        known.filter(|known| !known.is_ended_at(now))
    }

    /// The sales that are not over, or of which this node has claims without an outcome.
    pub(super) fn sales(&self, now: UnixMs) -> Vec<SaleId> {
        let sales = self.lock();
        let is_running = |facet: &Facet| match &facet.known {
            Some(known) if known.is_ended_at(now) => facet.has_open(),
            Some(_) => true,
            None => !facet.claims.is_empty(),
        };
        sales.iter().filter(|(_, facet)| is_running(facet)).map(|(id, _)| id.clone()).collect()
    }

    /// All that a report says: what comes first, and the claims.
    pub(super) fn report(&self, sale: &SaleId, now: UnixMs) -> (Reassert, Vec<Assertion>) {
        let known = self.known(sale, now);
        let sales = self.lock();
        let Some(facet) = sales.get(sale) else { return Default::default() };
        let first = Reassert { known, peers: facet.peers.clone(), ..Reassert::default() };
        (first, facet.claims.values().cloned().collect())
    }

    /// What is to be kept on the disk.
    pub(super) fn remembered(&self) -> Vec<Remembered> {
        let sales = self.lock();
        let of = |facet: &Facet| {
            let state = facet.known.clone()?;
            Some(Remembered { state, since: facet.since, peers: facet.peers.clone() })
        };
        let mut all: Vec<Remembered> = sales.values().filter_map(of).collect();
        all.sort_by(|a, b| a.state.id.cmp(&b.state.id));
        all
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SaleId, Facet>> {
        self.sales.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Facet {
    fn note(
        &mut self,
        claim: ClaimId,
        past: &Past,
        verdict: Option<Verdict>,
        deadline: Option<UnixMs>,
        now: MonoMs,
    ) {
        let known = self.claims.get(&claim).map(|fact| fact.deadline);
        let deadline = deadline.or(known).or(past.admitted_at).unwrap_or_default();
        let fact = Assertion {
            claim,
            user: past.user,
            attempt: past.attempt,
            pool: past.pool.clone(),
            units: past.units,
            node: past.node,
            verdict,
            deadline,
        };
        self.claims.insert(claim, fact);
        if verdict == Some(Verdict::Failed) {
            self.failed.push_back((claim, now));
        }
        while let Some((old, at)) = self.failed.front().copied()
            && now.since(at) > FAILED_KEPT_MS
        {
            self.failed.pop_front();
            if self.claims.get(&old).is_some_and(|f| f.verdict == Some(Verdict::Failed)) {
                self.claims.remove(&old);
            }
        }
    }

    fn has_open(&self) -> bool {
        let is_open = |fact: &Assertion| {
            matches!(fact.verdict, None | Some(Verdict::Unknown | Verdict::Pending))
        };
        self.claims.values().any(is_open)
    }
}

/// What makes one state newer than another.
pub(super) fn order(state: &SaleState) -> (u32, u64) {
    (state.epoch, state.version)
}

/// Of a large fleet each node asks less often: the answer grows with it.
fn beats_of(nodes: usize) -> u64 {
    1 + nodes as u64 / 64
}

/// How often a node says that it lives, in milliseconds: several times within
/// [`crate::ledger::reassert::LIVE_MS`].
pub(super) const BEAT_MS: u64 = 1_000;

/// How long a claim that failed is known.
const FAILED_KEPT_MS: u64 = 600_000;
