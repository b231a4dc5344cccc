//! Caps on connections: who is refused is closed at once and counted, who is there is served.

use super::client::{Client, get, until};
use super::node::{Config, Node, Place, quick_shop};

fn node(limits: &str, more: &str) -> Node {
    let more = format!("[limits]\n{limits}\n{more}");
    // The shop is not asked by these tests.
    let shop = quick_shop();
    Place::new(shop.address(), &Config { more, ..Config::default() }).start()
}

/// A connection that was let in.
fn served(node: &Node) -> Client {
    let mut client = node.client();
    assert_eq!(client.ask(get("/health")).status, 200);
    client
}

#[test]
fn the_process_has_its_cap() {
    let node = node("connections_max = 3", "");
    let mut served: Vec<Client> = (0..3).map(|_| served(&node)).collect();
    assert!(node.client().is_closed());
    for client in &mut served {
        assert_eq!(client.ask(get("/health")).status, 200, "who is there is served");
    }
    drop(served.pop());
    until("a place is free again", || {
        let mut client = node.client();
        client.send(get("/health"));
        client.answer().is_some()
    });
    assert!(node.metric("penstock_closes_total{reason=\"refused\"}") >= 1.0);
}

#[test]
fn an_address_has_its_cap() {
    let node = node("connections_per_address_max = 2", "");
    let mut served: Vec<Client> = (0..2).map(|_| served(&node)).collect();
    assert!(node.client().is_closed());
    for client in &mut served {
        assert_eq!(client.ask(get("/health")).status, 200);
    }
    assert_eq!(node.metric("penstock_closes_total{reason=\"refused\"}"), 1.0);
}

#[test]
fn an_address_has_its_rate() {
    let node = node("connects_per_address = \"5@1/m\"", "");
    let answered = (0..20).filter(|_| {
        let mut client = node.client();
        client.send(get("/health"));
        client.answer().is_some()
    });
    assert_eq!(answered.count(), 5);
    assert_eq!(node.metric("penstock_closes_total{reason=\"refused\"}"), 15.0);
}

#[test]
fn a_trusted_proxy_speaks_for_many() {
    let node = node("connections_per_address_max = 1", "[trust]\nproxies = [\"127.0.0.0/8\"]\n");
    let mut served: Vec<Client> = (0..5).map(|_| node.client()).collect();
    for client in &mut served {
        assert_eq!(client.ask(get("/health")).status, 200);
    }
}

#[test]
fn forwarding_fields_of_strangers_are_counted_and_told_in_bulk() {
    let node = node("", "");
    let mut client = node.client();
    let says = "GET /health HTTP/1.1\r\nHost: shop.example\r\nX-Forwarded-For: 1.1.1.1\r\n\r\n";
    for _ in 0..120 {
        client.ask(says);
    }
    assert_eq!(node.metric("penstock_untrusted_forwarded_total"), 120.0);
    until("the warning", || node.said("trust.proxies"));
    let warnings = node.events().iter().filter(|line| line.contains("trust.proxies")).count();
    assert_eq!(warnings, 1);
}
