//! What is stored, what is not, and what a client gets of it.

use http::Method;
use penstock::metrics::Counter;

use crate::rig::{Worker, run, settings};
use crate::shop::{Act, Shop, page};

const PAGE: &str = "/activity/8848";

fn chunked(body: &str, end: &str) -> Vec<Act> {
    let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    vec![Act::Write(format!("{head}{:x}\r\n{body}\r\n{end}", body.len()).into())]
}

#[test]
fn a_body_that_was_cut_is_never_stored() {
    run(async {
        let shop = Shop::open(|_, _| page(200, "", "whole")).await;
        let worker = Worker::new(&settings(shop.address, "ttl = \"10s\"", ""));
        let cuts: [fn() -> Vec<Act>; 2] = [
            || {
                let head = "HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\nhalf";
                vec![Act::Write(head.into()), Act::Close]
            },
            || {
                let mut acts = chunked("half", "");
                acts.push(Act::Close);
                acts
            },
        ];
        for (i, cut) in cuts.into_iter().enumerate() {
            let ms = i as u64 * 10_000;
            shop.change(move |_, _| cut());
            let got = worker.get(PAGE, ms).await;
            assert_eq!((got.status, &*got.body, got.whole), (200, "half", false));
            worker.quiet().await;
            assert_eq!(worker.get(PAGE, ms + 500).await.status, 502);
        }
        shop.change(|_, _| page(200, "", "whole"));
        assert_eq!(worker.get(PAGE, 90_000).await.body, "whole");
    });
}

#[test]
fn a_chunked_body_is_stored_and_one_that_ends_with_its_connection_is_not() {
    run(async {
        let shop = Shop::open(|_, _| chunked("the page", "0\r\n\r\n")).await;
        let worker = Worker::new(&settings(shop.address, "ttl = \"10s\"", ""));
        assert_eq!(worker.get(PAGE, 0).await.body, "the page");
        worker.quiet().await;
        let stored = worker.get(PAGE, 1).await;
        assert_eq!((&*stored.body, stored.field("content-length")), ("the page", "8"));
        shop.change(|_, _| vec![Act::Write(b"HTTP/1.1 200 OK\r\n\r\nopen end".into()), Act::Close]);
        for ms in [0, 1] {
            let got = worker.get("/activity/1", ms).await;
            assert_eq!((&*got.body, got.whole), ("open end", true));
            worker.quiet().await;
        }
        assert_eq!(shop.asked(), 3);
        assert_eq!(worker.counted(Counter::CacheRefusedUndelimited), 1);
    });
}

/// A page that is too large goes on to those who wait, whether its length was stated or not.
#[test]
fn a_body_that_is_too_large_is_passed_on_whole() {
    run(async {
        let big = "x".repeat(300_000);
        let body = big.clone();
        let shop = Shop::open(move |n, _| match n {
            0 => page(200, "", &body),
            _ => chunked(&body, "0\r\n\r\n"),
        })
        .await;
        let worker = Worker::new(&settings(
            shop.address,
            "ttl = \"10s\"",
            "[cache]\nentry_bytes_max = \"64KiB\"",
        ));
        for target in [PAGE, "/activity/1"] {
            for ms in [0, 1] {
                let got = worker.get(target, ms).await;
                assert!(got.whole && got.body == big, "{target} at {ms}");
                worker.quiet().await;
            }
        }
        assert_eq!(worker.counted(Counter::CacheRefusedTooLarge), 2);
        assert_eq!(worker.counted(Counter::CachePasses), 2);
    });
}

