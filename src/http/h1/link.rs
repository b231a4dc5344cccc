//! The socket of a connection and the bytes that were read from it and not yet used.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::scratch;

/// Socket and unused input.
#[derive(Debug)]
pub(super) struct Link<IO> {
    pub io: IO,
    input: BytesMut,
    eof: bool,
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Link<IO> {
    pub(super) fn new(io: IO) -> Link<IO> {
        Link { io, input: BytesMut::new(), eof: false }
    }

    /// Bytes that were read and not used yet.
    pub(super) fn input(&self) -> &[u8] {
        &self.input
    }

    /// Whether the client has said that it sends no more.
    pub(super) fn at_eof(&self) -> bool {
        self.eof
    }

    /// Marks `count` bytes of the input as used. An empty buffer is given back at once.
    pub(super) fn consume(&mut self, count: usize) {
        self.input.advance(count);
        if self.input.is_empty() {
            self.input = BytesMut::new();
        }
    }

    /// Takes all unused bytes out.
    pub(super) fn take_input(&mut self) -> BytesMut {
        std::mem::take(&mut self.input)
    }

    /// Gives back what was taken out, of which `used` bytes are used.
    pub(super) fn put_back(&mut self, input: BytesMut, used: usize) {
        debug_assert!(self.input.is_empty(), "nothing is read while it is out");
        self.input = input;
        self.consume(used);
    }

    /// Reads once into `buffer`; what is not used at once is to be kept. `Ok(0)` is the end of file.
    pub(super) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let read = ready!(poll_read_some(&mut self.io, cx, buffer, usize::MAX))?;
        self.eof |= read == 0;
        Poll::Ready(Ok(read))
    }

    /// Keeps what was read behind the input.
    pub(super) fn keep(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.input.extend_from_slice(bytes);
        }
    }

    /// Reads once, at most `max` bytes, through the thread's buffer. `use_bytes` sees what was read
    /// and says how much of it is used; the rest becomes input. `Ok(None)` is the end of file.
    pub(super) fn poll_read<T>(
        &mut self,
        cx: &mut Context<'_>,
        max: usize,
        use_bytes: impl FnOnce(&[u8]) -> (usize, T),
    ) -> Poll<io::Result<Option<T>>> {
        debug_assert!(self.input.is_empty(), "what was read before comes first");
        scratch::with_read_buffer(|buffer| {
            let read = ready!(poll_read_some(&mut self.io, cx, buffer, max))?;
            if read == 0 {
                self.eof = true;
                return Poll::Ready(Ok(None));
            }
            let (used, result) = use_bytes(&buffer[..read]);
            self.input.extend_from_slice(&buffer[used..read]);
            Poll::Ready(Ok(Some(result)))
        })
    }

    /// Reads once, at most `max` bytes, behind the input. `Ok(0)` is the end of file.
    pub(super) fn poll_read_more(
        &mut self,
        cx: &mut Context<'_>,
        max: usize,
    ) -> Poll<io::Result<usize>> {
        scratch::with_read_buffer(|buffer| {
            let read = ready!(poll_read_some(&mut self.io, cx, buffer, max))?;
            self.eof |= read == 0;
            self.input.extend_from_slice(&buffer[..read]);
            Poll::Ready(Ok(read))
        })
    }

    /// Writes some of two pieces in one call.
    pub(super) fn poll_write_two(
        &mut self,
        cx: &mut Context<'_>,
        first: &[u8],
        second: &[u8],
    ) -> Poll<io::Result<usize>> {
        let io = Pin::new(&mut self.io);
        if second.is_empty() {
            io.poll_write(cx, first)
        } else if first.is_empty() {
            io.poll_write(cx, second)
        } else {
            io.poll_write_vectored(cx, &[IoSlice::new(first), IoSlice::new(second)])
        }
    }

    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    /// Says that we send no more.
    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

fn poll_read_some<IO: AsyncRead + Unpin>(
    io: &mut IO,
    cx: &mut Context<'_>,
    buffer: &mut [u8],
    max: usize,
) -> Poll<io::Result<usize>> {
    let len = buffer.len().min(max);
    let mut target = ReadBuf::new(&mut buffer[..len]);
    ready!(Pin::new(io).poll_read(cx, &mut target))?;
    Poll::Ready(Ok(target.filled().len()))
}
