//! How often a node calls the store for claims and outcomes: a fleet makes at most [`CALLS_A_SECOND`]
//! calls, however many nodes and buyers there are. Each node takes the share that the number of live
//! nodes leaves it; what queues up meanwhile goes with the next batch.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// One node's share, over all sales.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// When the calls that were made are paid for.
    paid: Mutex<Option<Instant>>,
}

impl Pace {
    /// Waits until this node, one of `nodes`, may call again. Short bursts do not wait.
    pub(super) async fn turn(&self, nodes: usize) {
        let now = Instant::now();
        let due = {
            let mut paid = self.paid.lock().unwrap_or_else(PoisonError::into_inner);
            let from = now.checked_sub(BURST).unwrap_or(now);
            let due = paid.map_or(from, |paid| paid.max(from)) + between(nodes);
            *paid = Some(due);
            due
        };
        if due > now {
            sleep_until(due).await;
        }
    }
}

/// Between two calls of one node.
fn between(nodes: usize) -> Duration {
    let nodes = u32::try_from(nodes.max(1)).unwrap_or(u32::MAX);
    (Duration::from_secs(1) / CALLS_A_SECOND * nodes.min(2_000)).min(LONGEST)
}

/// Calls of a whole fleet.
const CALLS_A_SECOND: u32 = 20_000;
/// A purchase does not wait longer than this for its turn, whatever the size of the fleet.
const LONGEST: Duration = Duration::from_millis(100);
/// Calls that a node may make at once are those of so long a time: a timer is no finer than a
/// millisecond.
const BURST: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use super::*;

    /// Calls that one of `nodes` makes in a second, one after the other.
    async fn calls(nodes: usize) -> u32 {
        let (pace, began) = (Pace::default(), Instant::now());
        let mut calls = 0;
        while began.elapsed() < Duration::from_secs(1) {
            pace.turn(nodes).await;
            calls += 1;
        }
        calls
    }

    #[tokio::test(start_paused = true)]
    async fn a_fleet_makes_so_many_calls_and_no_more() {
        for nodes in [1, 2, 3, 10, 100, 1_000] {
            let all = calls(nodes).await * u32::try_from(nodes).unwrap();
            // A burst at the beginning, and a last turn.
            let burst = CALLS_A_SECOND / 200 + 2 * u32::try_from(nodes).unwrap();
            assert!((CALLS_A_SECOND..=CALLS_A_SECOND + burst).contains(&all), "{nodes}: {all}");
        }
        assert!(calls(100_000).await <= 12, "ten a second");
    }

    #[tokio::test(start_paused = true)]
    async fn who_calls_now_and_then_does_not_wait() {
        let (pace, began) = (Pace::default(), Instant::now());
        for _ in 0..10 {
            pace.turn(3).await;
        }
        assert!(began.elapsed().is_zero());
    }
}
