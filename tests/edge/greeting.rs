//! PROXY headers: who may name the client, what becomes of it, and how everybody else is refused.

use std::time::Duration;

use super::client::{Client, get, until};
use super::node::{Config, Node, Place};
use super::origin::Origin;

fn node(origin: &Origin, proxy_protocol: &str, more: &str) -> Node {
    let listen = format!(
        "[listen.http]\naddress = \"127.0.0.1:0\"\nhealth = \"/health\"\n{proxy_protocol}\n"
    );
    let more = more.to_owned();
    Place::new(origin.address, &Config { listen, more, ..Config::default() }).start()
}

const LISTED: &str = "proxy_protocol = { from = [\"127.0.0.1/32\"] }";

fn v1(client: &str) -> String {
    format!("PROXY TCP4 {client} 10.0.0.1 4000 443\r\n")
}

/// Version 2: `client` and extensions.
fn v2(client: [u8; 4], extensions: &[u8]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0".to_vec();
    header.push(u8::try_from(12 + extensions.len()).expect("short"));
    header.extend(client);
    header.extend([10, 0, 0, 1, 0x0f, 0xa0, 1, 0xbb]);
    header.extend(extensions);
    header
}

/// What the shop was told of the client by a request behind `header`.
fn told(node: &Node, header: &[u8]) -> String {
    let mut client = node.client();
    client.send([header, get("/who").as_bytes()].concat());
    let first = forwarded(&client.answer().expect("an answer").body);
    // The whole connection is the client's.
    assert_eq!(forwarded(&client.ask(get("/again")).body), first);
    first
}

fn forwarded(head: &str) -> String {
    let line = head.lines().find_map(|line| line.strip_prefix("x-forwarded-for: "));
    line.unwrap_or("nobody").to_owned()
}

