//! Ordinary routes by RFC 9111: who shares an answer and who does not, variants, renewal, methods.

use http::Method;
use penstock::config::Settings;
use penstock::metrics::Counter;
use tokio::task::spawn_local;

use crate::rig::{Got, Worker, run, settings, until};
use crate::shop::{Act, Shop, gate, gated, page};

const URL: &str = "/list?page=1";

fn cached(shop: &Shop, more: &str) -> Settings {
    settings(shop.address, "ttl = \"1h\"", &format!("[site.shop.cache]\n{more}"))
}

fn joined(worker: &Worker) -> u64 {
    let counted = |counter| worker.counted(counter);
    counted(Counter::CacheWaited) + counted(Counter::CacheMisses) + counted(Counter::CachePasses)
}

/// Asks `n` times at once.
fn crowd(
    worker: &std::rc::Rc<Worker>,
    n: usize,
    fields: &'static [(&'static str, &'static str)],
) -> Vec<tokio::task::JoinHandle<Got>> {
    (0..n).map(|_| spawn_local(worker.ask(Method::GET, URL, fields, 0))).collect()
}

#[test]
fn a_crowd_of_misses_is_one_request() {
    run(async {
        let gate = gate();
        let held = gate.clone();
        let shop =
            Shop::open(move |_, _| gated(&held, 200, "cache-control: max-age=60\r\n", "list"))
                .await;
        let worker = Worker::new(&cached(&shop, ""));
        let clients = crowd(&worker, 200, &[("cookie", "a=b")]);
        until(|| joined(&worker) == 200 && shop.asked() == 1).await;
        gate.add_permits(100);
        for client in clients {
            let got = client.await.expect("no panic");
            assert_eq!((got.status, &*got.body, got.whole), (200, "list", true));
        }
        worker.quiet().await;
        // Half a second for what the answer took.
        let hit = worker.get(URL, 5_500).await;
        assert_eq!((&*hit.body, hit.field("age").trim()), ("list", "5"));
        assert!(hit.field("cache-status").starts_with("penstock; hit; ttl=54"));
        assert_eq!(shop.asked(), 1);
        assert!(
            shop.head(0).starts_with("get /list?page=1 ") && shop.head(0).contains("cookie: a=b")
        );
    });
}

/// What is one client's is nobody else's, and nobody waits twice: all ask at once, side by side.
#[test]
fn a_private_answer_is_shown_to_its_client_alone() {
    run(async {
        let gate = gate();
        let held = gate.clone();
        let private = "cache-control: private\r\n";
        let shop = Shop::open(move |n, _| gated(&held, 200, private, &format!("client {n}"))).await;
        let worker = Worker::new(&cached(&shop, ""));
        let clients = crowd(&worker, 20, &[]);
        until(|| joined(&worker) == 20 && shop.asked() == 1).await;
        gate.add_permits(1);
        until(|| shop.asked() == 20).await;
        gate.add_permits(100);
        let mut bodies = Vec::new();
        for client in clients {
            bodies.push(client.await.expect("no panic").body);
        }
        bodies.sort();
        bodies.dedup();
        assert_eq!(bodies.len(), 20, "{bodies:?}");
        // From now on nobody waits for anybody: hit-for-miss.
        let later = crowd(&worker, 5, &[]);
        until(|| shop.asked() == 25).await;
        gate.add_permits(100);
        for client in later {
            assert!(client.await.expect("no panic").field("cache-status").contains("fwd=bypass"));
        }
    });
}

/// Hit-for-miss ends with the first answer that may be stored.
#[test]
fn what_becomes_cacheable_is_cached() {
    run(async {
        let shop = Shop::open(|n, _| {
            page(
                200,
                if n == 0 { "cache-control: private\r\n" } else { "cache-control: max-age=60\r\n" },
                "x",
            )
        })
        .await;
        let worker = Worker::new(&cached(&shop, ""));
        for _ in 0..4 {
            worker.get(URL, 0).await;
            worker.quiet().await;
        }
        assert_eq!(shop.asked(), 2);
    });
}

