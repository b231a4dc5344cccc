//! Delivery of outcomes: journalled first, then told to the ledger in batches until it has them.
//!
//! Two tasks for each sale, so that a store that is down does not keep outcomes from the journal.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::sleep;

use super::desk::Due;
use super::shared::{CALL_DEADLINE, Concern, Shared};
use crate::clock::UnixMs;
use crate::ident::SaleId;
use crate::ledger::{Op, OpResult, Reply, Resolved};
use crate::metrics::Counter;
use crate::store::StoreError;

/// Journals outcomes and passes them on.
pub(super) async fn write(
    shared: Arc<Shared>,
    mut due: mpsc::UnboundedReceiver<Due>,
    written: mpsc::UnboundedSender<Due>,
) {
    let mut fresh = Vec::with_capacity(BATCH_MAX);
    while due.recv_many(&mut fresh, BATCH_MAX).await > 0 {
        let lines: Vec<_> = fresh.iter_mut().filter_map(|due| due.line.take()).collect();
        if !lines.is_empty() {
            // When the disk fails, the journal keeps the lines; the ledger hears of it all the same.
            drop(shared.journal.keep(lines).await);
        }
        for due in fresh.drain(..) {
            if written.send(due).is_err() {
                return;
            }
        }
    }
}

/// Tells the ledger, again and again where it must be.
pub(super) async fn deliver(
    shared: Arc<Shared>,
    sale: SaleId,
    mut due: mpsc::UnboundedReceiver<Due>,
) {
    let mut waiting = VecDeque::new();
    let (mut wait, mut batch_max) = (RETRY_FIRST, BATCH_MAX);
    loop {
        if waiting.is_empty() {
            match due.recv().await {
                Some(next) => waiting.push_back(next),
                None => return,
            }
        }
        shared.turn(&sale).await;
        while let Ok(next) = due.try_recv() {
            waiting.push_back(next);
        }
        let batch: Vec<Due> = waiting.drain(..waiting.len().min(batch_max)).collect();
        let was_together = batch.len() > 1;
        let (left, answer) = send(&shared, &sale, batch).await;
        let is_left = !left.is_empty();
        // To the end: one that waits for its time must not hold up others.
        waiting.extend(left);
        // What the store refuses because of one of them, it takes of the others: each alone at first.
        batch_max = match answer {
            Answer::Refused => 1,
            Answer::Good => (batch_max * 2).min(BATCH_MAX),
            Answer::None => batch_max,
        };
        if answer == Answer::Refused && was_together {
            continue;
        }
        wait = if answer == Answer::Good { RETRY_FIRST } else { (wait * 2).min(RETRY_LAST) };
        if is_left {
            sleep(wait).await;
        }
    }
}

/// What the ledger said to a batch as a whole.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Answer {
    Good,
    Refused,
    None,
}

/// Returns what must be sent again.
async fn send(shared: &Shared, sale: &SaleId, batch: Vec<Due>) -> (Vec<Due>, Answer) {
    let op = Op::Resolve(batch.iter().map(|due| due.resolution.clone()).collect());
    let (trouble, answer) = match shared.call(sale, op, CALL_DEADLINE).await {
        Ok(Reply { now, result: OpResult::Resolved(said), .. }) if said.len() == batch.len() => {
            shared.set_trouble(Concern::Outcomes, sale, None);
            return (acknowledge(shared, sale, batch, said, now), Answer::Good);
        }
        Ok(Reply { now, result: OpResult::NoSale, .. }) => {
            // There is nothing to undo in a sale that is not there.
            let left: Vec<Due> =
                batch.into_iter().filter(|due| due.not_after.is_none_or(|t| now <= t)).collect();
            if !left.is_empty() {
                let text = format!(
                    "the ledger does not know the sale {sale}: {} outcomes wait for it",
                    left.len()
                );
                shared.set_trouble(Concern::Outcomes, sale, Some(text));
            }
            return (left, Answer::None);
        }
        Ok(_) => ("its answer makes no sense".to_owned(), Answer::None),
        Err(error @ StoreError::Refused(_)) => (error.to_string(), Answer::Refused),
        Err(error) => (error.to_string(), Answer::None),
    };
    let text = format!("outcomes of {sale} wait for the store: {trouble}");
    shared.set_trouble(Concern::Outcomes, sale, Some(text));
    (batch, answer)
}

/// Returns those that the ledger may still have to hear again.
fn acknowledge(
    shared: &Shared,
    sale: &SaleId,
    batch: Vec<Due>,
    said: Vec<Resolved>,
    now: UnixMs,
) -> Vec<Due> {
    let mut left = Vec::new();
    for (mut due, said) in batch.into_iter().zip(said) {
        if due.not_after.is_some_and(|not_after| now <= not_after) {
            left.push(due);
            continue;
        }
        let (claim, letter) = (due.resolution.claim, due.resolution.verdict.letter());
        match said {
            Resolved::Conflict => {
                shared.sink.inc(Counter::OutcomeConflicts);
                tracing::error!(
                    "{sale}: outcome {letter} of claim {claim} contradicts the ledger, which keeps \
                     what it has: compare the claim with the shop's orders"
                );
            }
            Resolved::Late => {
                shared.sink.inc(Counter::OutcomeLate);
                tracing::error!(
                    "{sale}: claim {claim} was confirmed, and the ledger knew nothing of it any \
                     more: it is counted as sold, run `penstock audit`"
                );
            }
            Resolved::Applied | Resolved::Repeated | Resolved::Unknown => {}
        }
        if let Some(told) = due.told.take() {
            // Who asked may have given up.
            let _ = told.send(said);
        }
    }
    left
}

/// Outcomes in one operation.
const BATCH_MAX: usize = 64;
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LAST: Duration = Duration::from_secs(1);
