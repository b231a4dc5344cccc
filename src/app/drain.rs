//! Ending without loss: those who are here are served, nobody new comes.

use std::time::Duration;

use super::Node;
use crate::listener::Phase;

impl Node {
    /// Drains: health checks are red for `drain.notice`, then listeners close, and what is under way
    /// has `drain.timeout` to end.
    pub(super) async fn drain(&self) {
        let settings = &self.settings.drain;
        self.kit.edge.drain();
        self.context.drain();
        tracing::info!(
            connections = self.caps.open(),
            purchases = self.kit.purchases.len(),
            "draining: health is red for {}, then what is under way may take {}",
            settings.notice,
            settings.timeout
        );
        tokio::time::sleep(settings.notice.duration()).await;
        self.phase.send_replace(Phase::Draining);
        let timeout = settings.timeout.duration();
        let ends = tokio::time::Instant::now() + timeout;
        if tokio::time::timeout_at(ends, self.idle()).await.is_err() {
            tracing::warn!(
                connections = self.caps.open(),
                purchases = self.kit.purchases.len(),
                "drain.timeout is over: cutting what is left; admitted purchases among it go to limbo"
            );
        }
        // Outcomes have at least a moment, however long the clients took.
        let left = ends.saturating_duration_since(tokio::time::Instant::now());
        let waiting = self.ledger.claims.drain(left.max(OUTCOMES_SHORTEST)).await;
        if waiting > 0 {
            tracing::warn!(
                "{waiting} outcomes could not be delivered; the next start delivers them"
            );
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
}

const LOOK_EVERY: Duration = Duration::from_millis(10);
const OUTCOMES_SHORTEST: Duration = Duration::from_secs(2);
