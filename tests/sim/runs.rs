//! The runs: so many seeds without a breach, and each planted bug found within them.

use std::time::Instant;

use crate::bug::{ALL, Bug};
use crate::world::{End, run};

/// Seeds of the test run; `make sim SEEDS=…` takes more.
const SEEDS: u64 = 200;
/// Seeds within which a planted bug is found; most are in the first ten.
const BUG_SEEDS: u64 = 2_000;
/// Those in which something was found once.
const FOUND: [u64; 3] = [2_707, 3_842, 4_502];

fn seeds() -> u64 {
    let asked = std::env::var("SEEDS").ok().and_then(|text| text.parse().ok());
    asked.unwrap_or(SEEDS)
}

#[test]
fn nothing_is_broken_in_any_run() {
    let (began, mut events, mut fences) = (Instant::now(), 0, 0);
    let mut broken = Vec::new();
    for seed in (0..seeds()).chain(FOUND) {
        let End { breach, events: more, fences: often, .. } = run(seed, Bug::None, false);
        (events, fences) = (events + more, fences + often);
        broken.extend(breach.map(|text| format!("seed {seed}: {text}")));
    }
    println!("{} seeds, {events} events, {fences} fences, {:?}", seeds(), began.elapsed());
    assert!(broken.is_empty(), "{} breaches:\n{}", broken.len(), broken.join("\n"));
    assert!(fences > seeds() / 4, "the ledgers hardly ever forgot anything");
}

#[test]
fn each_planted_bug_is_found() {
    let mut missed = Vec::new();
    for bug in ALL {
        let found = (0..BUG_SEEDS).find_map(|seed| Some((seed, run(seed, *bug, false).breach?)));
        match found {
            Some((seed, text)) => println!("{bug:?}: seed {seed}: {text}"),
            None => missed.push(bug),
        }
    }
    assert!(missed.is_empty(), "not found in {BUG_SEEDS} seeds: {missed:?}");
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in [3, 6] {
        let (one, other) = (run(seed, Bug::None, true), run(seed, Bug::None, true));
        assert!(one.trace.len() > 500, "{} events", one.trace.len());
        assert_eq!(one.trace, other.trace);
    }
    assert_ne!(run(3, Bug::None, true).trace, run(7, Bug::None, true).trace);
}

/// `SEED=17 cargo test --profile ci --test sim one_run -- --nocapture` prints a run, event by event.
#[test]
fn one_run() {
    let Some(seed) = std::env::var("SEED").ok().and_then(|text| text.parse().ok()) else { return };
    let end = run(seed, Bug::None, true);
    end.trace.iter().for_each(|line| println!("{line}"));
    println!("{:?}", end.breach);
}
