//! The mock shop: stock, errors, books, and that it knows nothing of who stands in front of it.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::thread;

use penstock::shop::{Settings, StockCheck, Style};

use super::client::{Answer, get, order, order_bytes, post, quick, send, start, until};

fn stock(units: u64) -> BTreeMap<String, u64> {
    BTreeMap::from([("default".to_owned(), units)])
}

/// Ten buyers of one unit, all of whom the shop has looked up before the first one is sold to.
fn ten_at_once(check: StockCheck, units: u64) -> (Vec<u16>, penstock::shop::Stats) {
    let shop = start(Settings { stock_check: check, stock: stock(units), ..quick() });
    let at = shop.address();
    post(at, "/_shop/hold");
    let buyers: Vec<_> = (0..10)
        .map(|i| thread::spawn(move || order(at, &format!("u{i}"), "k", "{}").unwrap().status))
        .collect();
    until("all ten have been looked up", || {
        let stats = shop.stats();
        stats.in_gap + stats.sold_out == 10
    });
    post(at, "/_shop/release");
    let statuses = buyers.into_iter().map(|buyer| buyer.join().unwrap()).collect();
    (statuses, shop.stats())
}

#[test]
fn naive_oversells_when_many_look_before_one_takes() {
    let (statuses, stats) = ten_at_once(StockCheck::Naive, 3);
    assert_eq!(statuses, [201; 10]);
    assert_eq!((stats.orders, stats.oversold(), stats.stock["default"].left), (10, 7, -7));
    assert_eq!(stats.in_flight_max, 10);
}

#[test]
fn atomic_sells_what_there_is() {
    let (statuses, stats) = ten_at_once(StockCheck::Atomic, 3);
    assert_eq!(statuses.iter().filter(|s| **s == 201).count(), 3);
    assert_eq!(statuses.iter().filter(|s| **s == 409).count(), 7);
    assert_eq!((stats.orders, stats.sold_out, stats.oversold()), (3, 7, 0));
    assert_eq!((stats.posts, stats.posts_ended()), (10, 10));
}

#[test]
fn pages_are_the_same_for_a_city_and_are_counted() {
    let shop = start(quick());
    let at = shop.address();
    let paris = get(at, "/activity/8848?city=paris");
    let again = get(at, "/activity/8848?city=paris");
    assert_eq!((paris.status, &paris.body), (200, &again.body));
    assert_ne!(paris.body, get(at, "/activity/8848?city=rome").body);
    let by_cookie = "GET /activity/8848 HTTP/1.1\r\nHost: s\r\nCookie: city_id=rome\r\nConnection: close\r\n\r\n";
    assert_eq!(send(at, by_cookie).unwrap().body, get(at, "/activity/8848?city=rome").body);
    assert!(paris.head.contains("set-cookie: visit=1"));
    assert!(!again.head.contains("set-cookie"));
    assert_eq!(get(at, "/static/shop.css").status, 200);
    assert_eq!(get(at, "/nothing").status, 404);
    let stats = shop.stats();
    assert_eq!((stats.pages, stats.assets, stats.others), (5, 1, 1));
}

