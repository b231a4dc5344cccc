//! Certificates, their keys and those of tickets, read again while the process runs: on the operator's
//! word, and when their files have changed.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::metrics::Sink;
use crate::tls::{self, Watched};

/// Everything that is made of such files and in use now.
#[derive(Clone)]
pub(super) struct Certificates {
    watched: Arc<ArcSwap<Vec<Arc<dyn Watched>>>>,
    sink: Sink,
}

impl Certificates {
    /// Those of `watched`.
    pub(super) fn new(watched: Vec<Arc<dyn Watched>>, sink: Sink) -> Certificates {
        Certificates { watched: Arc::new(ArcSwap::from_pointee(watched)), sink }
    }

    /// Others are in use from now on.
    pub(super) fn set(&self, watched: Vec<Arc<dyn Watched>>) {
        self.watched.store(Arc::new(watched));
    }

    /// Reads them all again now. What came of it is said and counted.
    pub(super) async fn reload(&self) {
        self.read(true).await;
    }

    /// Looks after their files for ever.
    pub(super) async fn watch(self) -> String {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            self.read(false).await;
        }
    }

    /// Files may be slow, and checking keys takes a while.
    async fn read(&self, always: bool) {
        let (watched, sink) = (self.watched.load_full(), self.sink.clone());
        let read = tokio::task::spawn_blocking(move || tls::reload(&watched, always, &sink));
        if let Err(panic) = read.await {
            tracing::error!("reading certificates failed: {panic}; the old ones stay in use");
        }
    }
}

/// A pair that is written one file after the other is complete a look later at the latest.
const LOOK_EVERY: Duration = Duration::from_secs(2);
