//! Operations as arguments of scripts.

use super::scripts::Family;
use crate::clock::UnixMs;
use crate::config::schema::Restock;
use crate::ledger::{ClaimBatch, Control, Declare, Op, Resolution};

/// The script of an operation and its arguments.
pub(super) fn encode(op: &Op) -> (Family, Vec<String>) {
    match op {
        Op::Claim(batch) => (Family::Claim, claim(batch)),
        Op::Resolve(outcomes) => (Family::Resolve, outcomes.iter().flat_map(outcome).collect()),
        Op::Reap { max } => (Family::Reap, vec![max.to_string()]),
        Op::Declare(declare) => (Family::Declare, declaration(declare)),
        Op::Control(word) => (Family::Control, control(word)),
        Op::Read => (Family::Read, Vec::new()),
    }
}

fn claim(batch: &ClaimBatch) -> Vec<String> {
    let ttl_ms = batch.claim_ttl_ms.min(TTL_MS_MAX);
    let mut args = vec![batch.node.to_string(), time(batch.not_after), ttl_ms.to_string()];
    for one in &batch.tries {
        args.extend([
            one.claim.to_string(),
            one.attempt.to_string(),
            one.user.to_string(),
            one.pool.to_string(),
            one.units.to_string(),
        ]);
    }
    args
}

fn outcome(outcome: &Resolution) -> [String; 7] {
    [
        outcome.user.to_string(),
        outcome.claim.to_string(),
        outcome.attempt.to_string(),
        outcome.pool.to_string(),
        outcome.units.to_string(),
        outcome.verdict.letter().to_string(),
        outcome.hold_until.map(time).unwrap_or_default(),
    ]
}

fn declaration(declare: &Declare) -> Vec<String> {
    let said = &declare.declaration;
    let mut args = vec![
        declare.salt.to_string(),
        format!("{:016x}", said.hash()),
        said.revision.map(|r| r.to_string()).unwrap_or_default(),
        said.activity.to_string(),
        time(said.opens_at.at),
        said.ends_at.map(|end| time(end.at)).unwrap_or_default(),
        said.overshoot_permille().to_string(),
        said.per_user.orders.to_string(),
        said.per_user.units.to_string(),
        restock(said.restock).to_owned(),
    ];
    for (name, pool) in &said.pools {
        args.extend([name.to_string(), pool.stock.to_string()]);
    }
    args
}

fn control(word: &Control) -> Vec<String> {
    let bare = |word: &str| vec![word.to_owned(), String::new(), "0".into(), String::new()];
    match word {
        Control::Pause => bare("pause"),
        Control::Resume => bare("resume"),
        Control::SoldOut => bare("sold_out"),
        Control::End => bare("end"),
        Control::AddStock { pool, units, id } => {
            vec!["add_stock".into(), pool.to_string(), whole(*units), id.clone()]
        }
        Control::Restock { pool, units, id } => {
            vec!["restock".into(), pool.to_string(), whole(*units), id.clone()]
        }
    }
}

/// The word of a restock policy in the ledger.
pub(super) fn restock(restock: Restock) -> &'static str {
    match restock {
        Restock::Never => "never",
        Restock::Manual => "manual",
    }
}

fn time(at: UnixMs) -> String {
    whole(at.0)
}

/// A number that Lua computes with exactly; beyond it all mean "never" or "too many".
fn whole(n: u64) -> String {
    n.min(WHOLE_MAX).to_string()
}

/// The largest integer of a double that has all smaller ones, less the longest time to live.
const WHOLE_MAX: u64 = (1 << 53) - 1 - TTL_MS_MAX;

/// About 35 years.
const TTL_MS_MAX: u64 = 1 << 40;
