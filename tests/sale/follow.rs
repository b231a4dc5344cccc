//! The shop's own stock number leads: whatever kind of key it is, whatever happens to it, and beside an
//! old gate that sells from the same key.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::Value;

use crate::redis::Redis;
use crate::rig::{Edge, Plan, SALE, Stage, buy, order, reason, until};

/// A shop that counts down its key with each order, as shops do, and says 410 where nothing is left.
struct Shop {
    at: SocketAddr,
    sold: Arc<AtomicU64>,
    ends: Arc<AtomicBool>,
}

impl Shop {
    fn start(redis: SocketAddr, key: &'static str) -> Shop {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let at = listener.local_addr().expect("an address");
        let shop = Shop { at, sold: Arc::default(), ends: Arc::default() };
        let (sold, ends) = (shop.sold.clone(), shop.ends.clone());
        std::thread::spawn(move || {
            for client in listener.incoming() {
                if ends.load(Ordering::Relaxed) {
                    return;
                }
                let sold = sold.clone();
                std::thread::spawn(move || {
                    let Ok(mut client) = client else { return };
                    let Some(head) = request(&mut client) else { return };
                    let (status, body) = if head.starts_with("GET ") {
                        (
                            "200 OK",
                            format!("{{\"data\":{{\"left\":\"{}\"}}}}", say(redis, &["GET", key])),
                        )
                    } else if take(redis, key) {
                        sold.fetch_add(1, Ordering::Relaxed);
                        ("201 Created", "{}".to_owned())
                    } else {
                        ("410 Gone", "{}".to_owned())
                    };
                    let text = format!(
                        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
                         Connection: close\r\n\r\n{body}",
                        body.len()
                    );
                    let _ = client.write_all(text.as_bytes());
                });
            }
        });
        shop
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.at);
    }
}

/// A request, with its body read.
fn request(client: &mut TcpStream) -> Option<String> {
    let mut text = Vec::new();
    let mut bytes = [0; 4096];
    loop {
        let n = client.read(&mut bytes).ok().filter(|n| *n > 0)?;
        text.extend_from_slice(&bytes[..n]);
        let said = String::from_utf8_lossy(&text).into_owned();
        let Some((head, body)) = said.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|l| {
            l.to_ascii_lowercase().strip_prefix("content-length: ").map(str::to_owned)
        });
        if body.len() >= length.and_then(|n| n.parse().ok()).unwrap_or(0) {
            return Some(head.to_owned());
        }
    }
}

/// What a purchase script of the old kind does.
fn take(redis: SocketAddr, key: &str) -> bool {
    let script = "if tonumber(redis.call('GET',KEYS[1])) > 0 then \
                  redis.call('DECR',KEYS[1]) return 'yes' end return 'no'";
    say(redis, &["EVAL", script, "1", key]) == "yes"
}

/// Says one command; the answer's text.
fn say(redis: SocketAddr, words: &[&str]) -> String {
    let mut stream = TcpStream::connect(redis).expect("a connection");
    let mut text = format!("*{}\r\n", words.len());
    words.iter().for_each(|w| text += &format!("${}\r\n{w}\r\n", w.len()));
    stream.write_all(text.as_bytes()).expect("sent");
    stream.write_all(b"*1\r\n$4\r\nQUIT\r\n").expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let mut lines = answer.lines();
    let first = lines.next().unwrap_or_default();
    if first.starts_with('$') { lines.next().unwrap_or_default() } else { &first[1..] }.to_owned()
}

/// A pool as an operator sees it.
fn pool(edge: &Edge, name: &str) -> Value {
    let sale = edge.sale();
    let pools = sale["pools"].as_array().expect("pools").clone();
    pools.into_iter().find(|pool| pool["name"] == name).expect("the pool")
}

fn is_known(edge: &Edge, name: &str) -> bool {
    pool(edge, name)["shop"]["known"] == true
}

