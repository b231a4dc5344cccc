//! Two small computations of the link: how long to wait before the next try, and what the server's
//! clock shows.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::{Reading, lead_us};

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

/// The last looks at the server's clock. Each bounds it from both sides (Cristian's algorithm): when the
/// answer came it showed what it says at least, and when the question left at most. The highest of
/// the lower bounds is taken, so that no sale opens early, and late by no more than the quickest of the
/// round trips.
#[derive(Debug, Default)]
pub(super) struct Offsets {
    samples: VecDeque<Sample>,
}

/// Bounds of server minus monotonic clock, in microseconds.
#[derive(Clone, Copy, Debug)]
struct Sample {
    least_us: i64,
    most_us: i64,
    at_us: u64,
}

impl Sample {
    /// What is known after `now_us - at_us` more: the two clocks may differ in speed.
    fn aged(self, now_us: u64) -> Sample {
        let lead_us = lead_us(now_us.saturating_sub(self.at_us));
        let lead_us = i64::try_from(lead_us).unwrap_or(i64::MAX);
        Sample {
            least_us: self.least_us.saturating_sub(lead_us),
            most_us: self.most_us.saturating_add(lead_us),
            at_us: now_us,
        }
    }
}

impl Offsets {
    /// Takes a sample: the monotonic clock before sending and after receiving, and what the server's
    /// clock showed in between, in microseconds. Returns what to believe now.
    pub(super) fn add(&mut self, sent_us: u64, received_us: u64, server_us: u64) -> Reading {
        let less = |mono_us: u64| {
            let difference = i128::from(server_us) - i128::from(mono_us);
            i64::try_from(difference).unwrap_or(i64::MAX)
        };
        let sample =
            Sample { least_us: less(received_us), most_us: less(sent_us), at_us: received_us };
        // Bounds that exclude each other: the server's clock was set, and older samples mean nothing.
        let contradicts = |old: &Sample| {
            let old = old.aged(received_us);
            old.least_us > sample.most_us || old.most_us < sample.least_us
        };
        if self.samples.iter().any(contradicts) {
            self.samples.clear();
        }
        if self.samples.len() == SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back(sample);
        let aged = self.samples.iter().map(|sample| sample.aged(received_us));
        let (least, most) = aged.fold((sample.least_us, sample.most_us), |(least, most), one| {
            (least.max(one.least_us), most.min(one.most_us))
        });
        // A millisecond more, since what is read is rounded down to one.
        let err_ms = most.abs_diff(least).div_ceil(1_000) + 1;
        let err_ms = u16::try_from(err_ms).unwrap_or(u16::MAX);
        Reading { offset_us: least, at_us: received_us, err_ms }
    }
}

const PAUSE_MIN_MS: u64 = 50;
const PAUSE_MAX_MS: u64 = 2_000;

