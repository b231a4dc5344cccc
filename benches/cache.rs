//! `make bench-cache`: what the cache costs. A decision and a hit, a page that is stored, a purge of
//! 100,000 pages by one key and the hits meanwhile, and the memory that ten million keys take.
//!
//! `KEYS=1000000 make bench-cache` is done sooner; `cargo bench --bench cache costs`, or `purges`, is
//! that part alone. Ends with 5 if a purge does not meet all its pages, or if the process takes more than
//! `cache.size` and 15 %.

#[path = "common/cache.rs"]
mod cache;

use std::hint::black_box;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use bytes::Bytes;
use penstock::clock::MonoMs;
use penstock::metrics::Sink;
use penstock::page::policy::judge::judge;

use cache::{HOT, key, many_keys, put, source, storm};

/// Of the memory that is measured: `cache.size`.
const SIZE_MIB: u64 = 256;
const KEYS: u64 = 10_000_000;
/// Pages that are purged by one key, and how often.
const PURGED: u64 = 100_000;
const ROUNDS: usize = 5;
/// What the process may take of `cache.size`, in percent.
const PERCENT_MAX: u64 = 115;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // `cargo test --benches` calls without it; there is nothing to measure then.
    if !arguments.iter().any(|argument| argument == "--bench") {
        return ExitCode::SUCCESS;
    }
    let lengths: Vec<usize> = arguments.iter().filter_map(|length| length.parse().ok()).collect();
    let is_said = |part: &str| arguments.iter().any(|argument| argument == part);
    let is_good = match lengths.is_empty() {
        false => memory(&lengths),
        true if is_said("costs") => costs(),
        true if is_said("purges") => purges(),
        true => costs() & purges() & every_memory(),
    };
    if is_good { ExitCode::SUCCESS } else { ExitCode::from(5) }
}

fn costs() -> bool {
    let (cache, sink) = (cache::cache(256), Sink::detached());
    put(&cache, HOT, Bytes::from_static(&[b'x'; 4096]), &["hot"], &sink);
    let (mut buffer, now) = (Vec::new(), MonoMs(1));
    let hot = key(HOT, &mut buffer);
    let record = cache.get(&hot).expect("stored");
    let (stored, asked) = (record.stored(), record.asked(now));
    told("decision on a hit", 1_000_000, |_| {
        black_box(judge(black_box(Some(&stored)), black_box(asked), black_box(now)));
    });
    told("lookup and decision", 1_000_000, |_| {
        let record = black_box(&cache).get(black_box(&hot));
        let record = record.as_ref().expect("stored");
        black_box(judge(Some(&record.stored()), record.asked(now), now));
    });
    let mut buffer = Vec::new();
    told("key of a URL, hashed", 1_000_000, |n| {
        black_box(key(n, &mut buffer));
    });
    for (what, length) in [("4 KiB", 4_096), ("64 KiB", 65_536)] {
        let body = Bytes::from(vec![b'x'; length]);
        told(&format!("page of {what} stored"), 50_000, |n| {
            put(&cache, 1 + n, Bytes::copy_from_slice(&body), &["one", "two"], &sink);
        });
        // Text that is neither trivial nor noise.
        let text: String = (0..length / 16).map(|n| format!("<li>{:<10}</li>", n * 7919)).collect();
        told(&format!("page of {what} in all codings"), 100, |_| {
            black_box(source(Bytes::from(text.clone()), &[]).into_entry(0));
        });
    }
    true
}

/// Prints what one of `times` takes: the best round, which other processes disturbed least.
fn told(what: &str, times: u64, mut one: impl FnMut(u64)) {
    let mut best = Duration::MAX;
    for round in 0..ROUNDS as u64 {
        let began = Instant::now();
        (round * times..(round + 1) * times).for_each(&mut one);
        best = best.min(began.elapsed());
    }
    println!("{what:<32}{:>12.1} ns", best.as_secs_f64() * 1e9 / times as f64);
}

fn purges() -> bool {
    let storm = storm(PURGED, ROUNDS);
    println!("quiet:    {}", storm.quiet);
    println!("in storm: {}", storm.stormy);
    for (purged, held, swept) in &storm.rounds {
        println!(
            "{purged} pages purged by one key: it held after {held:?}, all were gone after {swept:?}"
        );
    }
    storm.rounds.iter().all(|(purged, _, _)| *purged == PURGED)
}

/// Each in a process of its own, whose memory nothing else moves.
fn every_memory() -> bool {
    let lengths: [&[&str]; 4] =
        [&["100"], &["1000"], &["20000"], &["100", "1000", "4000", "20000"]];
    lengths.iter().all(|lengths| {
        let this = std::env::current_exe().expect("a bench");
        Command::new(this)
            .arg("--bench")
            .args(*lengths)
            .status()
            .is_ok_and(|status| status.success())
    })
}

fn memory(lengths: &[usize]) -> bool {
    let keys = std::env::var("KEYS").ok().and_then(|keys| keys.parse().ok()).unwrap_or(KEYS);
    let began = Instant::now();
    let grown = many_keys(SIZE_MIB, keys, lengths);
    let (report, mib) = (grown.report, |bytes: u64| bytes as f64 / f64::from(1 << 20));
    println!(
        "{keys} keys, bodies of {lengths:?} bytes: {} entries of {} bytes, {:.1} MiB said, {:.1} MiB \
         more than the {:.1} MiB before; cache.size is {SIZE_MIB} MiB ({:.0} s)",
        report.entries,
        report.bytes / report.entries.max(1),
        mib(report.bytes),
        mib(grown.grown),
        mib(grown.base),
        began.elapsed().as_secs_f64(),
    );
    grown.grown <= (SIZE_MIB << 20) * PERCENT_MAX / 100
}
