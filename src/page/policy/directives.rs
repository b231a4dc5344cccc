//! What a response of the shop says about caching: `Cache-Control`, `Expires`, `Age`, `Date`
//! (RFC 9111 section 5), read strictly and without overflow.

use http::{HeaderMap, HeaderName, header};

use super::judge::Arrival;
use crate::clock::UnixMs;
use crate::http::split_unquoted;

/// Largest number of seconds that is told apart (RFC 9111 1.2.2).
pub const SECONDS_MAX: u64 = 1 << 31;

/// The directives of a response that a shared cache acts on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directives {
    /// `no-store`.
    pub no_store: bool,
    /// `private` without field names.
    pub private: bool,
    /// `private` with field names (RFC 9111 5.2.2.7).
    pub private_fields: bool,
    /// `no-cache` without field names.
    pub no_cache: bool,
    /// `no-cache` with field names (RFC 9111 5.2.2.4).
    pub no_cache_fields: bool,
    /// The fields that either names: they are not for a shared cache to store.
    pub withheld: Vec<HeaderName>,
    /// `public`.
    pub public: bool,
    /// `must-understand`.
    pub must_understand: bool,
    /// `must-revalidate` or `proxy-revalidate`.
    pub must_revalidate: bool,
    /// `no-transform`.
    pub no_transform: bool,
    /// `max-age`, seconds.
    pub max_age_s: Option<u64>,
    /// `s-maxage`, seconds.
    pub s_maxage_s: Option<u64>,
    /// `stale-while-revalidate` (RFC 5861), seconds.
    pub stale_while_revalidate_s: Option<u64>,
    /// `stale-if-error` (RFC 5861), seconds.
    pub stale_if_error_s: Option<u64>,
}

impl Directives {
    /// Reads all `Cache-Control` lines; the first of several equal directives counts.
    pub fn of(headers: &HeaderMap) -> Directives {
        let mut directives = Directives::default();
        for line in headers.get_all(header::CACHE_CONTROL) {
            for item in split_unquoted(line.as_bytes()) {
                directives.note(item);
            }
        }
        directives
    }

    fn note(&mut self, item: &[u8]) {
        let (name, value) = match item.iter().position(|b| *b == b'=') {
            Some(at) => (&item[..at], Some(&item[at + 1..])),
            None => (item, None),
        };
        let is = |known: &str| name.trim_ascii().eq_ignore_ascii_case(known.as_bytes());
        // A number that is none means "stale already" (RFC 9111 4.2.1).
        let first = |slot: &mut Option<u64>| {
            slot.get_or_insert_with(|| value.and_then(seconds).unwrap_or(0));
        };
        match () {
            () if is("no-store") => self.no_store = true,
            () if is("private") => match value {
                None => self.private = true,
                Some(names) => {
                    self.private_fields = true;
                    self.withhold(names);
                }
            },
            () if is("no-cache") => match value {
                None => self.no_cache = true,
                Some(names) => {
                    self.no_cache_fields = true;
                    self.withhold(names);
                }
            },
            () if is("public") => self.public = true,
            () if is("must-understand") => self.must_understand = true,
            () if is("must-revalidate") || is("proxy-revalidate") => self.must_revalidate = true,
            () if is("no-transform") => self.no_transform = true,
            () if is("max-age") => first(&mut self.max_age_s),
            () if is("s-maxage") => first(&mut self.s_maxage_s),
            () if is("stale-while-revalidate") => first(&mut self.stale_while_revalidate_s),
            () if is("stale-if-error") => first(&mut self.stale_if_error_s),
            () => {}
        }
    }

    /// Notes the fields of `no-cache="a, b"`. Names that are none are nobody's.
    fn withhold(&mut self, names: &[u8]) {
        let names = unquoted(names).split(|b| *b == b',').map(<[u8]>::trim_ascii);
        self.withheld.extend(names.filter_map(|name| HeaderName::from_bytes(name).ok()));
    }

