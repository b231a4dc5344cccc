//! Ending without loss: those who are here are served, nobody new comes.

use std::time::Duration;

use super::Node;
use super::snapshot;
use super::workers::Workers;
use crate::config::units::Span;
use crate::listener::Phase;

/// Who leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leaves {
    /// The node: clients have to go elsewhere.
    Node,
    /// This process: another one has its sockets and its clients.
    Work,
}

impl Node {
    /// Drains: health checks are red for `drain.notice`, then connections end with their current
    /// response, then listeners close, and what is under way has `drain.timeout` to end. Admitted
    /// purchases are awaited even then: the shop may be making the order. Where another process has the
    /// work there is no notice, and health stays as that one's is.
    pub(super) async fn drain(&self, workers: &mut Workers, leaves: Leaves) {
        let settings = &self.settings.drain;
        if leaves == Leaves::Node {
            self.kit.edge.drain();
            self.context.drain();
        }
        tracing::info!(
            connections = self.caps.open(),
            purchases = self.kit.purchases.len(),
            "draining: health is red for {}, then what is under way may take {}",
            if leaves == Leaves::Node { settings.notice } else { Span::from_ms(0) },
            settings.timeout
        );
        if leaves == Leaves::Node {
            tokio::time::sleep(settings.notice.duration()).await;
        }
        self.phase.send_replace(Phase::Draining);
        workers.forget_copies();
        self.phase.send_replace(Phase::Closed);
        workers.close().await;
        let timeout = settings.timeout.duration();
        let ends = tokio::time::Instant::now() + timeout;
        if tokio::time::timeout_at(ends, self.idle()).await.is_err() {
            tracing::warn!(
                connections = self.caps.open(),
                purchases = self.kit.purchases.len(),
                "drain.timeout is over: cutting what is left, once admitted purchases have ended"
            );
            self.admitted().await;
        }
        // Outcomes have at least a moment, however long the clients took.
        let left = ends.saturating_duration_since(tokio::time::Instant::now());
        let waiting = self.ledger.claims.drain(left.max(OUTCOMES_SHORTEST)).await;
        if waiting > 0 {
            tracing::warn!(
                "{waiting} outcomes could not be delivered; the next start delivers them"
            );
        }
        if leaves == Leaves::Node {
            snapshot::save(self).await;
        }
        if leaves == Leaves::Work {
            // Whoever asked for the upgrade hears that it is done.
            self.context.operators.close();
            let _ = tokio::time::timeout(ANSWERS_LONGEST, self.context.operators.wait()).await;
        }
        tracing::info!("drained");
    }

    /// Until no connection is open and no purchase under way.
    async fn idle(&self) {
        while self.caps.open() > 0 {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        self.kit.purchases.close();
        self.kit.purchases.wait().await;
    }

    /// Until no purchase is under way, or each has had all its time.
    async fn admitted(&self) {
        self.kit.purchases.close();
        let each = self.settings.upstream.values().map(|group| group.purchase_timeout.duration());
        let longest = each.max().unwrap_or_default() + OUTCOMES_SHORTEST;
        if tokio::time::timeout(longest, self.kit.purchases.wait()).await.is_err() {
            let left = self.kit.purchases.len();
            tracing::error!(
                "{left} admitted purchases did not end in their time: they go to limbo"
            );
        }
    }
}

const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Idle connections of operators, a scraper's perhaps, are not waited for longer.
const ANSWERS_LONGEST: Duration = Duration::from_secs(1);
const OUTCOMES_SHORTEST: Duration = Duration::from_secs(2);
