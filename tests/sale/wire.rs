//! What lies between the parties fails: edges and Redis, edges and shop. Nobody is admitted beyond the
//! stock, nobody twice, and nothing is stranded but what limbo lists; each test ends in the audit.
//!
//! `PENSTOCK_TEST_LONG=1` makes each fault last longer.

use std::net::SocketAddr;
use std::time::Duration;

use crate::nodes::Fleet;
use crate::proxy::{Fault, Proxy, Side};
use crate::redis::Redis;
use crate::rig::{Plan, SALE, boundless, until};

/// Equal to the deadlines below: what is late by it is late by nothing.
const DEADLINE: Duration = Duration::from_millis(150);

fn rounds() -> u64 {
    if std::env::var_os("PENSTOCK_TEST_LONG").is_some() { 12 } else { 2 }
}

fn stock() -> u64 {
    60 * rounds()
}

/// A sale whose claims and purchases are given up after [`DEADLINE`].
fn plan(redis: SocketAddr, purchase_timeout: &str) -> Plan {
    Plan {
        stock: stock(),
        opens_in_ms: 4_000,
        more: format!(
            "[store]\nkind = \"redis\"\nurl = \"redis://{redis}\"\nclaim_deadline = \"150ms\""
        ),
        upstream: format!("purchase_timeout = \"{purchase_timeout}\""),
        shop: penstock::shop::Settings { latency_ms: 20, workers: 4, ..boundless() },
        ..Plan::default()
    }
}

/// Sells while `fault` happens between the edges and Redis, in each round.
fn between_edges_and_redis(fault: impl Fn(&Proxy, &Redis) + Send + Sync) {
    let redis = Redis::start(&[]);
    let way = Proxy::to(redis.at);
    let fleet = Fleet::start(plan(way.at, "8s"), 2);
    fleet.sell(people(), 6, || (0..rounds()).for_each(|_| fault(&way, &redis)));
    assert_eq!(fleet.is_over(), 0, "what the store did not answer was never sent");
    let errors = fleet.edges.iter().map(|edge| edge.metric("penstock_store_errors_total"));
    let errors: f64 = errors.sum();
    assert!(errors > 0.0, "the fault was felt");
    let shop = fleet.stage.shop.stats();
    assert_eq!((shop.orders, shop.users_twice), (stock(), 0));
    fleet.audit(0..2);
    println!("{errors} calls of the store failed");
}

/// Sells while `fault` happens between the edges and the shop, in each round.
fn between_edges_and_shop(fault: impl Fn(&Proxy) + Send + Sync) {
    let redis = Redis::start(&[]);
    let way = Proxy::to(redis.at);
    let plan = Plan { shop_at: Some(way.at), ..plan(redis.at, "150ms") };
    let mut fleet = Fleet::set(plan);
    way.turn(fleet.stage.shop.address());
    fleet.join(2);
    fleet.sell(people(), 6, || (0..rounds()).for_each(|_| fault(&way)));
    let in_limbo = fleet.is_over();
    assert!(in_limbo > 0, "the fault was felt");
    let shop = fleet.stage.shop.stats();
    assert!(shop.orders <= stock() && shop.users_twice == 0, "{} orders", shop.orders);
    assert!(shop.orders >= stock() - in_limbo, "each sale is an order");
    fleet.audit(0..2);
    // The shop's list tells of each that nobody knew of.
    let orders = fleet.stage.orders_csv().display().to_string();
    let edge = &fleet.edges[0];
    assert!(edge.verb(&["limbo", "match", SALE, &orders, "--at-rest"]).status.success());
    let sale = edge.sale();
    assert_eq!((sale["limbo"].as_u64(), sale["confirmed"].as_u64()), (Some(0), Some(shop.orders)));
    fleet.audit(0..2);
}

fn people() -> usize {
    usize::try_from(stock()).expect("a small number") * 2
}

/// The fault, for so long.
fn last(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}

#[test]
fn a_redis_that_is_half_open() {
    between_edges_and_redis(|way, _| {
        for side in [Side::Replies, Side::Asks] {
            way.be(side, Fault::Lost);
            last(400);
            way.heal();
            last(100);
        }
    });
}

#[test]
fn a_redis_whose_replies_are_late_by_exactly_the_deadline() {
    between_edges_and_redis(|way, _| {
        way.be(Side::Replies, Fault::Slow(DEADLINE));
        last(700);
        way.heal();
    });
}

#[test]
fn a_redis_whose_replies_are_cut() {
    between_edges_and_redis(|way, _| {
        for bytes in [0, 1, 9, 60, 300, 900] {
            way.be(Side::Replies, Fault::CutAfter(bytes));
            until("it was cut", || way.has_cut(Side::Replies));
        }
        way.be(Side::Asks, Fault::CutAfter(500));
        until("it was cut", || way.has_cut(Side::Asks));
    });
}

#[test]
fn a_redis_that_is_paused_and_forgets_scripts_and_clients() {
    between_edges_and_redis(|_, redis| {
        for _ in 0..3 {
            assert_eq!(redis.say(&["CLIENT", "PAUSE", "200", "ALL"]), "+OK");
            last(250);
            assert_eq!(redis.say(&["SCRIPT", "FLUSH"]), "+OK");
            let killed = redis.say(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
            assert!(killed.starts_with(':'), "{killed}");
            last(20);
        }
    });
}

#[test]
fn a_shop_that_is_half_open() {
    between_edges_and_shop(|way| {
        for side in [Side::Replies, Side::Asks] {
            way.be(side, Fault::Lost);
            last(250);
            way.heal();
        }
    });
}

#[test]
fn a_shop_whose_answers_are_late_by_exactly_the_timeout_or_cut() {
    between_edges_and_shop(|way| {
        // With the shop's own 20 ms some are in time, some are not.
        way.be(Side::Replies, Fault::Slow(DEADLINE));
        last(300);
        way.be(Side::Replies, Fault::Slow(DEADLINE - Duration::from_millis(20)));
        last(300);
        way.heal();
        for bytes in [0, 1, 30, 120] {
            way.be(Side::Replies, Fault::CutAfter(bytes));
            last(60);
        }
        way.heal();
    });
}
