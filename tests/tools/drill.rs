//! The drill against the mock shop: whatever happens, its counts are the shop's.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::thread;

use penstock::drill::{self, Opens, Plan, Report, Settings, Shape, Target};
use penstock::shop::{self, Running, StockCheck};

use super::client::{post, quick, start, until};

/// A small crowd that comes at once and does not look at a flag.
fn crowd(at: SocketAddr, people: u32) -> Settings {
    let target: Target = format!("http://{at}/activity/8848").parse().unwrap();
    let mut settings = Settings::new(target);
    settings.paths.availability = None;
    settings.opens = Opens::Asked { or_in_ms: 200 };
    settings.shape = Shape {
        people,
        spread_ms: 200,
        double_tap_permille: 0,
        watch_permille: 0,
        ..Shape::default()
    };
    settings.manners.backoff_ms = 20;
    settings.timeout_ms = 30_000;
    settings
}

fn run(settings: Settings) -> Report {
    drill::run(settings, |_| {}).unwrap()
}

fn total(counts: &BTreeMap<String, u64>) -> u64 {
    counts.values().sum()
}

/// Every request ends in one way, everyone comes home with one thing.
fn assert_adds_up(report: &Report) {
    for kind in [report.page, report.poll, report.purchase] {
        assert_eq!(kind.sent, kind.answered + kind.no_answer + kind.cut);
    }
    let heard = total(&report.heard) + total(&report.heard_by_bots);
    assert_eq!(heard, report.purchase.answered);
    let silent = report.page.no_answer + report.poll.no_answer + report.purchase.no_answer;
    assert_eq!(total(&report.no_answer), silent);
    assert_eq!(total(&report.people_fates), report.people);
    assert_eq!(total(&report.bot_fates), report.bots);
    let looked = report.page.answered + report.poll.answered;
    assert_eq!(report.statuses.values().sum::<u64>(), looked);
    assert!(report.text().lines().count() <= drill::report::LINES_MAX);
}

fn assert_agrees_with(report: &Report, shop: &Running) {
    let stats = shop.stats();
    assert_eq!(report.page.sent + report.probes, stats.pages);
    assert_eq!(report.purchase.sent, stats.posts);
    assert_eq!(stats.posts_ended(), stats.posts);
}

#[test]
fn a_crowd_before_an_exact_shop() {
    let shop = start(shop::Settings { stock_check: StockCheck::Atomic, ..quick() });
    let report = run(crowd(shop.address(), 300));
    assert_adds_up(&report);
    assert_agrees_with(&report, &shop);
    assert_eq!((report.sold, report.people_fates["won"]), (100, 100));
    assert_eq!((report.people_fates["sold_out"], report.heard["shop_sold_out"]), (200, 200));
    assert_eq!((report.users_twice, report.early, report.errors()), (0, 0, 0));
    assert!(report.own_addresses);
    assert_eq!(report.latency_ms["winner"].count, 100);
    assert_eq!(report.latency_ms["loser"].count, 200);
    assert!(report.first_win_ms.is_some() && report.first_sold_out_ms.is_some());
}

#[test]
fn a_crowd_before_a_shop_that_fails_in_every_way() {
    let shop = start(shop::Settings {
        stock_check: StockCheck::Atomic,
        fail_permille: 150,
        error_permille: 150,
        drop_permille: 150,
        ..quick()
    });
    let mut settings = crowd(shop.address(), 300);
    settings.shape.double_tap_permille = 500;
    settings.shape.bots = 5;
    settings.manners.bot_lead_ms = 100;
    settings.manners.bot_every_ms = 20;
    let report = run(settings);
    assert_adds_up(&report);
    assert_agrees_with(&report, &shop);
    let stats = shop.stats();
    assert_eq!(
        report.no_answer["closed_without_answer"],
        stats.dropped_before + stats.dropped_after
    );
    // Nobody heard of the orders whose answers were lost.
    assert_eq!(report.sold, stats.orders - stats.errors_after - stats.dropped_after);
    assert!(total(&report.heard_by_bots) > 0);
}

#[test]
fn two_taps_make_two_orders_at_a_shop_without_a_gate() {
    let shop = start(shop::Settings { stock_check: StockCheck::None, ..quick() });
    let mut settings = crowd(shop.address(), 40);
    settings.shape.double_tap_permille = 1_000;
    let report = run(settings);
    assert_eq!((report.sold, report.users_twice), (80, 40));
    assert_eq!(shop.stats().users_twice, 40);
}

