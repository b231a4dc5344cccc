//! What must be true, and who looks: it sees everything, the shop's orders and every journal included.

use std::collections::{BTreeMap, BTreeSet};

use penstock::ledger::{Memory, RecordKind};
use penstock::outcome::Verdict;
use penstock::sale::SaleState;

use crate::sale::{kind_of, order, records};

/// What is true of one claim.
#[derive(Clone, Debug)]
pub struct Truth {
    pub user: usize,
    pub node: usize,
    pub is_sent: bool,
    pub is_ordered: bool,
    /// What the node heard and has on its disk.
    pub heard: Option<Verdict>,
    /// Its node died while nobody else knew of it.
    pub is_orphan: bool,
}

/// The truth, and the first breach of it.
#[derive(Default)]
pub struct Oracle {
    pub claims: Vec<Truth>,
    /// Units there are.
    pub stock: usize,
    pub breach: Option<String>,
    out: BTreeSet<usize>,
    by_user: BTreeMap<usize, usize>,
}

impl Oracle {
    pub fn new(stock: usize) -> Oracle {
        Oracle { stock, ..Oracle::default() }
    }

    pub fn breach(&mut self, text: String) {
        self.breach.get_or_insert(text);
    }

    /// A purchase is on its way to the shop.
    pub fn sent(&mut self, claim: usize, is_on_disk: bool) {
        let truth = &mut self.claims[claim];
        let (user, was_sent) = (truth.user, truth.is_sent);
        truth.is_sent = true;
        if was_sent {
            self.breach(format!("once: claim {claim} was sent twice"));
        }
        if !is_on_disk {
            self.breach(format!("journal: claim {claim} was sent and is on no disk"));
        }
        self.out.insert(claim);
        if let Some(other) = self.by_user.insert(user, claim).filter(|other| *other != claim) {
            self.breach(format!("user: claims {other} and {claim} are both of user {user}"));
        }
        if self.out.len() > self.stock {
            let (out, stock) = (self.out.len(), self.stock);
            self.breach(format!("stock: {out} purchases are out, of {stock} units"));
        }
    }

    /// The shop took an order.
    pub fn ordered(&mut self, claim: usize) {
        self.claims[claim].is_ordered = true;
        let user = self.claims[claim].user;
        let is_other = |c: &(usize, &Truth)| c.0 != claim && c.1.user == user && c.1.is_ordered;
        if let Some((other, _)) = self.claims.iter().enumerate().find(is_other) {
            self.breach(format!("user: orders {other} and {claim} are both of user {user}"));
        }
        let orders = self.claims.iter().filter(|c| c.is_ordered).count();
        if orders > self.stock {
            self.breach(format!("stock: {orders} orders of {} units", self.stock));
        }
    }

    /// A node wrote down what became of a claim.
    pub fn heard(&mut self, claim: usize, verdict: Verdict) {
        let truth = &mut self.claims[claim];
        truth.heard = Some(verdict);
        if verdict == Verdict::Failed {
            let user = truth.user;
            self.out.remove(&claim);
            if self.by_user.get(&user) == Some(&claim) {
                self.by_user.remove(&user);
            }
        }
    }

    /// A node's view of the sale goes from `old` to `new`.
    pub fn sees(&mut self, node: usize, old: &SaleState, new: &SaleState) {
        if order(new) < order(old) || (new.epoch == old.epoch && old.sold_out && !new.sold_out) {
            let (old, new) = (order(old), order(new));
            self.breach(format!("view: node {node} goes from {old:?} to {new:?}"));
        }
    }

    /// After each operation of the ledger; whether it has seen on which server it runs.
    pub fn look(&mut self, ledger: &Memory, has_looked: bool) {
        let Some(sale) = ledger.state() else { return };
        let all = records(ledger);
        let of = |kind: RecordKind| all.iter().filter(|r| r.kind == kind).count() as u64;
        let held = of(RecordKind::Admitted) + of(RecordKind::Pending);
        let (limbo, confirmed) = (of(RecordKind::Limbo), of(RecordKind::Confirmed));
        let pool = &sale.pools[0];
        if (pool.held, pool.limbo, pool.confirmed) != (held, limbo, confirmed) {
            self.breach(format!("counters: {pool:?} of {held}, {limbo}, {confirmed} records"));
        }
        if ledger.deadlines().count() as u64 != held {
            self.breach(format!("deadlines: not those of {held} records"));
        }
        // A ledger that went back may have records of what failed since: their nodes say so.
        if sale.learn_until.0 != 0 || !has_looked {
            return;
        }
        if pool.confirmed + pool.held + pool.limbo > self.stock as u64 {
            self.breach(format!("stock: {pool:?} of {} units", self.stock));
        }
        if let Some(pair) = all.windows(2).find(|pair| pair[0].user == pair[1].user) {
            self.breach(format!("user: {:?} has two records", pair[0].user));
        }
    }

    /// At the end, long after the last fault: nothing is lost, nothing is held for nothing.
    pub fn end(&mut self, ledger: &Memory) {
        let Some(sale) = ledger.state() else {
            return self.breach("end: the sale is gone".to_owned());
        };
        if !sale.sold_out {
            self.breach(format!("end: not sold to the last unit: {:?}", sale.pools[0]));
        }
        for (n, truth) in self.claims.clone().into_iter().enumerate() {
            let kind = kind_of(ledger, truth.user, n);
            let is_right = match (truth.is_sent, truth.heard) {
                (_, Some(Verdict::Confirmed)) => {
                    truth.is_ordered && kind == Some(RecordKind::Confirmed)
                }
                (true, Some(Verdict::Unknown)) => kind == Some(RecordKind::Limbo),
                // A claim that no journal knows: gone, unless its node died; then it waits in limbo.
                (false, Some(Verdict::Failed) | None) => {
                    kind.is_none() || (truth.is_orphan && kind == Some(RecordKind::Limbo))
                }
                (true, Some(Verdict::Failed)) => kind.is_none() && !truth.is_ordered,
                (false, Some(Verdict::Unknown)) => kind == Some(RecordKind::Limbo),
                _ => false,
            };
            if !is_right {
                self.breach(format!("end: the ledger has {kind:?} of claim {n}: {truth:?}"));
            }
        }
    }
}
