//! `penstock ctl`: how a running node is.

use serde_json::Value;

use super::node::Node;
use super::table::table;
use super::{Exit, say};

/// Asks a running node how it is.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// All counters and gauges, as Prometheus gets them.
    Metrics {
        #[command(flatten)]
        node: Node,
    },
    /// Whether it is ready for traffic; exit 1 and what is wrong if it is not.
    Ready {
        #[command(flatten)]
        node: Node,
        /// The node's JSON.
        #[arg(long)]
        json: bool,
    },
    /// The shop's servers as the node sees them.
    Upstreams {
        #[command(flatten)]
        node: Node,
        /// The node's JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Runs the verb.
pub fn run(args: Args) -> Exit {
    let done = match args.verb {
        Verb::Metrics { node } => metrics(&node),
        Verb::Ready { node, json } => ready(&node, json),
        Verb::Upstreams { node, json } => upstreams(&node, json),
    };
    done.unwrap_or_else(|exit| exit)
}

fn metrics(node: &Node) -> Result<Exit, Exit> {
    let text = node.ask()?.bytes("GET", "/metrics", None)?;
    Ok(say(&String::from_utf8_lossy(&text)))
}

fn ready(node: &Node, json: bool) -> Result<Exit, Exit> {
    let (status, body) = node.ask()?.any("GET", "/readyz")?;
    let is_ready = status == 200;
    if json {
        say(&String::from_utf8_lossy(&body));
    } else if is_ready {
        say("ready\n");
    } else {
        let told: Value = serde_json::from_slice(&body).unwrap_or_default();
        let word = |wrong: &Value, name: &str| wrong[name].as_str().unwrap_or("?").to_owned();
        let rows = told["wrong"].as_array().into_iter().flatten();
        let rows = rows.map(|wrong| [word(wrong, "what"), word(wrong, "said")]);
        say(&format!("not ready\n{}", table(["WHAT", "WHY"], &rows.collect::<Vec<_>>())));
    }
    Ok(if is_ready { Exit::Ok } else { Exit::Failure })
}

fn upstreams(node: &Node, json: bool) -> Result<Exit, Exit> {
    let told = node.ask()?.json("GET", "/v1/upstreams", None)?;
    if json {
        return Ok(say(&format!("{told:#}\n")));
    }
    let rows = told["upstreams"].as_array().into_iter().flatten().map(|server| {
        [
            "group",
            "server",
            "in_flight",
            "open",
            "connects",
            "connect_errors",
            "held",
            "circuit_open",
            "last_error",
        ]
        .map(|name| match &server[name] {
            Value::String(text) => text.clone(),
            Value::Null => "-".to_owned(),
            Value::Bool(is) => if *is { "yes" } else { "no" }.to_owned(),
            other => other.to_string(),
        })
    });
    let heading = [
        "GROUP",
        "SERVER",
        "IN FLIGHT",
        "OPEN",
        "CONNECTS",
        "ERRORS",
        "HELD",
        "CIRCUIT OPEN",
        "LAST ERROR",
    ];
    Ok(say(&table(heading, &rows.collect::<Vec<_>>())))
}
