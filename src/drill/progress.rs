//! How a drill stands, every second: a line for people, or JSON for a program.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::tally::{Kind, Span};
use super::world::World;

/// How it stands; counts are since the start.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Milliseconds since T0, negative before it.
    pub since_t0_ms: i64,
    /// Pages asked for.
    pub pages: u64,
    /// Polls.
    pub polls: u64,
    /// Purchases, of people and bots.
    pub purchases: u64,
    /// Distinct orders that clients know of.
    pub sold: u64,
    /// Purchases by what was heard, of people and bots.
    pub heard: BTreeMap<String, u64>,
    /// Requests without an answer by cause.
    pub no_answer: BTreeMap<String, u64>,
    /// Requests under way.
    pub in_flight: u64,
    /// People and bots who have not come yet or still try to buy.
    pub away: u64,
    /// Connections open.
    pub connections: u64,
    /// 99 of 100 pages are faster; milliseconds.
    pub p99_page_ms: f64,
    /// 99 of 100 refusals are faster.
    pub p99_loser_ms: f64,
    /// 99 of 100 wins are faster.
    pub p99_winner_ms: f64,
}

impl Progress {
    pub(super) fn new(world: &World) -> Progress {
        let tally = world.tally();
        let now = Instant::now();
        let t0 = world.t0();
        let ms = |d: std::time::Duration| i64::try_from(d.as_millis()).unwrap_or(i64::MAX);
        let mut heard: BTreeMap<String, u64> = BTreeMap::new();
        for (label, n) in tally.heard.iter().chain(&tally.heard_by_bots) {
            *heard.entry((*label).to_owned()).or_default() += n;
        }
        let sent = |kind: Kind| tally.sent[kind as usize];
        let p99_ms = |span| tally.span(span).value_at_quantile(0.99) as f64 / 1_000.0;
        let under_way = tally.sent.iter().map(|s| s.sent - s.answered - s.no_answer).sum();
        Progress {
            since_t0_ms: if now >= t0 { ms(now - t0) } else { -ms(t0 - now) },
            pages: sent(Kind::Page).sent,
            polls: sent(Kind::Poll).sent,
            purchases: sent(Kind::Purchase).sent,
            sold: tally.sold(),
            heard,
            no_answer: tally.no_answer.iter().map(|(k, v)| ((*k).to_owned(), *v)).collect(),
            in_flight: under_way,
            away: tally.away(),
            connections: world.pool().open() as u64,
            p99_page_ms: p99_ms(Span::Page),
            p99_loser_ms: p99_ms(Span::Loser),
            p99_winner_ms: p99_ms(Span::Winner),
        }
    }

    /// One plain line.
    pub fn line(&self) -> String {
        let secs = self.since_t0_ms as f64 / 1_000.0;
        let lost: u64 = self.no_answer.values().sum();
        format!(
            "T{secs:+.0}s  pages {}  polls {}  purchases {}  sold {}  no answer {lost}  in flight {}",
            self.pages, self.polls, self.purchases, self.sold, self.in_flight
        )
    }
}
