//! The right to send one purchase. Losing it is an outcome, never a leak.

use std::sync::Arc;

use super::Outcome;
use super::desk::Desk;
use super::memory::Past;
use super::shared::{Shared, Token};
use crate::clock::UnixMs;
use crate::ident::ClaimId;
use crate::outcome::Verdict;

/// The right to send one admitted purchase. Dropped before it is sent, it is F; afterwards X.
#[derive(Debug)]
pub struct Permit {
    ticket: Ticket,
    deadline: UnixMs,
}

/// A purchase that may be with the shop. Dropped without an outcome, it is X.
#[derive(Debug)]
pub struct Sent {
    ticket: Ticket,
}

impl Permit {
    pub(super) fn new(
        shared: Arc<Shared>,
        desk: Arc<Desk>,
        claim: ClaimId,
        past: Past,
        deadline: UnixMs,
    ) -> Permit {
        let token = Some(shared.busy.token());
        let ticket = Ticket { shared, desk, claim, past, token, lost: Verdict::Failed };
        Permit { ticket, deadline }
    }

    /// The claim.
    pub fn claim(&self) -> ClaimId {
        self.ticket.claim
    }

    /// No byte may leave after this ledger time.
    pub fn deadline(&self) -> UnixMs {
        self.deadline
    }

    /// From now on bytes may be with the shop.
    pub fn begin_send(self) -> Sent {
        let mut ticket = self.ticket;
        ticket.lost = Verdict::Unknown;
        Sent { ticket }
    }
}

impl Sent {
    /// The claim.
    pub fn claim(&self) -> ClaimId {
        self.ticket.claim
    }

    /// The outcome: journalled, then told to the ledger until it has it.
    pub fn resolve(mut self, outcome: Outcome) {
        self.ticket.settle(outcome);
    }
}

/// One admission without an outcome yet.
#[derive(Debug)]
struct Ticket {
    shared: Arc<Shared>,
    desk: Arc<Desk>,
    claim: ClaimId,
    past: Past,
    /// There until it is settled.
    token: Option<Token>,
    /// What it is when it is lost.
    lost: Verdict,
}

impl Ticket {
    fn settle(&mut self, outcome: Outcome) {
        if let Some(token) = self.token.take() {
            self.shared.settle(&self.desk, self.claim, &self.past, outcome, token, None);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let verdict = self.lost;
        self.settle(Outcome { verdict, status: None, code: None, order: None });
    }
}
