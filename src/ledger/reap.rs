//! The reaper: what nobody resolved in time goes to limbo, and stays there until it is reconciled.

use crate::ledger::turn::Turn;
use crate::ledger::{Record, RecordKind, Shard};

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
    Ok(reaped)
}
