//! What caches outside may keep of a page of a sale: nothing past the next instant at which time alone
//! changes the sale. The page that a browser shows must not outlive T0 or the end.
//!
//! What the shop said is kept as it is; this makes the fields that are sent.

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::directives::{Directives, age_s, date_s, seconds};
use crate::http::split_unquoted;

/// For how long a page may be kept, in seconds of its age.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// No freshness and no use of what is stale reaches further.
    pub lifetime_s: u64,
    /// Told where the shop says nothing of freshness, lest a cache guesses.
    pub ttl_s: u64,
}

impl Bound {
    /// For a page with `headers` that comes `left_ms` before the edge. `Age` is told in whole seconds,
    /// rounded down, so one of them is not ours to give.
    pub fn of(headers: &HeaderMap, left_ms: u64, ttl_ms: u64) -> Bound {
        let lifetime_s = (left_ms / 1000).saturating_add(age_s(headers)).saturating_sub(1);
        Bound { lifetime_s, ttl_s: ttl_ms / 1000 }
    }
}

/// The fields as they are sent.
pub fn clipped(headers: &HeaderMap, bound: Bound) -> HeaderMap {
    let mut sent = headers.clone();
    for name in [header::CACHE_CONTROL, HeaderName::from_static("cdn-cache-control")] {
        let lines: Vec<&HeaderValue> = headers.get_all(&name).iter().collect();
        if lines.is_empty() {
            continue;
        }
        let members: Vec<&[u8]> =
            lines.iter().flat_map(|line| split_unquoted(line.as_bytes())).collect();
        let text = members_within(&members, bound.lifetime_s).join(&b", "[..]);
        match HeaderValue::from_bytes(&text) {
            Ok(value) if !text.is_empty() => drop(sent.insert(name, value)),
            _ => drop(sent.remove(name)),
        }
    }
    expires(&mut sent, bound);
    let said = Directives::of(headers);
    let is_silent = said.max_age_s.is_none()
        && said.s_maxage_s.is_none()
        && !said.no_store
        && !said.no_cache
        && !headers.contains_key(header::EXPIRES);
    let seconds = bound.ttl_s.min(bound.lifetime_s);
    if is_silent && let Ok(value) = HeaderValue::from_str(&format!("max-age={seconds}")) {
        sent.append(header::CACHE_CONTROL, value);
    }
    sent
}

/// Directives whose ends lie within `lifetime_s`. What is stale may be used only after what is fresh.
fn members_within(members: &[&[u8]], lifetime_s: u64) -> Vec<Vec<u8>> {
    let freshness = |member: &&&[u8]| {
        let (name, value) = pair(member)?;
        is_one_of(name, &["max-age", "s-maxage"]).then_some(value.min(lifetime_s))
    };
    // Where only `Expires` says how long it is fresh, nothing is left for what is stale.
    let fresh_s = members.iter().filter_map(|member| freshness(&member)).max();
    let stale_s = fresh_s.map_or(0, |fresh_s| lifetime_s - fresh_s);
    let within = |member: &&[u8]| match pair(member) {
        Some((name, value)) => {
            let longest = match is_one_of(name, &["max-age", "s-maxage"]) {
                true => lifetime_s,
                false => stale_s,
            };
            [name, format!("={}", value.min(longest)).as_bytes()].concat()
        }
        None => member.to_vec(),
    };
    // A quote that does not end would hide what follows from one reader and not from another.
    let is_whole = |member: &&&[u8]| member.iter().filter(|b| **b == b'"').count() % 2 == 0;
    members.iter().filter(|member| !member.is_empty()).filter(is_whole).map(within).collect()
}

/// A directive that gives a time, and its seconds; one that is broken gives none.
fn pair<'m>(member: &&'m [u8]) -> Option<(&'m [u8], u64)> {
    let at = member.iter().position(|b| *b == b'=')?;
    let (name, value) = (member[..at].trim_ascii(), &member[at + 1..]);
    let timed = ["max-age", "s-maxage", "stale-while-revalidate", "stale-if-error"];
    is_one_of(name, &timed).then(|| (name, seconds(value).unwrap_or(0)))
}

