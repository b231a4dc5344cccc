//! Surrogate keys: what the shop calls pages by, purged by that, on sale pages and ordinary routes.

use http::Method;
use penstock::metrics::Counter;
use penstock::page::{Mode, Purge, Url, url_key};
use tokio::task::spawn_local;

use crate::rig::{Worker, run, settings, until};
use crate::shop::{Shop, gate, gated, page};

const FRESH: &str = "cache-control: max-age=600\r\n";

const OFF: &str = "[site.shop.route.account]\npath = \"/account/\"\ncache = { mode = \"off\" }\n";

fn with(shop: &Shop, more: &str) -> penstock::config::Settings {
    settings(shop.address, "ttl = \"1h\"", &format!("{OFF}[site.shop.cache]\n{more}"))
}

fn tag(tag: &str) -> Purge<'_> {
    Purge::Tag { site: Some("shop"), tag }
}

#[test]
fn pages_are_purged_by_their_tags() {
    run(async {
        let shop = Shop::open(|_, head| {
            let tags = match head.split(' ').nth(1) {
                Some("/a") => "surrogate-key: red round\r\n",
                Some("/b") => "cache-tag: red, square\r\n",
                Some("/activity/1") => "Surrogate-Key: red\r\n",
                _ => "",
            };
            page(200, &format!("{FRESH}{tags}"), "x")
        })
        .await;
        let worker = Worker::new(&with(&shop, ""));
        let all = ["/a", "/b", "/c", "/activity/1"];
        for (what, mode, met) in [
            (tag("red"), Mode::Hard, vec!["/a", "/b", "/activity/1"]),
            (tag("round"), Mode::Hard, vec!["/a"]),
            (tag("square"), Mode::Hard, vec!["/b"]),
            (Purge::Tag { site: None, tag: "red" }, Mode::Hard, vec!["/a", "/b", "/activity/1"]),
            (Purge::Tag { site: Some("other"), tag: "red" }, Mode::Hard, vec![]),
            (tag("blue"), Mode::Soft, vec![]),
        ] {
            for path in all {
                worker.get(path, 0).await;
                worker.quiet().await;
            }
            let before = shop.asked();
            assert_eq!(worker.cache.purge(&what, mode, &worker.sink), met.len() as u64, "{what:?}");
            for path in all {
                let asked = shop.asked();
                worker.get(path, 1).await;
                worker.quiet().await;
                assert_eq!(shop.asked() > asked, met.contains(&path), "{path} after {what:?}");
            }
            assert_eq!(shop.asked() - before, met.len());
        }
        assert_eq!(worker.cache.report().tags, 3);
        worker.cache.purge(&Purge::All, Mode::Hard, &worker.sink);
        let report = worker.cache.report();
        assert_eq!((report.tags, report.entries, report.bytes), (0, 0, 0), "nothing stays behind");
    });
}

#[test]
fn clients_get_no_tags_unless_the_setting_says_so() {
    run(async {
        let fields = format!("{FRESH}surrogate-key: a\r\ncache-tag: b\r\n");
        let shop = Shop::open(move |_, _| page(200, &fields, "x")).await;
        for (more, shown) in [("", ""), ("[cache]\nshow_tags = true", "a b")] {
            let worker = Worker::new(&with(&shop, more));
            for path in ["/a", "/activity/1"] {
                // As it comes, and as it is stored.
                for ms in [0, 1] {
                    let got = worker.get(path, ms).await;
                    let said = [got.field("surrogate-key"), got.field("cache-tag")].join(" ");
                    assert_eq!(said.trim(), shown, "{path}, {more}");
                    worker.quiet().await;
                }
            }
            // Neither does who asks for what is not cached: the site's tags are for us.
            for (method, path) in [(Method::POST, "/a"), (Method::GET, "/account/")] {
                let passed = worker.ask(method, path, &[], 2).await;
                assert_eq!(passed.field("cache-tag").is_empty(), shown.is_empty(), "{path}");
            }
        }
    });
}

#[test]
fn a_page_with_too_many_tags_is_not_stored() {
    run(async {
        let shop = Shop::open(|_, head| {
            let tags = if head.contains("/many") { "a b c" } else { "abcdef" };
            page(200, &format!("{FRESH}surrogate-key: {tags}\r\n"), "x")
        })
        .await;
        let more = "[cache]\ntags_max = 2\ntag_bytes_max = \"5B\"";
        let worker = Worker::new(&with(&shop, more));
        for path in ["/many", "/long"] {
            for ms in [0, 1] {
                assert_eq!(worker.get(path, ms).await.body, "x");
                worker.quiet().await;
            }
        }
        assert_eq!(shop.asked(), 4);
        assert!(worker.counted(Counter::CacheRefusedTags) >= 2);
    });
}

