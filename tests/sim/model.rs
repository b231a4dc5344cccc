//! Every interleaving of two nodes, up to three users and a ledger that may fail over and forget, with
//! `stateright`.
//!
//! Real: each operation of the ledger, by [`Memory::apply`]: claim, resolve, reap, re-assert, fence.
//! Modelled: a node (its journal, what it has seen of the ledger, what it still owes it), the shop, which
//! has no stock control and takes whatever comes, and the replication, which may lack the last writes.
//! A report is one step here, and a journal line is on the disk when its claim is sent; the simulation
//! (`fleet`) takes both apart.
//!
//! Time stands still at T0: claims are due a millisecond later, so that the reaper may come between any
//! two steps, and learning ends by itself only in a step of its own.

use std::sync::Arc;

use penstock::clock::UnixMs;
use penstock::ident::{NodeId, ServerId};
use penstock::ledger::{
    Assertion, ClaimBatch, Claimed, Fence, Memory, Op, OpResult, Reassert, RecordKind, Resolution,
    Shard, Try,
};
use penstock::outcome::Verdict;
use penstock::sale::{Mark, SaleState};
use stateright::{Model, Property};

use crate::mutation::Mutation;
use crate::sale::{T0, attempt, claim_id, kind_of, ledger, node_id, order, pool, records, user};

/// The bounds of one search.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub users: usize,
    pub stock: usize,
    /// Claims that reach the ledger and are admitted, in all.
    pub claims: usize,
    pub failovers: u8,
    /// Most writes that the new master lacks; whether it may lack all of them.
    pub lag: usize,
    pub may_be_empty: bool,
    pub crashes: u8,
    /// Admissions beyond the stock that the promise allows (a crash in the window of a failover).
    pub beyond: usize,
    pub without: Mutation,
}

/// Everything.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    ledger: Memory,
    /// What a replica may have: the ledger before its last writes, oldest first.
    past: Vec<Arc<Memory>>,
    nodes: [Node; NODES],
    claims: Vec<Claim>,
    servers: u8,
    /// The one that answers, as it says.
    server: u8,
    crashes: u8,
    /// A node was told `sold_out`; and somebody was admitted afterwards.
    told_sold_out: bool,
    reopened: bool,
}

/// One node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Node {
    is_down: bool,
    run: u8,
    reported: Option<Mark>,
    known: Option<Arc<SaleState>>,
    seen: u64,
}

