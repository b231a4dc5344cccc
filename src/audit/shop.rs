//! The invariants of the shop: its own list of orders against the gate's claims.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::Check;
use super::ledger::Ledger;
use super::past::Past;
use crate::ident::{AttemptId, ClaimId, UserKey};
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
    let (mut strangers, mut wrong) = (Vec::new(), Vec::new());
    let mut found: HashSet<ClaimId> = HashSet::new();
    let mut by_user: BTreeMap<String, u64> = BTreeMap::new();
    for row in orders {
        let claim = claims.of_order(row, ledger, &found);
        let order = &row.order;
        match claim {
            None => strangers.push(format!("order {order}: no admission of the gate is its own")),
            Some(claim) => {
                if !found.insert(claim) {
                    strangers.push(format!("order {order}: claim {claim} has another order"));
                }
                if claims.standing.get(&claim) == Some(&Standing::Failed) {
                    wrong.push(format!("order {order}: its claim {claim} is said to have failed"));
                }
            }
        }
        if row.status.as_deref() != Some("cancelled") {
            let user = claim.and_then(|claim| claims.user.get(&claim)).map(UserKey::to_string);
            if let Some(user) = row.user.clone().or(user) {
                *by_user.entry(user).or_default() += 1;
            }
        }
    }
    let confirmed = claims.standing.iter().filter(|(_, s)| **s == Standing::Confirmed);
    let without = confirmed.filter(|(claim, _)| !found.contains(claim));
    wrong.extend(
        without.map(|(claim, _)| format!("claim {claim}: confirmed, the shop has no order")),
    );
    let limit = ledger.sale.per_user.orders;
    let twice = by_user.iter().filter(|(_, orders)| **orders > limit);
    let twice = twice.map(|(user, orders)| format!("user {user:?}: {orders} orders of {limit}"));
    let units = orders.iter().map(OrderRow::units).sum();
    vec![
        Check::none("E1 every order was admitted", strangers),
        Check::none("E2 confirmed = ordered", wrong),
        Check::none("E3 no user twice at the shop", twice.collect()),
        Check::at_most(
            "E4 shop within the stock",
            ledger.sale.budget() + past.voided,
            units,
            vec![],
        ),
    ]
}

/// Every claim that journal or ledger know, by what may tie an order to it.
#[derive(Debug, Default)]
struct Claims {
    standing: BTreeMap<ClaimId, Standing>,
    user: HashMap<ClaimId, UserKey>,
    by_attempt: HashMap<AttemptId, Vec<ClaimId>>,
    by_user: HashMap<UserKey, Vec<ClaimId>>,
    by_order: HashMap<String, ClaimId>,
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
        if let Some(claim) = self.by_order.get(&row.order) {
            return Some(*claim);
        }
        let of = |claims: Option<&Vec<ClaimId>>| {
            let free = claims?.iter().filter(|claim| !found.contains(claim));
            free.min_by_key(|claim| self.standing.get(claim)).copied()
        };
        of(attempt.and_then(|attempt| self.by_attempt.get(&attempt))).or_else(|| {
            of(user.filter(|_| row.has_only_user()).and_then(|user| self.by_user.get(&user)))
        })
    }
}
