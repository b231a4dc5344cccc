//! What the nodes count of themselves, since each of them started.

use std::collections::HashMap;

use super::{AuditError, Check};
use crate::admin_client::AdminClient;

/// The nodes that were asked, together.
#[derive(Clone, Debug, Default)]
pub(super) struct Nodes {
    pub(super) count: u64,
    /// Purchase requests, counted after the rest.
    pub(super) purchases: u64,
    /// Claims that were sent to the store.
    pub(super) claims: u64,
    /// Batches in which they were sent.
    pub(super) batches: u64,
    /// Calls of the store a second, on the average of each node's life.
    pub(super) calls_per_second: u64,
    /// Calls of the store of which nobody knows, or that it refused.
    pub(super) store_errors: u64,
    /// Claims that a ledger was told again.
    pub(super) reasserted: u64,
    /// Of these, those that came after it had begun to admit again.
    pub(super) reasserted_late: u64,
    /// What the page caches take, and what they may take.
    pub(super) cache_bytes: (u64, u64),
}

impl Nodes {
    /// Asks each node.
    pub(super) fn read(clients: &[AdminClient]) -> Result<Nodes, AuditError> {
        let mut nodes = Nodes { count: clients.len() as u64, ..Nodes::default() };
        for client in clients {
            let counted = counters(client)?;
            let of = |name: &str| counted.get(name).copied().unwrap_or(0);
            nodes.claims += of("penstock_claims_total");
            nodes.batches += of("penstock_claim_batches_total");
            let up_s = of("penstock_up_seconds").max(1);
            nodes.calls_per_second += of("penstock_store_calls_total").div_ceil(up_s);
            nodes.store_errors += of("penstock_store_errors_total");
            nodes.reasserted += of("penstock_reasserted_total");
            nodes.reasserted_late += of("penstock_reasserted_late_total");
            nodes.cache_bytes.0 += of("penstock_cache_bytes");
            nodes.cache_bytes.1 += of("penstock_cache_bytes_max");
            // A request is counted before its claim: read later, there are as many at least.
            let later = counters(client)?;
            nodes.purchases += later.get(PURCHASES).copied().unwrap_or(0);
        }
        Ok(nodes)
    }

    /// I12 to I14.
    pub(super) fn checks(&self) -> Vec<Check> {
        let Nodes { claims, batches, purchases, .. } = *self;
        let calls_max = CALLS_PER_SECOND_MAX + IDLE_CALLS_PER_SECOND_MAX * self.count;
        let said =
            format!("{batches} batches for {claims} claims of {purchases} purchase requests");
        vec![
            Check::at_most("I12 refusals ask no store", purchases, claims.max(batches), vec![said]),
            Check::at_most(
                "I13 page cache bounded",
                self.cache_bytes.1,
                self.cache_bytes.0,
                vec![],
            ),
            Check::at_most("I14 store calls a second", calls_max, self.calls_per_second, vec![]),
        ]
    }
}

/// Every sample of `/metrics` by its name with labels; parts of a unit are dropped.
fn counters(client: &AdminClient) -> Result<HashMap<String, u64>, AuditError> {
    let path = "/metrics";
    let (status, body) = client.request("GET", path, None)?;
    if status != 200 {
        let said = format!("status {status}");
        return Err(AuditError::Answer { path: path.to_owned(), said });
    }
    let text = String::from_utf8_lossy(&body);
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    let sample = |line: &str| {
        let (name, value) = line.rsplit_once(' ')?;
        // What is no whole number, or negative, is nothing that is counted here.
        Some((name.to_owned(), value.parse().ok()?))
    };
    Ok(samples.filter_map(sample).collect())
}

const PURCHASES: &str = "penstock_requests_total{route=\"purchase\"}";

/// Of a fleet, whatever the crowd.
const CALLS_PER_SECOND_MAX: u64 = 20_000;
/// Of a node that has nothing to do.
const IDLE_CALLS_PER_SECOND_MAX: u64 = 3;
