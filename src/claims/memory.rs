//! What this node remembers: of users, so that those who ask again are answered without the ledger;
//! of claims whose outcome is open, with what the shop said; and what the journal told at start.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use quick_cache::UnitWeighter;
use quick_cache::sync::Cache;

use super::Known;
use crate::bloom::Bloom;
use crate::clock::{MonoMs, UnixMs};
use crate::ident::{AttemptId, ClaimId, Name, NodeId, SaleId, UserKey};
use crate::journal::{Event, Line};
use crate::ledger::{Record, RecordKind, Resolution};
use crate::outcome::Verdict;

/// What is known of one claim: who, what, and the last thing that happened to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Past {
    pub(super) sale: SaleId,
    pub(super) epoch: u32,
    pub(super) pool: Name,
    pub(super) user: UserKey,
    pub(super) attempt: AttemptId,
    pub(super) node: NodeId,
    pub(super) units: u32,
    pub(super) event: Event,
    /// When it was admitted, by the ledger's clock; `None` where only a later line is known.
    pub(super) admitted_at: Option<UnixMs>,
    pub(super) status: Option<u16>,
    pub(super) code: Option<String>,
    pub(super) order: Option<String>,
}

impl Past {
    /// Of a record whose claim this node remembers nothing of.
    pub(super) fn of_record(sale: &SaleId, epoch: u32, record: &Record) -> Past {
        Past {
            sale: sale.clone(),
            epoch,
            pool: record.pool.clone(),
            user: record.user,
            attempt: record.attempt,
            node: record.node,
            units: record.units,
            event: Event::Unknown,
            admitted_at: None,
            status: None,
            code: None,
            order: None,
        }
    }

    /// The line that says it.
    pub(super) fn line(&self, claim: ClaimId, t: UnixMs) -> Line {
        Line {
            t: t.0,
            seq: 0,
            sale: self.sale.to_string(),
            epoch: self.epoch,
            pool: self.pool.clone(),
            user: self.user,
            attempt: self.attempt,
            claim,
            node: self.node,
            units: self.units,
            event: self.event,
            status: self.status,
            code: self.code.clone(),
            order: self.order.clone(),
            chain: String::new(),
        }
    }

    pub(super) fn resolution(
        &self,
        claim: ClaimId,
        verdict: Verdict,
        hold_until: Option<UnixMs>,
    ) -> Resolution {
        Resolution {
            user: self.user,
            claim,
            attempt: self.attempt,
            pool: self.pool.clone(),
            units: self.units,
            verdict,
            hold_until,
        }
    }

    fn is_waiting(&self) -> bool {
        matches!(self.event, Event::Unknown | Event::Pending)
    }

    fn kind(&self) -> Option<RecordKind> {
        match self.event {
            Event::Admitted => Some(RecordKind::Admitted),
            Event::Confirmed => Some(RecordKind::Confirmed),
            Event::Pending => Some(RecordKind::Pending),
            Event::Unknown => Some(RecordKind::Limbo),
            Event::Failed | Event::Void => None,
        }
    }
}

/// What stood in the journal when it was opened: the last word on every claim. Needed until the ledger
/// has been told.
#[derive(Clone, Debug, Default)]
pub struct History {
    claims: HashMap<ClaimId, Past>,
    runs: HashSet<NodeId>,
}

impl History {
    /// Takes the next line. For [`crate::journal::Journal::open`].
    pub fn note(&mut self, line: Line) {
        let Ok(sale) = line.sale.parse() else {
            tracing::error!("journal line {}: `{}` is no sale's name", line.seq, line.sale);
            return;
        };
        let admitted = line.event == Event::Admitted;
        if admitted {
            self.runs.insert(line.node);
        }
        let before = self.claims.get(&line.claim);
        let past = Past {
            sale,
            epoch: line.epoch,
            pool: line.pool,
            user: line.user,
            attempt: line.attempt,
            node: line.node,
            units: line.units,
            event: line.event.after(before.map(|before| before.event)),
            admitted_at: match before {
                Some(before) => before.admitted_at,
                None => admitted.then_some(UnixMs(line.t)),
            },
            // What the shop said once stays known when an operator settles the claim.
            status: line.status.or_else(|| before.and_then(|b| b.status)),
            code: line.code.or_else(|| before.and_then(|b| b.code.clone())),
            order: line.order.or_else(|| before.and_then(|b| b.order.clone())),
        };
        self.claims.insert(line.claim, past);
    }

    /// Leaves out what a run did that has not ended yet.
    pub(super) fn without(&mut self, run: NodeId) {
        self.runs.remove(&run);
        self.claims.retain(|_, past| past.node != run);
    }

    pub(super) fn runs(&self) -> &HashSet<NodeId> {
        &self.runs
    }

    pub(super) fn claims(&self) -> &HashMap<ClaimId, Past> {
        &self.claims
    }

    pub(super) fn into_claims(self) -> HashMap<ClaimId, Past> {
        self.claims
    }
}

