//! Leaving HTTP: only where it is allowed, only after the shop's own 101, and bounded in every way.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::client::{Client, get, until};
use super::node::{Config, Node, Place};
use super::origin::{Conn, Origin};

fn place(origin: &Origin, upgrade: &str, more: &str) -> Place {
    let site = format!(
        "hosts = [\"shop.example\"]\n\
         upgrade = {{ paths = [\"/live\", \"/socket.io/\"], protocols = [\"websocket\", \"shop/2\"]{upgrade} }}\n"
    );
    Place::new(origin.address, &Config { site, more: more.to_owned(), ..Config::default() })
}

fn node(origin: &Origin) -> Node {
    place(origin, "", "").start()
}

/// The handshake of RFC 6455 1.3.
fn handshake(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: shop.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Protocol: chat\r\n\r\n"
    )
}

const SWITCHING: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
    Connection: keep-alive, Upgrade\r\nKeep-Alive: timeout=5\r\nSec-WebSocket-Protocol: chat\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
const PLAIN: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nplain";

/// Sends what comes back, until the end.
fn echo(conn: &mut dyn Conn) {
    let mut bytes = [0; 4096];
    while let Ok(count @ 1..) = conn.read(&mut bytes) {
        if conn.write_all(&bytes[..count]).is_err() {
            return;
        }
    }
}

/// Switches where it is asked to, and echoes then; answers everything else by 200.
fn echoing() -> Origin {
    Origin::start(|head, conn| {
        if !head.contains("upgrade: websocket\r\n") {
            return conn.write_all(PLAIN.as_bytes()).is_ok();
        }
        // Whatever the client sent behind its request must not be here yet.
        conn.patience(Duration::from_millis(150));
        let early = conn.read(&mut [0; 64]);
        assert!(early.is_err(), "bytes before the 101: {early:?}");
        conn.patience(super::client::PATIENCE);
        let _ = conn.write_all([SWITCHING, "hello"].concat().as_bytes());
        echo(conn);
        false
    })
}

