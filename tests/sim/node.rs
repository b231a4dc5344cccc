//! A node as the claims layer behaves (`src/claims/`): what it keeps on its disk, what it asks the store,
//! and what it makes of the answers, of their absence, and of its own death.

use std::collections::{BTreeMap, VecDeque};

use penstock::clock::UnixMs;
use penstock::ident::NodeId;
use penstock::ledger::{
    Assertion, ClaimBatch, Claimed, Control, Fence, Op, OpResult, Reassert, Reply, Resolution, Try,
};
use penstock::outcome::Verdict;
use penstock::sale::{Mark, SaleState};

use crate::bug::Bug;
use crate::oracle::Truth;
use crate::sale::{attempt, claim_id, node_id, order, pool, user};
use crate::world::{ADDED, Event, NODES, World};

/// One node. What is on its disk comes first.
#[derive(Default)]
pub struct Node {
    pub journal: BTreeMap<usize, Fact>,
    known: Option<SaleState>,
    pub run: usize,
    pub is_down: bool,
    pub is_cut: bool,
    /// What its wall clock is ahead of the true time, and the ledger's of its wall clock.
    pub offset: i64,
    ledger_ahead: i64,
    /// Who waits for a batch.
    pub queue: VecDeque<usize>,
    is_claiming: bool,
    calls: BTreeMap<u64, Call>,
    last_call: u64,
    owed: Vec<Owed>,
    is_delivering: bool,
    seen: u64,
    reported: Option<Mark>,
    /// Since when the others know that it is there.
    joined: Option<u64>,
    /// Claims whose answer did not come: they failed, and no journal says so.
    undone: BTreeMap<usize, Fact>,
    peers: Vec<NodeId>,
    report: Option<Report>,
    is_attending: bool,
    next_beat: u64,
    /// Units that it still has to add for the operator.
    pub is_adding: bool,
    adds: u32,
    /// Claims before this are of another sale (`DeclareAnew`).
    since: usize,
}

/// What the journal says of a claim.
#[derive(Clone, Debug)]
pub struct Fact {
    user: usize,
    run: usize,
    verdict: Option<Verdict>,
    deadline: UnixMs,
}

/// An admission on its way to the disk.
#[derive(Clone, Debug)]
pub struct Admission {
    claim: usize,
    user: usize,
    deadline: UnixMs,
    /// What the node had reported to when it claimed.
    mark: Option<Mark>,
}

/// What the ledger must still hear.
#[derive(Clone, Debug)]
struct Owed {
    claim: usize,
    user: usize,
    verdict: Verdict,
    not_after: Option<UnixMs>,
}

/// What a node waits for.
enum Call {
    Claim { tries: Vec<(usize, usize)>, not_after: UnixMs, mark: Option<Mark> },
    Deliver(Vec<Owed>),
    Beat,
    Report,
    Reap,
    Add,
}

/// A report under way.
struct Report {
    mark: Option<Mark>,
    rest: Vec<Assertion>,
    said: Vec<Assertion>,
    is_last: bool,
}

const LEARN_MS: u64 = 5_000;
const CLAIM_TTL_MS: u64 = 6_000;
const CLAIM_DEADLINE_MS: u64 = 20;
const CALL_DEADLINE_MS: u64 = 500;
const SHOP_TIMEOUT_MS: u64 = 1_000;
const NOT_AFTER_MS: u64 = 1_000;
const BATCH_MAX: usize = 6;
/// Claims in one part of a report: few, so that a report has parts.
const PART_MAX: usize = 3;

impl Node {
    /// The process dies: what is not on the disk is gone.
    pub fn crash(&mut self) {
        let old = std::mem::take(self);
        *self = Node {
            journal: old.journal,
            seen: old.known.as_ref().map_or(0, |known| known.seq),
            known: old.known,
            run: old.run,
            is_cut: old.is_cut,
            offset: old.offset,
            peers: old.peers,
            is_adding: old.is_adding,
            adds: old.adds,
            since: old.since,
            is_down: true,
            ..Node::default()
        };
    }

    /// The sale is another one now (`DeclareAnew`).
    pub fn begin_anew(&mut self) {
        self.since = self.journal.keys().last().map_or(0, |last| last + 1);
        (self.known, self.seen, self.reported) = (None, 0, None);
    }

    pub fn is_sold_out(&self) -> bool {
        self.known.as_ref().is_some_and(|known| known.sold_out)
    }
}

impl World {
    fn node(&mut self, node: usize) -> &mut Node {
        &mut self.nodes[node]
    }