#[test]
fn each_variant_has_a_fill_and_a_place_of_its_own() {
    run(async {
        let gate = gate();
        let held = gate.clone();
        let fields = "cache-control: max-age=60\r\nvary: Accept-Language\r\n";
        let shop = Shop::open(move |_, head| {
            let language = head.lines().find_map(|l| l.strip_prefix("accept-language: "));
            gated(&held, 200, fields, language.unwrap_or("none"))
        })
        .await;
        let worker = Worker::new(&cached(&shop, "variants_max = 2"));
        let de = crowd(&worker, 10, &[("accept-language", "de")]);
        let en = crowd(&worker, 10, &[("accept-language", "en")]);
        until(|| joined(&worker) == 20 && shop.asked() == 1).await;
        gate.add_permits(100);
        for (clients, body) in [(de, "de"), (en, "en")] {
            for client in clients {
                assert_eq!(client.await.expect("no panic").body, body);
            }
        }
        worker.quiet().await;
        assert_eq!(shop.asked(), 2, "one fill for each language");
        let ask = async |language: &'static str| {
            let got = worker.ask(Method::GET, URL, &[("accept-language", language)], 9).await;
            worker.quiet().await;
            assert_eq!(got.body, language);
            shop.asked()
        };
        assert_eq!(ask("en").await, 2);
        assert_eq!(ask("fr").await, 3, "and pushes the oldest out");
        assert_eq!(ask("en").await, 3);
        assert_eq!(ask("de").await, 4);
    });
}

#[test]
fn what_a_route_counts_is_what_the_shop_gets() {
    run(async {
        let shop =
            Shop::open(|n, _| page(200, "cache-control: max-age=60\r\n", &n.to_string())).await;
        let more = "query_ignored = [\"utm_*\"]\nquery_sorted = true\ncookies = [\"theme\"]";
        let worker = Worker::new(&cached(&shop, more));
        let ask = async |target: &str, cookie: &'static str| {
            let got = worker.ask(Method::GET, target, &[("cookie", cookie)], 0).await;
            worker.quiet().await;
            got.body
        };
        assert_eq!(ask("/l?b=2&utm_source=x&a=1", "uid=1; theme=dark").await, "0");
        assert_eq!(ask("/l?a=1&b=2", "theme=dark; uid=2").await, "0");
        assert_eq!(ask("/l?a=1&b=2", "theme=light").await, "1");
        assert_eq!(ask("/l?a=1&b=3", "theme=dark").await, "2");
        assert!(shop.head(0).starts_with("get /l?a=1&b=2 "));
    });
}

#[test]
fn a_304_renews_and_may_turn_private() {
    run(async {
        let shop = Shop::open(|n, head| match n {
            0 => page(200, "cache-control: max-age=10\r\netag: \"a\"\r\nx: 1\r\n", "list"),
            _ => {
                assert!(head.to_ascii_lowercase().contains("if-none-match: \"a\""), "{head}");
                let control = if n == 1 { "max-age=20" } else { "private" };
                let text = format!("HTTP/1.1 304 X\r\ncache-control: {control}\r\nx: {n}\r\n\r\n");
                vec![Act::Write(text.into())]
            }
        })
        .await;
        let worker = Worker::new(&cached(&shop, ""));
        let ask = async |ms| {
            let got = worker.get(URL, ms).await;
            worker.quiet().await;
            (got.status, got.body.clone(), got.field("x").to_owned(), shop.asked())
        };
        let got = |x: &str, asked| (200, "list".to_owned(), x.to_owned(), asked);
        assert_eq!(ask(0).await, got("1", 1));
        assert_eq!(ask(9_999).await, got("1", 1));
        assert_eq!(ask(10_001).await, got("1", 2), "x of the 304");
        // The time that the answer took counts as age (RFC 9111 4.2.3), and is not known here.
        assert_eq!(ask(29_000).await, got("1", 2));
        // It turned private: this client gets it, and what was stored is gone.
        assert_eq!(ask(40_000).await, got("2", 3));
        shop.change(|_, head| {
            assert!(!head.to_ascii_lowercase().contains("if-none-match"), "{head}");
            page(200, "cache-control: max-age=10\r\n", "list")
        });
        assert_eq!(ask(40_001).await.3, 4);
    });
}

