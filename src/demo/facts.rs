//! Everything that was counted in a demo, each part by whom it names. `report.json` is this.

use serde::{Deserialize, Serialize};

use super::edge::{Audit, Metrics, Sale};
use super::journal::Count;
use crate::drill::Report;
use crate::shop::Stats;

/// A whole demo.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// Version of this binary.
    pub version: String,
    /// Processors of this machine.
    pub cores: u64,
    /// The command that repeats it.
    pub command: String,
    /// Units on sale.
    pub stock: u64,
    /// Units that cancelled orders returned.
    pub returned: u64,
    /// Orders a second that the shop gets through.
    pub orders_per_s: u64,
    /// Of 1,000 orders, how many end in an answer 500.
    pub error_permille: u64,
    /// Unix milliseconds of T0 of act 2.
    pub t0_ms: u64,
    /// Act 1: the shop alone.
    pub without: Side,
    /// Act 2: the same shop behind Penstock.
    pub with: Side,
    /// The ledger at the end.
    pub ledger: Sale,
    /// The journal at the end.
    pub journal: Count,
    /// The edge's counters, added up over its runs; each was read last just before its end.
    pub edge: Metrics,
    /// Milliseconds from the edge's start to its first answer.
    pub edge_ready_ms: u64,
    /// The `kill -9`, if there was one.
    pub kill: Option<Kill>,
    /// Matches of what nobody knew with the shop's own orders.
    pub matched: Matched,
    /// The audit.
    pub audit: Audit,
}

/// What a crowd and its shop counted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Side {
    /// Clients.
    pub client: Report,
    /// The shop.
    pub shop: Stats,
}

/// One `kill -9` of the edge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kill {
    /// Its process id.
    pub pid: u32,
    /// Milliseconds after T0.
    pub after_t0_ms: u64,
    /// Milliseconds until the edge answered again.
    pub down_ms: u64,
    /// Units sold before it.
    pub sold_before: u64,
}

/// What became of units of which nobody knew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Matched {
    /// Units that were in limbo.
    pub unknown: u64,
    /// The shop had the order.
    pub sold: u64,
    /// It had not: the units came back.
    pub not_sold: u64,
}
