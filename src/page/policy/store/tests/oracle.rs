//! Another reading of RFC 9111, the crate `http-cache-semantics`, beside ours. It was written for
//! RFC 7234 and reads some things otherwise; what is left out of the comparison, and why:
//!
//! - names in upper case and commas inside quotes: it does not lower or unquote (RFC 9111 5.2);
//! - statuses that it does not know: RFC 9111 3 stores every final one that is explicitly fresh;
//! - `proxy-revalidate`: it takes that for `max-age=0`; RFC 9111 5.2.2.8 speaks of stale ones;
//! - `Set-Cookie`: it wants `public` beside it; RFC 9111 7.3 leaves that to the shop;
//! - a directive that comes twice: it adds `must-revalidate`, by which an answer to a request with
//!   `Authorization` may be stored; RFC 9111 4.2.1 asks for no more than staleness;
//! - the age by `Date`: it counts `Age` alone (RFC 9111 4.2.3 counts the greater);
//! - `must-understand`, `CDN-Cache-Control`, `private` and `no-cache` with field names, `immutable`
//!   as freshness, stale windows and parts: it has none of them, or has them by no RFC.

use std::time::{Duration, SystemTime};

use http_cache_semantics::{CacheOptions, CachePolicy};
use proptest::prelude::*;

use super::super::*;
use crate::clock::UnixMs;

const NOW_S: u64 = 784_111_777;

#[derive(Clone, Debug)]
struct Case {
    status: u16,
    is_authorized: bool,
    control: Vec<String>,
    expires: Option<i64>,
    modified: Option<u64>,
    age: Option<u64>,
}

fn case() -> impl Strategy<Value = Case> {
    let control = prop_oneof![
        (0u64..200).prop_map(|s| format!("max-age={s}")),
        (0u64..200).prop_map(|s| format!("s-maxage={s}")),
        Just("max-age=x".to_owned()),
        Just("max-age=\"60\"".to_owned()),
        Just("no-store".to_owned()),
        Just("no-cache".to_owned()),
        Just("private".to_owned()),
        Just("public".to_owned()),
        Just("must-revalidate".to_owned()),
        Just("foo=bar".to_owned()),
    ];
    let statuses = vec![200, 203, 204, 300, 301, 302, 303, 307, 308, 404, 405, 410, 414, 501];
    (
        prop::sample::select(statuses),
        any::<bool>(),
        prop::collection::vec(control, 0..4),
        prop::option::of(-100i64..200),
        prop::option::of(0u64..5_000),
        prop::option::of(0u64..150),
    )
        .prop_map(|(status, is_authorized, control, expires, modified, age)| Case {
            status,
            is_authorized,
            control,
            expires,
            modified,
            age,
        })
}

fn date(at_s: u64) -> String {
    httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(at_s))
}

impl Case {
    /// Whether a directive comes twice.
    fn repeats_itself(&self) -> bool {
        let mut names: Vec<_> = self.control.iter().map(|one| one.split('=').next()).collect();
        names.sort_unstable();
        names.windows(2).any(|pair| pair[0] == pair[1])
    }

    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let mut add = |name: &'static str, value: String| {
            headers.append(name, value.parse().expect("valid"));
        };
        add("date", date(NOW_S));
        self.control.iter().for_each(|directive| add("cache-control", directive.clone()));
        if let Some(after) = self.expires {
            add("expires", date(NOW_S.saturating_add_signed(after)));
        }
        if let Some(before) = self.modified {
            add("last-modified", date(NOW_S - before));
        }
        if let Some(age) = self.age {
            add("age", age.to_string());
        }
        headers
    }

    /// Whole seconds of freshness by our policy.
    fn ours_s(&self) -> u64 {
        let rules = Rules {
            heuristic_percent: 10,
            heuristic_max_ms: u64::MAX,
            stores_cookies: true,
            ..Rules::default()
        };
        let asked = Asked { is_authorized: self.is_authorized, ..Asked::default() };
        let status = StatusCode::from_u16(self.status).expect("valid");
        let arrival = Arrival { wall: UnixMs(NOW_S * 1000), delay_ms: 0 };
        match keep(status, &self.headers(), &rules, asked, arrival) {
            Keep::Page(windows) => windows.fresh_ms / 1000,
            _ => 0,
        }
    }

    fn theirs_s(&self) -> u64 {
        let mut request = http::Request::get("http://shop.example/").body(()).expect("valid");
        if self.is_authorized {
            let value = http::HeaderValue::from_static("Basic x");
            request.headers_mut().insert(header::AUTHORIZATION, value);
        }
        let mut response = http::Response::builder().status(self.status).body(()).expect("valid");
        *response.headers_mut() = self.headers();
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(NOW_S);
        let options = CacheOptions::default();
        let policy = CachePolicy::new_options(&request, &response, now, options);
        if policy.is_storable() { policy.time_to_live(now).as_secs() } else { 0 }
    }
}

proptest! {
    #[test]
    fn both_readings_give_the_same_freshness(case in case()) {
        prop_assume!(!(case.is_authorized && case.repeats_itself()));
        prop_assert_eq!(case.ours_s(), case.theirs_s(), "{:?}", case);
    }
}
