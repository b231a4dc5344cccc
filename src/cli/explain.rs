//! `penstock explain`: what would become of a request, and why.

use serde_json::{Value, json};

use super::node::Node;
use super::{Exit, say};

/// Says what a running node would do with a request, and why: site, route, key, variant, what is stored,
/// how old it is, and the sale. No request is sent to the shop, and nothing changes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The whole URL, such as `http://shop.example/activity/8848?city=sh`.
    url: String,
    /// A field of the request, `Name: value`; again for others.
    #[arg(short = 'H', long = "header", value_name = "FIELD", value_parser = field)]
    headers: Vec<(String, String)>,
    /// The method.
    #[arg(short = 'X', long, default_value = "GET")]
    method: String,
    #[command(flatten)]
    node: Node,
    /// The node's JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub fn run(args: &Args) -> Exit {
    let body = json!({ "url": args.url, "method": args.method, "headers": args.headers });
    let told = args.node.ask().and_then(|asking| asking.json("POST", "/v1/explain", Some(body)));
    match told {
        Ok(told) if args.json => say(&format!("{told:#}\n")),
        Ok(told) => say(&lines(&told)),
        Err(exit) => exit,
    }
}

fn field(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("write `Name: value`")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

fn lines(told: &Value) -> String {
    let mut out = String::new();
    let mut line = |name: &str, value: String| {
        out.push_str(format!("{name:<14}{value}").trim_end());
        out.push('\n');
    };
    for name in ["site", "route", "host", "activity", "city"] {
        if let Some(value) = told[name].as_str() {
            line(name, value.to_owned());
        }
    }
    if let Some(sale) = told["sale"].as_object() {
        let buyable = if sale["buyable"] == true { ", buyable" } else { "" };
        let hint = sale["hint"].as_str().map(|hint| format!(", {hint}")).unwrap_or_default();
        let next = sale["next_edge_ms"].as_u64();
        let next = next.map(|ms| format!(", changes at {}", instant(ms))).unwrap_or_default();
        line(
            "sale",
            format!("{} {}{buyable}{hint}{next}", text(&sale["id"]), text(&sale["state"])),
        );
    }
    if told["cache"].is_object() {
        let cache = &told["cache"];
        line("key", format!("{} ({})", pairs(&cache["key"]), text(&cache["hash"])));
        if cache["variant"].as_array().is_some_and(|parts| !parts.is_empty()) {
            line("variant", pairs(&cache["variant"]));
        }
        match &cache["stored"] {
            Value::Null => line("stored", "nothing".to_owned()),
            stored => of_stored(stored, &mut line),
        }
        if let Some(encoding) = cache["encoding"].as_str() {
            line("encoding", encoding.to_owned());
        }
    }
    line("action", text(&told["action"]));
    line("why", text(&told["why"]));
    out
}

fn of_stored(stored: &Value, line: &mut impl FnMut(&str, String)) {
    let status = stored["status"].as_u64().map(|status| format!(" {status}")).unwrap_or_default();
    let pinned = stored["pinned_for"].as_str().map(|sale| format!(", pinned for {sale}"));
    let encodings = stored["encodings"].as_array().into_iter().flatten();
    let encodings: Vec<String> =
        encodings.map(|one| format!("{} {}", text(&one[0]), one[1])).collect();
    let encodings = match encodings.is_empty() {
        true => String::new(),
        false => format!(" ({})", encodings.join(", ")),
    };
    let sizes = format!("{} bytes in all{encodings}", stored["bytes"]);
    let pinned = pinned.unwrap_or_default();
    line("stored", format!("{}{status}, {sizes}{pinned}", text(&stored["what"])));
    for part in stored["headers"].as_array().into_iter().flatten() {
        line("", format!("{}: {}", text(&part["name"]), text(&part["value"])));
    }
    let secs = |name: &str| stored[name].as_u64().unwrap_or(0) as f64 / 1_000.0;
    line("age", format!("{} s", secs("age_ms")));
    let fresh = match stored["fresh_ms"].as_u64() {
        Some(0) | None => "stale".to_owned(),
        Some(_) => format!("fresh for {} s", secs("fresh_ms")),
    };
    // A remark about a page is fresh, and then it is nothing.
    if stored["status"].is_null() {
        return line("freshness", fresh);
    }
    line(
        "freshness",
        format!(
            "{fresh}; served while fetched again for {} s, rather than an error for {} s; refill: {}",
            secs("stale_while_revalidate_ms"),
            secs("stale_if_error_ms"),
            text(&stored["refill"])
        ),
    );
}

fn pairs(parts: &Value) -> String {
    let part = |part: &Value| match part["value"].as_str() {
        Some(value) => format!("{}={value}", text(&part["name"])),
        None => format!("{} absent", text(&part["name"])),
    };
    parts.as_array().into_iter().flatten().map(part).collect::<Vec<_>>().join(" · ")
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn instant(ms: u64) -> String {
    let at = i64::try_from(ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    at.map_or_else(|| ms.to_string(), |at| at.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_a_name_and_a_value() {
        let pair = |a: &str, b: &str| Ok((a.to_owned(), b.to_owned()));
        assert_eq!(field("Accept-Encoding: br, gzip"), pair("Accept-Encoding", "br, gzip"));
        assert_eq!(field("X:a:b"), pair("X", "a:b"));
        assert!(field("nothing").is_err());
    }
}
