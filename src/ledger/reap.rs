//! The reaper: what nobody resolved in time goes to limbo, and stays there until it is reconciled.

use crate::clock::UnixMs;
use crate::ledger::turn::Turn;
use crate::ledger::{Record, RecordKind, Shard};
use crate::sale::PoolState;

/// Records A and P past their deadline become L, at most `max`; returned as they are now.
pub(super) fn reap<S: Shard>(turn: &mut Turn<'_, S>, max: u32) -> Result<Vec<Record>, S::Error> {
    let max = usize::try_from(max).unwrap_or(usize::MAX);
    let mut reaped = Vec::new();
    for due in turn.shard.due(turn.now, max)? {
        let records = turn.shard.user(&due.user)?;
        let mut with = records.clone();
        let open = with.iter_mut().find(|r| {
            r.claim == due.claim && matches!(r.kind, RecordKind::Admitted | RecordKind::Pending)
        });
        if let Some(record) = open {
            record.kind = RecordKind::Limbo;
            reaped.push(record.clone());
            turn.put_user(&due.user, &records, &with)?;
        }
    }
    restock(turn);
    Ok(reaped)
}

/// Opens the pools whose batch has waited long enough: together, in one new epoch.
fn restock<S: Shard>(turn: &mut Turn<'_, S>) {
    let (state, now) = (&mut turn.state, turn.now);
    if state.is_ended_at(now) || state.is_learning_at(now) {
        return;
    }
    let mut pools = std::mem::take(&mut state.pools);
    let is_due = |pool: &PoolState| {
        let due = pool.back_since.plus(state.restock_debounce_ms);
        pool.back_since != UnixMs(0) && due <= now && state.is_back(pool)
    };
    let mut is_any = false;
    for pool in pools.iter_mut().filter(|pool| is_due(pool)) {
        pool.sold_out = false;
        is_any = true;
    }
    state.pools = pools;
    if is_any {
        state.sold_out = false;
        state.epoch += 1;
    }
}
