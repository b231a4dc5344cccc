//! When a client that does not take what is written is given up.

use std::time::Duration;

use tokio::time::Instant;

use crate::http::limits::Limits;

/// How a client that let a write wait takes what is written.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::http) struct Stall {
    /// When a write waited first.
    begun: Option<Instant>,
    /// Since when it waits without a byte taken.
    since: Option<Instant>,
    /// Bytes taken since it waited first.
    taken: u64,
}

impl Stall {
    /// A write has to wait.
    pub(in crate::http) fn waits(&mut self) {
        if self.since.is_none() {
            let now = Instant::now();
            self.since = Some(now);
            self.begun.get_or_insert(now);
        }
    }

    /// The client has taken so many bytes.
    pub(in crate::http) fn took(&mut self, bytes: usize) {
        self.since = None;
        if self.begun.is_some() {
            self.taken += bytes as u64;
        }
    }

    /// Whether a write waits now.
    pub(in crate::http) fn is_waiting(&self) -> bool {
        self.since.is_some()
    }

    /// When to give the client up, if a write waits now: it took nothing for the write timeout, or
    /// less than the least rate beyond it.
    pub(in crate::http) fn due(&self, limits: &Limits) -> Option<Instant> {
        let (since, begun) = (self.since?, self.begun?);
        let earned = Duration::from_millis(self.taken * 1000 / BYTES_PER_S_MIN);
        Some(since.min(begun + earned) + limits.write_timeout)
    }
}

/// A client that has let a write wait must take at least so much from then on: a byte now and then
/// does not keep an answer in memory for hours.
const BYTES_PER_S_MIN: u64 = 1024;
