//! The stage: a mock shop in this process, edges as processes of the built binary, buyers as bytes.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use penstock::clock::{Clock, UnixMs};
use penstock::shop::{self, StockCheck};
use serde_json::Value;

pub use crate::client::{Answer, get, order, send, start, until};

/// The activity that is sold, and its sale.
pub const SALE: &str = "spring-drop";
const ACTIVITY: &str = "8848";

/// A shop that sells whatever it is asked for, so that only the gate keeps the stock.
pub fn boundless() -> shop::Settings {
    shop::Settings { stock_check: StockCheck::None, ..crate::client::quick() }
}

/// A sale's config in a directory of its own.
pub struct Stage {
    pub dir: tempfile::TempDir,
    pub shop: shop::Running,
    pub opens_at: UnixMs,
    edge: SocketAddr,
}

/// What differs from the simplest sale: one pool of so many units, one each, opening at once.
#[derive(Clone)]
pub struct Plan {
    pub stock: u64,
    /// Milliseconds from now to T0.
    pub opens_in_ms: u64,
    /// Lines of `[sale.spring-drop]` in place of `stock`.
    pub pools: Option<String>,
    /// Further tables.
    pub more: String,
    /// Lines of `[site.shop.activity]`.
    pub activity: String,
    /// Lines of `[upstream.shop]`.
    pub upstream: String,
    pub shop: shop::Settings,
    /// Where edges reach the shop, if not at its own address.
    pub shop_at: Option<SocketAddr>,
}

impl Default for Plan {
    fn default() -> Plan {
        Plan {
            stock: 5,
            opens_in_ms: 600,
            pools: None,
            more: String::new(),
            activity: String::new(),
            upstream: String::new(),
            shop: boundless(),
            shop_at: None,
        }
    }
}

impl Stage {
    /// Writes the config and starts the shop; no edge runs yet.
    pub fn set(plan: Plan) -> Stage {
        let dir = tempfile::tempdir().expect("a directory");
        let shop = start(plan.shop.clone());
        let opens_at = Clock::system().now().wall.plus(plan.opens_in_ms);
        let edge = free();
        let stage = Stage { dir, shop, opens_at, edge };
        stage.write("penstock.toml", &stage.config(&plan, edge, "state"));
        stage
    }

    /// The config of an edge of this sale.
    pub fn config(&self, plan: &Plan, edge: SocketAddr, state: &str) -> String {
        let stock = plan.pools.clone().unwrap_or_else(|| format!("stock = {}", plan.stock));
        let mut text = String::new();
        let opens_at =
            jiff::Timestamp::from_millisecond(self.opens_at.0 as i64).expect("a time of today");
        write!(
            text,
            r#"state_dir = {:?}
[listen.http]
address = "{edge}"
[limits]
user = "off"
address = "off"
[upstream.shop]
servers = ["{}"]
outcome = "status"
{}
[site.shop]
hosts = ["s"]
upstream = "shop"
[site.shop.activity]
page = "/activity/{{activity}}"
availability = "/activity/{{activity}}/availability"
purchase = "/activity/{{activity}}/orders"
city = ["query:city", "cookie:city_id"]
user = ["cookie:uid"]
{}
[sale.{SALE}]
activity = "{ACTIVITY}"
opens_at = {opens_at}
{stock}
{}
"#,
            self.dir.path().join(state),
            plan.shop_at.unwrap_or(self.shop.address()),
            plan.upstream,
            plan.activity,
            plan.more
        )
        .expect("a String takes everything");
        text
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).expect("a writable directory");
        path
    }

    /// The edge of `penstock.toml`, once it answers.
    pub fn edge(&self) -> Edge {
        Edge::start(self.dir.path().join("penstock.toml"), self.edge)
    }

    /// The same, that ends itself at a point of `src/fault.rs`.
    pub fn edge_that_ends(&self, point: &str) -> Edge {
        let config = self.dir.path().join("penstock.toml");
        Edge::start_with(config, self.edge, &[("PENSTOCK_FAULT", point)])
    }

    /// An edge as before, and T0 has come.
    pub fn opened(&self) -> Edge {
        let edge = self.edge();
        until("T0", || edge.availability()["state"] == "available");
        edge.resume();
        edge
    }

    /// The shop's list of orders, as a file.
    pub fn orders_csv(&self) -> PathBuf {
        self.write("orders.csv", &get(self.shop.address(), "/_shop/orders.csv").body)
    }
}

/// A running edge; killed when dropped.
pub struct Edge {
    process: Child,
    pub config: PathBuf,
    pub at: SocketAddr,
}

impl Edge {
    pub fn start(config: PathBuf, at: SocketAddr) -> Edge {
        Edge::start_with(config, at, &[])
    }

