//! Who may speak here. Whoever can open the Unix socket may; a TCP client needs the token. Pages of
//! other sites that a browser of the operator's happens to show may not, not even with it.

use std::path::Path;

use http::HeaderMap;

use super::reply::{Reply, Result};

/// The token of the TCP address, as its hash: the text itself is kept nowhere.
#[derive(Clone, Debug)]
pub struct Token(blake3::Hash);

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
        Ok(Token(blake3::hash(token.as_bytes())))
    }

    fn is(&self, said: &[u8]) -> bool {
        // Hashes compare in constant time, and those of two texts share no beginning.
        blake3::hash(said) == self.0
    }
}

/// Whether a request carries the token. A Unix socket has none: its file's mode decides.
pub(super) fn knows(headers: &HeaderMap, token: Option<&Token>) -> bool {
    let Some(token) = token else { return true };
    let said = headers.get(http::header::AUTHORIZATION).map(http::HeaderValue::as_bytes);
    said.and_then(bearer).is_some_and(|said| token.is(said))
}

fn bearer(field: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = field.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| rest.trim_ascii())
}

/// A browser says where a request comes from; ours are made by programs.
pub(super) fn refuse_browsers(headers: &HeaderMap) -> Result<()> {
    let site = headers.get("sec-fetch-site").map(http::HeaderValue::as_bytes);
    let foreign = site.is_some_and(|site| site != b"same-origin" && site != b"none");
    if foreign || headers.contains_key(http::header::ORIGIN) {
        return Err(Reply::forbidden("no page of a browser may ask for this"));
    }
    Ok(())
}

/// Shorter ones can be guessed.
const TOKEN_BYTES_MIN: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(http::HeaderName::from_static(name), value.parse().unwrap())])
    }

    #[test]
    fn only_the_token_is_the_token() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "0123456789abcdef\n").unwrap();
        let token = Token::read(file.path()).unwrap();
        for (said, known) in [
            ("Bearer 0123456789abcdef", true),
            ("bearer 0123456789abcdef", true),
            ("Bearer 0123456789abcde", false),
            ("Bearer 0123456789abcdef0", false),
            ("Bearer", false),
            ("Basic 0123456789abcdef", false),
            ("0123456789abcdef", false),
        ] {
            assert_eq!(knows(&headers("authorization", said), Some(&token)), known, "{said}");
        }
        assert!(!knows(&HeaderMap::new(), Some(&token)));
        assert!(knows(&HeaderMap::new(), None));
    }

    #[test]
    fn a_short_token_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "secret").unwrap();
        let said = Token::read(file.path()).unwrap_err();
        assert!(said.contains("16") && !said.contains("secret"), "{said}");
    }

    #[test]
    fn pages_of_other_sites_are_refused() {
        assert!(refuse_browsers(&headers("origin", "https://evil.example")).is_err());
        assert!(refuse_browsers(&headers("sec-fetch-site", "cross-site")).is_err());
        assert!(refuse_browsers(&headers("sec-fetch-site", "none")).is_ok());
        assert!(refuse_browsers(&headers("user-agent", "curl")).is_ok());
    }
}