    /// The ledger's time as a node guesses it.
    fn guess(&self, node: usize) -> UnixMs {
        let node = &self.nodes[node];
        UnixMs(self.now.saturating_add_signed(node.offset + node.ledger_ahead))
    }

    /// A call to the store, its answer and the end of the patience for it.
    fn call(&mut self, node: usize, call: Call, op: Op, deadline_ms: u64) {
        let it = self.node(node);
        it.last_call += 1;
        let (run, id) = (it.run, it.last_call);
        it.calls.insert(id, call);
        if let Some(wait) = self.delay() {
            self.after(wait, Event::AtStore { node, run, call: id, op });
        }
        self.after(deadline_ms, Event::TimedOut { node, run, call: id });
    }

    fn fence(&self, node: usize) -> Fence {
        let learn_ms = if self.bug == Bug::NoLearning { 0 } else { LEARN_MS };
        let seen = if self.bug == Bug::NoFence { 0 } else { self.nodes[node].seen };
        Fence { learn_ms, seen }
    }

    /// Ten times a second.
    pub fn tick(&mut self, node: usize, count: u64) {
        let now = self.now;
        let it = self.node(node);
        let must = it.known.as_ref().is_some_and(|known| it.reported != Some(known.mark()));
        if !it.is_attending && (must || now >= it.next_beat) {
            it.is_attending = true;
            let reported = it.reported;
            let said = Reassert { reported, is_roll_call: true, ..self.part(node) };
            self.call(node, Call::Beat, Op::Reassert(Box::new(said)), CALL_DEADLINE_MS);
        }
        if count % 10 == 5 {
            self.call(node, Call::Reap, Op::Reap { max: 64 }, CALL_DEADLINE_MS);
        }
        self.adds(node);
        self.deliver(node);
        self.claim(node);
    }

    /// The operator's tool asks until it hears that it is done.
    fn adds(&mut self, node: usize) {
        let is_wrong = self.bug == Bug::AddsTwice;
        let it = self.node(node);
        let is_waiting = it.calls.values().any(|call| matches!(call, Call::Add));
        if !it.is_adding || is_waiting {
            return;
        }
        it.adds += 1;
        let id = if is_wrong { format!("add-{}", it.adds) } else { "add".to_owned() };
        let control = Control::AddStock { pool: pool(), units: ADDED, id };
        self.call(node, Call::Add, Op::Control(control), CALL_DEADLINE_MS);
    }

    /// The next batch, if none is under way.
    pub fn claim(&mut self, node: usize) {
        let now = self.now;
        let it = &mut self.nodes[node];
        let may = it.reported.is_some() && it.joined.is_some_and(|at| now >= at);
        if !may {
            return it.queue.clear();
        }
        if it.is_claiming || it.queue.is_empty() {
            return;
        }
        it.is_claiming = true;
        let users: Vec<usize> = it.queue.drain(..it.queue.len().min(BATCH_MAX)).collect();
        let first = self.oracle.claims.len();
        let tries: Vec<_> = users.into_iter().enumerate().map(|(n, u)| (first + n, u)).collect();
        let truths = tries.iter().map(|(_, user)| Truth {
            user: *user,
            node,
            is_sent: false,
            is_ordered: false,
            heard: None,
            is_orphan: false,
        });
        self.oracle.claims.extend(truths);
        let is_endless = self.bug == Bug::NoNotAfter;
        let not_after = self.guess(node).plus(NOT_AFTER_MS);
        let mark = self.nodes[node].reported;
        let op = Op::Claim(ClaimBatch {
            node: node_id(node, self.nodes[node].run),
            not_after: if is_endless { UnixMs(u64::MAX) } else { not_after },
            claim_ttl_ms: CLAIM_TTL_MS,
            reported: mark,
            fence: self.fence(node),
            tries: tries.iter().map(|(claim, user)| to_try(*claim, *user)).collect(),
        });
        self.call(node, Call::Claim { tries, not_after, mark }, op, CLAIM_DEADLINE_MS);
    }

