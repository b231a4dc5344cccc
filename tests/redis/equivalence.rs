//! The scripts say what the core says: generated sequences of operations, applied to a real Redis and
//! to the core in memory at one time, must give equal replies and equal ledgers. The time of the
//! scripts stands still between operations, so that every edge is met exactly.

use penstock::clock::UnixMs;
use penstock::config::schema::{PerUser, Pool, Restock};
use penstock::config::stock::{Source, Stock};
use penstock::config::units::{Span, Time};
use penstock::ident::{AttemptId, ClaimId, NodeId, ServerId};
use penstock::ledger::{
    Assertion, ClaimBatch, Control, Fence, IDS_MAX, Memory, Observe, Op, Reading, Reassert,
    Resolution, Shard, Try,
};
use penstock::outcome::Verdict;
use penstock::sale::{Declaration, SaleState};
use penstock::store::Store;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::hourglass;
use crate::rig::{DEADLINE, Node, declare, name, sale, until, user};
use crate::server::{Server, Shop};

const POOLS: [&str; 3] = ["a", "b", "nowhere"];

/// An operation whose times are relative to the moment at which it is applied, in milliseconds. Few
/// values and small times, so that everything meets everything and edges are crossed.
#[derive(Clone, Debug)]
pub enum Step {
    Claim {
        node: u8,
        late_ms: i64,
        ttl_ms: u64,
        tries: Vec<(u8, u8, u8, usize, u32)>,
    },
    Resolve(Vec<(u8, u8, u8, usize, Verdict, Option<i64>)>),
    Reap(u32),
    Declare(Says),
    Control(Control),
    Reassert(Tells),
    /// How long ago the reading began, and for each pool what is left and how wrong the count is.
    Observe(u64, Vec<(usize, Option<u64>, u64)>),
    Read,
    /// The ledger comes from another server.
    Moves,
    /// It is gone.
    Gone,
}

/// Claim, user, attempt, pool, units, what became of it, and its deadline from now.
pub type Asserted = (u8, u8, u8, usize, u32, Option<Verdict>, i64);

/// What a node re-asserts; `recalls`: the sale as it was so many operations ago.
#[derive(Clone, Debug)]
pub struct Tells {
    pub node: u8,
    pub seen: u64,
    pub recalls: Option<usize>,
    pub claims: Vec<Asserted>,
    pub is_last: bool,
    pub is_roll_call: bool,
}

#[derive(Clone, Debug)]
pub struct Says {
    pub opens_ms: i64,
    pub ends_ms: Option<i64>,
    pub per_user: (u32, u32),
    pub overshoot: f64,
    pub stocks: Vec<(usize, u64)>,
    pub never: bool,
    pub revision: Option<u64>,
    pub activity: u8,
}

fn step() -> impl Strategy<Value = Step> {
    let one = (
        0..6u8,
        0..4u8,
        0..6u8,
        0..3usize,
        prop_oneof![4 => 1..3u32, 1 => Just(0u32), 1 => 3..9u32],
    );
    let soon = || prop_oneof![Just(0i64), -3..3i64, Just(3_600_000i64), Just(-3_600_000i64)];
    let verdict = prop_oneof![
        3 => Just(Verdict::Confirmed),
        3 => Just(Verdict::Failed),
        2 => Just(Verdict::Unknown),
        2 => Just(Verdict::Pending),
        1 => Just(Verdict::Void),
    ];
    let said = (
        0..6u8,
        0..6u8,
        0..4u8,
        0..3usize,
        1..3u32,
        proptest::option::weighted(0.8, verdict.clone()),
        soon(),
    );
    let seen = prop_oneof![4 => Just(0u64), 1 => 0..60u64];
    let recalls = proptest::option::of(0..9usize);
    let told = prop::collection::vec(said, 0..5);
    let tells = (0..3u8, seen, recalls, told, any::<bool>(), any::<bool>()).prop_map(
        |(node, seen, recalls, claims, is_last, is_roll_call)| {
            Step::Reassert(Tells { node, seen, recalls, claims, is_last, is_roll_call })
        },
    );
    let outcome = (0..6u8, 0..6u8, 0..4u8, 0..3usize, verdict, proptest::option::of(soon()));
    let ttl = prop_oneof![1 => Just(0u64), 1 => 1..4u64, 3 => Just(3_600_000u64)];
    let late = prop_oneof![8 => Just(3_600_000i64), 1 => -2..2i64, 1 => Just(-3_600_000i64)];
    prop_oneof![
        8 => (0..2u8, late, ttl, prop::collection::vec(one, 0..5))
            .prop_map(|(node, late_ms, ttl_ms, tries)| Step::Claim { node, late_ms, ttl_ms, tries }),
        8 => prop::collection::vec(outcome, 1..4).prop_map(Step::Resolve),
        2 => (0..4u32).prop_map(Step::Reap),
        3 => says().prop_map(Step::Declare),
        4 => control().prop_map(Step::Control),
        6 => tells,
        6 => observed(),
        1 => Just(Step::Read),
        1 => Just(Step::Moves),
        1 => Just(Step::Gone),
    ]
}

