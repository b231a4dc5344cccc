//! What all connections of one store share.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::target::{Server, Target};
use crate::clock::{Clock, Reading};
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
    clocks: Mutex<BTreeMap<Server, Reading>>,
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
    pub(super) fn set_clock(&self, server: &Server, reading: Option<Reading>) {
        let mut clocks = self.clocks.lock().unwrap_or_else(PoisonError::into_inner);
        match reading {
            Some(reading) => clocks.insert(server.clone(), reading),
            None => clocks.remove(server),
        };
        if let Some(slowest) = slowest(clocks.values().copied()) {
            self.clock.follow_ledger(slowest);
        }
    }
}

fn slowest(clocks: impl Iterator<Item = Reading> + Clone) -> Option<Reading> {
    let slowest = clocks.clone().min_by_key(|clock| clock.offset_us)?;
    let most_us = |clock: Reading| clock.offset_us.saturating_add(i64::from(clock.err_ms) * 1_000);
    let latest = clocks.map(most_us).max()?;
    let err_ms = latest.abs_diff(slowest.offset_us).div_ceil(1_000);
    Some(Reading { err_ms: u16::try_from(err_ms).unwrap_or(u16::MAX), ..slowest })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_that_is_furthest_behind_is_taken() {
        let of = |all: &[(i64, u16)]| {
            let clock = |(ms, err_ms): &(i64, u16)| Reading {
                offset_us: ms.saturating_mul(1_000),
                at_us: 7,
                err_ms: *err_ms,
            };
            let slowest = slowest(all.iter().map(clock))?;
            assert_eq!(slowest.at_us, 7);
            Some((slowest.offset_us / 1_000, slowest.err_ms))
        };
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[(-5, 2)]), Some((-5, 2)));
        assert_eq!(of(&[(7, 1), (-5, 2), (0, 3)]), Some((-5, 13)));
        assert_eq!(of(&[(0, 1), (i64::MAX, 9)]), Some((0, u16::MAX)));
    }
}
