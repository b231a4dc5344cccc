//! Which protocol a client begins with, where a listener without TLS speaks both.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::timeout;

use crate::http::{Door, Plain, Service};
use crate::outcome::CloseReason;

/// Waits for the beginning of what a client sends, and says whether it is HTTP/2's. Nothing, and the
/// connection counted, if it came to nothing.
pub async fn sniff<S: Service>(mut io: Plain, door: &Door<S>) -> Option<(Plain, bool)> {
    let mut begin = [0; PREFACE.len()];
    let mut have = 0;
    let reading = poll_fn(|cx| {
        loop {
            let mut buffer = ReadBuf::new(&mut begin[have..]);
            ready!(Pin::new(&mut io).poll_read(cx, &mut buffer))?;
            let read = buffer.filled().len();
            have += read;
            // Whatever differs from the preface is HTTP/1.1's to judge, an end too.
            if read == 0 || begin[..have] != PREFACE[..have] || have == PREFACE.len() {
                return Poll::Ready(io::Result::Ok(()));
            }
        }
    });
    let limit = door.limits.first_byte_timeout;
    let why = match timeout(limit, reading).await {
        Ok(Ok(())) if have == 0 => CloseReason::ClientClosed,
        Ok(Ok(())) => {
            let is_h2 = begin[..have] == *PREFACE;
            let io = Box::new(Begun { begin, at: 0, have, io });
            return Some((io, is_h2));
        }
        Ok(Err(_)) => CloseReason::ClientAborted,
        Err(_) if have == 0 => CloseReason::FirstByteTimeout,
        Err(_) => CloseReason::HeadTimeout,
    };
    door.sink.close(why);
    None
}

/// A stream of which the beginning was read.
struct Begun {
    begin: [u8; PREFACE.len()],
    at: usize,
    have: usize,
    io: Plain,
}

impl AsyncRead for Begun {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.at < this.have {
            let taken = (this.have - this.at).min(buffer.remaining());
            buffer.put_slice(&this.begin[this.at..this.at + taken]);
            this.at += taken;
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut this.io).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Begun {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

/// What an HTTP/2 client says first (RFC 9113 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
