//! TLS handshakes: each within its time, and so many at once.
//!
//! A handshake that waits for its client costs memory and nothing else, but whoever opens thousands and
//! says nothing must not keep the others out. So at the bound it is not the newcomer who goes, but who
//! has waited longest: an honest client is done within two round trips.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_rustls::rustls::HandshakeKind;
use tokio_rustls::server::TlsStream;

use crate::http::Plain;
use crate::metrics::{Counter, Sink};
use crate::outcome::CloseReason;
use crate::tls::Server;

/// The handshakes of one worker.
#[derive(Debug)]
pub(super) struct Handshakes {
    max: Cell<usize>,
    timeout: Cell<Duration>,
    /// Those under way, the oldest first; dropping one's sender ends it.
    open: RefCell<VecDeque<(u64, oneshot::Sender<()>)>>,
    next: Cell<u64>,
    sink: Sink,
}

/// A handshake's place; given back when it is dropped.
struct Place {
    room: Rc<Handshakes>,
    number: u64,
}

impl Handshakes {
    /// None may be under way yet.
    pub(super) fn new(sink: Sink) -> Rc<Handshakes> {
        let (open, next) = (RefCell::default(), Cell::new(0));
        let (max, timeout) = (Cell::new(0), Cell::default());
        Rc::new(Handshakes { max, timeout, open, next, sink })
    }

    /// From now on at most `max` at once, each within `timeout`.
    pub(super) fn set(&self, (max, timeout): (usize, Duration)) {
        self.max.set(max.max(1));
        self.timeout.set(timeout);
    }

    /// One handshake; nothing if it came to nothing, which is counted.
    pub(super) async fn shake(
        self: &Rc<Self>,
        server: &Server,
        io: Plain,
    ) -> Option<TlsStream<Plain>> {
        let (_place, given_up) = self.enter();
        let shaking = timeout(self.timeout.get(), server.acceptor().accept(io));
        let ended = tokio::select! {
            biased;
            done = shaking => match done {
                Ok(Ok(stream)) => Ok(stream),
                Ok(Err(_)) => Err(CloseReason::HandshakeFailed),
                Err(_) => Err(CloseReason::HandshakeTimeout),
            },
            _ = given_up => Err(CloseReason::HandshakeShed),
        };
        match ended {
            Ok(stream) => {
                let resumed = stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed);
                let counter = if resumed { Counter::TlsResumed } else { Counter::TlsFull };
                self.sink.inc(counter);
                Some(stream)
            }
            Err(why) => {
                self.sink.close(why);
                None
            }
        }
    }

    fn enter(self: &Rc<Self>) -> (Place, oneshot::Receiver<()>) {
        let number = self.next.get();
        self.next.set(number.wrapping_add(1));
        let (sender, given_up) = oneshot::channel();
        let mut open = self.open.borrow_mut();
        if open.len() >= self.max.get() {
            // Its receiver hears that the sender is gone.
            drop(open.pop_front());
        }
        open.push_back((number, sender));
        (Place { room: self.clone(), number }, given_up)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.room.open.borrow_mut();
        // Most end in the order they began: it is near the front.
        if let Some(at) = open.iter().position(|(number, _)| *number == self.number) {
            open.remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_the_bound_the_oldest_goes() {
        let room = Handshakes::new(Sink::detached());
        room.set((2, Duration::from_secs(1)));
        let (_first, mut oldest) = room.enter();
        let (second, mut other) = room.enter();
        let is_over = |given_up: &mut oneshot::Receiver<()>| {
            matches!(given_up.try_recv(), Err(oneshot::error::TryRecvError::Closed))
        };
        drop(second);
        assert!(is_over(&mut other), "its sender goes with its place");
        let (_third, mut third) = room.enter();
        assert!(!is_over(&mut oldest) && !is_over(&mut third), "a place was free");
        let (_fourth, _) = room.enter();
        assert!(is_over(&mut oldest) && !is_over(&mut third));
    }
}
