use super::*;
use crate::demo::edge::{Audit, Check};
use crate::demo::facts::{Kill, Matched};

/// A demo as it was recorded, in which everything that can be shown is there.
fn recorded() -> Facts {
    serde_json::from_str(include_str!("recorded.json")).unwrap()
}

#[test]
fn the_report_is_short() {
    let facts = recorded();
    let lines = lines(&facts, &Verdict::of(&facts));
    assert!(lines.len() <= LINES_MAX, "{}", lines.join("\n"));
    assert!(lines.iter().all(|line| line.chars().count() <= 140), "{}", lines.join("\n"));
}

/// A page that is older than the release, or whose figures somebody typed, is found here:
/// `make demo` leaves a `report.json`, which becomes `recorded.json`.
#[test]
fn the_first_pages_quote_this_run() {
    let facts = recorded();
    assert_eq!(facts.version, env!("CARGO_PKG_VERSION"), "record a demo of this release");
    let lines = lines(&facts, &Verdict::of(&facts));
    for page in [include_str!("../../../README.md"), include_str!("../../../README.zh.md")] {
        let blocks: Vec<&str> =
            page.split("```").filter(|block| block.starts_with("text\n")).collect();
        let quoted = blocks.iter().flat_map(|block| block.lines().skip(1));
        let of_the_run = quoted.filter(|line| !line.trim_start().starts_with('$'));
        let said: Vec<&str> = of_the_run.filter(|line| !line.is_empty()).collect();
        for line in &said {
            assert!(lines.iter().any(|was| was == line), "not of the recorded demo: {line}");
        }
        for first in ["without  ", "with     ", "ADMITTED "] {
            assert!(said.iter().any(|line| line.starts_with(first)), "no line `{first}`");
        }
    }
}

#[test]
fn every_sum_adds_up() {
    let facts = recorded();
    let mut sums = 0;
    for line in lines(&facts, &Verdict::of(&facts)) {
        let Some((left, right)) = line.split_once(" = ") else { continue };
        let first_number = |text: &str| {
            text.split(|c: char| !c.is_ascii_digit()).find_map(|word| word.parse::<u64>().ok())
        };
        // `ADMITTED 5 = SOLD 3 + FAILED 2 (…)`: the sum stands on either side.
        let (parts, total) = if left.contains(" + ") { (left, right) } else { (right, left) };
        let parts = parts.split(" (").next().unwrap();
        let sum: u64 = parts.split(" + ").map(|part| first_number(part).unwrap()).sum();
        assert_eq!(sum, first_number(total).unwrap(), "{line}");
        sums += 1;
    }
    assert!(sums >= 5, "only {sums} sums");
}

#[test]
fn every_figure_names_its_source() {
    let facts = recorded();
    let lines = lines(&facts, &Verdict::of(&facts));
    let sources = ["shop", "client", "edge", "ledger", "journal"];
    let latencies = |line: &str| line.starts_with("  ");
    let about_itself = |line: &str| line.starts_with("again") || line.starts_with("next");
    for line in lines.iter().filter(|line| !latencies(line) && !about_itself(line)) {
        let names_one = sources.iter().any(|source| line.contains(source));
        assert!(names_one || line.contains("counted by"), "{line}");
    }
}

#[test]
fn a_demo_that_went_well_breaks_nothing() {
    let verdict = Verdict::of(&recorded());
    assert!(verdict.holds(), "{:?}", verdict.broken);
}

#[test]
fn each_broken_promise_is_told() {
    let broken = |change: fn(&mut Facts)| {
        let mut facts = recorded();
        change(&mut facts);
        let verdict = Verdict::of(&facts);
        assert!(!verdict.holds());
        let lines = lines(&facts, &verdict);
        assert!(lines.len() <= LINES_MAX && lines.iter().any(|line| line.contains("BROKEN")));
    };
    broken(|f| f.with.shop.units = 104);
    broken(|f| f.with.shop.users_twice = 1);
    broken(|f| f.with.shop.first_post_ms = f.t0_ms - 1);
    broken(|f| f.with.shop.stock.values_mut().for_each(|pool| pool.left = -1));
    broken(|f| f.journal.admitted += 1);
    broken(|f| f.journal.open += 1);
    broken(|f| f.ledger.confirmed -= 1);
    broken(|f| f.ledger.held = 5);
    broken(|f| f.audit.holds = false);
    broken(|f| {
        let said = "2 of 1".to_owned();
        f.audit.checks.push(Check { name: "I1 budget".to_owned(), holds: false, said });
    });
}

#[test]
fn nothing_is_shown_of_faults_that_were_not() {
    let mut facts = recorded();
    facts.kill = None::<Kill>;
    facts.matched = Matched::default();
    facts.audit = Audit { holds: true, checks: Vec::new() };
    let text = lines(&facts, &Verdict::of(&facts)).join("\n");
    assert!(!text.contains("kill -9") && !text.contains("limbo"));
}
