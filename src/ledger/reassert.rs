//! What nodes know and the ledger may have forgotten.
//!
//! A server that fails over or starts again may have lost the last writes, or everything. Each node
//! then says again what it knows: the sale as it saw it last, and from its journal every claim with its
//! outcome. All of it is true, so it is merged, whoever says it and however often; what remains is the
//! same in any order. In turn:
//!
//! 1. There is no such sale: where the node says what it knew, the sale is that again, with nobody's
//!    records, and the version rises; else `NoSale`.
//! 2. The fence looks ([`crate::ledger`]).
//! 3. What the node knew of the sale, if it says so:
//!
//! | | |
//! |---|---|
//! | the salt | differs, and the ledger has no units confirmed, held or in limbo: the node's. The ledger was declared anew |
//! | `ended` | either is |
//! | the node's (epoch, version) is higher | everything declared, `paused`, stock, ids and the latches are the node's, in the same epoch latches of both; ids that only the ledger has are the oldest; the version becomes the node's and rises by one. Pools that the node does not know stay where they have units. What was read of the shop's numbers is forgotten |
//! | equal | `paused` where either is, latches of both, the lower stock of each pool that has one of its own, ids that only the node has as the oldest |
//! | lower | in the same epoch latches of both |
//!
//! 4. Each claim, matched by claim id. Where there is a record, as an outcome ([`crate::ledger`]);
//!    without one:
//!
//! | said | | |
//! |---|---|---|
//! | V | remembered as void | `Unknown` |
//! | F | remembered as failed | `Unknown` |
//! | else | a V took it | `Repeated` |
//! | | no such pool | `Conflict` |
//! | C | a record C | `Late` |
//! | else | a node said F of it | `Repeated` |
//! | X | a record L | `Late` |
//! | P, or nothing yet | a record P or A until its deadline, L if that is past | `Late` |
//!
//!    Nobody is refused for a limit or for room: it has happened. Where more units are taken than there
//!    are, the counters say so and nobody else is admitted.
//! 5. The node is remembered, with the time and what it has reported to. While the ledger learns: the
//!    nodes that it knew to be alive are remembered where the ledger has not heard of them; its earlier
//!    runs have reported what it has. When every node heard of since [`LIVE_MS`] before the learning
//!    began has reported to this generation, the learning ends.
//!
//! Nodes not heard of for [`KEPT_MS`] are forgotten whenever all are looked at: while the ledger
//! learns, and at a roll call.

use crate::clock::UnixMs;
use crate::ident::{AttemptId, ClaimId, Name, NodeId, UserKey};
use crate::ledger::turn::{Turn, forgotten};
use crate::ledger::{Fence, IDS_MAX, Peer, Record, RecordKind, Resolution, Resolved, Shard};
use crate::ledger::{fence, resolve};
use crate::outcome::Verdict;
use crate::sale::{Mark, SaleState};

/// A node that was heard within this time lives, in milliseconds. Nodes say every second that they do.
pub const LIVE_MS: u64 = 5_000;

/// A node is remembered so long after it was heard, in milliseconds.
pub const KEPT_MS: u64 = 600_000;

/// What one node knows, or a part of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reassert {
    /// The run of the node.
    pub node: NodeId,
    /// Earlier runs whose journal it has.
    pub runs: Vec<NodeId>,
    /// What the fence needs.
    pub fence: Fence,
    /// The sale as it saw it last, where the ledger may know less.
    pub known: Option<SaleState>,
    /// Nodes that it knew to be alive.
    pub peers: Vec<NodeId>,
    /// Its claims.
    pub claims: Vec<Assertion>,
    /// The generation to which it has said everything.
    pub reported: Option<Mark>,
    /// Whether it wants to hear which nodes live.
    pub is_roll_call: bool,
}

/// What a node's journal says of one claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assertion {
    /// The claim.
    pub claim: ClaimId,
    /// The buyer.
    pub user: UserKey,
    /// The attempt.
    pub attempt: AttemptId,
    /// The pool.
    pub pool: Name,
    /// Units.
    pub units: u32,
    /// The run of the node that was admitted.
    pub node: NodeId,
    /// What became of it; `None`: nothing yet.
    pub verdict: Option<Verdict>,
    /// Until when it may stay as it is: the claim's deadline, or for P the end of its time to pay.
    pub deadline: UnixMs,
}

