//! `kill -9` at each point of a purchase's way. The next start finds out what it has to: nothing is sold
//! twice, nothing is stranded but what limbo lists, and the audit holds.
//!
//! The process ends itself at the point, which only builds of the tests can do (`src/fault.rs`).

use std::sync::atomic::{AtomicBool, Ordering};

use crate::nodes::Fleet;
use crate::redis::Redis;
use crate::rig::{Edge, Plan, SALE, Stage, boundless, buy, until};

const STOCK: u64 = 12;

/// The points, and at which passage it ends: in the middle of the sale. Connections are those of this
/// test's own questions too.
const POINTS: [&str; 8] = [
    "accepted:40",
    "admitted:4",
    "journal:7",
    "journal:8",
    "journalled:7",
    "sending:4",
    "sent:5",
    "answered:4",
];

/// Sends the buyers home, also where the test fails.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Buyers at an edge that may be dead for a while, until `over`.
fn buyers<'s>(
    scope: &'s std::thread::Scope<'s, '_>,
    at: std::net::SocketAddr,
    name: &'s str,
    over: &'s AtomicBool,
) {
    for t in 0..3 {
        scope.spawn(move || {
            for i in 0.. {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                let user = format!("{name}{t}-{i}");
                // A dead edge refuses the connection, or ends it: the buyer tries again.
                if std::net::TcpStream::connect(at).is_ok() {
                    let _ = std::panic::catch_unwind(|| buy(at, &user));
                } else {
                    std::thread::sleep(std::time::Duration::from_millis(20));
                }
            }
        });
    }
}

fn plan(more: String) -> Plan {
    let shop = penstock::shop::Settings { latency_ms: 10, workers: 2, ..boundless() };
    Plan { stock: STOCK, shop, more, ..Plan::default() }
}

/// Sold or in limbo to the last unit; nothing is held.
fn is_over(edge: &Edge, what: &str) -> u64 {
    until(what, || {
        let sale = edge.sale();
        sale["state"] == "sold_out" && sale["held"] == 0
    });
    let sale = edge.sale();
    let (confirmed, limbo) = (sale["confirmed"].as_u64(), sale["limbo"].as_u64());
    assert_eq!(confirmed.zip(limbo).map(|(c, l)| c + l), Some(STOCK), "{what}: {sale}");
    limbo.expect("units")
}

#[test]
fn killed_at_each_point_an_edge_strands_nothing() {
    // Most of the time they wait for a deadline to pass.
    for points in POINTS.chunks(4) {
        std::thread::scope(|scope| {
            points.iter().for_each(|point| drop(scope.spawn(|| one_edge(point))));
        });
    }
}

/// Kills an edge at `point`, starts it again, and sells what is left.
fn one_edge(point: &str) {
    let began = std::time::Instant::now();
    let stage = Stage::set(plan("[gate]\nclaim_ttl = \"11s\"".to_owned()));
    let mut edge = stage.edge_that_ends(point);
    edge.resume();
    let (at, over) = (edge.at, AtomicBool::new(false));
    let limbo = std::thread::scope(|scope| {
        let _end = End(&over);
        buyers(scope, at, "u", &over);
        edge.ends_killed(point);
        edge = stage.edge();
        edge.resume();
        is_over(&edge, point)
    });
    until("the shop is idle", || stage.shop.stats().in_flight == 0);
    let shop = stage.shop.stats();
    assert!(shop.orders <= STOCK && shop.users_twice == 0, "{point}: {} orders", shop.orders);
    assert_eq!(edge.audit(&stage.orders_csv()), Vec::<String>::new(), "{point}");
    let orders = stage.orders_csv().display().to_string();
    let settled = edge.verb(&["limbo", "match", SALE, &orders, "--at-rest"]);
    assert!(settled.status.success(), "{point}");
    let sale = edge.sale();
    assert_eq!((&sale["limbo"], sale["confirmed"].as_u64()), (&0.into(), Some(shop.orders)));
    assert_eq!(edge.audit(&stage.orders_csv()), Vec::<String>::new(), "{point}");
    let took = began.elapsed();
    println!("{point}: {} orders, {limbo} were in limbo; {took:?}", shop.orders);
}

#[test]
fn killed_at_each_point_one_edge_of_a_fleet_strands_nothing() {
    let all = std::env::var_os("PENSTOCK_TEST_LONG").is_some();
    let points = if all { &POINTS[..] } else { &["admitted:2", "journalled:3", "sent:2"] };
    for point in points {
        let redis = Redis::start(&[]);
        let store = format!("[store]\nkind = \"redis\"\nurl = \"redis://{}\"", redis.at);
        let more = format!("{store}\nclaim_deadline = \"1s\"\n[gate]\nclaim_ttl = \"11s\"");
        let plan = Plan { opens_in_ms: 3_500, ..plan(more) };
        let mut fleet = Fleet::set(plan);
        fleet.edges = vec![fleet.edge_that_ends(0, point), fleet.edge(1)];
        fleet.edges[1].resume();
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let _end = End(&over);
            buyers(scope, fleet.edges[0].at, "u", &over);
            fleet.edges[0].ends_killed(point);
            buyers(scope, fleet.edges[1].at, "v", &over);
            fleet.edges[0] = fleet.edge(0);
            for edge in &fleet.edges {
                is_over(edge, point);
            }
        });
        until("the shop is idle", || fleet.stage.shop.stats().in_flight == 0);
        let shop = fleet.stage.shop.stats();
        assert!(shop.orders <= STOCK && shop.users_twice == 0, "{point}: {} orders", shop.orders);
        fleet.audit(0..2);
    }
}
