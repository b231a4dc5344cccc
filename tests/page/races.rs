//! Races, each by its name.

use std::pin::pin;
use std::task::{Context, Waker};

use http::Method;
use penstock::page::{Mode, Purge};
use tokio::task::spawn_local;

use crate::rig::{Worker, run, settings, until};
use crate::shop::{Act, Shop, gate, gated, page};

const URL: &str = "/a";

fn cached(shop: &Shop, more: &str) -> penstock::config::Settings {
    settings(shop.address, "ttl = \"1h\"", &format!("[site.shop.cache]\n{more}"))
}

/// What is stale would stand in for the error, but it was purged meanwhile: nobody gets it, neither
/// who waits nor who comes.
#[test]
fn a_purge_during_a_fill_during_a_failing_origin() {
    for target in [URL, "/activity/1"] {
        run(async {
            let held = gate();
            let closed = held.clone();
            let control = "cache-control: max-age=1, stale-if-error=600\r\n";
            let shop = Shop::open(move |n, _| match n {
                0 => page(200, control, "old"),
                1 => vec![Act::Wait(closed.clone()), Act::Close],
                _ => page(500, "", "sorry"),
            })
            .await;
            let worker = Worker::new(&cached(&shop, ""));
            worker.get(target, 0).await;
            worker.quiet().await;
            let waits = spawn_local(worker.ask(Method::GET, target, &[], 10_000));
            until(|| shop.asked() == 2).await;
            worker.cache.purge(&Purge::All, Mode::Hard, &worker.sink);
            held.add_permits(1);
            assert_ne!(waits.await.expect("no panic").body, "old", "{target}");
            worker.quiet().await;
            assert_ne!(worker.get(target, 10_001).await.body, "old", "{target}");
            worker.quiet().await;
            assert_eq!(worker.cache.report().fill_bytes, 0);
        });
    }
}

/// Two wait for one renewal. It turns out to be the first one's alone: the other asks for itself.
#[test]
fn a_304_that_turns_private() {
    run(async {
        let held = gate();
        let closed = held.clone();
        let shop = Shop::open(move |n, _| match n {
            0 => page(200, "cache-control: max-age=1\r\netag: \"1\"\r\n", "public"),
            1 => {
                let head = "HTTP/1.1 304 X\r\ncache-control: private\r\nx-user: first\r\n\r\n";
                vec![Act::Wait(closed.clone()), Act::Write(head.into())]
            }
            _ => page(200, "cache-control: private\r\nx-user: second\r\n", "second"),
        })
        .await;
        let worker = Worker::new(&cached(&shop, ""));
        worker.get(URL, 0).await;
        worker.quiet().await;
        let first = spawn_local(worker.ask(Method::GET, URL, &[("cookie", "u=1")], 10_000));
        until(|| shop.asked() == 2).await;
        let second = spawn_local(worker.ask(Method::GET, URL, &[("cookie", "u=2")], 10_000));
        until(|| worker.counted(penstock::metrics::Counter::CacheWaited) == 1).await;
        held.add_permits(1);
        let (first, second) = (first.await.expect("no panic"), second.await.expect("no panic"));
        assert_eq!((&*first.body, first.field("x-user")), ("public", "first"));
        assert_eq!((&*second.body, second.field("x-user")), ("second", "second"));
    });
}