/// One admitted claim.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Claim {
    user: u8,
    node: u8,
    run: u8,
    shop: Shop,
    /// What stands in the node's journal.
    heard: Option<Verdict>,
    /// What the node still has to tell the ledger.
    due: Due,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Shop {
    /// Never sent: the node did not hear of its admission in time.
    Unsent,
    Flying,
    Ordered,
    Rejected,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Due {
    Nothing,
    Once,
    /// It was applied, and the node did not hear so.
    Again,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    Claim { node: usize, user: usize },
    ClaimUnheard { node: usize, user: usize },
    Order { claim: usize },
    Reject { claim: usize },
    GiveUp { claim: usize },
    Deliver { claim: usize },
    DeliverUnheard { claim: usize },
    Reap,
    Report { node: usize },
    FailOver { lacks: usize },
    Crash { node: usize },
    Restart { node: usize },
    LearningEnds,
}

const NODES: usize = 2;
const LEARN_MS: u64 = 1_000;
/// A failover to nothing.
const ALL_OF_IT: usize = usize::MAX;

impl Model for Bounds {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let mut state = State {
            ledger: ledger(self.stock as u64),
            past: Vec::new(),
            nodes: Default::default(),
            claims: Vec::new(),
            servers: 0,
            server: 0,
            crashes: 0,
            told_sold_out: false,
            reopened: false,
        };
        // Each node has said that it is there, and knows the others.
        (0..NODES).for_each(|node| self.report(&mut state, node));
        state.past.clear();
        vec![state]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        // Users and nodes are alike: the first that acts is the first.
        let users = state.claims.iter().map(|c| c.user as usize + 1).max().unwrap_or(0);
        let nodes = if state.claims.is_empty() && state.servers == 0 { 1 } else { NODES };
        if state.claims.len() < self.claims {
            for node in (0..nodes).filter(|node| !state.nodes[*node].is_down) {
                for user in 0..self.users.min(users + 1) {
                    actions.push(Action::Claim { node, user });
                    actions.push(Action::ClaimUnheard { node, user });
                }
            }
        }
        for (claim, it) in state.claims.iter().enumerate() {
            if it.shop == Shop::Flying {
                actions.extend([Action::Order { claim }, Action::Reject { claim }]);
            }
            if it.heard.is_none() && it.shop != Shop::Unsent && state.lives(it) {
                actions.push(Action::GiveUp { claim });
            }
            if it.due != Due::Nothing && !state.nodes[it.node as usize].is_down {
                actions.push(Action::Deliver { claim });
                if it.due == Due::Once {
                    actions.push(Action::DeliverUnheard { claim });
                }
            }
        }
        actions.push(Action::Reap);
        for (node, it) in state.nodes.iter().enumerate() {
            let must = it.reported != state.mark();
            match it.is_down {
                true => actions.push(Action::Restart { node }),
                false if must => actions.push(Action::Report { node }),
                false => {}
            }
            if !it.is_down && state.crashes < self.crashes {
                actions.push(Action::Crash { node });
            }
        }
        if state.servers < self.failovers {
            actions.extend((0..=state.past.len()).map(|lacks| Action::FailOver { lacks }));
            if self.may_be_empty {
                actions.push(Action::FailOver { lacks: ALL_OF_IT });
            }
        }
        // The promise's condition: those who live report in time.
        let told = state.nodes.iter().all(|n| n.is_down || n.reported == state.mark());
        if state.is_learning() && told {
            actions.push(Action::LearningEnds);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Claim { node, user } => self.claim(&mut state, node, user, true),
            Action::ClaimUnheard { node, user } => self.claim(&mut state, node, user, false),
            Action::Order { claim } => state.answers(claim, Shop::Ordered, Verdict::Confirmed),
            Action::Reject { claim } => state.answers(claim, Shop::Rejected, Verdict::Failed),
            Action::GiveUp { claim } => {
                let is_wrong = self.without == Mutation::UnknownFails;
                let said = if is_wrong { Verdict::Failed } else { Verdict::Unknown };
                state.hears(claim, said);
            }
            Action::Deliver { claim } => self.deliver(&mut state, claim, Due::Nothing),
            Action::DeliverUnheard { claim } => self.deliver(&mut state, claim, Due::Again),
            Action::Reap => self.reap(&mut state),
            Action::Report { node } => self.report(&mut state, node),
            Action::FailOver { lacks } => self.fail_over(&mut state, lacks),
            Action::Crash { node } => state.crash(node),
            Action::Restart { node } => self.restart(&mut state, node),
            Action::LearningEnds => {
                state.ledger.apply(&Op::Reap { max: 0 }, UnixMs(T0 + LEARN_MS));
            }
        }
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("never more than the stock", |bounds: &Bounds, state: &State| {
                state.out().count() <= bounds.stock + bounds.beyond
            }),
            Property::always("never one user twice", |bounds: &Bounds, state: &State| {
                let mut users: Vec<u8> = state.out().map(|c| c.user).collect();
                users.sort_unstable();
                bounds.beyond > 0 || users.windows(2).all(|pair| pair[0] != pair[1])
            }),
            Property::always("one live record of one user", |bounds: &Bounds, state: &State| {
                let all = records(&state.ledger);
                bounds.beyond > 0 || all.windows(2).all(|pair| pair[0].user != pair[1].user)
            }),
            Property::always("nothing admitted is lost", |_: &Bounds, state: &State| {
                !state.is_quiet() || state.is_accounted_for()
            }),
            Property::always("a latch never opens", |_: &Bounds, state: &State| !state.reopened),
            Property::always("counters are what the records say", |_: &Bounds, state: &State| {
                state.counts_right()
            }),
            Property::sometimes("it sells to the last unit", |bounds: &Bounds, state: &State| {
                state.told_sold_out && state.ordered() == bounds.stock
            }),
            Property::sometimes(
                "everything that may fail did",
                |bounds: &Bounds, state: &State| {
                    (state.servers, state.crashes) == (bounds.failovers, bounds.crashes)
                        && (bounds.beyond > 0 || state.is_quiet())
                        && state.ordered() > 0
                },
            ),
        ]
    }
}

