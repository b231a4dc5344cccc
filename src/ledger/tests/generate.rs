//! Generated sequences of operations on one sale, for the core and for every store.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// One operation and the ledger time at which it comes.
pub(crate) type Step = (UnixMs, Op);

/// What a sequence does next, before ids are dealt.
#[derive(Clone, Debug)]
enum Move {
    Claim { late: bool, node: u8, ttl_ms: u64, tries: Vec<(u8, u8, u8, u32)> },
    Resolve(Vec<(usize, Verdict, Option<u64>)>),
    Reap(u32),
    Declare { stock: u64, pools: u8, orders: u32, units: u32, overshoot: f64, ends: u64, rev: u64 },
    Control(u8, u8, u64, u8),
    Observe { ago: u64, readings: Vec<(u8, Option<u64>, u64)> },
    Reassert { node: u8, seen: u64, recalls: Option<u8>, said: Vec<Said>, is_last: bool },
    Read,
}

/// A claim that is re-asserted: which one back, as what, until when.
type Said = (usize, Option<Verdict>, u64);

/// The operation as a node would say it that knows the states so far: what it has reported to, and the
/// sale as it was once.
pub(crate) fn aimed(op: &Op, states: &[SaleState]) -> Op {
    let mut op = op.clone();
    let mark = states.last().map(SaleState::mark);
    match &mut op {
        Op::Claim(batch) => batch.reported = batch.reported.and(mark),
        Op::Observe(seen) => {
            if let Some(state) = states.last().filter(|_| seen.mark == Mark::default()) {
                seen.mark = state.mark();
                for reading in &mut seen.readings {
                    let pool = state.pool(reading.pool.as_str());
                    reading.confirmed_before += pool.map_or(0, |pool| pool.confirmed);
                }
            }
        }
        Op::Reassert(said) => {
            said.reported = said.reported.and(mark);
            if let Some(known) = said.known.take() {
                let back = usize::try_from(known.seq).unwrap_or(0).min(states.len());
                said.known = states.get(states.len() - back).cloned();
            }
        }
        _ => {}
    }
    op
}