#[test]
fn a_shop_that_stalls_shows_in_latencies_from_the_due_moment() {
    let shop = start(shop::Settings { workers: 100, ..quick() });
    let at = shop.address();
    post(at, "/_shop/hold");
    let settings = crowd(at, 50);
    let plan = Plan::new(&settings.shape, 200);
    let acts_us = |f: fn(std::iter::Map<_, _>) -> Option<u64>| {
        f(plan.people.iter().map(|p: &drill::plan::Person| p.acts_us)).unwrap()
    };
    let between_ms = (acts_us(|all| all.max()) - acts_us(|all| all.min())) as f64 / 1_000.0;
    let drill = thread::spawn(move || run(settings));
    // The last one has come: the first one has waited since it was due, an open loop's whole stall.
    until("everyone waits in the shop", || shop.stats().in_gap == 50);
    post(at, "/_shop/release");
    let report = drill.join().unwrap();
    assert_eq!(report.latency_ms["winner"].count, 50);
    let longest_ms = report.latency_ms["winner"].max;
    assert!(longest_ms >= between_ms, "{longest_ms} ms of at least {between_ms} ms");
}

#[test]
fn requests_that_wait_for_a_connection_count_from_their_due_moment() {
    let shop = start(shop::Settings { workers: 100, ..quick() });
    let at = shop.address();
    post(at, "/_shop/hold");
    let mut settings = crowd(at, 20);
    settings.connections_max = 1;
    let drill = thread::spawn(move || run(settings));
    until("the first one holds the only connection", || shop.stats().in_gap == 1);
    post(at, "/_shop/release");
    let report = drill.join().unwrap();
    assert_adds_up(&report);
    assert_eq!(report.sold, 20);
    // Every request has its lateness recorded, those that had to wait included.
    assert_eq!(report.latency_ms["lag"].count, 40);
    assert!(report.connections >= 20, "each address has a connection of its own, one at a time");
}

#[test]
fn silence_is_a_latency_too() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut settings = crowd(listener.local_addr().unwrap(), 5);
    settings.paths.purchase = None;
    settings.timeout_ms = 100;
    let report = run(settings);
    drop(listener);
    assert_adds_up(&report);
    assert_eq!((report.page.no_answer, report.no_answer["timeout"]), (5, 5));
    assert_eq!(report.latency_ms["page"].count, 5);
    assert!(report.latency_ms["page"].p50 >= 99.0);
}

#[test]
fn an_end_in_the_middle_leaves_nothing_uncounted() {
    let shop = start(shop::Settings { workers: 100, ..quick() });
    post(shop.address(), "/_shop/hold");
    let mut settings = crowd(shop.address(), 30);
    settings.duration_max_ms = 1_500;
    let report = run(settings);
    assert_adds_up(&report);
    assert_eq!(report.people_fates["unfinished"], 30);
    assert!(report.purchase.cut > 0);
}

#[test]
fn nobody_there_is_an_error_of_its_own() {
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = drill::run(crowd(gone, 1), |_| {}).unwrap_err();
    assert!(matches!(error, drill::DrillError::Unreachable { .. }), "{error}");
}

#[test]
fn users_pools_and_fields_arrive_as_dressed() {
    let pools = BTreeMap::from([("1001".to_owned(), 10), ("1002".to_owned(), 10)]);
    let shop = start(shop::Settings { stock: pools, ..quick() });
    let mut settings = crowd(shop.address(), 20);
    settings.dress.pools = vec!["1001".to_owned(), "1002".to_owned()];
    settings.dress.body = r#"{"pool":"{pool}","who":"{user}"}"#.to_owned();
    settings.dress.user_prefix = "drill-".to_owned();
    let report = run(settings);
    assert_eq!(report.sold, 20);
    let orders = shop.backend().orders();
    assert!(orders.iter().all(|order| order.ask.user.starts_with("drill-")));
    assert!(orders.iter().all(|order| order.ask.key.is_some()));
    assert_eq!(shop.stats().stock["1001"].left, 0);
    assert_eq!(shop.stats().stock["1002"].left, 0);
}