impl Bounds {
    /// One operation at T0, of one node; the replica may not have it yet.
    fn call(&self, state: &mut State, node: usize, op: &Op, now: u64) -> OpResult {
        let before = state.ledger.clone();
        let reply = state.ledger.apply(op, UnixMs(now));
        if state.ledger != before {
            state.past.push(Arc::new(before));
            let surplus = state.past.len().saturating_sub(self.lag);
            state.past.drain(..surplus);
        }
        let node = &mut state.nodes[node];
        if let Some(sale) = reply.state {
            node.seen = node.seen.max(sale.seq);
            state.told_sold_out |= sale.sold_out;
            if node.known.as_ref().is_none_or(|old| order(&sale) > order(old)) {
                node.known = Some(Arc::new(sale));
            }
        }
        reply.result
    }

    fn fence(&self, state: &State, node: usize) -> Fence {
        let learn_ms = if self.without == Mutation::Learning { 0 } else { LEARN_MS };
        let seen = if self.without == Mutation::Fence { 0 } else { state.nodes[node].seen };
        Fence { learn_ms, seen }
    }

    fn claim(&self, state: &mut State, node: usize, who: usize, is_heard: bool) {
        let (n, run) = (state.claims.len(), state.nodes[node].run);
        let batch = ClaimBatch {
            node: node_id(node, run as usize),
            not_after: UnixMs(T0),
            claim_ttl_ms: 1,
            reported: state.nodes[node].reported,
            fence: self.fence(state, node),
            tries: vec![Try {
                claim: claim_id(n),
                attempt: attempt(n),
                user: user(who),
                pool: pool(),
                units: 1,
            }],
        };
        let was_sold_out = state.told_sold_out;
        let OpResult::Claimed(claimed) = self.call(state, node, &Op::Claim(batch), T0) else {
            return;
        };
        if !matches!(claimed[..], [Claimed::Admitted { .. }]) {
            return;
        }
        state.reopened |= was_sold_out;
        let is_sent = is_heard || self.without == Mutation::SendsUnheard;
        let (shop, heard, due) = match (is_heard, is_sent) {
            (true, _) => (Shop::Flying, None, Due::Nothing),
            (false, true) => (Shop::Flying, None, Due::Once),
            (false, false) => (Shop::Unsent, Some(Verdict::Failed), Due::Once),
        };
        state.claims.push(Claim { user: who as u8, node: node as u8, run, shop, heard, due });
    }

    /// The node tells what became of a claim.
    fn deliver(&self, state: &mut State, claim: usize, then: Due) {
        let it = state.claims[claim].clone();
        state.claims[claim].due = then;
        let mut id = claim_id(claim);
        if self.without == Mutation::ByUser {
            let found = state.ledger.page(Some(user(it.user as usize)), None, usize::MAX);
            id = found.first().map_or(id, |record| record.claim);
        }
        let outcome = Resolution {
            user: user(it.user as usize),
            claim: id,
            attempt: attempt(claim),
            pool: pool(),
            units: 1,
            // Without an outcome it is the F of a claim that nobody heard of (`SendsUnheard`).
            verdict: it.heard.unwrap_or(Verdict::Failed),
            hold_until: None,
        };
        self.call(state, it.node as usize, &Op::Resolve(vec![outcome]), T0);
        if self.without == Mutation::LatchOpens {
            let Some(mut sale) = state.ledger.state().cloned() else { return };
            if sale.pools[0].free() > 0 {
                (sale.sold_out, sale.pools[0].sold_out) = (false, false);
                let Ok(()) = state.ledger.put_sale(&sale);
            }
        }
    }