#[test]
fn both_styles_say_the_same() {
    let said = |style| {
        let shop =
            start(Settings { style, stock: stock(1), stock_check: StockCheck::Atomic, ..quick() });
        let at = shop.address();
        let ask = |user: &str, body: &str| order(at, user, "k", body).unwrap();
        [ask("a", "{}"), ask("b", "{}"), ask("", "{}"), ask("c", "no json")]
            .map(|Answer { status, body, .. }| (status, body))
    };
    let status = said(Style::Status);
    assert_eq!(status[0], (201, r#"{"order":"S0000001"}"#.to_owned()));
    assert_eq!(status[1], (409, r#"{"error":"sold_out"}"#.to_owned()));
    assert_eq!((status[2].0, status[3].0), (401, 400));
    let code = said(Style::Code);
    let sold = r#"{"code":0,"msg":"ok","data":{"orderNo":"S0000001"}}"#;
    assert_eq!(code[0], (200, sold.to_owned()));
    assert_eq!(code[1], (200, r#"{"code":1001,"msg":"sold_out","data":null}"#.to_owned()));
    assert!(code[2].1.contains("1401") && code[3].1.contains("1400"));
}

#[test]
fn pools_and_units_are_read_from_the_order() {
    let pools = BTreeMap::from([("1001".to_owned(), 5), ("1002".to_owned(), 1)]);
    let shop = start(Settings { stock: pools, pool_at: "/sku".to_owned(), ..quick() });
    let at = shop.address();
    let status = |body: &str| order(at, "u", "k", body).unwrap().status;
    assert_eq!(status(r#"{"sku":1001,"units":3}"#), 201);
    assert_eq!(status(r#"{"sku":"1001","units":3}"#), 409);
    assert_eq!(status(r#"{"sku":"1002"}"#), 201);
    assert_eq!(status(r#"{"sku":"1003"}"#), 404);
    assert_eq!(status(r#"{"sku":"1001","units":0}"#), 400);
    let stats = shop.stats();
    assert_eq!((stats.orders, stats.units, stats.users_twice), (2, 4, 1));
    assert_eq!((stats.stock["1001"].left, stats.stock["1002"].left), (2, 0));
    assert_eq!((stats.posts, stats.posts_ended()), (5, 5));
}

#[test]
fn the_error_model_ends_every_order_in_one_of_its_ways() {
    let shop = start(Settings {
        stock_check: StockCheck::None,
        fail_permille: 250,
        error_permille: 250,
        drop_permille: 250,
        seed: 5,
        ..quick()
    });
    let at = shop.address();
    let heard: Vec<Option<u16>> =
        (0..200).map(|i| order(at, &format!("u{i}"), "k", "{}").map(|a| a.status)).collect();
    let count = |status: Option<u16>| heard.iter().filter(|s| **s == status).count() as u64;
    let stats = shop.stats();
    assert_eq!(count(Some(409)), stats.declined);
    assert_eq!(count(Some(500)), stats.errors_before + stats.errors_after);
    assert_eq!(count(None), stats.dropped_before + stats.dropped_after);
    assert_eq!(count(Some(201)) + stats.errors_after + stats.dropped_after, stats.orders);
    assert!(
        [stats.errors_before, stats.errors_after, stats.dropped_before, stats.dropped_after]
            .iter()
            .all(|n| *n > 0)
    );
    assert_eq!((stats.posts, stats.posts_ended(), stats.in_flight), (200, 200, 0));
}

#[test]
fn the_same_seed_makes_the_same_errors() {
    let run = |seed| {
        let shop = start(Settings { error_permille: 300, drop_permille: 300, seed, ..quick() });
        let at = shop.address();
        (0..40).map(|_| order(at, "u", "k", "{}").map(|a| a.status)).collect::<Vec<_>>()
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

#[test]
fn a_repeated_key_makes_two_orders_unless_the_shop_honours_it() {
    let bodies = |idempotent| {
        let shop = start(Settings { idempotent, ..quick() });
        let ask = || order(shop.address(), "u", "the-key", "{}").unwrap().body;
        (ask(), ask(), shop.stats().orders)
    };
    let (first, second, orders) = bodies(false);
    assert!(first != second && orders == 2);
    let (first, second, orders) = bodies(true);
    assert!(first == second && orders == 1);
}

#[test]
fn an_order_is_made_although_its_client_has_left() {
    let shop = start(quick());
    let at = shop.address();
    post(at, "/_shop/hold");
    let mut client = TcpStream::connect(at).unwrap();
    client.write_all(order_bytes("u", "k", "{}").as_bytes()).unwrap();
    until("it is on its way", || shop.stats().in_gap == 1);
    drop(client);
    post(at, "/_shop/release");
    until("it is made", || shop.stats().orders == 1);
}

#[test]
fn too_many_at_once_are_told_so() {
    let shop = start(Settings { workers: 1, queue_max: 1, ..quick() });
    let at = shop.address();
    post(at, "/_shop/hold");
    let waiting: Vec<_> = (0..2)
        .map(|i| thread::spawn(move || order(at, &format!("u{i}"), "k", "{}").unwrap().status))
        .collect();
    until("both are inside", || shop.stats().in_flight == 2);
    assert_eq!(order(at, "u9", "k", "{}").unwrap().status, 503);
    post(at, "/_shop/release");
    assert!(waiting.into_iter().all(|w| w.join().unwrap() == 201));
    assert_eq!(shop.stats().busy, 1);
}

#[test]
fn the_books_can_be_read_cancelled_and_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("orders.jsonl");
    let shop = start(Settings { log: Some(log.clone()), stock: stock(2), ..quick() });
    let at: SocketAddr = shop.address();
    order(at, "a", "key-a", "{}").unwrap();
    order(at, "b", "key,b", "{}").unwrap();
    let csv = get(at, "/_shop/orders.csv").body;
    let rows: Vec<(&str, &str)> = csv.lines().filter_map(|row| row.rsplit_once(',')).collect();
    assert_eq!(rows[0], ("order,user,pool,units,key,admission,status", "received_ms"));
    assert_eq!(rows[1].0, "S0000001,a,default,1,key-a,,confirmed");
    assert_eq!(rows[2].0, "S0000002,b,default,1,\"key,b\",,confirmed");
    assert!(rows[1].1.parse::<u64>().unwrap() <= rows[2].1.parse().unwrap(), "{csv}");

    let cancelled = post(at, "/_shop/cancel?n=1").body;
    assert!(cancelled.contains("S0000002") && cancelled.lines().count() == 1);
    assert_eq!(post(at, "/_shop/cancel?n=x").status, 400);
    let stats: penstock::shop::Stats = serde_json::from_str(&get(at, "/_shop/stats").body).unwrap();
    assert_eq!((stats.orders, stats.cancelled, stats.stock["default"].left), (2, 1, 1));
    assert_eq!(get(at, "/_shop/orders").body.lines().count(), 2);

    post(at, "/_shop/reset");
    let stats = shop.stats();
    assert_eq!((stats.orders, stats.posts, stats.stock["default"].left), (0, 0, 2));
    let text = std::fs::read_to_string(log).unwrap();
    let events: Vec<String> = text
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["event"].to_string())
        .collect();
    assert_eq!(events, ["\"confirmed\"", "\"confirmed\"", "\"cancelled\"", "\"reset\""]);
}

#[test]
fn a_reset_gives_up_what_is_under_way() {
    let shop = start(quick());
    let at = shop.address();
    post(at, "/_shop/hold");
    let buyer = thread::spawn(move || order(at, "u", "k", "{}").unwrap().status);
    until("it is on its way", || shop.stats().in_gap == 1);
    post(at, "/_shop/reset");
    post(at, "/_shop/release");
    assert_eq!(buyer.join().unwrap(), 503);
    let stats = shop.stats();
    assert_eq!((stats.orders, stats.in_flight, stats.in_gap), (0, 0, 0));
}
