//! Stored fields and how a newer response changes them (RFC 9111 3.1, 3.2).

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::directives::Directives;

/// The fields of a response that are stored: all but those of the connection, which the upstream has
/// taken out, of the proxy (RFC 9111 3.1), and those that the response withholds from shared caches
/// by `no-cache="…"` or `private="…"`. Values are copies: those of the response are pieces of the
/// buffer that it was read into.
pub fn stored(headers: &HeaderMap, directives: &Directives, keeps_cookies: bool) -> HeaderMap {
    let mut kept = HeaderMap::with_capacity(headers.len());
    for (name, value) in headers {
        let is_cookie = COOKIES.contains(&name.as_str());
        let is_left_out = NEVER.contains(&name.as_str())
            || directives.withheld.contains(name)
            || is_cookie && !keeps_cookies;
        if !is_left_out && let Ok(copy) = HeaderValue::from_bytes(value.as_bytes()) {
            kept.append(name, copy);
        }
    }
    kept
}

/// `old` with the fields of a newer 304 or answer to HEAD: each field that it has replaces all lines
/// of the old one, but for those that describe the stored bytes (RFC 9111 3.2).
pub fn updated(old: &HeaderMap, newer: &HeaderMap) -> HeaderMap {
    let mut fields = old.clone();
    fields.remove(header::AGE);
    let applies = |name: &HeaderName| !OF_THE_BYTES.contains(&name.as_str());
    for name in newer.keys().filter(|name| applies(name)) {
        fields.remove(name);
    }
    for (name, value) in newer.iter().filter(|(name, _)| applies(name)) {
        fields.append(name, value.clone());
    }
    fields
}

/// What is never stored.
const NEVER: [&str; 6] = [
    "content-length",
    "proxy-authenticate",
    "proxy-authentication-info",
    "proxy-authorization",
    "cache-status",
    "surrogate-control",
];

const COOKIES: [&str; 2] = ["set-cookie", "set-cookie2"];

/// What describes the stored bytes, which a 304 does not change.
const OF_THE_BYTES: [&str; 5] =
    ["content-encoding", "content-length", "content-md5", "content-range", "etag"];

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    /// RFC 9111 3.1, 5.2.2.4, 5.2.2.7.
    #[test]
    fn what_is_withheld_is_not_stored() {
        let came = headers(&[
            ("cache-control", "no-cache=\"a\", private=\"b, set-cookie\", max-age=60"),
            ("a", "1"),
            ("b", "2"),
            ("c", "3"),
            ("c", "4"),
            ("set-cookie", "x=y"),
            ("proxy-authenticate", "Basic"),
            ("content-length", "3"),
        ]);
        let kept = stored(&came, &Directives::of(&came), true);
        assert_eq!(kept.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["cache-control", "c"]);
        assert_eq!(kept.get_all("c").iter().count(), 2);
        let cookie = headers(&[("set-cookie", "x=y")]);
        assert!(stored(&cookie, &Directives::default(), true).contains_key("set-cookie"));
        assert!(!stored(&cookie, &Directives::default(), false).contains_key("set-cookie"));
    }

    /// RFC 9111 3.2.
    #[test]
    fn a_304_replaces_all_lines_of_a_field() {
        let old = headers(&[
            ("a", "1"),
            ("a", "2"),
            ("b", "3"),
            ("etag", "\"x\""),
            ("content-encoding", "gzip"),
            ("age", "7"),
        ]);
        let newer =
            headers(&[("a", "9"), ("d", "4"), ("content-encoding", "br"), ("content-length", "0")]);
        let all = updated(&old, &newer);
        let mut lines: Vec<_> =
            all.iter().map(|(n, v)| (n.as_str(), v.to_str().expect("text"))).collect();
        lines.sort_unstable();
        assert_eq!(
            lines,
            [("a", "9"), ("b", "3"), ("content-encoding", "gzip"), ("d", "4"), ("etag", "\"x\"")]
        );
    }
}