/// One answer for each claim, and the nodes that live, where somebody wants to know.
pub(super) fn reassert<S: Shard>(
    turn: &mut Turn<'_, S>,
    said: &Reassert,
) -> Result<(Vec<Resolved>, Vec<NodeId>), S::Error> {
    fence::look(turn, &said.fence)?;
    if let Some(known) = &said.known {
        merge(turn, known);
    }
    let claims = said.claims.iter().map(|claim| reassert_one(turn, claim));
    let resolved = claims.collect::<Result<_, _>>()?;
    let nodes = report(turn, said)?;
    Ok((resolved, nodes))
}

/// What the node knew of the sale becomes what the ledger knows.
fn merge<S: Shard>(turn: &mut Turn<'_, S>, known: &SaleState) {
    let now = turn.now;
    let state = &mut turn.state;
    if state.pools.iter().all(|p| p.confirmed == 0 && p.held == 0 && p.limbo == 0) {
        state.salt = known.salt;
    }
    state.ended |= known.ended;
    let (is, was) = ((state.epoch, state.version), (known.epoch, known.version));
    let is_same_epoch = state.epoch == known.epoch;
    if was > is {
        let old = std::mem::take(&mut state.pools);
        state.pools = known.pools.clone();
        for pool in &mut state.pools {
            let own = old.iter().find(|p| p.name == pool.name);
            pool.confirmed = own.map_or(0, |p| p.confirmed);
            pool.held = own.map_or(0, |p| p.held);
            pool.limbo = own.map_or(0, |p| p.limbo);
            pool.sold_out |= is_same_epoch && own.is_some_and(|p| p.sold_out);
            pool.held_back |= is_same_epoch && own.is_some_and(|p| p.held_back);
            pool.back_since = own.map_or(UnixMs(0), |p| p.back_since);
            pool.follow = forgotten(pool, now);
        }
        let is_used = |p: &crate::sale::PoolState| p.confirmed + p.held + p.limbo > 0;
        let more = old.into_iter().filter(|p| known.pool(p.name.as_str()).is_none() && is_used(p));
        state.pools.extend(more);
        state.pools.sort_by(|a, b| a.name.as_str().cmp(b.name.as_str()));
        state.activity = known.activity.clone();
        (state.opens_at, state.ends_at) = (known.opens_at, known.ends_at);
        (state.paused, state.per_user) = (known.paused, known.per_user);
        (state.overshoot_permille, state.restock) = (known.overshoot_permille, known.restock);
        state.restock_batch = known.restock_batch;
        state.restock_debounce_ms = known.restock_debounce_ms;
        (state.revision, state.applied) = (known.revision, known.applied.clone());
        state.ids = joined(&state.ids, &known.ids);
        (state.epoch, state.version) = (known.epoch, known.version);
        turn.rises = true;
        return;
    }
    if is == was {
        state.paused |= known.paused;
        state.ids = joined(&known.ids, &state.ids);
    }
    for pool in &mut state.pools {
        let Some(other) = known.pool(pool.name.as_str()) else { continue };
        pool.sold_out |= is_same_epoch && other.sold_out;
        pool.held_back |= is_same_epoch && other.held_back;
        if is == was && pool.follow.is_none() {
            pool.stock = pool.stock.min(other.stock);
        }
    }
}

/// Both lists, without repeats: what `older` has alone comes first. At most [`IDS_MAX`], the newest.
fn joined(older: &[String], newer: &[String]) -> Vec<String> {
    let mut ids: Vec<String> = older.iter().filter(|id| !newer.contains(id)).cloned().collect();
    ids.extend_from_slice(newer);
    let surplus = ids.len().saturating_sub(IDS_MAX);
    ids.drain(..surplus);
    ids
}