fn is_one_of(name: &[u8], names: &[&str]) -> bool {
    names.iter().any(|one| name.eq_ignore_ascii_case(one.as_bytes()))
}

fn expires(sent: &mut HeaderMap, bound: Bound) {
    let second = |name: HeaderName| sent.get(name).and_then(|v| date_s(v.as_bytes()));
    let (Some(expires), Some(date)) = (second(header::EXPIRES), second(header::DATE)) else {
        return;
    };
    let last = date.saturating_add(bound.lifetime_s);
    if expires > last {
        let text = crate::answer::imf_fixdate(crate::clock::UnixMs(last.saturating_mul(1000)));
        if let Ok(value) = HeaderValue::from_bytes(&text) {
            sent.insert(header::EXPIRES, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sent(fields: &[(&'static str, &str)], lifetime_s: u64) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        clipped(&headers, Bound { lifetime_s, ttl_s: 10 })
    }

    fn control(value: &str, lifetime_s: u64) -> String {
        let sent = sent(&[("cache-control", value)], lifetime_s);
        let lines = sent.get_all("cache-control").iter().map(|line| line.to_str().unwrap());
        lines.collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn no_freshness_reaches_past_the_edge() {
        for (said, lifetime_s, expected) in [
            ("max-age=60", 100, "max-age=60"),
            ("max-age=60", 7, "max-age=7"),
            ("public, Max-Age=\"60\", s-maxage=5", 7, "public, Max-Age=7, s-maxage=5"),
            ("max-age=60, stale-while-revalidate=90", 100, "max-age=60, stale-while-revalidate=40"),
            ("max-age=60, stale-if-error=9", 60, "max-age=60, stale-if-error=0"),
            ("max-age=60", 0, "max-age=0"),
            ("max-age=banana", 9, "max-age=0"),
            ("no-cache=\"a, max-age=5\"", 2, "no-cache=\"a, max-age=5\", max-age=2"),
            ("a=\"b, max-age=5", 2, "max-age=2"),
            ("no-store", 5, "no-store"),
            ("no-cache", 5, "no-cache"),
            ("public", 5, "public, max-age=5"),
            ("public", 50, "public, max-age=10"),
        ] {
            assert_eq!(control(said, lifetime_s), expected, "{said} {lifetime_s}");
        }
    }

    #[test]
    fn expires_and_the_field_for_cdns_are_clipped_too() {
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        let later = "Sun, 06 Nov 1994 09:49:37 GMT";
        let sent =
            sent(&[("date", date), ("expires", later), ("cdn-cache-control", "max-age=900")], 30);
        assert_eq!(sent["expires"], "Sun, 06 Nov 1994 08:50:07 GMT");
        assert_eq!(sent["cdn-cache-control"], "max-age=30");
        assert!(!sent.contains_key("cache-control"));
    }

    #[test]
    fn the_bound_counts_from_when_the_page_was_made() {
        let mut headers = HeaderMap::new();
        assert_eq!(Bound::of(&headers, 5_900, 0).lifetime_s, 4);
        assert_eq!(Bound::of(&headers, 900, 0).lifetime_s, 0);
        headers.insert("age", "7".parse().unwrap());
        assert_eq!(Bound::of(&headers, 5_900, 0).lifetime_s, 11);
    }

    proptest! {
        /// However it is said, another reader finds nothing that reaches further.
        #[test]
        fn nothing_outlives_the_bound(
            said in "(max-age|s-maxage|stale-while-revalidate|stale-if-error|public|=|,|\"| |[0-9]{1,4}){0,12}",
            lifetime_s in 0_u64..3_000,
        ) {
            let mut headers = HeaderMap::new();
            headers.insert("cache-control", said.parse().unwrap());
            let sent = Directives::of(&clipped(&headers, Bound { lifetime_s, ttl_s: 10 }));
            let fresh_s = sent.max_age_s.max(sent.s_maxage_s).unwrap_or(0);
            let stale_s = sent.stale_while_revalidate_s.max(sent.stale_if_error_s).unwrap_or(0);
            prop_assert!(fresh_s + stale_s <= lifetime_s, "{:?}", sent);
        }
    }
}