fn observed() -> impl Strategy<Value = Step> {
    let ago = prop_oneof![5 => Just(0u64), 2 => 1..4u64, 1 => 199..202u64, 1 => 1_999..2_002u64];
    let left = proptest::option::weighted(0.9, prop_oneof![2 => Just(0u64), 2 => 1..4u64]);
    (ago, prop::collection::vec((0..3usize, left, 0..3u64), 1..3))
        .prop_map(|(ago, readings)| Step::Observe(ago, readings))
}

/// Times between operations, so that the edges of readings are met too.
fn waits() -> impl Strategy<Value = u64> {
    prop_oneof![20 => 0..3u64, 2 => 199..202u64, 1 => 1_999..2_002u64]
}

fn says() -> impl Strategy<Value = Says> {
    let opens = prop_oneof![3 => Just(-60_000i64), 2 => Just(3_600_000i64), 1 => -2..3i64];
    let ends =
        prop_oneof![5 => Just(None), 2 => Just(Some(7_200_000i64)), 1 => (-2..4i64).prop_map(Some)];
    let per_user = prop_oneof![
        3 => Just((1u32, 1u32)),
        1 => Just((2, 3)),
        1 => Just((8, 20)),
        1 => Just((0, 0)),
    ];
    let overshoot = prop_oneof![3 => Just(1.0), 1 => Just(1.5), 1 => Just(1.333), 1 => Just(2.5)];
    let stocks = prop::collection::vec((0..2usize, 0..5u64), 0..4);
    let revision =
        proptest::option::of(prop_oneof![0..5u64, Just(u64::MAX), Just(9_007_199_254_740_993)]);
    (opens, ends, per_user, overshoot, stocks, any::<bool>(), revision, 0..2u8).prop_map(
        |(opens_ms, ends_ms, per_user, overshoot, stocks, never, revision, activity)| Says {
            opens_ms,
            ends_ms,
            per_user,
            overshoot,
            stocks,
            never,
            revision,
            activity,
        },
    )
}

fn control() -> impl Strategy<Value = Control> {
    let pool = || (0..3usize).prop_map(|p| name(POOLS[p]));
    let units = || prop_oneof![0..4u64, Just(1_000_000_000u64), Just(u64::MAX)];
    let id =
        || prop_oneof![4 => "[a-f]", 1 => Just(String::new()), 1 => Just("two words".to_owned())];
    prop_oneof![
        2 => Just(Control::Pause),
        4 => Just(Control::Resume),
        1 => Just(Control::SoldOut),
        1 => Just(Control::End),
        4 => (pool(), units(), id()).prop_map(|(pool, units, id)| Control::AddStock { pool, units, id }),
        4 => (pool(), units(), id()).prop_map(|(pool, units, id)| Control::Restock { pool, units, id }),
    ]
}

