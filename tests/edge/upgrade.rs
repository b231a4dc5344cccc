//! One process makes way for another: sockets are handed over, no request fails, the ledger goes on.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::client::{Client, purchase, until};
use super::node::{Config, Node, Place, quick_shop, shop_with};
use super::reload::{Load, crowded, times};

/// `penstock upgrade --wait`: the number of the new process.
fn upgrade(node: &Node) -> i32 {
    let told = node.place.good(&["upgrade", "--wait", "--json"]);
    let told: serde_json::Value = serde_json::from_str(&told).expect("JSON");
    i32::try_from(told["pid"].as_i64().expect("a number")).expect("a number")
}

/// A process that a node left behind; ended when dropped.
struct Heir(i32);

impl Heir {
    fn signal(&self, signal: Signal) {
        let _ = kill_process(Pid::from_raw(self.0).expect("a number"), signal);
    }

    fn is_running(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0)).unwrap_or_default();
        !stat.is_empty() && !stat.contains(") Z ")
    }

    fn end(&self) {
        self.signal(Signal::TERM);
        until("the new process ends", || !self.is_running());
    }
}

impl Drop for Heir {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

#[test]
fn upgrades_under_load_fail_no_request() {
    let shop = quick_shop();
    let mut node = Place::new(shop.address(), &crowded()).start();
    let address = node.address("http");
    let load = Load::on(address, 8);
    load.go_on(200);
    let mut heir: Option<Heir> = None;
    for n in 0..times(2, 10) {
        let next = Heir(upgrade(&node));
        load.go_on(100);
        match heir.take() {
            // The first process is the test's own child.
            None => assert_eq!(node.end(), Some(0), "the old one drained"),
            Some(old) => until("the old one ended", || !old.is_running()),
        }
        assert!(next.is_running(), "{n}");
        heir = Some(next);
    }
    load.go_on(100);
    assert_eq!(load.failed(), 0);
    heir.expect("a process").end();
    assert!(!node.place.admin_socket().exists(), "the last one removes the socket's file");
}

#[test]
fn a_purchase_of_the_old_process_is_awaited_and_the_ledger_is_one() {
    let shop = shop_with(|shop| shop.gap_ms = 1_500);
    let mut node = Place::new(shop.address(), &Config::default()).start();
    node.place.good(&["sale", "resume", "drop"]);
    let mut old = node.client();
    old.send(purchase("one"));
    until("it is with the shop", || shop.stats().in_flight == 1);
    let heir = Heir(upgrade(&node));
    // Five units in all, one of them held by the old process.
    let mut new: Vec<Client> = (0..6).map(|_| node.client()).collect();
    for (n, client) in new.iter_mut().enumerate() {
        client.send(purchase(&format!("new{n}")));
    }
    assert_eq!(old.answer().expect("an answer").status, 201);
    assert_eq!(node.end(), Some(0));
    let won = new.iter_mut().filter_map(Client::answer).filter(|a| a.status == 201).count();
    assert_eq!(won, 4, "what the old process sold counts");
    until("the new process has heard of the end", || {
        let shown = node.place.good(&["sale", "show", "drop", "--json"]);
        let shown: serde_json::Value = serde_json::from_str(&shown).expect("JSON");
        shown["confirmed"] == 5 && shown["held"] == 0 && shown["limbo"] == 0
    });
    // One journal with one chain, by two processes.
    let audit = node.place.verb(&["audit", "drop"]);
    let said = String::from_utf8_lossy(&audit.stdout).into_owned();
    assert_eq!(audit.status.code(), Some(0), "{said}{}", String::from_utf8_lossy(&audit.stderr));
    heir.end();
}

#[test]
fn an_old_process_that_is_killed_leaves_its_purchase_in_limbo() {
    let shop = shop_with(|shop| shop.gap_ms = 4_000);
    let mut node = Place::new(shop.address(), &Config::default()).start();
    node.place.good(&["sale", "resume", "drop"]);
    let mut old = node.client();
    old.send(purchase("one"));
    until("it is with the shop", || shop.stats().in_flight == 1);
    let heir = Heir(upgrade(&node));
    let shown = || {
        let shown = node.place.good(&["sale", "show", "drop", "--json"]);
        serde_json::from_str::<serde_json::Value>(&shown).expect("JSON")
    };
    assert_eq!((&shown()["held"], &shown()["limbo"]), (&1.into(), &0.into()), "it is alive");
    node.signal(Signal::KILL);
    until("its claim is in limbo", || shown()["limbo"] == 1 && shown()["held"] == 0);
    assert_eq!(node.end(), None);
    heir.end();
}

#[test]
fn a_new_process_that_does_not_come_up_changes_nothing() {
    let shop = quick_shop();
    let mut node = Place::new(shop.address(), &crowded()).start();
    let load = Load::on(node.address("http"), 4);
    load.go_on(50);
    let good = std::fs::read_to_string(node.place.config()).expect("the config");
    std::fs::write(node.place.config(), good.replace("[site.shop]", "[site.shop]\nwhat = 1"))
        .expect("written");
    node.signal(Signal::USR2);
    until("it says so", || node.said("this process goes on"));
    std::fs::write(node.place.config(), good).expect("written");
    load.go_on(50);
    assert_eq!(node.metric("penstock_upgrades_failed_total"), 1.0);
    assert!(node.said("exit 78") && node.is_running());
    // And the next one does.
    let heir = Heir(upgrade(&node));
    assert_eq!(node.end(), Some(0));
    load.go_on(50);
    assert_eq!(load.failed(), 0);
    heir.end();
}

#[test]
fn an_upgrade_takes_what_a_reload_cannot() {
    let shop = quick_shop();
    let mut node = Place::new(shop.address(), &crowded()).start();
    let load = Load::on(node.address("http"), 4);
    load.go_on(50);
    // More workers than sockets, then fewer: nobody who waits in a queue is forgotten.
    for workers in ["3", "1"] {
        let path = node.place.config();
        let text = std::fs::read_to_string(&path).expect("the config");
        let line = text.lines().find(|line| line.starts_with("workers")).expect("workers");
        let text = text.replace(line, &format!("workers = {workers}"));
        std::fs::write(&path, text).expect("written");
        let heir = Heir(upgrade(&node));
        load.go_on(50);
        if workers == "3" {
            assert_eq!(node.end(), Some(0));
            std::mem::forget(heir);
        } else {
            load.go_on(50);
            assert_eq!(load.failed(), 0);
            return heir.end();
        }
    }
}

#[test]
fn systemd_hears_of_readiness_reload_upgrade_and_life() {
    let shop = quick_shop();
    let place = Place::new(shop.address(), &Config::default());
    let path = place.path("notify");
    let systemd = UnixDatagram::bind(&path).expect("a socket");
    systemd.set_read_timeout(Some(super::client::PATIENCE)).expect("a timeout");
    let hear = |wanted: &str| {
        loop {
            let mut said = [0; 512];
            let n = systemd.recv(&mut said).expect("a word in time");
            let said = String::from_utf8_lossy(&said[..n]).into_owned();
            if said.contains(wanted) {
                return said;
            }
            // Between two words nothing but signs of life.
            assert!(said == "WATCHDOG=1", "{said} before {wanted}");
        }
    };
    let mut node = place.start_with(&[
        ("NOTIFY_SOCKET", path.to_str().expect("text")),
        ("WATCHDOG_USEC", "400000"),
    ]);
    assert!(hear("READY=1").contains("STATUS="));
    hear("WATCHDOG=1");
    node.signal(Signal::HUP);
    assert!(hear("RELOADING=1").contains("MONOTONIC_USEC="));
    hear("READY=1");
    let heir = Heir(upgrade(&node));
    assert!(hear("READY=1").contains(&format!("MAINPID={}", heir.0)), "the new one is to watch");
    assert_eq!(node.end(), Some(0));
    hear("WATCHDOG=1");
    heir.signal(Signal::TERM);
    hear("STOPPING=1");
    until("it ends", || !heir.is_running());
}

#[test]
fn sockets_of_systemd_are_used_and_shared_by_all_workers() {
    if Command::new("systemd-socket-activate").arg("--version").output().is_err() {
        eprintln!("systemd-socket-activate is not here: not tried");
        return;
    }
    let shop = quick_shop();
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = free.local_addr().expect("an address");
    drop(free);
    let listen = format!("[listen.http]\naddress = \"{address}\"\n");
    let place = Place::new(shop.address(), &Config { listen, ..crowded() });
    let mut command = Command::new("systemd-socket-activate");
    command.arg("-l").arg(address.to_string()).arg(env!("CARGO_BIN_EXE_penstock"));
    command.args(["run", "-c"]).arg(place.config());
    // It starts the node with the first connection.
    let mut node = place.start_by(command, || drop(TcpStream::connect(address)));
    let load = Load::on(address, 8);
    load.go_on(100);
    let heir = Heir(upgrade(&node));
    load.go_on(100);
    assert_eq!(node.end(), Some(0));
    assert_eq!(load.failed(), 0);
    heir.end();
}

/// A real `redis-server`; ended with the test.
struct Redis {
    process: Child,
    at: SocketAddr,
    _dir: tempfile::TempDir,
}

impl Redis {
    fn start() -> Redis {
        let dir = tempfile::tempdir().expect("a directory");
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let at = free.local_addr().expect("an address");
        drop(free);
        let mut command = Command::new("redis-server");
        command.args([
            "--port",
            &at.port().to_string(),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--dir",
        ]);
        command.arg(dir.path()).stdin(Stdio::null()).stdout(Stdio::null());
        let process =
            command.spawn().expect("redis-server is needed: apt-get install redis-server");
        until("redis answers", || TcpStream::connect(at).is_ok());
        Redis { process, at, _dir: dir }
    }

