//! `penstock sale`: what sales are, and an operator's word about them.

use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::node::{Asking, Node, One};
use super::table::table;
use super::{Exit, say};

/// Shows and controls sales on a running node.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Every sale that the ledger has.
    List {
        #[command(flatten)]
        node: Node,
        /// The node's JSON.
        #[arg(long)]
        json: bool,
    },
    /// One sale: what the ledger holds and what the public is told.
    Show(One),
    /// Declares a sale from a JSON file; its `revision` must rise with every change.
    Put {
        #[command(flatten)]
        one: One,
        /// The declaration; `-` is standard input.
        #[arg(short = 'f', long = "file", value_name = "FILE")]
        declaration: PathBuf,
    },
    /// No purchases until `resume`. What the public sees stays as it is.
    Pause(One),
    /// Purchases again.
    Resume(One),
    /// Sold out from now on, whatever the stock.
    SoldOut(One),
    /// Over from now on, for good.
    End(One),
    /// More units of a pool that is not sold out.
    AddStock(Stock),
    /// Sells again after a pool was sold out, as a new epoch: what is free in it, and `--units` more.
    /// Limbo that failed is free already, so it takes `--units 0`; orders that were cancelled are not,
    /// so it takes their units.
    Restock(Stock),
}

/// Units of one pool.
#[derive(Debug, clap::Args)]
struct Stock {
    #[command(flatten)]
    one: One,
    /// The pool; absent: the only one.
    #[arg(long)]
    pool: Option<String>,
    /// How many units are added to the stock.
    #[arg(long)]
    units: u64,
    /// A name for this change: with it, asking twice changes the stock once.
    #[arg(long)]
    id: Option<String>,
}

/// Runs the verb.
pub fn run(args: Args) -> Exit {
    let done = match args.verb {
        Verb::List { node, json } => list(&node, json),
        Verb::Show(one) => show(&one),
        Verb::Put { one, declaration } => put(&one, &declaration),
        Verb::Pause(one) => control(&one, "pause", None),
        Verb::Resume(one) => control(&one, "resume", None),
        Verb::SoldOut(one) => control(&one, "sold_out", None),
        Verb::End(one) => control(&one, "end", None),
        Verb::AddStock(stock) => control(&stock.one, "add-stock", Some(stock.body())),
        Verb::Restock(stock) => control(&stock.one, "restock", Some(stock.body())),
    };
    done.unwrap_or_else(|exit| exit)
}

impl Stock {
    fn body(&self) -> Value {
        let mut body = json!({ "units": self.units });
        for (name, value) in [("pool", &self.pool), ("id", &self.id)] {
            if let Some(value) = value {
                body[name] = json!(value);
            }
        }
        body
    }
}

fn list(node: &Node, json: bool) -> Result<Exit, Exit> {
    let told = node.ask()?.json("GET", "/v1/sales", None)?;
    if json {
        return Ok(pretty(&told));
    }
    let rows: Vec<_> = told["sales"].as_array().into_iter().flatten().map(row).collect();
    let heading = ["SALE", "ACTIVITY", "STATE", "STOCK", "CONFIRMED", "HELD", "LIMBO", "EPOCH"];
    Ok(say(&table(heading, &rows)))
}

fn row(sale: &Value) -> [String; 8] {
    ["id", "activity", "state", "stock", "confirmed", "held", "limbo", "epoch"]
        .map(|name| if name == "state" { state(sale) } else { text(&sale[name]) })
}

fn show(one: &One) -> Result<Exit, Exit> {
    let asking = one.node.ask()?;
    let sale = asking.json("GET", &path(&asking, &one.sale, "")?, None)?;
    Ok(if one.json { pretty(&sale) } else { say(&describe(&sale)) })
}

fn put(one: &One, file: &Path) -> Result<Exit, Exit> {
    let declaration = read(file)?;
    let asking = one.node.ask()?;
    let told = asking.json("PUT", &path(&asking, &one.sale, "")?, Some(declaration))?;
    if told["result"] == "created_paused" {
        eprintln!(
            "penstock: the sale is PAUSED: its opens_at is past and the ledger did not know it; \
             `penstock sale resume {}` opens it",
            one.sale
        );
    }
    Ok(finish(one, &told))
}