    /// An answer of the store.
    pub fn hears(&mut self, node: usize, call: u64, reply: Reply) {
        let Some(call) = self.node(node).calls.remove(&call) else { return };
        let Reply { state, now, result } = reply;
        let goes_back = self.bug == Bug::ViewGoesBack;
        let wall = self.now.saturating_add_signed(self.nodes[node].offset);
        let it = &mut self.nodes[node];
        it.ledger_ahead = now.0 as i64 - wall as i64;
        if let Some(state) = &state {
            it.seen = it.seen.max(state.seq);
            let is_news = it.known.as_ref().is_none_or(|known| order(state) > order(known));
            if is_news || goes_back {
                if let Some(old) = &it.known {
                    self.oracle.sees(node, old, state);
                }
                it.known = Some(state.clone());
            }
        }
        match (call, result) {
            (Call::Claim { tries, mark, .. }, OpResult::Claimed(claimed)) => {
                self.settle(node, tries, mark, claimed);
            }
            (Call::Claim { .. }, _) => self.node(node).is_claiming = false,
            (Call::Deliver(owed), result) => {
                self.node(node).is_delivering = false;
                let is_known = matches!(result, OpResult::Resolved(_));
                let once = self.bug == Bug::UndoneOnce;
                let left = owed.into_iter().filter(|o| match o.not_after {
                    Some(last) => now <= last && !once,
                    None => !is_known,
                });
                self.nodes[node].owed.extend(left);
            }
            (Call::Beat, result) => self.beaten(node, state, result),
            (Call::Report, OpResult::Reasserted { nodes, .. }) => {
                self.told(node, state.map(|s| s.mark()), nodes);
            }
            (Call::Report, _) => self.reported(node, None),
            (Call::Reap, OpResult::Reaped(records)) if self.bug == Bug::ReapFrees => {
                let free = records.into_iter().map(|r| Resolution {
                    user: r.user,
                    claim: r.claim,
                    attempt: r.attempt,
                    pool: r.pool,
                    units: 1,
                    verdict: Verdict::Failed,
                    hold_until: None,
                });
                self.store.apply(&Op::Resolve(free.collect()), self.now);
            }
            (Call::Reap, _) => {}
            (Call::Add, OpResult::Controlled(_)) => self.node(node).is_adding = false,
            (Call::Add, _) => {}
        }
    }

    /// The store did not answer in time: it may have done it, or may still.
    pub fn timed_out(&mut self, node: usize, call: u64) {
        let Some(call) = self.node(node).calls.remove(&call) else { return };
        match call {
            Call::Claim { tries, not_after, mark } => {
                self.node(node).is_claiming = false;
                let deadline = not_after.plus(CLAIM_TTL_MS);
                if self.bug == Bug::TimeoutSends {
                    let sent = tries.iter().map(|(claim, user)| Admission {
                        claim: *claim,
                        user: *user,
                        deadline,
                        mark,
                    });
                    let sent = sent.collect();
                    return self.written(node, sent);
                }
                if self.bug == Bug::TimeoutForgets {
                    return;
                }
                let verdict = Verdict::Failed;
                let it = &mut self.nodes[node];
                let run = it.run;
                it.undone.extend(tries.iter().map(|(claim, user)| {
                    (*claim, Fact { user: *user, run, verdict: Some(verdict), deadline })
                }));
                let owed = tries.into_iter().map(|(claim, user)| Owed {
                    claim,
                    user,
                    verdict,
                    not_after: Some(not_after),
                });
                self.nodes[node].owed.extend(owed);
            }
            Call::Deliver(owed) => {
                self.node(node).is_delivering = false;
                if self.bug != Bug::OutcomeOnce {
                    self.node(node).owed.extend(owed);
                }
            }
            Call::Report if self.bug == Bug::HalfReport => {
                let mark = self.nodes[node].report.as_ref().and_then(|report| report.mark);
                self.told(node, mark, Vec::new());
            }
            Call::Beat | Call::Report => self.reported(node, None),
            Call::Reap | Call::Add => {}
        }
    }

    /// Admissions go to the disk before they are sent.
    fn settle(
        &mut self,
        node: usize,
        tries: Vec<(usize, usize)>,
        mark: Option<Mark>,
        claimed: Vec<Claimed>,
    ) {
        let repeats = self.bug == Bug::RepeatSends;
        let later = self.guess(node).plus(CLAIM_TTL_MS);
        let mut admissions = Vec::new();
        for ((claim, user), claimed) in tries.into_iter().zip(claimed) {
            let deadline = match claimed {
                Claimed::Admitted { deadline } => deadline,
                Claimed::InProgress { .. } if repeats => later,
                _ => continue,
            };
            admissions.push(Admission { claim, user, deadline, mark });
        }
        if admissions.is_empty() {
            self.node(node).is_claiming = false;
            return;
        }
        if self.bug == Bug::JournalsLate {
            let claims: Vec<usize> = admissions.iter().map(|a| a.claim).collect();
            claims.into_iter().for_each(|claim| self.send(node, claim));
        }
        let is_slow = self.rng.permille(60);
        let wait = if is_slow { self.rng.range(10, 1_200) } else { self.rng.range(0, 4) };
        let run = self.nodes[node].run;
        self.after(wait, Event::Written { node, run, admissions });
    }

