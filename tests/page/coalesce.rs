//! One fill for everybody.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::Method;
use penstock::metrics::Counter;
use penstock::page::Cache;
use tokio::task::{JoinSet, spawn_local};

use crate::rig::{Worker, run, settings, until};
use crate::shop::{Act, Shop, gate, gated, page};

const PAGE: &str = "/activity/8848";

/// 10,000 requests miss at once on two workers, which share nothing but the cache.
#[test]
fn ten_thousand_misses_are_one_request() {
    const EACH: usize = 5_000;
    run(async {
        let gate = gate();
        let held = gate.clone();
        let shop = Shop::open(move |_, _| gated(&held, 200, "", "the page")).await;
        let settings = settings(shop.address, "ttl = \"10s\"", "");
        let cache = Cache::new(&settings);
        let (joined, served) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let crowd = {
            let (settings, cache) = (settings.clone(), cache.clone());
            let (joined, served) = (joined.clone(), served.clone());
            move || {
                run(async move {
                    let worker = Worker::beside(&settings, cache);
                    let mut clients = JoinSet::new();
                    for _ in 0..EACH {
                        let client = worker.ask(Method::GET, PAGE, &[], 0);
                        joined.fetch_add(1, Ordering::SeqCst);
                        let served = served.clone();
                        clients.spawn_local(async move {
                            let got = client.await;
                            assert_eq!((got.status, &*got.body), (200, "the page"));
                            served.fetch_add(1, Ordering::SeqCst);
                        });
                    }
                    while let Some(client) = clients.join_next().await {
                        client.expect("no panic");
                    }
                    worker.quiet().await;
                });
            }
        };
        let threads = [std::thread::spawn(crowd.clone()), std::thread::spawn(crowd)];
        until(|| joined.load(Ordering::SeqCst) == 2 * EACH && shop.asked() > 0).await;
        assert_eq!(served.load(Ordering::SeqCst), 0);
        gate.add_permits(100);
        until(|| threads.iter().all(|t| t.is_finished())).await;
        threads.into_iter().for_each(|t| t.join().expect("no panic"));
        assert_eq!((served.load(Ordering::SeqCst), shop.asked()), (2 * EACH, 1));
        assert_eq!(cache.report().fills, 0);
    });
}

#[test]
fn an_error_is_told_to_all_at_once_and_held() {
    run(async {
        let gate = gate();
        let held = gate.clone();
        let shop = Shop::open(move |_, _| vec![Act::Wait(held.clone()), Act::Close]).await;
        let worker = Worker::new(&settings(shop.address, "ttl = \"10s\"", ""));
        let crowd: Vec<_> =
            (0..100).map(|_| spawn_local(worker.ask(Method::GET, PAGE, &[], 0))).collect();
        until(|| shop.asked() == 1).await;
        gate.add_permits(100);
        for client in crowd {
            let got = client.await.expect("no panic");
            assert_eq!((got.status, got.field("penstock-reason")), (502, "bad_gateway"));
        }
        worker.quiet().await;
        assert_eq!(worker.get(PAGE, 500).await.status, 502);
        assert_eq!((shop.asked(), worker.counted(Counter::CacheFillErrors)), (1, 1));
        shop.change(|_, _| page(200, "", "back"));
        assert_eq!(worker.get(PAGE, 5_000).await.body, "back");
    });
}

#[test]
fn a_shops_own_error_is_relayed_and_held() {
    run(async {
        let shop = Shop::open(|_, _| page(503, "retry-after: 3\r\n", "closed")).await;
        let worker = Worker::new(&settings(shop.address, "ttl = \"10s\"", ""));
        let first = worker.get(PAGE, 0).await;
        assert_eq!((first.status, &*first.body, first.field("retry-after")), (503, "closed", "3"));
        worker.quiet().await;
        assert_eq!(worker.get(PAGE, 500).await.body, "closed");
        assert_eq!(shop.asked(), 1);
        shop.change(|_, _| page(200, "", "open"));
        assert_eq!(worker.get(PAGE, 5_000).await.body, "open");
    });
}

#[test]
fn a_client_that_leaves_cancels_nothing() {
    run(async {
        let gate = gate();
        let held = gate.clone();
        let shop = Shop::open(move |_, _| gated(&held, 200, "", "the page")).await;
        let worker = Worker::new(&settings(shop.address, "ttl = \"10s\"", ""));
        let client = spawn_local(worker.ask(Method::GET, PAGE, &[], 0));
        until(|| shop.asked() == 1).await;
        client.abort();
        assert!(client.await.is_err());
        gate.add_permits(1);
        worker.quiet().await;
        assert!(worker.get(PAGE, 1).await.field("cache-status").starts_with("penstock; hit"));
        assert_eq!(shop.asked(), 1);
    });
}

