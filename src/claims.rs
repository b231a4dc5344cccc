//! From a decision to an outcome: claims go to the store in batches, an admission is written to the
//! journal before it is sent, and every permit ends in an outcome.

use crate::clock::UnixMs;
use crate::ident::{AttemptId, ClaimId, Name, RequestId, SaleId, UserKey};
use crate::ledger::Claimed;
use crate::outcome::Verdict;

/// What a purchase asks for.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The sale.
    pub sale: SaleId,
    /// What the client repeats.
    pub attempt: AttemptId,
    /// The buyer.
    pub user: UserKey,
    /// The pool.
    pub pool: Name,
    /// Units.
    pub units: u32,
    /// The request, for logs.
    pub request: RequestId,
}

/// What a claim came to.
#[derive(Debug)]
pub enum Claim {
    /// Admitted, and in the journal.
    Admitted(Permit),
    /// Refused by the ledger.
    Refused(Claimed),
    /// The store or the journal is down: nothing was admitted, or it is undone.
    Unavailable,
    /// The queue of claims is full.
    Overloaded,
}

/// What the shop's answer to an admitted purchase came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The verdict.
    pub verdict: Verdict,
    /// The shop's status, if it answered.
    pub status: Option<u16>,
    /// The shop's code, if a rule read one.
    pub code: Option<String>,
    /// The order's number, if a rule read it.
    pub order: Option<String>,
}

/// The right to send one admitted purchase. Dropped before it is sent, it is F; afterwards X.
#[derive(Debug)]
pub struct Permit {
    claim: ClaimId,
    deadline: UnixMs,
}

impl Permit {
    /// The claim.
    pub fn claim(&self) -> ClaimId {
        self.claim
    }

    /// No byte may leave after this ledger time.
    pub fn deadline(&self) -> UnixMs {
        self.deadline
    }
}
