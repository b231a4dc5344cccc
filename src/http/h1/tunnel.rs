//! An upgraded connection: bytes go both ways, whatever they are, until a side has had enough.
//!
//! What one side sends is read only when the other has taken what came before, so that a tunnel holds
//! at most one read in each direction, and an idle one nothing.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::link::Link;
use super::{DRAIN_IDLE, give_way, scratch};
use crate::http::body::{Far, Upgraded};
use crate::http::drain::{DrainSignal, Timer};
use crate::metrics::{Counter, Sink};
use crate::outcome::CloseReason;

/// Relays until both sides have ended, one has failed, both were silent for too long, or a drain finds
/// a silence to end in. Then the other end is closed; the client's is the caller's.
pub(super) async fn run<IO>(
    link: &mut Link<IO>,
    timer: &Timer,
    drain: &DrainSignal,
    upgraded: Upgraded,
    sink: &Sink,
) -> CloseReason
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    sink.inc(Counter::UpgradesBegun);
    let _ended = Ended(sink);
    let Upgraded { far, idle, place: _place } = upgraded;
    let mut tunnel = Tunnel {
        // What the client sent before it had the 101 was kept back until now.
        up: Lane { held: link.take_input(), ..Lane::default() },
        down: Lane::default(),
        far,
        moved_at: Instant::now(),
    };
    poll_fn(|cx| {
        if let Poll::Ready(reason) = tunnel.relay(cx, link, sink) {
            return Poll::Ready(reason);
        }
        loop {
            let silent = (tunnel.moved_at + idle, CloseReason::IdleTimeout);
            let (due, reason) = match drain.since() {
                Some(since) => {
                    let drained = tunnel.moved_at.max(since) + DRAIN_IDLE;
                    if drained < silent.0 { (drained, CloseReason::Drain) } else { silent }
                }
                None => silent,
            };
            if timer.poll(due, cx).is_pending() {
                return Poll::Pending;
            }
            if due <= Instant::now() {
                return Poll::Ready(reason);
            }
        }
    })
    .await
}

/// Counts the end, however it comes: a worker that stops drops what it has.
struct Ended<'a>(&'a Sink);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.inc(Counter::UpgradesEnded);
    }
}

struct Tunnel {
    up: Lane,
    down: Lane,
    far: Box<dyn Far>,
    /// When a byte last went either way.
    moved_at: Instant,
}

/// One direction.
#[derive(Default)]
struct Lane {
    /// What was read and not yet written.
    held: BytesMut,
    /// The reading side has ended.
    has_ended: bool,
    /// The writing side was told so.
    is_shut: bool,
}

impl Tunnel {
    /// Moves what can be moved, a share at a time. Ready when it is over.
    fn relay<IO>(
        &mut self,
        cx: &mut Context<'_>,
        link: &mut Link<IO>,
        sink: &Sink,
    ) -> Poll<CloseReason>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let mut moved = 0;
        loop {
            let up = self.up.step(cx, &mut link.io, &mut self.far);
            let down = self.down.step(cx, &mut self.far, &mut link.io);
            let (Ok(sent), Ok(received)) = (down, up) else {
                return Poll::Ready(CloseReason::Upgraded);
            };
            sink.add(Counter::UpgradeBytesReceived, received as u64);
            sink.add(Counter::UpgradeBytesSent, sent as u64);
            if self.up.is_shut && self.down.is_shut {
                return Poll::Ready(CloseReason::Upgraded);
            }
            if sent + received == 0 {
                return Poll::Pending;
            }
            self.moved_at = Instant::now();
            moved += sent + received;
            if moved >= TURN_BYTES_MAX {
                return give_way(cx);
            }
        }
    }
}

impl Lane {
    /// Writes what is held, else reads and writes once. Says how many bytes were written; 0 means that
    /// there is something to wait for.
    fn step(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
    ) -> std::io::Result<usize> {
        if self.held.is_empty() && !self.has_ended {
            self.read(cx, from)?;
        }
        let mut written = 0;
        while !self.held.is_empty() {
            match Pin::new(&mut *to).poll_write(cx, &self.held)? {
                Poll::Ready(0) => return Err(std::io::ErrorKind::WriteZero.into()),
                Poll::Ready(count) => {
                    self.held.advance(count);
                    written += count;
                }
                Poll::Pending => break,
            }
        }
        if self.held.is_empty() {
            // An idle tunnel owns no buffer.
            self.held = BytesMut::new();
            // What is buffered below us, by TLS for example, must not wait for the next byte.
            let flushed = Pin::new(&mut *to).poll_flush(cx)?;
            if self.has_ended && !self.is_shut && flushed.is_ready() {
                self.is_shut = Pin::new(&mut *to).poll_shutdown(cx)?.is_ready();
            }
        }
        Ok(written)
    }

    fn read(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut (impl AsyncRead + Unpin),
    ) -> std::io::Result<()> {
        scratch::with_read_buffer(|buffer| {
            let mut target = ReadBuf::new(buffer);
            if Pin::new(from).poll_read(cx, &mut target)?.is_ready() {
                self.has_ended = target.filled().is_empty();
                self.held.extend_from_slice(target.filled());
            }
            Ok(())
        })
    }
}

/// What one poll relays before others get their turn.
const TURN_BYTES_MAX: usize = 256 * 1024;
