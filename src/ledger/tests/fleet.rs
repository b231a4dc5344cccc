//! A fleet whose ledger forgets: nodes claim and resolve, the ledger goes back to what it was or is
//! gone, and the nodes say again what they know. The shop has no stock control of its own: every
//! purchase that is sent is an order.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

const STOCK: u64 = 3;
const LEARN_MS: u64 = 100;

/// One node: what its journal says of each claim, and what it has seen of the ledger.
#[derive(Clone, Default)]
struct Node {
    journal: BTreeMap<ClaimId, Assertion>,
    reported: Option<Mark>,
    state: Option<SaleState>,
    seen: u64,
}

/// Nodes and their ledger.
struct Fleet {
    ledger: Memory,
    /// What the ledger was after each operation.
    past: Vec<Memory>,
    nodes: Vec<Node>,
    now: u64,
    claims: u8,
    servers: u8,
    /// Claims that were sent and did not fail: user by claim.
    sent: BTreeMap<ClaimId, UserKey>,
    /// Guards that are taken away, to see that they are needed.
    without: Guard,
}

/// What keeps the fleet from selling twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Guard {
    None,
    Fence,
    Learning,
    Tombstones,
}

#[derive(Clone, Debug)]
enum Act {
    Claim { node: usize, user: u8 },
    Resolve { claim: usize, verdict: Verdict },
    Forget { back: usize },
    Report { node: usize },
    Wait(u64),
    Reap,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let verdict = prop_oneof![
        4 => Just(Verdict::Confirmed),
        3 => Just(Verdict::Failed),
        2 => Just(Verdict::Unknown),
        1 => Just(Verdict::Pending),
    ];
    let back = prop_oneof![4 => 1..6usize, 1 => Just(usize::MAX)];
    let act = prop_oneof![
        12 => (0..3usize, 0..6u8).prop_map(|(node, user)| Act::Claim { node, user }),
        9 => (0..9usize, verdict).prop_map(|(claim, verdict)| Act::Resolve { claim, verdict }),
        2 => back.prop_map(|back| Act::Forget { back }),
        6 => (0..3usize).prop_map(|node| Act::Report { node }),
        2 => prop_oneof![1..20u64, Just(LEARN_MS)].prop_map(Act::Wait),
        1 => Just(Act::Reap),
    ];
    proptest::collection::vec(act, 1..70)
}

impl Fleet {
    fn new(without: Guard) -> Fleet {
        let mut ledger = Memory::new(sale_id());
        let mut said = declaration(&[("a", STOCK)]);
        said.per_user = PerUser { orders: 1, units: 1 };
        ledger.apply(&declare(said), UnixMs(T0 - 1));
        let nodes = vec![Node::default(); 3];
        let (past, sent) = Default::default();
        let mut fleet =
            Fleet { ledger, past, nodes, now: T0, claims: 0, servers: 0, sent, without };
        // As in a fleet that starts before the sale: each node has said that it is there.
        (0..3).for_each(|node| fleet.report(node));
        fleet
    }

    fn fence(&self, node: usize) -> Fence {
        let seen = if self.without == Guard::Fence { 0 } else { self.nodes[node].seen };
        let learn_ms = if self.without == Guard::Learning { 0 } else { LEARN_MS };
        Fence { learn_ms, seen }
    }

    fn call(&mut self, node: usize, op: Op) -> OpResult {
        let reply = self.ledger.apply(&op, UnixMs(self.now));
        if let Some(state) = reply.state {
            let node = &mut self.nodes[node];
            node.seen = node.seen.max(state.seq);
            let order = |s: &SaleState| (s.epoch, s.version);
            if node.state.as_ref().is_none_or(|old| order(&state) >= order(old)) {
                node.state = Some(state);
            }
        }
        self.past.push(self.ledger.clone());
        reply.result
    }

    fn act(&mut self, act: &Act) {
        match *act {
            Act::Claim { node, user } => self.claim(node, user),
            Act::Resolve { claim, verdict } => self.resolve(claim, verdict),
            Act::Forget { back } => self.forget(back),
            Act::Report { node } => self.report(node),
            Act::Wait(ms) => self.now += ms,
            Act::Reap => drop(self.call(0, Op::Reap { max: 9 })),
        }
    }

    fn claim(&mut self, node: usize, user: u8) {
        self.claims += 1;
        let one = try_of("a", user, self.claims, self.claims, 1);
        let batch = ClaimBatch {
            node: NodeId([node as u8; 8]),
            not_after: UnixMs(self.now),
            claim_ttl_ms: 10_000,
            reported: self.nodes[node].reported,
            fence: self.fence(node),
            tries: vec![one.clone()],
        };
        let OpResult::Claimed(claimed) = self.call(node, Op::Claim(batch)) else { return };
        let [Claimed::Admitted { deadline }] = claimed[..] else { return };
        self.sent.insert(one.claim, one.user);
        let Try { claim, attempt, user, pool, units } = one;
        let (node_id, verdict) = (NodeId([node as u8; 8]), None);
        let fact =
            Assertion { claim, user, attempt, pool, units, node: node_id, verdict, deadline };
        self.nodes[node].journal.insert(claim, fact);
    }

