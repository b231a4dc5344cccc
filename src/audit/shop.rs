//! The invariants of the shop: its own list of orders against the gate's claims.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::Check;
use super::ledger::Ledger;
use super::past::{CLOCK_SLACK_MS, Past};
use crate::ident::{AttemptId, ClaimId, NodeId, UserKey};
use crate::journal::Event;
use crate::ledger::RecordKind;
use crate::orders::{OrderRow, Ties};

/// What is known of a claim, from both sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    /// Most likely to have the order, where several claims could.
    Confirmed,
    Open,
    Failed,
}

/// All of them.
pub(super) fn all(ledger: &Ledger, past: &Past, orders: &[OrderRow]) -> Vec<Check> {
    let claims = Claims::of(ledger, past);
    let mut found = Found::default();
    for row in orders {
        found.note(row, &claims, ledger, past);
    }
    let twice = past.claims.iter().filter(|(_, claim)| claim.answered_twice);
    let twice = twice.map(|(id, _)| format!("claim {id}: two order numbers"));
    let limit = ledger.sale.per_user.orders;
    let beyond = found.by_user.iter().filter(|(_, orders)| **orders > limit);
    let beyond = beyond.map(|(user, orders)| format!("user {user:?}: {orders} orders of {limit}"));
    let without = without_outcome(&claims, &found.owners, ledger, past);
    let units = orders.iter().map(OrderRow::units).sum();
    let stock = ledger.sale.budget() + past.voided;
    let mut late = Check::none("I15 nothing sent after its deadline", found.late);
    if orders.iter().all(|row| row.received_ms.is_none()) {
        late.details.push("the shop's list has no column received_ms: not compared".to_owned());
    }
    vec![
        Check::none("E1 one answer", twice.collect()),
        Check::none("E2 every admission has its outcome", without),
        Check::none("E3 what failed has no order", found.failed),
        Check::none("E4 one order of a claim", found.again),
        Check::none("E5 every order was admitted", found.strangers),
        Check::none("E6 each answer is its buyer's", found.crossed),
        Check::none("I3 no user twice at the shop", beyond.collect()),
        Check::at_most("I4 shop within the stock", stock, units, vec![]),
        late,
    ]
}

/// Admissions without an outcome that are not on their way to one, and sales without an order.
fn without_outcome(
    claims: &Claims,
    owners: &HashSet<ClaimId>,
    ledger: &Ledger,
    past: &Past,
) -> Vec<String> {
    let records: HashSet<ClaimId> = ledger.records.iter().map(|record| record.claim).collect();
    let open = past.admitted().filter(|(_, claim)| claim.last == Event::Admitted);
    let lost = open.filter(|(id, _)| !records.contains(*id));
    let mut found: Vec<String> = lost
        .map(|(id, _)| format!("claim {id}: no outcome, and the ledger has it no more"))
        .collect();
    let confirmed = claims.standing.iter().filter(|(_, s)| **s == Standing::Confirmed);
    let without = confirmed.filter(|(claim, _)| !owners.contains(claim));
    found.extend(without.map(|(id, _)| format!("claim {id}: confirmed, the shop has no order")));
    found
}

/// What the shop's list shows.
#[derive(Debug, Default)]
struct Found {
    /// Claims that have an order.
    owners: HashSet<ClaimId>,
    /// Orders that stand, by user.
    by_user: BTreeMap<String, u64>,
    strangers: Vec<String>,
    again: Vec<String>,
    failed: Vec<String>,
    crossed: Vec<String>,
    late: Vec<String>,
}