    /// They are on the disk: now they may be sent, unless that took too long.
    pub fn written(&mut self, node: usize, admissions: Vec<Admission>) {
        self.node(node).is_claiming = false;
        for Admission { claim, user, deadline, mark } in admissions {
            let run = self.nodes[node].run;
            self.node(node).journal.insert(claim, Fact { user, run, verdict: None, deadline });
            // A report that began meanwhile did not say it.
            let is_said = self.nodes[node].reported == mark || self.bug == Bug::LateNote;
            if self.guess(node) >= deadline || !is_said {
                self.ends(node, claim, Verdict::Failed);
            } else if self.bug != Bug::JournalsLate {
                self.send(node, claim);
            }
        }
    }

    fn send(&mut self, node: usize, claim: usize) {
        let run = self.nodes[node].run;
        self.oracle.sent(claim, self.nodes[node].journal.contains_key(&claim));
        let wait = self.rng.range(0, 6);
        self.after(wait, Event::AtShop { node, run, claim });
        self.after(SHOP_TIMEOUT_MS, Event::NoAnswer { node, run, claim });
    }

    /// What became of a claim: to the disk, then to the ledger.
    pub fn ends(&mut self, node: usize, claim: usize, verdict: Verdict) {
        let Some(fact) = self.node(node).journal.get_mut(&claim) else { return };
        if fact.verdict.is_some() {
            return;
        }
        fact.verdict = Some(verdict);
        let owed = Owed { claim, user: fact.user, verdict, not_after: None };
        self.oracle.heard(claim, verdict);
        self.node(node).owed.push(owed);
        self.deliver(node);
    }

    pub fn no_answer(&mut self, node: usize, claim: usize) {
        let is_open = self.nodes[node].journal.get(&claim).is_some_and(|f| f.verdict.is_none());
        match self.bug {
            Bug::UnknownFails => self.ends(node, claim, Verdict::Failed),
            Bug::UnknownConfirms => self.ends(node, claim, Verdict::Confirmed),
            Bug::SendsAgain if is_open => self.send(node, claim),
            _ => self.ends(node, claim, Verdict::Unknown),
        }
    }

    /// What the ledger must still hear.
    fn deliver(&mut self, node: usize) {
        let it = &mut self.nodes[node];
        if it.is_delivering || it.owed.is_empty() {
            return;
        }
        it.is_delivering = true;
        let owed = std::mem::take(&mut it.owed);
        let outcomes = owed.iter().map(|o| self.outcome(o)).collect();
        self.call(node, Call::Deliver(owed), Op::Resolve(outcomes), CALL_DEADLINE_MS);
    }

    fn outcome(&self, owed: &Owed) -> Resolution {
        let mut claim = claim_id(owed.claim);
        if self.bug == Bug::ByUser {
            let found = self.store.ledger.page(Some(user(owed.user)), None, usize::MAX);
            claim = found.first().map_or(claim, |record| record.claim);
        }
        Resolution {
            user: user(owed.user),
            claim,
            attempt: attempt(owed.claim),
            pool: pool(),
            units: 1,
            verdict: owed.verdict,
            hold_until: None,
        }
    }

    fn part(&self, node: usize) -> Reassert {
        let run = self.nodes[node].run;
        let mut runs: Vec<NodeId> = (0..run).map(|run| node_id(node, run)).collect();
        if self.bug == Bug::EarlyEnd {
            runs.extend((0..NODES).map(|n| node_id(n, self.nodes[n].run)));
        }
        Reassert { node: node_id(node, run), runs, fence: self.fence(node), ..Reassert::default() }
    }