/// The operation of a step at `now`. Declarations are relative to the beginning, so that one comes
/// again exactly.
fn op(step: &Step, now: UnixMs, states: &[SaleState]) -> Op {
    let at = |from: UnixMs, ms: i64| UnixMs(from.0.saturating_add_signed(ms));
    match step {
        Step::Claim { node, late_ms, ttl_ms, tries } => Op::Claim(ClaimBatch {
            node: NodeId([*node; 8]),
            not_after: at(now, *late_ms),
            claim_ttl_ms: *ttl_ms,
            reported: states.last().filter(|_| *ttl_ms != 3).map(SaleState::mark),
            fence: Fence { learn_ms: 8, seen: if *ttl_ms == 2 { 40 } else { 0 } },
            tries: tries
                .iter()
                .map(|(claim, attempt, who, pool, units)| Try {
                    claim: ClaimId([*claim; 12]),
                    attempt: AttemptId([*attempt; 16]),
                    user: user(u32::from(*who)),
                    pool: name(POOLS[*pool]),
                    units: *units,
                })
                .collect(),
        }),
        Step::Resolve(outcomes) => Op::Resolve(
            outcomes
                .iter()
                .map(|(claim, who, attempt, pool, verdict, hold)| Resolution {
                    user: user(u32::from(*who)),
                    claim: ClaimId([*claim; 12]),
                    attempt: AttemptId([*attempt; 16]),
                    pool: name(POOLS[*pool]),
                    units: 1,
                    verdict: *verdict,
                    hold_until: hold.map(|ms| at(now, ms)),
                })
                .collect(),
        ),
        Step::Reap(max) => Op::Reap { max: *max },
        Step::Declare(says) => declare(Declaration {
            activity: name(&format!("act{}", says.activity)),
            opens_at: Time { at: at(BASE, says.opens_ms) },
            ends_at: says.ends_ms.map(|ms| Time { at: at(BASE, ms) }),
            per_user: PerUser { orders: says.per_user.0, units: says.per_user.1 },
            overshoot: says.overshoot,
            pools: says.stocks.iter().map(|(p, stock)| (name(POOLS[*p]), pool(*stock))).collect(),
            restock: match (says.never, says.activity) {
                (true, _) => Restock::Never,
                (false, 0) => Restock::Manual,
                (false, _) => Restock::Auto,
            },
            restock_batch: 1 + u64::from(says.per_user.0 % 2),
            restock_debounce: Span::from_ms(3),
            revision: says.revision,
        }),
        Step::Control(word) => Op::Control(word.clone()),
        Step::Reassert(said) => reassert(said, now, states),
        Step::Observe(ago, readings) => observe(*ago, readings, now, states),
        Step::Read | Step::Moves | Step::Gone => Op::Read,
    }
}

/// Of four units: the shop's number leads.
fn pool(stock: u64) -> Pool {
    let source = Source { redis: Some("stock:{pool}".into()), ..Source::default() };
    if stock == 4 { Pool { stock: Stock::Shop(source) } } else { Pool::of(stock) }
}

fn observe(
    ago: u64,
    readings: &[(usize, Option<u64>, u64)],
    now: UnixMs,
    states: &[SaleState],
) -> Op {
    let state = states.last();
    let mut mark = state.map(SaleState::mark).unwrap_or_default();
    mark.fences += u64::from(ago == 3);
    let confirmed = |pool: &str| state.and_then(|s| s.pool(pool)).map_or(0, |p| p.confirmed);
    let reading = |(pool, left, more): &(usize, Option<u64>, u64)| Reading {
        pool: name(POOLS[*pool]),
        left: *left,
        confirmed_before: confirmed(POOLS[*pool]) + more.saturating_sub(1),
    };
    let readings = readings.iter().map(reading).collect();
    Op::Observe(Observe { mark, read_at: UnixMs(now.0 - ago), readings })
}

fn reassert(said: &Tells, now: UnixMs, states: &[SaleState]) -> Op {
    let at = |from: UnixMs, ms: i64| UnixMs(from.0.saturating_add_signed(ms));
    Op::Reassert(Box::new(Reassert {
        node: NodeId([said.node; 8]),
        runs: vec![NodeId([said.node + 1; 8])],
        fence: Fence { learn_ms: 8, seen: said.seen },
        known: said.recalls.and_then(|back| states.iter().rev().nth(back).cloned()),
        peers: vec![NodeId([9; 8]), NodeId([0; 8])],
        claims: said
            .claims
            .iter()
            .map(|(claim, who, attempt, pool, units, verdict, ms)| Assertion {
                claim: ClaimId([*claim; 12]),
                user: user(u32::from(*who)),
                attempt: AttemptId([*attempt; 16]),
                pool: name(POOLS[*pool]),
                units: *units,
                node: NodeId([said.node; 8]),
                verdict: *verdict,
                deadline: at(now, *ms),
            })
            .collect(),
        reported: states.last().filter(|_| said.is_last).map(SaleState::mark),
        is_roll_call: said.is_roll_call,
    }))
}

