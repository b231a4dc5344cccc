//! Where the core finds a sale: what a store must offer so that the rules can run inside it.

use crate::clock::UnixMs;
use crate::ident::{ClaimId, NodeId, SaleId, ServerId, UserKey};
use crate::ledger::Record;
use crate::sale::{Mark, SaleState};

/// An entry of the index of deadlines. Its order is the order in which the reaper takes records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Due {
    /// The deadline.
    pub at: UnixMs,
    /// The buyer.
    pub user: UserKey,
    /// The claim of the record.
    pub claim: ClaimId,
}

/// A node, as the ledger knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Peer {
    /// When it was heard last, by the ledger's clock.
    pub seen: UnixMs,
    /// The generation of the ledger's memory to which it has said everything it knows.
    pub reported: Option<Mark>,
}

/// One sale, within one atomic operation: what is written is read again, and nobody else writes.
pub trait Shard {
    /// Why reading or writing failed.
    type Error;

    /// Site and sale.
    fn id(&self) -> &SaleId;

    /// The sale, if it was declared.
    fn sale(&mut self) -> Result<Option<SaleState>, Self::Error>;

    /// Writes the sale.
    fn put_sale(&mut self, state: &SaleState) -> Result<(), Self::Error>;

    /// The records of a user, in the order of [`Shard::put_user`].
    fn user(&mut self, user: &UserKey) -> Result<Vec<Record>, Self::Error>;

    /// Replaces the records of a user; none: forgets the user.
    fn put_user(&mut self, user: &UserKey, records: &[Record]) -> Result<(), Self::Error>;

    /// The first `max` deadlines that are not after `now`, in their order.
    fn due(&mut self, now: UnixMs, max: usize) -> Result<Vec<Due>, Self::Error>;

    /// Adds a deadline to the index.
    fn add_due(&mut self, due: Due) -> Result<(), Self::Error>;

    /// Removes a deadline from the index, if it is there.
    fn remove_due(&mut self, due: Due) -> Result<(), Self::Error>;

    /// Whether a V took the record of this claim. Each order that was cancelled is remembered.
    fn is_void(&mut self, claim: &ClaimId) -> Result<bool, Self::Error>;

    /// Remembers that a V took the record of this claim.
    fn put_void(&mut self, claim: &ClaimId) -> Result<(), Self::Error>;

    /// Whether a node re-asserted an F of this claim when there was no record of it.
    fn is_failed(&mut self, claim: &ClaimId) -> Result<bool, Self::Error>;

    /// Remembers that it did.
    fn put_failed(&mut self, claim: &ClaimId) -> Result<(), Self::Error>;

    /// The server that answers; zero for a store that forgets nothing.
    fn server(&mut self) -> Result<ServerId, Self::Error>;

    /// The nodes that were heard, in any order.
    fn nodes(&mut self) -> Result<Vec<(NodeId, Peer)>, Self::Error>;

    /// Remembers a node, or forgets it.
    fn put_node(&mut self, node: NodeId, peer: Option<Peer>) -> Result<(), Self::Error>;
}
