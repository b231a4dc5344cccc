//! A validated request head, borrowed from the connection's buffer or from an HTTP/2 request.

use std::ops::Deref;
use std::rc::Rc;

use http::{Method, Version};

use super::scan;

/// One field line: the name as it was sent, and the value without surrounding white space.
#[derive(Clone, Copy, Debug)]
pub struct Field<'a> {
    /// Name, a token in any case.
    pub name: &'a [u8],
    /// Value, free of CR, LF, NUL and other controls but tab.
    pub value: &'a [u8],
}

/// The fields of a head in the order they came, with what tells at a look that a name is not among
/// them: of what is looked for in a head, most is in none.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a> {
    list: &'a [Field<'a>],
    /// The [`mark`]s of all names.
    names: u64,
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
    pub host: Rc<str>,
    /// All fields in the order they came.
    pub fields: Fields<'a>,
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
    #[inline]
    pub fn field(&self, name: &str) -> Option<&'a [u8]> {
        self.field_all(name).next()
    }

    /// All values of `name` (compared without case).
    #[inline]
    pub fn field_all<'s>(&self, name: &'s str) -> impl Iterator<Item = &'a [u8]> + 's
    where
        'a: 's,
    {
        let is_it = move |f: &&Field<'_>| scan::same(f.name, name.as_bytes());
        self.fields.perhaps(name).iter().filter(is_it).map(|f| f.value)
    }

    /// The first value of cookie `name`.
    pub fn cookie(&self, name: &str) -> Option<&'a [u8]> {
        self.cookie_all(name).next()
    }

    /// All values of cookie `name`, from all `Cookie` lines.
    pub fn cookie_all<'s>(&self, name: &'s str) -> impl Iterator<Item = &'a [u8]> + 's
    where
        'a: 's,
    {
        let mut lines = self.field_all("cookie");
        let mut line: &[u8] = b"";
        std::iter::from_fn(move || {
            loop {
                while line.is_empty() {
                    line = lines.next()?;
                }
                let (pair, rest) = match scan::position(line, b';') {
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

impl<'a> Fields<'a> {
    /// `list` with the marks of its names, made on the way.
    pub(super) fn marked(list: &'a [Field<'a>], names: u64) -> Fields<'a> {
        Fields { list, names }
    }

    /// All fields, where one may be called `name`; none, where none is.
    #[inline]
    fn perhaps(self, name: &str) -> &'a [Field<'a>] {
        if self.names & mark(name.as_bytes()) == 0 { &[] } else { self.list }
    }
}

impl<'a> From<&'a [Field<'a>]> for Fields<'a> {
    fn from(list: &'a [Field<'a>]) -> Fields<'a> {
        let names = list.iter().fold(0, |names, field| names | mark(field.name));
        Fields { list, names }
    }
}

impl<'a> Deref for Fields<'a> {
    type Target = [Field<'a>];

    fn deref(&self) -> &[Field<'a>] {
        self.list
    }
}

/// One of 64 bits for a name, the same in any case of its letters.
#[inline]
pub(super) const fn mark(name: &[u8]) -> u64 {
    // One bit tells the cases of a letter apart.
    let (first, last) = match name {
        [first, .., last] => (*first | 0x20, *last | 0x20),
        [one] => (*one | 0x20, 0),
        [] => (0, 0),
    };
    1 << ((name.len() + 5 * first as usize + 11 * last as usize) % 64)
}

/// The value of a cookie pair, if it is called `name`.
fn cookie_of<'a>(pair: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let pair = pair.trim_ascii_start();
    if pair.first() != name.first() {
        return None;
    }
    let rest = pair.trim_ascii_end().strip_prefix(name)?;
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
            fields: fields[..].into(),
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
                fields: [][..].into(),
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