#[test]
fn stale_is_served_within_its_windows_and_no_longer() {
    run(async {
        let control = "cache-control: max-age=10, stale-while-revalidate=5, stale-if-error=20\r\n";
        let shop = Shop::open(move |n, _| match n {
            0 => page(200, control, "list"),
            _ => vec![Act::Close],
        })
        .await;
        let worker = Worker::new(&cached(&shop, ""));
        let ask = async |ms| {
            let got = worker.get(URL, ms).await;
            worker.quiet().await;
            (got.status, shop.asked())
        };
        assert_eq!(ask(0).await, (200, 1));
        // At once, and asked for behind the client's back; GET on a reused connection is sent twice.
        assert_eq!(ask(14_999).await.0, 200);
        assert_eq!(ask(29_999).await.0, 200);
        assert_eq!(ask(30_001).await.0, 502);
        shop.change(|_, _| page(200, "cache-control: max-age=1, must-revalidate\r\n", "list"));
        assert_eq!(ask(40_000).await.0, 200);
        shop.change(|_, _| vec![Act::Close]);
        assert_eq!(ask(41_500).await.0, 502);
    });
}

#[test]
fn an_error_stands_for_all_who_wait_and_is_not_kept() {
    run(async {
        let gate = gate();
        let held = gate.clone();
        let shop = Shop::open(move |_, _| gated(&held, 500, "", "broken")).await;
        let worker = Worker::new(&cached(&shop, ""));
        let clients = crowd(&worker, 30, &[]);
        until(|| joined(&worker) == 30 && shop.asked() == 1).await;
        gate.add_permits(100);
        let mut statuses = Vec::new();
        for client in clients {
            statuses.push(client.await.expect("no panic").status);
        }
        assert_eq!(statuses.iter().filter(|s| **s == 500).count(), 1);
        assert_eq!(statuses.iter().filter(|s| **s == 502).count(), 29);
        assert_eq!(shop.asked(), 1);
    });
}

#[test]
fn a_failure_is_held_for_a_moment() {
    run(async {
        let shop = Shop::open(|_, _| vec![Act::Close]).await;
        let worker = Worker::new(&cached(&shop, ""));
        let ask = async |ms| {
            let got = worker.get(URL, ms).await;
            worker.quiet().await;
            (got.status, shop.asked())
        };
        assert_eq!(ask(0).await, (502, 1));
        assert_eq!(ask(900).await, (502, 1));
        assert_eq!(ask(1_100).await, (502, 2));
    });
}

#[test]
fn a_cut_body_is_never_stored() {
    run(async {
        let shop = Shop::open(|n, _| match n {
            0 => vec![
                Act::Write(
                    b"HTTP/1.1 200 X\r\ncontent-length: 9\r\ncache-control: max-age=60\r\n\r\nhalf"
                        .into(),
                ),
                Act::Close,
            ],
            _ => page(200, "cache-control: max-age=60\r\n", "whole"),
        })
        .await;
        let worker = Worker::new(&cached(&shop, ""));
        let cut = worker.get(URL, 0).await;
        assert!(!cut.whole && cut.body == "half");
        worker.quiet().await;
        assert_eq!(worker.get(URL, 2_000).await.body, "whole");
    });
}

#[test]
fn an_unsafe_method_invalidates_where_it_succeeds() {
    run(async {
        let shop = Shop::open(|_, head| {
            if head.starts_with("GET") {
                return page(200, "cache-control: max-age=60\r\nvary: a\r\n", "list");
            }
            let status = if head.contains("x-fail") { 500 } else { 201 };
            page(status, "location: /made\r\ncontent-location: http://other.example/list\r\n", "")
        })
        .await;
        let worker = Worker::new(&cached(&shop, ""));
        let gets = async |target: &str| {
            let before = shop.asked();
            worker.get(target, 0).await;
            worker.quiet().await;
            shop.asked() - before
        };
        let post = async |fields: &'static [(&'static str, &'static str)]| {
            worker.ask(Method::POST, "/list?page=1", fields, 0).await;
        };
        assert_eq!(
            (gets("/list?page=1").await, gets("/made").await, gets("/other").await),
            (1, 1, 1)
        );
        post(&[("x-fail", "1")]).await;
        assert_eq!((gets("/list?page=1").await, gets("/made").await), (0, 0));
        post(&[]).await;
        assert_eq!(
            (gets("/list?page=1").await, gets("/made").await, gets("/other").await),
            (1, 1, 0)
        );
        assert_eq!(worker.counted(Counter::CacheInvalidated), 2);
    });
}

