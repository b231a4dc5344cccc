//! Whether replicas have what was admitted: an admission counts only when so many replicas have
//! acknowledged it, so that the one of them that takes over has not lost it.
//!
//! `WAIT` has two traps. An admission that no replica acknowledged in time stands in the ledger all the
//! same: it is refused here, and its F delivered. And a server that has just taken over has no replica
//! yet: after `store.wait_alone` purchases go on without waiting, loudly, until replicas are back.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock::MonoMs;
use crate::config::schema;
use crate::metrics::{Counter, Sink};

/// The settings, and since when replicas are missing.
#[derive(Debug)]
pub(super) struct Durable {
    replicas: u32,
    timeout_ms: u64,
    alone_ms: u64,
    /// Since when too few acknowledge, 0 where they do.
    missing_since: AtomicU64,
    /// When they were asked last.
    asked_at: AtomicU64,
}

impl Durable {
    pub(super) fn of(settings: &schema::Store) -> Durable {
        Durable {
            replicas: settings.wait_replicas,
            timeout_ms: settings.wait_timeout.ms,
            alone_ms: settings.wait_alone.ms,
            missing_since: AtomicU64::new(0),
            asked_at: AtomicU64::new(0),
        }
    }

    /// The command that waits for the replicas; `None` where nobody waits, or not this time: without
    /// replicas they are asked once a second.
    pub(super) fn wait(&self, now: MonoMs) -> Option<redis::Cmd> {
        let asked = MonoMs(self.asked_at.load(Ordering::Relaxed));
        if self.replicas == 0 || self.goes_on(now) && now.since(asked) < ASK_EVERY_MS {
            return None;
        }
        // What was long ago says nothing about now.
        if now.since(asked) > FORGET_MS {
            self.missing_since.store(0, Ordering::Relaxed);
        }
        self.asked_at.store(now.0, Ordering::Relaxed);
        let mut wait = redis::cmd("WAIT");
        wait.arg(self.replicas).arg(self.timeout_ms);
        Some(wait)
    }

    /// So many replicas have acknowledged: whether what was admitted may be sent.
    pub(super) fn judge(&self, acknowledged: u64, now: MonoMs, sink: &Sink) -> bool {
        if acknowledged >= u64::from(self.replicas) {
            if self.missing_since.swap(0, Ordering::Relaxed) != 0 {
                tracing::warn!("{acknowledged} replicas of Redis acknowledge admissions again");
            }
            return true;
        }
        sink.inc(Counter::WaitsMissed);
        let since = self.missing_since.compare_exchange(
            0,
            now.0.max(1),
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
        let goes_on = self.goes_on(now);
        let then = match goes_on {
            true => "purchases go on all the same, and a failover may lose the last of them",
            false => "nobody is admitted",
        };
        if since.is_ok() || goes_on {
            tracing::error!(
                "{acknowledged} replicas of Redis acknowledged an admission within {} ms, {} should: \
                 {then}",
                self.timeout_ms,
                self.replicas
            );
        }
        goes_on
    }

    /// Whether replicas have been missing for so long that purchases go on without.
    fn goes_on(&self, now: MonoMs) -> bool {
        let since = self.missing_since.load(Ordering::Relaxed);
        since != 0 && now.since(MonoMs(since)) >= self.alone_ms
    }
}

/// While purchases go on without replicas, how often they are asked, in milliseconds.
const ASK_EVERY_MS: u64 = 1_000;
/// Replicas that were missing so long ago may be back, in milliseconds.
const FORGET_MS: u64 = 10_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::units::Span;

    #[test]
    fn without_replicas_it_is_closed_and_goes_on_after_a_while() {
        let settings = schema::Store {
            wait_replicas: 1,
            wait_alone: Span::from_secs(5),
            ..schema::Store::default()
        };
        let (durable, sink) = (Durable::of(&settings), Sink::detached());
        let at = |ms: u64, acknowledged: u64| {
            let asks = durable.wait(MonoMs(ms)).is_some();
            (asks, !asks || durable.judge(acknowledged, MonoMs(ms), &sink))
        };
        assert_eq!(at(1_000, 1), (true, true));
        assert_eq!(at(2_000, 0), (true, false));
        assert_eq!(at(6_900, 0), (true, false));
        assert_eq!(at(7_100, 0), (false, true), "five seconds alone, and asked a moment ago");
        assert_eq!(at(7_950, 0), (true, true), "asked once a second");
        assert_eq!(at(9_000, 1), (true, true), "back");
        assert_eq!(at(9_100, 0), (true, false), "and missing anew");
        assert_eq!(sink.get(Counter::WaitsMissed), 4);
        assert!(Durable::of(&schema::Store::default()).wait(MonoMs(1)).is_none());
    }
}
