//! `penstock purge`: pages that are no longer true.

use clap::ArgGroup;
use serde_json::{Value, json};

use super::node::Node;
use super::{Exit, count, say};

/// Removes pages from the cache of a running node.
#[derive(Debug, clap::Args)]
#[group(skip)]
#[command(group(ArgGroup::new("what").required(true).multiple(true).args(WHAT)))]
pub struct Args {
    /// `ACTIVITY`, or `SITE/ACTIVITY` where there are several sites.
    #[arg(conflicts_with_all = ["url", "host", "prefix", "tag", "all"])]
    activity: Option<String>,
    /// Only the page for this city.
    #[arg(long, requires = "activity")]
    city: Option<String>,
    /// What is stored for a URL, in all its variants.
    #[arg(long, conflicts_with_all = ["all", "host", "prefix", "tag"])]
    url: Option<String>,
    /// Everything of a host.
    #[arg(long, conflicts_with_all = ["all", "tag"])]
    host: Option<String>,
    /// Everything whose path begins so: `/news/` on every host or on `--host`, or a whole URL.
    #[arg(long, conflicts_with_all = ["all", "tag"])]
    prefix: Option<String>,
    /// Everything that has this surrogate key; may be said more than once.
    #[arg(long, conflicts_with = "all")]
    tag: Vec<String>,
    /// Only tags of this site.
    #[arg(long, requires = "tag")]
    site: Option<String>,
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
    let what = if args.soft { "made stale" } else { "purged" };
    match purged {
        Ok(told) if args.json => say(&format!("{told:#}\n")),
        Ok(told) => say(&format!("{} {what}\n", count(&told["purged"], "page"))),
        Err(exit) => exit,
    }
}

/// What a purge may be about: one of them has to be said.
const WHAT: [&str; 6] = ["activity", "url", "host", "prefix", "tag", "all"];

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
        let said = [
            ("city", &self.city),
            ("url", &self.url),
            ("host", &self.host),
            ("prefix", &self.prefix),
            ("site", &self.site),
        ];
        for (name, value) in said {
            if let Some(value) = value {
                body[name] = json!(value);
            }
        }
        if !self.tag.is_empty() {
            body["tags"] = json!(self.tag);
        }
        if self.all {
            body["all"] = json!(true);
        }
        body
    }
}
