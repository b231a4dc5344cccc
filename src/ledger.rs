//! The rules of admission, as a pure core: `apply(ledger, op, now) → reply`.
//!
//! No IO, no clock, no randomness, integers only. Both stores are checked against it: the embedded
//! store runs it inside its transactions, the Redis scripts say the same in Lua. So this page is the
//! specification; where a rule has an order, the order is part of it.
//!
//! # What a sale holds
//!
//! The [`SaleState`], with the last [`IDS_MAX`] ids of applied `AddStock` and `Restock`; for each user a list of [`Record`]s in the order in which they were made; an
//! index of the deadlines of all records A and P, in the order (deadline, user, claim); the claims whose records a V took, and those
//! that a node re-asserted as F; the nodes, and what each of them has re-asserted. The counters of a
//! pool are always the sums of the units of its records: `held` of A and P, `limbo` of L, `confirmed`
//! of C.
//!
//! # The end of every operation but `Read`
//!
//! 1. A pool with `held = 0` and `confirmed + limbo >= stock` latches `sold_out`, unless the ledger is
//!    learning: what it knows is not whole yet. Where the shop's number leads, it must have been read
//!    as 0 twice too. With an overshoot above 1.0 it does so although there
//!    is room, on purpose. Where the learning is over, `learn_until` becomes 0.
//! 2. The sale is `sold_out` exactly where all its pools are.
//! 3. If anything differs from before, apart from `confirmed`, `held`, `limbo`, `revision`, `applied`,
//!    `ids`, `seq`, and the shop's numbers with what is known of their readings, then `version` rises by one.
//! 4. If a user's records were written, `seq` rises by one.
//!
//! A latch is only cleared by `Restock`, which begins an epoch. `version` never starts again.
//!
//! # Fence
//!
//! Claims and re-assertions look first whether the ledger may have forgotten something: its server is
//! not the one that it was written by, or the sender has seen a higher `seq` and the ledger is not
//! learning already. Then `server` becomes the one that answers, `fences` rises by one, and the ledger
//! is *learning* until `learn_ms` from now.
//!
//! # Claim
//!
//! A batch whose `not_after` is before now is [`Claimed::TooLate`] as a whole, and not even the fence
//! looks at it. Otherwise each try in turn, and the first line that fits answers:
//!
//! | looked at | if | answer |
//! |---|---|---|
//! | the user's records of this attempt | one is C | `Confirmed` |
//! | | one is A | `InProgress`, `same` where the node is the same |
//! | | one is P or L | `Pending` |
//! | the user's other records | one is A | `InProgress`, not `same` |
//! | | one is P or L | `Pending` |
//! | | all are C, and no order is left, or fewer units than asked | `Already` where `per_user.orders` is 1, else `Limit` |
//! | the sale | the word, or `now >= ends_at` | `Ended` |
//! | | `sold_out` | `SoldOut` |
//! | the pool | there is none | `UnknownPool` |
//! | | `sold_out` | `SoldOut` |
//! | the time | `now < opens_at` | `NotStarted` |
//! | the operator | `paused` | `Paused` |
//! | the memory | it is learning, or the node has re-asserted to another generation of it | `Learning` |
//! | the shop's number | it leads, and is unknown or older than [`READ_MAX_MS`](crate::sale::follow::READ_MAX_MS) | `Unread` |
//! | limits | 0 units, or more than the user may buy | `Limit` |
//! | room | `units <= room` | `Admitted`: record A until `now + claim_ttl_ms` |
//! | | `room <= 0` | `Busy` |
//! | | else | `Insufficient`, with the room |
//!
//! Orders and units of a user count all records, over all pools; [`RECORDS_MAX`] bounds them too. Of
//! several records that fit, the oldest is named. A try whose own claim id is in the ledger already (a
//! batch sent twice) finds its record like any other: `InProgress` with its own id.
//!
//! # Resolve
//!
//! Matched by claim id within the user's records; pool and units are those of the record.
//!
//! | | no record | A | P | L | C |
//! |---|---|---|---|---|---|
//! | C | `Late` → C; after a V `Repeated` | → C | → C | → C | `Repeated` |
//! | F | `Unknown` | gone | gone | gone | `Conflict` |
//! | X | `Unknown` | → L | `Repeated`; at its deadline → L | `Repeated` | `Repeated` |
//! | P | `Unknown` | → P | `Repeated` | → P if `hold_until > now`, else `Repeated` | `Repeated` |
//! | V | `Unknown` | gone | gone | gone | gone |
//!
//! `→` and *gone* are `Applied`; `Repeated`, `Unknown` and `Conflict` change nothing. A record P is due
//! at `hold_until`; without one it keeps the deadline it had. A `Late` C makes a record with the
//! resolution's attempt, pool and units, the zero node and deadline 0, even beyond [`RECORDS_MAX`]: the
//! order exists. Where its pool does not, it is a `Conflict`. L, C keep the deadline they had.
//!
//! F and V free units at once; where the pool is latched only a restock sells them. Where the shop's
//! number leads, a V of a C lowers the stock with it: that number says when the unit is back.
//!
//! # Reap
//!
//! Records A and P with `deadline <= now`, in the order of the index, become L and are returned.
//!
//! Then, with the restock policy `auto`, unless the sale is over or the ledger is learning: the pools
//! that are latched, not by the operator's word, and of whose units a batch has been back for
//! `restock_debounce_ms`, open again: `epoch + 1` for all of them together. Since when a batch is back
//! is noted at the end of every operation, in `back_since`.
//!
//! # Observe
//!
//! [`observe`] lists the rules in their order.
//!
//! # Re-assert
//!
//! [`reassert`] lists the rules in their order.
//!
//! # Declare
//!
//! [`declare`] lists the rules in their order.
//!
//! # Control
//!
//! [`control`] lists the rules in their order.