fn stage(redis: &Redis, shop: &Shop, pools: &str, more: &str) -> Stage {
    Stage::set(Plan {
        pools: Some(pools.to_owned()),
        more: format!("[shop]\nredis_url = \"redis://{}\"\npoll = \"50ms\"\n{more}", redis.at),
        activity: "order = { body = \"json\", pool = \"/skuId\" }".to_owned(),
        shop_at: Some(shop.at),
        ..Plan::default()
    })
}

#[test]
fn the_number_is_read_whatever_kind_of_key_it_is() {
    let redis = Redis::start(&[]);
    for words in [
        &["SET", "stock:plain:8848", "7"][..],
        &["HSET", "stock:hash", "left", "6"],
        &["RPUSH", "stock:list", "a", "b", "c"],
        &["SADD", "stock:set", "a", "b"],
        &["SET", "behind-http", "9"],
        &["SET", "stock:minus", "-3"],
        &["SET", "stock:odd", "1"],
        &["SET", "stock:none", "1"],
    ] {
        redis.say(words);
    }
    let shop = Shop::start(redis.at, "behind-http");
    let pools = format!(
        "pool.plain = {{ stock = {{ redis = \"stock:{{pool}}:{{activity}}\" }} }}\n\
         pool.hash = {{ stock = {{ redis = \"stock:{{pool}}\", field = \"left\" }} }}\n\
         pool.list = {{ stock = {{ redis = \"stock:{{pool}}\" }} }}\n\
         pool.set = {{ stock = {{ redis = \"stock:{{pool}}\" }} }}\n\
         pool.web = {{ stock = {{ http = \"http://{}/stock/{{pool}}\", at = \"/data/left\" }} }}\n\
         pool.minus = {{ stock = {{ redis = \"stock:{{pool}}\" }} }}\n\
         pool.odd = {{ stock = {{ redis = \"stock:{{pool}}\" }} }}\n\
         pool.none = {{ stock = {{ redis = \"stock:{{pool}}\" }} }}",
        shop.at
    );
    let stage = stage(&redis, &shop, &pools, "");
    let edge = stage.edge();
    until("T0", || edge.sale()["state"] == "available");
    for (name, left) in [("plain", 7), ("hash", 6), ("list", 3), ("set", 2), ("web", 9)] {
        until(name, || pool(&edge, name)["stock"] == left && is_known(&edge, name));
    }
    until("a negative number is 0, and closes", || pool(&edge, "minus")["sold_out"] == true);
    // Neither says sold out, nor lets anybody in; and it is said aloud.
    redis.say(&["SET", "stock:odd", "abc"]);
    redis.say(&["DEL", "stock:none"]);
    until("both are lost", || !is_known(&edge, "odd") && !is_known(&edge, "none"));
    for name in ["odd", "none"] {
        assert!(!is_known(&edge, name));
        assert_eq!(pool(&edge, name)["sold_out"], false);
        let body = format!("{{\"skuId\":\"{name}\"}}");
        let answer = order(edge.at, name, name, &body).expect("an answer");
        assert_eq!((answer.status, reason(&answer)), (503, "unavailable"));
    }
    let ready = edge.verb(&["ctl", "ready"]);
    assert!(!ready.status.success());
    assert!(edge.metric("penstock_shop_read_errors_total") > 0.0);
    let known = |name: &str| {
        edge.metric(&format!(
            "penstock_sale_shop_stock_known{{sale=\"shop/{SALE}\",pool=\"{name}\"}}"
        ))
    };
    assert_eq!((known("plain"), known("odd"), known("none")), (1.0, 0.0, 0.0));
    let log = std::fs::read_to_string(edge.config.with_extension("log")).expect("a log");
    assert!(log.contains("\"abc\\\"") || log.contains("abc"), "{log}");
    assert!(log.contains("there is no such key"), "{log}");
    // What was odd is well again; what was well is lost.
    redis.say(&["SET", "stock:odd", "1"]);
    redis.say(&["DEL", "stock:plain:8848"]);
    redis.say(&["DEL", "stock:list"]);
    until("odd is a number", || is_known(&edge, "odd"));
    until("plain is lost", || !is_known(&edge, "plain"));
    until("a list without members is empty", || pool(&edge, "list")["sold_out"] == true);
    assert_eq!(pool(&edge, "plain")["sold_out"], false);
    let answer = order(edge.at, "eve", "eve", "{\"skuId\":\"plain\"}").expect("an answer");
    assert_eq!(reason(&answer), "unavailable");
}

