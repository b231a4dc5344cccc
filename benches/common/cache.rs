//! A cache that is filled without a network: for `make bench-cache`, and for the tests that bound it.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

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
use penstock::page::{Cache, Mode, Purge, Report, Url};

/// A cache of so many MiB that lets every key in.
pub fn cache(size_mib: u64) -> Arc<Cache> {
    let mut settings = Settings::default();
    settings.cache.size = Size::from_mib(size_mib);
    settings.cache.entry_bytes_max = Size::from_mib(1);
    settings.cache.new_keys = Rate::new(1_000_000, 1_000_000);
    Cache::new(&settings)
}

/// The key of page `n`.
pub fn key(n: u64, buffer: &mut Vec<u8>) -> KeyRef<'_> {
    let path = format!("/catalogue/things/{n}");
    let url = Url { site: "shop", host: "shop.example", path: &path, query: None };
    url.bytes(buffer);
    KeyRef::of(buffer)
}

/// What a shop answers with a page.
pub fn source(body: Bytes, tags: &[&str]) -> Source {
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
    let tags = tags.iter().map(|tag| Box::from(*tag)).collect::<Vec<_>>().into();
    Source { status: StatusCode::OK, headers, body, is_faithful: true, tags }
}

/// Fills page `n` with `body`, as a fill does.
pub fn put(cache: &Arc<Cache>, n: u64, body: Bytes, tags: &[&str], sink: &Sink) {
    let (mut buffer, now) = (Vec::new(), MonoMs(NOW.fetch_add(1, Ordering::Relaxed)));
    let Joined::Began(filling, _waiter) = cache.join(key(n, &mut buffer), None, now) else {
        return;
    };
    let page = What::Page(Box::new(source(body, tags).into_entry(usize::MAX)));
    let windows = Windows { fresh_ms: u64::MAX / 2, ..Windows::default() };
    filling.store(Record::new(filling.key(), page, windows, MonoMs(n)), sink);
}

/// How the memory of this process grew.
#[derive(Debug)]
pub struct Grown {
    /// What the cache says.
    pub report: Report,
    /// What the process took before, in bytes.
    pub base: u64,
    /// What it takes more at the end, in bytes.
    pub grown: u64,
}

/// Fills `keys` distinct pages with bodies of `lengths` by turns, from two threads as two workers do,
/// into a cache of `size_mib`. Only worth something in a process of its own.
pub fn many_keys(size_mib: u64, keys: u64, lengths: &[usize]) -> Grown {
    let (base, cache) = (rss(), cache(size_mib));
    std::thread::scope(|scope| {
        for worker in 0..WORKERS {
            let cache = &cache;
            scope.spawn(move || {
                let sink = Sink::detached();
                for n in (worker..keys).step_by(WORKERS as usize) {
                    let length = lengths[usize::try_from(n / WORKERS).unwrap_or(0) % lengths.len()];
                    let tag = format!("thing-{n}");
                    put(cache, n, Bytes::from(vec![b'x'; length]), &["catalogue", &tag], &sink);
                }
            });
        }
    });
    Grown { report: cache.report(), base, grown: rss().saturating_sub(base) }
}

/// What this process takes, in bytes.
fn rss() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("proc");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("KiB") * 1024
}

/// How long hits took.
#[derive(Debug)]
pub struct Hits {
    /// Each, sorted.
    took: Vec<Duration>,
    /// The longest that a few hits took together, less the time in which they were ready to run and
    /// had no processor: what they computed, and waited for locks.
    pub held: Duration,
    /// How often this thread slept of itself: locks that it waited for long.
    pub slept: u64,
}

impl Hits {
    /// The time that so many thousandths of the hits were faster than.
    pub fn at(&self, permille: usize) -> Duration {
        self.took[(self.took.len() - 1) * permille / 1000]
    }
}

