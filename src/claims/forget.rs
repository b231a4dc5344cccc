//! Claims that this node admitted and that somebody else settled: an operator on another node, or the
//! reaper and a list of orders there. Nobody tells this node; it sees that it remembers more open claims
//! than the ledger holds, and asks which they are.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::shared::Shared;
use crate::ident::{ClaimId, SaleId};
use crate::ledger::RecordKind;
use crate::sale::SaleSnapshot;

/// Looks now and then, for as long as the node lives.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut tick = interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        for sale in shared.book.all() {
            look(&shared, &sale).await;
        }
    }
}

/// Forgets what is settled of one sale. The memory is then no larger than what the ledger holds.
pub(super) async fn look(shared: &Shared, sale: &SaleSnapshot) {
    let id = &sale.state.id;
    if !shared.breaker.is_closed(id) || shared.is_learning(id) {
        return;
    }
    // Their records are in the ledger since before now: those that it lacks afterwards were settled.
    let open = shared.memory.waiting(id);
    let held: u64 = sale.state.pools.iter().map(|pool| pool.held + pool.limbo).sum();
    if open.len() as u64 > held {
        drop_settled(shared, id, &open).await;
    }
}

async fn drop_settled(shared: &Shared, sale: &SaleId, open: &[ClaimId]) {
    let Ok(records) = shared.all_records(sale).await else { return };
    let is_open = |kind| kind != RecordKind::Confirmed;
    let held: HashSet<ClaimId> =
        records.iter().filter(|record| is_open(record.kind)).map(|record| record.claim).collect();
    let settled = open.iter().filter(|claim| !held.contains(*claim));
    let count = shared.memory.forget(settled);
    if count > 0 {
        tracing::info!("{sale}: {count} claims whose outcome was open here were settled elsewhere");
    }
}

const EVERY: Duration = Duration::from_secs(60);
