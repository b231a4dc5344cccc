//! One timer for a connection, whatever it waits for at the moment.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::time::{Instant, Sleep, sleep_until};

/// A sleep that is moved only when it must be: a later deadline lets it fire early and sleep again,
/// so that a request that moves the deadline costs no work in the timer wheel.
#[derive(Debug)]
pub(super) struct Timer {
    sleep: Pin<Box<Sleep>>,
}

impl Timer {
    /// A timer that will first be due at `deadline`.
    pub(super) fn new(deadline: Instant) -> Timer {
        Timer { sleep: Box::pin(sleep_until(deadline)) }
    }

    /// Ready once `deadline` is past.
    pub(super) fn poll(&mut self, deadline: Instant, cx: &mut Context<'_>) -> Poll<()> {
        if deadline < self.sleep.deadline() {
            self.sleep.as_mut().reset(deadline);
        }
        loop {
            ready!(self.sleep.as_mut().poll(cx));
            if self.sleep.deadline() >= deadline {
                return Poll::Ready(());
            }
            self.sleep.as_mut().reset(deadline);
        }
    }
}