/// What was filled before a change is not stored after it.
#[test]
fn a_fill_that_a_change_overtakes_is_not_stored() {
    run(async {
        let gate = gate();
        let held = gate.clone();
        let shop = Shop::open(move |_, head| {
            if head.starts_with("POST") {
                return page(204, "", "");
            }
            let head = "HTTP/1.1 200 X\r\ncontent-length: 3\r\ncache-control: max-age=60\r\nvary: a\r\n\r\n";
            vec![Act::Write(head.into()), Act::Wait(held.clone()), Act::Write(b"old".into())]
        })
        .await;
        let worker = Worker::new(&cached(&shop, ""));
        let slow = spawn_local(worker.get_owned(URL));
        until(|| shop.asked() == 1).await;
        worker.ask(Method::POST, URL, &[], 0).await;
        gate.add_permits(1);
        assert_eq!(slow.await.expect("no panic").body, "old");
        worker.quiet().await;
        shop.change(|_, _| page(200, "cache-control: max-age=60\r\n", "new"));
        assert_eq!(worker.get(URL, 1).await.body, "new");
    });
}

#[test]
fn head_is_served_from_get_and_changes_what_is_stored() {
    run(async {
        let shop =
            Shop::open(|_, _| page(200, "cache-control: max-age=10\r\netag: \"a\"\r\n", "list"))
                .await;
        let worker = Worker::new(&cached(&shop, ""));
        let ask = async |method: Method, ms| {
            let got = worker.ask(method, URL, &[], ms).await;
            worker.quiet().await;
            (got.status, got.field("x").to_owned(), shop.asked())
        };
        assert_eq!(ask(Method::HEAD, 0).await, (200, String::new(), 1), "a HEAD is no GET");
        assert!(shop.head(0).starts_with("head "));
        assert_eq!(ask(Method::GET, 0).await.2, 2);
        assert_eq!(ask(Method::HEAD, 1).await.2, 2);
        let bodiless = |fields: &str| {
            vec![Act::Write(format!("HTTP/1.1 200 X\r\ncontent-length: 4\r\n{fields}\r\n").into())]
        };
        shop.change(move |_, _| bodiless("cache-control: max-age=60\r\netag: \"a\"\r\nx: 2\r\n"));
        assert_eq!(ask(Method::HEAD, 11_000).await.2, 3);
        assert_eq!(ask(Method::GET, 12_000).await, (200, "2".to_owned(), 3), "it was renewed");
        shop.change(move |_, head| match head.starts_with("HEAD") {
            true => bodiless("etag: \"b\"\r\n"),
            false => page(200, "cache-control: max-age=60\r\netag: \"b\"\r\n", "new!"),
        });
        assert_eq!(ask(Method::HEAD, 90_000).await.2, 4);
        assert_eq!(worker.get(URL, 90_001).await.body, "new!");
    });
}

#[test]
fn authorization_is_not_shared_unless_the_shop_says_so() {
    run(async {
        let shop = Shop::open(|_, head| {
            let control =
                if head.contains("/public") { "public, max-age=60" } else { "max-age=60" };
            page(200, &format!("cache-control: {control}\r\n"), "x")
        })
        .await;
        let worker = Worker::new(&cached(&shop, ""));
        for (target, asked) in [("/one", 2), ("/public", 3)] {
            for _ in 0..2 {
                worker.ask(Method::GET, target, &[("authorization", "Basic x")], 0).await;
                worker.quiet().await;
            }
            assert_eq!(shop.asked(), asked, "{target}");
        }
        // It leaves no remark: a client without it is served and stored as any other.
        worker.get("/one", 0).await;
        worker.quiet().await;
        worker.get("/one", 0).await;
        assert_eq!(shop.asked(), 4);
    });
}

