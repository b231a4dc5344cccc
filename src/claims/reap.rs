//! The reaper: once a second, records that nobody resolved in time go to limbo. Any node does it; the
//! ledger decides which they are.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::memory::Past;
use super::shared::{CALL_DEADLINE, Shared};
use crate::ident::SaleId;
use crate::ledger::{Op, OpResult, Reply};
use crate::metrics::Counter;

/// Reaps in every sale of the book that holds units.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut tick = interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        for sale in shared.book.all() {
            let state = &sale.state;
            if state.pools.iter().all(|pool| pool.held == 0 && !state.is_back(pool)) {
                continue;
            }
            while shared.breaker.is_closed(&state.id) && reap(&shared, &sale.state.id).await {}
        }
    }
}

/// Whether there may be more.
async fn reap(shared: &Shared, sale: &SaleId) -> bool {
    let op = Op::Reap { max: REAP_MAX };
    let Ok(Reply { state, now, result: OpResult::Reaped(records) }) =
        shared.call(sale, op, CALL_DEADLINE).await
    else {
        return false;
    };
    let epoch = state.map_or(1, |state| state.epoch);
    let mut lines = Vec::new();
    for record in records.iter().filter(|record| shared.is_ours(record)) {
        // Every claim that this run handed out and that has no outcome yet is remembered.
        let is_earlier = record.node != shared.node;
        let fresh = is_earlier.then(|| Past::of_record(sale, epoch, record));
        let reaped = shared.memory.reaped(record.claim, fresh, shared.clock.mono());
        if let Some(past) = reaped {
            shared.facts.note(record.claim, &past, Some(record.deadline), shared.clock.mono());
            shared.sink.inc(Counter::OutcomeUnknown);
            lines.push(past.line(record.claim, now));
        }
    }
    if !records.is_empty() {
        let n = records.len();
        tracing::warn!("{sale}: {n} admissions had no outcome in time and are in limbo now");
    }
    if !lines.is_empty() {
        // When the disk fails, the journal keeps the lines.
        drop(shared.journal.keep(lines).await);
    }
    u32::try_from(records.len()).is_ok_and(|n| n >= REAP_MAX)
}

const EVERY: Duration = Duration::from_secs(1);
/// Records in one operation.
const REAP_MAX: u32 = 64;