    /// The answer to a beat: is it the ledger to which everything was said?
    fn beaten(&mut self, node: usize, state: Option<SaleState>, result: OpResult) {
        let it = &mut self.nodes[node];
        if let OpResult::Reasserted { nodes, .. } = result {
            it.peers = nodes;
        }
        let is_whole = state.is_some_and(|state| {
            let is_known = it.known.as_ref().is_none_or(|known| order(&state) >= order(known));
            it.reported == Some(state.mark()) && is_known
        });
        if is_whole {
            return self.reported(node, self.nodes[node].reported);
        }
        // Everything is said again; the claims are those of this moment.
        self.nodes[node].reported = None;
        let first = Reassert {
            known: self.nodes[node].known.clone(),
            peers: match self.bug {
                Bug::NoPeers => Vec::new(),
                _ => self.nodes[node].peers.clone(),
            },
            ..self.part(node)
        };
        let rest = self.assertions(node);
        self.node(node).report =
            Some(Report { mark: None, said: rest.clone(), rest, is_last: false });
        self.call(node, Call::Report, Op::Reassert(Box::new(first)), CALL_DEADLINE_MS);
    }

    fn assertions(&self, node: usize) -> Vec<Assertion> {
        let it = &self.nodes[node];
        let is_said = |fact: &Fact| match self.bug {
            Bug::NoClaims => false,
            Bug::OpenOnly => fact.verdict != Some(Verdict::Confirmed),
            Bug::NoTombstones => fact.verdict != Some(Verdict::Failed),
            _ => true,
        };
        let all = it.journal.range(it.since..).chain(&it.undone);
        let said = all.filter(|(_, fact)| is_said(fact));
        said.map(|(claim, fact)| Assertion {
            claim: claim_id(*claim),
            user: user(fact.user),
            attempt: attempt(*claim),
            pool: pool(),
            units: 1,
            node: node_id(node, fact.run),
            verdict: fact.verdict,
            deadline: fact.deadline,
        })
        .collect()
    }

    /// A part of the report was heard by the ledger with this mark.
    fn told(&mut self, node: usize, mark: Option<Mark>, nodes: Vec<NodeId>) {
        let Some(mut report) = self.node(node).report.take() else { return };
        let is_other = report.mark.is_some() && report.mark != mark;
        if mark.is_none() || is_other {
            return self.reported(node, None);
        }
        report.mark = mark;
        if report.is_last {
            let others = nodes.len().saturating_sub(1);
            let wait_ms = if others == 0 { 0 } else { 1_500 };
            let now = self.now;
            self.node(node).joined.get_or_insert(now + wait_ms);
            self.node(node).peers = nodes;
            return self.reported(node, mark);
        }
        // What became of a claim meanwhile went to a ledger that may not have had it yet.
        if report.rest.is_empty() {
            let news = self.assertions(node).into_iter().filter(|fact| !report.said.contains(fact));
            report.rest = news.collect();
            report.said.extend_from_slice(&report.rest);
        }
        let said = if report.rest.is_empty() {
            report.is_last = true;
            Reassert { reported: mark, is_roll_call: true, ..self.part(node) }
        } else {
            let claims = report.rest.drain(..report.rest.len().min(PART_MAX)).collect();
            Reassert { claims, ..self.part(node) }
        };
        self.node(node).report = Some(report);
        self.call(node, Call::Report, Op::Reassert(Box::new(said)), CALL_DEADLINE_MS);
    }

    /// A beat or a report is over; `None`: it failed and is tried again at the next tick.
    fn reported(&mut self, node: usize, mark: Option<Mark>) {
        let now = self.now;
        let it = self.node(node);
        (it.is_attending, it.report) = (false, None);
        if mark.is_some() {
            it.reported = mark;
            it.next_beat = now + 1_000;
        }
    }

    /// The process starts again, with what is on its disk.
    pub fn restarts(&mut self, node: usize) {
        let (fails, forgets) = (self.bug == Bug::RestartFails, self.bug == Bug::RestartForgets);
        let it = self.node(node);
        it.is_down = false;
        it.run += 1;
        let (run, mut news) = (it.run, Vec::new());
        for (claim, fact) in &mut it.journal {
            if fact.verdict.is_none() || forgets {
                fact.verdict = Some(if fails { Verdict::Failed } else { Verdict::Unknown });
                news.push(*claim);
            }
        }
        let owed = it.journal.iter().filter_map(|(claim, fact)| {
            Some(Owed { claim: *claim, user: fact.user, verdict: fact.verdict?, not_after: None })
        });
        it.owed = owed.collect();
        let verdict = if fails { Verdict::Failed } else { Verdict::Unknown };
        for claim in news {
            if self.oracle.claims[claim].heard.is_none() {
                self.oracle.heard(claim, verdict);
            }
        }
        self.after(0, Event::Tick { node, run, count: 0 });
    }
}

fn to_try(claim: usize, who: usize) -> Try {
    Try { claim: claim_id(claim), attempt: attempt(claim), user: user(who), pool: pool(), units: 1 }
}
