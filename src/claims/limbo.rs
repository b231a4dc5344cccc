//! Limbo: claims of which nobody knows what became. They hold their units until an operator, or the
//! shop's own list of orders, says what is true.
//!
//! The ledger's records are the list; what the shop answered is remembered from the journal by the node
//! that sent the purchase.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::memory::Past;
use super::{Claims, Outcome};
use crate::ident::{AttemptId, ClaimId, Name, NodeId, SaleId, UserKey};
use crate::ledger::{Record, RecordKind, Resolved};
use crate::orders::OrderRow;
use crate::outcome::Verdict;
use crate::store::StoreError;

/// One claim in limbo.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimboRecord {
    /// The claim.
    pub claim: ClaimId,
    /// The buyer's key.
    pub user: UserKey,
    /// The attempt.
    pub attempt: AttemptId,
    /// The pool.
    pub pool: Name,
    /// Units.
    pub units: u32,
    /// The run of the node that claimed.
    pub node: NodeId,
    /// When it was admitted, in Unix milliseconds; only the node that claimed knows.
    pub admitted_ms: Option<u64>,
    /// No byte of the purchase left after this, in Unix milliseconds.
    pub deadline_ms: u64,
    /// The shop's status, where it answered.
    pub status: Option<u16>,
    /// The shop's code, where a rule read one.
    pub code: Option<String>,
    /// The order's number, where a rule read it.
    pub order: Option<String>,
}

/// What a claim in limbo turns out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Truth {
    /// The shop has the order.
    Confirmed,
    /// It has not: the units are free again.
    Failed,
}

/// Settles some claims.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResolveRequest {
    /// Which.
    pub claims: Vec<ClaimId>,
    /// What they are.
    #[serde(rename = "as")]
    pub truth: Truth,
}

/// Settles all claims to which the shop gave the same answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReclassifyRequest {
    /// The shop's code.
    #[serde(default)]
    pub code: Option<String>,
    /// The shop's status.
    #[serde(default)]
    pub status: Option<u16>,
    /// What they are.
    #[serde(rename = "as")]
    pub truth: Truth,
}

/// Settles claims by the shop's own list of orders.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MatchRequest {
    /// Every order of the sale's activity that the shop has; cancelled ones count as orders, since
    /// their units come back by a restock.
    pub orders: Vec<OrderRow>,
    /// The list may lack orders: claims that are not in it stay in limbo instead of being F.
    #[serde(default)]
    pub partial: bool,
    /// When the list was made, in Unix milliseconds; absent: now.
    #[serde(default)]
    pub made_at_ms: Option<u64>,
    /// How long after a claim's deadline the shop may still make the order, in milliseconds. A claim
    /// that is not in the list is F only if the list is younger than that; else it stays in limbo.
    pub settle_ms: u64,
    /// Only say what would be done.
    #[serde(default)]
    pub dry_run: bool,
}

/// What became of one claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    /// The claim.
    pub claim: ClaimId,
    /// The buyer's key.
    pub user: UserKey,
    /// What it is.
    #[serde(rename = "as")]
    pub truth: Truth,
    /// The order's number.
    pub order: Option<String>,
}

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimboReport {
    /// Claims that are settled, or would be.
    pub settled: Vec<Settled>,
    /// Of them, those that are confirmed.
    pub confirmed: usize,
    /// Of them, those that failed.
    pub failed: usize,
    /// Of them, those that the ledger already had another word for.
    pub conflicts: usize,
    /// Of them, those that the ledger has not acknowledged yet; they are delivered until it does.
    pub waiting: usize,
    /// Claims that are still in limbo.
    pub left: usize,
    /// Claims that were asked for and are not in limbo.
    pub not_in_limbo: Vec<ClaimId>,
}

