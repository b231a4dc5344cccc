//! Fresh, stale, renewed.

use http::Method;
use penstock::metrics::Counter;

use crate::rig::{Worker, run, settings, until};
use crate::shop::{Act, Shop, page};

const PAGE: &str = "/activity/8848";

#[test]
fn a_stale_page_is_served_at_once_and_fetched_again_once() {
    run(async {
        let shop = Shop::open(|n, _| page(200, "", &format!("page {n}"))).await;
        let worker = Worker::new(&settings(shop.address, "ttl = \"10s\", stale = \"60s\"", ""));
        assert_eq!(worker.get(PAGE, 0).await.body, "page 0");
        worker.quiet().await;
        let fresh = worker.get(PAGE, 9_000).await;
        assert_eq!(
            (fresh.field("age"), fresh.field("cache-status").starts_with("penstock; hit; ttl=")),
            ("9", true)
        );
        let crowd: Vec<_> = (0..50).map(|_| worker.ask(Method::GET, PAGE, &[], 15_000)).collect();
        for client in crowd {
            let got = client.await;
            assert_eq!(&*got.body, "page 0");
            assert!(got.field("cache-status").starts_with("penstock; hit; ttl=-"));
        }
        worker.quiet().await;
        assert_eq!(shop.asked(), 2);
        assert_eq!(worker.get(PAGE, 15_100).await.body, "page 1");
        assert_eq!(worker.counted(Counter::CacheStale), 50);
        assert_eq!(worker.counted(Counter::CacheHits), 2);
        // Beyond the window a client waits for the new page.
        assert_eq!(worker.get(PAGE, 200_000).await.body, "page 2");
    });
}

#[test]
fn the_shops_own_freshness_goes_before_the_route() {
    run(async {
        let shop =
            Shop::open(|n, _| page(200, "cache-control: max-age=5\r\n", &format!("page {n}")))
                .await;
        let worker = Worker::new(&settings(shop.address, "ttl = \"1h\", stale = \"1h\"", ""));
        assert_eq!(worker.get(PAGE, 0).await.body, "page 0");
        worker.quiet().await;
        assert_eq!(worker.get(PAGE, 4_000).await.body, "page 0");
        assert_eq!(worker.get(PAGE, 6_000).await.body, "page 1", "no stale-while-revalidate");
        worker.quiet().await;
    });
}

#[test]
fn stale_stands_in_for_every_kind_of_error() {
    run(async {
        let shop = Shop::open(|_, _| page(200, "cache-control: max-age=5\r\n", "good")).await;
        let worker = Worker::new(&settings(
            shop.address,
            "ttl = \"1h\", stale = \"1h\"",
            "[cache]\nfill_timeout = \"50ms\"",
        ));
        assert_eq!(worker.get(PAGE, 0).await.body, "good");
        worker.quiet().await;
        let never = crate::shop::gate();
        type Script = Box<dyn Fn() -> Vec<Act>>;
        let scripts: [(&str, Script); 5] = [
            ("503", Box::new(|| page(503, "", "sorry"))),
            ("429", Box::new(|| page(429, "", "sorry"))),
            ("closed", Box::new(|| vec![Act::Close])),
            (
                "invalid",
                Box::new(|| {
                    vec![
                        Act::Write(
                            b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n"
                                .into(),
                        ),
                        Act::Close,
                    ]
                }),
            ),
            ("slow", Box::new(move || vec![Act::Wait(never.clone())])),
        ];
        let mut ms = 10_000;
        for (what, script) in scripts {
            shop.change(move |_, _| script());
            let asked = shop.asked();
            let got = worker.get(PAGE, ms).await;
            assert_eq!((got.status, &*got.body), (200, "good"), "{what}");
            assert!(got.field("cache-status").contains("ttl=-"), "{what}");
            worker.quiet().await;
            let after = shop.asked();
            assert!(after > asked, "{what}");
            // The shop is left alone for a moment.
            assert_eq!(worker.get(PAGE, ms + 500).await.body, "good");
            assert_eq!(shop.asked(), after, "{what}");
            ms += 10_000;
        }
        // The window ends.
        shop.change(|_, _| page(503, "", "sorry"));
        assert_eq!(worker.get(PAGE, 4_000_000).await.body, "sorry");
    });
}

#[test]
fn a_stale_page_is_renewed_by_a_304() {
    run(async {
        let fields = "cache-control: max-age=5\r\netag: \"v1\"\r\ncontent-type: text/html\r\n";
        let shop = Shop::open(move |n, _| match n {
            0 => page(200, fields, "the page"),
            _ => vec![Act::Write(
                b"HTTP/1.1 304 Not Modified\r\netag: \"v1\"\r\ncache-control: max-age=50\r\n\r\n"
                    .into(),
            )],
        })
        .await;
        let worker = Worker::new(&settings(shop.address, "ttl = \"1h\"", ""));
        assert_eq!(worker.get(PAGE, 0).await.body, "the page");
        worker.quiet().await;
        let renewed = worker.get(PAGE, 6_000).await;
        assert!(shop.head(1).contains("if-none-match: \"v1\"\r\n"));
        assert_eq!((renewed.status, &*renewed.body), (200, "the page"));
        assert_eq!(renewed.field("cache-control"), "max-age=50");
        assert_eq!(renewed.field("content-type"), "text/html");
        worker.quiet().await;
        assert_eq!(worker.get(PAGE, 40_000).await.body, "the page");
        assert_eq!(shop.asked(), 2);
    });
}

#[test]
fn a_client_cannot_bypass_the_cache() {
    run(async {
        let shop = Shop::open(|n, _| page(200, "", &format!("page {n}"))).await;
        let worker = Worker::new(&settings(shop.address, "ttl = \"10s\"", ""));
        worker.get(PAGE, 0).await;
        worker.quiet().await;
        for field in [
            ("cache-control", "no-cache"),
            ("cache-control", "max-age=0"),
            ("pragma", "no-cache"),
            ("authorization", "x"),
        ] {
            let got = worker.ask(Method::GET, PAGE, &[field], 1).await;
            assert_eq!(got.body, "page 0", "{field:?}");
        }
        assert_eq!(worker.get("/activity/8848?x=1", 1).await.body, "page 0");
        assert_eq!(shop.asked(), 1);
    });
}

#[test]
fn a_missing_page_is_believed_for_a_second() {
    run(async {
        let shop = Shop::open(|_, _| page(404, "cache-control: max-age=60\r\n", "none")).await;
        let worker = Worker::new(&settings(shop.address, "ttl = \"10s\"", ""));
        assert_eq!(worker.get(PAGE, 0).await.status, 404);
        worker.quiet().await;
        assert_eq!(worker.get(PAGE, 500).await.status, 404);
        assert_eq!(shop.asked(), 1);
        shop.change(|_, _| page(200, "", "there"));
        assert_eq!(worker.get(PAGE, 2_000).await.body, "there");
    });
}

#[test]
fn without_servers_the_answer_is_an_error_and_stale_still_stands_in() {
    run(async {
        let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
        let address = closed.local_addr().expect("address");
        drop(closed);
        let worker = Worker::new(&settings(address, "ttl = \"10s\"", ""));
        assert_eq!(worker.get(PAGE, 0).await.field("penstock-reason"), "bad_gateway");
        until(|| worker.tasks.is_empty()).await;
    });
}