fn switched(client: &mut Client) {
    let answer = client.answer_to(true).expect("an answer");
    assert_eq!(answer.status, 101);
    assert_eq!(answer.field("upgrade"), Some("websocket"));
    assert_eq!(answer.field("connection"), Some("upgrade"));
    assert_eq!(answer.field("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    assert_eq!(answer.field("sec-websocket-protocol"), Some("chat"));
    assert_eq!((answer.field("content-length"), answer.field("keep-alive")), (None, None));
    assert_eq!(answer.field("transfer-encoding"), None);
}

fn opened(node: &Node) -> Client {
    let mut client = node.client();
    client.send(handshake("/live"));
    switched(&mut client);
    assert_eq!(client.raw(5).as_deref(), Some(&b"hello"[..]), "what came behind the 101");
    client
}

#[test]
fn bytes_go_both_ways_after_the_shop_s_101_and_not_before() {
    let origin = echoing();
    let node = node(&origin);
    let mut client = node.client();
    // An ordinary request first, on the same connection.
    assert_eq!(client.ask(get("/cart")).body, "plain");
    let early = b"GET /activity/8848/orders HTTP/1.1\r\n\x00\xff";
    client.send([handshake("/live?room=1").as_bytes(), early].concat());
    switched(&mut client);
    assert_eq!(client.raw(5).as_deref(), Some(&b"hello"[..]));
    assert_eq!(client.raw(early.len()).as_deref(), Some(&early[..]), "raw, not as a request");
    let large: Vec<u8> = (0..3_000_000u32).map(|n| n.to_le_bytes()[0] ^ 0x5a).collect();
    let (sent, mut writer) = (large.clone(), client.copy());
    let sending = std::thread::spawn(move || writer.send(sent));
    assert!(client.raw(large.len()).as_deref() == Some(&large[..]));
    sending.join().unwrap();
    // The client ends, the shop ends after it.
    client.shut();
    assert!(client.is_closed());
    let head = origin.heads().pop().unwrap();
    assert!(head.starts_with("GET /live?room=1 HTTP/1.1\r\n"), "{head}");
    for line in [
        "upgrade: websocket",
        "connection: upgrade",
        "sec-websocket-version: 13",
        "via: 1.1 penstock",
    ] {
        assert!(head.contains(&format!("{line}\r\n")), "{line} in {head}");
    }
    assert!(head.contains("x-forwarded-for: 127.0.0.1\r\n"), "{head}");
    until("the end is counted", || node.metric("penstock_upgrades_total{event=\"ended\"}") == 1.0);
    assert_eq!(node.metric("penstock_upgrades_total{event=\"begun\"}"), 1.0);
    assert_eq!(node.metric("penstock_closes_total{reason=\"upgraded\"}"), 1.0);
    assert!(node.metric("penstock_upgrade_bytes_total{to=\"client\"}") > 3e6);
    assert!(node.metric("penstock_upgrade_bytes_total{to=\"upstream\"}") > 3e6);
}

#[test]
fn elsewhere_upgrade_is_ignored_and_not_forwarded() {
    let origin = echoing();
    let node = node(&origin);
    let mut client = node.client();
    let h2c = "GET /live HTTP/1.1\r\nHost: shop.example\r\nUpgrade: h2c\r\nConnection: Upgrade, \
        HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n";
    let no_key = handshake("/live").replace("Sec-WebSocket-Key", "X-Key");
    let post = handshake("/live").replace("GET", "POST");
    for request in [
        handshake("/cart"),
        handshake("/live/x"),
        handshake("/socket.io/%2e%2e/activity/8848/orders"),
        handshake("/socket.io/../activity/8848/orders"),
        h2c.to_owned(),
        no_key,
        post,
    ] {
        // What stands behind it is the next request, as ever.
        client.send(request.clone() + &get("/next"));
        let answer = client.answer().expect("an answer");
        assert_eq!((answer.status, answer.body.as_str()), (200, "plain"), "{request}");
        assert_eq!(client.answer().expect("the next answer").body, "plain");
    }
    for head in origin.heads() {
        let words = ["upgrade", "http2-settings", "connection: "];
        assert!(
            words.iter().all(|word| !head.to_lowercase().contains(&format!("\r\n{word}"))),
            "{head}"
        );
    }
    assert_eq!(node.metric("penstock_upgrades_total{event=\"begun\"}"), 0.0);
}

#[test]
fn the_routes_of_a_sale_are_answered_here_whatever_upgrade_says() {
    let origin = echoing();
    let site = "hosts = [\"shop.example\"]\nupgrade = { paths = [\"/\"] }\n".to_owned();
    let node = Place::new(origin.address, &Config { site, ..Config::default() }).start();
    let mut client = node.client();
    client.send(handshake("/activity/8848/availability"));
    assert!(client.answer().expect("an answer").json()["state"].is_string());
    assert_eq!(client.ask(handshake("/activity/8848")).body, "plain");
    assert_eq!(client.ask(handshake("/activity/8848/orders")).body, "plain", "GET is proxied");
    let post = handshake("/activity/8848/orders").replace("GET", "POST");
    assert_eq!(client.ask(post).reason(), "login_required", "the gate");
    // A path that somebody may read as a purchase is no way round it.
    for path in ["/activity/8848/orders/", "/ACTIVITY/8848/orders", "/activity/8848/orders;x"] {
        assert_eq!(client.ask(handshake(path)).body, "plain", "{path}");
    }
    assert!(origin.heads().iter().all(|head| !head.contains("upgrade:")));
    // All below `/` may, but for that.
    client.send(handshake("/any/where"));
    switched(&mut client);
}

#[test]
fn an_answer_that_is_no_101_leaves_http_as_it_was() {
    let origin = Origin::start(|head, conn| {
        let answer = if head.contains("upgrade: websocket") {
            "HTTP/1.1 426 Upgrade Required\r\nContent-Length: 2\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nno"
        } else {
            PLAIN
        };
        conn.write_all(answer.as_bytes()).is_ok()
    });
    let node = node(&origin);
    let mut client = node.client();
    client.send(handshake("/live") + &get("/admin"));
    let answer = client.answer().expect("an answer");
    assert_eq!((answer.status, answer.body.as_str(), answer.closes()), (426, "no", false));
    assert_eq!(client.answer().expect("a request of its own").body, "plain");
    assert_eq!(origin.heads().len(), 2);
    assert!(origin.heads()[1].starts_with("GET /admin HTTP/1.1\r\n"));
    assert!(origin.heads()[1].contains("x-forwarded-for"), "built anew, not relayed");
    assert_eq!(node.metric("penstock_upgrades_total{event=\"refused\"}"), 1.0);
}

#[test]
fn a_101_that_does_not_fit_is_a_bad_gateway() {
    let turn = Arc::new(AtomicUsize::new(0));
    let bad: [String; 5] = [
        SWITCHING.replace("websocket", "h2c"),
        SWITCHING.replace("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", "AAAAAAAAAAAAAAAAAAAAAAAAAAA="),
        SWITCHING.replace("keep-alive, Upgrade", "close"),
        SWITCHING.replace("Keep-Alive: timeout=5", "Content-Length: 5"),
        SWITCHING.replace("Upgrade: websocket\r\n", ""),
    ];
    let count = bad.len();
    let counted = turn.clone();
    let origin = Origin::start(move |head, conn| {
        let answer = match counted.fetch_add(1, Ordering::Relaxed) {
            at if at < count => bad[at].clone(),
            // A 101 that nobody asked for.
            _ if !head.contains("upgrade: websocket") => SWITCHING.to_owned(),
            _ => PLAIN.to_owned(),
        };
        let _ = conn.write_all(answer.as_bytes());
        false
    });
    let node = node(&origin);
    let mut client = node.client();
    for _ in 0..count {
        let answer = client.ask(handshake("/live"));
        assert_eq!((answer.status, answer.reason()), (502, "bad_gateway"));
    }
    assert_eq!(client.ask(get("/cart")).status, 502, "not asked for");
    assert_eq!(node.metric("penstock_upstream_invalid_total"), 6.0);
    assert_eq!(node.metric("penstock_upgrades_total{event=\"begun\"}"), 0.0);
}

#[test]
fn there_are_so_many_and_they_take_no_place_of_ordinary_requests() {
    let origin = echoing();
    let place = place(&origin, ", connections_max = 2", "");
    let text = std::fs::read_to_string(place.config()).unwrap();
    let one = text.replace("outcome = \"status\"", "outcome = \"status\"\nconnections_max = 1");
    std::fs::write(place.config(), one).unwrap();
    let node = place.start();
    let open = [opened(&node), opened(&node)];
    let mut third = node.client();
    let answer = third.ask(handshake("/live"));
    assert_eq!((answer.status, answer.reason()), (503, "overloaded"));
    assert_eq!(third.ask(get("/cart")).body, "plain", "the pool's one connection is free");
    assert_eq!(node.metric("penstock_upgrades_total{event=\"capped\"}"), 1.0);
    drop(open);
    until("a place is free again", || {
        let mut client = node.client();
        client.send(handshake("/live"));
        client.answer_to(true).expect("an answer").status == 101
    });
}

#[test]
fn a_silent_one_is_closed() {
    let origin = echoing();
    let node = place(&origin, ", idle_timeout = \"2s\"", "").start();
    let mut client = opened(&node);
    let began = Instant::now();
    until("it has lived longer than it may be silent", || {
        client.send("still here");
        assert_eq!(client.raw(10).as_deref(), Some(&b"still here"[..]));
        began.elapsed() > Duration::from_secs(3)
    });
    assert!(client.is_closed());
    assert_eq!(node.metric("penstock_closes_total{reason=\"idle_timeout\"}"), 1.0);
}

#[test]
fn a_shop_that_leaves_ends_it() {
    let origin = Origin::start(|_, conn| {
        let _ = conn.write_all([SWITCHING, "hello", "bye"].concat().as_bytes());
        false
    });
    let node = node(&origin);
    let mut client = opened(&node);
    assert_eq!(client.raw(3).as_deref(), Some(&b"bye"[..]));
    assert!(client.raw(1).is_none(), "the end is relayed");
    drop(client);
    until("the end is counted", || node.metric("penstock_upgrades_total{event=\"ended\"}") == 1.0);
}

#[test]
fn one_side_may_end_before_the_other() {
    let origin = Origin::start(|_, conn| {
        let _ = conn.write_all([SWITCHING, "hello"].concat().as_bytes());
        let mut all = Vec::new();
        let _ = conn.read_to_end(&mut all);
        let _ = conn.write_all(&all);
        false
    });
    let node = node(&origin);
    let mut client = opened(&node);
    client.send("all at the end");
    client.shut();
    assert_eq!(client.raw(14).as_deref(), Some(&b"all at the end"[..]));
    assert!(client.is_closed());
}

#[test]
fn a_drain_waits_for_a_silence_and_not_for_ever() {
    let origin = echoing();
    let mut node = place(&origin, "", "[drain]\ntimeout = \"60s\"\n").start();
    let (silent, mut busy) = (opened(&node), opened(&node));
    node.signal(Signal::TERM);
    until("it drains", || node.said("draining"));
    let mut rounds = 0;
    until("the silent one is closed", || {
        busy.send("busy");
        assert_eq!(busy.raw(4).as_deref(), Some(&b"busy"[..]), "one that is in use goes on");
        rounds += 1;
        silent.is_at_end()
    });
    assert!(rounds > 0);
    assert!(busy.is_closed(), "until it is silent");
    // Long before drain.timeout: else the test would not have that patience.
    assert_eq!(node.end(), Some(0));
    assert!(!node.said("cutting what is left"));
}

#[test]
fn what_would_be_http_again_is_refused_by_check() {
    let origin = Origin::mirror();
    for (upgrade, said) in [
        ("paths = [\"/live\"], protocols = [\"h2c\"]", "past every rule"),
        ("paths = [\"/live\"], protocols = [\"HTTP/2.0\"]", "past every rule"),
        ("paths = [\"/live\"], protocols = []", "nothing to upgrade to"),
        ("paths = []", "is empty"),
        ("paths = [\"live\"]", "must be a path"),
        ("paths = [\"/activity/1/orders\"]", "activities"),
        ("paths = [\"/_penstock/live\"]", "never forwarded"),
    ] {
        let site = format!("hosts = [\"shop.example\"]\nupgrade = {{ {upgrade} }}\n");
        let place = Place::new(origin.address, &Config { site, ..Config::default() });
        let output = place.verb(&["check"]);
        let text = String::from_utf8_lossy(&output.stderr).into_owned()
            + &String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(78), "{upgrade}: {text}");
        assert!(text.contains(said), "{upgrade}: {text}");
    }
}
