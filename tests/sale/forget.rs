//! A fleet sells while its Redis forgets: a restart without its data, `FLUSHALL`, a replica that takes
//! over without the last writes. The shop sells whatever it is asked for: never more than the stock is
//! asked, nobody twice, and the sale goes on to its last unit.

use std::net::SocketAddr;

use crate::nodes::Fleet;
use crate::proxy::Proxy;
use crate::redis::Redis;
use crate::rig::{Edge, Plan, SALE, boundless, crowd, until};

const STOCK: u64 = 120;

/// Three edges that share a ledger at `redis`.
fn fleet(redis: SocketAddr) -> Fleet {
    let plan = Plan {
        stock: STOCK,
        opens_in_ms: 4_000,
        more: format!(
            "[store]\nkind = \"redis\"\nurl = \"redis://{redis}\"\nclaim_deadline = \"1s\""
        ),
        // Slow enough that there is a middle of the sale.
        shop: penstock::shop::Settings { latency_ms: 30, workers: 4, ..boundless() },
        ..Plan::default()
    };
    Fleet::start(plan, 3)
}

/// Everybody buys at every edge, and in the middle of it `fault` happens.
fn sell(fleet: &Fleet, fault: impl FnOnce() + Send) {
    fleet.sell(300, 8, fault);
}

/// Sold to the last unit, and not one more, and each edge knows.
fn is_exact(fleet: &Fleet) {
    fleet.is_over();
    let shop = fleet.stage.shop.stats();
    assert_eq!((shop.orders, shop.users_twice), (STOCK, 0));
    let fences = |edge: &Edge| edge.metric("penstock_sale_fences{sale=\"shop/spring-drop\"}");
    assert!(fleet.edges.iter().all(|edge| fences(edge) >= 1.0), "the fence closed");
    fleet.audit(0..3);
}

#[test]
fn a_redis_that_starts_again_empty_sells_nothing_twice() {
    let mut redis = Redis::start(&[]);
    let fleet = fleet(redis.at);
    sell(&fleet, || redis.restart());
    is_exact(&fleet);
    let reports: f64 = fleet.edges.iter().map(|e| e.metric("penstock_reasserted_total")).sum();
    // Of three times 8 buyers the outcome may have been on its way, and told the ledger by itself.
    assert!(reports >= STOCK as f64 / 3.0 - 24.0, "what was sold before was re-asserted");
}

#[test]
fn flushall_in_the_middle_of_a_sale_loses_nothing() {
    let redis = Redis::start(&[]);
    let fleet = fleet(redis.at);
    sell(&fleet, || drop(redis.say(&["FLUSHALL"])));
    is_exact(&fleet);
}

#[test]
fn units_that_were_added_are_not_added_again_by_who_asks_again() {
    let redis = Redis::start(&[]);
    let more = format!("[store]\nkind = \"redis\"\nurl = \"redis://{}\"", redis.at);
    let mut fleet =
        Fleet::start(Plan { stock: 5, opens_in_ms: 60_000, more, ..Plan::default() }, 2);
    let add = ["sale", "add-stock", SALE, "--units", "7", "--id", "monday"];
    let stock = |edge: &Edge| edge.sale()["stock"] == 12;
    assert!(fleet.edges[1].verb(&add).status.success());
    until("the other edge has heard of it", || stock(&fleet.edges[0]));
    // Who asked has no answer: its edge dies, and Redis forgets. It asks the other edge.
    fleet.edges[1].kill();
    redis.say(&["FLUSHALL"]);
    let mut told = String::new();
    until("an answer", || {
        let output = fleet.edges[0].verb(&add);
        told = String::from_utf8_lossy(&output.stdout).into_owned();
        output.status.success()
    });
    assert!(told.contains("nothing changed") && stock(&fleet.edges[0]), "{told}");
    // Neither does the next run of an edge that kept what it had seen on its disk.
    fleet.edges[0].kill();
    redis.say(&["FLUSHALL"]);
    fleet.edges[0] = fleet.edge(0);
    until("an answer", || fleet.edges[0].verb(&add).status.success());
    assert!(stock(&fleet.edges[0]));
}

#[test]
fn a_replica_without_the_last_writes_takes_over() {
    let mut master = Redis::start(&[]);
    let port = master.at.port().to_string();
    let replica = Redis::start(&["--replicaof", &format!("127.0.0.1 {port}")]);
    until("the replica follows", || replica.is_synced_replica());
    let door = Proxy::to(master.at);
    let fleet = fleet(door.at);
    sell(&fleet, || {
        // It hears nothing any more; what the master acknowledges from here on is lost.
        assert_eq!(replica.say(&["REPLICAOF", "NO", "ONE"]), "+OK");
        let before = fleet.orders();
        until("writes that will be lost", || fleet.orders() >= before + 12);
        master.kill();
        door.turn(replica.at);
    });
    is_exact(&fleet);
}

#[test]
fn a_node_that_starts_again_says_what_its_last_run_sold() {
    let mut redis = Redis::start(&[]);
    let mut fleet = fleet(redis.at);
    for edge in &fleet.edges {
        until("T0", || edge.availability()["state"] == "available");
    }
    let heard = crowd(fleet.edges[0].at, 20, 4);
    assert_eq!(heard.get("admitted"), Some(&20), "{heard:?}");
    until("the outcomes are told", || fleet.edges[0].sale()["confirmed"] == 20);
    // All nodes stop, Redis forgets, and only the one that sold is there again.
    fleet.edges.iter_mut().for_each(Edge::kill);
    redis.restart();
    fleet.edges[0] = fleet.edge(0);
    let edge = &fleet.edges[0];
    until("the ledger is what it was", || edge.sale()["confirmed"] == 20);
    until("it sells again", || {
        let heard = crowd(edge.at, 30, 1);
        heard.get("confirmed") == Some(&20)
    });
    assert_eq!(fleet.stage.shop.stats().users_twice, 0);
    assert_eq!(fleet.orders(), 30);
    until("nobody is under way", || edge.sale()["held"] == 0);
    fleet.audit(0..1);
}