pub mod control;
pub mod declare;
pub mod memory;
pub mod observe;
pub mod reassert;
pub mod shard;

mod claim;
mod fence;
mod reap;
mod resolve;
mod turn;

#[cfg(test)]
pub(crate) mod tests;

pub use memory::Memory;
pub use observe::{Observe, Observed, Reading};
pub use reassert::{Assertion, Reassert};
pub use shard::{Due, Peer, Shard};

use turn::Turn;

use crate::clock::UnixMs;
use crate::ident::{AttemptId, ClaimId, Name, NodeId, Salt, UserKey};
use crate::outcome::Verdict;
use crate::sale::{Declaration, Mark, SaleState};

/// Most records of one user that claims make.
pub const RECORDS_MAX: usize = 8;

/// Ids of `AddStock` and `Restock` that are remembered, the last ones. An operator or a shop that
/// repeats a command does so within its last few.
pub const IDS_MAX: usize = 64;

/// Longest id of a command, in bytes.
pub const ID_BYTES_MAX: usize = 128;

/// Most units of one pool, as in a declaration.
pub const STOCK_MAX: u64 = 1_000_000_000;

/// Applies `op` to the sale in `shard` at ledger time `now`, and tells the sale as it is afterwards.
///
/// Fails only where the shard does; then parts may have been written, and the caller must undo them.
pub fn apply<S: Shard>(shard: &mut S, op: &Op, now: UnixMs) -> Result<Reply, S::Error> {
    let mut turn = match (shard.sale()?, op) {
        (state, Op::Read) => {
            let result = if state.is_some() { OpResult::Read } else { OpResult::NoSale };
            return Ok(Reply { state, now, result });
        }
        // No operation at all.
        (Some(state), Op::Declare(said)) if let Err(bad) = said.declaration.check() => {
            let result = OpResult::Declared(Declared::Refused(bad.to_string()));
            return Ok(Reply { state: Some(state), now, result });
        }
        (Some(state), _) => Turn::new(shard, state, now),
        (None, Op::Declare(declare)) => {
            let (state, declared) = declare::create(shard, declare, now)?;
            return Ok(Reply { state, now, result: OpResult::Declared(declared) });
        }
        (None, op) => match op {
            Op::Reassert(said) if let Some(known) = &said.known => {
                Turn::restored(shard, known.clone(), now)
            }
            _ => return Ok(Reply { state: None, now, result: OpResult::NoSale }),
        },
    };
    let result = match op {
        Op::Claim(batch) => OpResult::Claimed(claim::claim(&mut turn, batch)?),
        Op::Resolve(outcomes) => OpResult::Resolved(resolve::resolve(&mut turn, outcomes)?),
        Op::Reap { max } => OpResult::Reaped(reap::reap(&mut turn, *max)?),
        Op::Declare(declare) => OpResult::Declared(declare::change(&mut turn, declare)),
        Op::Control(control) => OpResult::Controlled(control::control(&mut turn, control)),
        Op::Observe(seen) => OpResult::Observed(observe::observe(&mut turn, seen)),
        Op::Reassert(said) => {
            let (resolved, nodes) = reassert::reassert(&mut turn, said)?;
            OpResult::Reasserted { resolved, nodes }
        }
        Op::Read => OpResult::Read,
    };
    Ok(Reply { state: Some(turn.finish()?), now, result })
}

