//! Which requests may leave HTTP. Everything about it is strict: a path that is named, a protocol that
//! is named, a request that means it. All others are ordinary requests, and their `Upgrade` is not
//! forwarded.

use http::{Method, Version};

use crate::config::schema;
use crate::http::Head;
use crate::http::head::BodyKind;

/// What `site.X.upgrade` allows.
#[derive(Clone, Debug)]
pub(super) struct Upgrade {
    paths: Vec<String>,
    protocols: Vec<String>,
}

impl Upgrade {
    pub(super) fn new(settings: &schema::Upgrade) -> Upgrade {
        let schema::Upgrade { paths, protocols, .. } = settings.clone();
        Upgrade { paths, protocols }
    }

    /// The protocol that `head` may switch to: the first it names of those that are allowed.
    pub(super) fn asked(&self, head: &Head<'_>) -> Option<&str> {
        let is_plain = head.method == Method::GET
            && head.version == Version::HTTP_11
            && head.body == BodyKind::None;
        let mut options = head.field_all("connection").flat_map(words);
        if !is_plain || !options.any(|option| option.eq_ignore_ascii_case(b"upgrade")) {
            return None;
        }
        let named = head.field_all("upgrade").flat_map(words).find_map(|word| {
            self.protocols.iter().find(|known| word.eq_ignore_ascii_case(known.as_bytes()))
        })?;
        let is_whole = !named.eq_ignore_ascii_case("websocket") || is_handshake(head);
        (is_whole && self.takes(head.path)).then_some(named)
    }

    fn takes(&self, path: &str) -> bool {
        let is_below = |prefix: &str| prefix.ends_with('/') && path.starts_with(prefix);
        self.paths.iter().any(|named| named == path || is_below(named)) && is_straight(path)
    }
}

/// Whether every server reads `path` as it stands: one that is read as another might be a path that is
/// not named.
fn is_straight(path: &str) -> bool {
    !path.contains(['%', '\\', ';'])
        && !path.contains("//")
        && path.split('/').all(|segment| !matches!(segment, "." | ".."))
}

/// What RFC 6455 4.2.1 wants of the client. What lacks it, a lenient server might answer by 101 all the
/// same, without there being a WebSocket.
fn is_handshake(head: &Head<'_>) -> bool {
    let one = |name| {
        let mut values = head.field_all(name);
        values.next().filter(|_| values.next().is_none())
    };
    one("sec-websocket-version") == Some(b"13")
        && one("sec-websocket-key").is_some_and(|key| key.len() == KEY_BYTES)
}

fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

/// 16 bytes in base64.
const KEY_BYTES: usize = 24;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::limits::Limits;
    use crate::http::reader::read_head;

    const KEY: &str =
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";
    const ASKS: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\n";

    fn asked(line: &str, fields: &str) -> Option<String> {
        let upgrade = Upgrade {
            paths: vec!["/live".to_owned(), "/socket.io/".to_owned()],
            protocols: vec!["websocket".to_owned(), "shop/2".to_owned()],
        };
        let bytes = format!("{line}\r\nHost: a\r\n{fields}\r\n");
        let mut storage = Vec::new();
        let request = read_head(bytes.as_bytes(), &Limits::default(), &mut storage);
        let request = request.expect("valid").expect("complete");
        upgrade.asked(&request.head).map(str::to_owned)
    }

    #[test]
    fn what_is_named_may() {
        let all = format!("{ASKS}{KEY}");
        for line in [
            "GET /live HTTP/1.1",
            "GET /live?room=1 HTTP/1.1",
            "GET /socket.io/ HTTP/1.1",
            "GET /socket.io/a/b?EIO=4 HTTP/1.1",
        ] {
            assert_eq!(asked(line, &all).as_deref(), Some("websocket"), "{line}");
        }
        let listed = format!(
            "Upgrade: h2c, WebSocket\r\nConnection: keep-alive\r\nConnection: x, UPGRADE\r\n{KEY}"
        );
        assert_eq!(asked("GET /live HTTP/1.1", &listed).as_deref(), Some("websocket"));
        let other = "Upgrade: shop/2\r\nConnection: upgrade\r\n";
        assert_eq!(asked("GET /live HTTP/1.1", other).as_deref(), Some("shop/2"));
    }

    #[test]
    fn everything_else_may_not() {
        let all = format!("{ASKS}{KEY}");
        for line in [
            "GET / HTTP/1.1",
            "GET /live/ HTTP/1.1",
            "GET /lively HTTP/1.1",
            "GET /Live HTTP/1.1",
            "GET /socket.io HTTP/1.1",
            "GET /socket.io/../orders HTTP/1.1",
            "GET /socket.io/./a HTTP/1.1",
            "GET /socket.io//a HTTP/1.1",
            "GET /socket.io/%2e%2e/a HTTP/1.1",
            "GET /socket.io/a;b HTTP/1.1",
            "GET /live HTTP/1.0",
            "POST /live HTTP/1.1",
            "HEAD /live HTTP/1.1",
            "OPTIONS /live HTTP/1.1",
        ] {
            assert_eq!(asked(line, &all), None, "{line}");
        }
        for fields in [
            String::new(),
            KEY.to_owned(),
            format!("Upgrade: websocket\r\n{KEY}"),
            format!("Connection: upgrade\r\n{KEY}"),
            format!("Upgrade: websocket\r\nConnection: close\r\n{KEY}"),
            format!(
                "Upgrade: h2c\r\nConnection: upgrade, http2-settings\r\nHTTP2-Settings: AA\r\n{KEY}"
            ),
            format!("Upgrade: websocket/13\r\nConnection: upgrade\r\n{KEY}"),
            format!("{ASKS}{KEY}Content-Length: 1\r\n"),
            format!("{ASKS}{KEY}Transfer-Encoding: chunked\r\n"),
            ASKS.to_owned(),
            format!("{ASKS}Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"),
            format!("{ASKS}Sec-WebSocket-Version: 13\r\n"),
            format!("{ASKS}{KEY}Sec-WebSocket-Version: 13\r\n"),
            format!("{ASKS}{KEY}Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"),
            format!("{ASKS}Sec-WebSocket-Key: short\r\nSec-WebSocket-Version: 13\r\n"),
            format!(
                "{ASKS}Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 777\r\n"
            ),
        ] {
            assert_eq!(asked("GET /live HTTP/1.1", &fields), None, "{fields}");
        }
    }
}
