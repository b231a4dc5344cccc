//! A validated request head, borrowed from the connection's buffer or from an HTTP/2 request.

use http::{Method, Version};
use memchr::memchr;

/// One field line: the name as it was sent, and the value without surrounding white space.
#[derive(Clone, Copy, Debug)]
pub struct Field<'a> {
    /// Name, a token in any case.
    pub name: &'a [u8],
    /// Value, free of CR, LF, NUL and other controls but tab.
    pub value: &'a [u8],
}

/// A request head that passed every rule of the attack table: one Host, a valid authority in
/// agreement with the target, a known framing.
#[derive(Clone, Debug)]
pub struct Head<'a> {
    /// The method.
    pub method: Method,
    /// HTTP/1.0, 1.1 or 2.
    pub version: Version,
    /// The path of the target as it was sent, from the first `/`; `*` for `OPTIONS *`.
    pub path: &'a str,
    /// The query without its `?`, if there is one.
    pub query: Option<&'a str>,
    /// The validated authority in lower case, without a default port; empty for HTTP/1.0 without Host.
    pub host: std::borrow::Cow<'a, str>,
    /// All fields in the order they came.
    pub fields: &'a [Field<'a>],
    /// What the framing says about a body.
    pub body: BodyKind,
}

/// What the framing of a request says about its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyKind {
    /// No body.
    None,
    /// `Content-Length`, more than 0.
    Sized(u64),
    /// `Transfer-Encoding: chunked`, or HTTP/2 without a length.
    Chunked,
}

impl<'a> Head<'a> {
    /// The first value of `name` (compared without case).
    pub fn field(&self, name: &str) -> Option<&'a [u8]> {
        self.fields.iter().find(|f| f.name.eq_ignore_ascii_case(name.as_bytes())).map(|f| f.value)
    }

    /// All values of `name` (compared without case).
    pub fn field_all<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'a [u8]> + 's {
        self.fields
            .iter()
            .filter(move |f| f.name.eq_ignore_ascii_case(name.as_bytes()))
            .map(|f| f.value)
    }

    /// The first value of cookie `name`.
    pub fn cookie(&self, name: &str) -> Option<&'a [u8]> {
        self.cookie_all(name).next()
    }

    /// All values of cookie `name`, from all `Cookie` lines.
    pub fn cookie_all<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'a [u8]> + 's {
        let mut lines = self.field_all("cookie");
        let mut line: &[u8] = b"";
        std::iter::from_fn(move || {
            loop {
                while line.is_empty() {
                    line = lines.next()?;
                }
                let (pair, rest) = match memchr(b';', line) {
                    Some(end) => (&line[..end], &line[end + 1..]),
                    None => (line, &line[..0]),
                };
                line = rest;
                if let Some(value) = cookie_of(pair, name.as_bytes()) {
                    return Some(value);
                }
            }
        })
    }

    /// The first value of query parameter `name`, undecoded.
    pub fn query_param(&self, name: &str) -> Option<&'a str> {
        self.query_param_all(name).next()
    }

    /// All values of query parameter `name`, undecoded; empty for one without `=`.
    pub fn query_param_all<'s>(&self, name: &'s str) -> impl Iterator<Item = &'a str> + 's
    where
        'a: 's,
    {
        let mut rest = self.query;
        std::iter::from_fn(move || {
            while let Some(query) = rest {
                // Plain loops: parameters are too short for a search by words.
                let end = query.bytes().position(|b| b == b'&');
                let pair = &query[..end.unwrap_or(query.len())];
                rest = end.map(|end| &query[end + 1..]);
                match pair.strip_prefix(name).map(|after| (after.strip_prefix('='), after)) {
                    Some((Some(value), _)) => return Some(value),
                    Some((None, "")) => return Some(""),
                    _ => {}
                }
            }
            None
        })
    }
}

/// The value of a cookie pair, if it is called `name`.
fn cookie_of<'a>(pair: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let pair = pair.trim_ascii();
    let rest = pair.strip_prefix(name)?;
    match rest {
        [b'=', value @ ..] => Some(value),
        // White space before the sign is rare enough to look twice.
        _ => rest.trim_ascii_start().strip_prefix(b"="),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_are_found_by_their_whole_name() {
        let lines: [&[u8]; 4] = [b"uid=1; a=b;uid = 2 ;uidx=3", b"", b";; xuid=4", b" uid=5=6;uid"];
        let fields = lines.map(|value| Field { name: b"Cookie", value });
        let head = Head {
            method: Method::GET,
            version: Version::HTTP_11,
            path: "/",
            query: None,
            host: "h".into(),
            fields: &fields,
            body: BodyKind::None,
        };
        let all: Vec<_> = head.cookie_all("uid").collect();
        assert_eq!(all, [&b"1"[..], b" 2", b"5=6"]);
    }

    #[test]
    fn parameters_are_found_by_their_whole_name() {
        let all = |query, name| {
            let head = Head {
                method: Method::GET,
                version: Version::HTTP_11,
                path: "/",
                query,
                host: "h".into(),
                fields: &[],
                body: BodyKind::None,
            };
            head.query_param_all(name).collect::<Vec<_>>()
        };
        assert_eq!(all(None, "city"), [""; 0]);
        assert_eq!(all(Some(""), "city"), [""; 0]);
        assert_eq!(
            all(Some("city=a&x=1&city=b=c&city&cityx=2&xcity=3&&city="), "city"),
            ["a", "b=c", "", ""]
        );
    }
}