/// Why limbo cannot be settled.
#[derive(Debug, thiserror::Error)]
pub enum LimboError {
    /// The ledger does not know the sale.
    #[error("there is no sale {0}")]
    NoSale(SaleId),
    /// The request names nothing.
    #[error("say which: a code, a status, or both")]
    Nothing,
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Claims {
    /// Everything that is in limbo in a sale.
    pub async fn limbo(&self, sale: &SaleId) -> Result<Vec<LimboRecord>, LimboError> {
        let records = self.sale_records(sale).await?;
        Ok(records.iter().filter(|r| r.kind == RecordKind::Limbo).map(|r| self.told(r)).collect())
    }

    /// Settles the claims that an operator names.
    pub async fn limbo_resolve(
        &self,
        sale: &SaleId,
        request: &ResolveRequest,
    ) -> Result<LimboReport, LimboError> {
        let limbo = self.limbo(sale).await?;
        let mut claims: HashSet<ClaimId> = request.claims.iter().copied().collect();
        let named = |r: &LimboRecord| claims.contains(&r.claim);
        let plan = limbo.iter().filter(|r| named(r)).map(|r| settled(r, request.truth)).collect();
        let mut report = self.settle_limbo(sale, &limbo, plan, false).await;
        for record in &limbo {
            claims.remove(&record.claim);
        }
        report.not_in_limbo = claims.into_iter().collect();
        Ok(report)
    }

    /// Settles all claims to which the shop gave the same answer.
    pub async fn limbo_reclassify(
        &self,
        sale: &SaleId,
        request: &ReclassifyRequest,
    ) -> Result<LimboReport, LimboError> {
        let ReclassifyRequest { code, status, truth } = request;
        if code.is_none() && status.is_none() {
            return Err(LimboError::Nothing);
        }
        let limbo = self.limbo(sale).await?;
        let same = |r: &LimboRecord| {
            (code.is_none() || r.code == *code) && (status.is_none() || r.status == *status)
        };
        let plan = limbo.iter().filter(|r| same(r)).map(|r| settled(r, *truth)).collect();
        Ok(self.settle_limbo(sale, &limbo, plan, false).await)
    }

    /// Settles claims by the shop's own list of orders: found is C, not found is F.
    pub async fn limbo_match(
        &self,
        sale: &SaleId,
        request: &MatchRequest,
    ) -> Result<LimboReport, LimboError> {
        let records = self.sale_records(sale).await?;
        let state = self.shared.book.sale(sale);
        let salt = state.ok_or_else(|| LimboError::NoSale(sale.clone()))?.state.salt;
        let orders = Orders::of(&request.orders, &records, |row| row.ties(&salt));
        let limbo: Vec<LimboRecord> =
            records.iter().filter(|r| r.kind == RecordKind::Limbo).map(|r| self.told(r)).collect();
        let made_at_ms = request.made_at_ms.unwrap_or(self.shared.clock.now().ledger.0);
        let plan = orders.plan(&limbo, request, made_at_ms);
        Ok(self.settle_limbo(sale, &limbo, plan, request.dry_run).await)
    }

    async fn sale_records(&self, sale: &SaleId) -> Result<Vec<Record>, LimboError> {
        let reply = self.call(sale, crate::ledger::Op::Read).await?;
        if reply.state.is_none() {
            return Err(LimboError::NoSale(sale.clone()));
        }
        Ok(self.shared.all_records(sale).await?)
    }

    /// A record with what is remembered of its claim.
    fn told(&self, record: &Record) -> LimboRecord {
        let past = self.shared.memory.open(&record.claim);
        let past = past.as_ref();
        LimboRecord {
            claim: record.claim,
            user: record.user,
            attempt: record.attempt,
            pool: record.pool.clone(),
            units: record.units,
            node: record.node,
            admitted_ms: past.and_then(|past| past.admitted_at).map(|at| at.0),
            deadline_ms: record.deadline.0,
            status: past.and_then(|past| past.status),
            code: past.and_then(|past| past.code.clone()),
            order: past.and_then(|past| past.order.clone()),
        }
    }

    async fn settle_limbo(
        &self,
        sale: &SaleId,
        limbo: &[LimboRecord],
        plan: Vec<Settled>,
        dry_run: bool,
    ) -> LimboReport {
        let count = |truth| plan.iter().filter(|s| s.truth == truth).count();
        let mut report = LimboReport {
            confirmed: count(Truth::Confirmed),
            failed: count(Truth::Failed),
            left: limbo.len() - plan.len(),
            ..LimboReport::default()
        };
        if !dry_run {
            let by_claim: HashMap<_, _> =
                limbo.iter().map(|record| (record.claim, record)).collect();
            let settle = |settled: &Settled| {
                by_claim.get(&settled.claim).map(|record| self.settle(sale, record, settled))
            };
            let told: Vec<_> = plan.iter().filter_map(settle).collect();
            let all = async {
                let mut said = Vec::new();
                for told in told {
                    said.push(told.await);
                }
                said
            };
            // Those that are not told in time are with the store already or follow it when it is back.
            match timeout(TOLD_LONGEST, all).await {
                Ok(said) => {
                    let conflict = |s: &&Result<Resolved, _>| matches!(s, Ok(Resolved::Conflict));
                    report.conflicts = said.iter().filter(conflict).count();
                    report.waiting = said.iter().filter(|s| s.is_err()).count();
                }
                Err(_) => report.waiting = plan.len(),
            }
        }
        report.settled = plan;
        report
    }

    /// Hands one over as an outcome of its claim.
    fn settle(
        &self,
        sale: &SaleId,
        record: &LimboRecord,
        settled: &Settled,
    ) -> oneshot::Receiver<Resolved> {
        let shared = &self.shared;
        let past = shared.memory.open(&record.claim).unwrap_or_else(|| {
            let epoch = shared.book.sale(sale).map_or(1, |sale| sale.state.epoch);
            Past::of_record(sale, epoch, &record.to_record())
        });
        let (tell, told) = oneshot::channel();
        let outcome = Outcome {
            verdict: match settled.truth {
                Truth::Confirmed => Verdict::Confirmed,
                Truth::Failed => Verdict::Failed,
            },
            status: record.status,
            code: record.code.clone(),
            order: settled.order.clone(),
        };
        let desk = shared.desk(sale);
        shared.settle(&desk, record.claim, &past, outcome, shared.busy.token(), Some(tell));
        told
    }
}

impl LimboRecord {
    fn to_record(&self) -> Record {
        Record {
            kind: RecordKind::Limbo,
            user: self.user,
            claim: self.claim,
            attempt: self.attempt,
            pool: self.pool.clone(),
            units: self.units,
            node: self.node,
            deadline: crate::clock::UnixMs(self.deadline_ms),
        }
    }
}

fn settled(record: &LimboRecord, truth: Truth) -> Settled {
    let LimboRecord { claim, user, order, .. } = record.clone();
    let order = order.filter(|_| truth == Truth::Confirmed);
    Settled { claim, user, truth, order }
}

/// The shop's orders by what ties them to claims.
#[derive(Debug, Default)]
struct Orders {
    by_claim: HashMap<ClaimId, String>,
    by_attempt: HashMap<AttemptId, String>,
    /// Orders that only name their user, less those that the user's confirmed claims account for.
    by_user: HashMap<UserKey, Vec<String>>,
}

impl Orders {
    fn of(
        rows: &[OrderRow],
        records: &[Record],
        ties: impl Fn(&OrderRow) -> crate::orders::Ties,
    ) -> Orders {
        let mut orders = Orders::default();
        for row in rows {
            let ties = ties(row);
            for claim in ties.claims {
                orders.by_claim.insert(claim, row.order.clone());
            }
            if let Some(attempt) = ties.attempt {
                orders.by_attempt.insert(attempt, row.order.clone());
            }
            if let Some(user) = ties.user.filter(|_| row.has_only_user()) {
                orders.by_user.entry(user).or_default().push(row.order.clone());
            }
        }
        for record in records.iter().filter(|record| record.kind == RecordKind::Confirmed) {
            if let Some(left) = orders.by_user.get_mut(&record.user) {
                left.pop();
            }
        }
        orders
    }

    /// A purchase that the shop has not seen yet is in no list: it must not be taken for one that the
    /// shop will never see, or its unit is sold twice.
    fn plan(
        mut self,
        limbo: &[LimboRecord],
        request: &MatchRequest,
        made_at_ms: u64,
    ) -> Vec<Settled> {
        let mut plan = Vec::new();
        for record in limbo {
            let found = self.by_claim.get(&record.claim).cloned();
            let found = found.or_else(|| self.by_attempt.get(&record.attempt).cloned());
            let found = found.or_else(|| self.by_user.get_mut(&record.user)?.pop());
            let LimboRecord { claim, user, .. } = *record;
            let young = record.deadline_ms.saturating_add(request.settle_ms) > made_at_ms;
            match found {
                Some(order) => {
                    plan.push(Settled { claim, user, truth: Truth::Confirmed, order: Some(order) });
                }
                None if request.partial || young => {}
                None => plan.push(Settled { claim, user, truth: Truth::Failed, order: None }),
            }
        }
        plan
    }
}

/// Longest wait for the ledger's acknowledgement.
const TOLD_LONGEST: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