#[test]
fn a_shop_that_is_not_heard_lets_nobody_in_and_closes_nothing() {
    let redis = Redis::start(&[]);
    redis.say(&["SET", "stock", "5"]);
    let shop = Shop::start(redis.at, "stock");
    let stage = stage(&redis, &shop, "pool.a = { stock = { redis = \"stock\" } }", "");
    let edge = stage.edge();
    until("it is read", || edge.sale()["state"] == "available" && is_known(&edge, "a"));
    let body = "{\"skuId\":\"a\"}";
    assert_eq!(reason(&order(edge.at, "ann", "ann", body).expect("an answer")), "admitted");
    let pid = redis.say(&["CONFIG", "GET", "dir"]);
    assert!(pid.starts_with('*'));
    redis.say(&["CLIENT", "PAUSE", "4000", "ALL"]);
    until("its number is too old", || !is_known(&edge, "a"));
    let answer = order(edge.at, "bob", "bob", body).expect("an answer");
    assert_eq!((answer.status, reason(&answer)), (503, "unavailable"));
    until("nobody is told to buy", || edge.availability()["buyable"] == false);
    assert_eq!(edge.availability()["state"], "available");
    until("it is read again", || is_known(&edge, "a"));
    assert_eq!(reason(&order(edge.at, "bob", "bob", body).expect("an answer")), "admitted");
    until("both are counted once", || pool(&edge, "a")["stock"] == 5);
}

/// Both sell from one key: what the shop counts down is the truth.
#[test]
fn beside_an_old_gate_no_more_is_sold_than_there_is() {
    const STOCK: u64 = 60;
    let redis = Redis::start(&[]);
    redis.say(&["SET", "stock", &STOCK.to_string()]);
    let shop = Shop::start(redis.at, "stock");
    let stage = Stage::set(Plan {
        pools: Some("stock = { redis = \"stock\" }".to_owned()),
        more: format!("[shop]\nredis_url = \"redis://{}\"\npoll = \"50ms\"\n", redis.at),
        shop_at: Some(shop.at),
        ..Plan::default()
    });
    let edge = stage.opened();
    until("it is read", || edge.sale()["state"] == "available" && is_known(&edge, "default"));
    let others = AtomicU64::new(0);
    let next = AtomicU64::new(0);
    let is_over = || edge.availability()["state"] == "sold_out";
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over() {
                others.fetch_add(u64::from(take(redis.at, "stock")), Ordering::Relaxed);
                std::thread::sleep(std::time::Duration::from_millis(40));
            }
        });
        for _ in 0..4 {
            scope.spawn(|| {
                while !is_over() {
                    let user = format!("u{}", next.fetch_add(1, Ordering::Relaxed));
                    drop(buy(edge.at, &user));
                    std::thread::sleep(std::time::Duration::from_millis(10));
                }
            });
        }
    });
    let (ours, others) = (shop.sold.load(Ordering::Relaxed), others.load(Ordering::Relaxed));
    assert_eq!((ours + others, say(redis.at, &["GET", "stock"])), (STOCK, "0".to_owned()));
    assert!(ours > 0 && others > 0, "{ours} through us, {others} through the old gate");
    let sale = edge.sale();
    assert_eq!((&sale["confirmed"], &sale["held"]), (&ours.into(), &0.into()));
}
