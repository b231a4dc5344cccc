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
    let text = std::str::from_utf8(authority).ok()?;
    let (host, port) = split_port(text)?;
    if let Some(inner) = host.strip_prefix('[') {
        inner.strip_suffix(']')?.parse::<Ipv6Addr>().ok()?;
    } else if !is_name(host) {
        return None;
    }
    let name = host.strip_suffix('.').unwrap_or(host);
    let port = port.filter(|port| !matches!(*port, "80" | "443"));
    let plain = !name.bytes().any(|b| b.is_ascii_uppercase());
    Some(match port {
        // Nothing between name and port was taken out: the sent text is the result.
        Some(_) if plain && name.len() == host.len() => Cow::Borrowed(text),
        Some(port) => Cow::Owned(format!("{}:{port}", name.to_ascii_lowercase())),
        None if plain => Cow::Borrowed(name),
        None => Cow::Owned(name.to_ascii_lowercase()),
    })
}

/// Splits at the colon of the port, if there is one; `None` for a port that is not 1 to 65535 in
/// its shortest form.
fn split_port(text: &str) -> Option<(&str, Option<&str>)> {
    let after_host = if text.starts_with('[') { text.find(']')? + 1 } else { 0 };
    let Some(colon) = text[after_host..].find(':').map(|at| at + after_host) else {
        return Some((text, None));
    };
    let port = &text[colon + 1..];
    let digits = (1..=5).contains(&port.len()) && port.bytes().all(|b| b.is_ascii_digit());
    let valid = digits && !port.starts_with('0') && port.parse::<u16>().is_ok();
    valid.then_some((&text[..colon], Some(port)))
}

fn is_name(host: &str) -> bool {
    let name = host.strip_suffix('.').unwrap_or(host);
    !name.is_empty()
        && name.len() <= NAME_BYTES_MAX
        && name.split('.').all(|label| {
            (1..=LABEL_BYTES_MAX).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        })
}

#[cfg(test)]
mod tests {
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
}
