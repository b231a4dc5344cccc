//! `penstock purge`: pages that are no longer true.

use serde_json::{Value, json};

use super::node::Node;
use super::{Exit, say};

/// Removes pages from the cache of a running node.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// `ACTIVITY`, or `SITE/ACTIVITY` where there are several sites.
    #[arg(required_unless_present_any = ["url", "all"], conflicts_with_all = ["url", "all"])]
    activity: Option<String>,
    /// Only the page for this city.
    #[arg(long, requires = "activity")]
    city: Option<String>,
    /// The page that a URL names.
    #[arg(long, conflicts_with = "all")]
    url: Option<String>,
    /// Every page.
    #[arg(long)]
    all: bool,
    /// Keep the pages for the case that the shop does not answer, but fetch them again at once.
    #[arg(long)]
    soft: bool,
    #[command(flatten)]
    node: Node,
    /// The node's JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub fn run(args: Args) -> Exit {
    let purged =
        args.node.ask().and_then(|asking| asking.json("POST", "/v1/purge", Some(args.body())));
    match purged {
        Ok(told) if args.json => say(&format!("{told:#}\n")),
        Ok(told) => say(&format!("{} pages purged\n", told["purged"])),
        Err(exit) => exit,
    }
}

impl Args {
    fn body(&self) -> Value {
        let mut body = json!({ "soft": self.soft });
        if let Some(activity) = &self.activity {
            let (site, activity) = match activity.split_once('/') {
                Some((site, activity)) => (Some(site), activity),
                None => (None, activity.as_str()),
            };
            body["activity"] = json!(activity);
            if let Some(site) = site {
                body["site"] = json!(site);
            }
        }
        for (name, value) in [("city", &self.city), ("url", &self.url)] {
            if let Some(value) = value {
                body[name] = json!(value);
            }
        }
        if self.all {
            body["all"] = json!(true);
        }
        body
    }
}