    /// The shop answers for a claim that is open; the ledger hears of it, as long as it is there.
    fn resolve(&mut self, nth: usize, verdict: Verdict) {
        let is_open = |a: &Assertion| matches!(a.verdict, None | Some(Verdict::Pending));
        let mut open: Vec<(usize, ClaimId)> = Vec::new();
        for (node, it) in self.nodes.iter().enumerate() {
            let mine = it.journal.values().filter(|a| is_open(a));
            open.extend(mine.map(|a| (node, a.claim)));
        }
        let Some(&(node, claim)) = open.get(nth) else { return };
        if verdict == Verdict::Failed {
            self.sent.remove(&claim);
        }
        let fact = self.nodes[node].journal.get_mut(&claim).expect("a claim");
        fact.verdict = Some(verdict);
        let outcome = Resolution {
            user: fact.user,
            claim,
            attempt: fact.attempt,
            pool: fact.pool.clone(),
            units: 1,
            verdict,
            hold_until: Some(fact.deadline),
        };
        self.call(node, Op::Resolve(vec![outcome]));
    }

    /// Another server answers, with what the ledger was `back` operations ago, or with nothing.
    fn forget(&mut self, back: usize) {
        self.ledger = match self.past.len().checked_sub(back.saturating_add(1)) {
            Some(at) => self.past[at].clone(),
            None => Memory::new(sale_id()),
        };
        if self.without != Guard::Fence {
            self.servers += 1;
            self.ledger.moved_to(ServerId([self.servers; 16]));
        }
        self.past.clear();
        self.past.push(self.ledger.clone());
    }

    /// A node says everything it knows, in two parts.
    fn report(&mut self, node: usize) {
        let said = |fleet: &Fleet| Reassert {
            node: NodeId([node as u8; 8]),
            fence: fleet.fence(node),
            peers: (0..3).map(|n| NodeId([n; 8])).collect(),
            ..Reassert::default()
        };
        let it = self.nodes[node].clone();
        let tombstones = self.without != Guard::Tombstones;
        let claims = it
            .journal
            .values()
            .filter(|a| tombstones || a.verdict != Some(Verdict::Failed))
            .cloned()
            .collect();
        let first = Reassert { known: it.state, claims, ..said(self) };
        self.call(node, Op::Reassert(Box::new(first)));
        let mark = self.ledger.state().map(SaleState::mark);
        let last = Reassert { reported: mark, ..said(self) };
        self.call(node, Op::Reassert(Box::new(last)));
        self.nodes[node].reported = mark;
    }

    /// Everybody who was sent: how many beyond the stock, and how many twice.
    fn excess(&self) -> (u64, usize) {
        let users: BTreeSet<_> = self.sent.values().collect();
        ((self.sent.len() as u64).saturating_sub(STOCK), self.sent.len() - users.len())
    }

    /// The excess after some acts.
    fn after(without: Guard, acts: &[Act]) -> (u64, usize) {
        let mut fleet = Fleet::new(without);
        acts.iter().for_each(|act| fleet.act(act));
        fleet.excess()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// With all nodes alive nothing is sold twice, whatever the ledger forgets.
    #[test]
    fn a_ledger_that_forgets_sells_nothing_twice(acts in acts()) {
        let mut fleet = Fleet::new(Guard::None);
        for act in &acts {
            // All nodes report within the learning: this is the promise's condition.
            if let Some(state) = fleet.ledger.state()
                && state.is_learning_at(UnixMs(fleet.now))
                && matches!(act, Act::Wait(_))
            {
                (0..3).for_each(|node| fleet.report(node));
            }
            fleet.act(act);
            prop_assert_eq!(fleet.excess(), (0, 0), "after {:?}", act);
        }
        // In the end the ledger knows what was sent: no unit is lost, none is held for nothing.
        (0..3).for_each(|node| fleet.report(node));
        let pool = fleet.ledger.state().and_then(|s| s.pool("a")).expect("the pool");
        prop_assert_eq!(pool.confirmed + pool.held + pool.limbo, fleet.sent.len() as u64);
    }

    /// Nodes may report in any order and any number of times: what remains is the same.
    #[test]
    fn reports_commute_and_come_again(
        acts in acts(), order in Just(vec![0, 1, 2, 0, 1, 2]).prop_shuffle(),
    ) {
        let mut fleet = Fleet::new(Guard::None);
        acts.iter().for_each(|act| fleet.act(act));
        fleet.forget(3);
        let mut other = Fleet { ledger: fleet.ledger.clone(), nodes: fleet.nodes.clone(), ..Fleet::new(Guard::None) };
        (other.now, other.servers) = (fleet.now, fleet.servers);
        [0, 1, 2].into_iter().for_each(|node| fleet.report(node));
        order.into_iter().for_each(|node| other.report(node));
        let records = |fleet: &Fleet| {
            let mut all = fleet.ledger.page(None, None, usize::MAX);
            all.sort_by_key(|r| r.claim);
            all
        };
        prop_assert_eq!(records(&fleet), records(&other));
        let pools = |fleet: &Fleet| fleet.ledger.state().map(|s| s.pools.clone());
        prop_assert_eq!(pools(&fleet), pools(&other));
    }
}

/// Each guard is needed: without it there is a sequence that sells too much, or strands a unit.
#[test]
fn without_a_guard_too_much_is_sold() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    for guard in [Guard::Fence, Guard::Learning] {
        let mut runner = TestRunner::deterministic();
        let is_found = (0..5_000).any(|_| {
            let acts = acts().new_tree(&mut runner).expect("acts").current();
            Fleet::after(guard, &acts) != (0, 0)
        });
        assert!(is_found, "nothing goes wrong without {guard:?}");
    }
}