/// A 304 may give other tags; where it says nothing of them, the old ones stay.
#[test]
fn a_renewed_page_keeps_its_tags() {
    run(async {
        let shop = Shop::open(|_, _| {
            page(200, "cache-control: max-age=1\r\netag: \"1\"\r\nsurrogate-key: old\r\n", "x")
        })
        .await;
        let worker = Worker::new(&with(&shop, ""));
        worker.get("/a", 0).await;
        worker.quiet().await;
        shop.change(|n, _| {
            let tags = if n == 2 { "surrogate-key: new\r\n" } else { "" };
            page(304, &format!("cache-control: max-age=1\r\netag: \"1\"\r\n{tags}"), "")
        });
        for (ms, old, new) in [(10_000, 1, 0), (20_000, 0, 1)] {
            worker.get("/a", ms).await;
            worker.quiet().await;
            let soft = |tag_| worker.cache.purge(&tag(tag_), Mode::Soft, &worker.sink);
            assert_eq!((soft("old"), soft("new")), (old, new), "at {ms}");
        }
    });
}

/// The tags of an answer that is on its way are not known yet: who comes after the purge does not
/// wait for it.
#[test]
fn nobody_joins_a_fill_from_before_a_purge_of_its_tag() {
    for (tags, is_stored) in [("surrogate-key: a\r\n", false), ("surrogate-key: b\r\n", true)] {
        run(async {
            let (old, new) = (gate(), gate());
            let gates = [old.clone(), new.clone()];
            let fields = format!("{FRESH}{tags}");
            let shop =
                Shop::open(move |n, _| gated(&gates[n], 200, &fields, ["old", "new"][n])).await;
            let worker = Worker::new(&with(&shop, ""));
            let before = spawn_local(worker.ask(Method::GET, "/a", &[], 0));
            until(|| shop.asked() == 1).await;
            worker.cache.purge(&tag("a"), Mode::Hard, &worker.sink);
            if !is_stored {
                let after = spawn_local(worker.ask(Method::GET, "/a", &[], 1));
                until(|| shop.asked() == 2).await;
                new.add_permits(1);
                assert_eq!(after.await.expect("no panic").body, "new");
            }
            old.add_permits(1);
            assert_eq!(before.await.expect("no panic").body, "old");
            worker.quiet().await;
            let after = worker.get("/a", 2).await.body;
            assert_eq!(after, if is_stored { "old" } else { "new" }, "{tags}");
        });
    }
}

#[test]
fn a_url_is_purged_with_all_its_variants_and_nothing_else() {
    run(async {
        let shop = Shop::open(|_, _| page(200, &format!("{FRESH}vary: x-colour\r\n"), "x")).await;
        let settings = with(&shop, "query_ignored = [\"utm_*\"]");
        let worker = Worker::new(&settings);
        let fill = async || {
            for target in ["/a?n=1", "/a?n=2", "/a"] {
                for colour in ["red", "blue"] {
                    worker.ask(Method::GET, target, &[("x-colour", colour)], 0).await;
                    worker.quiet().await;
                }
            }
        };
        fill().await;
        assert_eq!(shop.asked(), 6);
        let url = |query| Url { site: "shop", host: "shop.example", path: "/a", query };
        let key = |query| url_key(&settings, &url(query)).expect("cached");
        for (query, mode) in
            [(Some("n=1&utm_source=x"), Mode::Hard), (None, Mode::Hard), (Some("n=2"), Mode::Soft)]
        {
            let what = key(query);
            let what = Purge::Stored { url: &what };
            assert_eq!(worker.cache.purge(&what, mode, &worker.sink), 2, "{query:?}");
        }
        fill().await;
        worker.quiet().await;
        assert_eq!(shop.asked(), 12, "each once more, what was soft behind its client's back");
        let host = |host, canonical| Purge::Host { host, canonical };
        let prefix = |path| Purge::Prefix { host: None, path };
        for (what, met) in [
            (host("other.example", "other.example"), 0),
            (host("shop.example:81", "shop.example:81"), 0),
            (prefix("/b"), 0),
            (Purge::Prefix { host: Some(("other.example", "other.example")), path: "/" }, 0),
            (prefix("/a"), 6),
        ] {
            assert_eq!(worker.cache.purge(&what, Mode::Hard, &worker.sink), met, "{what:?}");
        }
        fill().await;
        let what = host("shop.example", "shop.example");
        assert_eq!(worker.cache.purge(&what, Mode::Hard, &worker.sink), 6);
    });
}
