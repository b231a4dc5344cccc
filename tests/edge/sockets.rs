//! Listeners: IPv4, IPv6, Unix, several at once.

use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::Ordering;

use rustix::process::Signal;

use super::client::{Client, get, purchase, until};
use super::node::{Config, Place, quick_shop};
use super::origin::UnixOrigin;

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

#[test]
fn a_shop_at_a_unix_socket_is_a_server_like_any_other() {
    let dir = tempfile::tempdir().unwrap();
    let (front, one, two) =
        (dir.path().join("front.sock"), dir.path().join("one.sock"), dir.path().join("two.sock"));
    let listen =
        format!("[listen.http]\naddress = \"unix:{}\"\nmode = \"0660\"\n", front.display());
    let unused = "127.0.0.1:9".parse().unwrap();
    let place = Place::new(unused, &Config { listen, ..Config::default() });
    let text = std::fs::read_to_string(place.config()).unwrap();
    let servers = format!("\"unix:{}\", \"unix:{}\"", one.display(), two.display());
    std::fs::write(place.config(), text.replace("\"127.0.0.1:9\"", &servers)).unwrap();
    let shop = UnixOrigin::start(&one);
    let node = place.start();
    assert_eq!(front.metadata().unwrap().permissions().mode() & 0o777, 0o660);
    let mut client = Client::unix(&front);
    // The other server is not there: every request is tried again, and none is lost.
    for n in 0..20 {
        let answer = client.ask(get(&format!("/cart/{n}")));
        assert_eq!(answer.status, 200);
        assert!(answer.body.starts_with(&format!("GET /cart/{n} ")), "{}", answer.body);
    }
    // Both workers may have one.
    assert!(shop.connections.load(Ordering::Relaxed) <= 2, "connections are kept");
    assert!(node.metric("penstock_upstream_connect_errors_total") >= 1.0);
    let report = node.place.good(&["ctl", "upstreams", "--json"]);
    assert!(report.contains(&format!("unix:{}", two.display())), "{report}");
    // It goes and another comes: a new socket at the other path.
    drop(shop);
    let _shop = UnixOrigin::start(&two);
    until("the other server answers", || {
        let mut client = Client::unix(&front);
        client.ask(get("/cart")).status == 200
    });
    assert_eq!(client.ask(get("/activity/8848")).status, 200, "a fill");
}

#[test]
fn a_mode_belongs_to_a_unix_socket() {
    let shop = quick_shop();
    for (listen, said) in [
        ("address = \"127.0.0.1:0\"\nmode = \"0660\"", "only a Unix socket"),
        ("address = \"unix:/tmp/x.sock\"\nmode = \"rw\"", "no file mode"),
        ("address = \"127.0.0.1:0\"\nproxy_protocol = { from = [] }", "is empty"),
        ("address = \"127.0.0.1:0\"\nproxy_protocol = { from = [\"lb-1\"] }", "no network"),
    ] {
        let listen = format!("[listen.http]\n{listen}\n");
        let place = Place::new(shop.address(), &Config { listen, ..Config::default() });
        let output = place.verb(&["check"]);
        let text = String::from_utf8_lossy(&output.stderr).into_owned()
            + &String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(78), "{text}");
        assert!(text.contains(said), "{text}");
    }
}