/// One operation on one sale.
#[derive(Clone, Debug)]
pub enum Op {
    /// Claims of one node, in the order they came.
    Claim(ClaimBatch),
    /// Outcomes of admitted purchases. Idempotent: matched by claim id.
    Resolve(Vec<Resolution>),
    /// Records past their deadline go to limbo, at most `max` of them.
    Reap {
        /// Most records in one operation.
        max: u32,
    },
    /// A declaration, from a config (`revision` absent) or JSON.
    Declare(Box<Declare>),
    /// An operator's word.
    Control(Control),
    /// What the shop's own numbers say.
    Observe(Observe),
    /// What a node knows and the ledger may have forgotten. Idempotent, and equal in any order.
    Reassert(Box<Reassert>),
    /// Only tells the state.
    Read,
}

/// What a node must say so that the ledger finds out what it forgot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fence {
    /// How long claims are frozen, in milliseconds, unless all nodes have re-asserted before.
    pub learn_ms: u64,
    /// The highest `seq` of this sale that the node has seen.
    pub seen: u64,
}

/// Claims of one node.
#[derive(Clone, Debug)]
pub struct ClaimBatch {
    /// The node.
    pub node: NodeId,
    /// The batch is refused as a whole after this ledger time: the sender has given up on it.
    pub not_after: UnixMs,
    /// How long a record may stay A before it goes to limbo, in milliseconds.
    pub claim_ttl_ms: u64,
    /// What the node has re-asserted everything to; `None`: to nothing yet.
    pub reported: Option<Mark>,
    /// What the fence needs.
    pub fence: Fence,
    /// The claims.
    pub tries: Vec<Try>,
}

/// One claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Try {
    /// New for every claim.
    pub claim: ClaimId,
    /// What the client repeats.
    pub attempt: AttemptId,
    /// The buyer.
    pub user: UserKey,
    /// The pool.
    pub pool: Name,
    /// Units, all or nothing.
    pub units: u32,
}

/// What became of one claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claimed {
    /// Admitted; the record goes to limbo at this ledger time.
    Admitted {
        /// Deadline.
        deadline: UnixMs,
    },
    /// A record A of this user: `same` is true for the same attempt from the same node.
    InProgress {
        /// The claim of the record.
        claim: ClaimId,
        /// Same attempt, same node.
        same: bool,
    },
    /// A record P or L of this user.
    Pending {
        /// The claim of the record.
        claim: ClaimId,
    },
    /// This attempt was confirmed before.
    Confirmed {
        /// The claim of the record.
        claim: ClaimId,
    },
    /// Another attempt was confirmed, and one order is all a user may have.
    Already,
    /// The user's limit; so many units are left to them.
    Limit {
        /// Units this user may still buy.
        max_units: u32,
    },
    /// Before T0 by the ledger's clock.
    NotStarted,
    /// Over by the ledger's clock or the operator's word.
    Ended,
    /// The pool's or the sale's latch.
    SoldOut,
    /// The operator paused the sale.
    Paused,
    /// The ledger may have forgotten admissions, of this node or of others: it is being told.
    Learning,
    /// The shop's number leads, and is unknown or was read too long ago.
    Unread,
    /// Room is 0: every unit is held.
    Busy,
    /// Less room than asked for.
    Insufficient {
        /// The room.
        max_units: u32,
    },
    /// No such pool.
    UnknownPool,
    /// The batch came after `not_after`: nothing was done.
    TooLate,
}