    /// The same with more in its environment.
    pub fn start_with(config: PathBuf, at: SocketAddr, env: &[(&str, &str)]) -> Edge {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(config.with_extension("log"))
            .expect("a log");
        let process = Command::new(env!("CARGO_BIN_EXE_penstock"))
            .arg("run")
            .arg("-c")
            .arg(&config)
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the built binary");
        let mut edge = Edge { process, config, at };
        until("the edge answers", || {
            let ended = edge.process.try_wait().expect("a child");
            let log = || std::fs::read_to_string(edge.config.with_extension("log"));
            assert!(ended.is_none(), "the edge ended: {}", log().unwrap_or_default());
            std::net::TcpStream::connect(at).is_ok()
                && get(at, "/_penstock/health").status == 200
                && edge.verb(&["ctl", "ready"]).status.success()
        });
        edge
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.process.kill().expect("a child");
        self.process.wait().expect("a child");
    }

    /// It ends by itself, as if killed.
    pub fn ends_killed(&mut self, why: &str) {
        use std::os::unix::process::ExitStatusExt;
        let mut status = None;
        until(why, || {
            status = self.process.try_wait().expect("a child");
            status.is_some()
        });
        assert_eq!(status.and_then(|status| status.signal()), Some(9), "{why}");
    }

    /// TERM, and its end.
    pub fn stop(&mut self) -> bool {
        let id = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(id, rustix::process::Signal::TERM).expect("a child");
        self.process.wait().expect("a child").success()
    }

    /// A verb with this edge's config.
    pub fn verb(&self, args: &[&str]) -> Output {
        verb(&self.config, args)
    }

    /// A verb that prints JSON and must end well.
    pub fn json(&self, args: &[&str]) -> Value {
        let output = self.verb(args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {said}");
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    /// On a busy machine T0 may be past before the edge is there: then its sale is paused.
    pub fn resume(&self) {
        if self.sale()["paused"] == true {
            assert!(self.verb(&["sale", "resume", SALE]).status.success());
        }
    }

    pub fn sale(&self) -> Value {
        self.json(&["sale", "show", SALE, "--json"])
    }

    pub fn availability(&self) -> Value {
        let answer = get(self.at, &format!("/activity/{ACTIVITY}/availability"));
        serde_json::from_str(&answer.body).unwrap_or_else(|_| panic!("no JSON: {answer:?}"))
    }

    /// One counter of `/metrics`.
    pub fn metric(&self, name: &str) -> f64 {
        let output = self.verb(&["ctl", "metrics"]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let line = text.lines().find(|line| line.split(' ').next() == Some(name));
        line.and_then(|line| line.rsplit_once(' ')?.1.parse().ok()).unwrap_or(0.0)
    }

    /// The audit against the shop's orders; what is broken.
    pub fn audit(&self, orders: &Path) -> Vec<String> {
        self.audit_with(orders, &[])
    }

    /// The same with more options.
    pub fn audit_with(&self, orders: &Path, more: &[String]) -> Vec<String> {
        let orders = orders.display().to_string();
        let mut args = vec!["audit", SALE, "--shop-orders", &orders, "--json"];
        args.extend(more.iter().map(String::as_str));
        let output = self.verb(&args);
        let told: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| {
            panic!("no audit: {}", String::from_utf8_lossy(&output.stderr));
        });
        let checks = told["invariants"].as_array().expect("invariants");
        assert!(!checks.is_empty());
        checks.iter().filter(|c| c["holds"] != true).map(Value::to_string).collect()
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub fn verb(config: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_penstock"))
        .args(args)
        .arg("-c")
        .arg(config)
        .stdin(Stdio::null())
        .output()
        .expect("the built binary")
}

/// A free port on loopback.
pub fn free() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address")
}

/// Buys one unit with a key of the user's own.
pub fn buy(at: SocketAddr, user: &str) -> Option<Answer> {
    order(at, user, &format!("key-{user}"), "{}")
}

/// The reason that an answer carries.
pub fn reason(answer: &Answer) -> &str {
    let line = answer.head.lines().find_map(|line| line.strip_prefix("penstock-reason: "));
    line.unwrap_or("none").trim()
}

/// Everybody buys, `at_once` at a time, each with `tries`; what they heard last, by reason.
pub fn crowd(at: SocketAddr, people: usize, at_once: usize) -> BTreeMap<String, usize> {
    let next = std::sync::atomic::AtomicUsize::new(0);
    let heard = std::sync::Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                loop {
                    let i = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    if i >= people {
                        return;
                    }
                    let last = persist(at, &format!("u{i}"));
                    *heard.lock().expect("no panic").entry(last).or_insert(0) += 1;
                }
            });
        }
    });
    heard.into_inner().expect("no panic")
}

/// Buys until the answer is no longer one to try again after.
fn persist(at: SocketAddr, user: &str) -> String {
    loop {
        let Some(answer) = buy(at, user) else { continue };
        let reason = reason(&answer).to_owned();
        let again = ["busy", "unavailable", "in_progress", "overloaded", "not_started"];
        if !again.contains(&reason.as_str()) {
            return reason;
        }
        // People do not ask as fast as a machine can.
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}
