//! What the ledger may have forgotten is said to it again.
//!
//! Once a second each node tells the ledger of every running sale that it lives. From the answer it
//! sees whether the ledger is the one to which it has said everything: a server that took over, one that
//! started again, or a ledger that is gone is told the whole journal and the sale itself. Before that,
//! and for as long as other nodes have not done the same, nobody is admitted ([`crate::ledger`]).
//!
//! What a sale was when it was seen last is kept in `state_dir/sales.json`, so that a node that starts
//! after Redis lost everything still knows it.

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::facts::{BEAT_MS, Remembered, order};
use super::shared::{CALL_DEADLINE, Shared};
use crate::clock::MonoMs;
use crate::ident::{NodeId, SaleId};
use crate::ledger::{Assertion, Op, OpResult, Reassert, Resolved};
use crate::metrics::Counter;
use crate::sale::{Mark, SaleState};
use crate::store::StoreError;

/// Says again what must be said, for as long as the node lives.
pub(super) async fn run(shared: Arc<Shared>, file: Option<PathBuf>) {
    let mut tick = interval(LOOK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut beats: HashMap<SaleId, Beat> = HashMap::new();
    let mut written = Vec::new();
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = shared.facts.wake.notified() => {}
        }
        for sale in shared.book.all() {
            shared.facts.hear(&sale.state, shared.clock.now().ledger);
        }
        if let Some(file) = &file {
            remember(&shared, file, &mut written).await;
        }
        if !shared.store_forgets() {
            continue;
        }
        let sales = shared.facts.sales(shared.clock.now().ledger);
        beats.retain(|sale, _| sales.contains(sale));
        for sale in sales {
            if !shared.breaker.is_closed(&sale) {
                continue;
            }
            let beat = beats.entry(sale.clone()).or_default();
            let is_due = shared.clock.mono() >= beat.next || must_report(&shared, &sale);
            if is_due && shared.clock.mono() >= beat.not_before {
                let done = attend(&shared, &sale, beat.count).await;
                let now = shared.clock.mono();
                beat.count += 1;
                beat.next = now.plus(BEAT_MS);
                beat.not_before = now.plus(if done.is_err() { RETRY_MS } else { 0 });
                if let Err(error) = done {
                    tracing::debug!(%sale, %error, "what this node knows could not be said yet");
                }
            }
        }
    }
}

/// When a sale's ledger is told next that this node lives.
#[derive(Debug, Default)]
struct Beat {
    next: MonoMs,
    /// After an error.
    not_before: MonoMs,
    count: u64,
}

fn must_report(shared: &Shared, sale: &SaleId) -> bool {
    let Some(sale_now) = shared.book.sale(sale) else { return false };
    shared.facts.reported(sale) != Some(sale_now.state.mark())
}

/// Makes a sale again that a ledger lost, where this node knew it: before anybody declares it anew.
pub(super) async fn before_declaring(shared: &Shared, sale: &SaleId) -> Result<(), StoreError> {
    let is_known = shared.facts.known(sale, shared.clock.now().ledger).is_some();
    if is_known && shared.store_forgets() { attend(shared, sale, 1).await } else { Ok(()) }
}

/// Tells that this node lives, and everything where the ledger may not know it.
async fn attend(shared: &Shared, sale: &SaleId, count: u64) -> Result<(), StoreError> {
    let known = shared.facts.known(sale, shared.clock.now().ledger);
    let reported = shared.facts.reported(sale);
    let is_roll_call = count.is_multiple_of(shared.facts.roll_call_beats(sale));
    let said = Reassert { reported, is_roll_call, ..part(shared, sale) };
    let told = tell(shared, sale, said).await?;
    let is_whole = told.as_ref().is_some_and(|told| {
        let is_as_known = known.is_none_or(|known| {
            order(&told.state) >= order(&known) && told.state.salt == known.salt
        });
        reported == Some(told.state.mark()) && is_as_known
    });
    if is_whole {
        return Ok(());
    }
    shared.facts.begin_report(sale);
    report(shared, sale).await
}

/// Says everything.
pub(super) async fn report(shared: &Shared, sale: &SaleId) -> Result<(), StoreError> {
    let (first, claims) = shared.facts.report(sale, shared.clock.now().ledger);
    let known = first.known.clone();
    let first = Reassert { known: first.known, peers: first.peers, ..part(shared, sale) };
    let Some(begun) = tell(shared, sale, first).await? else {
        // Nobody declared it yet, and this node never saw it.
        return Ok(());
    };
    if known.as_ref().is_some_and(|known| known.salt != begun.state.salt) {
        shared.facts.accept(&begun.state);
        tracing::error!(
            "{sale}: was declared anew and sold before this node could say what it knew: the ledger \
             cannot tell who bought before, run `penstock audit`"
        );
    }
    let mark = begun.state.mark();
    let (claims, made) = tell_claims(shared, sale, mark, claims).await?;
    let last = Reassert { reported: Some(mark), is_roll_call: true, ..part(shared, sale) };
    match tell(shared, sale, last).await? {
        Some(told) if told.state.mark() == mark => {
            let others = told.nodes.iter().filter(|node| !shared.is_our_run(node)).count();
            shared.facts.end_report(sale, mark, others, shared.clock.mono());
        }
        _ => return Err(StoreError::NotSent("the ledger changed its server meanwhile".to_owned())),
    }
    shared.sink.inc(Counter::Reports);
    if mark.fences > 0 || made > 0 {
        let sale_text = if known.is_some() { " and the sale itself" } else { "" };
        tracing::warn!(
            "{sale}: the ledger may have forgotten something (server {}): {claims} claims{sale_text} \
             were re-asserted, {made} of which it did not know",
            mark.server
        );
    }
    Ok(())
}