/// What this node remembers.
#[derive(Debug)]
pub(super) struct Memory {
    /// By user: keys of two sales are never equal, since each sale hashes with its own salt.
    users: Cache<UserKey, User>,
    /// Of whom something may stand in `users`.
    heard_of: Bloom,
    /// Claims whose outcome is open: as many as the ledger holds and keeps in limbo.
    open: Mutex<HashMap<ClaimId, Past>>,
}

#[derive(Clone, Debug)]
struct User {
    sale: SaleId,
    known: Known,
    /// Others may settle a pending claim: it is not believed for longer.
    until: Option<MonoMs>,
}

impl Memory {
    /// What the journal tells.
    pub(super) fn of(history: &History) -> Memory {
        let memory = Memory {
            users: Cache::with_weighter(1_024, USERS_MAX, UnitWeighter),
            heard_of: Bloom::new(USERS_MAX),
            open: Mutex::default(),
        };
        for (claim, past) in &history.claims {
            memory.note(*claim, past, MonoMs(0));
        }
        memory
    }

    /// Something happened to a claim of this node.
    pub(super) fn note(&self, claim: ClaimId, past: &Past, now: MonoMs) {
        let mut open = self.lock();
        match past.event {
            Event::Admitted | Event::Unknown | Event::Pending => {
                open.insert(claim, past.clone());
            }
            Event::Confirmed | Event::Failed | Event::Void => {
                open.remove(&claim);
            }
        }
        drop(open);
        match past.kind() {
            Some(kind) => {
                let known = Known { kind, claim, attempt: past.attempt, order: past.order.clone() };
                self.know(&past.sale, past.user, known, now);
            }
            None => {
                self.users.remove_if(&past.user, |user| user.known.claim == claim);
            }
        }
    }

    /// The reaper found a claim: what is known of it now, or `None` if its outcome is known and on its
    /// way to the ledger. `fresh` is what its record says, for claims of earlier runs without a line.
    pub(super) fn reaped(&self, claim: ClaimId, fresh: Option<Past>, now: MonoMs) -> Option<Past> {
        let mut open = self.lock();
        let past = match open.get_mut(&claim) {
            Some(past) => past,
            None => open.entry(claim).or_insert(fresh?),
        };
        past.event = Event::Unknown;
        let past = past.clone();
        drop(open);
        let kind = RecordKind::Limbo;
        let known = Known { kind, claim, attempt: past.attempt, order: past.order.clone() };
        self.know(&past.sale, past.user, known, now);
        Some(past)
    }

    /// The ledger, or a record of it, says what a user has.
    pub(super) fn know(&self, sale: &SaleId, user: UserKey, mut known: Known, now: MonoMs) {
        if known.order.is_none() {
            let old = self.users.peek(&user).filter(|old| old.known.claim == known.claim);
            known.order = old.and_then(|old| old.known.order);
        }
        let until = match known.kind {
            RecordKind::Pending | RecordKind::Limbo => Some(now.plus(OPEN_BELIEVED_MS)),
            RecordKind::Admitted | RecordKind::Confirmed => None,
        };
        self.heard_of.add(&user);
        self.users.insert(user, User { sale: sale.clone(), known, until });
    }

    pub(super) fn known(
        &self,
        sale: &SaleId,
        user: &UserKey,
        now: impl FnOnce() -> MonoMs,
    ) -> Option<Known> {
        if !self.heard_of.may_know(user) {
            return None;
        }
        let user = self.users.get(user)?;
        let holds = user.sale == *sale && user.until.is_none_or(|until| now() < until);
        holds.then_some(user.known)
    }

    /// Claims of `sale` that nobody here works on any more and whose outcome is open all the same.
    pub(super) fn waiting(&self, sale: &SaleId) -> Vec<ClaimId> {
        let open = self.lock();
        let waits = open.iter().filter(|(_, past)| past.sale == *sale && past.is_waiting());
        waits.map(|(claim, _)| *claim).collect()
    }

    /// Somebody else settled these claims. Returns how many were remembered.
    pub(super) fn forget<'a>(&self, claims: impl Iterator<Item = &'a ClaimId>) -> usize {
        let mut open = self.lock();
        let is_waiting = |claim: &&ClaimId| open.get(*claim).is_some_and(|past| past.is_waiting());
        let settled: Vec<ClaimId> = claims.filter(is_waiting).copied().collect();
        settled.iter().filter(|claim| open.remove(claim).is_some()).count()
    }

    /// What is remembered of an open claim.
    pub(super) fn open(&self, claim: &ClaimId) -> Option<Past> {
        self.lock().get(claim).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ClaimId, Past>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Users that are remembered, about 150 bytes each; the ledger knows the rest.
const USERS_MAX: u64 = 262_144;
/// How long a pending claim is answered without the ledger, in milliseconds.
const OPEN_BELIEVED_MS: u64 = 1_000;