#[test]
fn a_listed_balancer_names_the_client() {
    let origin = Origin::mirror();
    let node = node(&origin, LISTED, "[trust]\nproxies = [\"203.0.113.0/24\"]\n");
    assert_eq!(told(&node, v1("198.51.100.7").as_bytes()), "198.51.100.7");
    assert_eq!(told(&node, b"PROXY TCP6 2001:db8::7 ::1 1 2\r\n"), "2001:db8::7");
    assert_eq!(told(&node, &v2([198, 51, 100, 8], &[])), "198.51.100.8");
    assert_eq!(
        told(&node, &v2([198, 51, 100, 9], &[4, 0, 2, 7, 7, 0xea, 0, 1, 0])),
        "198.51.100.9"
    );
    // The balancer speaks for itself.
    assert_eq!(told(&node, b"PROXY UNKNOWN\r\n"), "127.0.0.1");
    assert_eq!(told(&node, b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"), "127.0.0.1");
    assert_eq!(node.metric("penstock_proxy_headers_total"), 6.0);
    // A client that is a trusted proxy itself is believed, a stranger is not.
    let says = "GET / HTTP/1.1\r\nHost: shop.example\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n";
    for (peer, chain) in
        [("203.0.113.5", "192.0.2.1, 203.0.113.5"), ("198.51.100.7", "198.51.100.7")]
    {
        let answer = node.client().ask(v1(peer) + says);
        assert_eq!(forwarded(&answer.body), chain, "{peer}");
    }
}

#[test]
fn it_may_come_byte_by_byte_and_not_a_byte_more_is_taken() {
    let origin = Origin::mirror();
    let node = node(&origin, LISTED, "");
    for header in [v1("198.51.100.7").into_bytes(), v2([198, 51, 100, 7], &[1, 0, 1, 9])] {
        let mut client = node.client();
        for byte in &header {
            client.send([*byte]);
            std::thread::sleep(Duration::from_millis(2));
        }
        assert_eq!(forwarded(&client.ask(get("/who")).body), "198.51.100.7");
        // Two requests behind it in one segment.
        let all = [&header[..], get("/one").as_bytes(), get("/two").as_bytes()].concat();
        let mut client = node.client();
        client.send(all);
        for path in ["/one", "/two"] {
            assert!(client.answer().expect("an answer").body.starts_with(&format!("GET {path} ")));
        }
    }
}

#[test]
fn the_named_client_is_who_is_counted() {
    let origin = Origin::mirror();
    let node = node(&origin, LISTED, "[limits]\nconnections_per_address_max = 2\n");
    let mut open: Vec<Client> = Vec::new();
    let mut come = |header: String| {
        let mut client = node.client();
        client.send(header + &get("/health"));
        let came = client.answer().is_some_and(|answer| answer.status == 200);
        open.push(client);
        came
    };
    for n in 0..5 {
        assert!(come(v1(&format!("198.51.100.{n}"))), "another client each");
    }
    assert!(come(v1("198.51.100.1")));
    assert!(!come(v1("198.51.100.1")), "the third of one client");
    for n in 1..=2 {
        assert!(come(format!("PROXY TCP6 2001:db8::{n} ::1 1 2\r\n")));
    }
    assert!(!come("PROXY TCP6 2001:db8::ffff:3 ::1 1 2\r\n".to_owned()), "a /64 is one client");
    assert!(come("PROXY TCP6 2001:db8:0:1::1 ::1 1 2\r\n".to_owned()));
    assert_eq!(node.metric("penstock_closes_total{reason=\"refused\"}"), 2.0);
}

#[test]
fn others_are_refused_counted_and_told_once() {
    let origin = Origin::mirror();
    let node =
        node(&origin, "proxy_protocol = { from = [\"192.0.2.1\"], health_without = true }", "");
    for _ in 0..3 {
        let mut client = node.client();
        client.send(v1("198.51.100.7") + &get("/who"));
        assert!(client.is_closed(), "a header of a stranger");
        let mut client = node.client();
        client.send(get("/health"));
        assert!(client.is_closed(), "a stranger may not even ask for health");
    }
    assert_eq!(node.metric("penstock_proxy_headers_refused_total{why=\"unlisted\"}"), 6.0);
    assert_eq!(node.metric("penstock_closes_total{reason=\"proxy_header\"}"), 6.0);
    assert_eq!(node.metric("penstock_connections_open"), 0.0);
    let told = || node.events().iter().filter(|l| l.contains("proxy_protocol.from")).count();
    until("it is told", || told() > 0);
    assert_eq!(told(), 1, "not each of them");
    assert!(origin.heads().is_empty());
}

#[test]
fn a_header_that_is_none_ends_the_connection() {
    let origin = Origin::mirror();
    let timeout = "proxy_protocol = { from = [\"127.0.0.1\"], timeout = \"300ms\" }";
    let node = node(&origin, timeout, "");
    let malformed: [&[u8]; 6] = [
        b"PROXY TCP4 198.51.100.7 10.0.0.1 4000 443\n",
        b"PROXY TCP4 198.51.100.7 10.0.0.1 4000 99999\r\n",
        b"POST / HTTP/1.1\r\n",
        b"\r\n\r\nGET / HTTP/1.1\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff",
        &v2([1, 2, 3, 4], &[4, 0, 9]),
    ];
    for bytes in malformed {
        let mut client = node.client();
        client.send([bytes, get("/who").as_bytes()].concat());
        assert!(client.is_closed(), "{bytes:?}");
    }
    assert_eq!(node.metric("penstock_proxy_headers_refused_total{why=\"malformed\"}"), 6.0);
    let mut client = node.client();
    client.send(get("/health"));
    assert!(client.is_closed(), "no header, and health_without is off");
    assert_eq!(node.metric("penstock_proxy_headers_refused_total{why=\"missing\"}"), 1.0);
    for bytes in [&b""[..], b"PROXY TCP4 198.51"] {
        let mut client = node.client();
        client.send(bytes);
        assert!(client.is_closed());
    }
    assert_eq!(node.metric("penstock_proxy_headers_refused_total{why=\"late\"}"), 2.0);
    assert!(origin.heads().is_empty());
}

#[test]
fn without_a_header_a_listed_balancer_may_ask_for_health_alone() {
    let origin = Origin::mirror();
    let settings = "proxy_protocol = { from = [\"127.0.0.1\"], health_without = true }";
    let node = node(&origin, settings, "");
    let mut client = node.client();
    assert_eq!(client.ask(get("/health")).status, 200);
    assert_eq!(
        client.ask("HEAD /_penstock/health HTTP/1.1\r\nHost: shop.example\r\n\r\n").status,
        200
    );
    for path in ["/", "/activity/8848", "/_penstock/time", "/health/x"] {
        let mut client = node.client();
        let answer = client.ask(get(path));
        assert_eq!((answer.status, answer.closes()), (400, true), "{path}");
        assert!(client.is_closed());
    }
    assert_eq!(node.metric("penstock_proxy_headers_refused_total{why=\"missing\"}"), 4.0);
    assert_eq!(told(&node, v1("198.51.100.7").as_bytes()), "198.51.100.7");
    assert_eq!(origin.heads().len(), 2);
}

#[test]
fn where_none_is_expected_a_header_is_a_bad_request() {
    let origin = Origin::mirror();
    let node = node(&origin, "", "");
    for header in [v1("198.51.100.7").into_bytes(), v2([198, 51, 100, 7], &[])] {
        let mut client = node.client();
        client.send([&header[..], get("/who").as_bytes()].concat());
        assert_eq!(client.answer().map(|answer| answer.status), Some(400));
    }
    assert!(origin.heads().is_empty());
}

#[test]
fn a_unix_socket_s_peers_can_be_listed_too() {
    let origin = Origin::mirror();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("front.sock");
    let listen = format!(
        "[listen.http]\naddress = \"unix:{}\"\nmode = \"0600\"\n\
         proxy_protocol = {{ from = [\"unix\"], health_without = true }}\n",
        path.display()
    );
    let node = Place::new(origin.address, &Config { listen, ..Config::default() }).start();
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let mut client = Client::unix(&path);
    client.send(v2([198, 51, 100, 7], &[]));
    assert_eq!(forwarded(&client.ask(get("/who")).body), "198.51.100.7");
    assert_eq!(Client::unix(&path).ask(get("/_penstock/health")).status, 200);
    assert_eq!(Client::unix(&path).ask(get("/who")).status, 400);
    assert_eq!(node.metric("penstock_proxy_headers_total"), 1.0);
}
