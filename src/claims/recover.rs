//! After a restart: what the journal knows and the ledger does not is told to the ledger.
//!
//! An admission of an earlier run without an outcome is X: its process is dead, nobody knows what
//! became of it, and it goes to limbo at once instead of waiting for its deadline.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::memory::{History, Past};
use super::shared::{CALL_DEADLINE, Concern, Shared};
use super::{Known, Outcome, Predecessor};
use crate::ident::{ClaimId, SaleId};
use crate::journal::Event;
use crate::ledger::{Op, OpResult, Record, RecordKind, Reply};
use crate::outcome::Verdict;
use crate::store::StoreError;

type Claimed = Vec<(ClaimId, Past)>;

/// Recovers each sale that the journal or the store knows, in the background, until the store answers.
pub(super) fn start(shared: &Arc<Shared>, history: History) {
    let mut sales: HashMap<SaleId, Claimed> = HashMap::new();
    for (claim, past) in history.into_claims() {
        sales.entry(past.sale.clone()).or_default().push((claim, past));
    }
    for sale in sales.keys() {
        let text = format!("{sale}: the ledger does not know yet what the journal says");
        shared.note_recovery(sale, Some(text));
    }
    shared.task("the recovery", run(shared.clone(), sales));
}

/// Waits until the process before this one has ended, and finishes what it left open.
pub(super) async fn take_over(shared: Arc<Shared>, predecessor: Predecessor) {
    let mut history = predecessor.ended.await;
    // This run is under way, whatever stands in the journal of it.
    history.without(shared.node);
    shared.add_runs(history.runs());
    shared.facts.learn(&history, &shared.limits.load());
    tracing::info!("the process before this one has ended");
    start(&shared, history);
}

async fn run(shared: Arc<Shared>, mut left: HashMap<SaleId, Claimed>) {
    let mut wait = RETRY_FIRST;
    // Sales without a line of ours still have winners: those who ask again should get their win.
    loop {
        if let Ok(sales) = shared.sales().await {
            for sale in sales {
                left.entry(sale).or_default();
            }
            break;
        }
        sleep(wait).await;
        wait = (wait * 2).min(RETRY_LAST);
    }
    while !left.is_empty() {
        for sale in left.keys().cloned().collect::<Vec<_>>() {
            let claims = left.get(&sale).map(Vec::as_slice).unwrap_or_default();
            if recover(&shared, &sale, claims).await.is_ok() {
                shared.note_recovery(&sale, None);
                left.remove(&sale);
                wait = RETRY_FIRST;
            }
        }
        if !left.is_empty() {
            sleep(wait).await;
            wait = (wait * 2).min(RETRY_LAST);
        }
    }
}

async fn recover(
    shared: &Arc<Shared>,
    sale: &SaleId,
    claims: &[(ClaimId, Past)],
) -> Result<(), StoreError> {
    let Reply { result, .. } = shared.call(sale, Op::Read, CALL_DEADLINE).await?;
    if result == OpResult::NoSale {
        let n = claims.len();
        tracing::warn!("the journal knows {n} claims of {sale}, which the ledger does not know");
        return Ok(());
    }
    let records = shared.all_records(sale).await?;
    remember(shared, sale, &records);
    let kinds: HashMap<ClaimId, RecordKind> =
        records.iter().map(|record| (record.claim, record.kind)).collect();
    let desk = shared.desk(sale);
    let mut told = 0;
    for (claim, past) in claims {
        if let Some(verdict) = missing(past.event, kinds.get(claim).copied()) {
            let Past { status, code, order, .. } = past.clone();
            let outcome = Outcome { verdict, status, code, order };
            shared.settle(&desk, *claim, past, outcome, shared.busy.token(), None);
            told += 1;
        }
    }
    if told > 0 {
        tracing::warn!("{sale}: {told} outcomes of an earlier run are told to the ledger");
    }
    Ok(())
}

/// What the ledger must still hear of a claim, from its last line and its record.
fn missing(last: Event, record: Option<RecordKind>) -> Option<Verdict> {
    use RecordKind::{Admitted, Confirmed, Pending};
    match (last, record) {
        (Event::Confirmed, Some(Confirmed)) => None,
        (Event::Confirmed, _) => Some(Verdict::Confirmed),
        (Event::Failed, Some(_)) => Some(Verdict::Failed),
        (Event::Void, Some(_)) => Some(Verdict::Void),
        (Event::Failed | Event::Void, None) => None,
        // Somebody settled it meanwhile; the journal learns of it.
        (Event::Admitted, Some(Confirmed)) => Some(Verdict::Confirmed),
        (Event::Admitted, Some(Pending)) => Some(Verdict::Pending),
        (Event::Admitted, _) => Some(Verdict::Unknown),
        (Event::Unknown, Some(Admitted)) => Some(Verdict::Unknown),
        (Event::Pending, Some(Admitted)) => Some(Verdict::Pending),
        (Event::Unknown | Event::Pending, _) => None,
    }
}

/// Winners who ask again get their win, whichever run or node made it.
fn remember(shared: &Shared, sale: &SaleId, records: &[Record]) {
    for record in records.iter().filter(|record| record.kind == RecordKind::Confirmed) {
        let Record { kind, claim, attempt, user, .. } = record.clone();
        let known = Known { kind, claim, attempt, order: None };
        shared.memory.know(sale, user, known, shared.clock.mono());
    }
}

impl Shared {
    fn note_recovery(&self, sale: &SaleId, text: Option<String>) {
        self.set_trouble(Concern::Recovery, sale, text);
    }
}

const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LAST: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ledger_hears_only_what_it_does_not_know() {
        use RecordKind::{Admitted, Confirmed, Limbo, Pending};
        let cases = [
            (Event::Admitted, Some(Admitted), Some(Verdict::Unknown)),
            (Event::Admitted, Some(Limbo), Some(Verdict::Unknown)),
            (Event::Admitted, None, Some(Verdict::Unknown)),
            (Event::Admitted, Some(Confirmed), Some(Verdict::Confirmed)),
            (Event::Admitted, Some(Pending), Some(Verdict::Pending)),
            (Event::Confirmed, Some(Confirmed), None),
            (Event::Confirmed, Some(Limbo), Some(Verdict::Confirmed)),
            (Event::Confirmed, None, Some(Verdict::Confirmed)),
            (Event::Failed, None, None),
            (Event::Failed, Some(Admitted), Some(Verdict::Failed)),
            (Event::Unknown, Some(Admitted), Some(Verdict::Unknown)),
            (Event::Unknown, Some(Confirmed), None),
            (Event::Pending, Some(Admitted), Some(Verdict::Pending)),
            (Event::Pending, Some(Pending), None),
            (Event::Void, Some(Confirmed), Some(Verdict::Void)),
            (Event::Void, None, None),
        ];
        for (last, record, want) in cases {
            assert_eq!(missing(last, record), want, "{last:?} {record:?}");
        }
    }
}
