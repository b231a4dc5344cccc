//! Where a value of a request is read: `cookie:uid`, `query:city`, `jwt:header:authorization`.

use std::fmt;
use std::str::FromStr;

/// A named part of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// A field of the head, in lower case.
    Header(String),
    /// A cookie.
    Cookie(String),
    /// A parameter of the query.
    Query(String),
}

/// Where the city is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CitySource {
    /// `{city}` of the page's path.
    Path,
    /// A part of the request.
    Part(Part),
}

/// Who buys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserSource {
    /// A JWT in a header or cookie.
    Jwt(Part),
    /// A signed value in a header or cookie.
    Hmac(Part),
    /// The value of a header or cookie, as anyone may write it.
    Unverified(Part),
    /// The client's address.
    Address,
}

/// Where the client's own key of a purchase is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// A header, in lower case.
    Header(String),
    /// A JSON pointer into the body, or a field of its form or of the query.
    Body(String),
}

impl Part {
    fn parse(kind: &str, name: &str) -> Option<Part> {
        if !is_token(name) {
            return None;
        }
        match kind {
            "header" => Some(Part::Header(name.to_ascii_lowercase())),
            "cookie" => Some(Part::Cookie(name.to_owned())),
            "query" => Some(Part::Query(name.to_owned())),
            _ => None,
        }
    }
}

impl FromStr for CitySource {
    type Err = String;
    fn from_str(text: &str) -> Result<CitySource, String> {
        if text == "path" {
            return Ok(CitySource::Path);
        }
        let part = text.split_once(':').and_then(|(kind, name)| Part::parse(kind, name));
        part.map(CitySource::Part).ok_or_else(|| {
            format!("{text:?} is no source of a city: write path, query:NAME, cookie:NAME or header:NAME")
        })
    }
}

impl FromStr for UserSource {
    type Err = String;
    fn from_str(text: &str) -> Result<UserSource, String> {
        if text == "address" {
            return Ok(UserSource::Address);
        }
        let part = |text: &str| {
            let (kind, name) = text.split_once(':')?;
            Part::parse(kind, name).filter(|part| !matches!(part, Part::Query(_)))
        };
        let source = match text.split_once(':') {
            Some(("jwt", rest)) => part(rest).map(UserSource::Jwt),
            Some(("hmac", rest)) => part(rest).map(UserSource::Hmac),
            _ => part(text).map(UserSource::Unverified),
        };
        source.ok_or_else(|| {
            format!("{text:?} is no source of a user: write jwt:header:NAME, jwt:cookie:NAME, hmac:cookie:NAME, hmac:header:NAME, cookie:NAME, header:NAME or address")
        })
    }
}

impl FromStr for KeySource {
    type Err = String;
    fn from_str(text: &str) -> Result<KeySource, String> {
        match text.strip_prefix("header:") {
            Some(name) if is_token(name) => Ok(KeySource::Header(name.to_ascii_lowercase())),
            None if !text.is_empty() => Ok(KeySource::Body(text.to_owned())),
            _ => Err(format!(
                "{text:?} is no source of a key: write header:NAME, or where it is in the body"
            )),
        }
    }
}

impl fmt::Display for UserSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UserSource::Jwt(part) => write!(f, "jwt:{part}"),
            UserSource::Hmac(part) => write!(f, "hmac:{part}"),
            UserSource::Unverified(part) => write!(f, "{part}"),
            UserSource::Address => f.write_str("address"),
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Part::Header(name) => write!(f, "header:{name}"),
            Part::Cookie(name) => write!(f, "cookie:{name}"),
            Part::Query(name) => write!(f, "query:{name}"),
        }
    }
}

/// `token` of RFC 9110 5.6.2: the syntax of field names and of cookie names (RFC 6265 4.1.1).
pub fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 128
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

/// Whether `text` is a JSON pointer (RFC 6901) to something inside a document.
pub fn is_pointer(text: &str) -> bool {
    text.len() <= 256
        && text.starts_with('/')
        && text.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_verified_or_said_not_to_be() {
        for text in ["jwt:header:authorization", "hmac:cookie:sid", "cookie:uid", "address"] {
            assert_eq!(text.parse::<UserSource>().unwrap().to_string(), text);
        }
        let header = "header:X-User".parse::<UserSource>().unwrap();
        assert_eq!(header, UserSource::Unverified(Part::Header("x-user".to_owned())));
        for text in
            ["", "uid", "jwt:authorization", "jwt:query:t", "query:uid", "cookie:", "cookie:a b"]
        {
            assert!(text.parse::<UserSource>().is_err(), "{text}");
        }
    }

    #[test]
    fn cities_and_keys_have_their_own_places() {
        assert_eq!("path".parse(), Ok(CitySource::Path));
        assert_eq!("query:city".parse(), Ok(CitySource::Part(Part::Query("city".to_owned()))));
        assert!("body:city".parse::<CitySource>().is_err());
        assert_eq!("header:A-Key".parse(), Ok(KeySource::Header("a-key".to_owned())));
        assert_eq!("/requestId".parse(), Ok(KeySource::Body("/requestId".to_owned())));
        assert!("header:".parse::<KeySource>().is_err());
        assert!(
            is_pointer("/a/0/b~1c") && !is_pointer("a") && !is_pointer("/a~2") && !is_pointer("")
        );
    }
}
