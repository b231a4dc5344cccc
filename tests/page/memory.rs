//! What the cache takes, against what it says and what it may, and hits in a storm of purges: in
//! processes of their own, whose memory nothing else moves. `make bench-cache` measures the same with
//! ten million keys, and with 100,000 pages under one key.

use std::process::Command;

use crate::cache::{many_keys, storm};

const SIZE_MIB: u64 = 32;
/// What is no entry's: the table of an empty cache, and what the allocator keeps.
const BASE: u64 = 8 << 20;

/// What a process with an empty cache takes at most.
const BASES: u64 = 64 << 20;

/// Runs one of the tests below in a process of its own, and shows what it prints.
fn alone(test: &str) {
    let test = format!("memory::{test}");
    let this = std::env::current_exe().expect("a test");
    let mut child = Command::new(this);
    child.args([&*test, "--exact", "--ignored", "--nocapture"]);
    let output = child.output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}");
    assert!(output.status.success() && said.contains("1 passed"), "{said}{output:?}");
}

#[test]
fn many_small_pages_stay_within_the_size() {
    alone("small_pages");
}

#[test]
fn many_pages_of_all_sizes_stay_within_the_size() {
    alone("all_sizes");
}

#[test]
#[ignore = "run by many_small_pages_stay_within_the_size"]
fn small_pages() {
    check(40_000, &[100]);
}

#[test]
#[ignore = "run by many_pages_of_all_sizes_stay_within_the_size"]
fn all_sizes() {
    check(30_000, &[100, 1_000, 4_000, 20_000]);
}

/// What the process grows by is what the cache says, and no more than it may.
fn check(keys: u64, lengths: &[usize]) {
    let grown = many_keys(SIZE_MIB, keys, lengths);
    println!("{grown:?}");
    let report = grown.report;
    assert!(report.bytes <= report.bytes_max && report.evictions > 0, "{grown:?}");
    assert!(grown.base < BASES, "{grown:?}");
    let most = (SIZE_MIB << 20) * 115 / 100 + BASE;
    assert!(grown.grown <= most, "{grown:?}");
    assert!(grown.grown + BASE >= report.bytes * 80 / 100, "it says too much: {grown:?}");
}

#[test]
fn a_purge_of_very_many_stalls_nobody() {
    alone("in_a_storm");
}

/// 10,000 pages under one key, purged while a hot page is looked up.
#[test]
#[ignore = "run by a_purge_of_very_many_stalls_nobody"]
fn in_a_storm() {
    let storm = storm(10_000, 2);
    println!("quiet: {}\nstorm: {}", storm.quiet, storm.stormy);
    assert!(storm.rounds.iter().all(|(purged, _, _)| *purged == 10_000), "{:?}", storm.rounds);
}
