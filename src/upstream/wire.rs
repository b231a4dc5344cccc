//! One connection's socket as hyper sees it. It counts what is written, watches what is read, and can
//! be closed from outside at any instant: after that not a byte more leaves.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::places::Taken;
use super::stream::Stream;
use super::watch::HeadWatch;
use crate::fault::{self, Point};
use crate::metrics::{Counter, Sink};

/// A socket and what is known of the exchange on it.
#[derive(Debug)]
pub(super) struct Wire {
    socket: RefCell<Option<Socket>>,
    watch: RefCell<Option<HeadWatch>>,
    refused: Cell<Option<&'static str>>,
    /// Whether what is written is of an exchange.
    has_begun: Cell<bool>,
    written: Cell<u64>,
    read: Cell<u64>,
    wrote_at: Cell<Instant>,
    /// Not a byte of this exchange leaves from then on.
    until: Cell<Option<Instant>>,
    was_late: Cell<bool>,
    sink: Sink,
}

#[derive(Debug)]
struct Socket {
    stream: Stream,
    /// `None` once it belongs to no pool.
    seat: Option<Seat>,
}

/// One of a server's `connections_max`; it goes with the socket.
#[derive(Debug)]
pub(super) struct Seat {
    _taken: Taken,
    open_here: Rc<Cell<usize>>,
}

impl Seat {
    /// `open_here` counts what this worker has.
    pub(super) fn new(taken: Taken, open_here: &Rc<Cell<usize>>) -> Seat {
        open_here.set(open_here.get() + 1);
        Seat { _taken: taken, open_here: open_here.clone() }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.open_here.set(self.open_here.get().saturating_sub(1));
    }
}

impl Wire {
    pub(super) fn new(stream: Stream, seat: Seat, sink: Sink) -> Rc<Wire> {
        Rc::new(Wire {
            socket: RefCell::new(Some(Socket { stream, seat: Some(seat) })),
            watch: RefCell::new(None),
            refused: Cell::new(None),
            has_begun: Cell::new(false),
            written: Cell::new(0),
            read: Cell::new(0),
            wrote_at: Cell::new(Instant::now()),
            until: Cell::new(None),
            was_late: Cell::new(false),
            sink,
        })
    }

    /// Begins an exchange: what is counted from here on is of this one. Bytes of the one before that
    /// hyper still holds would count too, which errs on the safe side. Nothing leaves after `until`:
    /// it is looked at before each write, since a process may be stopped at any point before that.
    /// `head_bytes_max` bounds an answer's head of HTTP/1.1; HTTP/2 bounds its own.
    pub(super) fn begin(&self, head_bytes_max: Option<usize>, until: Option<Instant>) {
        self.has_begun.set(true);
        self.written.set(0);
        self.read.set(0);
        self.refused.set(None);
        self.until.set(until);
        self.was_late.set(false);
        self.wrote_at.set(Instant::now());
        *self.watch.borrow_mut() = head_bytes_max.map(HeadWatch::new);
    }

    /// Whether a byte of this exchange may have left.
    pub(super) fn has_written(&self) -> bool {
        self.written.get() > 0
    }

    /// Whether a byte of the answer came.
    pub(super) fn has_read(&self) -> bool {
        self.read.get() > 0
    }

    /// When the last byte left.
    pub(super) fn wrote_at(&self) -> Instant {
        self.wrote_at.get()
    }

    /// Why the answer was refused while its head was read.
    pub(super) fn refused(&self) -> Option<&'static str> {
        self.refused.get()
    }

    /// Whether bytes were held back because their time was over.
    pub(super) fn was_late(&self) -> bool {
        self.was_late.get()
    }

    /// Whether the server has answered by a 101.
    pub(super) fn has_switched(&self) -> bool {
        self.watch.borrow().as_ref().is_some_and(HeadWatch::has_switched)
    }

    /// Gives back the pool's place; the socket stays open.
    pub(super) fn leave_pool(&self) {
        let seat = self.socket.borrow_mut().as_mut().and_then(|socket| socket.seat.take());
        drop(seat);
    }

    /// Closes the socket at once.
    pub(super) fn close(&self) {
        self.socket.take();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.socket.borrow().is_none()
    }

    /// Whether the server is still there and silent, as the kernel knows it.
    pub(super) fn is_quiet(&self) -> bool {
        self.socket.borrow().as_ref().is_some_and(|socket| socket.stream.is_quiet())
    }

    /// Runs a write, unless the time for it is over.
    fn write(
        &self,
        write: impl FnOnce(Pin<&mut Stream>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let mut socket = self.socket.borrow_mut();
        let Some(socket) = &mut *socket else { return Poll::Ready(Err(closed())) };
        if self.until.get().is_some_and(|until| Instant::now() >= until) {
            self.was_late.set(true);
            return Poll::Ready(Err(io::Error::from(io::ErrorKind::TimedOut)));
        }
        if self.is_purchase() && !self.has_written() {
            fault::pass(Point::Sending);
        }
        self.wrote(write(Pin::new(&mut socket.stream)))
    }

    /// TLS may hold back what the server did not take; that is sent in its time too, or not at all.
    fn flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut socket = self.socket.borrow_mut();
        let Some(socket) = &mut *socket else { return Poll::Ready(Err(closed())) };
        let polled = Pin::new(&mut socket.stream).poll_flush(cx);
        if polled.is_pending() && self.until.get().is_some_and(|until| Instant::now() >= until) {
            self.was_late.set(true);
            return Poll::Ready(Err(io::Error::from(io::ErrorKind::TimedOut)));
        }
        if polled.is_ready() && self.is_purchase() && self.has_written() {
            // hyper has written all that it had.
            fault::pass(Point::Sent);
        }
        polled
    }

    /// Only purchases have a time after which nothing may leave.
    fn is_purchase(&self) -> bool {
        self.until.get().is_some()
    }

    fn heard(&self, bytes: &[u8]) -> io::Result<()> {
        self.read.set(self.read.get() + bytes.len() as u64);
        if let Some(watch) = &mut *self.watch.borrow_mut()
            && let Err(why) = watch.take(bytes)
        {
            self.refused.set(Some(why));
            return Err(io::Error::other(why));
        }
        Ok(())
    }

    fn wrote(&self, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes @ 1..)) = polled {
            if self.written.get() == 0 && self.has_begun.get() {
                self.sink.inc(Counter::UpstreamRequests);
            }
            self.written.set(self.written.get() + bytes as u64);
            self.wrote_at.set(Instant::now());
        }
        polled
    }
}

/// hyper's end of a [`Wire`].
#[derive(Debug)]
pub(super) struct Tap(pub Rc<Wire>);

impl AsyncRead for Tap {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let wire = &self.0;
        let before = buffer.filled().len();
        let polled = match &mut *wire.socket.borrow_mut() {
            Some(socket) => Pin::new(&mut socket.stream).poll_read(cx, buffer),
            None => return Poll::Ready(Err(closed())),
        };
        if matches!(polled, Poll::Ready(Ok(()))) {
            wire.heard(buffer.filled().get(before..).unwrap_or_default())?;
        }
        polled
    }
}

impl AsyncWrite for Tap {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.write(|stream| stream.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.write(|stream| stream.poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self.0.socket.borrow_mut() {
            Some(socket) => Pin::new(&mut socket.stream).poll_shutdown(cx),
            None => Poll::Ready(Ok(())),
        }
    }
}

fn closed() -> io::Error {
    io::Error::from(io::ErrorKind::NotConnected)
}
