//! The rules of admission, as a pure core: `apply(ledger, op, now) → reply`.
//!
//! No IO, no clock, no randomness, integers only. Both stores are checked against it: the embedded
//! store runs it inside its transactions, the Redis scripts say the same in Lua.

use crate::clock::UnixMs;
use crate::ident::{AttemptId, ClaimId, Name, NodeId, Salt, UserKey};
use crate::outcome::Verdict;
use crate::sale::{Declaration, SaleState};

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
    /// Only tells the state.
    Read,
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
    /// The record says so already, or is gone after an F.
    Repeated,
    /// The record says otherwise (an F after a C): nothing was changed, an operator must look.
    Conflict,
    /// No record of this claim, and the outcome needs none (F, X).
    Unknown,
    /// A C without a record: it was counted all the same, and an operator should look.
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
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
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
    /// The node that claimed.
    pub node: NodeId,
    /// When A or P goes to limbo.
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
    /// Sold out, whatever the stock.
    SoldOut,
    /// Over.
    End,
    /// More units, in the same epoch where the pool is not latched.
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
        /// Idempotency.
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
    /// Only the state was asked for.
    Read,
    /// There is no such sale.
    NoSale,
}
