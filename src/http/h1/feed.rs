//! The gate: hyper's side of a connection while it has one request.
//!
//! hyper reads a head that we wrote ourselves, then exactly the bytes of the request's body. What
//! it writes goes to the socket. It never learns that a body failed, since it would then be done
//! before its response is written: the body that the handler reads says so. A read past the end of the request means that hyper has finished
//! the response: with `half_close(true)` it does not read while one is outstanding.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper::rt::{Read, ReadBufCursor, Write};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::Asked;
use super::link::Link;
use super::stall::Stall;
use super::transfer::{Failure, Transfer};
use crate::http::Interim;
use crate::http::head::BodyKind;
use crate::http::walker::BodyWalker;

/// The state of the gate for one request.
pub(super) struct Feed {
    /// The head for hyper, until it was read.
    head: Cell<Option<Vec<u8>>>,
    /// Where the body is.
    pub walker: RefCell<BodyWalker>,
    /// hyper read past the end of the request.
    pub past_end: Cell<bool>,
    /// Since when hyper waits for bytes of the body.
    pub read_waits: Cell<Option<Instant>>,
    /// How the client takes what hyper has for it.
    pub stall: Cell<Stall>,
    /// Bytes of the response were written.
    pub wrote_response: Cell<bool>,
    /// Interim answers, and what is left of them to write.
    interim: Interim,
    interim_left: RefCell<Vec<u8>>,
}

impl Feed {
    /// A feed of one request. The head says only what hyper must know to frame the response and to
    /// decode the body, so that two parsers never have to agree about the client's. HTTP/1.0 is the
    /// response's business.
    pub(super) fn new(asked: &Asked, interim: Interim) -> Feed {
        let mut head = Vec::with_capacity(96);
        head.extend_from_slice(if asked.is_head { b"HEAD" } else { b"POST" });
        head.extend_from_slice(b" / HTTP/1.1\r\n");
        match asked.body {
            BodyKind::None => {}
            BodyKind::Sized(length) => {
                head.extend_from_slice(b"content-length: ");
                head.extend_from_slice(length.to_string().as_bytes());
                head.extend_from_slice(b"\r\n");
            }
            BodyKind::Chunked => head.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        }
        if asked.expects_continue {
            head.extend_from_slice(b"expect: 100-continue\r\n");
        }
        head.extend_from_slice(b"\r\n");
        Feed {
            head: Cell::new(Some(head)),
            walker: RefCell::new(BodyWalker::new(asked.body)),
            past_end: Cell::new(false),
            read_waits: Cell::new(None),
            stall: Cell::default(),
            wrote_response: Cell::new(false),
            interim,
            interim_left: RefCell::default(),
        }
    }

    /// Whether an interim answer is out in part.
    pub(super) fn cut_interim(&self) -> bool {
        !self.interim_left.borrow().is_empty()
    }

    /// Writes the interim answers that there are; ready when none is left.
    pub(super) fn poll_interims<IO: AsyncWrite + Unpin>(
        &self,
        io: &mut IO,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let mut left = self.interim_left.borrow_mut();
        left.extend_from_slice(&self.interim.take(cx));
        if left.is_empty() {
            return Poll::Ready(Ok(()));
        }
        while !left.is_empty() {
            let written = ready!(Pin::new(&mut *io).poll_write(cx, &left))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            left.drain(..written);
        }
        Pin::new(io).poll_flush(cx)
    }
}

