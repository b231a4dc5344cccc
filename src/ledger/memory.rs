//! A sale in memory: for the simulated store, and to check other stores against.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::ops::Bound;

use crate::clock::UnixMs;
use crate::ident::{ClaimId, NodeId, SaleId, ServerId, UserKey};
use crate::ledger::{Due, Op, Peer, Record, Reply, Shard, apply};
use crate::sale::SaleState;

/// One sale in memory.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Memory {
    id: SaleId,
    sale: Option<SaleState>,
    users: BTreeMap<UserKey, Vec<Record>>,
    due: BTreeSet<Due>,
    voids: BTreeSet<ClaimId>,
    failed: BTreeSet<ClaimId>,
    nodes: BTreeMap<NodeId, Peer>,
    server: ServerId,
}

impl Memory {
    /// A ledger that knows nothing of the sale `id` yet.
    pub fn new(id: SaleId) -> Memory {
        let (users, due, voids, failed, nodes, server) = Default::default();
        Memory { id, sale: None, users, due, voids, failed, nodes, server }
    }

    /// From now on another server answers.
    pub fn moved_to(&mut self, server: ServerId) {
        self.server = server;
    }

    /// Applies one operation.
    pub fn apply(&mut self, op: &Op, now: UnixMs) -> Reply {
        let Ok(reply) = apply(self, op, now);
        reply
    }

    /// The sale, if it was declared.
    pub fn state(&self) -> Option<&SaleState> {
        self.sale.as_ref()
    }

    /// Whole users in the order of their keys, from the one behind `after` on, until `max` records.
    pub fn page(&self, user: Option<UserKey>, after: Option<UserKey>, max: usize) -> Vec<Record> {
        if let Some(user) = user {
            return self.users.get(&user).cloned().unwrap_or_default();
        }
        let mut page: Vec<Record> = Vec::new();
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        for records in self.users.range((from, Bound::Unbounded)).map(|(_, r)| r) {
            if !page.is_empty() && page.len() + records.len() > max {
                break;
            }
            page.extend_from_slice(records);
        }
        page
    }

    /// Every deadline in the index.
    pub fn deadlines(&self) -> impl Iterator<Item = &Due> {
        self.due.iter()
    }
}

impl Shard for Memory {
    type Error = Infallible;

    fn id(&self) -> &SaleId {
        &self.id
    }

    fn sale(&mut self) -> Result<Option<SaleState>, Infallible> {
        Ok(self.sale.clone())
    }

    fn put_sale(&mut self, state: &SaleState) -> Result<(), Infallible> {
        self.sale = Some(state.clone());
        Ok(())
    }

    fn user(&mut self, user: &UserKey) -> Result<Vec<Record>, Infallible> {
        Ok(self.users.get(user).cloned().unwrap_or_default())
    }

    fn put_user(&mut self, user: &UserKey, records: &[Record]) -> Result<(), Infallible> {
        if records.is_empty() {
            self.users.remove(user);
        } else {
            self.users.insert(*user, records.to_vec());
        }
        Ok(())
    }

    fn due(&mut self, now: UnixMs, max: usize) -> Result<Vec<Due>, Infallible> {
        Ok(self.due.iter().take_while(|due| due.at <= now).take(max).copied().collect())
    }

    fn add_due(&mut self, due: Due) -> Result<(), Infallible> {
        self.due.insert(due);
        Ok(())
    }

    fn remove_due(&mut self, due: Due) -> Result<(), Infallible> {
        self.due.remove(&due);
        Ok(())
    }

    fn is_void(&mut self, claim: &ClaimId) -> Result<bool, Infallible> {
        Ok(self.voids.contains(claim))
    }

    fn put_void(&mut self, claim: &ClaimId) -> Result<(), Infallible> {
        self.voids.insert(*claim);
        Ok(())
    }

    fn is_failed(&mut self, claim: &ClaimId) -> Result<bool, Infallible> {
        Ok(self.failed.contains(claim))
    }

    fn put_failed(&mut self, claim: &ClaimId) -> Result<(), Infallible> {
        self.failed.insert(*claim);
        Ok(())
    }

    fn server(&mut self) -> Result<ServerId, Infallible> {
        Ok(self.server)
    }

    fn nodes(&mut self) -> Result<Vec<(NodeId, Peer)>, Infallible> {
        Ok(self.nodes.iter().map(|(node, peer)| (*node, *peer)).collect())
    }

    fn put_node(&mut self, node: NodeId, peer: Option<Peer>) -> Result<(), Infallible> {
        match peer {
            Some(peer) => drop(self.nodes.insert(node, peer)),
            None => drop(self.nodes.remove(&node)),
        }
        Ok(())
    }
}
