//! Who may speak here. Whoever can open the Unix socket may; a TCP client needs the token, as a bearer
//! or, for browsers, as the password of basic authentication.
//!
//! A browser shows pages of others too, and sends what it remembers along with their requests. So a
//! request that comes from another page is refused; where a browser would send the authority by itself
//! a change needs a field that no form and no foreign script can send; and where there is no token only
//! the names of this machine are answered, lest a name of somebody else's lead here (DNS rebinding).

use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, Method, header};

use super::reply::{Reply, Result};

/// The token of the TCP address, as its hash: the text itself is kept nowhere. Clones change together.
#[derive(Clone, Debug)]
pub struct Token(Arc<ArcSwap<blake3::Hash>>);

impl Token {
    /// Reads `admin.token_file`; white space around the token is not part of it.
    pub fn read(path: &Path) -> std::result::Result<Token, String> {
        let said = |what: String| format!("admin.token_file: {}: {what}", path.display());
        let text = std::fs::read_to_string(path).map_err(|cause| said(cause.to_string()))?;
        let token = text.trim();
        if token.len() < TOKEN_BYTES_MIN {
            return Err(said(format!(
                "a token has at least {TOKEN_BYTES_MIN} characters; make one with \
                 `openssl rand -hex 32`"
            )));
        }
        Ok(Token(Arc::new(ArcSwap::from_pointee(blake3::hash(token.as_bytes())))))
    }

    /// From now on `other` is it.
    pub fn replace(&self, other: &Token) {
        self.0.store(other.0.load_full());
    }

    fn is(&self, said: &[u8]) -> bool {
        // Hashes compare in constant time, and those of two texts share no beginning.
        blake3::hash(said) == **self.0.load()
    }
}

/// Somebody who may ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Who {
    /// For the log of events.
    pub name: String,
    /// Whether a browser would say so by itself, whatever page it shows.
    is_ambient: bool,
}

/// Who asks, if they may. A Unix socket has no token: its file's mode decides.
pub(super) fn who(headers: &HeaderMap, token: Option<&Token>) -> Option<Who> {
    let Some(token) = token else {
        let is_ambient = is_browser(headers);
        return Some(Who { name: "the admin socket".to_owned(), is_ambient });
    };
    let said = headers.get(header::AUTHORIZATION)?.as_bytes();
    if let Some(said) = after(said, b"bearer ") {
        return token.is(said).then(|| Who { name: "the token".to_owned(), is_ambient: false });
    }
    let pair = STANDARD.decode(after(said, b"basic ")?).ok()?;
    let colon = pair.iter().position(|byte| *byte == b':')?;
    let (name, password) = pair.split_at_checked(colon)?;
    token.is(password.get(1..)?).then(|| Who { name: readable(name), is_ambient: true })
}

/// Refuses what somebody else's page asks for in the operator's name.
pub(super) fn refuse_strangers(
    method: &Method,
    headers: &HeaderMap,
    token: Option<&Token>,
) -> Result<()> {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let host = text("host").unwrap_or_default();
    let is_foreign =
        text("sec-fetch-site").is_some_and(|site| !matches!(site, "same-origin" | "none"));
    // The page is the same if scheme and port are: a proxy in front of us may speak TLS.
    let is_other = text("origin").is_some_and(|origin| {
        origin.split_once("://").is_none_or(|(_, rest)| !rest.eq_ignore_ascii_case(host))
    });
    if is_foreign || is_other || headers.get_all("origin").iter().count() > 1 {
        return Err(Reply::forbidden("no page but the dashboard may ask for this"));
    }
    if token.is_none() && !is_of_this_machine(host) {
        return Err(Reply::forbidden(
            "where no token is asked for only localhost, addresses and names without a dot are answered",
        ));
    }
    let is_read = matches!(*method, Method::GET | Method::HEAD);
    let is_ambient = who(headers, token).is_some_and(|who| who.is_ambient);
    if !is_read && is_ambient && !headers.contains_key(CONFIRM) {
        return Err(Reply::forbidden("a change by a browser needs the field Penstock-Confirm"));
    }
    Ok(())
}

/// A browser tells where a request comes from; programs do not.
fn is_browser(headers: &HeaderMap) -> bool {
    headers.contains_key(header::ORIGIN) || headers.contains_key("sec-fetch-site")
}

/// Names that nobody outside can lead to this socket.
fn is_of_this_machine(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    bare.parse::<std::net::IpAddr>().is_ok() || !name.contains('.') || name.ends_with(".localhost")
}

fn after<'a>(field: &'a [u8], scheme: &[u8]) -> Option<&'a [u8]> {
    let (said, rest) = field.split_at_checked(scheme.len())?;
    said.eq_ignore_ascii_case(scheme).then(|| rest.trim_ascii())
}

