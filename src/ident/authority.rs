//! The syntax of `Host` and of a target's authority (RFC 9110 7.2, RFC 3986 3.2.2), stricter than
//! both: no user info, no empty labels, no percent-encoding.

use std::borrow::Cow;
use std::net::Ipv6Addr;

/// Longest host name in bytes, and longest label.
const NAME_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;

/// The authority in its one spelling: lower case, without a trailing dot and without a default port
/// (80 or 443, which of them is the listener's is not known here and makes no difference to who is
/// meant). `None` if it is not valid.
pub fn normalise(authority: &[u8]) -> Option<Cow<'_, str>> {
    let (end, has_upper) = match authority {
        [b'[', ..] => ip_end(authority)?,
        _ => name_end(authority)?,
    };
    let (host, rest) = authority.split_at(end);
    let name = host.strip_suffix(b".").unwrap_or(host);
    let port = match rest {
        [b':', port @ ..] => Some(port).filter(|port| is_port(port)).map(Some)?,
        _ => None,
    };
    let port = port.filter(|port| !matches!(*port, b"80" | b"443"));
    // The sent text is the result, where nothing between name and port has to be taken out.
    let kept = match port {
        Some(_) if name.len() == host.len() => authority,
        Some(port) => {
            let text = [name, b":", port].concat().to_ascii_lowercase();
            return String::from_utf8(text).ok().map(Cow::Owned);
        }
        None => name,
    };
    let kept = std::str::from_utf8(kept).ok()?;
    Some(if has_upper { Cow::Owned(kept.to_ascii_lowercase()) } else { Cow::Borrowed(kept) })
}

/// Where the name ends, and whether a letter of it is upper case. In one pass: this is done for every
/// request.
fn name_end(authority: &[u8]) -> Option<(usize, bool)> {
    let (mut label, mut has_upper) = (0, false);
    let mut end = authority.len();
    for (at, byte) in authority.iter().enumerate() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => label += 1,
            b'A'..=b'Z' => {
                label += 1;
                has_upper = true;
            }
            b'.' if label > 0 => label = 0,
            b':' => {
                end = at;
                break;
            }
            _ => return None,
        }
        if label > LABEL_BYTES_MAX {
            return None;
        }
    }
    let dot = usize::from(end > 0 && label == 0);
    (end > dot && end - dot <= NAME_BYTES_MAX).then_some((end, has_upper))
}

/// The same for an IPv6 address in brackets.
fn ip_end(authority: &[u8]) -> Option<(usize, bool)> {
    let close = authority.iter().position(|b| *b == b']')?;
    let inner = &authority[1..close];
    std::str::from_utf8(inner).ok()?.parse::<Ipv6Addr>().ok()?;
    let rest = &authority[close + 1..];
    let has_upper = inner.iter().any(u8::is_ascii_uppercase);
    (rest.is_empty() || rest.starts_with(b":")).then_some((close + 1, has_upper))
}

/// 1 to 65535 in its shortest form.
fn is_port(port: &[u8]) -> bool {
    let shaped = (1..=5).contains(&port.len()) && port.iter().all(u8::is_ascii_digit);
    let value = |port: &[u8]| port.iter().fold(0, |sum, b| sum * 10 + u32::from(b - b'0'));
    shaped && port[0] != b'0' && value(port) <= 65_535
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_spelling_each() {
        for (sent, kept) in [
            ("shop.example", "shop.example"),
            ("Shop.Example", "shop.example"),
            ("shop.example.", "shop.example"),
            ("shop.example:80", "shop.example"),
            ("SHOP.example:443", "shop.example"),
            ("shop.example:8080", "shop.example:8080"),
            ("Shop.example.:8080", "shop.example:8080"),
            ("10.0.0.1:81", "10.0.0.1:81"),
            ("[::1]", "[::1]"),
            ("[2001:DB8::1]:8080", "[2001:db8::1]:8080"),
            ("my_host", "my_host"),
        ] {
            assert_eq!(normalise(sent.as_bytes()).as_deref(), Some(kept), "{sent}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        let long = "a".repeat(300);
        for sent in [
            "",
            ".",
            "a..b",
            ".a",
            "a, b",
            "a b",
            "a@evil",
            "a/b?c#d",
            "a:",
            "a:0",
            "a:080",
            "a:99999",
            "a:80:80",
            "a:+80",
            "a:x",
            "[::1",
            "[::1]x",
            "[1.2.3.4]",
            "[::1%25eth0]",
            "a%41",
            "a\\b",
            "a;b",
            "*",
            long.as_str(),
        ] {
            assert_eq!(normalise(sent.as_bytes()), None, "{sent}");
        }
        assert_eq!(normalise(b"\xff"), None);
        assert_eq!(normalise("\u{4e2d}".as_bytes()), None);
    }

    /// The rules as they are written down, label by label.
    fn plainly(text: &str) -> Option<String> {
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, Some(port)),
            _ => (text, None),
        };
        if let Some(port) = port {
            let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
            if !digits || port.starts_with('0') || port.parse::<u16>().is_err() {
                return None;
            }
        }
        let name = host.strip_suffix('.').unwrap_or(host);
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        };
        if let Some(inner) = host.strip_prefix('[') {
            inner.strip_suffix(']')?.parse::<Ipv6Addr>().ok()?;
        } else if name.len() > 253 || !name.split('.').all(label) {
            return None;
        }
        let port = port.filter(|port| !matches!(*port, "80" | "443"));
        let port = port.map(|port| format!(":{port}")).unwrap_or_default();
        Some(name.to_ascii_lowercase() + &port)
    }

    proptest! {
        #[test]
        fn one_pass_says_what_the_rules_say(
            text in "(\\[[0-9a-fA-F:.]{0,9}\\]|[a-zA-Z0-9_.:-]{0,12}|(a{60,65}\\.){1,5}b{0,9})(\\.?:[0-9]{0,6})?"
        ) {
            let said = normalise(text.as_bytes());
            prop_assert_eq!(said.map(Cow::into_owned), plainly(&text), "{}", text);
        }
    }
}
