//! From a decision to an outcome: claims go to the store in batches, an admission is written to the
//! journal before it is sent, and every permit ends in an outcome.
//!
//! ```text
//! gate ─ claim(Ask) ─→ batch ─→ store ─→ journal ─→ Permit ─ begin_send ─→ Sent ─ resolve ─→ outcome
//!                                                     └ dropped: F           └ dropped: X
//! ```

use crate::clock::UnixMs;
use crate::ident::{AttemptId, ClaimId, Name, RequestId, SaleId, UserKey};
use crate::ledger::{Claimed, RecordKind};
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

/// What this node knows of a user in a sale without asking the ledger. A hint for those who ask
/// again, never a right: the ledger decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// What the newest record says.
    pub kind: RecordKind,
    /// Its claim.
    pub claim: ClaimId,
    /// Its attempt.
    pub attempt: AttemptId,
    /// The order's number, if it was heard.
    pub order: Option<String>,
}

/// The way to the ledger. Cheap to clone; usable from any thread.
#[derive(Clone, Debug)]
pub struct Claims {}

impl Claims {
    /// Claims what `ask` says. It may be dropped at any time: an admission that nobody waits for is
    /// undone.
    pub async fn claim(&self, _ask: Ask) -> Claim {
        Claim::Unavailable
    }

    /// Whether claims can be tried at all now: the store answers and the journal can be written.
    pub fn is_open(&self) -> bool {
        false
    }

    /// What this node knows of `user` in `sale`. Never waits.
    pub fn known(&self, _sale: &SaleId, _user: &UserKey) -> Option<Known> {
        None
    }
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

    /// From now on bytes may be with the shop.
    pub fn begin_send(self) -> Sent {
        Sent { claim: self.claim }
    }
}

/// A purchase that may be with the shop. Dropped without an outcome, it is X.
#[derive(Debug)]
pub struct Sent {
    claim: ClaimId,
}

impl Sent {
    /// The claim.
    pub fn claim(&self) -> ClaimId {
        self.claim
    }

    /// The outcome: journalled, then told to the ledger until it has it.
    pub fn resolve(self, _outcome: Outcome) {}
}
