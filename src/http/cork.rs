//! Between HTTP/2 and its stream: gathers what one wake-up writes, and looks at the frames both ways.
//!
//! hyper's HTTP/2 flushes each response by itself. Here a flush only says yes; what was written goes out
//! when the connection's task has nothing more to write, in as few pieces as there are. What the stream
//! does not take stays here up to a bound, and at the bound HTTP/2 has to wait: a client that reads
//! slowly is felt by whoever writes to it.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use hyper::rt::{Read, ReadBufCursor, Write};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::h1::scratch;
use super::h1::stall::Stall;
use super::h2::watch::Watch;

/// Any stream of a client.
pub trait Io: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Io for T {}

/// A stream whose kind does not matter to who has it.
pub type Plain = Box<dyn Io>;

/// One connection's stream, what waits to be written, and what is known of its frames. HTTP/2 has one
/// handle on it, the connection's driver the other.
pub(super) struct Cork {
    io: Plain,
    /// What waits, from `sent` on.
    out: Vec<u8>,
    sent: usize,
    /// HTTP/2 had to wait because so much waits already.
    is_blocked: bool,
    /// Frames that HTTP/2 reads as if the client had sent them, at the next place between two frames.
    forged: Vec<u8>,
    /// How the client takes what is written.
    pub stall: Stall,
    pub watch: Watch,
    is_shut: bool,
    at_eof: bool,
}

/// HTTP/2's handle.
pub(super) struct Corked(pub Rc<RefCell<Cork>>);

impl Cork {
    pub(super) fn new(io: Plain, watch: Watch) -> Rc<RefCell<Cork>> {
        Rc::new(RefCell::new(Cork {
            io,
            out: Vec::new(),
            sent: 0,
            is_blocked: false,
            forged: Vec::new(),
            stall: Stall::default(),
            watch,
            is_shut: false,
            at_eof: false,
        }))
    }

