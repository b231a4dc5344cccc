//! Claims: who may send a purchase. The rules and their order stand in [`crate::ledger`].

use crate::ident::NodeId;
use crate::ledger::fence;
use crate::ledger::turn::Turn;
use crate::ledger::{ClaimBatch, Claimed, RECORDS_MAX, Record, RecordKind, Shard, Try};
use crate::sale::SaleState;

/// One answer for each try, in their order; later tries see what earlier ones did.
pub(super) fn claim<S: Shard>(
    turn: &mut Turn<'_, S>,
    batch: &ClaimBatch,
) -> Result<Vec<Claimed>, S::Error> {
    if turn.now > batch.not_after {
        return Ok(vec![Claimed::TooLate; batch.tries.len()]);
    }
    fence::look(turn, &batch.fence)?;
    let is_told = batch.reported == Some(turn.state.mark());
    let is_learning = turn.state.is_learning_at(turn.now) || !is_told;
    batch.tries.iter().map(|one| claim_one(turn, batch, one, is_learning)).collect()
}

fn claim_one<S: Shard>(
    turn: &mut Turn<'_, S>,
    batch: &ClaimBatch,
    one: &Try,
    is_learning: bool,
) -> Result<Claimed, S::Error> {
    let records = turn.shard.user(&one.user)?;
    let left = units_left(&turn.state, &records);
    if let Some(known) = repeat(&turn.state, batch.node, one, &records, left) {
        return Ok(known);
    }
    let room = match room(turn, one, left, is_learning) {
        Ok(room) => room,
        Err(refused) => return Ok(refused),
    };
    if i64::from(one.units) > room {
        return Ok(match u32::try_from(room) {
            Err(_) | Ok(0) => Claimed::Busy,
            Ok(max_units) => Claimed::Insufficient { max_units },
        });
    }
    let deadline = turn.now.plus(batch.claim_ttl_ms);
    let mut with = records.clone();
    with.push(Record {
        kind: RecordKind::Admitted,
        user: one.user,
        claim: one.claim,
        attempt: one.attempt,
        pool: one.pool.clone(),
        units: one.units,
        node: batch.node,
        deadline,
    });
    turn.put_user(&one.user, &records, &with)?;
    Ok(Claimed::Admitted { deadline })
}

/// What the user's records answer; `None`: they do not stand in the way.
fn repeat(
    state: &SaleState,
    node: NodeId,
    one: &Try,
    records: &[Record],
    left: u32,
) -> Option<Claimed> {
    use RecordKind::{Admitted, Confirmed, Limbo, Pending};
    let find = |same: bool, kinds: &[RecordKind]| {
        records.iter().find(|r| (r.attempt == one.attempt) == same && kinds.contains(&r.kind))
    };
    if let Some(r) = find(true, &[Confirmed]) {
        return Some(Claimed::Confirmed { claim: r.claim });
    }
    for same in [true, false] {
        if let Some(r) = find(same, &[Admitted]) {
            return Some(Claimed::InProgress { claim: r.claim, same: same && r.node == node });
        }
        if let Some(r) = find(same, &[Pending, Limbo]) {
            return Some(Claimed::Pending { claim: r.claim });
        }
    }
    if records.is_empty() || (left > 0 && one.units <= left) {
        return None;
    }
    Some(match state.per_user.orders {
        1 => Claimed::Already,
        _ => Claimed::Limit { max_units: left },
    })
}

/// The room of the pool, where state, time and limits let the user in.
fn room<S: Shard>(
    turn: &Turn<'_, S>,
    one: &Try,
    left: u32,
    is_learning: bool,
) -> Result<i64, Claimed> {
    let state = &turn.state;
    if state.is_ended_at(turn.now) {
        return Err(Claimed::Ended);
    }
    if state.sold_out {
        return Err(Claimed::SoldOut);
    }
    let pool = state.pool(one.pool.as_str()).ok_or(Claimed::UnknownPool)?;
    if pool.sold_out {
        return Err(Claimed::SoldOut);
    }
    if turn.now < state.opens_at {
        return Err(Claimed::NotStarted);
    }
    if state.paused {
        return Err(Claimed::Paused);
    }
    if is_learning {
        return Err(Claimed::Learning);
    }
    if !pool.is_known_at(turn.now) {
        return Err(Claimed::Unread);
    }
    if one.units == 0 || one.units > left {
        return Err(Claimed::Limit { max_units: left });
    }
    Ok(pool.room(state.overshoot_permille))
}

/// Units that the user may still buy in one more order.
fn units_left(state: &SaleState, records: &[Record]) -> u32 {
    let orders = usize::try_from(state.per_user.orders).unwrap_or(usize::MAX);
    if records.len() >= orders.min(RECORDS_MAX) {
        return 0;
    }
    let bought = records.iter().fold(0, |sum: u32, r| sum.saturating_add(r.units));
    state.per_user.units.saturating_sub(bought)
}
