//! The demo's edge: `penstock run` in a process of its own, asked through the verbs that an operator
//! has. Each question is one small function.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::DemoError;
use super::http::ask;
use super::place::{Place, SALE, this_binary};
use super::process::Process;
use super::stop::Stop;

/// The shop makes or forgets an order within this after the edge gave up on it.
const SETTLE: &str = "2s";
const START_LONGEST: Duration = Duration::from_secs(10);

/// The running edge.
#[derive(Debug)]
pub struct Edge {
    process: Process,
    verbs: Verbs,
    address: SocketAddr,
    /// Milliseconds from its start to its first answer.
    pub ready_after_ms: u64,
}

/// The verbs, for one config file. They work whether or not the edge runs, as far as it needs no node.
#[derive(Clone, Debug)]
pub struct Verbs {
    config: PathBuf,
}

/// The sale, as `penstock sale show --json` tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sale {
    /// `not_started`, `available`, `sold_out` or `ended`.
    pub state: String,
    /// Generation: raised by a restock.
    pub epoch: u64,
    /// Units for sale, over all pools.
    pub stock: u64,
    /// Units sold.
    pub confirmed: u64,
    /// Units with an order under way.
    pub held: u64,
    /// Units of which nobody knows.
    pub limbo: u64,
}

/// One invariant, as `penstock audit --json` tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// Its name, such as `I1 budget`.
    pub name: String,
    /// Whether it holds.
    pub holds: bool,
    /// Bound and what was observed, in words.
    pub said: String,
}

/// What the audit found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audit {
    /// Whether every invariant holds.
    pub holds: bool,
    /// Each of them.
    pub checks: Vec<Check>,
}

/// Counters by name and labels, as Prometheus gets them.
pub type Metrics = BTreeMap<String, f64>;

impl Edge {
    /// Starts the edge from the place's config and waits until it answers.
    pub fn start(place: &Place, stop: &Stop) -> Result<Edge, DemoError> {
        let mut command = this_binary()?;
        command.arg("run").arg("-c").arg(place.config());
        let began = Instant::now();
        let mut process = Process::start("edge", command, place.log("edge"), false)?;
        let log = process.log();
        let late =
            || DemoError::Late { what: "the edge's start".to_owned(), after_ms: 10_000, log };
        stop.wait_for(START_LONGEST, late, || {
            process.check()?;
            Ok(is_healthy(place.edge).then_some(()))
        })?;
        let ready_after_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(0);
        let verbs = Verbs { config: place.config() };
        Ok(Edge { process, verbs, address: place.edge, ready_after_ms })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// `kill -9`.
    pub fn kill(mut self) {
        self.process.kill();
    }

    /// An error if it has ended by itself.
    pub fn check(&mut self) -> Result<(), DemoError> {
        self.process.check()
    }

    /// The verbs.
    pub fn verbs(&self) -> &Verbs {
        &self.verbs
    }

    /// Whether it answers its health check.
    pub fn is_healthy(&self) -> bool {
        is_healthy(self.address)
    }
}

fn is_healthy(address: SocketAddr) -> bool {
    matches!(ask(address, "GET", "/_penstock/health"), Ok((200, _)))
}

impl Verbs {
    /// `penstock sale show`.
    pub fn sale(&self) -> Result<Sale, DemoError> {
        let (_, said) = self.run(&["sale", "show", SALE, "--json"], &[0])?;
        sale_of(&json(&said, "the answer of `penstock sale show`")?)
    }

    /// `penstock sale restock`: `units` come back as a new epoch.
    pub fn restock(&self, units: u64) -> Result<(), DemoError> {
        let units = units.to_string();
        let verb = ["sale", "restock", SALE, "--pool", "default", "--units", &units];
        self.run(&verb, &[0]).map(drop)
    }

    /// `penstock limbo match`: holds what nobody knows against the shop's own orders.
    pub fn limbo_match(&self, orders: &Path) -> Result<(), DemoError> {
        let orders = orders.display().to_string();
        self.run(&["limbo", "match", SALE, &orders, "--settle", SETTLE], &[0]).map(drop)
    }

    /// `penstock audit`: exit 5 says that an invariant is broken.
    pub fn audit(&self, orders: &Path) -> Result<Audit, DemoError> {
        let orders = orders.display().to_string();
        let verb = ["audit", SALE, "--shop-orders", &orders, "--json"];
        let (code, said) = self.run(&verb, &[0, 5])?;
        Ok(audit_of(&json(&said, "the answer of `penstock audit`")?, code == 0))
    }

    /// `penstock ctl metrics`.
    pub fn metrics(&self) -> Result<Metrics, DemoError> {
        self.run(&["ctl", "metrics"], &[0]).map(|(_, said)| metrics_of(&said))
    }