/// Requests for a page that may not be stored are all on their way at once, with nothing of one
/// client in them.
#[test]
fn hit_for_miss_does_not_serialise() {
    run(async {
        let private = "cache-control: private\r\nset-cookie: sid=1\r\n";
        let shop = Shop::open(move |_, _| page(200, private, "first")).await;
        let worker = Worker::new(&settings(shop.address, "ttl = \"10s\"", ""));
        let first = worker.get(PAGE, 0).await;
        assert_eq!((&*first.body, first.field("set-cookie")), ("first", ""));
        assert_eq!(first.field("cache-status"), "penstock; fwd=uri-miss; fwd-status=200");
        worker.quiet().await;
        let gate = gate();
        let held = gate.clone();
        shop.change(move |_, _| gated(&held, 200, private, "own"));
        let mine = [("cookie", "sid=secret"), ("authorization", "Bearer secret")];
        let crowd: Vec<_> =
            (0..20).map(|_| spawn_local(worker.ask(Method::GET, PAGE, &mine, 1))).collect();
        until(|| shop.asked() == 21).await;
        gate.add_permits(20);
        for client in crowd {
            let got = client.await.expect("no panic");
            assert_eq!((&*got.body, got.field("set-cookie")), ("own", ""));
            assert_eq!(got.field("cache-status"), "penstock; fwd=bypass; fwd-status=200");
        }
        assert!((0..21).all(|n| !shop.head(n).contains("secret")));
        assert_eq!(worker.counted(Counter::CachePasses), 20);
        assert_eq!(worker.counted(Counter::CacheCookiesStripped), 21);
        // After a while it is tried again, once for all.
        shop.change(|_, _| page(200, "", "public"));
        assert_eq!(worker.get(PAGE, 20_000).await.body, "public");
        worker.quiet().await;
        assert_eq!(worker.get(PAGE, 20_001).await.body, "public");
        assert_eq!(shop.asked(), 22);
    });
}

#[test]
fn who_waits_too_long_and_who_finds_no_room_is_told() {
    run(async {
        let gate = gate();
        let held = gate.clone();
        let shop = Shop::open(move |_, _| gated(&held, 200, "", "late")).await;
        let bounds = "[cache]\nwait_timeout = \"20ms\"\nwaiters_max = 2\nfills_max = 1";
        let worker = Worker::new(&settings(shop.address, "ttl = \"10s\"", bounds));
        let two = [(); 2].map(|()| spawn_local(worker.ask(Method::GET, PAGE, &[], 0)));
        let third = worker.get(PAGE, 0).await;
        assert_eq!((third.status, third.field("penstock-reason")), (503, "overloaded"));
        let other = worker.get("/activity/1", 0).await;
        assert_eq!((other.status, other.field("penstock-reason")), (503, "overloaded"));
        for client in two {
            let got = client.await.expect("no panic");
            assert_eq!((got.status, got.field("penstock-reason")), (503, "overloaded"));
        }
        gate.add_permits(1);
        worker.quiet().await;
        assert_eq!(worker.get(PAGE, 1).await.body, "late");
        assert_eq!(shop.asked(), 1);
    });
}

#[test]
fn a_fill_that_takes_too_long_is_given_up() {
    run(async {
        let gate = gate();
        let held = gate.clone();
        let shop = Shop::open(move |_, _| gated(&held, 200, "", "late")).await;
        let worker = Worker::new(&settings(
            shop.address,
            "ttl = \"10s\"",
            "[cache]\nfill_timeout = \"20ms\"",
        ));
        let got = worker.get(PAGE, 0).await;
        assert_eq!((got.status, got.field("penstock-reason")), (504, "gateway_timeout"));
        // The same in the middle of a body.
        let held = gate.clone();
        shop.change(move |_, _| {
            let head = "HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nhalf";
            vec![Act::Write(head.into()), Act::Wait(held.clone())]
        });
        let got = worker.get(PAGE, 5_000).await;
        assert_eq!((got.status, &*got.body, got.whole), (200, "half", false));
        worker.quiet().await;
        assert_eq!(worker.get(PAGE, 5_001).await.status, 502);
    });
}