/// Says what became of `claims`, and again of those of which more was heard meanwhile: that went to a
/// ledger which may not have had the claim yet. Returns how many claims were said, and how many of them the
/// ledger did not know.
async fn tell_claims(
    shared: &Shared,
    sale: &SaleId,
    mark: Mark,
    mut claims: Vec<Assertion>,
) -> Result<(usize, u64), StoreError> {
    let (mut said, mut made) = (HashMap::new(), 0);
    while !claims.is_empty() {
        for chunk in claims.chunks(CLAIMS_MAX) {
            let part = Reassert { claims: chunk.to_vec(), ..part(shared, sale) };
            let told = tell(shared, sale, part).await?;
            let Some(told) = told.filter(|told| told.state.mark() == mark) else {
                let what = "the ledger changed its server meanwhile".to_owned();
                return Err(StoreError::NotSent(what));
            };
            made += count(shared, sale, &told);
        }
        said.extend(claims.iter().map(|fact| (fact.claim, fact.verdict)));
        (_, claims) = shared.facts.report(sale, shared.clock.now().ledger);
        claims.retain(|fact| said.get(&fact.claim) != Some(&fact.verdict));
    }
    Ok((said.len(), made))
}

/// What a ledger said to a part of a report.
struct Told {
    state: SaleState,
    resolved: Vec<Resolved>,
    nodes: Vec<NodeId>,
    is_learning: bool,
}

/// `None`: there is no such sale.
async fn tell(shared: &Shared, sale: &SaleId, said: Reassert) -> Result<Option<Told>, StoreError> {
    let is_roll_call = said.is_roll_call;
    let reply = shared.call(sale, Op::Reassert(Box::new(said)), CALL_DEADLINE).await?;
    let (Some(state), OpResult::Reasserted { resolved, nodes }) = (reply.state, reply.result)
    else {
        return Ok(None);
    };
    let is_learning = state.is_learning_at(reply.now);
    if is_roll_call || is_learning {
        shared.facts.set_peers(sale, nodes.clone());
    }
    Ok(Some(Told { state, resolved, nodes, is_learning }))
}

/// Counts what became of some claims; returns how many the ledger did not know.
fn count(shared: &Shared, sale: &SaleId, told: &Told) -> u64 {
    let of = |what: Resolved| told.resolved.iter().filter(|r| **r == what).count() as u64;
    let (made, changed, conflicts) =
        (of(Resolved::Late), of(Resolved::Applied), of(Resolved::Conflict));
    shared.sink.add(Counter::Reasserted, made + changed);
    if !told.is_learning {
        shared.sink.add(Counter::ReassertedLate, made);
    }
    if conflicts > 0 {
        shared.sink.add(Counter::OutcomeConflicts, conflicts);
        tracing::error!(
            "{sale}: {conflicts} claims contradict what the ledger has, which keeps it: run \
             `penstock audit`"
        );
    }
    made
}

fn part(shared: &Shared, sale: &SaleId) -> Reassert {
    let runs: Vec<NodeId> = shared.earlier_runs();
    Reassert { node: shared.node, runs, fence: shared.facts.fence(sale), ..Reassert::default() }
}

/// What is written again when it differs: sale, (epoch, version), nodes.
type News = (SaleId, (u32, u64), Vec<NodeId>);

/// Writes what the sales are, where that is news. A disk that fails is the journal's to complain of.
async fn remember(shared: &Shared, file: &Path, written: &mut Vec<News>) {
    let all = shared.facts.remembered();
    let news = |one: &Remembered| (one.state.id.clone(), order(&one.state), one.peers.clone());
    let news: Vec<News> = all.iter().map(news).collect();
    if news == *written {
        return;
    }
    let file = file.to_owned();
    let done = tokio::task::spawn_blocking(move || write(&file, &all)).await;
    match done {
        Ok(Ok(())) => *written = news,
        Ok(Err(cause)) => tracing::warn!("the sales cannot be remembered on the disk: {cause}"),
        Err(cause) => tracing::warn!("the sales cannot be remembered on the disk: {cause}"),
    }
}

fn write(path: &Path, all: &[Remembered]) -> std::io::Result<()> {
    // One for each process: during an upgrade there are two.
    let draft = path.with_extension(format!("json.{}", std::process::id()));
    let mut file = std::fs::File::create(&draft)?;
    file.write_all(&serde_json::to_vec(all)?)?;
    file.sync_all()?;
    std::fs::rename(&draft, path)
}

/// What earlier runs knew of the sales; nothing where that cannot be read.
pub(super) fn remembered(path: &Path) -> Vec<Remembered> {
    let read = std::fs::read(path).map(|bytes| serde_json::from_slice(&bytes));
    match read {
        Ok(Ok(all)) => all,
        Ok(Err(cause)) => {
            tracing::warn!("{} cannot be read and is not used: {cause}", path.display());
            Vec::new()
        }
        Err(_) => Vec::new(),
    }
}

/// Between two looks at what the mirror heard.
const LOOK: Duration = Duration::from_millis(50);
/// After an error, in milliseconds.
const RETRY_MS: u64 = 100;
/// Claims in one operation.
const CLAIMS_MAX: usize = 128;
