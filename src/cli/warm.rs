//! `penstock warm`: the pages of a sale, fetched, looked at and pinned before anybody asks.

use serde_json::{Value, json};

use super::node::{Asking, One};
use super::table::table;
use super::{Exit, count, say};
use crate::ident::SaleId;

/// Fetches every page of a sale in every encoding through a running node and pins it until the sale
/// ends. Exit 5 if one is not as it should be.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    one: One,
    /// Look at each page: a least size, a marker, no `Set-Cookie`, and encodings that decode to it.
    #[arg(long)]
    verify: bool,
    /// A text that stands in every page.
    #[arg(long, value_name = "TEXT", requires = "verify")]
    marker: Option<String>,
    /// Least size of every page, in bytes.
    #[arg(long, value_name = "BYTES", default_value_t = 1, requires = "verify")]
    bytes_min: u64,
    /// Only for this city; again for others. Absent: those of `activity.cities`, and none.
    #[arg(long, value_name = "CITY")]
    city: Vec<String>,
    /// The host, where the site takes any.
    #[arg(long)]
    host: Option<String>,
    /// End the pins of the sale instead.
    #[arg(long, conflicts_with_all = ["verify", "city", "host"])]
    unpin: bool,
}

/// Runs the verb.
pub fn run(args: Args) -> Exit {
    let asked = args.one.node.ask().and_then(|asking| {
        let id = asking.sale(&args.one.sale)?;
        if args.unpin { unpin(&args, &asking, &id) } else { warm(&args, &asking, &id) }
    });
    asked.unwrap_or_else(|exit| exit)
}

fn unpin(args: &Args, asking: &Asking, id: &SaleId) -> Result<Exit, Exit> {
    let told = asking.json("POST", &format!("/v1/sales/{id}/unpin"), None)?;
    Ok(match args.one.json {
        true => say(&format!("{told:#}\n")),
        false => say(&format!("{} unpinned\n", count(&told["unpinned"], "page"))),
    })
}

fn warm(args: &Args, asking: &Asking, id: &SaleId) -> Result<Exit, Exit> {
    let mut pages: Vec<Value> = Vec::new();
    let mut from = json!(0);
    loop {
        let mut body = json!({
            "cities": args.city, "verify": args.verify, "bytes_min": args.bytes_min, "from": from,
        });
        for (name, value) in [("marker", &args.marker), ("host", &args.host)] {
            if let Some(value) = value {
                body[name] = json!(value);
            }
        }
        let told = asking.json("POST", &format!("/v1/sales/{id}/warm"), Some(body))?;
        if let (Some(note), true) = (told["note"].as_str(), pages.is_empty()) {
            eprintln!("penstock: {note}");
        }
        pages.extend(told["pages"].as_array().into_iter().flatten().cloned());
        match &told["next"] {
            Value::Null => break,
            next => from = next.clone(),
        }
    }
    let sum = Sum::of(&pages);
    let said = match args.one.json {
        true => say(&format!("{:#}\n", json!({ "pages": pages, "sum": sum.json() }))),
        false => say(&format!("{}{}\n", rows(&pages), sum.text())),
    };
    Ok(if sum.failed > 0 && said == Exit::Ok { Exit::Assertion } else { said })
}

/// What came of all pages.
struct Sum {
    pages: usize,
    answers: usize,
    pinned: usize,
    failed: usize,
    bytes: u64,
}

impl Sum {
    fn of(pages: &[Value]) -> Sum {
        let encodings = |page: &Value| page["encodings"].as_array().cloned().unwrap_or_default();
        let all: Vec<Value> = pages.iter().flat_map(encodings).collect();
        Sum {
            pages: pages.len(),
            answers: all.len(),
            pinned: pages.iter().filter(|page| page["pinned"] == true).count(),
            failed: pages.iter().filter(|page| !problems(page).is_empty()).count(),
            bytes: all.iter().filter_map(|one| one["bytes"].as_u64()).sum(),
        }
    }

    fn json(&self) -> Value {
        let Sum { pages, answers, pinned, failed, bytes } = self;
        json!({
            "pages": pages, "answers": answers, "pinned": pinned, "failed": failed, "bytes": bytes,
        })
    }

    fn text(&self) -> String {
        let Sum { pages, answers, pinned, failed, bytes } = self;
        format!(
            "{pages} pages in {answers} encodings, {bytes} bytes: {pinned} pinned, {failed} failed"
        )
    }
}

/// A line for each page and encoding.
fn rows(pages: &[Value]) -> String {
    let mut rows = Vec::new();
    for page in pages {
        let city = page["city"].as_str().unwrap_or("-").to_owned();
        let state = page["state"].as_str().unwrap_or("-").to_owned();
        let path = page["path"].as_str().unwrap_or_default().to_owned();
        let status = page["status"].as_u64().map_or("-".to_owned(), |status| status.to_string());
        let result = match problems(page) {
            problems if problems.is_empty() => "pinned".to_owned(),
            problems => problems.join("; "),
        };
        let row = |encoding: &str, bytes: String| {
            let (path, city, state) = (path.clone(), city.clone(), state.clone());
            [path, city, state, encoding.to_owned(), status.clone(), bytes, result.clone()]
        };
        let encodings = page["encodings"].as_array().cloned().unwrap_or_default();
        if encodings.is_empty() {
            rows.push(row("-", "0".to_owned()));
        }
        for one in encodings {
            rows.push(row(one["encoding"].as_str().unwrap_or("-"), one["bytes"].to_string()));
        }
    }
    table(["PATH", "CITY", "STATE", "ENCODING", "STATUS", "BYTES", "RESULT"], &rows)
}

fn problems(page: &Value) -> Vec<&str> {
    let problems = page["problems"].as_array().into_iter().flatten();
    problems.filter_map(Value::as_str).collect()
}