impl std::fmt::Display for Hits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [half, most, nearly, worst] = [500, 990, 999, 1000].map(|permille| self.at(permille));
        write!(
            f,
            "{} hits: p50 {half:?}, p99 {most:?}, p99.9 {nearly:?}, worst {worst:?}; ",
            self.took.len()
        )?;
        write!(
            f,
            "without waiting for a processor, {BATCH} took {:?} at most, asleep {} times",
            self.held, self.slept
        )
    }
}

/// A storm of purges.
#[derive(Debug)]
pub struct Storm {
    /// Hits before it.
    pub quiet: Hits,
    /// Hits meanwhile.
    pub stormy: Hits,
    /// Of each round: how many pages it purged, after how long it held, and after how long what was
    /// stored was looked through.
    pub rounds: Vec<(u64, Duration, Duration)>,
}

/// Looks up a hot page while another thread fills `pages` and purges them by one key, `rounds` times,
/// and then purges by 2,000 keys that no page has.
pub fn storm(pages: u64, rounds: usize) -> Storm {
    let (cache, sink) = (cache(1024), Sink::detached());
    put(&cache, HOT, Bytes::from_static(&[b'x'; 100]), &["hot"], &sink);
    let quiet = hits(&cache, |n| n >= 1_000_000);
    let is_over = AtomicBool::new(false);
    let (stormy, rounds) = std::thread::scope(|scope| {
        let purges = scope.spawn(|| {
            let _over = Over(&is_over);
            let round = |_| {
                let body = Bytes::from_static(&[b'x'; 200]);
                (1..=pages).for_each(|n| put(&cache, n, body.clone(), &["all", "other"], &sink));
                let began = Instant::now();
                let ban = cache.ban(&Purge::Tag { site: None, tag: "all" }, Mode::Hard);
                let held = began.elapsed();
                (cache.sweep(&ban, &sink), held, began.elapsed())
            };
            let rounds = (0..rounds).map(round).collect();
            for n in 0..2_000u32 {
                let tag = format!("none-{n}");
                cache.purge(&Purge::Tag { site: None, tag: &tag }, Mode::Hard, &sink);
            }
            rounds
        });
        let stormy = hits(&cache, |_| is_over.load(Ordering::Relaxed));
        (stormy, purges.join().expect("no panic"))
    });
    Storm { quiet, stormy, rounds }
}

/// Looks up the hot page until `is_over`.
fn hits(cache: &Cache, is_over: impl Fn(usize) -> bool) -> Hits {
    let (mut buffer, mut took) = (Vec::new(), Vec::new());
    let key = key(HOT, &mut buffer);
    let waits = File::open("/proc/thread-self/schedstat").expect("proc");
    let (mut held, asleep) = (Duration::ZERO, asleep());
    let (mut began, mut waited) = (Instant::now(), waited(&waits));
    while !is_over(took.len()) && took.len() < HITS_MAX {
        for _ in 0..BATCH {
            let began = Instant::now();
            assert!(cache.get(&key).is_some(), "the hot page is never gone");
            took.push(began.elapsed());
        }
        let (ended, waits) = (Instant::now(), self::waited(&waits));
        held = held.max((ended - began).saturating_sub(waits - waited));
        (began, waited) = (ended, waits);
    }
    took.sort_unstable();
    Hits { took, held, slept: self::asleep() - asleep }
}

/// How long this thread was ready to run and had no processor: the second number of `schedstat`.
fn waited(schedstat: &File) -> Duration {
    let mut text = [0; 64];
    let length = schedstat.read_at(&mut text, 0).expect("proc");
    let text = std::str::from_utf8(&text[..length]).expect("text");
    let nanoseconds = text.split_whitespace().nth(1).and_then(|number| number.parse().ok());
    Duration::from_nanos(nanoseconds.expect("a number"))
}

fn asleep() -> u64 {
    let status = std::fs::read_to_string("/proc/thread-self/status").expect("proc");
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.and_then(|count| count.trim().parse().ok()).expect("a number")
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
/// The page that is looked up.
pub const HOT: u64 = 0;
const HITS_MAX: usize = 50_000_000;
/// Hits between two looks at the scheduler.
const BATCH: usize = 64;
const WORKERS: u64 = 2;
