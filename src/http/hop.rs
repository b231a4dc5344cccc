//! Hop-by-hop rules: what of a message is for the next hop and what ends with this one
//! (RFC 9110 7.6.1). One table for requests, one for responses.

use http::{HeaderMap, header};

use super::head::{Field, Head};

/// Request fields that are never forwarded: hop-by-hop, rewritten by us, or able to change what the
/// shop believes about path, method or client. Framing and Host are written anew by the constructors
/// of forwarded heads.
const REQUEST: &[&str] = &[
    "connection",
    "content-length",
    "early-data",
    "expect",
    "forwarded",
    "host",
    "http2-settings",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-http-method",
    "x-real-ip",
];

/// Beginnings and ends of further names that are never forwarded. (`Proxy` itself too: httpoxy.)
const REQUEST_PREFIXES: &[&str] =
    &["penstock-", "proxy-", "x-forwarded-", "x-original-", "x-rewrite-"];
const REQUEST_SUFFIX: &str = "-override";

/// Response fields that are never relayed.
const RESPONSE: &[&str] =
    &["keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"];

/// Fields that belong to the message whatever Connection says of them.
const END_TO_END: &[&str] = &[
    "age",
    "authorization",
    "cache-control",
    "cookie",
    "date",
    "etag",
    "expires",
    "forwarded",
    "host",
    "idempotency-key",
    "last-modified",
    "location",
    "pragma",
    "set-cookie",
    "transfer-encoding",
    "vary",
    "via",
    "x-real-ip",
];
const END_TO_END_PREFIXES: &[&str] = &["content-", "penstock-", "x-forwarded-"];

/// Whether `name` is a field that Connection cannot make hop-by-hop.
pub fn is_end_to_end(name: &[u8]) -> bool {
    is_one_of(name, END_TO_END) || has_prefix(name, END_TO_END_PREFIXES)
}

/// The fields of a request that go on to the shop, in their order: everything but the tables above
/// and what Connection names. The constructor then adds its own Host, framing and forwarding fields.
pub fn forwardable<'a>(head: &'a Head<'a>) -> impl Iterator<Item = Field<'a>> {
    head.fields.iter().copied().filter(|field| {
        let named = || head.field_all("connection").any(|line| names(line, field.name));
        !is_stripped(field.name) && (is_end_to_end(field.name) || !named())
    })
}

/// Takes out of a response what must not be relayed or stored: hop-by-hop fields, and those that its
/// Connection lines name.
pub fn strip_response(headers: &mut HeaderMap) {
    if headers.contains_key(header::CONNECTION) {
        let lines: Vec<_> = headers.get_all(header::CONNECTION).iter().cloned().collect();
        headers.remove(header::CONNECTION);
        for option in lines.iter().flat_map(|line| line.as_bytes().split(|b| *b == b',')) {
            let option = option.trim_ascii();
            if !is_end_to_end(option)
                && let Ok(name) = header::HeaderName::from_bytes(option)
            {
                headers.remove(name);
            }
        }
    }
    for name in RESPONSE {
        headers.remove(*name);
    }
}

/// Takes our own fields out of a response of the shop, once what they say was read: only we speak
/// them to clients.
pub fn strip_penstock(headers: &mut HeaderMap) {
    let ours = headers.keys().filter(|name| name.as_str().starts_with("penstock-"));
    for name in ours.cloned().collect::<Vec<_>>() {
        headers.remove(name);
    }
}

fn is_stripped(name: &[u8]) -> bool {
    is_one_of(name, REQUEST)
        || has_prefix(name, REQUEST_PREFIXES)
        || name.eq_ignore_ascii_case(b"proxy")
        || has_suffix(name, REQUEST_SUFFIX)
}

/// Whether a Connection line lists `name`.
fn names(line: &[u8], name: &[u8]) -> bool {
    line.split(|b| *b == b',').any(|option| option.trim_ascii().eq_ignore_ascii_case(name))
}

fn is_one_of(name: &[u8], table: &[&str]) -> bool {
    table.iter().any(|row| name.eq_ignore_ascii_case(row.as_bytes()))
}

fn has_prefix(name: &[u8], table: &[&str]) -> bool {
    table.iter().any(|prefix| {
        name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()))
    })
}

fn has_suffix(name: &[u8], suffix: &str) -> bool {
    name.len() >= suffix.len()
        && name[name.len() - suffix.len()..].eq_ignore_ascii_case(suffix.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::limits::Limits;
    use crate::http::reader::read_head;

    fn forwarded(fields: &str) -> Vec<String> {
        let bytes = format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        let mut storage = Vec::new();
        let request = read_head(bytes.as_bytes(), &Limits::default(), &mut storage)
            .expect("valid")
            .expect("complete");
        forwardable(&request.head).map(|f| String::from_utf8_lossy(f.name).into_owned()).collect()
    }

    #[test]
    fn hop_by_hop_and_spoofable_fields_stay_here() {
        let fields = "Accept: x\r\nTE: trailers\r\nTrailer: x\r\nKeep-Alive: 5\r\nUpgrade: h2c\r\n\
            HTTP2-Settings: AA\r\nConnection: Upgrade, HTTP2-Settings, X-Mine\r\nX-Mine: 1\r\n\
            Expect: 100-continue\r\nPenstock-Admission: v1\r\nProxy: evil\r\nProxy-Connection: x\r\n\
            Proxy-Authorization: x\r\nX-HTTP-Method-Override: PUT\r\nX-Original-URL: /admin\r\n\
            X-Forwarded-For: 1.1.1.1\r\nForwarded: for=1.1.1.1\r\nX-Real-IP: 1.1.1.1\r\n\
            Early-Data: 1\r\nCookie: a=b\r\nX-Yours: 2\r\n";
        assert_eq!(forwarded(fields), ["Accept", "Cookie", "X-Yours"]);
    }

    #[test]
    fn all_connection_lines_count() {
        let fields = "X-A: 1\r\nX-B: 2\r\nConnection: x-a\r\nConnection: close, x-b\r\nX-C: 3\r\n";
        assert_eq!(forwarded(fields), ["X-C"]);
    }

    #[test]
    fn a_response_keeps_what_is_end_to_end() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, x-hop, set-cookie"),
            ("connection", "content-length"),
            ("x-hop", "1"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("trailer", "x"),
            ("upgrade", "h2c"),
            ("set-cookie", "a=b"),
            ("content-length", "3"),
            ("penstock-outcome", "confirmed"),
        ] {
            headers.append(name, value.parse().expect("valid"));
        }
        strip_response(&mut headers);
        assert!(headers.contains_key("penstock-outcome"));
        strip_penstock(&mut headers);
        let mut left: Vec<_> = headers.keys().map(http::HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["content-length", "set-cookie"]);
    }
}