/// When sequences begin.
const BASE: UnixMs = UnixMs(1_800_000_000_000);

/// Redis, the core, and the time of both.
pub struct Pair<'a> {
    node: &'a Node,
    shop: &'a mut Shop,
    pub core: Memory,
    now: UnixMs,
    /// What the sale was after each operation.
    states: Vec<SaleState>,
}

impl Pair<'_> {
    pub fn new<'a>(node: &'a Node, shop: &'a mut Shop) -> Pair<'a> {
        shop.run(&["FLUSHDB"]);
        let core = Pair::empty(shop);
        Pair { node, shop, core, now: BASE, states: Vec::new() }
    }

    /// The core without a sale, on the server that Redis is.
    fn empty(shop: &mut Shop) -> Memory {
        let mut core = Memory::new(sale());
        let info: String = shop.ask(&["INFO"]);
        let half = |name: &str| {
            let line = info.lines().find_map(|line| line.strip_prefix(name));
            line.expect("a line of INFO")[..16].to_owned()
        };
        let server = format!("{}{}", half("run_id:"), half("master_replid:"));
        core.moved_to(server.parse().expect("a server"));
        core
    }

    /// The ledger was written by another server.
    fn moves(&mut self) {
        let other = ServerId([7; 16]);
        let Ok(state) = self.core.sale();
        if let Some(state) = state {
            let Ok(()) = self.core.put_sale(&SaleState { server: other, ..state });
            self.shop.run(&["HSET", "ps:{shop/drop}:L", "server", &other.to_string()]);
        }
    }

    fn is_gone(&mut self) {
        self.shop.run(&["FLUSHDB"]);
        self.core = Pair::empty(self.shop);
    }

    async fn apply(&mut self, op: Op) {
        self.shop.run(&["SET", hourglass::NOW, &self.now.0.to_string()]);
        let ours = self.node.store.call(&sale(), op.clone(), DEADLINE).await.expect("a reply");
        let cores = self.core.apply(&op, self.now);
        assert_eq!((ours.result, ours.now), (cores.result, cores.now), "{op:?}");
        assert_eq!(ours.state, cores.state, "{op:?}");
        self.states.extend(cores.state);
    }

    /// One step, `later_ms` after the one before.
    pub async fn step_later(&mut self, later_ms: u64, step: &Step) {
        self.now = self.now.plus(later_ms);
        match step {
            Step::Moves => self.moves(),
            Step::Gone => self.is_gone(),
            _ => {}
        }
        self.apply(op(step, self.now, &self.states)).await;
    }

    pub async fn step(&mut self, step: &Step) {
        self.step_later(0, step).await;
    }

    /// Records and deadlines are equal too, and so is everything that is read in pages.
    pub async fn compare(&mut self) {
        assert_eq!(self.node.records().await, self.core.page(None, None, usize::MAX));
        let due: Vec<(String, u64)> =
            self.shop.ask(&["ZRANGE", "ps:{shop/drop}:D", "0", "-1", "WITHSCORES"]);
        let cores: Vec<_> =
            self.core.deadlines().map(|d| (format!("{}|{}", d.user, d.claim), d.at.0)).collect();
        assert_eq!(due, cores);
        let nodes: std::collections::BTreeMap<String, String> =
            self.shop.ask(&["HGETALL", "ps:{shop/drop}:N"]);
        let Ok(cores) = self.core.nodes();
        let cores = cores.into_iter().map(|(node, peer)| {
            let mark = peer.reported.map(|mark| format!("{}:{}", mark.server, mark.fences));
            (node.to_string(), format!("{}|{}", peer.seen.0, mark.unwrap_or_default()))
        });
        assert_eq!(nodes, cores.collect());
        let (mut paged, mut after) = (Vec::new(), None);
        loop {
            let page = self.node.store.records(&sale(), None, after, 2).await.expect("a page");
            let Some(last) = page.last() else { break };
            after = Some(last.user);
            paged.extend(page);
        }
        assert_eq!(paged, self.core.page(None, None, usize::MAX));
    }
}

