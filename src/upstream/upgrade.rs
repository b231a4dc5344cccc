//! Leaving HTTP: what a request for it needs, what the shop's 101 must say, and the connection that is
//! left when hyper has let go of it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::{Buf, Bytes};
use http::{HeaderMap, HeaderValue, header};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::conn::Conn;
use super::wire::Tap;

/// What a request asks to switch to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    protocol: HeaderValue,
    /// What only a server that speaks WebSocket says (RFC 6455 4.2.2), where that is the protocol.
    accept: Option<String>,
}

impl Wanted {
    /// Reads it from the head of a request that was built for it, by its `Upgrade`.
    pub(super) fn of(headers: &HeaderMap) -> Option<Wanted> {
        let protocol = headers.get(header::UPGRADE)?.clone();
        let is_websocket = protocol.as_bytes().eq_ignore_ascii_case(b"websocket");
        let key = headers.get(header::SEC_WEBSOCKET_KEY).filter(|_| is_websocket);
        let accept = key.map(|key| {
            let keyed = [key.as_bytes(), WEBSOCKET_GUID].concat();
            BASE64_STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &keyed))
        });
        Some(Wanted { protocol, accept })
    }

    /// Checks the head of a 101; an error says why it is refused.
    pub(super) fn check(&self, headers: &HeaderMap) -> Result<(), &'static str> {
        let one = |name| {
            let mut values = headers.get_all(name).iter();
            values.next().map(HeaderValue::as_bytes).filter(|_| values.next().is_none())
        };
        let named = one(header::UPGRADE).unwrap_or_default();
        if !named.eq_ignore_ascii_case(self.protocol.as_bytes()) {
            return Err("the 101 switches to another protocol than was asked for");
        }
        let mut options = headers
            .get_all(header::CONNECTION)
            .iter()
            .flat_map(|line| line.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii));
        if !options.any(|option| option.eq_ignore_ascii_case(b"upgrade")) {
            return Err("the 101 has no `Connection: upgrade`");
        }
        if headers.contains_key(header::CONTENT_LENGTH)
            || headers.contains_key(header::TRANSFER_ENCODING)
        {
            return Err("the 101 has a body");
        }
        match &self.accept {
            Some(accept) if one(header::SEC_WEBSOCKET_ACCEPT) != Some(accept.as_bytes()) => {
                Err("the 101 does not answer the key of the WebSocket")
            }
            _ => Ok(()),
        }
    }
}

/// A connection that has left HTTP. It belongs to no pool any more; dropping it closes it.
#[derive(Debug)]
pub(super) struct Switched {
    /// Bytes that hyper had read behind the 101.
    early: Bytes,
    tap: Tap,
    _conn: Conn,
}

impl Switched {
    /// Takes `conn` over from hyper. An error if hyper does not let go.
    pub(super) async fn of(mut conn: Conn) -> Result<Switched, &'static str> {
        let early = conn.leave().await.ok_or("the connection ended with its 101")?;
        Ok(Switched { early, tap: Tap(conn.wire.clone()), _conn: conn })
    }
}

impl AsyncRead for Switched {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.early.is_empty() {
            return Pin::new(&mut this.tap).poll_read(cx, buffer);
        }
        let count = this.early.len().min(buffer.remaining());
        buffer.put_slice(&this.early[..count]);
        this.early.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Switched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tap).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tap).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.tap.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tap).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tap).poll_shutdown(cx)
    }
}

const WEBSOCKET_GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    /// The example of RFC 6455 1.3.
    const KEY: (&str, &str) = ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    const ACCEPT: (&str, &str) = ("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    const UPGRADE: (&str, &str) = ("upgrade", "WebSocket");
    const CONNECTION: (&str, &str) = ("connection", "keep-alive, Upgrade");

    #[test]
    fn the_shop_s_own_101_is_taken() {
        let websocket = Wanted::of(&headers(&[("upgrade", "websocket"), KEY])).unwrap();
        assert_eq!(websocket.check(&headers(&[UPGRADE, CONNECTION, ACCEPT])), Ok(()));
        let other = Wanted::of(&headers(&[("upgrade", "shop/2")])).unwrap();
        assert_eq!(other.check(&headers(&[("upgrade", "shop/2"), CONNECTION])), Ok(()));
        assert_eq!(Wanted::of(&headers(&[KEY])), None);
    }

    #[test]
    fn another_101_is_not() {
        let websocket = Wanted::of(&headers(&[("upgrade", "websocket"), KEY])).unwrap();
        for bad in [
            &[][..],
            &[CONNECTION, ACCEPT],
            &[("upgrade", "h2c"), CONNECTION, ACCEPT],
            &[UPGRADE, UPGRADE, CONNECTION, ACCEPT],
            &[("upgrade", "websocket, h2c"), CONNECTION, ACCEPT],
            &[UPGRADE, ACCEPT],
            &[UPGRADE, ("connection", "close"), ACCEPT],
            &[UPGRADE, CONNECTION],
            &[UPGRADE, CONNECTION, ("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo")],
            &[UPGRADE, CONNECTION, ACCEPT, ACCEPT],
            &[UPGRADE, CONNECTION, ACCEPT, ("content-length", "0")],
            &[UPGRADE, CONNECTION, ACCEPT, ("transfer-encoding", "chunked")],
        ] {
            assert!(websocket.check(&headers(bad)).is_err(), "{bad:?}");
        }
    }
}
