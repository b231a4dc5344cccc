//! What ships beside the binary speaks of metrics that a node really has.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use penstock::outcome::REASONS;
use serde_json::Value;

use super::node::{Config, Place, quick_shop};

fn file(path: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(Path::new(path));
    std::fs::read_to_string(&path).unwrap_or_else(|cause| panic!("{}: {cause}", path.display()))
}

/// Every family of a scrape with the labels that it has.
fn families() -> BTreeMap<String, BTreeSet<String>> {
    let shop = quick_shop();
    let node = Place::new(shop.address(), &Config::default()).start();
    let text = node.place.good(&["ctl", "metrics"]);
    let mut families: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (sample, _) = line.rsplit_once(' ').expect("a value");
        let (name, labels) = sample.split_once('{').unwrap_or((sample, ""));
        let known = families.entry(name.to_owned()).or_default();
        let labels =
            labels.trim_end_matches('}').split(',').filter_map(|pair| pair.split_once('='));
        known.extend(labels.map(|(label, _)| label.to_owned()));
    }
    families
}

/// Names of metrics in an expression, each with what stands in braces behind it.
fn asked(expr: &str) -> Vec<(String, String)> {
    let starts = expr.match_indices("penstock_").map(|(at, _)| at);
    let word = |at: usize| {
        let rest = &expr[at..];
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        let labels = rest[end..].strip_prefix('{').and_then(|rest| rest.split_once('}'));
        (rest[..end].to_owned(), labels.map_or(String::new(), |(labels, _)| labels.to_owned()))
    };
    starts.map(word).collect()
}

fn check(what: &str, expr: &str, families: &BTreeMap<String, BTreeSet<String>>) {
    for (name, labels) in asked(expr) {
        let known = families.get(&name).unwrap_or_else(|| panic!("{what}: no metric {name}"));
        for pair in labels.split(',').filter(|pair| !pair.is_empty()) {
            let (label, value) = pair.split_once('=').expect("a matcher");
            assert!(known.contains(label), "{what}: {name} has no label {label}");
            if label == "reason" {
                let reasons = value.trim_start_matches('~').trim_matches('"').split('|');
                for reason in reasons {
                    assert!(
                        REASONS.iter().any(|row| row.label == reason),
                        "{what}: no reason {reason}"
                    );
                }
            }
        }
    }
}

#[test]
fn dashboard_and_alerts_name_only_metrics_that_there_are() {
    let families = families();
    let alerts = file("packaging/prometheus/alerts.yml");
    check("alerts.yml", &alerts, &families);
    let operations = file("docs/operations.md");
    let names: Vec<&str> =
        alerts.lines().filter_map(|l| l.trim().strip_prefix("- alert: ")).collect();
    assert!(names.len() > 20, "{names:?}");
    for name in &names {
        assert!(
            operations.contains(&format!("`{name}`")),
            "docs/operations.md does not tell of {name}"
        );
    }
    let count = |word: &str| alerts.lines().filter(|line| line.trim().starts_with(word)).count();
    for word in ["expr:", "labels: { severity: ", "summary:"] {
        assert_eq!(count(word), names.len(), "each alert has one {word}");
    }

    let board: Value =
        serde_json::from_str(&file("packaging/grafana/penstock.json")).expect("JSON");
    let panels = board["panels"].as_array().expect("panels");
    let mut exprs = 0;
    for panel in panels {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expr = target["expr"].as_str().expect("an expression");
            assert!(expr.contains("penstock_"), "{expr}");
            check(panel["title"].as_str().expect("a title"), expr, &families);
            exprs += 1;
        }
    }
    assert!(exprs > 25, "{exprs}");
    check("variables", &board["templating"].to_string(), &families);
    check("annotations", &board["annotations"].to_string(), &families);
}

#[test]
fn the_docs_know_every_reason_as_it_is() {
    let answers = file("docs/answers.md");
    for row in REASONS {
        let begins = format!("| `{}` | ", row.label);
        let line = answers.lines().find(|line| line.starts_with(&begins));
        let line = line.unwrap_or_else(|| panic!("docs/answers.md does not tell of {}", row.label));
        let relays = line.contains("| the shop's | the shop's |");
        let told = format!("{begins}{} | {} | ", row.status, row.code);
        assert!(relays && row.code == 0 || line.starts_with(&told), "{line}");
    }
}
