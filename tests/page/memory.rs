//! What the cache takes, against what it says and what it may: in processes of their own, whose
//! memory nothing else moves.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};
use penstock::clock::MonoMs;
use penstock::config::Settings;
use penstock::config::units::{Rate, Size};
use penstock::metrics::Sink;
use penstock::page::cache::Joined;
use penstock::page::entry::Source;
use penstock::page::key::KeyRef;
use penstock::page::policy::judge::Windows;
use penstock::page::record::{Record, What};
use penstock::page::{Cache, Mode, Purge, Url};

const SIZE_MIB: u64 = 32;

fn cache(size_mib: u64) -> Arc<Cache> {
    let mut settings = Settings::default();
    settings.cache.size = Size::from_mib(size_mib);
    settings.cache.entry_bytes_max = Size::from_mib(1);
    settings.cache.new_keys = Rate::new(1_000_000, 1_000_000);
    Cache::new(&settings)
}

fn key(n: u64, buffer: &mut Vec<u8>) -> KeyRef<'_> {
    let path = format!("/catalogue/things/{n}");
    let url = Url { site: "shop", host: "shop.example", path: &path, query: None };
    url.bytes(buffer);
    KeyRef::of(buffer)
}

fn put(cache: &Arc<Cache>, n: u64, bytes: usize, tags: &[&str], sink: &Sink) {
    let mut buffer = Vec::new();
    let Joined::Began(filling, _) =
        cache.join(key(n, &mut buffer), None, MonoMs(NOW.fetch_add(1, Ordering::Relaxed)))
    else {
        return;
    };
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("content-type", "text/html; charset=utf-8"),
        ("cache-control", "public, max-age=600"),
        ("date", "Sun, 06 Nov 1994 08:49:37 GMT"),
        ("etag", "\"0123456789abcdef\""),
        ("via", "1.1 penstock"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let source = Source {
        status: StatusCode::OK,
        headers,
        body: Bytes::from(vec![b'x'; bytes]),
        is_faithful: true,
        tags: tags.iter().map(|tag| Box::from(*tag)).collect::<Vec<_>>().into(),
    };
    let page = What::Page(Box::new(source.into_entry(usize::MAX)));
    let windows = Windows { fresh_ms: u64::MAX / 2, ..Windows::default() };
    filling.store(Record::new(filling.key(), page, windows, MonoMs(n)), sink);
}

fn rss() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("proc");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("KiB") * 1024
}

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
fn many_keys_stay_within_the_size() {
    alone("many_keys");
}

/// 40,000 distinct keys, ten million in the long form, of four sizes: what the process grows by is
/// what the cache says, and no more than it may.
#[test]
#[ignore = "run by many_keys_stay_within_the_size"]
fn many_keys() {
    let keys = if std::env::var_os("PENSTOCK_TEST_LONG").is_some() { 10_000_000 } else { 40_000 };
    for bytes in [100, 1_000, 4_000, 20_000] {
        let (base, cache, sink) = (rss(), cache(SIZE_MIB), Sink::detached());
        for n in 0..keys / 4 {
            let tag = format!("shelf-{}", n % 1_000);
            put(&cache, n, bytes, &["catalogue", &tag], &sink);
        }
        let (grown, report) = (rss().saturating_sub(base), cache.report());
        println!(
            "bodies of {bytes} B: {} entries, {} MiB said, {} MiB grown, of {SIZE_MIB}",
            report.entries,
            report.bytes >> 20,
            grown >> 20
        );
        assert!(report.bytes <= report.bytes_max, "{report:?}");
        assert!(report.evictions > 0 || bytes < 1_000, "it was filled: {report:?}");
        let most = (SIZE_MIB << 20) * 115 / 100 + BASE;
        assert!(grown <= most, "{bytes}: {grown} bytes, {report:?}");
    }
}

/// Says that it is over, also where it ends in a panic.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Goes on with each page.
static NOW: AtomicU64 = AtomicU64::new(1);
const HOT: u64 = 0;
const SAMPLES_MAX: usize = 20_000_000;

/// What is no entry's: the index of an empty cache, and what the allocator keeps.
const BASE: u64 = 16 << 20;

#[test]
fn a_purge_of_very_many_stalls_nobody() {
    alone("storm");
}

/// Purges 100,000 pages by one key, again and again, while a hot page is looked up: prints how long
/// that takes in the storm and without.
#[test]
#[ignore = "run by a_purge_of_very_many_stalls_nobody"]
fn storm() {
    let (cache, sink) = (cache(1024), Sink::detached());
    let all = if std::env::var_os("PENSTOCK_TEST_LONG").is_some() { 100_000 } else { 10_000 };
    put(&cache, HOT, 100, &["hot"], &sink);
    let measure = |until: &dyn Fn(usize) -> bool| {
        let (mut buffer, mut took) = (Vec::new(), Vec::new());
        let key = key(HOT, &mut buffer);
        while !until(took.len()) && took.len() < SAMPLES_MAX {
            let began = Instant::now();
            assert!(cache.get(&key).is_some(), "the hot page is never gone");
            took.push(began.elapsed());
        }
        took.sort_unstable();
        let at = |permille: usize| took[(took.len() - 1) * permille / 1000];
        format!("p50 {:?}, p99 {:?}, p99.9 {:?}, most {:?}", at(500), at(990), at(999), at(1000))
    };
    println!("quiet:    {}", measure(&|n| n >= 200_000));
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let purges = scope.spawn(|| {
            let _over = Over(&is_over);
            for round in 0..3 {
                (1..=all).for_each(|n| put(&cache, n, 200, &["all", "other"], &sink));
                let began = Instant::now();
                let ban = cache.ban(&Purge::Tag { site: None, tag: "all" }, Mode::Hard);
                let held = began.elapsed();
                assert_eq!(cache.sweep(&ban, &sink), all);
                println!(
                    "round {round}: {all} purged; it held after {held:?}, swept after {:?}",
                    began.elapsed()
                );
            }
            for n in 0..2_000u32 {
                let tag = format!("none-{n}");
                cache.purge(&Purge::Tag { site: None, tag: &tag }, Mode::Hard, &sink);
            }
        });
        println!("in storm: {}", measure(&|_| is_over.load(Ordering::Relaxed)));
        purges.join().expect("no panic");
    });
}