/// Variants come while others of the same URL, and whole URLs, are pushed out: everybody gets the
/// variant that was asked for, and the sums are right in the end.
#[test]
fn a_variant_added_while_evicting() {
    run(async {
        let shop = Shop::open(|_, head| {
            let colour = head.lines().find_map(|line| line.strip_prefix("x-colour: "));
            let path = head.split(' ').nth(1).unwrap_or_default();
            let body = format!("{path} {} ", colour.unwrap_or_default()).repeat(3_000);
            page(200, "cache-control: max-age=600\r\nvary: x-colour\r\n", &body)
        })
        .await;
        let worker = Worker::new(&cached(&shop, "variants_max = 7\n[cache]\nsize = \"1MiB\""));
        for round in 0..60 {
            let asks = (0..8).map(|n| {
                let (path, colour) = (format!("/{}", (7 * n + round) % 11), (n + round) % 9);
                let colour = colour.to_string();
                let ask = worker.ask(Method::GET, &path, &[("x-colour", &colour)], round);
                spawn_local(async move { (format!("{path} {colour} ").repeat(3_000), ask.await) })
            });
            for ask in asks.collect::<Vec<_>>() {
                let (expected, got) = ask.await.expect("no panic");
                assert!(got.whole && got.body == expected, "{}", &got.body[..20]);
            }
        }
        worker.quiet().await;
        let report = worker.cache.report();
        assert!(report.evictions > 0 && report.bytes <= 1 << 20, "{report:?}");
        worker.cache.purge(&Purge::All, Mode::Hard, &worker.sink);
        let report = worker.cache.report();
        assert_eq!((report.entries, report.bytes, report.fill_bytes), (0, 0, 0));
    });
}

/// A client leaves before it is asked for, while the head is awaited, within the body, and behind it.
/// The fill goes on, the next client gets it whole, and nothing is held in the end.
#[test]
fn a_client_that_leaves_in_each_phase() {
    for phase in 0..4 {
        run(async {
            let (head, body) = (gate(), gate());
            let gates = (head.clone(), body.clone());
            let shop = Shop::open(move |_, _| {
                let start =
                    "HTTP/1.1 200 X\r\ncontent-length: 8\r\ncache-control: max-age=60\r\n\r\n";
                vec![
                    Act::Wait(gates.0.clone()),
                    Act::Write([start, "half"].concat().into()),
                    Act::Wait(gates.1.clone()),
                    Act::Write(b"half".into()),
                ]
            })
            .await;
            let worker = Worker::new(&cached(&shop, ""));
            {
                let mut leaves = pin!(worker.ask(Method::GET, URL, &[], 0));
                let mut poll = || {
                    let mut cx = Context::from_waker(Waker::noop());
                    leaves.as_mut().poll(&mut cx).is_ready()
                };
                if phase > 0 {
                    assert!(!poll());
                    until(|| shop.asked() == 1).await;
                }
                if phase > 1 {
                    head.add_permits(1);
                    until(|| worker.cache.report().fill_bytes == 4).await;
                    assert!(!poll());
                }
                if phase > 2 {
                    body.add_permits(1);
                    worker.quiet().await;
                    assert!(poll());
                }
            }
            let next = spawn_local(worker.ask(Method::GET, URL, &[], 1));
            head.add_permits(2);
            body.add_permits(2);
            let next = next.await.expect("no panic");
            assert_eq!((&*next.body, next.whole), ("halfhalf", true), "phase {phase}");
            worker.quiet().await;
            assert_eq!(worker.get(URL, 2).await.body, "halfhalf");
            assert_eq!(shop.asked(), 1, "phase {phase}");
            let report = worker.cache.report();
            assert_eq!((report.fills, report.fill_bytes), (0, 0), "phase {phase}");
        });
    }
}

/// A 304 that was asked for before a purge renews nothing after it.
#[test]
fn a_304_from_before_a_purge() {
    run(async {
        let held = gate();
        let closed = held.clone();
        let control = "cache-control: max-age=1\r\netag: \"1\"\r\n";
        let shop = Shop::open(move |n, _| match n {
            0 => page(200, control, "old"),
            1 => gated(&closed, 304, control, ""),
            _ => page(200, control, "new"),
        })
        .await;
        let worker = Worker::new(&cached(&shop, ""));
        worker.get(URL, 0).await;
        worker.quiet().await;
        let waits = spawn_local(worker.ask(Method::GET, URL, &[], 10_000));
        until(|| shop.asked() == 2).await;
        worker.cache.purge(&Purge::All, Mode::Hard, &worker.sink);
        held.add_permits(1);
        waits.await.expect("no panic");
        worker.quiet().await;
        assert_eq!(worker.get(URL, 10_001).await.body, "new");
    });
}