/// The IO object that hyper gets.
pub(super) struct Gate<'a, IO> {
    pub link: &'a RefCell<Link<IO>>,
    pub feed: &'a Feed,
    pub transfer: &'a Transfer,
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Gate<'_, IO> {
    /// Body bytes: those that were read ahead first, then the socket's.
    fn poll_body(&self, cx: &mut Context<'_>, buf: &mut ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let mut link = self.link.borrow_mut();
        let room = buf.remaining();
        if !link.input().is_empty() {
            let input = link.input();
            let Poll::Ready(used) = self.walk(&input[..input.len().min(room)], buf) else {
                return Poll::Pending;
            };
            link.consume(used);
            return Poll::Ready(Ok(()));
        }
        let read = if link.at_eof() {
            Poll::Ready(Ok(None))
        } else {
            link.poll_read(cx, room, |bytes| match self.walk(bytes, buf) {
                Poll::Ready(used) => (used, Poll::Ready(())),
                Poll::Pending => (bytes.len(), Poll::Pending),
            })
        };
        match read {
            Poll::Pending => {
                if self.feed.read_waits.get().is_none() {
                    self.feed.read_waits.set(Some(Instant::now()));
                }
                Poll::Pending
            }
            Poll::Ready(Ok(Some(walked))) => {
                self.feed.read_waits.set(None);
                walked.map(Ok)
            }
            Poll::Ready(Ok(None) | Err(_)) => {
                self.feed.read_waits.set(None);
                self.transfer.fail(Failure::Cut);
                Poll::Pending
            }
        }
    }

    /// Hands on those of `bytes` that belong to the body. Never ready if its framing is broken.
    fn walk(&self, bytes: &[u8], buf: &mut ReadBufCursor<'_>) -> Poll<usize> {
        let mut walker = self.feed.walker.borrow_mut();
        match walker.advance(bytes) {
            Ok(used) => {
                buf.put_slice(&bytes[..used]);
                self.transfer.request_done.set(walker.is_done());
                self.transfer.request_left.set(walker.left_bytes());
                self.transfer.request_bytes.set(walker.data_bytes());
                Poll::Ready(used)
            }
            Err(refusal) => {
                self.transfer.fail(Failure::Malformed(refusal));
                Poll::Pending
            }
        }
    }

    /// Writes for hyper, behind the interim answers.
    fn poll_after_interims(
        &self,
        cx: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut IO>, &mut Context<'_>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let io = &mut self.link.borrow_mut().io;
        ready!(self.feed.poll_interims(io, cx))?;
        write(Pin::new(io), cx)
    }

    fn note_write(&self, result: &Poll<io::Result<usize>>) {
        let mut stall = self.feed.stall.get();
        match result {
            Poll::Pending => stall.waits(),
            Poll::Ready(written) => {
                stall.took(*written.as_ref().unwrap_or(&0));
                if self.transfer.response_given.get() {
                    self.feed.wrote_response.set(true);
                }
            }
        }
        self.feed.stall.set(stall);
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Read for Gate<'_, IO> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(head) = self.feed.head.take() {
            // hyper's first read buffer is 8 KiB; the head is at most 100 bytes.
            if buf.remaining() < head.len() {
                return Poll::Ready(Err(io::ErrorKind::InvalidInput.into()));
            }
            buf.put_slice(&head);
            return Poll::Ready(Ok(()));
        }
        if self.transfer.failure.get().is_some() {
            return Poll::Pending;
        }
        if self.transfer.request_done.get() {
            self.feed.past_end.set(true);
            return Poll::Pending;
        }
        self.poll_body(cx, &mut buf)
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Write for Gate<'_, IO> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = self.poll_after_interims(cx, |io, cx| io.poll_write(cx, buf));
        self.note_write(&result);
        result
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = self.link.borrow_mut().poll_flush(cx);
        // A buffered writer, TLS for example, may hold bytes back that the client does not take.
        if result.is_pending() {
            self.note_write(&Poll::Pending);
        } else {
            // It has caught up: a response that comes slowly is not its fault.
            self.feed.stall.set(Stall::default());
        }
        Poll::Ready(ready!(result))
    }

    /// The connection is ours to close.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn is_write_vectored(&self) -> bool {
        self.link.borrow().io.is_write_vectored()
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = self.poll_after_interims(cx, |io, cx| io.poll_write_vectored(cx, bufs));
        self.note_write(&result);
        result
    }
}