    fn reap(&self, state: &mut State) {
        let Some(node) = state.nodes.iter().position(|node| !node.is_down) else { return };
        let reaped = self.call(state, node, &Op::Reap { max: 9 }, T0 + 1);
        let OpResult::Reaped(reaped) = reaped else { return };
        if self.without == Mutation::ReapFrees {
            let failed = reaped.into_iter().map(|r| Resolution {
                user: r.user,
                claim: r.claim,
                attempt: r.attempt,
                pool: r.pool,
                units: 1,
                verdict: Verdict::Failed,
                hold_until: None,
            });
            state.ledger.apply(&Op::Resolve(failed.collect()), UnixMs(T0));
        }
    }

    /// A node says everything it knows, in two parts.
    fn report(&self, state: &mut State, node: usize) {
        let it = state.nodes[node].clone();
        let everyone = || (0..NODES).map(|n| node_id(n, state.nodes[n].run as usize));
        let mut runs: Vec<NodeId> = (0..it.run).map(|run| node_id(node, run.into())).collect();
        if self.without == Mutation::EarlyEnd {
            runs.extend(everyone());
        }
        let is_whole = self.without != Mutation::NodeList;
        let peers = if is_whole { everyone().collect() } else { Vec::new() };
        let said = |fence: Fence| Reassert {
            node: node_id(node, it.run as usize),
            runs: runs.clone(),
            fence,
            ..Reassert::default()
        };
        let claims = self.assertions(state, node);
        let known = it.known.as_deref().cloned();
        let first = Reassert { known, peers, claims, ..said(self.fence(state, node)) };
        if self.without == Mutation::Overwrite {
            state.forget_others(&first.claims);
        }
        self.call(state, node, &Op::Reassert(Box::new(first)), T0);
        let mark = state.mark();
        let last = Reassert { reported: mark, ..said(self.fence(state, node)) };
        self.call(state, node, &Op::Reassert(Box::new(last)), T0);
        state.nodes[node].reported = mark;
    }

    /// What a node's journal says.
    fn assertions(&self, state: &State, node: usize) -> Vec<Assertion> {
        let is_said = |claim: &Claim| match self.without {
            Mutation::NoClaims => false,
            Mutation::OpenOnly => claim.heard != Some(Verdict::Confirmed),
            Mutation::Tombstones => claim.heard != Some(Verdict::Failed),
            _ => true,
        };
        let mine = state.claims.iter().enumerate().filter(|(_, claim)| {
            let is_forgotten = claim.shop == Shop::Unsent && claim.heard.is_none();
            claim.node as usize == node && !is_forgotten && is_said(claim)
        });
        mine.map(|(n, claim)| Assertion {
            claim: claim_id(n),
            user: user(claim.user as usize),
            attempt: attempt(n),
            pool: pool(),
            units: 1,
            node: node_id(node, claim.run as usize),
            verdict: claim.heard,
            deadline: UnixMs(T0 + 1),
        })
        .collect()
    }

    /// Another server takes over, which lacks the last writes.
    fn fail_over(&self, state: &mut State, lacks: usize) {
        if lacks == ALL_OF_IT {
            state.ledger = Memory::new(crate::sale::sale_id());
        } else if let Some(at) = state.past.len().checked_sub(lacks)
            && let Some(memory) = state.past.get(at)
        {
            state.ledger = (**memory).clone();
        }
        state.past.clear();
        state.servers += 1;
        if self.without != Mutation::Fence {
            state.server = state.servers;
            state.ledger.moved_to(ServerId([state.server; 16]));
        }
    }

    /// The node starts again, with its journal: nobody knows what became of what was open.
    fn restart(&self, state: &mut State, node: usize) {
        let it = &mut state.nodes[node];
        (it.is_down, it.reported) = (false, None);
        it.run += 1;
        let is_wrong = self.without == Mutation::RestartFails;
        let verdict = if is_wrong { Verdict::Failed } else { Verdict::Unknown };
        let mine = state.claims.iter_mut().filter(|c| c.node as usize == node);
        for claim in mine.filter(|c| c.heard.is_none() && c.shop != Shop::Unsent) {
            (claim.heard, claim.due) = (Some(verdict), Due::Once);
        }
    }
}

impl State {
    /// The generation of the ledger's memory; none before a new server has been asked.
    fn mark(&self) -> Option<Mark> {
        let mark = self.ledger.state().map(SaleState::mark);
        mark.filter(|mark| mark.server == ServerId([self.server; 16]))
    }