fn control(one: &One, word: &str, body: Option<Value>) -> Result<Exit, Exit> {
    let asking = one.node.ask()?;
    let told = asking.json("POST", &path(&asking, &one.sale, word)?, body)?;
    Ok(finish(one, &told))
}

fn finish(one: &One, told: &Value) -> Exit {
    if one.json {
        return pretty(told);
    }
    let result = match told["result"].as_str() {
        Some("unchanged") => "nothing changed: it was so already",
        Some("created_paused") => "created, paused",
        _ => "done",
    };
    say(&format!("{result}\n{}", describe(&told["sale"])))
}

fn path(asking: &Asking, sale: &str, part: &str) -> Result<String, Exit> {
    let id = asking.sale(sale)?;
    let slash = if part.is_empty() { "" } else { "/" };
    Ok(format!("/v1/sales/{id}{slash}{part}"))
}

/// A declaration is sent as the JSON it is; the node says what is wrong with it.
fn read(file: &Path) -> Result<Value, Exit> {
    let said = |what: String| {
        eprintln!("penstock sale put: {}: {what}", file.display());
        Exit::Failure
    };
    let mut text = String::new();
    let read = match file.to_str() {
        Some("-") => std::io::stdin().read_to_string(&mut text).map(drop),
        _ => std::fs::read_to_string(file).map(|read| text = read),
    };
    read.map_err(|cause| said(cause.to_string()))?;
    serde_json::from_str(&text).map_err(|cause| said(cause.to_string()))
}

fn describe(sale: &Value) -> String {
    let mut out = format!(
        "{}  activity {}  {}  epoch {}  version {}  revision {}\n",
        text(&sale["id"]),
        text(&sale["activity"]),
        state(sale),
        text(&sale["epoch"]),
        text(&sale["version"]),
        text(&sale["revision"]),
    );
    out.push_str(&format!(
        "opens {}  ends {}\n",
        time(&sale["opens_at_ms"]),
        time(&sale["ends_at_ms"])
    ));
    out.push_str(&format!(
        "a user may have {} orders, {} units; heard {} ms ago\n\n",
        text(&sale["per_user"]["orders"]),
        text(&sale["per_user"]["units"]),
        text(&sale["age_ms"]),
    ));
    let pools = sale["pools"].as_array().into_iter().flatten().map(|pool| {
        ["name", "stock", "confirmed", "held", "limbo", "room", "sold_out"]
            .map(|name| text(&pool[name]))
    });
    let heading = ["POOL", "STOCK", "CONFIRMED", "HELD", "LIMBO", "ROOM", "SOLD OUT"];
    out.push_str(&table(heading, &pools.collect::<Vec<_>>()));
    out.push_str(&spare(sale));
    out
}

/// A line for each pool that is sold out and has units that nobody has: limbo that failed does not sell
/// itself again.
pub(super) fn spare(sale: &Value) -> String {
    let pools: Vec<_> = sale["pools"].as_array().into_iter().flatten().collect();
    let (id, is_one) = (text(&sale["id"]), pools.len() == 1);
    let is_open = sale["state"] != "ended" && sale["restock"] != "never";
    let mut out = String::new();
    for pool in pools.iter().filter(|pool| is_open && pool["sold_out"] == true) {
        let number = |name: &str| pool[name].as_u64().unwrap_or(0);
        let taken = number("confirmed") + number("held") + number("limbo");
        let free = number("stock").saturating_sub(taken);
        if free > 0 {
            let name = text(&pool["name"]);
            let which = if is_one { String::new() } else { format!(" --pool {name}") };
            out.push_str(&format!(
                "pool {name} is sold out and {free} of its units are free: `penstock sale restock \
                 {id}{which} --units 0` sells them\n"
            ));
        }
    }
    out
}

/// The public state, with what an operator should see at once.
fn state(sale: &Value) -> String {
    let paused = sale["paused"] == true;
    let hint = sale["hint"].as_str().filter(|hint| *hint != "paused");
    let mut said = text(&sale["state"]);
    if paused {
        said.push_str(" PAUSED");
    }
    if let Some(hint) = hint {
        said.push_str(&format!(" ({hint})"));
    }
    said
}

fn time(value: &Value) -> String {
    let stamp = value.as_i64().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    stamp.map_or_else(|| "-".to_owned(), |stamp| stamp.to_string())
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        other => other.to_string(),
    }
}

fn pretty(value: &Value) -> Exit {
    say(&format!("{value:#}\n"))
}
