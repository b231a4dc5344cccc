//! Certificates, their keys and those of tickets, read again while the process runs: on the operator's
//! word, and when their files have changed.

use std::sync::Arc;
use std::time::Duration;

use crate::metrics::Sink;
use crate::tls::{self, Watched};

/// Reads them all again now. What came of it is said and counted.
pub(super) async fn reload(watched: Vec<Arc<dyn Watched>>, sink: Sink) {
    read(watched, true, sink).await;
}

/// Looks after their files for ever.
pub(super) async fn watch(watched: Vec<Arc<dyn Watched>>, sink: Sink) -> String {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        read(watched.clone(), false, sink.clone()).await;
    }
}

/// Files may be slow, and checking keys takes a while.
async fn read(watched: Vec<Arc<dyn Watched>>, always: bool, sink: Sink) {
    let read = tokio::task::spawn_blocking(move || tls::reload(&watched, always, &sink));
    if let Err(panic) = read.await {
        tracing::error!("reading certificates again failed: {panic}; the old ones stay in use");
    }
}

/// A pair that is written one file after the other is complete a look later at the latest.
const LOOK_EVERY: Duration = Duration::from_secs(2);