    fn run(&self, verb: &[&str], accepted: &[i32]) -> Result<(i32, String), DemoError> {
        let name = format!("penstock {}", verb.join(" "));
        let output = this_binary()?
            .args(verb)
            .arg("-c")
            .arg(&self.config)
            .stdin(std::process::Stdio::null())
            .output()
            .map_err(DemoError::system(name.clone()))?;
        let code = output.status.code().unwrap_or(-1);
        if accepted.contains(&code) {
            return Ok((code, String::from_utf8_lossy(&output.stdout).into_owned()));
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.lines().last().unwrap_or("it said nothing");
        Err(DemoError::Verb { verb: name, said: format!("{last} (exit {code})") })
    }
}

fn json(said: &str, what: &str) -> Result<Value, DemoError> {
    serde_json::from_str(said).map_err(|cause| DemoError::Unreadable {
        what: what.to_owned(),
        said: format!("{cause}: {}", said.chars().take(200).collect::<String>()),
    })
}

/// Counts stand at the top, or in each pool.
fn sale_of(told: &Value) -> Result<Sale, DemoError> {
    let pools: Vec<&Value> = match told.get("pools") {
        Some(Value::Object(pools)) => pools.values().collect(),
        Some(Value::Array(pools)) => pools.iter().collect(),
        _ => Vec::new(),
    };
    let number = |name: &str| {
        let of = |v: &Value| v.get(name).and_then(Value::as_u64);
        let in_pools = || match pools.as_slice() {
            [] => None,
            pools => pools.iter().map(|pool| of(pool)).sum::<Option<u64>>(),
        };
        of(told).or_else(in_pools).ok_or_else(|| DemoError::Unreadable {
            what: format!("`{name}` of `penstock sale show`"),
            said: told.to_string(),
        })
    };
    let state = told.get("state").and_then(Value::as_str).unwrap_or_default().to_owned();
    Ok(Sale {
        state,
        epoch: number("epoch")?,
        stock: number("stock")?,
        confirmed: number("confirmed")?,
        held: number("held")?,
        limbo: number("limbo")?,
    })
}

fn audit_of(told: &Value, holds: bool) -> Audit {
    let list = ["invariants", "checks"].iter().find_map(|name| told.get(name)?.as_array());
    let word = |check: &Value, names: &[&str]| {
        let found = names.iter().find_map(|name| check.get(name))?;
        Some(found.as_str().map_or_else(|| found.to_string(), str::to_owned))
    };
    let checks = list.into_iter().flatten().map(|check| {
        let holds = ["holds", "ok"].iter().find_map(|name| check.get(name)?.as_bool());
        let bound = word(check, &["bound"]).unwrap_or_default();
        let observed = word(check, &["observed", "seen", "detail"]).unwrap_or_default();
        Check {
            name: word(check, &["name", "id", "invariant"]).unwrap_or_default(),
            holds: holds.unwrap_or(false),
            said: format!("{observed} of {bound}"),
        }
    });
    Audit { holds, checks: checks.collect() }
}

/// Reads the text exposition format; comments and what is no number are skipped.
fn metrics_of(text: &str) -> Metrics {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        })
        .collect()
}

/// Adds the counters of another run of the edge.
pub fn add_metrics(sum: &mut Metrics, more: &Metrics) {
    for (name, value) in more {
        *sum.entry(name.clone()).or_default() += value;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_sale_is_read_from_totals_or_from_pools() {
        let want = Sale {
            state: "sold_out".to_owned(),
            epoch: 2,
            stock: 103,
            confirmed: 102,
            held: 0,
            limbo: 1,
        };
        let totals = json!({"state":"sold_out","epoch":2,"version":9,"stock":103,"confirmed":102,
            "held":0,"limbo":1});
        assert_eq!(sale_of(&totals).unwrap(), want);
        let pools = json!({"state":"sold_out","epoch":2,"pools":{
            "a":{"stock":100,"confirmed":99,"held":0,"limbo":1},
            "b":{"stock":3,"confirmed":3,"held":0,"limbo":0}}});
        assert_eq!(sale_of(&pools).unwrap(), want);
        assert!(sale_of(&json!({"state":"available","epoch":1})).is_err());
    }

    #[test]
    fn an_audit_is_its_exit_code_and_its_lines() {
        let told = json!({"invariants":[
            {"name":"I1 budget","holds":true,"bound":103,"observed":103},
            {"name":"I3 twice","holds":false,"bound":0,"observed":1}]});
        let audit = audit_of(&told, false);
        assert!(!audit.holds && audit.checks[0].holds && !audit.checks[1].holds);
        assert_eq!(audit.checks[1].said, "1 of 0");
    }

    #[test]
    fn metrics_are_read_and_added() {
        let text = "# HELP x y\npenstock_cache_total{result=\"hit\"} 5\npenstock_up 1\n# EOF\n";
        let mut sum = metrics_of(text);
        add_metrics(&mut sum, &metrics_of(text));
        assert_eq!(sum["penstock_cache_total{result=\"hit\"}"], 10.0);
        assert_eq!(sum.len(), 2);
    }
}
