//! Operations as arguments of scripts.

use super::scripts::Family;
use crate::clock::UnixMs;
use crate::config::schema::Restock;
use crate::config::stock::Source;
use crate::ident::NodeId;
use crate::ledger::{ClaimBatch, Control, Declare, Observe, Op, Reassert, Resolution, STOCK_MAX};
use crate::outcome::Verdict;
use crate::sale::{Mark, SaleState};

/// What the scripts must know of this node's settings, and the sale's commands.
#[derive(Clone, Debug, Default)]
pub(super) struct Context {
    /// Whether they ask which server they run in.
    pub(super) asks_server: bool,
    /// How far this node knows `in` to be read, in text; or nothing.
    pub(super) cursor: String,
}

/// The script of an operation and its arguments.
pub(super) fn encode(op: &Op, context: &Context) -> (Family, Vec<String>) {
    match op {
        Op::Claim(batch) => (Family::Claim, claim(batch, context)),
        Op::Reassert(said) => (Family::Reassert, reassert(said, context)),
        Op::Resolve(outcomes) => (Family::Resolve, outcomes.iter().flat_map(outcome).collect()),
        Op::Reap { max } => (Family::Reap, vec![max.to_string()]),
        Op::Declare(declare) => (Family::Declare, declaration(declare, context)),
        Op::Control(word) => (Family::Control, control(word)),
        Op::Observe(seen) => (Family::Observe, observe(seen)),
        Op::Read => (Family::Read, Vec::new()),
    }
}

fn claim(batch: &ClaimBatch, context: &Context) -> Vec<String> {
    let ttl_ms = batch.claim_ttl_ms.min(TTL_MS_MAX);
    let mut args = vec![
        batch.node.to_string(),
        time(batch.not_after),
        ttl_ms.to_string(),
        batch.fence.learn_ms.min(TTL_MS_MAX).to_string(),
        whole(batch.fence.seen),
        flag(context.asks_server),
        mark(batch.reported),
    ];
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

fn reassert(said: &Reassert, context: &Context) -> Vec<String> {
    let known = said.known.as_ref().map(known).unwrap_or_default();
    let mut args = vec![
        said.node.to_string(),
        flag(context.asks_server),
        said.fence.learn_ms.min(TTL_MS_MAX).to_string(),
        whole(said.fence.seen),
        mark(said.reported),
        flag(said.is_roll_call),
        context.cursor.clone(),
        said.runs.len().to_string(),
        said.peers.len().to_string(),
        known.len().to_string(),
    ];
    args.extend(said.runs.iter().map(NodeId::to_string));
    args.extend(said.peers.iter().map(NodeId::to_string));
    args.extend(known);
    for one in &said.claims {
        args.extend([
            one.claim.to_string(),
            one.user.to_string(),
            one.attempt.to_string(),
            one.pool.to_string(),
            one.units.to_string(),
            one.node.to_string(),
            one.verdict.map_or('A', Verdict::letter).to_string(),
            time(one.deadline),
        ]);
    }
    args
}

fn known(state: &SaleState) -> Vec<String> {
    let applied: Vec<String> = state.applied.iter().map(|hash| format!("{hash:016x}")).collect();
    let mut words = vec![
        state.epoch.to_string(),
        whole(state.version),
        whole(state.seq),
        whole(state.fences),
        state.revision.to_string(),
        applied.join(","),
        state.activity.to_string(),
        time(state.opens_at),
        state.ends_at.map(time).unwrap_or_default(),
        flag(state.paused),
        flag(state.ended),
        state.overshoot_permille.to_string(),
        state.per_user.orders.to_string(),
        state.per_user.units.to_string(),
        restock(state.restock).to_owned(),
        state.salt.to_string(),
        whole(state.restock_batch),
        whole(state.restock_debounce_ms),
        state.ids.join(" "),
    ];
    for pool in &state.pools {
        let (latch, word) = (flag(pool.sold_out), flag(pool.held_back));
        let source = pool.follow.as_ref().map(|f| source(&f.source)).unwrap_or_default();
        words.extend([pool.name.to_string(), whole(pool.stock), latch, word, source]);
    }
    words
}

/// A generation of the ledger's memory, as the scripts spell it.
fn mark(mark: Option<Mark>) -> String {
    mark.map(|mark| format!("{}:{}", mark.server, mark.fences)).unwrap_or_default()
}

fn flag(is: bool) -> String {
    if is { "1" } else { "0" }.to_owned()
}

fn declaration(declare: &Declare, context: &Context) -> Vec<String> {
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
        flag(context.asks_server),
        whole(said.restock_batch),
        whole(said.restock_debounce.ms),
    ];
    for (name, pool) in &said.pools {
        let (units, from) = (pool.stock.own().unwrap_or(0), pool.stock.source());
        args.extend([name.to_string(), whole(units), from.map(source).unwrap_or_default()]);
    }
    args
}

fn observe(seen: &Observe) -> Vec<String> {
    let mut args = vec![mark(Some(seen.mark)), time(seen.read_at)];
    for reading in &seen.readings {
        let left = reading.left.map(|left| whole(left.min(STOCK_MAX))).unwrap_or_default();
        args.extend([reading.pool.to_string(), left, whole(reading.confirmed_before)]);
    }
    args
}

/// Where the shop says what is left: a text that the scripts only keep.
pub(super) fn source(source: &Source) -> String {
    serde_json::to_string(source).unwrap_or_default()
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
        Restock::Auto => "auto",
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