/// A name for the log: what may stand in a line, and not too much of it.
fn readable(name: &[u8]) -> String {
    let name = String::from_utf8_lossy(name);
    let name: String = name.chars().filter(|c| !c.is_control()).take(NAME_CHARS_MAX).collect();
    if name.is_empty() { "the token".to_owned() } else { name }
}

/// Forms cannot send it, and scripts of other pages only with leave that is never given.
const CONFIRM: &str = "penstock-confirm";
/// Shorter ones can be guessed.
const TOKEN_BYTES_MIN: usize = 16;
const NAME_CHARS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "0123456789abcdef";

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        let field = |(name, value): &(&'static str, &str)| {
            (http::HeaderName::from_static(name), value.parse().unwrap())
        };
        fields.iter().map(field).collect()
    }

    fn token() -> Token {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), format!("{SECRET}\n")).unwrap();
        Token::read(file.path()).unwrap()
    }

    fn basic(pair: &str) -> String {
        format!("Basic {}", STANDARD.encode(pair))
    }

    #[test]
    fn only_the_token_is_the_token() {
        let token = token();
        let known = |said: &str| {
            who(&headers(&[("authorization", said)]), Some(&token)).map(|who| who.name)
        };
        for said in ["Bearer 0123456789abcdef", "bearer 0123456789abcdef"] {
            assert_eq!(known(said).as_deref(), Some("the token"), "{said}");
        }
        for said in [
            "Bearer 0123456789abcde",
            "Bearer 0123456789abcdef0",
            "Bearer",
            "Basic 0123456789abcdef",
            "0123456789abcdef",
            &basic(SECRET),
            &basic("alice:"),
            &basic("0123456789abcdef:alice"),
        ] {
            assert_eq!(known(said), None, "{said}");
        }
        assert_eq!(known(&basic("alice:0123456789abcdef")).as_deref(), Some("alice"));
        assert_eq!(known(&basic(":0123456789abcdef")).as_deref(), Some("the token"));
        assert_eq!(known(&basic("a\nb:0123456789abcdef")).as_deref(), Some("ab"));
        assert!(who(&HeaderMap::new(), Some(&token)).is_none());
        assert!(who(&HeaderMap::new(), None).is_some());
    }

    #[test]
    fn a_short_token_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "secret").unwrap();
        let said = Token::read(file.path()).unwrap_err();
        assert!(said.contains("16") && !said.contains("secret"), "{said}");
    }

    #[test]
    fn pages_of_others_are_refused() {
        let token = token();
        let alice = basic("alice:0123456789abcdef");
        let ask = |method: Method, fields: &[(&'static str, &str)], with: Option<&Token>| {
            let mut all = vec![("host", "10.0.0.1:9901")];
            if with.is_some() {
                all.push(("authorization", &alice));
            }
            all.extend_from_slice(fields);
            refuse_strangers(&method, &headers(&all), with).is_ok()
        };
        let own = ("origin", "http://10.0.0.1:9901");
        let confirm = ("penstock-confirm", "1");
        for with in [None, Some(&token)] {
            for (fields, may_read, may_write) in [
                (&[("origin", "https://evil.example")][..], false, false),
                (&[("origin", "null"), confirm], false, false),
                (&[own, ("origin", "https://evil.example")], false, false),
                (&[("sec-fetch-site", "cross-site"), confirm], false, false),
                (&[("sec-fetch-site", "same-site"), confirm], false, false),
                (&[("sec-fetch-site", "none")], true, false),
                (&[own], true, false),
                (&[own, confirm], true, true),
                (&[("origin", "https://10.0.0.1:9901"), confirm], true, true),
                (&[("user-agent", "curl")], true, with.is_none()),
            ] {
                assert_eq!(ask(Method::GET, fields, with), may_read, "{fields:?} {with:?}");
                assert_eq!(ask(Method::POST, fields, with), may_write, "{fields:?} {with:?}");
            }
        }
    }

    #[test]
    fn without_a_token_only_names_of_this_machine_are_answered() {
        for (host, is) in [
            ("node", true),
            ("localhost:9901", true),
            ("a.localhost:1", true),
            ("127.0.0.1:80", true),
            ("[::1]:80", true),
            ("", true),
            ("evil.example:9901", false),
            ("evil.example", false),
            ("127.0.0.1.evil.example", false),
        ] {
            let asked = refuse_strangers(&Method::GET, &headers(&[("host", host)]), None);
            assert_eq!(asked.is_ok(), is, "{host}");
            let secret = headers(&[("host", host), ("authorization", "Bearer 0123456789abcdef")]);
            assert!(refuse_strangers(&Method::GET, &secret, Some(&token())).is_ok(), "{host}");
        }
    }
}
