//! Whether the ledger may have forgotten something. The rule stands in [`crate::ledger`].

use crate::ledger::turn::Turn;
use crate::ledger::{Fence, Shard};

/// Freezes claims where the ledger may have forgotten something.
pub(super) fn look<S: Shard>(turn: &mut Turn<'_, S>, fence: &Fence) -> Result<(), S::Error> {
    let server = turn.shard.server()?;
    let (state, now) = (&mut turn.state, turn.now);
    let is_behind = state.seq < fence.seen && !state.is_learning_at(now);
    if state.server != server || is_behind || turn.is_restored {
        state.server = server;
        state.fences += 1;
        state.learn_until = now.plus(fence.learn_ms);
        for follow in state.pools.iter_mut().filter_map(|pool| pool.follow.as_mut()) {
            follow.forget(now);
        }
    }
    // Said once: whoever has seen as much closes nothing again.
    state.seq = state.seq.max(fence.seen);
    Ok(())
}
