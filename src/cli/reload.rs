//! `penstock reload`: a running node takes the config as it is now.

use serde_json::Value;

use super::order::Order;
use super::{Exit, say};

/// Has a running node read its config again: sites, upstreams, listeners, limits and sales change,
/// connections, cache and counters stay. On any mistake everything stays as it was (exit 78).
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    order: Order,
}

/// Runs the verb.
pub fn run(args: &Args) -> Exit {
    args.order.give("reload", "the node reads its config", shown)
}

fn shown(told: &Value) -> Exit {
    let lines = |name: &str| {
        let lines = told[name].as_array().into_iter().flatten();
        lines.filter_map(|line| line.as_str().map(str::to_owned)).collect::<Vec<_>>()
    };
    for warning in lines("warnings") {
        eprintln!("{warning}");
    }
    let hash = told["hash"].as_str().unwrap_or_default();
    let mut out = format!("config {} ({hash}) runs\n", told["generation"]);
    let changed = lines("changed");
    if changed.is_empty() {
        out.push_str("  no setting changed; key files were read again\n");
    }
    for line in changed {
        out.push_str(&format!("  {line}\n"));
    }
    for line in lines("waiting") {
        out.push_str(&format!("  waits for `penstock upgrade` or a restart: {line}\n"));
    }
    let said = say(&out);
    let refused = lines("declarations");
    for line in &refused {
        eprintln!("penstock reload: {line}");
    }
    if refused.is_empty() { said } else { Exit::Refused }
}
