//! Another config while the node runs: under load, in parts, refused, with listeners that come and go.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use rustix::process::Signal;

use super::client::{Client, get, purchase, until};
use super::node::{Config, Node, Place, quick_shop, sale, shop_with};

/// Clients that keep asking; each counts what it got no answer to.
pub struct Load {
    stop: Arc<AtomicBool>,
    pub answers: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<usize>>,
}

impl Load {
    /// So many clients: half keep their connections, half open one for each request.
    pub fn on(address: SocketAddr, clients: usize) -> Load {
        let (stop, answers) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let client = |n: usize| {
            let (stop, answers) = (stop.clone(), answers.clone());
            std::thread::spawn(move || ask_on(address, n, &stop, &answers))
        };
        Load { clients: (0..clients).map(client).collect(), stop, answers }
    }

    pub fn count(&self) -> usize {
        self.answers.load(Ordering::Relaxed)
    }

    /// Until so many more were answered.
    pub fn go_on(&self, more: usize) {
        let from = self.count();
        until("the load goes on", || {
            assert!(!self.clients.iter().any(JoinHandle::is_finished), "a client stopped");
            self.count() >= from + more
        });
    }

    /// Ends it: requests without an answer, or with one that is an error.
    pub fn failed(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.clients.into_iter().map(|client| client.join().expect("a client")).sum()
    }
}

fn ask_on(address: SocketAddr, n: usize, stop: &AtomicBool, answers: &AtomicUsize) -> usize {
    let paths = ["/activity/8848", "/cart", "/activity/8848/availability"];
    let (mut kept, mut failed) = (None, 0);
    for turn in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let mut client = match kept.take() {
            Some(client) => client,
            None => match TcpStream::connect(address) {
                Ok(stream) => Client::of(stream),
                // This machine has no port left for so many clients: in a minute it has.
                Err(cause) if cause.kind() == ErrorKind::AddrNotAvailable => {
                    std::thread::yield_now();
                    continue;
                }
                Err(cause) => {
                    eprintln!("client {n} cannot connect: {cause}");
                    failed += 1;
                    continue;
                }
            },
        };
        let path = paths[(turn + n) % paths.len()];
        client.send(get(path));
        match client.answer() {
            // The shop knows no cart: its 404 is an answer.
            Some(answer) if answer.status < 500 => {
                answers.fetch_add(1, Ordering::Relaxed);
                if n.is_multiple_of(2) && !answer.closes() {
                    kept = Some(client);
                }
            }
            other => {
                eprintln!("client {n} asked for {path} and got {other:?}");
                failed += 1;
            }
        }
    }
    failed
}

/// A config for a load: its clients open as many connections a second as they can, all from one address.
pub fn crowded() -> Config {
    let more = "[limits]\nconnects_per_address = \"off\"\n".to_owned();
    Config { more, ..Config::default() }
}

/// How often, in a short run and with `PENSTOCK_TEST_LONG`.
pub fn times(short: usize, long: usize) -> usize {
    if std::env::var_os("PENSTOCK_TEST_LONG").is_some() { long } else { short }
}

fn rewrite(node: &Node, change: impl Fn(String) -> String) {
    let path = node.place.config();
    let text = std::fs::read_to_string(&path).expect("the config");
    std::fs::write(path, change(text)).expect("written");
}

/// Puts settings before everything else of the file.
fn with(node: &Node, more: &str) {
    rewrite(node, |text| text.replacen("[http]", &format!("{more}\n[http]"), 1));
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port()
}

#[test]
fn reloads_under_load_fail_no_request() {
    let shop = quick_shop();
    let node = Place::new(shop.address(), &crowded()).start();
    let load = Load::on(node.address("http"), 8);
    load.go_on(200);
    for n in 0..times(50, 1_000) {
        // Each changes what every part is made of, the upstream's pools too.
        rewrite(&node, |text| {
            let text: Vec<&str> =
                text.lines().filter(|line| !line.starts_with("queue_max")).collect();
            let more = format!("[upstream.shop]\nqueue_max = {}", 1_000 + n);
            text.join("\n").replace("[upstream.shop]", &more) + "\n"
        });
        if n.is_multiple_of(2) {
            let said = node.place.good(&["reload", "--wait"]);
            assert!(said.contains("upstream.shop.queue_max: "), "{said}");
        } else {
            let generation = node.metric("penstock_config_generation");
            node.signal(Signal::HUP);
            until("it is reloaded", || node.metric("penstock_config_generation") > generation);
        }
        load.go_on(20);
    }
    assert_eq!(load.failed(), 0);
    assert_eq!(node.metric("penstock_reloads_total{result=\"refused\"}"), 0.0);
    assert_eq!(node.metric("penstock_panics_total"), 0.0);
}

