//! `penstock limbo`: what nobody knows, and what settles it.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::node::One;
use super::sale::spare;
use super::table::table;
use super::{Exit, say};
use crate::claims::limbo::{MatchRequest, ReclassifyRequest, ResolveRequest, Truth};
use crate::config::units::{Span, Time};
use crate::ident::ClaimId;
use crate::orders;

/// Lists and settles admissions of which nobody knows what became.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Everything that is in limbo.
    List {
        #[command(flatten)]
        one: One,
    },
    /// Settles limbo by the shop's own list of orders: what is in it is sold, what is not is free.
    Match {
        #[command(flatten)]
        one: One,
        /// CSV with a header: `order` and one of `key`, `admission`, `user`.
        orders: PathBuf,
        /// The list may lack orders: what is not in it stays in limbo.
        #[arg(long)]
        partial: bool,
        /// When the list was made, with an offset; absent: when its file was last written.
        #[arg(long, value_name = "TIME")]
        made_at: Option<Time>,
        /// How long after an admission's deadline the shop may still make its order. What is not in
        /// the list and was younger when it was made stays in limbo.
        #[arg(long, default_value = "10s")]
        settle: Span,
        /// Nothing of this sale can reach the shop any more: what is not in the list is free, however
        /// young it is.
        #[arg(long, conflicts_with = "partial")]
        at_rest: bool,
        /// Only say what would be done.
        #[arg(long)]
        dry_run: bool,
    },
    /// Settles the claims that are named.
    Resolve {
        #[command(flatten)]
        one: One,
        /// Claims, as `limbo list` shows them.
        #[arg(required = true)]
        claims: Vec<ClaimId>,
        /// What they are.
        #[arg(long = "as")]
        truth: Is,
    },
    /// Settles all claims to which the shop gave the same answer.
    Reclassify {
        #[command(flatten)]
        one: One,
        /// The shop's code.
        #[arg(long, required_unless_present = "status")]
        code: Option<String>,
        /// The shop's status.
        #[arg(long)]
        status: Option<u16>,
        /// What they are.
        #[arg(long = "as")]
        truth: Is,
    },
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Is {
    /// The shop has the order.
    Confirmed,
    /// It has not: the units are free again.
    Failed,
}

impl From<Is> for Truth {
    fn from(is: Is) -> Truth {
        match is {
            Is::Confirmed => Truth::Confirmed,
            Is::Failed => Truth::Failed,
        }
    }
}

/// Runs the verb.
pub fn run(args: Args) -> Exit {
    let done = match args.verb {
        Verb::List { one } => list(&one),
        Verb::Match { one, orders, partial, made_at, settle: wait, at_rest, dry_run } => {
            // Far enough in the future for every deadline.
            let made_at_ms = match made_at {
                _ if at_rest => Some(u64::MAX),
                Some(time) => Some(time.at.0),
                None => written_at_ms(&orders),
            };
            let settle_ms = wait.ms;
            match orders::read(&orders) {
                Ok(orders) => {
                    let request = MatchRequest { orders, partial, made_at_ms, settle_ms, dry_run };
                    settle(&one, "match", json!(request))
                }
                Err(error) => {
                    eprintln!("penstock limbo match: {error}");
                    Err(Exit::Failure)
                }
            }
        }
        Verb::Resolve { one, claims, truth } => {
            settle(&one, "resolve", json!(ResolveRequest { claims, truth: truth.into() }))
        }
        Verb::Reclassify { one, code, status, truth } => {
            let request = ReclassifyRequest { code, status, truth: truth.into() };
            settle(&one, "reclassify", json!(request))
        }
    };
    done.unwrap_or_else(|exit| exit)
}

/// When a file was last written. An old list does not know the newest orders, whenever it is used.
fn written_at_ms(file: &Path) -> Option<u64> {
    let written = std::fs::metadata(file).ok()?.modified().ok()?;
    let ms = written.duration_since(std::time::UNIX_EPOCH).ok()?.as_millis();
    u64::try_from(ms).ok()
}

fn list(one: &One) -> Result<Exit, Exit> {
    let asking = one.node.ask()?;
    let id = asking.sale(&one.sale)?;
    let told = asking.json("GET", &format!("/v1/sales/{id}/limbo"), None)?;
    if one.json {
        return Ok(say(&format!("{told:#}\n")));
    }
    let rows = told["limbo"].as_array().into_iter().flatten().map(|record| {
        ["claim", "user", "pool", "units", "status", "code", "order"].map(|name| {
            match &record[name] {
                Value::String(text) => text.clone(),
                Value::Null => "-".to_owned(),
                other => other.to_string(),
            }
        })
    });
    let heading = ["CLAIM", "USER", "POOL", "UNITS", "STATUS", "CODE", "ORDER"];
    Ok(say(&table(heading, &rows.collect::<Vec<_>>())))
}

fn settle(one: &One, how: &str, body: Value) -> Result<Exit, Exit> {
    let asking = one.node.ask()?;
    let id = asking.sale(&one.sale)?;
    let told = asking.json("POST", &format!("/v1/sales/{id}/limbo/{how}"), Some(body.clone()))?;
    if one.json {
        return Ok(say(&format!("{told:#}\n")));
    }
    let number = |name: &str| told[name].as_u64().unwrap_or(0);
    let mut said = format!(
        "{} confirmed, {} failed, {} still in limbo\n",
        number("confirmed"),
        number("failed"),
        number("left")
    );
    for (name, text) in [
        ("conflicts", "of them the ledger has another word for: look at them"),
        (
            "waiting",
            "of them the ledger has not acknowledged yet; they are delivered until it does",
        ),
    ] {
        if number(name) > 0 {
            said.push_str(&format!("{} {text}\n", number(name)));
        }
    }
    let strangers = told["not_in_limbo"].as_array().map_or(0, Vec::len);
    if strangers > 0 {
        said.push_str(&format!("{strangers} of the claims named are not in limbo\n"));
    }
    if how == "match" && number("left") > 0 && body["partial"] != true {
        said.push_str(
            "what is left was too young when the list was made, its order may still come: make a new \
             list in a minute, or say --at-rest\n",
        );
    }
    if number("failed") > 0 && body["dry_run"] != true {
        said.push_str(&spare(&asking.json("GET", &format!("/v1/sales/{id}"), None)?));
    }
    Ok(say(&said))
}