    /// Writes what waits. Ready once the stream has all of it.
    pub(super) fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let drained = self.poll_write_out(cx);
        match &drained {
            Poll::Pending => self.stall.waits(),
            // It has caught up: what comes slowly from here on is not its fault.
            Poll::Ready(_) => self.stall = Stall::default(),
        }
        drained
    }

    fn poll_write_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.out.len() {
            let written = ready!(Pin::new(&mut self.io).poll_write(cx, &self.out[self.sent..]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += written;
            self.stall.took(written);
        }
        if !self.out.is_empty() {
            // An idle connection owns no buffer.
            scratch::return_out(std::mem::take(&mut self.out));
            self.sent = 0;
        }
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn waiting(&self) -> usize {
        self.out.len() - self.sent
    }

    /// Whether HTTP/2 waited for room and there is some now.
    pub(super) fn has_made_room(&mut self) -> bool {
        let has = self.is_blocked && self.waiting() < WAITING_MAX;
        self.is_blocked &= !has;
        has
    }

    /// Room for more, or a wait for the stream. The bound is on what waits, so that the buffer is at
    /// most twice as long.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.watch.verdict().is_some() || self.is_shut {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if self.waiting() >= WAITING_MAX && self.poll_drain(cx)?.is_pending() {
            if self.waiting() >= WAITING_MAX {
                self.is_blocked = true;
                return Poll::Pending;
            }
            self.out.drain(..self.sent);
            self.sent = 0;
        }
        if self.out.is_empty() {
            self.out = scratch::take_out();
        }
        Poll::Ready(Ok(WAITING_MAX - self.waiting()))
    }

    fn append(&mut self, bytes: &[u8]) {
        self.watch.writes(bytes);
        self.out.extend_from_slice(bytes);
    }

    /// Ends the connection from our side: GOAWAY, unless half a frame waits before it.
    pub(super) fn go_away(&mut self, code: u32) {
        if !self.watch.is_between_writes() {
            return;
        }
        let mut frame = vec![0, 0, 8, GOAWAY, 0, 0, 0, 0, 0];
        frame.extend_from_slice(&self.watch.last_stream().to_be_bytes());
        frame.extend_from_slice(&code.to_be_bytes());
        self.out.extend_from_slice(&frame);
    }

    /// Gives up one request: the client is told, and HTTP/2 takes it for the client's own wish.
    /// Says whether it could be done now; between two writes is the place for it.
    pub(super) fn reset(&mut self, stream: u32) -> bool {
        if !self.watch.is_between_writes() {
            return false;
        }
        let mut frame = vec![0, 0, 4, RST_STREAM, 0];
        frame.extend_from_slice(&stream.to_be_bytes());
        frame.extend_from_slice(&CANCEL.to_be_bytes());
        self.out.extend_from_slice(&frame);
        self.forged.extend_from_slice(&frame);
        true
    }

    /// Reads and drops; ready at the end of what the client sends.
    pub(super) fn poll_discard(&mut self, cx: &mut Context<'_>, left: &mut usize) -> Poll<()> {
        while *left > 0 && !self.at_eof {
            match ready!(read_some(&mut self.io, cx, *left, |bytes| bytes.len())) {
                Ok(read @ 1..) => *left -= read,
                Ok(0) | Err(_) => self.at_eof = true,
            }
        }
        Poll::Ready(())
    }

    /// Writes what waits and says that nothing more comes.
    pub(super) fn poll_shut(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.is_shut {
            ready!(self.poll_drain(cx))?;
            ready!(Pin::new(&mut self.io).poll_shutdown(cx))?;
            self.is_shut = true;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if self.watch.verdict().is_some() {
            // The driver ends the connection when HTTP/2 returns.
            return Poll::Pending;
        }
        if !self.forged.is_empty() && self.watch.is_between_reads() {
            let now = self.forged.len().min(buf.remaining() / RST_BYTES * RST_BYTES);
            buf.put_slice(&self.forged[..now]);
            self.forged.drain(..now);
            return Poll::Ready(Ok(()));
        }
        let Cork { io, watch, at_eof, .. } = self;
        let read = read_some(io, cx, buf.remaining(), |bytes| {
            // Not a byte behind the one that is too much.
            buf.put_slice(&bytes[..watch.reads(bytes)]);
            bytes.len()
        });
        *at_eof |= matches!(read, Poll::Ready(Ok(0)));
        let is_over = watch.verdict().is_some();
        match read {
            Poll::Ready(Ok(_)) if is_over => Poll::Pending,
            read => read.map_ok(drop),
        }
    }
}

fn read_some<T>(
    io: &mut Plain,
    cx: &mut Context<'_>,
    max: usize,
    mut use_bytes: impl FnMut(&[u8]) -> T,
) -> Poll<io::Result<T>> {
    scratch::with_read_buffer(|buffer| {
        let len = buffer.len().min(max);
        let mut target = ReadBuf::new(&mut buffer[..len]);
        ready!(Pin::new(io).poll_read(cx, &mut target))?;
        Poll::Ready(Ok(use_bytes(target.filled())))
    })
}

impl Read for Corked {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        self.0.borrow_mut().poll_read(cx, &mut buf)
    }
}

impl Write for Corked {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut cork = self.0.borrow_mut();
        let room = ready!(cork.poll_room(cx))?;
        let mut left = room;
        for slice in slices {
            let taken = slice.len().min(left);
            cork.append(&slice[..taken]);
            left -= taken;
        }
        Poll::Ready(Ok(room - left))
    }

    /// The driver flushes, when nothing more comes.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().poll_shut(cx)
    }
}

/// What waits for a slow client, in bytes; more has to wait where it comes from.
const WAITING_MAX: usize = 32 * 1024;
const RST_STREAM: u8 = 3;
const RST_BYTES: usize = 13;
const GOAWAY: u8 = 7;
const CANCEL: u32 = 8;
