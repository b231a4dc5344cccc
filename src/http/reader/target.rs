//! The forms of a request target (RFC 9112 3.2): origin-form, absolute-form, and `*` for OPTIONS.

use crate::http::refusal::Refusal;

/// A target in origin-form, with the authority that an absolute-form named.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Target<'a> {
    pub path: &'a str,
    pub query: Option<&'a str>,
    pub authority: Option<&'a str>,
}

/// Takes a target apart; its bytes all passed [`allows`].
pub(super) fn split(is_options: bool, target: &str) -> Result<Target<'_>, Refusal> {
    if target.starts_with('/') {
        let (path, query) = cut_query(target);
        return Ok(Target { path, query, authority: None });
    }
    if target == "*" && is_options {
        return Ok(Target { path: "*", query: None, authority: None });
    }
    let rest = strip_scheme(target).ok_or(Refusal::Target)?;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at(end);
    let (path, query) = cut_query(rest);
    // RFC 9112 3.2.4: OPTIONS of a URL without path and query means the server.
    let empty = if is_options && query.is_none() { "*" } else { "/" };
    let path = if path.is_empty() { empty } else { path };
    Ok(Target { path, query, authority: Some(authority) })
}

/// Visible ASCII without what every client must encode: `"`, `#`, `<`, `>`, `\` and the backquote.
/// (`^`, `{`, `|`, `}`, `[` and `]` are sent bare by real browsers in queries.)
pub(in crate::http) fn allows(byte: u8) -> bool {
    TARGET[usize::from(byte)]
}

const TARGET: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0x21;
    while byte < 0x7f {
        table[byte as usize] = !matches!(byte, b'"' | b'#' | b'<' | b'>' | b'\\' | b'`');
        byte += 1;
    }
    table
};

fn strip_scheme(target: &str) -> Option<&str> {
    ["http://", "https://"].iter().find_map(|scheme| {
        let (start, rest) = target.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme).then_some(rest)
    })
}

fn cut_query(text: &str) -> (&str, Option<&str>) {
    match text.bytes().position(|b| b == b'?') {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_become_origin_form() {
        let t = |path, query, authority| Ok(Target { path, query, authority });
        assert_eq!(split(false, "/a?b?c"), t("/a", Some("b?c"), None));
        assert_eq!(split(false, "/?"), t("/", Some(""), None));
        assert_eq!(split(false, "//evil/x"), t("//evil/x", None, None));
        assert_eq!(split(false, "HTTP://a/x?y"), t("/x", Some("y"), Some("a")));
        assert_eq!(split(false, "https://a"), t("/", None, Some("a")));
        assert_eq!(split(false, "http://a?x"), t("/", Some("x"), Some("a")));
        assert_eq!(split(true, "*"), t("*", None, None));
        assert_eq!(split(true, "http://a"), t("*", None, Some("a")));
        for bad in ["*", "x", "a:80", "@evil/x", "file:///etc/passwd", "http:/x", "http", ""] {
            assert_eq!(split(false, bad), Err(Refusal::Target), "{bad}");
        }
    }

    #[test]
    fn every_allowed_target_is_one_for_the_http_crate_too() {
        for byte in (0..=255u8).filter(|b| allows(*b)) {
            let target = [b'/', byte, b'?', byte];
            assert!(http::uri::PathAndQuery::try_from(&target[..]).is_ok(), "{byte:#x}");
        }
    }
}
