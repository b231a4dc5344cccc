//! What all connections of one store share.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::target::{Server, Target};
use crate::clock::Clock;
use crate::metrics::Sink;

/// What all connections of one store share.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) target: Target,
    pub(super) clock: Clock,
    pub(super) sink: Sink,
    /// Wakes the one that waits for a connection: the mirror.
    pub(super) connected: Notify,
    /// Wakes the one that keeps the table of slots: something is not where it was.
    pub(super) astray: Notify,
    /// Cancelled when the first attempt to connect has ended, well or not.
    pub(super) tried: CancellationToken,
    /// What each connected server's clock shows.
    clocks: Mutex<BTreeMap<Server, (i64, u16)>>,
}

impl Context {
    pub(super) fn new(target: Target, clock: Clock, sink: Sink) -> Context {
        let (connected, astray, tried, clocks) = Default::default();
        Context { target, clock, sink, connected, astray, tried, clocks }
    }

    /// Takes what a server's clock shows against ours; `None` when it is not connected any more.
    ///
    /// Each sale follows its own master's clock. One reading must do for all, so the clock that is
    /// furthest behind is taken: this node opens no sale before its ledger does, and says how far
    /// ahead others may be.
    pub(super) fn set_clock(&self, server: &Server, reading: Option<(i64, u16)>) {
        let mut clocks = self.clocks.lock().unwrap_or_else(PoisonError::into_inner);
        match reading {
            Some(reading) => clocks.insert(server.clone(), reading),
            None => clocks.remove(server),
        };
        if let Some((offset_ms, err_ms)) = slowest(clocks.values().copied()) {
            self.clock.set_ledger_offset(offset_ms, err_ms);
        }
    }
}

fn slowest(clocks: impl Iterator<Item = (i64, u16)> + Clone) -> Option<(i64, u16)> {
    let (slowest, _) = clocks.clone().min()?;
    let latest = clocks.map(|(offset, err)| offset.saturating_add(i64::from(err))).max()?;
    Some((slowest, u16::try_from(latest.saturating_sub(slowest)).unwrap_or(u16::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_that_is_furthest_behind_is_taken() {
        assert_eq!(slowest([].into_iter()), None);
        assert_eq!(slowest([(-5, 2)].into_iter()), Some((-5, 2)));
        assert_eq!(slowest([(7, 1), (-5, 2), (0, 3)].into_iter()), Some((-5, 13)));
        assert_eq!(slowest([(0, 1), (i64::MAX, 9)].into_iter()), Some((0, u16::MAX)));
    }
}