#[test]
fn nothing_of_a_client_reaches_the_shop_and_no_cookie_comes_back() {
    run(async {
        let fields = "set-cookie: sid=1\r\nset-cookie: b=2\r\npenstock-outcome: x\r\nx-powered-by: y\r\ncontent-type: text/html\r\n";
        let shop = Shop::open(move |_, _| page(200, fields, "the page")).await;
        let worker = Worker::new(&settings(shop.address, "ttl = \"10s\"", ""));
        let mine = [
            ("cookie", "sid=secret"),
            ("x-forwarded-host", "evil.example"),
            ("x-original-url", "/admin"),
            ("accept-language", "xx"),
            ("range", "bytes=0-1"),
            ("if-none-match", "\"x\""),
        ];
        // What comes first is whole for everybody; of what is stored each gets its part.
        for (ms, told) in [(0, (200, "the page")), (1, (206, "th"))] {
            let got = worker.ask(Method::GET, "/activity/8848?city=sh&utm=1", &mine, ms).await;
            assert_eq!((got.status, &*got.body), told);
            let leaked = ["set-cookie", "penstock-outcome", "x-powered-by"];
            assert!(leaked.iter().all(|name| !got.headers.contains_key(*name)));
            worker.quiet().await;
        }
        let head = shop.head(0);
        assert!(head.starts_with("get /activity/8848?city=sh http/1.1\r\n"), "{head}");
        assert!(
            head.contains("host: shop.example\r\n")
                && head.contains("accept-encoding: identity\r\n")
        );
        let theirs = ["secret", "evil", "admin", "xx", "range", "if-none-match", "utm"];
        assert!(theirs.iter().all(|text| !head.contains(text)), "{head}");
        assert_eq!(worker.counted(Counter::CacheCookiesStripped), 2);
    });
}

#[test]
fn each_city_has_its_page() {
    run(async {
        let shop = Shop::open(|_, head| {
            let target = head.split(' ').nth(1).expect("target").to_owned();
            page(200, "", &target)
        })
        .await;
        let worker = Worker::new(&settings(shop.address, "ttl = \"10s\"", ""));
        for target in [PAGE, "/activity/8848?city=sh", "/activity/8848?city=bj", "/activity/88"] {
            assert_eq!(worker.get(target, 0).await.body, target);
            worker.quiet().await;
            assert_eq!(worker.get(target, 1).await.body, target);
        }
        assert_eq!(shop.asked(), 4);
    });
}

#[test]
fn codings_are_made_once_and_conditions_are_answered() {
    run(async {
        let html = "<p>activity 8848</p>".repeat(200);
        let body = html.clone();
        let fields = "content-type: text/html\r\netag: \"v1\"\r\nlast-modified: Sun, 06 Nov 1994 08:00:00 GMT\r\n";
        let shop = Shop::open(move |_, _| page(200, fields, &body)).await;
        let worker = Worker::new(&settings(shop.address, "ttl = \"10s\"", ""));
        // Who waits for the fill may have a copy already.
        let known = worker.ask(Method::GET, PAGE, &[("if-none-match", "\"v1\"")], 0).await;
        assert_eq!((known.status, known.field("etag")), (304, "\"v1\""));
        worker.quiet().await;
        let gzip = [("accept-encoding", "gzip, deflate")];
        let got = worker.ask(Method::GET, PAGE, &gzip, 1).await;
        assert_eq!((got.field("content-encoding"), got.field("etag")), ("gzip", "W/\"v1-gzip\""));
        assert_eq!(got.field("vary"), "accept-encoding");
        let plain = worker.get(PAGE, 1).await;
        assert_eq!((plain.field("content-encoding"), &*plain.body), ("", &*html));
        for fields in [
            [("if-none-match", "\"v1\"")],
            [("if-modified-since", "Sun, 06 Nov 1994 08:00:00 GMT")],
        ] {
            assert_eq!(worker.ask(Method::GET, PAGE, &fields, 1).await.status, 304);
        }
        assert_eq!(shop.asked(), 1);
        let coded = worker.ask(Method::GET, PAGE, &[("accept-encoding", "br")], 1).await;
        assert_eq!(coded.field("content-encoding"), "br");
        assert!(coded.field("content-length").parse::<usize>().expect("length") < html.len());
    });
}

#[test]
fn an_unknown_304_and_a_partial_answer_are_not_taken() {
    run(async {
        let shop =
            Shop::open(|_, _| vec![Act::Write(b"HTTP/1.1 304 Not Modified\r\n\r\n".into())]).await;
        let worker = Worker::new(&settings(shop.address, "ttl = \"10s\"", ""));
        assert_eq!(worker.get(PAGE, 0).await.status, 502);
        worker.quiet().await;
        shop.change(|_, _| page(206, "content-range: bytes 0-3/9\r\n", "part"));
        for ms in [5_000, 5_001] {
            assert_eq!(worker.get(PAGE, ms).await.body, "part");
            worker.quiet().await;
        }
        assert_eq!(shop.asked(), 3);
    });
}
