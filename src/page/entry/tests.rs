use super::*;
use crate::answer::Fill;
use crate::answer::tests::agree;
use crate::http::Field;
use crate::http::head::BodyKind;
use crate::page::coding::CODINGS;

fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(*name, value.parse().expect("valid"));
    }
    headers
}

fn entry(lines: &[(&'static str, &str)], body: &str) -> Entry {
    let kept = kept_headers(&headers(lines), "accept-encoding", UnixMs(784_111_777_000));
    let body = Bytes::from(body.to_owned());
    Source {
        status: StatusCode::OK,
        headers: kept,
        body,
        is_faithful: false,
        tags: Tags::default(),
    }
    .into_entry(600)
}

fn wanted(lines: &[(&'static str, &'static str)]) -> Wanted<'static> {
    let fields: Vec<_> = lines
        .iter()
        .map(|(name, value)| Field { name: name.as_bytes(), value: value.as_bytes() })
        .collect();
    Wanted::of(&Head {
        method: http::Method::GET,
        version: http::Version::HTTP_11,
        path: "/",
        query: None,
        host: "a".into(),
        fields: &fields,
        body: BodyKind::None,
    })
    .into_owned()
}

fn told(entry: &Entry, lines: &[(&'static str, &'static str)]) -> http::Response<Bytes> {
    let fill = Fill { age_s: 3, max_age_s: 7, ..Fill::default() };
    agree::response(&entry.answer_for(&wanted(lines)), &fill)
}

fn page() -> String {
    "<p>activity 8848</p>".repeat(100)
}

#[test]
fn the_content_is_described_and_nothing_else() {
    let entry = entry(
        &[
            ("content-type", "text/html"),
            ("content-length", "2000"),
            ("content-language", "zh"),
            ("cache-control", "max-age=10"),
            ("last-modified", "Sun, 06 Nov 1994 08:00:00 GMT"),
            ("date", "Sun, 06 Nov 1994 08:49:30 GMT"),
            ("age", "9"),
            ("vary", "cookie"),
            ("set-cookie", "sid=secret"),
            ("x-request-id", "1"),
            ("connection", "close"),
        ],
        &page(),
    );
    let told = told(&entry, &[]);
    let mut lines: Vec<_> = told
        .headers()
        .iter()
        .map(|(n, v)| format!("{n}: {}", v.to_str().expect("text")))
        .filter(|line| !line.starts_with("etag"))
        .collect();
    lines.sort_unstable();
    let expected = [
        "age: 3",
        "cache-control: max-age=10",
        "cache-status: penstock; hit; ttl=7",
        "content-language: zh",
        "content-length: 2000",
        "content-type: text/html",
        "date: Sun, 06 Nov 1994 08:49:30 GMT",
        "last-modified: Sun, 06 Nov 1994 08:00:00 GMT",
        "vary: accept-encoding",
        "vary: cookie",
    ];
    assert_eq!(lines, expected);
    assert_eq!(told.body(), &page());
}

#[test]
fn each_coding_has_its_own_tag_and_304() {
    let html = ("content-type", "text/html");
    for (etag, plain, brotli) in
        [("\"v1\"", "\"v1\"", "W/\"v1-br\""), ("W/\"v1\"", "W/\"v1\"", "W/\"v1-br\"")]
    {
        let entry = entry(&[html, ("etag", etag)], &page());
        assert_eq!(told(&entry, &[]).headers()["etag"], plain);
        let coded = told(&entry, &[("accept-encoding", "br")]);
        assert_eq!(coded.headers()["etag"], brotli);
        assert_eq!(coded.headers()["content-encoding"], "br");
        assert!(coded.body().len() < page().len());
        let known = told(&entry, &[("accept-encoding", "br"), ("if-none-match", "\"v1-br\"")]);
        assert_eq!((known.status().as_u16(), known.body().len()), (304, 0));
        assert_eq!(known.headers()["etag"], brotli);
        assert!(!known.headers().contains_key("content-encoding"));
        assert!(!known.headers().contains_key("content-type"));
        let other = told(&entry, &[("accept-encoding", "gzip"), ("if-none-match", "\"v1-br\"")]);
        assert_eq!(other.status(), 200);
    }
    let ours = entry(&[html], &page());
    let tag = told(&ours, &[]).headers()["etag"].clone();
    assert_eq!(tag.len(), 18);
    let same = entry(&[html], &page());
    assert_eq!(told(&same, &[]).headers()["etag"], tag);
}

/// Both writers, for every coding, fresh and stale, whole and 304.
#[test]
fn every_form_of_a_page_is_written_alike() {
    let fields = [
        ("content-type", "text/html"),
        ("cache-control", "max-age=10"),
        ("link", "</a.css>; rel=preload"),
        ("link", "</b.js>; rel=preload"),
        ("vary", "cookie"),
    ];
    let undated = entry(&[fields[0], ("date", "not a date"), ("last-modified", "x")], &page());
    for entry in [entry(&fields, &page()), undated] {
        for coding in CODINGS {
            for is_stale in [false, true] {
                for tag in ["\"other\"", "*"] {
                    let label = coding.label();
                    let asks = wanted(&[("accept-encoding", label), ("if-none-match", tag)]);
                    let fill =
                        Fill { age_s: 31, max_age_s: 1_234_567_890, is_stale, ..Fill::default() };
                    let told = agree::response(&entry.answer_for(&asks), &fill);
                    assert_eq!(told.status(), if tag == "*" { 304 } else { 200 });
                    assert_eq!(told.headers()["age"], "31");
                    let says_coding = coding != Coding::Identity && tag != "*";
                    assert_eq!(told.headers().contains_key("content-encoding"), says_coding);
                    let status = told.headers()["cache-status"].to_str().expect("text");
                    assert_eq!(status.contains("ttl=-"), is_stale);
                }
            }
        }
    }
}

#[test]
fn conditions_are_read_as_the_rfc_says() {
    let lines = [
        ("content-type", "text/html"),
        ("etag", "\"a,b\""),
        ("last-modified", "Sun, 06 Nov 1994 08:00:00 GMT"),
    ];
    let entry = entry(&lines, "short");
    let same = ("if-modified-since", "Sun, 06 Nov 1994 08:00:00 GMT");
    let older = ("if-modified-since", "Sun, 06 Nov 1994 07:59:59 GMT");
    for (lines, status) in [
        (vec![("if-none-match", "\"a,b\"")], 304),
        (vec![("if-none-match", "\"x\", W/\"a,b\"")], 304),
        (vec![("if-none-match", "*")], 304),
        (vec![("if-none-match", "\"x\""), ("if-none-match", "\"a,b\"")], 304),
        (vec![("if-none-match", "\"a\"")], 200),
        (vec![("if-none-match", "")], 200),
        (vec![same], 304),
        (vec![older], 200),
        (vec![("if-modified-since", "yesterday")], 200),
        // The tag goes before the date.
        (vec![("if-none-match", "\"x\""), same], 200),
        (vec![("if-none-match", "\"a,b\""), older], 304),
    ] {
        assert_eq!(told(&entry, &lines).status(), status, "{lines:?}");
    }
}

#[test]
fn what_the_shop_encoded_is_served_as_it_is() {
    let entry = entry(&[("content-type", "text/html"), ("content-encoding", "gzip")], &page());
    let told = told(&entry, &[("accept-encoding", "br")]);
    assert_eq!(told.headers()["content-encoding"], "gzip");
    assert_eq!(told.headers().get_all("content-encoding").iter().count(), 1);
    assert_eq!(told.body(), &page());
}

#[test]
fn no_transform_and_short_bodies_stay_as_they_are() {
    let html = ("content-type", "text/html");
    for entry in [
        entry(&[html, ("cache-control", "no-transform")], &page()),
        entry(&[html], "short"),
        entry(&[("content-type", "image/png")], &page()),
    ] {
        let told = told(&entry, &[("accept-encoding", "gzip")]);
        assert!(!told.headers().contains_key("content-encoding"));
    }
}

#[test]
fn a_304_of_the_shop_renews_the_fields_but_not_those_of_the_body() {
    let old = entry(
        &[("content-type", "text/html"), ("etag", "\"1\""), ("cache-control", "max-age=1")],
        &page(),
    );
    let new = headers(&[
        ("cache-control", "max-age=9"),
        ("content-type", "text/plain"),
        ("content-length", "0"),
        ("date", "Sun, 06 Nov 1994 09:00:00 GMT"),
    ]);
    let fresh = old.refreshed(kept_headers(&new, "accept-encoding", UnixMs(0)));
    let told = told(&fresh, &[]);
    assert_eq!(told.headers()["cache-control"], "max-age=9");
    assert_eq!(told.headers()["content-type"], "text/html");
    assert_eq!(told.headers()["etag"], "\"1\"");
    assert_eq!(told.headers()["date"], "Sun, 06 Nov 1994 09:00:00 GMT");
    assert_eq!(told.headers().get_all("vary").iter().count(), 1);
    assert_eq!(told.body(), &page());
}

#[test]
fn the_weight_covers_all_that_is_held() {
    let entry = entry(&[("content-type", "text/html"), ("etag", "\"1\"")], &page());
    let bodies: usize = CODINGS.into_iter().filter_map(|c| entry.coded(c)).map(Bytes::len).sum();
    assert!(entry.weight() > bodies + size_of::<Entry>() + 4 * (size_of::<Answer>() + 200));
}
