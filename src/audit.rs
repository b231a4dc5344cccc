//! The audit: recomputes every invariant of a sale from three sources that know nothing of each other,
//! the journal's files, the ledger's own counters and records, and the shop's list of orders.
//!
//! Names of invariants are those of the design: I for the gate, E for what the shop has.

mod checks;
mod ledger;
mod nodes;
mod past;
mod shop;

use std::path::PathBuf;

use serde::Serialize;

use crate::admin_client::{AdminClient, Unreachable};
use crate::ident::SaleId;
use crate::orders::{BadOrders, OrderRow};

use ledger::Ledger;
use nodes::Nodes;
use past::Past;

/// What is audited.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// The sale.
    pub sale: SaleId,
    /// Admin sockets, one of each node; the first one is asked for the ledger.
    pub sockets: Vec<PathBuf>,
    /// Directories of journals, one of each node.
    pub journals: Vec<PathBuf>,
    /// The shop's list of orders.
    pub orders: Option<PathBuf>,
}

/// Why there is no audit.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// No node answers.
    #[error(transparent)]
    Unreachable(#[from] Unreachable),
    /// The ledger does not know the sale.
    #[error("there is no sale {0}")]
    NoSale(SaleId),
    /// The node answered something else than it was asked.
    #[error("the node's answer to {path}: {said}")]
    Answer {
        /// What was asked.
        path: String,
        /// What it said.
        said: String,
    },
    /// A journal cannot be read.
    #[error("the journal {dir}: {cause}")]
    Journal {
        /// Its directory.
        dir: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// The shop's list cannot be read.
    #[error(transparent)]
    Orders(#[from] BadOrders),
}

/// One invariant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Its name.
    pub name: &'static str,
    /// Whether it holds.
    pub holds: bool,
    /// What is allowed.
    pub bound: u64,
    /// What was found.
    pub observed: u64,
    /// What breaks it, at most [`DETAILS_MAX`] of them; or what should be known about it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<String>,
}

/// What became of the admissions that stand in the journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sum {
    /// Claims that were admitted.
    pub admitted: u64,
    /// Confirmed, cancelled afterwards or not.
    pub sold: u64,
    /// Failed.
    pub failed: u64,
    /// Unknown or pending.
    pub unknown: u64,
    /// Without an outcome yet.
    pub open: u64,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// `site/sale`.
    pub sale: String,
    /// Whether every invariant holds.
    pub holds: bool,
    /// The sale changed while it was read: an invariant that compares two sources may only seem broken.
    pub moving: bool,
    /// `admitted = sold + failed + unknown + open`.
    pub sum: Sum,
    /// Each invariant.
    pub invariants: Vec<Check>,
    /// Claims of which nobody knows, each with what is known.
    pub limbo: Vec<String>,
}

/// Reads the three sources and checks.
pub fn audit(inputs: &Inputs) -> Result<Report, AuditError> {
    let orders = inputs.orders.as_deref().map(crate::orders::read).transpose()?;
    let clients: Vec<AdminClient> =
        inputs.sockets.iter().map(|s| AdminClient::connect(s)).collect::<Result<_, _>>()?;
    let client = clients.first().ok_or_else(|| AuditError::NoSale(inputs.sale.clone()))?;
    let nodes = Nodes::read(&clients)?;
    let mut tries = 0;
    loop {
        tries += 1;
        let mut ledger = Ledger::read(client, &inputs.sale)?;
        let past = Past::read(&inputs.journals, &inputs.sale)?;
        let after = Ledger::sale(client, &inputs.sale)?;
        let moving = after != ledger.sale;
        ledger.later = (after.epoch, after.version);
        if !moving || tries == TRIES_MAX {
            let orders = orders.as_deref();
            return Ok(judge(&inputs.sale, &ledger, &past, &nodes, orders, moving));
        }
    }
}

fn judge(
    sale: &SaleId,
    ledger: &Ledger,
    past: &Past,
    nodes: &Nodes,
    orders: Option<&[OrderRow]>,
    moving: bool,
) -> Report {
    let mut invariants = checks::all(ledger, past, nodes);
    invariants.extend(nodes.checks());
    if let Some(orders) = orders {
        invariants.extend(shop::all(ledger, past, orders));
    }
    Report {
        sale: sale.to_string(),
        holds: invariants.iter().all(|check| check.holds),
        moving,
        sum: past.sum(),
        invariants,
        limbo: checks::limbo(ledger, past),
    }
}

impl Check {
    /// `observed` must not be more than `bound`.
    fn at_most(name: &'static str, bound: u64, observed: u64, details: Vec<String>) -> Check {
        Check { name, holds: observed <= bound, bound, observed, details }
    }

    /// There must be none; each is said.
    fn none(name: &'static str, mut found: Vec<String>) -> Check {
        let observed = found.len() as u64;
        found.truncate(DETAILS_MAX);
        Check::at_most(name, 0, observed, found)
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Sum { admitted, sold, failed, unknown, open } = self.sum;
        writeln!(
            f,
            "{}: admitted {admitted} = sold {sold} + failed {failed} + unknown {unknown} + open {open}",
            self.sale
        )?;
        for Check { name, holds, bound, observed, details } in &self.invariants {
            let word = if *holds { "holds " } else { "BROKEN" };
            writeln!(f, "{word} {name}: observed {observed} of bound {bound}")?;
            details.iter().try_for_each(|detail| writeln!(f, "         {detail}"))?;
        }
        self.limbo.iter().try_for_each(|claim| writeln!(f, "limbo  {claim}"))?;
        if self.moving {
            let text = "note   the sale changed while it was read; run it again when it is quiet";
            writeln!(f, "{text}")?;
        }
        Ok(())
    }
}

/// Details of one invariant that are said.
pub const DETAILS_MAX: usize = 20;
/// How often a sale that changes while it is read is read again.
const TRIES_MAX: u32 = 5;

#[cfg(test)]
mod tests;