impl Found {
    fn note(&mut self, row: &OrderRow, claims: &Claims, ledger: &Ledger, past: &Past) {
        let order = &row.order;
        let claim = claims.of_order(row, ledger, &self.owners);
        match claim {
            None => {
                self.strangers.push(format!("order {order}: no admission of the gate is its own"))
            }
            Some(claim) => {
                if !self.owners.insert(claim) {
                    self.again.push(format!("order {order}: claim {claim} has another order"));
                }
                if claims.standing.get(&claim) == Some(&Standing::Failed) {
                    self.failed
                        .push(format!("order {order}: its claim {claim} is said to have failed"));
                }
                let deadline = claims.deadline.get(&claim).copied();
                let late_ms = row.received_ms.zip(deadline).map(|(t, end)| t.saturating_sub(end));
                if let Some(ms) = late_ms.filter(|ms| *ms > CLOCK_SLACK_MS) {
                    self.late.push(format!("order {order}: {ms} ms after the deadline of {claim}"));
                }
            }
        }
        let user = claim.and_then(|claim| claims.user.get(&claim)).copied();
        let told = claims.by_order.get(order).and_then(|told| Some((told, past.claims.get(told)?)));
        let buyer = row.ties(&ledger.sale.salt).user.or(user);
        if let (Some((told, answered)), Some(buyer)) = (told, buyer)
            && answered.user != buyer
        {
            self.crossed.push(format!("order {order}: of user {buyer}, answered to claim {told}"));
        }
        if row.status.as_deref() != Some("cancelled")
            && let Some(user) = row.user.clone().or(user.map(|user| user.to_string()))
        {
            *self.by_user.entry(user).or_default() += 1;
        }
    }
}

/// Every claim that journal or ledger know, by what may tie an order to it.
#[derive(Debug, Default)]
struct Claims {
    standing: BTreeMap<ClaimId, Standing>,
    user: HashMap<ClaimId, UserKey>,
    by_attempt: HashMap<AttemptId, Vec<ClaimId>>,
    by_user: HashMap<UserKey, Vec<ClaimId>>,
    by_order: HashMap<String, ClaimId>,
    /// Until when they might be sent, in Unix milliseconds, where the ledger still knows.
    deadline: HashMap<ClaimId, u64>,
}

impl Claims {
    fn of(ledger: &Ledger, past: &Past) -> Claims {
        let mut claims = Claims::default();
        for (id, claim) in past.admitted() {
            let standing = match claim.last {
                // A cancelled order is an order.
                Event::Confirmed | Event::Void => Standing::Confirmed,
                Event::Failed => Standing::Failed,
                Event::Admitted | Event::Unknown | Event::Pending => Standing::Open,
            };
            claims.add(*id, claim.user, claim.attempt, standing);
            if let Some(order) = &claim.order {
                claims.by_order.insert(order.clone(), *id);
            }
        }
        for record in &ledger.records {
            let standing = match record.kind {
                RecordKind::Confirmed => Standing::Confirmed,
                _ => Standing::Open,
            };
            claims.add(record.claim, record.user, record.attempt, standing);
            if record.node != NodeId::default() {
                claims.deadline.insert(record.claim, record.deadline.0);
            }
        }
        claims
    }

    /// The ledger's word comes after the journal's and wins.
    fn add(&mut self, claim: ClaimId, user: UserKey, attempt: AttemptId, standing: Standing) {
        if self.standing.insert(claim, standing).is_none() {
            self.user.insert(claim, user);
            self.by_attempt.entry(attempt).or_default().push(claim);
            self.by_user.entry(user).or_default().push(claim);
        }
    }

    /// The claim of an order.
    fn of_order(
        &self,
        row: &OrderRow,
        ledger: &Ledger,
        found: &HashSet<ClaimId>,
    ) -> Option<ClaimId> {
        let Ties { claims, attempt, user } = row.ties(&ledger.sale.salt);
        if let Some(claim) = claims.into_iter().find(|claim| self.standing.contains_key(claim)) {
            return Some(claim);
        }
        let of = |claims: Option<&Vec<ClaimId>>| {
            // One that has no order yet comes first.
            let rank = |claim: &&ClaimId| (found.contains(*claim), self.standing.get(*claim));
            claims?.iter().min_by_key(rank).copied()
        };
        of(attempt.and_then(|attempt| self.by_attempt.get(&attempt)))
            .or_else(|| self.by_order.get(&row.order).copied())
            .or_else(|| {
                let user = user.filter(|_| row.has_only_user());
                of(user.and_then(|user| self.by_user.get(&user)))
            })
    }
}
