//! The journal: every admission and every outcome, one JSON line each, chained by a keyed hash.
//!
//! It is written before an admitted purchase is sent; when it cannot be written, nobody is admitted.
//! Restart, audit, report and limbo read it. This module is the format, the writer ([`mod@write`]) and the
//! reader ([`mod@read`]); it knows neither the store nor the network.
//!
//! Files are `STATE_DIR/journal/NNNNNNNN.jsonl`, from 1; numbers and chain go on from one to the next.
//! The chain shows that a line was changed, added or taken out by someone without `journal.key`. It
//! cannot show that the newest lines are missing: the ledger's own counters show that.

pub mod chain;
mod disk;
pub mod read;
pub mod write;

pub use chain::Key;
pub use read::{Chain, Found, read};
pub use write::{Journal, JournalError};

use serde::{Deserialize, Serialize};

use crate::ident::{AttemptId, ClaimId, Name, NodeId, UserKey};

/// What happened to a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// The ledger admitted it. Written before the purchase is sent.
    Admitted,
    /// C.
    Confirmed,
    /// F.
    Failed,
    /// X: it went to limbo.
    Unknown,
    /// P.
    Pending,
    /// V.
    Void,
}

impl Event {
    /// What is known of a claim after `self`, of which `before` was known. "Nobody knows" and "later"
    /// take nothing back: the reaper's line may come after the outcome that was faster.
    pub fn after(self, before: Option<Event>) -> Event {
        match (before, self) {
            (
                Some(known @ (Event::Confirmed | Event::Failed | Event::Void)),
                Event::Admitted | Event::Unknown | Event::Pending,
            ) => known,
            // Lines of several nodes are not read in the order of time.
            (Some(known), Event::Admitted) => known,
            _ => self,
        }
    }
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Unix milliseconds, by the ledger's clock.
    pub t: u64,
    /// Number of the line in this journal, from 1, without gaps. The writer sets it.
    pub seq: u64,
    /// `site/sale`.
    pub sale: String,
    /// The sale's epoch.
    pub epoch: u32,
    /// The pool.
    pub pool: Name,
    /// The buyer.
    pub user: UserKey,
    /// The attempt.
    pub attempt: AttemptId,
    /// The claim.
    pub claim: ClaimId,
    /// The run of the node that admitted it.
    pub node: NodeId,
    /// Units.
    pub units: u32,
    /// What happened.
    pub event: Event,
    /// The shop's status, where it answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The shop's code, where a rule read one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The order's number, where a rule read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<String>,
    /// blake3 keyed with `state_dir/journal.key` over the previous line's chain and this line
    /// without its chain, in hexadecimal. The last field of a line; the writer sets it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub chain: String,
}