/// Samples that are remembered: 4 s of heartbeats.
const SAMPLES: usize = 16;

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use proptest::prelude::*;

    use super::*;
    use crate::clock::Clock;

    #[test]
    fn pauses_grow_and_stay_bounded() {
        let mut backoff = Backoff::default();
        let pauses: Vec<_> = (0..20).map(|_| backoff.next().as_millis()).collect();
        assert!((25..=50).contains(&pauses[0]), "{pauses:?}");
        assert!(pauses.iter().all(|p| *p <= 2_000), "{pauses:?}");
        assert!(pauses[10..].iter().all(|p| *p >= 1_000), "{pauses:?}");
    }

    #[test]
    fn the_quickest_sample_wins_until_the_servers_clock_is_set() {
        let mut offsets = Offsets::default();
        let slow = offsets.add(0, 99_000, 5_050_000);
        assert_eq!(slow, Reading { offset_us: 4_951_000, at_us: 99_000, err_ms: 100 });
        let quick = offsets.add(250_000, 250_100, 5_250_050);
        assert_eq!(quick, Reading { offset_us: 4_999_950, at_us: 250_100, err_ms: 2 });
        // Two samples later the quick one is believed still, less what the clocks may have drifted.
        let later = offsets.add(500_000, 599_000, 5_590_000);
        let drift = i64::try_from(lead_us(599_000 - 250_100)).unwrap();
        assert_eq!(later.offset_us, quick.offset_us - drift);
        // The server's clock is set back, and forward.
        assert_eq!(offsets.add(750_000, 751_000, 1_750_500).offset_us, 999_500);
        assert_eq!(offsets.add(1_000_000, 1_001_000, 9_000_500).offset_us, 7_999_500);
    }

    /// A node whose clock runs faster or slower than the server's, by so many in a million.
    struct Node {
        offsets: Offsets,
        clock: Clock,
        began: Instant,
        boot_us: u64,
        rate_ppm: i64,
    }

    impl Node {
        fn new(boot_us: u64, rate_ppm: i64) -> Node {
            // Later than the clock's own start.
            let (clock, offsets) = (Clock::system(), Offsets::default());
            Node { offsets, clock, began: Instant::now(), boot_us, rate_ppm }
        }

        /// What its monotonic clock shows when the true time is `at_us`.
        fn instant(&self, at_us: u64) -> Instant {
            let drift = at_us * self.rate_ppm.unsigned_abs() / 1_000_000;
            let drift = i64::try_from(drift).unwrap() * self.rate_ppm.signum();
            let mono_us = (at_us + self.boot_us).saturating_add_signed(drift);
            self.began + Duration::from_micros(mono_us)
        }

        fn sample(&mut self, sent: u64, received: u64, server_us: u64) {
            let [sent, received] =
                [sent, received].map(|at| self.clock.mono_us_at(self.instant(at)));
            self.clock.follow_ledger(self.offsets.add(sent, received, server_us));
        }

        fn ledger(&self, at_us: u64) -> (u64, u64) {
            let now = self.clock.at(self.instant(at_us));
            (now.ledger.0, now.ledger_err_ms.into())
        }
    }

    proptest! {
        /// Nodes of any speed and age and any round trips agree on T0 to a round trip and a millisecond,
        /// none is early, and each knows how late it may be.
        #[test]
        fn no_node_is_early_and_all_agree(
            nodes in proptest::collection::vec((0u64..1_000_000_000, -220i64..=220), 2..5),
            trips in proptest::collection::vec((0u64..5_000, 0u64..5_000), 8..40),
            quick in 50u64..400,
            epoch_us in 1_000_000_000u64..2_000_000_000_000_000,
            // Less than a round trip shows only with the next quick one.
            sets in proptest::collection::vec(
                (5usize..40, prop_oneof![-5_000_000i64..-12_000, 12_000i64..5_000_000]),
                0..3,
            ),
        ) {
            let mut nodes: Vec<_> = nodes.into_iter().map(|(b, r)| Node::new(b, r)).collect();
            let (mut set_us, mut since_set) = (0i64, 0usize);
            for (beat, (there, back)) in trips.into_iter().enumerate() {
                let start = beat as u64 * 250_000;
                for (_, by) in sets.iter().filter(|(at, _)| *at == beat) {
                    (set_us, since_set) = (set_us + by, 0);
                }
                since_set += 1;
                // One trip in four is as quick as they get.
                let (there, back) =
                    if beat % 4 == 3 { (quick / 2, quick / 2) } else { (there, back) };
                let server = |at: u64| (epoch_us + at).saturating_add_signed(set_us);
                for (at, node) in nodes.iter_mut().enumerate() {
                    let sent = start + at as u64 * 1_000;
                    node.sample(sent, sent + there + back, server(sent + there));
                }
                for ms in [20u64, 21, 100, 249] {
                    let at = start + ms * 1_000;
                    let truth = server(at) / 1_000;
                    for node in &nodes {
                        let (ledger, err) = node.ledger(at);
                        prop_assert!(ledger <= truth, "early: {ledger} of {truth}");
                        // Between two looks it may drift by less than another millisecond.
                        prop_assert!(truth <= ledger + err + 1, "{truth} after {ledger}, {err}");
                        if since_set > 4 {
                            prop_assert!(truth - ledger <= quick / 1_000 + 3, "late: {ledger} of {truth}");
                        }
                    }
                }
            }
        }
    }
}