/// A lost F leaves a record of nobody's purchase, until its node says so.
#[test]
fn without_tombstones_units_are_stranded() {
    for (guard, held) in [(Guard::None, 0), (Guard::Tombstones, 1)] {
        let mut fleet = Fleet::new(guard);
        fleet.act(&Act::Claim { node: 0, user: 1 });
        fleet.act(&Act::Resolve { claim: 0, verdict: Verdict::Failed });
        fleet.act(&Act::Forget { back: 1 });
        (0..3).for_each(|node| fleet.report(node));
        assert_eq!(fleet.ledger.state().expect("a sale").pools[0].held, held, "{guard:?}");
    }
}

#[test]
fn learning_ends_when_all_have_reported_and_not_before() {
    let mut fleet = Fleet::new(Guard::None);
    fleet.act(&Act::Claim { node: 1, user: 1 });
    fleet.act(&Act::Forget { back: 1 });
    for node in [0, 1, 2] {
        fleet.act(&Act::Claim { node: 0, user: 2 });
        assert_eq!(fleet.sent.len(), 1, "node {node} has not reported yet");
        fleet.report(node);
    }
    let state = fleet.ledger.state().expect("a sale");
    assert_eq!((state.learn_until, state.pools[0].held), (UnixMs(0), 1));
    fleet.act(&Act::Claim { node: 0, user: 2 });
    assert_eq!(fleet.sent.len(), 2);
    // One that is dead keeps it to its end.
    fleet.act(&Act::Forget { back: 1 });
    (1..3).for_each(|node| fleet.report(node));
    fleet.act(&Act::Claim { node: 1, user: 3 });
    assert_eq!(fleet.sent.len(), 2);
    fleet.act(&Act::Wait(LEARN_MS));
    fleet.act(&Act::Claim { node: 1, user: 3 });
    assert_eq!(fleet.sent.len(), 3);
}

#[test]
fn a_ledger_that_is_gone_goes_on_from_the_highest_version() {
    let mut fleet = Fleet::new(Guard::None);
    fleet.call(0, Op::Control(Control::AddStock { pool: name("a"), units: 2, id: "one".into() }));
    fleet.call(1, Op::Read);
    fleet.call(2, Op::Control(Control::SoldOut));
    let before = fleet.ledger.state().expect("a sale").clone();
    fleet.forget(usize::MAX);
    (0..3).for_each(|node| fleet.report(node));
    let state = fleet.ledger.state().expect("the sale again").clone();
    assert!(state.version > before.version && state.sold_out, "{state:?}");
    assert_eq!((state.salt, state.pools[0].stock), (before.salt, 5));
    assert_eq!(state.learn_until, UnixMs(0));
}

#[test]
fn what_comes_late_is_true_all_the_same_and_shows() {
    let mut fleet = Fleet::new(Guard::None);
    for user in 0..3 {
        fleet.act(&Act::Claim { node: 2, user });
    }
    fleet.forget(3);
    (0..2).for_each(|node| fleet.report(node));
    fleet.act(&Act::Wait(LEARN_MS));
    for user in 3..6 {
        fleet.act(&Act::Claim { node: 0, user });
    }
    fleet.report(2);
    let pool = &fleet.ledger.state().expect("a sale").pools[0];
    assert_eq!((pool.stock, pool.held), (STOCK, 6), "over-admission is never hidden");
    fleet.act(&Act::Claim { node: 1, user: 5 });
    assert_eq!(fleet.sent.len(), 6);
}