/// Sequences from before T0 until long after it, over four users and two pools (and one that is not
/// there). Claim ids are fresh for each try; outcomes name the tries of the sequence, in any order, late and
/// repeated.
pub(crate) fn steps(len: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Step>> {
    let opening = (1..6u64, 1..3u8, 1..3u32, 0..3u32, overshoots()).prop_map(
        |(stock, pools, orders, more, overshoot)| Move::Declare {
            stock,
            pools,
            orders,
            units: orders + more,
            overshoot,
            ends: 0,
            rev: 0,
        },
    );
    (opening, vec((moves(), time()), len)).prop_map(|(opening, moves)| deal(opening, &moves))
}

fn moves() -> impl Strategy<Value = Move> {
    let one = (1..5u8, pools(), 1..7u8, prop_oneof![6 => Just(1u32), 2 => Just(2), 1 => 0..5u32]);
    let verdict = prop_oneof![
        5 => Just(Verdict::Confirmed),
        3 => Just(Verdict::Failed),
        3 => Just(Verdict::Unknown),
        2 => Just(Verdict::Pending),
        2 => Just(Verdict::Void),
    ];
    let said = (0..12usize, proptest::option::weighted(0.8, verdict.clone()), 0..40u64);
    let outcome = (0..12usize, verdict, proptest::option::of(0..40u64));
    let claim = (proptest::bool::weighted(0.05), 1..3u8, 0..30u64, vec(one, 1..4));
    let declare = (1..9u64, 1..4u8, 1..3u32, 0..3u32, overshoots(), 0..80u64, 0..4u64);
    prop_oneof![
        12 => claim.prop_map(|(late, node, ttl_ms, tries)| Move::Claim { late, node, ttl_ms, tries }),
        14 => vec(outcome, 1..4).prop_map(Move::Resolve),
        3 => (0..4u32).prop_map(Move::Reap),
        2 => declare.prop_map(|(stock, pools, orders, more, overshoot, ends, rev)| {
            Move::Declare { stock, pools, orders, units: orders + more, overshoot, ends, rev }
        }),
        4 => (1..4u8, 0..9u64, proptest::option::of(0..12u8), vec(said, 0..5), any::<bool>()).prop_map(
            |(node, seen, recalls, said, is_last)| {
                Move::Reassert { node, seen: seen.saturating_sub(5) * 4, recalls, said, is_last }
            },
        ),
        7 => (ages(), vec((pools(), left(), 0..5u64), 1..3))
            .prop_map(|(ago, readings)| Move::Observe { ago, readings }),
        3 => (0..9u8, pools(), 0..4u64, 0..6u8).prop_map(|(w, p, n, id)| Move::Control(w, p, n, id)),
        1 => Just(Move::Read),
    ]
}

/// How long ago a reading began.
fn ages() -> impl Strategy<Value = u64> {
    prop_oneof![5 => Just(0u64), 2 => 1..4u64, 1 => 190..210u64, 1 => 1_995..2_005u64]
}

/// What the shop has left.
fn left() -> impl Strategy<Value = Option<u64>> {
    proptest::option::weighted(0.9, prop_oneof![2 => Just(0u64), 2 => 1..4u64])
}

fn overshoots() -> impl Strategy<Value = f64> {
    prop_oneof![3 => Just(1.0), 1 => Just(1.3), 1 => Just(2.0)]
}

/// 0 and 1 are pools, 2 is not.
fn pools() -> impl Strategy<Value = u8> {
    prop_oneof![8 => Just(0u8), 4 => Just(1u8), 1 => Just(2u8)]
}

fn time() -> impl Strategy<Value = u64> {
    let long = prop_oneof![1 => 198..203u64, 1 => 1_995..2_005u64];
    prop_oneof![40 => Just(0u64), 40 => 1..4u64, 8 => 4..25u64, 3 => long]
}

fn pool_name(n: u8) -> Name {
    name(["a", "b", "z"][usize::from(n) % 3])
}

/// Deals ids: the first declaration comes just before T0.
fn deal(opening: Move, moves: &[(Move, u64)]) -> Vec<Step> {
    let mut dealt: Vec<Try> = Vec::new();
    let mut now = T0 - 3;
    let mut steps = vec![(UnixMs(now), op(opening, now, &mut dealt))];
    for (one, wait) in moves {
        now += wait;
        steps.push((UnixMs(now), op(one.clone(), now, &mut dealt)));
    }
    steps
}

fn op(one: Move, now: u64, dealt: &mut Vec<Try>) -> Op {
    match one {
        Move::Claim { late, node, ttl_ms, tries } => {
            let first = dealt.len();
            for (user, pool, attempt, units) in tries {
                let mut claim = ClaimId::default();
                claim.0[..8].copy_from_slice(&(dealt.len() as u64 + 1).to_be_bytes());
                // An attempt belongs to its user, as the keyed hash makes it.
                let attempt = AttemptId([user * 16 + attempt; 16]);
                let pool = pool_name(pool);
                dealt.push(Try { claim, attempt, user: super::user(user), pool, units });
            }
            Op::Claim(ClaimBatch {
                node: NodeId([node; 8]),
                not_after: UnixMs(if late { now - 1 } else { now }),
                claim_ttl_ms: ttl_ms,
                reported: (node != 2 || ttl_ms > 3).then(Mark::default),
                fence: Fence { learn_ms: 6, seen: if ttl_ms == 7 { 9 } else { 0 } },
                tries: dealt[first..].to_vec(),
            })
        }
        Move::Resolve(outcomes) => {
            let recent = |back: usize| dealt.len().checked_sub(back + 1).map(|at| &dealt[at]);
            let outcomes = outcomes.into_iter().filter_map(|(back, verdict, hold)| {
                let one = recent(back)?.clone();
                Some(Resolution {
                    user: one.user,
                    claim: one.claim,
                    attempt: one.attempt,
                    pool: one.pool,
                    units: one.units,
                    verdict,
                    hold_until: hold.map(|ms| UnixMs(now - 5 + ms)),
                })
            });
            Op::Resolve(outcomes.collect())
        }
        Move::Reap(max) => Op::Reap { max },
        Move::Declare { stock, pools, orders, units, overshoot, ends, rev } => {
            declared(stock, pools, PerUser { orders, units }, overshoot, ends, rev)
        }
        Move::Control(word, pool, units, id) => {
            let (pool, id) = (pool_name(pool), format!("id-{id}-{}", now % 4));
            Op::Control(match word {
                0 => Control::Pause,
                1 => Control::Resume,
                2 if units == 0 => Control::SoldOut,
                3 if units == 0 => Control::End,
                4 | 5 => Control::AddStock { pool, units, id },
                _ => Control::Restock { pool, units, id },
            })
        }
        Move::Reassert { node, seen, recalls, said, is_last } => {
            reassert(node, seen, recalls, said, is_last, now, dealt)
        }
        Move::Observe { ago, readings } => observe(ago, readings, now),
        Move::Read => Op::Read,
    }
}

fn declared(stock: u64, pools: u8, per_user: PerUser, overshoot: f64, ends: u64, rev: u64) -> Op {
    let mut said = declaration(&[("a", stock), ("b", 2)]);
    if pools == 2 {
        said.pools.remove("b");
    }
    if stock % 3 == 1 {
        let redis = Some(format!("stock:{}", pools % 2));
        let source = Source { redis, ..Source::default() };
        said.pools.insert(name("a"), Pool { stock: Stock::Shop(source) });
    }
    said.per_user = per_user;
    said.overshoot = overshoot;
    said.ends_at = (ends > 40).then_some(Time { at: UnixMs(T0 + ends) });
    if stock.is_multiple_of(2) {
        said.restock = Restock::Auto;
    }
    (said.restock_batch, said.restock_debounce) = (1 + stock / 4, Span::from_ms(ends % 9));
    said.revision = (rev > 0).then_some(rev);
    declare(said)
}

/// A reading that began `ago` milliseconds before; one in a while in another generation.
fn observe(ago: u64, readings: Vec<(u8, Option<u64>, u64)>, now: u64) -> Op {
    let reading = |(pool, left, more): (u8, Option<u64>, u64)| Reading {
        pool: pool_name(pool),
        left,
        // Mostly what the ledger says.
        confirmed_before: more.saturating_sub(3),
    };
    let fences = u64::from(ago == 3) * 77;
    Op::Observe(Observe {
        mark: Mark { fences, ..Mark::default() },
        read_at: UnixMs(now - ago),
        readings: readings.into_iter().map(reading).collect(),
    })
}

fn reassert(
    node: u8,
    seen: u64,
    recalls: Option<u8>,
    said: Vec<Said>,
    is_last: bool,
    now: u64,
    dealt: &[Try],
) -> Op {
    let recent = |back: usize| dealt.len().checked_sub(back + 1).map(|at| &dealt[at]);
    let claims = said.into_iter().filter_map(|(back, verdict, ms)| {
        let one = recent(back)?.clone();
        Some(Assertion {
            claim: one.claim,
            user: one.user,
            attempt: one.attempt,
            pool: one.pool,
            units: one.units,
            node: NodeId([1; 8]),
            verdict,
            deadline: UnixMs(now - 5 + ms),
        })
    });
    let claims = claims.collect();
    Op::Reassert(Box::new(Reassert {
        node: NodeId([node; 8]),
        runs: vec![NodeId([node + 1; 8])],
        fence: Fence { learn_ms: 6, seen },
        // Which of the states so far: `aimed` puts it here.
        known: recalls.map(|back| recalled(back.into())),
        peers: vec![NodeId([4; 8])],
        claims,
        reported: is_last.then(Mark::default),
        is_roll_call: seen == 4,
    }))
}

/// Stands for a state of the past, `back` operations ago.
fn recalled(back: u64) -> SaleState {
    SaleState { seq: back, ..model::blank(Salt([7; 16])) }
}
