//! Two workers share a cache that is too small for what they fetch; a third thread purges. Fills,
//! renewals, evictions, ranges and slow readers meet on the same keys. Every body is one that the shop
//! sent for that key, whole, and none is older than a purge that was over when it was asked for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use http::Method;
use penstock::config::Settings;
use penstock::metrics::Sink;
use penstock::page::{Cache, Mode, Purge};
use rand::RngExt;
use tokio::task::spawn_local;

use crate::rig::{Got, Worker, run, settings};
use crate::shop::{Shop, page};

const KEYS: usize = 64;
/// By the clock of the test, which goes on with each request.
const PURGED_EVERY_MS: u64 = 300;

struct World {
    /// What the shop sends now.
    sent: [AtomicU64; KEYS],
    /// What is the oldest that may be seen: everything before was purged.
    oldest: [AtomicU64; KEYS],
    now_ms: AtomicU64,
    is_over: AtomicBool,
}

impl World {
    fn new() -> World {
        let none = || std::array::from_fn(|_| AtomicU64::new(0));
        let (now_ms, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
        World { sent: none(), oldest: none(), now_ms, is_over }
    }
}

fn body(key: usize, version: u64) -> String {
    format!("<{key}:{version}>").repeat(1_100 + 200 * (key % 5))
}

async fn shop(world: &Arc<World>) -> Shop {
    let world = world.clone();
    Shop::open(move |n, head| {
        let path = head.split(' ').nth(1).unwrap_or_default();
        let key: usize = path.rsplit('/').next().and_then(|k| k.parse().ok()).unwrap_or_default();
        let version = world.sent[key].load(Ordering::SeqCst);
        let etag = format!("\"{key}-{version}\"");
        let fields =
            format!("etag: {etag}\r\ncache-control: max-age=1\r\nsurrogate-key: k{key}\r\n");
        let has_it = head.to_ascii_lowercase().contains(&format!("if-none-match: {etag}"));
        match has_it {
            true => page(304, &fields, ""),
            false if n % 17 == 3 => page(503, "", "sorry"),
            false => page(200, &fields, &body(key, version)),
        }
    })
    .await
}

fn check(got: &Got, key: usize, oldest: u64, is_page: bool) {
    if got.status >= 500 {
        return;
    }
    assert!(got.whole && [200, 206].contains(&got.status), "{} of {key}", got.status);
    let etag = got.field("etag").trim_matches('"');
    let said = etag.strip_prefix(&format!("{key}-")).and_then(|v| v.parse::<u64>().ok());
    let version = said.unwrap_or_else(|| panic!("the tag {etag:?} of {key}"));
    assert!(version >= oldest, "{key}: {version} after the purge of what is before {oldest}");
    let whole = body(key, version);
    let expected = match got.status {
        206 => &whole[100..=5_000],
        _ => &whole,
    };
    assert!(got.body == expected, "{key} {version} page {is_page}: {} bytes", got.body.len());
}

fn settings_for(address: std::net::SocketAddr) -> Settings {
    let more = "[site.shop.cache]\n[cache]\nsize = \"1MiB\"\nerror_hold = \"1ms\"\nfills_max = 8";
    settings(address, "ttl = \"1s\"", more)
}

fn work(world: &Arc<World>, cache: Option<Arc<Cache>>, tell: &std::sync::mpsc::Sender<Arc<Cache>>) {
    let rounds = if std::env::var_os("PENSTOCK_TEST_LONG").is_some() { 10_000 } else { 150 };
    let (world, tell) = (world.clone(), tell.clone());
    run(async move {
        let shop = shop(&world).await;
        let settings = settings_for(shop.address);
        let worker = match cache {
            Some(cache) => Worker::beside(&settings, cache),
            None => Worker::new(&settings),
        };
        let _ = tell.send(worker.cache.clone());
        for _ in 0..rounds {
            let mut asks = Vec::new();
            for _ in 0..6 {
                let mut rng = rand::rng();
                let key = rng.random_range(0..KEYS);
                let is_page = rng.random_bool(0.3);
                let ms = world.now_ms.fetch_add(rng.random_range(0..40), Ordering::SeqCst);
                let target = if is_page { format!("/activity/{key}") } else { format!("/{key}") };
                let range: &[(&str, &str)] = match rng.random_bool(0.3) {
                    true => &[("range", "bytes=100-5000")],
                    false => &[],
                };
                let oldest = world.oldest[key].load(Ordering::SeqCst);
                let pauses = rng.random_range(0..6);
                let ask = worker.ask_slowly(Method::GET, &target, range, ms, pauses);
                asks.push(spawn_local(async move { check(&ask.await, key, oldest, is_page) }));
            }
            for ask in asks {
                ask.await.expect("exact");
            }
        }
        worker.quiet().await;
    });
}

#[test]
fn every_body_is_one_that_was_sent_for_its_key_whole() {
    let world = Arc::new(World::new());
    let (tell, told) = std::sync::mpsc::channel();
    let (world, tell) = (&world, &tell);
    std::thread::scope(|scope| {
        let first = scope.spawn(move || work(world, None, tell));
        let cache = told.recv().expect("the first worker's cache");
        let (mine, shared) = (cache.clone(), cache.clone());
        let purges = scope.spawn(move || purge(world, &mine));
        let second = scope.spawn(move || work(world, Some(shared), tell));
        let ends = [first.join(), second.join()];
        world.is_over.store(true, Ordering::SeqCst);
        let purged = purges.join().expect("no panic");
        assert!(ends.iter().all(Result::is_ok));
        let report = cache.report();
        assert!(purged > 0 && report.evictions > 0, "{purged} purged, {report:?}");
        cache.purge(&Purge::All, Mode::Hard, &Sink::detached());
        let report = cache.report();
        assert_eq!((report.entries, report.bytes, report.tags, report.fill_bytes), (0, 0, 0, 0));
    });
}

/// Changes what the shop sends, purges what it sent before, and says that it did.
fn purge(world: &World, cache: &Cache) -> u64 {
    let (mut rng, sink, mut purged) = (rand::rng(), Sink::detached(), 0);
    while !world.is_over.load(Ordering::SeqCst) {
        let key = rng.random_range(0..KEYS);
        let (tag, path) = (format!("k{key}"), format!("/{key}"));
        let what = match rng.random_range(0..50) {
            0 => Purge::All,
            1 => Purge::Host { host: "shop.example", canonical: "shop.example" },
            _ => Purge::Tag { site: None, tag: &tag },
        };
        let newer = world.sent[key].fetch_add(1, Ordering::SeqCst) + 1;
        purged += cache.purge(&what, Mode::Hard, &sink);
        world.oldest[key].fetch_max(newer, Ordering::SeqCst);
        cache.purge(&Purge::Prefix { host: None, path: &path }, Mode::Soft, &sink);
        let before = world.now_ms.load(Ordering::SeqCst);
        while world.now_ms.load(Ordering::SeqCst) < before + PURGED_EVERY_MS
            && !world.is_over.load(Ordering::SeqCst)
        {
            std::thread::yield_now();
        }
    }
    purged
}
