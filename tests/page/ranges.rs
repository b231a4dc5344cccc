//! Ranges on ordinary routes: out of what is stored whole, out of stored parts, and parts put
//! together.

use http::Method;

use crate::rig::{Got, Worker, run, settings};
use crate::shop::{Shop, page};

const FRESH: &str = "cache-control: max-age=60\r\netag: \"a\"\r\ncontent-type: text/plain\r\n";

async fn open(
    script: impl Fn(usize, &str) -> Vec<crate::shop::Act> + 'static,
) -> (Shop, std::rc::Rc<Worker>) {
    let shop = Shop::open(script).await;
    let worker = Worker::new(&settings(shop.address, "ttl = \"1h\"", "[site.shop.cache]"));
    (shop, worker)
}

async fn range(worker: &Worker, range: &str, more: &[(&str, &str)]) -> Got {
    let mut fields = vec![("range", range)];
    fields.extend(more);
    let got = worker.ask(Method::GET, "/file", &fields, 1).await;
    worker.quiet().await;
    got
}

/// RFC 9110 14 and 15.5.17.
#[test]
fn parts_of_what_is_stored_whole() {
    run(async {
        let (shop, worker) = open(|_, _| page(200, FRESH, "0123456789")).await;
        worker.get("/file", 0).await;
        worker.quiet().await;
        for (asked, status, said, body) in [
            ("bytes=0-1", 206, "bytes 0-1/10", "01"),
            ("bytes=7-", 206, "bytes 7-9/10", "789"),
            ("bytes=-1", 206, "bytes 9-9/10", "9"),
            ("bytes=8-99", 206, "bytes 8-9/10", "89"),
            ("bytes=10-", 416, "bytes */10", ""),
            ("bytes=0-6, 5-9", 200, "", "0123456789"),
            ("lines=0-1", 200, "", "0123456789"),
        ] {
            let got = range(&worker, asked, &[]).await;
            let length = body.len().to_string();
            assert_eq!(
                (got.status, got.field("content-range"), &*got.body),
                (status, said, body),
                "{asked}"
            );
            assert_eq!(got.field("content-length"), length, "{asked}");
            assert!(got.field("cache-status").starts_with("penstock; hit"));
            assert_eq!(got.headers.contains_key("content-type"), status != 416);
        }
        let got = range(&worker, "bytes=0-0, -2", &[]).await;
        let kind = got.field("content-type").to_owned();
        let boundary = kind.strip_prefix("multipart/byteranges; boundary=").expect("multipart");
        let part = |range: &str, body: &str| {
            format!(
                "\r\n--{boundary}\r\ncontent-type: text/plain\r\ncontent-range: bytes {range}/10\r\n\r\n{body}"
            )
        };
        let expected = format!("{}{}\r\n--{boundary}--\r\n", part("0-0", "0"), part("8-9", "89"));
        assert_eq!((got.status, got.body), (206, expected));
        assert_eq!(shop.asked(), 1);
    });
}

/// RFC 9110 13.1.5, 13.2.2.
#[test]
fn if_range_and_conditions_go_before_the_range() {
    run(async {
        let (_, worker) = open(|_, _| page(200, FRESH, "0123456789")).await;
        worker.get("/file", 0).await;
        worker.quiet().await;
        let status =
            async |fields: &[(&str, &str)]| range(&worker, "bytes=0-1", fields).await.status;
        assert_eq!(status(&[("if-range", "\"a\"")]).await, 206);
        assert_eq!(status(&[("if-range", "\"b\"")]).await, 200);
        assert_eq!(status(&[("if-range", "W/\"a\"")]).await, 200);
        assert_eq!(status(&[("if-none-match", "\"a\"")]).await, 304);
        assert_eq!(status(&[("if-none-match", "\"b\"")]).await, 206);
        // A range of HEAD means nothing.
        let head = worker.ask(Method::HEAD, "/file", &[("range", "bytes=0-1")], 1).await;
        assert_eq!(head.status, 200);
    });
}

/// RFC 9111 3.3, 3.4.
#[test]
fn a_stored_part_is_reused_and_completed() {
    run(async {
        let (shop, worker) = open(|_, head| {
            let head = head.to_ascii_lowercase();
            if head.contains("range: bytes=0-4") {
                return page(206, &format!("{FRESH}content-range: bytes 0-4/10\r\n"), "01234");
            }
            assert!(
                head.contains("range: bytes=5-\r\n") && head.contains("if-range: \"a\""),
                "{head}"
            );
            page(206, &format!("{FRESH}content-range: bytes 5-9/10\r\n"), "56789")
        })
        .await;
        assert_eq!(range(&worker, "bytes=0-4", &[]).await.body, "01234");
        let again = range(&worker, "bytes=1-3", &[]).await;
        assert_eq!(
            (again.status, again.field("content-range"), &*again.body),
            (206, "bytes 1-3/10", "123")
        );
        assert_eq!(shop.asked(), 1);
        let whole = worker.get("/file", 1).await;
        worker.quiet().await;
        assert_eq!(
            (whole.status, &*whole.body, whole.field("content-range")),
            (200, "0123456789", "")
        );
        assert_eq!(worker.get("/file", 2).await.body, "0123456789");
        assert_eq!(range(&worker, "bytes=4-5", &[]).await.body, "45");
        assert_eq!(shop.asked(), 2);
    });
}

#[test]
fn parts_of_two_representations_are_never_put_together() {
    run(async {
        let (shop, worker) = open(|_, head| {
            let head = head.to_ascii_lowercase();
            match head.contains("range: bytes=0-4") {
                true => page(206, &format!("{FRESH}content-range: bytes 0-4/10\r\n"), "01234"),
                false => page(200, "cache-control: max-age=60\r\netag: \"b\"\r\n", "abcdefghij"),
            }
        })
        .await;
        range(&worker, "bytes=0-4", &[]).await;
        assert_eq!(worker.get("/file", 1).await.body, "abcdefghij");
        worker.quiet().await;
        assert_eq!(range(&worker, "bytes=0-4", &[]).await.body, "abcde");
        assert_eq!(shop.asked(), 2);
    });
}

/// RFC 9111 3.3: of a part that was cut by its sender what is there is used, and no byte more; one
/// that is longer than it says is not stored.
#[test]
fn a_part_is_what_is_there_of_it() {
    run(async {
        let (shop, worker) =
            open(|_, _| page(206, &format!("{FRESH}content-range: bytes 4-9/10\r\n"), "45678"))
                .await;
        assert_eq!(range(&worker, "bytes=-6", &[]).await.body, "45678");
        assert_eq!(range(&worker, "bytes=6-8", &[]).await.body, "678");
        assert_eq!(shop.asked(), 1);
        range(&worker, "bytes=6-", &[]).await;
        assert_eq!(shop.asked(), 2, "the last byte is not there");
        shop.change(|_, _| {
            page(206, &format!("{FRESH}content-range: bytes 4-9/10\r\n"), "456789?")
        });
        for n in 3..5 {
            range(&worker, "bytes=0-", &[]).await;
            assert_eq!(shop.asked(), n);
        }
    });
}