#[test]
fn generated_sequences_agree_with_the_core() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let server = Server::start(&[]);
    let node = runtime.block_on(stopped_time(&server));
    let mut shop = server.shop();
    let config = Config { failure_persistence: None, ..Config::default() };
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(64);
    let mut runner = TestRunner::new(Config { cases, ..config });
    let shop = std::cell::RefCell::new(&mut shop);
    let sequences = (says(), prop::collection::vec((waits(), step()), 1..60));
    runner
        .run(&sequences, |(first, steps)| {
            let shop = &mut **shop.borrow_mut();
            runtime.block_on(async {
                let mut pair = Pair::new(&node, shop);
                pair.step(&Step::Declare(Says { per_user: (2, 3), ..first })).await;
                pair.step(&Step::Control(Control::Resume)).await;
                for (later_ms, step) in &steps {
                    pair.step_later(*later_ms, step).await;
                }
                pair.compare().await;
            });
            Ok(())
        })
        .unwrap_or_else(|e| panic!("{e}"));
}

#[test]
fn as_many_ids_and_declarations_are_remembered_as_the_core_remembers() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let server = Server::start(&[]);
    let mut shop = server.shop();
    runtime.block_on(async {
        let node = stopped_time(&server).await;
        let mut pair = open_sale(&node, &mut shop, (2, 3)).await;
        for n in (0..=IDS_MAX).chain([1, 0]) {
            let id = format!("id-{n}");
            pair.step(&Step::Control(Control::AddStock { pool: name("a"), units: 1, id })).await;
        }
        let stock = pair.core.state().expect("a sale").pools[0].stock;
        assert_eq!(stock, 2 + 65 + 1, "the first id was forgotten, the second was not");
        for n in (0..20).chain(0..20) {
            pair.step(&Step::Declare(Says {
                opens_ms: -60_000,
                ends_ms: Some(3_600_000 + n),
                per_user: (2, 3),
                overshoot: 1.0,
                stocks: vec![(0, stock)],
                never: false,
                revision: None,
                activity: 0,
            }))
            .await;
        }
    });
}

#[test]
fn nobody_has_a_claim_on_a_pool_that_a_newer_declaration_took_away() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let server = Server::start(&[]);
    let mut shop = server.shop();
    runtime.block_on(async {
        let node = stopped_time(&server).await;
        let mut pair = Pair::new(&node, &mut shop);
        let of_pool = |pool| {
            Step::Declare(Says {
                opens_ms: 60_000,
                ends_ms: None,
                per_user: (2, 3),
                overshoot: 1.0,
                stocks: vec![(pool, 2)],
                never: false,
                revision: None,
                activity: 0,
            })
        };
        let newer = [of_pool(1), Step::Control(Control::Pause)];
        for step in newer.iter().chain(&[Step::Gone, of_pool(0)]) {
            pair.step(step).await;
        }
        let claims = vec![(0, 0, 0, 0, 1, None, 3_600_000)];
        let said = Tells {
            node: 0,
            seen: 0,
            recalls: Some(1),
            claims,
            is_last: false,
            is_roll_call: false,
        };
        pair.step(&Step::Reassert(said)).await;
        assert_eq!(pair.core.state().expect("a sale").pools[0].name, name("b"));
        pair.compare().await;
    });
}

/// A node whose scripts see the time of the test.
pub async fn stopped_time(server: &Server) -> Node {
    let node = Node::open(&hourglass::before(&server.settings()));
    until("the node is healthy", async || node.store.health().is_ok()).await;
    node
}

/// A sale of two units that is open, orders of one unit.
pub async fn open_sale<'a>(node: &'a Node, shop: &'a mut Shop, per_user: (u32, u32)) -> Pair<'a> {
    let mut pair = Pair::new(node, shop);
    pair.step(&Step::Declare(Says {
        opens_ms: -60_000,
        ends_ms: None,
        per_user,
        overshoot: 1.0,
        stocks: vec![(0, 2)],
        never: false,
        revision: None,
        activity: 0,
    }))
    .await;
    pair.step(&Step::Control(Control::Resume)).await;
    pair
}