    /// The explicit freshness lifetime in seconds, if the response gives one: `s-maxage`, else
    /// `max-age`, else `Expires` less `Date`. A broken `Expires` is in the past.
    pub fn lifetime_s(&self, headers: &HeaderMap, received: UnixMs) -> Option<u64> {
        if let Some(seconds) = self.s_maxage_s.or(self.max_age_s) {
            return Some(seconds);
        }
        let mut lines = headers.get_all(header::EXPIRES).iter();
        let expires = lines.next()?;
        if lines.next().is_some() {
            // More than one is none that is valid (RFC 9111 4.2.1).
            return Some(0);
        }
        let date = headers.get(header::DATE).and_then(|v| date_s(v.as_bytes()));
        let date = date.unwrap_or_else(|| received.secs());
        let expires = date_s(expires.as_bytes()).unwrap_or(0);
        Some(expires.saturating_sub(date).min(SECONDS_MAX))
    }
}

/// `Age` in seconds: the first member of the first line; 0 where it is invalid.
pub fn age_s(headers: &HeaderMap) -> u64 {
    let line = headers.get(header::AGE).map(|v| v.as_bytes()).unwrap_or_default();
    let first = line.split(|b| *b == b',').next().unwrap_or_default().trim_ascii();
    let is_number = first.iter().all(u8::is_ascii_digit);
    if is_number { seconds(first).unwrap_or(0) } else { 0 }
}

/// The age of a response when it came (RFC 9111 4.2.3), in milliseconds: what `Age` says and the time
/// since it was asked for, or the time since its `Date` if that is longer.
pub fn current_age_ms(headers: &HeaderMap, arrival: Arrival) -> u64 {
    let date = headers.get(header::DATE).and_then(|v| date_s(v.as_bytes()));
    let apparent_s = date.map_or(0, |date| arrival.wall.secs().saturating_sub(date));
    let corrected_ms = age_s(headers).saturating_mul(1000).saturating_add(arrival.delay_ms);
    corrected_ms.max(apparent_s.saturating_mul(1000))
}

/// An HTTP date in seconds since 1970, in any of the three forms and in none other: what does not
/// read back as it was written is invalid. The case of its letters does not matter to a cache
/// (RFC 9111 4.2).
pub fn date_s(value: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(value).ok()?;
    let text = match httpdate::parse_http_date(text) {
        Ok(_) => text.into(),
        Err(_) => std::borrow::Cow::Owned(in_proper_case(text)),
    };
    let text = &*text;
    let time = httpdate::parse_http_date(text).ok().or_else(|| on_another_day(text))?;
    let seconds = time.duration_since(std::time::UNIX_EPOCH).ok()?.as_secs();
    // The obsolete forms carry no zone or a two-digit year; the preferred one must be exact.
    let is_imf = text.as_bytes().get(3) == Some(&b',');
    (!is_imf || httpdate::fmt_http_date(time) == text).then_some(seconds)
}

/// A date in the form of asctime that is right but for the name of its day, which adds nothing to it.
fn on_another_day(text: &str) -> Option<std::time::SystemTime> {
    let (named, rest) = text.split_at_checked(3)?;
    let is_asctime = DAYS.contains(&named) && rest.starts_with(' ');
    let mut days = DAYS.iter().filter(|_| is_asctime);
    days.find_map(|day| httpdate::parse_http_date(&format!("{day}{rest}")).ok())
}

const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

/// `SUN, 06 nov 1994 08:49:37 gmt` as `Sun, 06 Nov 1994 08:49:37 GMT`.
fn in_proper_case(text: &str) -> String {
    let mut is_in_word = false;
    let mut proper: String = text
        .chars()
        .map(|c| match c.is_ascii_alphabetic() {
            true if std::mem::replace(&mut is_in_word, true) => c.to_ascii_lowercase(),
            true => c.to_ascii_uppercase(),
            false => {
                is_in_word = false;
                c
            }
        })
        .collect();
    if proper.ends_with("Gmt") {
        proper.truncate(proper.len() - 3);
        proper.push_str("GMT");
    }
    proper
}

