//! `penstock stats`: a running node at a glance, in a terminal or as JSON.

use serde_json::Value;

use super::node::Node;
use super::table::table;
use super::{Exit, say};

/// Shows a running node at a glance: sales, purchases by reason, the shop, the cache, times.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    node: Node,
    /// The node's JSON, as the dashboard gets it every second.
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub fn run(args: &Args) -> Exit {
    match told(&args.node) {
        Ok(stats) if args.json => say(&format!("{stats:#}\n")),
        Ok(stats) => say(&readable(&stats)),
        Err(exit) => exit,
    }
}

fn told(node: &Node) -> Result<Value, Exit> {
    node.ask()?.json("GET", "/v1/stats", None)
}

fn readable(stats: &Value) -> String {
    let mut out = format!(
        "penstock {}  {}  up {} s  config {}  ledger clock {} ± {} ms\n",
        text(&stats["version"]),
        if stats["ready"] == true { "ready" } else { "NOT READY" },
        text(&stats["up_s"]),
        text(&stats["config"]),
        text(&stats["ledger_offset_ms"]),
        text(&stats["ledger_error_ms"]),
    );
    for alarm in each(&stats["alarms"]) {
        out.push_str(&format!("! {}: {}\n", text(&alarm["what"]), text(&alarm["said"])));
        if let Some(command) = alarm["command"].as_str() {
            out.push_str(&format!("  {command}\n"));
        }
    }
    for part in [sales(stats), counts(stats), upstreams(stats), times(stats), node_itself(stats)] {
        out.push('\n');
        out.push_str(&part);
    }
    out
}

fn sales(stats: &Value) -> String {
    let row = |sale: &Value| {
        let state = match (sale["paused"] == true, sale["hint"].as_str()) {
            (true, _) => format!("{} PAUSED", text(&sale["state"])),
            (false, Some(hint)) => format!("{} ({hint})", text(&sale["state"])),
            (false, None) => text(&sale["state"]),
        };
        let [id, stock, sold, held, limbo, room] =
            ["id", "stock", "confirmed", "held", "limbo", "room"].map(|name| text(&sale[name]));
        [id, state, stock, sold, held, limbo, room]
    };
    let rows: Vec<_> = each(&stats["sales"]).map(row).collect();
    if rows.is_empty() {
        return "no sale yet: `penstock sale put SITE/SALE -f sale.json`\n".to_owned();
    }
    table(["SALE", "STATE", "STOCK", "CONFIRMED", "HELD", "LIMBO", "ROOM"], &rows)
}

/// From requests to orders, with every reason that was given.
fn counts(stats: &Value) -> String {
    let none = Value::from(0);
    let (now, all) = (&stats["per_s_10s"], &stats["total"]);
    let row = |name: &str, each: &Value, total: &Value| [name.to_owned(), text(each), text(total)];
    let mut rows: Vec<_> = ["page", "availability", "purchase", "proxy", "refused"]
        .into_iter()
        .map(|name| row(name, &now[name], &all[name]))
        .collect();
    for (reason, total) in all["reasons"].as_object().into_iter().flatten() {
        let each = now["reasons"].get(reason).unwrap_or(&none);
        rows.push(row(&format!("  {reason}"), each, total));
    }
    let ends = ["admitted", "confirmed", "failed", "unknown", "pending"];
    rows.extend(ends.map(|name| row(name, &now[name], &all[name])));
    table(["WHAT", "PER S (10 S)", "TOTAL"], &rows)
}

fn upstreams(stats: &Value) -> String {
    let row = |group: &Value| {
        let of = |name: &str, max: &str| format!("{} of {}", text(&group[name]), text(&group[max]));
        [
            text(&group["group"]),
            text(&group["in_flight"]),
            text(&group["waiting"]),
            of("purchases", "purchases_max"),
            text(&group["purchases_waiting"]),
            of("held", "servers"),
        ]
    };
    let heading = ["UPSTREAM", "in flight", "waiting", "purchases", "queue", "servers down"];
    table(heading, &each(&stats["upstreams"]).map(row).collect::<Vec<_>>())
}

fn times(stats: &Value) -> String {
    let row = |name: &str| {
        let times = &stats["took_ms"][name];
        [name.to_owned(), text(&times["count"]), text(&times["p50"]), text(&times["p99"])]
    };
    let names = ["page", "availability", "purchase", "proxy", "upstream", "shop"];
    table(["MS, LAST 10 S", "COUNT", "P50 <", "P99 <"], &names.map(row))
}

fn node_itself(stats: &Value) -> String {
    let mib = |value: &Value| value.as_u64().map_or("-".to_owned(), |n| format!("{} MiB", n >> 20));
    let (memory, cache) = (&stats["memory"], &stats["cache"]);
    let hits = cache["hit_permille"].as_u64();
    format!(
        "memory {} of {}  cache {} of {}, hits {}  connections {} of {}\n",
        mib(&memory["bytes"]),
        mib(&memory["bytes_max"]),
        mib(&cache["bytes"]),
        mib(&cache["bytes_max"]),
        hits.map_or("-".to_owned(), |hits| format!("{}.{} %", hits / 10, hits % 10)),
        text(&stats["connections"]),
        text(&stats["connections_max"]),
    )
}

fn each(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    }
}
