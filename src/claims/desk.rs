//! One sale's desk: where its claims queue for a batch and its outcomes for delivery.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::sync::oneshot;

use super::Claim;
use super::batch::{self, Waiting};
use super::resolve;
use super::shared::{Shared, Token};
use crate::clock::UnixMs;
use crate::ident::SaleId;
use crate::journal::Line;
use crate::ledger::{Resolution, Resolved};

#[derive(Debug)]
pub(super) struct Desk {
    pub(super) sale: SaleId,
    claims: mpsc::Sender<Waiting>,
    /// Bounded by the permits that exist, which the ledger bounds: each ends in one outcome.
    outcomes: mpsc::UnboundedSender<Due>,
}

/// An outcome on its way to the ledger.
#[derive(Debug)]
pub(super) struct Due {
    pub(super) resolution: Resolution,
    /// Its line, until it is journalled.
    pub(super) line: Option<Line>,
    /// Deliver it again until the ledger's clock is past this: what it undoes may come until then.
    pub(super) not_after: Option<UnixMs>,
    /// Hears what the ledger made of it.
    pub(super) told: Option<oneshot::Sender<Resolved>>,
    pub(super) _token: Token,
}

impl Desk {
    /// Opens the desk and starts its tasks.
    pub(super) fn open(shared: &Arc<Shared>, sale: SaleId) -> Arc<Desk> {
        let (claims, waiting) = mpsc::channel(shared.limits.load().queue_max);
        let (outcomes, due) = mpsc::unbounded_channel();
        let (written, deliver) = mpsc::unbounded_channel();
        let desk = Arc::new(Desk { sale, claims, outcomes });
        shared.task("batches of claims", batch::run(shared.clone(), desk.clone(), waiting));
        shared.task("the journal of outcomes", resolve::write(shared.clone(), due, written));
        let deliver = resolve::deliver(shared.clone(), desk.sale.clone(), deliver);
        shared.task("the delivery of outcomes", deliver);
        desk
    }

    /// Queues a claim; answers at once what cannot be queued.
    pub(super) fn claim(&self, waiting: Waiting) -> Option<Claim> {
        match self.claims.try_send(waiting) {
            Ok(()) => None,
            Err(mpsc::error::TrySendError::Full(_)) => Some(Claim::Overloaded),
            Err(mpsc::error::TrySendError::Closed(_)) => Some(Claim::Unavailable),
        }
    }

    /// Queues an outcome.
    pub(super) fn due(&self, due: Due) {
        if let Err(mpsc::error::SendError(due)) = self.outcomes.send(due) {
            let Resolution { claim, verdict, .. } = due.resolution;
            // The next start finds the admission in the journal and resolves it.
            tracing::warn!(
                "the control runtime has ended: outcome {} of claim {claim} is left to the next start",
                verdict.letter()
            );
        }
    }
}