fn reassert_one<S: Shard>(turn: &mut Turn<'_, S>, said: &Assertion) -> Result<Resolved, S::Error> {
    let records = turn.shard.user(&said.user)?;
    if records.iter().any(|r| r.claim == said.claim) {
        return match said.verdict {
            None => Ok(Resolved::Repeated),
            Some(verdict) => resolve::resolve_one(turn, &said.outcome(verdict)),
        };
    }
    match said.verdict {
        Some(Verdict::Void) => {
            turn.shard.put_void(&said.claim)?;
            return Ok(Resolved::Unknown);
        }
        Some(Verdict::Failed) => {
            turn.shard.put_failed(&said.claim)?;
            return Ok(Resolved::Unknown);
        }
        _ => {}
    }
    if turn.shard.is_void(&said.claim)? {
        return Ok(Resolved::Repeated);
    }
    if turn.state.pool(said.pool.as_str()).is_none() {
        return Ok(Resolved::Conflict);
    }
    if said.verdict != Some(Verdict::Confirmed) && turn.shard.is_failed(&said.claim)? {
        return Ok(Resolved::Repeated);
    }
    let mut with = records.clone();
    with.push(said.record(turn.now));
    turn.put_user(&said.user, &records, &with)?;
    Ok(Resolved::Late)
}

/// The node has reported; returns the nodes that live.
fn report<S: Shard>(turn: &mut Turn<'_, S>, said: &Reassert) -> Result<Vec<NodeId>, S::Error> {
    let (now, learn_until, mark) = (turn.now, turn.state.learn_until, turn.state.mark());
    let reported = said.reported;
    turn.shard.put_node(said.node, Some(Peer { seen: now, reported }))?;
    let is_learning = turn.state.is_learning_at(now);
    if !is_learning && !said.is_roll_call {
        return Ok(Vec::new());
    }
    let mut nodes = turn.shard.nodes()?;
    nodes.sort_by_key(|(node, _)| *node);
    for (node, _) in nodes.extract_if(.., |(_, peer)| peer.seen.plus(KEPT_MS) < now) {
        turn.shard.put_node(node, None)?;
    }
    if is_learning {
        for run in &said.runs {
            let Some((_, peer)) = nodes.iter_mut().find(|(node, _)| node == run) else { continue };
            peer.reported = reported.or(peer.reported);
            turn.shard.put_node(*run, Some(*peer))?;
        }
        for peer in &said.peers {
            if nodes.iter().all(|(node, _)| node != peer) {
                let new = Peer { seen: now, reported: None };
                turn.shard.put_node(*peer, Some(new))?;
                nodes.push((*peer, new));
            }
        }
        let began = learn_until.0.saturating_sub(said.fence.learn_ms);
        let mut live = nodes.iter().filter(|(_, peer)| peer.seen.plus(LIVE_MS).0 >= began);
        if live.all(|(_, peer)| peer.reported == Some(mark)) {
            turn.state.learn_until = now;
        }
    }
    let live = nodes.into_iter().filter(|(_, peer)| peer.seen.plus(LIVE_MS) >= now);
    let mut live: Vec<NodeId> = live.map(|(node, _)| node).collect();
    live.sort_unstable();
    Ok(live)
}

impl Assertion {
    fn outcome(&self, verdict: Verdict) -> Resolution {
        Resolution {
            user: self.user,
            claim: self.claim,
            attempt: self.attempt,
            pool: self.pool.clone(),
            units: self.units,
            verdict,
            hold_until: Some(self.deadline),
        }
    }

    fn record(&self, now: UnixMs) -> Record {
        let kind = match self.verdict {
            Some(Verdict::Confirmed) => RecordKind::Confirmed,
            Some(Verdict::Pending) if self.deadline > now => RecordKind::Pending,
            None if self.deadline > now => RecordKind::Admitted,
            _ => RecordKind::Limbo,
        };
        Record {
            kind,
            user: self.user,
            claim: self.claim,
            attempt: self.attempt,
            pool: self.pool.clone(),
            units: self.units,
            node: self.node,
            deadline: self.deadline,
        }
    }
}