#[test]
fn clients_demand_what_the_route_lets_them() {
    run(async {
        let shop = Shop::open(|_, _| page(200, "cache-control: max-age=60\r\n", "x")).await;
        for (more, demanded) in [("", 1), ("client_control = \"ignore\"", 0)] {
            let worker = Worker::new(&cached(&shop, more));
            let ask = async |target: &str, control: &'static str| {
                let before = shop.asked();
                let got =
                    worker.ask(Method::GET, target, &[("cache-control", control)], 1_500).await;
                worker.quiet().await;
                (got.status, shop.asked() - before)
            };
            worker.get(URL, 0).await;
            worker.quiet().await;
            assert_eq!(ask(URL, "max-age=2").await, (200, 0));
            for control in ["no-cache", "max-age=0", "max-age=1", "min-fresh=59"] {
                worker.cache.purge(
                    &penstock::page::Purge::All,
                    penstock::page::Mode::Hard,
                    &worker.sink,
                );
                worker.get(URL, 0).await;
                worker.quiet().await;
                assert_eq!(ask(URL, control).await, (200, demanded), "{control}");
            }
            let unknown = ask("/unknown", "only-if-cached").await;
            assert_eq!(unknown, if demanded == 1 { (504, 0) } else { (200, 1) });
        }
    });
}

/// Invented URLs neither flush the cache nor, where they look like a sale's pages, reach the shop.
#[test]
fn new_keys_come_no_faster_than_they_may() {
    run(async {
        let shop = Shop::open(|_, _| page(200, "cache-control: max-age=60\r\n", "x")).await;
        let more = "[cache]\nnew_keys = \"3@1/s\"";
        let worker = Worker::new(&cached(&shop, more));
        let ask = async |target: &str, ms| {
            let got = worker.get(target, ms).await;
            worker.quiet().await;
            (got.status, shop.asked(), worker.cache.report().entries)
        };
        assert_eq!(ask("/1", 0).await, (200, 1, 1));
        assert_eq!(ask("/2", 0).await, (200, 2, 2));
        assert_eq!(ask("/activity/1", 0).await, (200, 3, 3));
        assert_eq!(ask("/3", 0).await, (200, 4, 3), "it passes and is not stored");
        assert_eq!(ask("/activity/2", 0).await, (503, 4, 3), "and this does not pass");
        assert_eq!(ask("/1", 0).await, (200, 4, 3), "what is known is served");
        assert_eq!(ask("/activity/2", 2_000).await, (200, 5, 4));
        assert_eq!(worker.counted(Counter::CacheNewKeysRefused), 2);
    });
}

#[test]
fn cookies_are_stored_stripped_or_refused() {
    run(async {
        let shop =
            Shop::open(|_, _| page(200, "cache-control: max-age=60\r\nset-cookie: a=b\r\n", "x"))
                .await;
        for (setting, asked, cookies) in [("store", 1, 2), ("strip", 1, 0), ("refuse", 2, 2)] {
            let worker = Worker::new(&cached(&shop, &format!("set_cookie = \"{setting}\"")));
            let before = shop.asked();
            let mut seen = 0;
            for _ in 0..2 {
                let got = worker.get(URL, 0).await;
                seen += usize::from(got.headers.contains_key("set-cookie"));
                worker.quiet().await;
            }
            assert_eq!((shop.asked() - before, seen), (asked, cookies), "{setting}");
        }
    });
}

#[test]
fn without_the_setting_nothing_is_cached() {
    run(async {
        let shop = Shop::open(|_, _| page(200, "cache-control: max-age=60\r\n", "x")).await;
        let worker = Worker::new(&settings(shop.address, "ttl = \"1h\"", ""));
        for n in 1..3 {
            assert!(!worker.get(URL, 0).await.headers.contains_key("cache-status"));
            assert_eq!(shop.asked(), n);
        }
    });
}

/// RFC 9110 9.3.3.
#[test]
fn an_answer_to_post_that_is_what_get_would_bring_is_kept() {
    run(async {
        let shop = Shop::open(|_, head| {
            let at = if head.contains("/own") { "/own" } else { "/else" };
            page(200, &format!("cache-control: max-age=60\r\ncontent-location: {at}\r\n"), "made")
        })
        .await;
        let worker = Worker::new(&cached(&shop, ""));
        for (target, asked) in [("/own", 1), ("/another", 2)] {
            let before = shop.asked();
            assert_eq!(worker.ask(Method::POST, target, &[], 0).await.body, "made");
            assert_eq!(worker.get(target, 1).await.body, "made");
            worker.quiet().await;
            assert_eq!(shop.asked() - before, asked, "{target}");
        }
    });
}
