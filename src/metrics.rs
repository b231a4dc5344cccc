//! Counters: each a row of the table, each thread with cells of its own, merged when scraped.
//!
//! A component gets a [`Sink`] when it is built. Adding to a counter writes only the sink's own cells,
//! so that two workers never share a cache line; a scrape sums them.

mod timing;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::outcome::{CLOSES, CloseReason, REASONS, Reason};

pub use timing::{BUCKETS_MS, TIMINGS, Times, Timing, TimingRow};

use timing::Cells;

/// One row of the table of counters.
#[derive(Clone, Copy, Debug)]
pub struct CounterRow {
    /// The counter.
    pub counter: Counter,
    /// Metric name without the `penstock_` prefix and the `_total` suffix.
    pub name: &'static str,
    /// One constant label, if several rows share a name.
    pub label: Option<(&'static str, &'static str)>,
    /// Help text.
    pub help: &'static str,
}

macro_rules! counters {
    ($($variant:ident, $name:literal, $label:expr, $help:literal;)*) => {
        /// Everything that is counted, apart from reasons and connection ends.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(usize)]
        pub enum Counter { $(#[doc = $help] $variant,)* }

        /// All rows, in the order of the enum.
        pub const COUNTERS: &[CounterRow] = &[$(CounterRow {
            counter: Counter::$variant, name: $name, label: $label, help: $help,
        },)*];
    };
}

counters! {
    Connections, "connections", None, "Client connections accepted.";
    TlsFull, "tls_handshakes", Some(("kind", "full")), "TLS handshakes with clients by kind.";
    TlsResumed, "tls_handshakes", Some(("kind", "resumed")), "TLS handshakes with clients by kind.";
    TlsReloads, "tls_reloads", None, "Certificates, authorities or keys of TLS that were exchanged while running.";
    TlsReloadErrors, "tls_reload_errors", None, "New files of TLS that could not be used; the old ones stayed.";
    Http2Connections, "http2_connections", None, "Client connections that speak HTTP/2.";
    Http2Stalled, "http2_stalled", None, "Responses over HTTP/2 given up because their client took nothing of them.";
    AcceptErrors, "accept_errors", None, "Errors of accept, such as no file descriptors left.";
    ProxyHeaders, "proxy_headers", None, "Connections whose PROXY header was taken.";
    ProxyHeadersUnlisted, "proxy_headers_refused", Some(("why", "unlisted")), "Connections refused where a PROXY header is expected.";
    ProxyHeadersMissing, "proxy_headers_refused", Some(("why", "missing")), "Connections refused where a PROXY header is expected.";
    ProxyHeadersMalformed, "proxy_headers_refused", Some(("why", "malformed")), "Connections refused where a PROXY header is expected.";
    ProxyHeadersLate, "proxy_headers_refused", Some(("why", "late")), "Connections refused where a PROXY header is expected.";
    UpgradesBegun, "upgrades", Some(("event", "begun")), "Requests that may leave HTTP, by what became of them.";
    UpgradesEnded, "upgrades", Some(("event", "ended")), "Requests that may leave HTTP, by what became of them.";
    UpgradesRefused, "upgrades", Some(("event", "refused")), "Requests that may leave HTTP, by what became of them.";
    UpgradesCapped, "upgrades", Some(("event", "capped")), "Requests that may leave HTTP, by what became of them.";
    UpgradeBytesSent, "upgrade_bytes", Some(("to", "client")), "Bytes relayed on upgraded connections.";
    UpgradeBytesReceived, "upgrade_bytes", Some(("to", "upstream")), "Bytes relayed on upgraded connections.";
    MemoryChanges, "memory_level_changes", None, "Times that the memory guard changed its level.";
    MemoryShrinks, "memory_cache_shrinks", None, "Times that the cache was made smaller because memory was short.";
    RequestsPage, "requests", Some(("route", "page")), "Requests by route.";
    RequestsAvailability, "requests", Some(("route", "availability")), "Requests by route.";
    RequestsPurchase, "requests", Some(("route", "purchase")), "Requests by route.";
    RequestsProxy, "requests", Some(("route", "proxy")), "Requests by route.";
    RequestsOwn, "requests", Some(("route", "own")), "Requests by route.";
    Malformed, "malformed", None, "Heads or bodies refused by the strict reader.";
    ColdRequests, "cold_requests", None, "Requests that went through hyper.";
    ResponseBytes, "response_bytes", None, "Body bytes sent to clients.";
    CacheHits, "cache", Some(("result", "hit")), "Page lookups by result.";
    CacheStale, "cache", Some(("result", "stale")), "Page lookups by result.";
    CacheWaited, "cache", Some(("result", "waited")), "Page lookups by result.";
    CacheMisses, "cache", Some(("result", "miss")), "Page lookups by result.";
    CachePasses, "cache", Some(("result", "pass")), "Page lookups by result.";
    CacheFills, "cache_fills", None, "Fills begun.";
    CacheFillErrors, "cache_fill_errors", None, "Fills that failed.";
    CacheCookiesStripped, "cache_cookies_stripped", None, "Set-Cookie fields removed from stored pages.";
    CachePurged, "cache_purged", None, "Entries removed by purges.";
    NoticesHeard, "notices_heard", None, "Purges that other nodes told.";
    NoticesMissed, "notices_missed", None, "Times that every page was removed because a purge may have gone unheard.";
    CacheInvalidated, "cache_invalidated", None, "URLs forgotten because an unsafe method changed them.";
    CacheNewKeysRefused, "cache_new_keys_refused", None, "Requests for unknown pages beyond cache.new_keys.";
    SnapshotsWritten, "cache_snapshots", Some(("result", "written")), "Snapshots of the cache.";
    SnapshotsFailed, "cache_snapshots", Some(("result", "failed")), "Snapshots of the cache.";
    SnapshotsRead, "cache_snapshots", Some(("result", "read")), "Snapshots of the cache.";
    SnapshotsRefused, "cache_snapshots", Some(("result", "refused")), "Snapshots of the cache.";
    CachePinsRefused, "cache_pins_refused", None, "Pages that were warmed and not pinned: pins have half of the cache.";
    CacheRefusedStatus, "cache_refused", Some(("reason", "status")), "Answers that were not stored, by reason.";
    CacheRefusedDirective, "cache_refused", Some(("reason", "directive")), "Answers that were not stored, by reason.";
    CacheRefusedStale, "cache_refused", Some(("reason", "stale")), "Answers that were not stored, by reason.";
    CacheRefusedTooLarge, "cache_refused", Some(("reason", "too_large")), "Answers that were not stored, by reason.";
    CacheRefusedClient, "cache_refused", Some(("reason", "client")), "Answers that were not stored, by reason.";
    CacheRefusedCookie, "cache_refused", Some(("reason", "cookie")), "Answers that were not stored, by reason.";
    CacheRefusedUndelimited, "cache_refused", Some(("reason", "undelimited")), "Answers that were not stored, by reason.";
    CacheRefusedTags, "cache_refused", Some(("reason", "tags")), "Answers that were not stored, by reason.";
    CacheRefusedNoRoom, "cache_refused", Some(("reason", "no_room")), "Answers that were not stored, by reason.";
    CacheRefusedWeight, "cache_refused", Some(("reason", "weight")), "Answers that were not stored, by reason.";
    CacheRefusedPurged, "cache_refused", Some(("reason", "purged")), "Answers that were not stored, by reason.";
    CacheAdmitted, "cache_admitted", None, "Entries stored.";
    CacheEvictions, "cache_evictions", None, "Entries pushed out by newer ones.";
    UpstreamConnects, "upstream_connects", None, "Connections opened to upstream servers.";
    UpstreamConnectErrors, "upstream_connect_errors", None, "Connections to upstream servers that failed.";
    UpstreamRequests, "upstream_requests", None, "Requests written to upstream servers.";
    UpstreamRetries, "upstream_retries", None, "Requests sent again because they were provably unsent.";
    UpstreamInvalid, "upstream_invalid", None, "Responses of upstream servers that were refused as invalid.";
    ForwardingLoops, "forwarding_loops", None, "Proxied requests refused because they came back here again and again.";
    UpstreamCircuitOpened, "upstream_circuit_opened", None, "Times that nothing was claimed any more because the shop did not answer.";
    UpstreamQueueFull, "upstream_queue_full", None, "Requests refused because a pool and its queue were full.";
    Claims, "claims", None, "Claims sent to the store.";
    ClaimBatches, "claim_batches", None, "Batches of claims sent to the store.";
    Admitted, "admitted", None, "Claims that were admitted and written to the journal.";
    AdmissionsUndone, "admissions_undone", None, "Admissions that came too late or could not be written to the journal; never sent.";
    OutcomeConfirmed, "outcomes", Some(("verdict", "confirmed")), "Outcomes of admitted purchases.";
    OutcomeFailed, "outcomes", Some(("verdict", "failed")), "Outcomes of admitted purchases.";
    OutcomeUnknown, "outcomes", Some(("verdict", "unknown")), "Outcomes of admitted purchases.";
    OutcomeVoid, "outcomes", Some(("verdict", "void")), "Outcomes of admitted purchases.";
    OutcomePending, "outcomes", Some(("verdict", "pending")), "Outcomes of admitted purchases.";
    OutcomeUnclassified, "outcome_unclassified", None, "Answers of the shop that no outcome rule classifies.";
    OutcomeLate, "outcome_late", None, "Confirmations of claims that the ledger did not know any more; counted as sold.";
    SoldOutEvidence, "sold_out_evidence", None, "Answers of the shop that say its stock is gone.";
    OutcomeConflicts, "outcome_conflicts", None, "Outcomes that contradict the ledger's record.";
    Reports, "reports", None, "Times that this node said everything it knows to a ledger.";
    Reasserted, "reasserted", None, "Claims that a ledger did not know, or not as this node does, and was told.";
    ReassertedLate, "reasserted_late", None, "Claims that a ledger did not know and was told after it had begun to admit again.";
    WaitsMissed, "store_waits_missed", None, "Batches of claims that too few replicas acknowledged in time.";
    StoreErrors, "store_errors", None, "Store calls that failed or came too late.";
    StoreCalls, "store_calls", None, "Calls to the store.";
    StoreReconnects, "store_reconnects", None, "Connections to the store that were made anew.";
    StoreRedirects, "store_redirects", None, "Calls that a cluster sent to another master; they were followed.";
    StoreRetries, "store_retries", None, "Calls sent again because the store said that it had done nothing.";
    StoreRoleChanges, "store_role_changes", None, "Times that another server became the store's master.";
    ShopReads, "shop_reads", None, "Times that a stock number of the shop's was read.";
    ShopReadErrors, "shop_read_errors", None, "Times that it could not be read, or was no number.";
    ShopSetReads, "shop_set_reads", None, "Times that a set of users of the shop's was read.";
    ShopSetReadErrors, "shop_set_read_errors", None, "Times that it could not be read whole.";
    JournalLines, "journal_lines", None, "Lines written to the journal.";
    JournalErrors, "journal_errors", None, "Journal writes that failed; nobody is admitted meanwhile.";
    RateTableEvictions, "rate_table_evictions", None, "Live keys pushed out of the rate table.";
    UntrustedForwarded, "untrusted_forwarded", None, "Requests with forwarding headers from peers that are not trusted.";
    DeclarationsApplied, "declarations_applied", None, "Declarations of sales that were applied.";
    DeclarationsRefused, "declarations_refused", None, "Declarations of sales that were refused.";
    Reloads, "reloads", Some(("result", "applied")), "Reloads of the config.";
    ReloadsRefused, "reloads", Some(("result", "refused")), "Reloads of the config.";
    UpgradesFailed, "upgrades_failed", None, "Upgrades whose new process did not come up; this one went on.";
    AdminRefused, "admin_refused", None, "Requests to the admin interface without its token.";
    LogDropped, "log_dropped", None, "Access log lines dropped because the disk was slow.";
    Panics, "panics", None, "Handlers that panicked.";
}

/// Cells of one thread, on cache lines of their own (processors fetch them in pairs).
#[derive(Debug)]
#[repr(align(128))]
struct Block {
    counters: [AtomicU64; COUNTERS.len()],
    reasons: [AtomicU64; REASONS.len()],
    closes: [AtomicU64; CLOSES.len()],
    timings: [Cells; TIMINGS.len()],
}

impl Block {
    fn new() -> Block {
        Block {
            counters: [const { AtomicU64::new(0) }; COUNTERS.len()],
            reasons: [const { AtomicU64::new(0) }; REASONS.len()],
            closes: [const { AtomicU64::new(0) }; CLOSES.len()],
            timings: [const { Cells::new() }; TIMINGS.len()],
        }
    }
}

/// All blocks of a process.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    blocks: Arc<Mutex<Vec<Arc<Block>>>>,
}

impl Registry {
    /// A sink with cells of its own; one for each thread that counts often.
    pub fn sink(&self) -> Sink {
        let block = Arc::new(Block::new());
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner).push(block.clone());
        Sink { block }
    }

    /// Sum of a counter over all sinks.
    pub fn total(&self, counter: Counter) -> u64 {
        self.sum(|b| &b.counters[counter as usize])
    }

    /// How often the edge answered with `reason`.
    pub fn reason(&self, reason: Reason) -> u64 {
        self.sum(|b| &b.reasons[reason as usize])
    }

    /// How many connections ended by `close`.
    pub fn close(&self, close: CloseReason) -> u64 {
        self.sum(|b| &b.closes[close as usize])
    }

    /// How long `timing` took, over all sinks.
    pub fn times(&self, timing: Timing) -> Times {
        let mut times = Times::default();
        for block in self.blocks.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            block.timings[timing as usize].add_to(&mut times);
        }
        times
    }

    fn sum(&self, cell: impl Fn(&Block) -> &AtomicU64) -> u64 {
        let blocks = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        blocks.iter().map(|b| cell(b).load(Ordering::Relaxed)).sum()
    }
}

