//! Cases that every ledger must get right, by name: the scripts agree with the core about each, and
//! the pool ends as it should.

use penstock::ledger::Control;
use penstock::outcome::Verdict::{self, Confirmed, Failed, Pending, Unknown, Void};

use crate::equivalence::{Says, Step, open_sale, stopped_time};
use crate::rig::name;
use crate::server::Server;

/// A name, what one user may buy (orders, units), steps and how much later each is, in milliseconds,
/// on an open sale of two units, and the pool at the end.
type Case = (&'static str, (u32, u32), Vec<(u64, Step)>, &'static str);

const LONG_MS: u64 = 3_600_000;

fn claim(claim: u8, attempt: u8, who: u8) -> (u64, Step) {
    claim_for(LONG_MS, claim, attempt, who)
}

fn claim_for(ttl_ms: u64, claim: u8, attempt: u8, who: u8) -> (u64, Step) {
    batch(3_600_000, ttl_ms, vec![(claim, attempt, who, 0, 1)])
}

fn batch(late_ms: i64, ttl_ms: u64, tries: Vec<(u8, u8, u8, usize, u32)>) -> (u64, Step) {
    (0, Step::Claim { node: 1, late_ms, ttl_ms, tries })
}

/// The outcome of the claim, attempt and user of one number.
fn says(n: u8, verdict: Verdict) -> (u64, Step) {
    (0, Step::Resolve(vec![(n, n, n, 0, verdict, None)]))
}

fn holds(n: u8, until_ms: i64) -> (u64, Step) {
    (0, Step::Resolve(vec![(n, n, n, 0, Pending, Some(until_ms))]))
}

fn later(ms: u64, (_, step): (u64, Step)) -> (u64, Step) {
    (ms, step)
}

fn reap() -> (u64, Step) {
    (0, Step::Reap(9))
}

fn restock(units: u64, id: &str) -> (u64, Step) {
    (0, Step::Control(Control::Restock { pool: name("a"), units, id: id.into() }))
}

fn resume() -> (u64, Step) {
    (0, Step::Control(Control::Resume))
}

/// The open sale declared anew with other times.
fn declared(ends_ms: Option<i64>) -> (u64, Step) {
    let (per_user, overshoot, stocks) = ((1, 1), 1.0, vec![(0, 2)]);
    let (opens_ms, never, revision, activity) = (-60_000, false, None, 0);
    (
        0,
        Step::Declare(Says {
            opens_ms,
            ends_ms,
            per_user,
            overshoot,
            stocks,
            never,
            revision,
            activity,
        }),
    )
}

fn outcomes() -> Vec<Case> {
    vec![
        (
            "F then C for the same claim",
            (1, 1),
            vec![claim(1, 1, 1), says(1, Failed), says(1, Confirmed)],
            "stock 2 confirmed 1 held 0 limbo 0",
        ),
        (
            "C then F for the same claim",
            (1, 1),
            vec![claim(1, 1, 1), says(1, Confirmed), says(1, Failed)],
            "stock 2 confirmed 1 held 0 limbo 0",
        ),
        (
            "the reaper between X and C",
            (1, 1),
            vec![claim_for(0, 1, 1, 1), says(1, Unknown), reap(), says(1, Confirmed)],
            "stock 2 confirmed 1 held 0 limbo 0",
        ),
        (
            "an outcome of an old epoch",
            (1, 1),
            vec![
                claim(1, 1, 1),
                (0, Step::Control(Control::SoldOut)),
                restock(1, "r"),
                says(1, Confirmed),
            ],
            "stock 3 confirmed 1 held 0 limbo 0",
        ),
        (
            "V after an epoch bump",
            (1, 1),
            vec![
                claim(1, 1, 1),
                claim(2, 2, 2),
                says(1, Confirmed),
                says(2, Confirmed),
                restock(1, "r"),
                says(1, Void),
            ],
            "stock 3 confirmed 1 held 0 limbo 0",
        ),
        (
            "more orders than stock",
            (1, 1),
            vec![says(1, Confirmed), says(2, Confirmed), says(3, Confirmed), claim(4, 4, 4)],
            "stock 2 confirmed 3 held 0 limbo 0 sold_out",
        ),
        (
            "P is due when its time is",
            (1, 1),
            vec![
                claim(1, 1, 1),
                holds(1, 5),
                later(4, says(1, Unknown)),
                later(1, says(1, Unknown)),
            ],
            "stock 2 confirmed 0 held 0 limbo 1",
        ),
        (
            "P after the reaper, and only while it is held",
            (1, 1),
            vec![claim_for(0, 1, 1, 1), reap(), holds(1, 0), holds(1, 1), later(1, reap())],
            "stock 2 confirmed 0 held 0 limbo 1",
        ),
    ]
}