#[test]
fn a_reload_changes_routes_and_keeps_connections_pages_and_counters() {
    let shop = quick_shop();
    let node = Place::new(shop.address(), &Config::default()).start();
    let mut client = node.client();
    assert_eq!(client.ask(get("/activity/8848")).status, 200);
    let fills = node.metric("penstock_cache_fills_total");
    rewrite(&node, |text| {
        text.replace("\"/activity/{activity}/availability\"", "\"/flag/{activity}\"")
    });
    let said = node.place.good(&["reload", "--wait"]);
    assert!(said.contains("site.shop.activity.availability"), "{said}");
    assert!(said.starts_with("config 2 ("), "{said}");
    // The same connection, the new routes.
    assert!(client.ask(get("/flag/8848")).json()["state"].is_string());
    assert_eq!(client.ask(get("/activity/8848")).status, 200);
    assert_eq!(node.metric("penstock_cache_fills_total"), fills, "the page was kept");
    let told = node.place.good(&["reload", "--wait", "--json"]);
    let told: serde_json::Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!((&told["generation"], &told["changed"]), (&3.into(), &serde_json::json!([])));
    let info = format!("penstock_config_info{{hash={}}}", told["hash"]);
    assert_eq!(node.metric(&info), 1.0);
}

#[test]
fn a_broken_file_changes_nothing_and_is_shown_with_its_place() {
    let shop = quick_shop();
    let mut node = Place::new(shop.address(), &Config::default()).start();
    let good = std::fs::read_to_string(node.place.config()).expect("the config");
    for broken in [
        good.replace("outcome = \"status\"", "outcome = 7"),
        good.replace("[site.shop]", "[site.shop]\nupstraem = \"shop\""),
        good.replace("[site.shop]", "[site.shop"),
        good.clone() + "\n[limits]\nconnections_max = 0\n",
        String::new(),
    ] {
        std::fs::write(node.place.config(), broken).expect("written");
        node.signal(Signal::HUP);
        let socket = node.place.admin_socket();
        let output = node.place.verb(&["reload", "--wait", "--socket", socket.to_str().unwrap()]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(78), "{said}");
        assert!(said.contains("penstock.toml:"), "file, line and column: {said}");
        assert_eq!(node.client().ask(get("/activity/8848")).status, 200);
    }
    std::fs::write(node.place.config(), good).expect("written");
    assert_eq!(node.metric("penstock_config_generation"), 1.0);
    assert!(node.said("everything stays as it was"));
    assert!(node.is_running());
}

#[test]
fn what_cannot_change_is_named_and_the_rest_changes() {
    let shop = quick_shop();
    let node = Place::new(shop.address(), &Config::default()).start();
    rewrite(&node, |text| {
        text.replace("workers = 2", "workers = 3\nkeep_alive_timeout = \"5s\"")
            + "\n[cache]\nsize = \"64MiB\"\n[store]\npoll = \"100ms\"\n"
    });
    let said = node.place.good(&["reload", "--wait"]);
    for waits in ["http.workers: 2 -> 3", "cache.size: ", "store.poll: "] {
        assert!(
            said.contains(&format!("waits for `penstock upgrade` or a restart: {waits}")),
            "{said}"
        );
    }
    assert!(said.contains("  http.keep_alive_timeout: "), "{said}");
    assert_eq!(node.metric("penstock_config_waiting"), 3.0);
    // They are named until they are done.
    assert!(node.place.good(&["reload", "--wait"]).contains("http.workers: 2 -> 3"));
}

#[test]
fn what_the_process_as_a_whole_goes_by_changes() {
    let shop = quick_shop();
    let node = Place::new(shop.address(), &Config::default()).start();
    let gauge = "penstock_memory_guard_limit_bytes";
    with(&node, "[memory]\nlimit = \"3GiB\"\n[cache]\nnew_keys = \"1@1/s\"\n");
    let said = node.place.good(&["reload", "--wait"]);
    assert!(
        said.contains("memory.limit: not set -> ") && said.contains("cache.new_keys: "),
        "{said}"
    );
    until("the guard goes by it", || node.metric(gauge) == f64::from(3u32 << 30));
    let mut client = node.client();
    // Invented pages: the first may be fetched, the others come too fast.
    let mut status = |n: u32| client.ask(get(&format!("/activity/a{n}"))).status;
    let all: Vec<u16> = (0..20).map(&mut status).collect();
    assert!(all.contains(&503), "{all:?}");
    rewrite(&node, |text| text.replace("1@1/s", "off").replace("limit = \"3GiB\"", ""));
    node.place.good(&["reload", "--wait"]);
    assert!((100..120).all(|n| status(n) < 500));
    until("the guard goes by that", || node.metric(gauge) != f64::from(3u32 << 30));
}