/// Where one component counts. Cheap to clone; clones share their cells.
#[derive(Clone, Debug)]
pub struct Sink {
    block: Arc<Block>,
}

impl Sink {
    /// A sink that nobody scrapes, for tests and tools.
    pub fn detached() -> Sink {
        Sink { block: Arc::new(Block::new()) }
    }

    /// Adds 1.
    pub fn inc(&self, counter: Counter) {
        self.add(counter, 1);
    }

    /// Adds `n`.
    pub fn add(&self, counter: Counter, n: u64) {
        self.block.counters[counter as usize].fetch_add(n, Ordering::Relaxed);
    }

    /// Counts an answer of the edge's own.
    pub fn reason(&self, reason: Reason) {
        self.block.reasons[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts the end of a connection.
    pub fn close(&self, close: CloseReason) {
        self.block.closes[close as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Notes that `timing` took so many milliseconds.
    pub fn took(&self, timing: Timing, took_ms: u64) {
        self.block.timings[timing as usize].add(took_ms);
    }

    /// This sink's own count, for tests.
    pub fn get(&self, counter: Counter) -> u64 {
        self.block.counters[counter as usize].load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_stand_in_the_order_of_their_enum() {
        for (i, row) in COUNTERS.iter().enumerate() {
            assert_eq!(row.counter as usize, i, "{}", row.name);
        }
    }

    #[test]
    fn a_scrape_sums_all_sinks() {
        let registry = Registry::default();
        let (one, two) = (registry.sink(), registry.sink());
        one.inc(Counter::Claims);
        two.add(Counter::Claims, 2);
        two.reason(Reason::SoldOut);
        assert_eq!(registry.total(Counter::Claims), 3);
        assert_eq!(registry.reason(Reason::SoldOut), 1);
    }
}
