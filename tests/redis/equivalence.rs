//! The scripts say what the core says: generated sequences of operations, applied to a real Redis and
//! to the core in memory at the time that Redis showed, must give equal replies and equal ledgers.

use penstock::clock::UnixMs;
use penstock::config::schema::{PerUser, Pool, Restock};
use penstock::config::units::Time;
use penstock::ident::{AttemptId, ClaimId, NodeId};
use penstock::ledger::{ClaimBatch, Control, IDS_MAX, Memory, Op, Reply, Resolution, Try};
use penstock::outcome::Verdict;
use penstock::sale::Declaration;
use penstock::store::Store;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::rig::{DEADLINE, Node, declare, name, sale, user};
use crate::server::{Server, Shop};

const POOLS: [&str; 3] = ["a", "b", "nowhere"];

/// An operation whose times are relative to the moment at which it is applied, in milliseconds. Few
/// values and small times, so that everything meets everything and edges are crossed.
#[derive(Clone, Debug)]
enum Step {
    Claim { node: u8, late_ms: i64, ttl_ms: u64, tries: Vec<(u8, u8, u8, usize, u32)> },
    Resolve(Vec<(u8, u8, u8, usize, Verdict, Option<i64>)>),
    Reap(u32),
    Declare(Says),
    Control(Control),
    Read,
}

#[derive(Clone, Debug)]
struct Says {
    opens_ms: i64,
    ends_ms: Option<i64>,
    per_user: (u32, u32),
    overshoot: f64,
    stocks: Vec<(usize, u64)>,
    never: bool,
    revision: Option<u64>,
    activity: u8,
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
        1 => Just(Step::Read),
    ]
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

/// The operation of a step at wall time `now`; `base` is when the sequence began, so that a
/// declaration comes again exactly.
fn op(step: &Step, now: UnixMs, base: UnixMs) -> Op {
    let at = |from: UnixMs, ms: i64| UnixMs(from.0.saturating_add_signed(ms));
    match step {
        Step::Claim { node, late_ms, ttl_ms, tries } => Op::Claim(ClaimBatch {
            node: NodeId([*node; 8]),
            not_after: at(now, *late_ms),
            claim_ttl_ms: *ttl_ms,
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
            opens_at: Time { at: at(base, says.opens_ms) },
            ends_at: says.ends_ms.map(|ms| Time { at: at(base, ms) }),
            per_user: PerUser { orders: says.per_user.0, units: says.per_user.1 },
            overshoot: says.overshoot,
            pools: says
                .stocks
                .iter()
                .map(|(p, stock)| (name(POOLS[*p]), Pool { stock: *stock }))
                .collect(),
            restock: if says.never { Restock::Never } else { Restock::Manual },
            revision: says.revision,
        }),
        Step::Control(word) => Op::Control(word.clone()),
        Step::Read => Op::Read,
    }
}

/// Redis and the core side by side.
struct Pair<'a> {
    node: &'a Node,
    core: Memory,
    base: UnixMs,
}

impl Pair<'_> {
    async fn new<'a>(node: &'a Node, shop: &mut Shop) -> Pair<'a> {
        shop.run(&["FLUSHDB"]);
        Pair { node, core: Memory::new(sale()), base: node.clock.now().wall }
    }

    async fn apply(&mut self, op: Op) -> Reply {
        let ours = self.node.store.call(&sale(), op.clone(), DEADLINE).await.expect("a reply");
        let cores = self.core.apply(&op, ours.now);
        assert_eq!(ours.result, cores.result, "{op:?}");
        assert_eq!(ours.state, cores.state, "{op:?}");
        ours
    }

    async fn step(&mut self, step: &Step) {
        self.apply(op(step, self.node.clock.now().ledger, self.base)).await;
    }

    /// Records and deadlines are equal too, and so is everything that is read in pages.
    async fn compare(&self, shop: &mut Shop) {
        assert_eq!(self.node.records().await, self.core.page(None, None, usize::MAX));
        let due: Vec<(String, u64)> =
            shop.ask(&["ZRANGE", "ps:{shop/drop}:D", "0", "-1", "WITHSCORES"]);
        let cores: Vec<_> =
            self.core.deadlines().map(|d| (format!("{}|{}", d.user, d.claim), d.at.0)).collect();
        assert_eq!(due, cores);
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
    let node = runtime.block_on(Node::connected(&server));
    let mut shop = server.shop();
    let config = Config { failure_persistence: None, ..Config::default() };
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(96);
    let mut runner = TestRunner::new(Config { cases, ..config });
    let shop = std::cell::RefCell::new(&mut shop);
    let sequences = (says(), prop::collection::vec(step(), 1..60));
    runner
        .run(&sequences, |(first, steps)| {
            let shop = &mut **shop.borrow_mut();
            runtime.block_on(async {
                let mut pair = Pair::new(&node, shop).await;
                pair.step(&Step::Declare(Says { per_user: (2, 3), ..first })).await;
                pair.step(&Step::Control(Control::Resume)).await;
                for step in &steps {
                    pair.step(step).await;
                }
                pair.compare(shop).await;
            });
            Ok(())
        })
        .unwrap_or_else(|e| panic!("{e}"));
}

/// A sale of two units that is open, orders of one unit.
async fn open_sale<'a>(node: &'a Node, shop: &mut Shop, per_user: (u32, u32)) -> Pair<'a> {
    let mut pair = Pair::new(node, shop).await;
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

fn claim(claim: u8, attempt: u8, who: u8) -> Step {
    claim_for(3_600_000, claim, attempt, who)
}

fn claim_for(ttl_ms: u64, claim: u8, attempt: u8, who: u8) -> Step {
    Step::Claim { node: 1, late_ms: 3_600_000, ttl_ms, tries: vec![(claim, attempt, who, 0, 1)] }
}

