//! Outcomes of admitted purchases. The table stands in [`crate::ledger`].

use crate::clock::UnixMs;
use crate::ident::NodeId;
use crate::ledger::turn::Turn;
use crate::ledger::{Record, RecordKind, Resolution, Resolved, Shard};
use crate::outcome::Verdict;

/// One answer for each outcome, in their order.
pub(super) fn resolve<S: Shard>(
    turn: &mut Turn<'_, S>,
    outcomes: &[Resolution],
) -> Result<Vec<Resolved>, S::Error> {
    outcomes.iter().map(|outcome| resolve_one(turn, outcome)).collect()
}

pub(super) fn resolve_one<S: Shard>(
    turn: &mut Turn<'_, S>,
    outcome: &Resolution,
) -> Result<Resolved, S::Error> {
    let records = turn.shard.user(&outcome.user)?;
    let mut with = records.clone();
    let Some(at) = records.iter().position(|r| r.claim == outcome.claim) else {
        if outcome.verdict != Verdict::Confirmed {
            return Ok(Resolved::Unknown);
        }
        // A C that comes again, after a restart say, does not bring a cancelled order back.
        if turn.shard.is_void(&outcome.claim)? {
            return Ok(Resolved::Repeated);
        }
        if turn.state.pool(outcome.pool.as_str()).is_none() {
            return Ok(Resolved::Conflict);
        }
        with.push(late(outcome));
        turn.put_user(&outcome.user, &records, &with)?;
        return Ok(Resolved::Late);
    };
    match step(&records[at], outcome, turn.now) {
        Step::Become(kind, deadline) => {
            with[at].kind = kind;
            with[at].deadline = deadline;
        }
        Step::Go => {
            with.remove(at);
            if outcome.verdict == Verdict::Void {
                turn.shard.put_void(&outcome.claim)?;
                give_back(turn, &records[at]);
            }
        }
        Step::Stay(resolved) => return Ok(resolved),
    }
    turn.put_user(&outcome.user, &records, &with)?;
    Ok(Resolved::Applied)
}

/// A cancelled order, where the shop's number leads: that number says when its units are back, and a
/// reading under way may have counted them as sold or not.
fn give_back<S: Shard>(turn: &mut Turn<'_, S>, record: &Record) {
    let now = turn.now;
    let pool = turn.state.pool_mut(record.pool.as_str());
    let Some(pool) = pool.filter(|_| record.kind == RecordKind::Confirmed) else { return };
    if let Some(follow) = &mut pool.follow {
        follow.not_before = now;
        pool.stock = pool.stock.saturating_sub(u64::from(record.units));
    }
}

/// What an outcome makes of a record.
enum Step {
    Become(RecordKind, UnixMs),
    Go,
    Stay(Resolved),
}

fn step(record: &Record, outcome: &Resolution, now: UnixMs) -> Step {
    use RecordKind::{Admitted, Confirmed, Limbo, Pending};
    let (kind, deadline) = (record.kind, record.deadline);
    match (outcome.verdict, kind) {
        (Verdict::Confirmed, Admitted | Pending | Limbo) => Step::Become(Confirmed, deadline),
        (Verdict::Failed, Confirmed) => Step::Stay(Resolved::Conflict),
        (Verdict::Failed, Admitted | Pending | Limbo) | (Verdict::Void, _) => Step::Go,
        (Verdict::Unknown, Admitted) => Step::Become(Limbo, deadline),
        (Verdict::Unknown, Pending) if deadline <= now => Step::Become(Limbo, deadline),
        (Verdict::Pending, Admitted) => {
            Step::Become(Pending, outcome.hold_until.unwrap_or(deadline))
        }
        // The reaper was faster than the shop; where the time to hold is over too, limbo it stays.
        (Verdict::Pending, Limbo) => match outcome.hold_until {
            Some(until) if until > now => Step::Become(Pending, until),
            _ => Step::Stay(Resolved::Repeated),
        },
        (Verdict::Confirmed | Verdict::Unknown | Verdict::Pending, _) => {
            Step::Stay(Resolved::Repeated)
        }
    }
}

/// The record of an order that the shop took and the ledger did not expect.
fn late(outcome: &Resolution) -> Record {
    Record {
        kind: RecordKind::Confirmed,
        user: outcome.user,
        claim: outcome.claim,
        attempt: outcome.attempt,
        pool: outcome.pool.clone(),
        units: outcome.units,
        node: NodeId::default(),
        deadline: UnixMs(0),
    }
}