/// The outcome of one claim. Pool, units and attempt are said again, since a C must be counted even
/// where the ledger has no record of the claim any more: the order exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolution {
    /// The buyer.
    pub user: UserKey,
    /// The claim; an outcome never touches another claim's record.
    pub claim: ClaimId,
    /// The attempt.
    pub attempt: AttemptId,
    /// The pool.
    pub pool: Name,
    /// Units.
    pub units: u32,
    /// The outcome.
    pub verdict: Verdict,
    /// For [`Verdict::Pending`]: held until this ledger time.
    pub hold_until: Option<UnixMs>,
}

/// What became of one outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolved {
    /// The record changed.
    Applied,
    /// The record says so already, or knows more.
    Repeated,
    /// The record says otherwise (an F after a C): nothing was changed, an operator must look.
    Conflict,
    /// No record of this claim, because there never was one or an F or V removed it, and the outcome
    /// needs none.
    Unknown,
    /// A C without a record: it was counted all the same, and an operator should look. Of what a node
    /// re-asserts: the record was made again.
    Late,
}

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum RecordKind {
    /// A: admitted, the outcome is open; the units are held.
    #[serde(rename = "A")]
    Admitted,
    /// P: the shop accepted, its final word comes later; the units are held.
    #[serde(rename = "P")]
    Pending,
    /// L: in limbo, nobody knows.
    #[serde(rename = "L")]
    Limbo,
    /// C: confirmed.
    #[serde(rename = "C")]
    Confirmed,
}

/// One record of one user.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Record {
    /// What it says.
    pub kind: RecordKind,
    /// The buyer.
    pub user: UserKey,
    /// The claim.
    pub claim: ClaimId,
    /// The attempt.
    pub attempt: AttemptId,
    /// The pool.
    pub pool: Name,
    /// Units.
    pub units: u32,
    /// The node that claimed; zero for a late C.
    pub node: NodeId,
    /// When A or P goes to limbo; means nothing for L and C.
    pub deadline: UnixMs,
}

/// A declaration with what the first one writes.
#[derive(Clone, Debug)]
pub struct Declare {
    /// What is declared.
    pub declaration: Declaration,
    /// Salt, used only if the sale is new.
    pub salt: Salt,
}

/// What became of a declaration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Declared {
    /// The sale is new, or changed.
    Applied,
    /// Applied before: nothing changed.
    Unchanged,
    /// New, and T0 is past: created paused. `penstock sale resume` opens it.
    CreatedPaused,
    /// Refused; the text says why and what to do.
    Refused(String),
}

/// An operator's word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Control {
    /// No purchases until [`Control::Resume`].
    Pause,
    /// Purchases again.
    Resume,
    /// Sold out, whatever the stock: every pool latches.
    SoldOut,
    /// Over.
    End,
    /// More units in the same epoch; refused once the pool is latched.
    AddStock {
        /// The pool.
        pool: Name,
        /// Units.
        units: u64,
        /// Idempotency: an id that was applied is not applied again.
        id: String,
    },
    /// Units come back after the latch: a new epoch.
    Restock {
        /// The pool.
        pool: Name,
        /// Units added to the stock; 0 sells what failed after the latch.
        units: u64,
        /// Idempotency; `AddStock` and `Restock` share their ids.
        id: String,
    },
}

/// What became of an operator's word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Controlled {
    /// Done.
    Applied,
    /// It was so already, or the id was seen.
    Unchanged,
    /// Refused by the state; the text says why.
    Refused(String),
}

/// What the ledger says to an operation, always with the sale as it is afterwards.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The sale, `None` if there is none.
    pub state: Option<SaleState>,
    /// The ledger's clock.
    pub now: UnixMs,
    /// The part that belongs to the operation.
    pub result: OpResult,
}

/// The part of a reply that belongs to the operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpResult {
    /// One for each try.
    Claimed(Vec<Claimed>),
    /// One for each resolution.
    Resolved(Vec<Resolved>),
    /// What went to limbo.
    Reaped(Vec<Record>),
    /// What became of the declaration.
    Declared(Declared),
    /// What became of the operator's word.
    Controlled(Controlled),
    /// One for each reading.
    Observed(Vec<Observed>),
    /// What became of what a node re-asserted.
    Reasserted {
        /// One for each claim.
        resolved: Vec<Resolved>,
        /// The nodes that live; told while the ledger learns, and where it was asked for.
        nodes: Vec<NodeId>,
    },
    /// Only the state was asked for.
    Read,
    /// There is no such sale.
    NoSale,
}