fn says_of(claim: u8, who: u8, attempt: u8, verdict: Verdict) -> Step {
    Step::Resolve(vec![(claim, who, attempt, 0, verdict, None)])
}

/// The cases that every ledger must get right, by name; each also says what is expected of it where
/// agreement alone would not tell.
#[test]
fn cases_by_name() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let server = Server::start(&[]);
    let mut shop = server.shop();
    runtime.block_on(async {
        let node = Node::connected(&server).await;
        use Verdict::{Confirmed, Failed, Pending, Unknown, Void};
        let restock = |units, id: &str| {
            Step::Control(Control::Restock { pool: name("a"), units, id: id.into() })
        };
        type Case = (&'static str, (u32, u32), Vec<Step>, &'static str);
        let cases: Vec<Case> = vec![
            (
                "F then C for the same claim",
                (1, 1),
                vec![claim(1, 1, 1), says_of(1, 1, 1, Failed), says_of(1, 1, 1, Confirmed)],
                "confirmed 1 held 0 limbo 0",
            ),
            (
                "C then F for the same claim",
                (1, 1),
                vec![claim(1, 1, 1), says_of(1, 1, 1, Confirmed), says_of(1, 1, 1, Failed)],
                "confirmed 1 held 0 limbo 0",
            ),
            (
                "V after an epoch bump",
                (1, 1),
                vec![
                    claim(1, 1, 1),
                    claim(2, 2, 2),
                    says_of(1, 1, 1, Confirmed),
                    says_of(2, 2, 2, Confirmed),
                    restock(1, "r"),
                    says_of(1, 1, 1, Void),
                ],
                "confirmed 1 held 0 limbo 0",
            ),
            (
                "the reaper between X and C",
                (1, 1),
                vec![
                    claim_for(0, 1, 1, 1),
                    says_of(1, 1, 1, Unknown),
                    Step::Reap(9),
                    says_of(1, 1, 1, Confirmed),
                ],
                "confirmed 1 held 0 limbo 0",
            ),
            (
                "a claim again after its release",
                (1, 1),
                vec![
                    claim(1, 1, 1),
                    says_of(1, 1, 1, Failed),
                    claim(2, 1, 1),
                    says_of(1, 1, 1, Failed),
                ],
                "confirmed 0 held 1 limbo 0",
            ),
            (
                "a winner asks again after the sell-out",
                (1, 1),
                vec![
                    claim(1, 1, 1),
                    claim(2, 2, 2),
                    says_of(1, 1, 1, Confirmed),
                    says_of(2, 2, 2, Confirmed),
                    claim(3, 1, 1),
                    claim(4, 4, 1),
                    claim(5, 5, 3),
                ],
                "confirmed 2 held 0 limbo 0 sold_out",
            ),
            (
                "limbo latches with what is confirmed",
                (1, 1),
                vec![
                    claim(1, 1, 1),
                    claim(2, 2, 2),
                    says_of(1, 1, 1, Confirmed),
                    says_of(2, 2, 2, Unknown),
                    says_of(2, 2, 2, Failed),
                    claim(3, 3, 3),
                ],
                "confirmed 1 held 0 limbo 0 sold_out",
            ),
            (
                "a quantity that does not fit",
                (1, 3),
                vec![
                    claim(1, 1, 1),
                    Step::Claim {
                        node: 1,
                        late_ms: 9_000,
                        ttl_ms: 9_000,
                        tries: vec![(2, 2, 2, 0, 2)],
                    },
                    Step::Claim {
                        node: 1,
                        late_ms: 9_000,
                        ttl_ms: 9_000,
                        tries: vec![(3, 3, 2, 0, 4)],
                    },
                ],
                "confirmed 0 held 1 limbo 0",
            ),
            (
                "pending is held and falls to limbo at its time",
                (1, 1),
                vec![
                    claim(1, 1, 1),
                    Step::Resolve(vec![(1, 1, 1, 0, Pending, Some(-1))]),
                    says_of(1, 1, 1, Unknown),
                    Step::Resolve(vec![(1, 1, 1, 0, Pending, Some(3_600_000))]),
                ],
                "confirmed 0 held 1 limbo 0",
            ),
            (
                "a batch that comes too late does nothing",
                (1, 1),
                vec![Step::Claim {
                    node: 1,
                    late_ms: -50,
                    ttl_ms: 9_000,
                    tries: vec![(1, 1, 1, 0, 1)],
                }],
                "confirmed 0 held 0 limbo 0",
            ),
            (
                "one batch has the same user twice",
                (2, 2),
                vec![Step::Claim {
                    node: 1,
                    late_ms: 9_000,
                    ttl_ms: 9_000,
                    tries: vec![(1, 1, 1, 0, 1), (2, 1, 1, 0, 1), (3, 3, 1, 0, 1)],
                }],
                "confirmed 0 held 1 limbo 0",
            ),
        ];
        for (title, per_user, steps, expected) in cases {
            let mut pair = open_sale(&node, &mut shop, per_user).await;
            for step in &steps {
                pair.step(step).await;
            }
            pair.compare(&mut shop).await;
            let pool = &pair.core.state().expect("a sale").pools[0];
            let latch = if pool.sold_out { " sold_out" } else { "" };
            let is = format!(
                "confirmed {} held {} limbo {}{latch}",
                pool.confirmed, pool.held, pool.limbo
            );
            assert_eq!(is, expected, "{title}");
        }
    });
}

#[test]
fn as_many_ids_and_declarations_are_remembered_as_the_core_remembers() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let server = Server::start(&[]);
    let mut shop = server.shop();
    runtime.block_on(async {
        let node = Node::connected(&server).await;
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