fn claims() -> Vec<Case> {
    vec![
        (
            "a claim again after its release",
            (1, 1),
            vec![claim(1, 1, 1), says(1, Failed), claim(2, 1, 1), says(1, Failed)],
            "stock 2 confirmed 0 held 1 limbo 0",
        ),
        (
            "a winner asks again after the sell-out",
            (1, 1),
            vec![
                claim(1, 1, 1),
                claim(2, 2, 2),
                says(1, Confirmed),
                says(2, Confirmed),
                claim(3, 1, 1),
                claim(4, 4, 1),
                claim(5, 5, 3),
            ],
            "stock 2 confirmed 2 held 0 limbo 0 sold_out",
        ),
        (
            "limbo latches with what is confirmed, and what it frees is a restock",
            (1, 1),
            vec![
                claim(1, 1, 1),
                claim(2, 2, 2),
                says(1, Confirmed),
                says(2, Unknown),
                says(2, Failed),
                claim(3, 3, 3),
                restock(0, "r"),
                claim(3, 3, 3),
            ],
            "stock 2 confirmed 1 held 1 limbo 0",
        ),
        (
            "a quantity that does not fit",
            (1, 3),
            vec![
                claim(1, 1, 1),
                batch(9_000, 9_000, vec![(2, 2, 2, 0, 2)]),
                batch(9_000, 9_000, vec![(3, 3, 2, 0, 4)]),
            ],
            "stock 2 confirmed 0 held 1 limbo 0",
        ),
        (
            "a batch that comes too late does nothing",
            (1, 1),
            vec![batch(-1, 9_000, vec![(1, 1, 1, 0, 1)]), batch(0, 9_000, vec![(2, 2, 2, 0, 1)])],
            "stock 2 confirmed 0 held 1 limbo 0",
        ),
        (
            "one batch has the same user twice",
            (2, 2),
            vec![batch(9_000, 9_000, vec![(1, 1, 1, 0, 1), (2, 1, 1, 0, 1), (3, 3, 1, 0, 1)])],
            "stock 2 confirmed 0 held 1 limbo 0",
        ),
        (
            "the reaper takes a record at its deadline",
            (1, 1),
            vec![claim_for(5, 1, 1, 1), later(4, reap()), later(1, reap())],
            "stock 2 confirmed 0 held 0 limbo 1",
        ),
    ]
}

fn edges() -> Vec<Case> {
    vec![
        (
            "nothing to restock",
            (1, 1),
            vec![
                claim(1, 1, 1),
                claim(2, 2, 2),
                says(1, Confirmed),
                says(2, Confirmed),
                restock(0, "r"),
            ],
            "stock 2 confirmed 2 held 0 limbo 0 sold_out",
        ),
        (
            "over at its end and not before",
            (1, 1),
            vec![declared(Some(5)), later(4, claim(1, 1, 1)), later(1, claim(2, 2, 2)), resume()],
            "stock 2 confirmed 0 held 1 limbo 0",
        ),
        (
            "a declaration that was applied once reverts nothing when it comes again",
            (1, 1),
            vec![declared(Some(5_000)), declared(None), later(5_000, claim(1, 1, 1))],
            "stock 2 confirmed 0 held 0 limbo 0",
        ),
    ]
}

#[test]
fn cases_by_name() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let server = Server::start(&[]);
    let mut shop = server.shop();
    runtime.block_on(async {
        let node = stopped_time(&server).await;
        for (title, per_user, steps, expected) in [outcomes(), claims(), edges()].concat() {
            let mut pair = open_sale(&node, &mut shop, per_user).await;
            for (later_ms, step) in &steps {
                pair.step_later(*later_ms, step).await;
            }
            pair.compare().await;
            let pool = &pair.core.state().expect("a sale").pools[0];
            let latch = if pool.sold_out { " sold_out" } else { "" };
            let (stock, confirmed) = (pool.stock, pool.confirmed);
            let (held, limbo) = (pool.held, pool.limbo);
            let is =
                format!("stock {stock} confirmed {confirmed} held {held} limbo {limbo}{latch}");
            assert_eq!(is, expected, "{title}");
        }
    });
}

#[test]
fn a_sale_opens_at_its_time_and_not_before() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let server = Server::start(&[]);
    let mut shop = server.shop();
    runtime.block_on(async {
        let node = stopped_time(&server).await;
        let mut pair = crate::equivalence::Pair::new(&node, &mut shop);
        let (_, Step::Declare(mut soon)) = declared(None) else { unreachable!("a declaration") };
        soon.opens_ms = 5;
        pair.step(&Step::Declare(soon)).await;
        for (later_ms, held) in [(4, 0), (1, 1)] {
            pair.step_later(later_ms, &claim(1, 1, 1).1).await;
            assert_eq!(pair.core.state().expect("a sale").pools[0].held, held);
        }
    });
}
