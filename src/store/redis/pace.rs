//! Two small computations of the link: how long to wait before the next try, and what the server's
//! clock shows.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::Now;

/// Pauses between tries to connect: 50 ms to 2 s, doubled each time, with jitter so that a fleet does
/// not come back at once.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    tries: u32,
}

impl Backoff {
    /// The next pause.
    pub(super) fn next(&mut self) -> Duration {
        let full = (PAUSE_MIN_MS << self.tries.min(6)).min(PAUSE_MAX_MS);
        self.tries = self.tries.saturating_add(1);
        Duration::from_millis(rand::random_range(full / 2..=full))
    }

    /// It worked.
    pub(super) fn reset(&mut self) {
        self.tries = 0;
    }
}

/// The last looks at the server's clock. The one with the shortest round trip is the surest
/// (Cristian's algorithm): the offset is off by at most half of it.
#[derive(Debug, Default)]
pub(super) struct Offsets {
    samples: VecDeque<Sample>,
    /// Wall minus monotonic clock of this machine, to see when the wall clock is set.
    skew_ms: Option<i128>,
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    offset_ms: i64,
    err_ms: u16,
}

impl Offsets {
    /// Takes a sample: clocks read before sending, the round trip, what the server's clock showed.
    /// Returns the offset (server minus wall clock) to use now, and how far it may be off.
    ///
    /// When the server read its clock, ours showed between `wall` and `wall + 1 ms + round trip`.
    /// The middle is taken and rounded down, so that nothing opens early by rounding.
    pub(super) fn add(&mut self, now: Now, round_trip: Duration, server_ms: u64) -> (i64, u16) {
        let skew = i128::from(now.wall.0) - i128::from(now.mono.0);
        if self.skew_ms.is_some_and(|was| (skew - was).abs() > CLOCK_SET_MS) {
            self.samples.clear();
        }
        self.skew_ms = Some(skew);
        let half = (round_trip + Duration::from_millis(1)).div_f64(2.0);
        let half_ms = i64::try_from(half.as_millis()).unwrap_or(i64::MAX).saturating_add(1);
        let difference = i128::from(server_ms) - i128::from(now.wall.0) - i128::from(half_ms);
        let sample = Sample {
            offset_ms: i64::try_from(difference).unwrap_or(0),
            err_ms: u16::try_from(half_ms).unwrap_or(u16::MAX),
        };
        if self.samples.len() == SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back(sample);
        let best = self.samples.iter().rev().min_by_key(|s| s.err_ms).unwrap_or(&sample);
        (best.offset_ms, best.err_ms)
    }
}

const PAUSE_MIN_MS: u64 = 50;
const PAUSE_MAX_MS: u64 = 2_000;

/// Samples that are remembered: 4 s of heartbeats.
const SAMPLES: usize = 16;

/// Beyond this the wall clock of this machine was set, and older samples mean nothing.
const CLOCK_SET_MS: i128 = 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{MonoMs, UnixMs};

    fn at(mono: u64, wall: u64) -> Now {
        Now { mono: MonoMs(mono), wall: UnixMs(wall), ..Now::default() }
    }

    #[test]
    fn pauses_grow_and_stay_bounded() {
        let mut backoff = Backoff::default();
        let pauses: Vec<_> = (0..20).map(|_| backoff.next().as_millis()).collect();
        assert!((25..=50).contains(&pauses[0]), "{pauses:?}");
        assert!(pauses.iter().all(|p| *p <= 2_000), "{pauses:?}");
        assert!(pauses[10..].iter().all(|p| *p >= 1_000), "{pauses:?}");
    }

    #[test]
    fn the_quickest_sample_wins_until_the_clock_is_set() {
        let mut offsets = Offsets::default();
        let slow = offsets.add(at(0, 1_000), Duration::from_millis(99), 6_050);
        assert_eq!(slow, (5_000 - 1, 51));
        let quick = offsets.add(at(250, 1_250), Duration::ZERO, 6_251);
        assert_eq!(quick, (5_000, 1));
        assert_eq!(offsets.add(at(500, 1_500), Duration::from_millis(99), 6_590), quick);
        // An operator sets the clock of this machine an hour ahead.
        let after = offsets.add(at(750, 3_601_750), Duration::from_millis(9), 6_756);
        assert_eq!(after, (6_756 - 3_601_750 - 6, 6));
    }
}
