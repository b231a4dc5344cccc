mod oracle;

use super::*;
use crate::clock::UnixMs;

const NOW: UnixMs = UnixMs(784_111_777_000);

fn rules() -> Rules {
    Rules {
        heuristic_percent: 10,
        heuristic_max_ms: 86_400_000,
        stores_cookies: true,
        targeted: vec![HeaderName::from_static("cdn-cache-control")],
        ..Rules::default()
    }
}

fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(*name, value.parse().expect("valid"));
    }
    headers
}

fn kept(status: u16, lines: &[(&'static str, &str)], asked: Asked) -> Keep {
    let arrival = Arrival { wall: NOW, delay_ms: 0 };
    let status = StatusCode::from_u16(status).expect("valid");
    keep(status, &headers(lines), &rules(), asked, arrival)
}

fn fresh_ms(status: u16, lines: &[(&'static str, &str)]) -> Option<u64> {
    match kept(status, lines, Asked::default()) {
        Keep::Page(windows) => Some(windows.fresh_ms),
        _ => None,
    }
}

fn control(value: &str) -> [(&'static str, &str); 1] {
    [("cache-control", value)]
}

/// RFC 9111 3: what may be stored at all.
#[test]
fn section_3_storing() {
    let not = |lines: &[(&'static str, &str)], why| {
        assert_eq!(kept(200, lines, Asked::default()), Keep::Not(why), "{lines:?}");
    };
    not(&control("no-store, max-age=60"), Refusal::Directive);
    not(&control("private, max-age=60"), Refusal::Directive);
    not(&[("cache-control", "max-age=60"), ("vary", "a, *")], Refusal::Directive);
    not(&[], Refusal::Stale);
    not(&control("max-age=0"), Refusal::Stale);
    not(&control("no-cache"), Refusal::Stale);
    for status in
        [200, 201, 203, 204, 299, 301, 302, 303, 307, 308, 400, 404, 410, 499, 500, 502, 599]
    {
        assert_eq!(fresh_ms(status, &control("max-age=60")), Some(60_000), "{status}");
    }
    let named = [("cache-control", "private=\"set-cookie\", max-age=60")];
    assert_eq!(fresh_ms(200, &named), Some(60_000));
}

/// RFC 9111 3.3: parts.
#[test]
fn section_3_3_incomplete_responses() {
    let part = [("cache-control", "max-age=60"), ("content-range", "bytes 0-4/10")];
    let range = Asked { has_range: true, ..Asked::default() };
    assert!(matches!(kept(206, &part, range), Keep::Page(_)));
    assert_eq!(kept(206, &part, Asked::default()), Keep::Not(Refusal::Status));
    assert_eq!(kept(206, &control("max-age=60"), range), Keep::Not(Refusal::Status));
}

/// RFC 9111 3.5: authenticated requests.
#[test]
fn section_3_5_authorization() {
    let asked = Asked { is_authorized: true, ..Asked::default() };
    assert_eq!(kept(200, &control("max-age=60"), asked), Keep::Not(Refusal::Client));
    for allowed in ["public, max-age=60", "s-maxage=60", "must-revalidate, max-age=60"] {
        assert!(matches!(kept(200, &control(allowed), asked), Keep::Page(_)), "{allowed}");
    }
}

/// RFC 9111 4.2.1: the freshness lifetime.
#[test]
fn section_4_2_1_lifetime() {
    let date = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");
    let later = ("expires", "Sun, 06 Nov 1994 08:50:37 GMT");
    for (lines, expected) in [
        (vec![("cache-control", "max-age=1, s-maxage=2"), later], Some(2_000)),
        (vec![("cache-control", "s-maxage=2, max-age=1")], Some(2_000)),
        (vec![("cache-control", "max-age=1"), later], Some(1_000)),
        (vec![later, date], Some(60_000)),
        (vec![later, later, date], None),
        (vec![("expires", "0"), date], None),
        (vec![("expires", "Sunday, 06-Nov-94 08:50:37 GMT"), date], Some(60_000)),
        (vec![("expires", "Sun Nov  6 08:50:37 1994"), date], Some(60_000)),
        (vec![("expires", "Sun, 06 Nov 1994 08:50:37 UTC"), date], None),
        (vec![("expires", "Sun, 6 Nov 94 08:50:37 GMT"), date], None),
    ] {
        assert_eq!(fresh_ms(200, &lines), expected, "{lines:?}");
    }
}

/// RFC 9111 4.2.2: heuristic freshness.
#[test]
fn section_4_2_2_heuristics() {
    let changed = |extra: &'static str| {
        vec![
            ("last-modified", "Sun, 06 Nov 1994 08:32:57 GMT"),
            ("date", "Sun, 06 Nov 1994 08:49:37 GMT"),
            ("cache-control", extra),
        ]
    };
    for status in HEURISTIC.into_iter().filter(|status| *status != 206) {
        assert_eq!(fresh_ms(status, &changed("x")), Some(100_000), "{status}");
    }
    for status in [201, 202, 302, 403, 502, 503, 504, 599] {
        assert_eq!(fresh_ms(status, &changed("x")), Some(0), "{status}");
    }
    assert_eq!(fresh_ms(599, &changed("public")), Some(100_000));
    let old = [("last-modified", "Sun, 06 Nov 1904 08:32:57 GMT")];
    assert!(fresh_ms(200, &old).is_some());
}

/// RFC 9111 4.2.3: the age on arrival.
#[test]
fn section_4_2_3_age() {
    let age = |lines: &[(&'static str, &str)], delay_ms| {
        current_age_ms(&headers(lines), Arrival { wall: NOW, delay_ms })
    };
    let minute_ago = ("date", "Sun, 06 Nov 1994 08:48:37 GMT");
    let in_a_minute = ("date", "Sun, 06 Nov 1994 08:50:37 GMT");
    assert_eq!(age(&[], 300), 300);
    assert_eq!(age(&[("age", "7")], 300), 7_300);
    assert_eq!(age(&[minute_ago], 300), 60_000);
    assert_eq!(age(&[minute_ago, ("age", "90")], 300), 90_300);
    assert_eq!(age(&[in_a_minute], 300), 300);
    for invalid in ["abc", "-7200", "7200.0", "\"7200\""] {
        assert_eq!(age(&[("age", invalid)], 0), 0, "{invalid}");
    }
    assert_eq!(
        fresh_ms(200, &[("cache-control", "max-age=60"), ("age", "2147483648"), ("etag", "\"a\"")]),
        Some(0)
    );
}

/// RFC 9111 4.2.4 and 5.2.2, RFC 5861: when stale may be served.
#[test]
fn section_4_2_4_stale() {
    let mut rules = rules();
    rules.stale_ms = 5_000;
    let windows = |value: &str| {
        let arrival = Arrival { wall: NOW, delay_ms: 0 };
        match keep(StatusCode::OK, &headers(&control(value)), &rules, Asked::default(), arrival) {
            Keep::Page(w) => (w.refill_ms, w.error_ms, w.never_stale),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(windows("max-age=2"), (0, 5_000, false));
    assert_eq!(
        windows("max-age=2, stale-while-revalidate=3, stale-if-error=9"),
        (3_000, 9_000, false)
    );
    assert_eq!(windows("max-age=2, stale-if-error=1"), (0, 1_000, false));
    assert_eq!(windows("s-maxage=2"), (0, 0, true));
    for never in ["must-revalidate", "proxy-revalidate"] {
        let value = format!("max-age=2, stale-if-error=9, stale-while-revalidate=9, {never}");
        assert_eq!(windows(&value), (0, 0, true));
    }
}

/// RFC 5861 4: what stands in for an error is no error.
#[test]
fn an_error_never_stands_in() {
    let lines = [("cache-control", "max-age=2, stale-if-error=9"), ("etag", "\"a\"")];
    let Keep::Page(windows) = kept(503, &lines, Asked::default()) else { panic!("not stored") };
    assert_eq!((windows.fresh_ms, windows.refill_ms, windows.error_ms), (2_000, 0, 0));
}

/// RFC 9111 5.2.2.3: `must-understand`.
#[test]
fn section_5_2_2_3_must_understand() {
    let both = control("max-age=60, no-store, must-understand");
    assert_eq!(fresh_ms(200, &both), Some(60_000));
    assert_eq!(fresh_ms(599, &both), None);
    assert_eq!(fresh_ms(599, &control("max-age=60, must-understand")), None);
}

/// RFC 9111 5.2.2.4: `no-cache` is stored, and asked about each time.
#[test]
fn section_5_2_2_4_no_cache() {
    let lines = [("cache-control", "max-age=60, No-CaChE"), ("etag", "\"a\"")];
    let Keep::Page(windows) = kept(200, &lines, Asked::default()) else { panic!("not stored") };
    assert_eq!((windows.fresh_ms, windows.error_ms, windows.alone), (0, 0, true));
    let named = [("cache-control", "max-age=60, no-cache=\"a\"")];
    assert_eq!(fresh_ms(200, &named), Some(60_000));
}

/// RFC 9213 2.2: a targeted field replaces `Cache-Control` and `Expires`.
#[test]
fn rfc_9213_section_2_2_targeted() {
    let both = |cdn: &'static str, all: &'static str| {
        fresh_ms(200, &[("cdn-cache-control", cdn), ("cache-control", all)])
    };
    assert_eq!(both("max-age=60", "no-store"), Some(60_000));
    assert_eq!(both("max-age=1", "max-age=60"), Some(1_000));
    assert_eq!(both("private", "max-age=60"), None);
    assert_eq!(both("max-age=60, &&", "no-store"), None);
    assert_eq!(both("max-age=60, &&", "max-age=5"), Some(5_000));
    let expires =
        [("cdn-cache-control", "max-age=0"), ("expires", "Sun, 06 Nov 2094 08:50:37 GMT")];
    assert_eq!(fresh_ms(200, &expires), None);
}

/// A stored cookie is the standard's reading; a route may refuse it.
#[test]
fn a_cookie_is_stored_where_the_route_says_so() {
    let lines = [("cache-control", "max-age=60"), ("set-cookie", "a=b")];
    assert_eq!(fresh_ms(200, &lines), Some(60_000));
    let refusing = Rules { stores_cookies: false, ..rules() };
    let arrival = Arrival { wall: NOW, delay_ms: 0 };
    let verdict = keep(StatusCode::OK, &headers(&lines), &refusing, Asked::default(), arrival);
    assert_eq!(verdict, Keep::Not(Refusal::Cookie));
}
