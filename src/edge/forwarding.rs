//! Forwarding fields of peers that are not trusted: they count for nothing, and are counted, since in
//! bulk they mean that a proxy in front of us is missing in `trust.proxies`.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::http::{Exchange, Head, Peer, Trust};
use crate::metrics::{Counter, Sink};

/// Looks out for them.
#[derive(Debug, Default)]
pub(super) struct Forwarding {
    /// How many came since the last warning.
    since: AtomicU64,
    warned_ms: AtomicU64,
}

impl Forwarding {
    pub(super) fn look(&self, head: &Head<'_>, exchange: &Exchange, trust: &Trust, sink: &Sink) {
        let says = NAMES.iter().any(|name| head.field(name).is_some());
        if !says || trust.is_trusted(&exchange.peer) {
            return;
        }
        sink.inc(Counter::UntrustedForwarded);
        let seen = self.since.fetch_add(1, Ordering::Relaxed) + 1;
        let (now, warned) = (exchange.now.mono.0, self.warned_ms.load(Ordering::Relaxed));
        let is_due = warned == 0 || now.saturating_sub(warned) >= WARN_EVERY_MS;
        if seen < BULK || !is_due {
            return;
        }
        let (order, now) = (Ordering::Relaxed, now.max(1));
        if self.warned_ms.compare_exchange(warned, now, order, order).is_ok() {
            self.since.store(0, Ordering::Relaxed);
            let peer = match &exchange.peer {
                Peer::Tcp(address) => address.ip().to_string(),
                Peer::Unix => "unix".to_owned(),
            };
            tracing::warn!(
                peer,
                requests = seen,
                "peers that are not trusted say whom they forward for; if they are your proxies, \
                 list them in trust.proxies"
            );
        }
    }
}

const NAMES: [&str; 3] = ["x-forwarded-for", "forwarded", "x-real-ip"];
/// So many requests are bulk.
const BULK: u64 = 100;
const WARN_EVERY_MS: u64 = 60_000;