    fn is_learning(&self) -> bool {
        self.ledger.state().is_some_and(|sale| sale.is_learning_at(UnixMs(T0)))
    }

    /// Whether the run that made this claim still goes on.
    fn lives(&self, claim: &Claim) -> bool {
        let node = &self.nodes[claim.node as usize];
        !node.is_down && node.run == claim.run
    }

    /// The shop decides; whether the node hears of it is its own affair.
    fn answers(&mut self, claim: usize, shop: Shop, verdict: Verdict) {
        self.claims[claim].shop = shop;
        if self.lives(&self.claims[claim]) {
            self.hears(claim, verdict);
        }
    }

    fn hears(&mut self, claim: usize, verdict: Verdict) {
        let it = &mut self.claims[claim];
        if it.heard.is_none() {
            (it.heard, it.due) = (Some(verdict), Due::Once);
        }
    }

    /// The process dies; what it owed the ledger and was not in the journal dies with it.
    fn crash(&mut self, node: usize) {
        self.nodes[node].is_down = true;
        self.crashes += 1;
        let mine = self.claims.iter_mut().filter(|c| c.node as usize == node);
        for claim in mine.filter(|c| c.shop == Shop::Unsent) {
            (claim.heard, claim.due) = (None, Due::Nothing);
        }
    }

    /// Every record that is not of one of `claims` is gone.
    fn forget_others(&mut self, claims: &[Assertion]) {
        let Some(mut sale) = self.ledger.state().cloned() else { return };
        for record in records(&self.ledger) {
            if claims.iter().any(|claim| claim.claim == record.claim) {
                continue;
            }
            let Ok(()) = self.ledger.put_user(&record.user, &[]);
            let pool = &mut sale.pools[0];
            let counter = match record.kind {
                RecordKind::Confirmed => &mut pool.confirmed,
                RecordKind::Limbo => &mut pool.limbo,
                RecordKind::Admitted | RecordKind::Pending => &mut pool.held,
            };
            *counter -= 1;
        }
        let Ok(()) = self.ledger.put_sale(&sale);
    }

    /// Claims that are or were with the shop, and that no node has heard to have failed there.
    fn out(&self) -> impl Iterator<Item = &Claim> {
        self.claims.iter().filter(|claim| match claim.shop {
            Shop::Unsent => false,
            Shop::Ordered => true,
            Shop::Flying | Shop::Rejected => claim.heard != Some(Verdict::Failed),
        })
    }

    fn ordered(&self) -> usize {
        self.claims.iter().filter(|claim| claim.shop == Shop::Ordered).count()
    }

    /// Nothing is under way: the ledger should know everything.
    fn is_quiet(&self) -> bool {
        let told = |node: &Node| !node.is_down && node.reported == self.mark();
        let done = |claim: &Claim| claim.shop != Shop::Flying && claim.due == Due::Nothing;
        self.nodes.iter().all(told) && self.claims.iter().all(done) && !self.is_learning()
    }

    /// Each claim ended confirmed, failed or in limbo, as its node heard.
    fn is_accounted_for(&self) -> bool {
        self.claims.iter().enumerate().all(|(n, claim)| {
            let kind = kind_of(&self.ledger, claim.user as usize, n);
            match (claim.shop, claim.heard) {
                // Its F was in no journal when its node died: its record is the reaper's.
                (Shop::Unsent, None) => kind != Some(RecordKind::Confirmed),
                (_, Some(Verdict::Confirmed)) => kind == Some(RecordKind::Confirmed),
                (_, Some(Verdict::Failed)) => kind.is_none(),
                _ => kind == Some(RecordKind::Limbo),
            }
        })
    }

    fn counts_right(&self) -> bool {
        let Some(sale) = self.ledger.state() else { return true };
        let all = records(&self.ledger);
        let of = |kind: RecordKind| all.iter().filter(|r| r.kind == kind).count() as u64;
        let held = of(RecordKind::Admitted) + of(RecordKind::Pending);
        let pool = &sale.pools[0];
        (pool.held, pool.limbo, pool.confirmed)
            == (held, of(RecordKind::Limbo), of(RecordKind::Confirmed))
    }
}
#[cfg(test)]
mod tests;