/// Digits, perhaps quoted, as seconds; too many clamp.
pub fn seconds(value: &[u8]) -> Option<u64> {
    let value = unquoted(value.trim_ascii());
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digit = |sum: u64, b: &u8| sum.saturating_mul(10).saturating_add(u64::from(b - b'0'));
    Some(value.iter().fold(0, digit).min(SECONDS_MAX))
}

fn unquoted(value: &[u8]) -> &[u8] {
    value.strip_prefix(b"\"").and_then(|v| v.strip_suffix(b"\"")).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().expect("valid"));
        }
        headers
    }

    fn control(value: &str) -> Directives {
        Directives::of(&headers(&[("cache-control", value)]))
    }

    #[test]
    fn cache_control_is_read_as_the_rfc_says() {
        assert!(control("No-StOrE").no_store);
        let named = control("private=\"set-cookie\", no-cache=\"a, B\", max-age=1");
        assert!(named.private_fields && named.no_cache_fields && !named.private && !named.no_cache);
        assert_eq!(named.withheld, ["set-cookie", "a", "b"]);
        assert_eq!(control("max-age=3600, foo=\"max-age=1\"").max_age_s, Some(3600));
        assert_eq!(control("foo=\"a\\\", max-age=1\", max-age=7").max_age_s, Some(7));
        assert_eq!(control("max-age=\"60\"").max_age_s, Some(60));
        assert_eq!(control("max-age=1, max-age=2").max_age_s, Some(1));
        assert_eq!(control("max-age=99999999999999999999").max_age_s, Some(SECONDS_MAX));
        for broken in ["max-age", "max-age=", "max-age=-1", "max-age=1.5", "max-age=abc"] {
            assert_eq!(control(broken).max_age_s, Some(0), "{broken}");
        }
        let two = headers(&[("cache-control", "max-age=1"), ("cache-control", "no-cache")]);
        assert!(Directives::of(&two).no_cache);
    }

    #[test]
    fn the_lifetime_prefers_the_shared_directive() {
        let lifetime = |lines: &[(&'static str, &str)]| {
            let headers = headers(lines);
            Directives::of(&headers).lifetime_s(&headers, UnixMs(784_111_777_000))
        };
        let date = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");
        let later = ("expires", "Sun, 06 Nov 1994 08:50:37 GMT");
        assert_eq!(lifetime(&[("cache-control", "max-age=1, s-maxage=2"), later]), Some(2));
        assert_eq!(lifetime(&[("cache-control", "max-age=1"), later]), Some(1));
        assert_eq!(lifetime(&[later, date]), Some(60));
        assert_eq!(lifetime(&[later]), Some(60));
        assert_eq!(lifetime(&[]), None);
        for broken in ["0", "Sun, 06 Nov 2094 08:50:37 UTC", "Sun, 6 Nov 2094 08:50:37 GMT", ""] {
            assert_eq!(lifetime(&[("expires", broken), date]), Some(0), "{broken}");
        }
    }

    /// RFC 9111 4.2.
    #[test]
    fn the_case_of_a_date_does_not_matter() {
        for date in [
            "SUN, 06 NOV 1994 08:49:37 gMt",
            "sunday, 06-nov-94 08:49:37 gmt",
            "sun nov  6 08:49:37 1994",
            "Thu Nov  6 08:49:37 1994",
        ] {
            assert_eq!(date_s(date.as_bytes()), Some(784_111_777), "{date}");
        }
    }

    #[test]
    fn an_invalid_age_is_ignored() {
        for (value, age) in
            [("7", 7), ("7, 9", 7), ("abc", 0), ("-7", 0), ("7.0", 0), ("4294967296", SECONDS_MAX)]
        {
            assert_eq!(age_s(&headers(&[("age", value)])), age, "{value}");
        }
    }
}
