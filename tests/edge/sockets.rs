//! Listeners: IPv4, IPv6, Unix, several at once.

use std::os::unix::fs::PermissionsExt;

use rustix::process::Signal;

use super::client::{Client, get, purchase};
use super::node::{Config, Place, quick_shop};

#[test]
fn a_unix_socket_serves_what_tcp_serves() {
    let shop = quick_shop();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("http.sock");
    // Left by a process that died.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let listen = format!(
        "[listen.http]\naddress = \"127.0.0.1:0\"\n[listen.local]\naddress = \"unix:{}\"\nhealth = \"/up\"\n",
        path.display()
    );
    let mut node = Place::new(shop.address(), &Config { listen, ..Config::default() }).start();
    node.place.good(&["sale", "resume", "drop"]);
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o666);
    let mut clients: Vec<Client> = (0..8).map(|_| Client::unix(&path)).collect();
    for client in &mut clients {
        assert_eq!(client.ask(get("/activity/8848")).status, 200);
        assert_eq!(client.ask(get("/up")).status, 200, "the listener's own health path");
    }
    assert_eq!(clients[0].ask(purchase("u")).status, 201);
    assert_eq!(node.metric("penstock_connections_open"), 8.0);
    assert_ne!(node.client().ask(get("/up")).body, "ok\n", "another listener's path");
    drop(clients);
    node.signal(Signal::TERM);
    assert_eq!(node.end(), Some(0));
    assert!(!path.exists(), "the socket's file goes with the node");
}

#[test]
fn ipv6_takes_ipv4_too() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        return; // A machine without IPv6 has nothing to show.
    }
    let shop = quick_shop();
    let config = Config {
        listen: "[listen.http]\naddress = \"[::]:0\"\n".to_owned(),
        more: "[store]\nnodes = 1\n".to_owned(),
        ..Config::default()
    };
    let node = Place::new(shop.address(), &config).start();
    let port = node.address("http").port();
    for address in ["127.0.0.1", "[::1]"] {
        let to = format!("{address}:{port}").parse().unwrap();
        assert_eq!(Client::tcp(to).ask(get("/_penstock/health")).status, 200, "{address}");
    }
}