    fn config(&self) -> Config {
        let more = format!("[store]\nkind = \"redis\"\nurl = \"redis://{}\"\n", self.at);
        // Of time for a machine that is busy with other tests.
        Config { more: more + "claim_deadline = \"2s\"\n", ..Config::default() }
    }

    /// Connections that it was ever asked for, this one among them.
    fn connections(&self) -> u64 {
        let mut stream = TcpStream::connect(self.at).expect("a connection");
        stream.write_all(b"INFO stats\r\nQUIT\r\n").expect("sent");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("an answer");
        let line = text.lines().find_map(|line| line.strip_prefix("total_connections_received:"));
        line.and_then(|count| count.trim().parse().ok()).expect("a number")
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn one_client_of_redis_lives_through_reloads() {
    let (shop, redis) = (quick_shop(), Redis::start());
    let node = Place::new(shop.address(), &redis.config()).start();
    node.place.good(&["sale", "resume", "drop"]);
    until("it is ready", || node.metric("penstock_ready") == 1.0);
    assert_eq!(node.client().ask(purchase("before")).status, 201);
    let before = redis.connections();
    for _ in 0..10 {
        node.place.good(&["reload", "--wait"]);
    }
    assert_eq!(node.client().ask(purchase("after")).status, 201);
    assert_eq!(redis.connections(), before + 1, "only the one that asks");
}

#[test]
fn both_processes_of_an_upgrade_share_the_ledger_in_redis() {
    let shop = shop_with(|shop| shop.gap_ms = 1_500);
    let redis = Redis::start();
    let mut node = Place::new(shop.address(), &redis.config()).start();
    node.place.good(&["sale", "resume", "drop"]);
    until("it is ready", || node.metric("penstock_ready") == 1.0);
    let mut old = node.client();
    old.send(purchase("one"));
    until("it is with the shop", || shop.stats().in_flight == 1);
    let heir = Heir(upgrade(&node));
    until("the new one is ready", || node.metric("penstock_ready") == 1.0);
    // Each asks again while the new process makes itself known to the ledger.
    let mut told = Vec::new();
    for n in 0..6 {
        until("a decision", || {
            // Another user each time: one that asks again and again is held back.
            let answer = node.client().ask(purchase(&format!("new{n}-{}", told.len())));
            told.push((
                answer.status,
                answer.field("penstock-reason").unwrap_or_default().to_owned(),
            ));
            // The address has its rate, too.
            std::thread::sleep(std::time::Duration::from_millis(25));
            !matches!(answer.status, 429 | 503)
        });
    }
    let won = told.iter().filter(|(status, _)| *status == 201).count();
    assert_eq!(old.answer().expect("an answer").status, 201);
    assert_eq!(node.end(), Some(0));
    assert_eq!(won, 4, "what the old process holds counts: {told:?}");
    until("nothing is open", || {
        let shown = node.place.good(&["sale", "show", "drop", "--json"]);
        let shown: serde_json::Value = serde_json::from_str(&shown).expect("JSON");
        shown["confirmed"] == 5 && shown["held"] == 0 && shown["limbo"] == 0
    });
    heir.end();
}