#[test]
fn listeners_come_and_go_and_their_clients_are_answered() {
    let shop = quick_shop();
    let node = Place::new(shop.address(), &crowded()).start();
    let more = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let path = node.place.path("http.sock");
    let listeners = format!(
        "[listen.more]\naddress = \"{more}\"\nhealth = \"/up\"\n[listen.local]\naddress = \"unix:{}\"\n",
        path.display()
    );
    with(&node, &listeners);
    let said = node.place.good(&["reload", "--wait"]);
    assert!(said.contains("listen.more: added") && said.contains("listen.local: added"), "{said}");
    let (mut kept, mut local) = (Client::tcp(more), Client::unix(&path));
    assert_eq!(kept.ask(get("/up")).status, 200);
    assert_eq!(local.ask(get("/activity/8848")).status, 200);
    let load = Load::on(node.address("http"), 4);
    load.go_on(50);
    rewrite(&node, |text| text.replace(&listeners, ""));
    let said = node.place.good(&["reload", "--wait"]);
    assert!(said.contains("listen.more: removed"), "{said}");
    // Connections that are open get one more answer, or were idle and close.
    for client in [&mut kept, &mut local] {
        client.send(get("/activity/8848"));
        assert!(client.answer().is_none_or(|answer| answer.status == 200 && answer.closes()));
        assert!(client.is_closed());
    }
    until("nobody listens there", || TcpStream::connect(more).is_err());
    assert!(!path.exists(), "the socket's file goes with it");
    load.go_on(50);
    assert_eq!(load.failed(), 0);
}

#[test]
fn a_port_that_is_taken_refuses_the_whole_reload() {
    let shop = quick_shop();
    let node = Place::new(shop.address(), &Config::default()).start();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = taken.local_addr().expect("an address");
    with(&node, &format!("[listen.more]\naddress = \"{at}\"\n"));
    rewrite(&node, |text| text.replace("shop.example", "other.example"));
    let output = node.place.verb(&["reload", "--wait"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(78), "{said}");
    assert!(said.contains("listen.more") && said.contains("penstock.toml:"), "{said}");
    assert_eq!(node.client().ask(get("/activity/8848")).status, 200, "the old hosts");
}

#[test]
fn sales_and_sites_come_with_a_reload() {
    let shop = quick_shop();
    let node = Place::new(shop.address(), &Config::default()).start();
    let mut client = node.client();
    rewrite(&node, |text| {
        text + "[sale.next]\nactivity = \"9000\"\nopens_at = 2099-01-01T00:00:00Z\nstock = 7\n"
    });
    let said = node.place.good(&["reload", "--wait"]);
    assert!(said.contains("sale.next: added"), "{said}");
    until("the sale is known", || client.ask(get("/activity/9000/availability")).status == 200);
    // What is running is not changed by a file: it is said, and the exit code says so too.
    rewrite(&node, |text| {
        text.replace(&sale("2020-01-01T00:00:00Z", 5), &sale("2020-01-01T00:00:00Z", 6))
    });
    let output = node.place.verb(&["reload", "--wait"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(4), "{said}");
    assert!(said.contains("sale.drop"), "{said}");
    // A sale that is taken out of the file goes on.
    rewrite(&node, |text| text.replace(&sale("2020-01-01T00:00:00Z", 6), ""));
    let said = node.place.good(&["reload", "--wait"]);
    assert!(said.contains("sale.drop: removed"), "{said}");
    assert_eq!(client.ask(get("/activity/8848/availability")).status, 200);
}

#[test]
fn a_purchase_that_waits_sees_one_config_to_the_end() {
    let shop = shop_with(|shop| shop.gap_ms = 1_000);
    let node = Place::new(shop.address(), &Config::default()).start();
    node.place.good(&["sale", "resume", "drop"]);
    let mut client = node.client();
    client.send(purchase("one"));
    until("it is with the shop", || shop.stats().in_flight == 1);
    rewrite(&node, |text| text.replace("[upstream.shop]", "[upstream.shop]\npurchases_max = 1"));
    node.place.good(&["reload", "--wait"]);
    assert_eq!(client.answer().expect("an answer").status, 201);
}

#[test]
fn many_signals_are_as_good_as_one() {
    let shop = quick_shop();
    let mut node = Place::new(shop.address(), &Config::default()).start();
    for _ in 0..100 {
        node.signal(Signal::HUP);
    }
    until("it was reloaded", || node.metric("penstock_config_generation") > 1.0);
    assert_eq!(node.client().ask(get("/health")).status, 200);
    assert!(node.is_running());
}
