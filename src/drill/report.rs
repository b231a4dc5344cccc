//! How a drill went: JSON, and a text of at most 32 lines whose sums add up.

use std::collections::BTreeMap;
use std::fmt::Write;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::expect::Checked;
use super::tally::{Kind, Sent, Span};
use super::world::World;
use crate::shop::Stats;

/// Most lines of the text.
pub const LINES_MAX: usize = 32;

/// How a drill went. Every count is what clients saw, unless it stands in `shop`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// The URL.
    pub target: String,
    /// The seed that repeats it.
    pub seed: u64,
    /// Model of arrivals.
    pub arrival: String,
    /// People.
    pub people: u64,
    /// Bots.
    pub bots: u64,
    /// Whether everyone came from an address of their own.
    pub own_addresses: bool,
    /// Unix milliseconds of T0.
    pub opens_at_ms: u64,
    /// Milliseconds from the start to the end.
    pub took_ms: u64,
    /// Requests before the start, to see who is there and when the sale opens; counted nowhere else.
    pub probes: u64,
    /// Pages.
    pub page: Requests,
    /// Polls.
    pub poll: Requests,
    /// Purchases of people and bots.
    pub purchase: Requests,
    /// Connections that were opened.
    pub connections: u64,
    /// Pages and polls by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Answered purchases of people by what they heard.
    pub heard: BTreeMap<String, u64>,
    /// Answered purchases of bots by what they heard.
    pub heard_by_bots: BTreeMap<String, u64>,
    /// Requests without an answer by cause.
    pub no_answer: BTreeMap<String, u64>,
    /// What people came home with.
    pub people_fates: BTreeMap<String, u64>,
    /// What bots came home with.
    pub bot_fates: BTreeMap<String, u64>,
    /// Distinct orders that clients know of.
    pub sold: u64,
    /// Users with more than one order.
    pub users_twice: u64,
    /// Wins heard before T0.
    pub early: u64,
    /// Milliseconds from T0 to the first win.
    pub first_win_ms: Option<f64>,
    /// Milliseconds from T0 to the last win.
    pub last_win_ms: Option<f64>,
    /// Milliseconds from T0 to the first `sold_out`.
    pub first_sold_out_ms: Option<f64>,
    /// Latencies by kind, from the moment a request was due: `page`, `poll`, `winner`, `loser`,
    /// `other`, and `lag` of the drill itself.
    pub latency_ms: BTreeMap<String, Quantiles>,
    /// What the built-in shop counted, where there was one.
    pub shop: Option<Stats>,
    /// What was expected, and whether it was so.
    pub expected: Vec<Checked>,
}

/// Requests of one kind: `sent = answered + no_answer + cut`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requests {
    /// Begun.
    pub sent: u64,
    /// With a complete answer.
    pub answered: u64,
    /// Without one.
    pub no_answer: u64,
    /// Under way when the drill ended.
    pub cut: u64,
}

/// A distribution in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Quantiles {
    /// How many.
    pub count: u64,
    /// Half are faster.
    pub p50: f64,
    /// 9 of 10 are faster.
    pub p90: f64,
    /// 99 of 100 are faster.
    pub p99: f64,
    /// 999 of 1,000 are faster.
    pub p999: f64,
    /// The slowest.
    pub max: f64,
}

impl From<Sent> for Requests {
    fn from(sent: Sent) -> Requests {
        let Sent { sent, answered, no_answer } = sent;
        Requests { sent, answered, no_answer, cut: sent - answered - no_answer }
    }
}

impl Quantiles {
    fn of_us(histogram: &Histogram<u64>) -> Quantiles {
        let ms = |us: u64| us as f64 / 1_000.0;
        let at = |q| ms(histogram.value_at_quantile(q));
        Quantiles {
            count: histogram.len(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: ms(histogram.max()),
        }
    }
}

/// Names of the distributions, in the order of the report.
const SPANS: [(&str, Span); 6] = [
    ("page", Span::Page),
    ("poll", Span::Poll),
    ("winner", Span::Winner),
    ("loser", Span::Loser),
    ("other", Span::Other),
    ("lag", Span::Lag),
];

impl Report {
    pub(super) fn new(world: &World) -> Report {
        let tally = world.tally();
        let settings = world.settings();
        let (people, bots) = world.crowd();
        let opening = world.opening();
        let ms = |us: u64| us as f64 / 1_000.0;
        let requests = |kind: Kind| Requests::from(tally.sent[kind as usize]);
        let arrival = serde_json::to_value(settings.shape.arrival).ok();
        Report {
            target: settings.target.to_string(),
            seed: settings.shape.seed,
            arrival: arrival.and_then(|a| a.as_str().map(str::to_owned)).unwrap_or_default(),
            people: people as u64,
            bots: bots as u64,
            own_addresses: world.pool().has_own_addresses(),
            opens_at_ms: opening.start_wall.plus(opening.lead_ms()).0,
            took_ms: u64::try_from((Instant::now() - opening.start).as_millis()).unwrap_or(0),
            probes: opening.probes,
            page: requests(Kind::Page),
            poll: requests(Kind::Poll),
            purchase: requests(Kind::Purchase),
            connections: world.pool().opened(),
            statuses: tally.statuses.clone(),
            heard: owned(&tally.heard),
            heard_by_bots: owned(&tally.heard_by_bots),
            no_answer: owned(&tally.no_answer),
            people_fates: owned(&tally.fates(0..people)),
            bot_fates: owned(&tally.fates(people..people + bots)),
            sold: tally.sold(),
            users_twice: tally.users_twice(),
            early: tally.early,
            first_win_ms: tally.first_win_us.map(ms),
            last_win_ms: tally.last_win_us.map(ms),
            first_sold_out_ms: tally.first_sold_out_us.map(ms),
            latency_ms: SPANS
                .iter()
                .map(|(name, span)| ((*name).to_owned(), Quantiles::of_us(tally.span(*span))))
                .collect(),
            shop: None,
            expected: Vec::new(),
        }
    }

    /// Requests of all kinds.
    pub fn requests(&self) -> u64 {
        self.page.sent + self.poll.sent + self.purchase.sent
    }

    /// Requests that found no answer, a broken one, or 5xx.
    pub fn errors(&self) -> u64 {
        let broken: u64 = ["shop_error", "shop_busy", "unavailable", "bad_gateway", "internal"]
            .iter()
            .flat_map(|label| [self.heard.get(*label), self.heard_by_bots.get(*label)])
            .flatten()
            .sum();
        let failed: u64 = self.statuses.range(500..).map(|(_, n)| n).sum();
        broken + failed + self.no_answer.values().sum::<u64>()
    }

    /// The text, at most [`LINES_MAX`] lines of at most 100 characters or so.
    pub fn text(&self) -> String {
        let mut out = String::new();
        let own =
            if self.own_addresses { "each from an address of their own" } else { "one address" };
        let seconds = self.took_ms as f64 / 1_000.0;
        // Writing to a String cannot fail.
        let _ = writeln!(out, "DRILL {}", self.target);
        let _ = writeln!(
            out,
            "crowd     {} people + {} bots, {}, {own}, seed {}, {seconds:.1} s, {} connections",
            self.people, self.bots, self.arrival, self.seed, self.connections
        );
        self.requests_text(&mut out);
        self.purchases_text(&mut out);
        let _ = writeln!(
            out,
            "sold      {} orders seen by clients, {} users with two, {} before T0",
            self.sold, self.users_twice, self.early
        );
        let since = |ms: Option<f64>| ms.map_or("never".to_owned(), |ms| format!("T0 {ms:+.1} ms"));
        let _ = writeln!(
            out,
            "moments   first win {}, last win {}, first sold out {}",
            since(self.first_win_ms),
            since(self.last_win_ms),
            since(self.first_sold_out_ms)
        );
        self.latencies_text(&mut out);
        if let Some(shop) = &self.shop {
            let _ = writeln!(
                out,
                "shop      {} pages, {} order requests, {} orders, {} oversold, {} users with two, {} at once",
                shop.pages,
                shop.posts,
                shop.orders,
                shop.oversold(),
                shop.users_twice,
                shop.in_flight_max
            );
        }
        for checked in &self.expected {
            let _ = writeln!(out, "{checked}");
        }
        out
    }

    fn requests_text(&self, out: &mut String) {
        let _ = writeln!(
            out,
            "requests  {} pages + {} polls + {} purchases = {}",
            self.page.sent,
            self.poll.sent,
            self.purchase.sent,
            self.requests()
        );
        let answered = self.page.answered + self.poll.answered + self.purchase.answered;
        let cut = self.page.cut + self.poll.cut + self.purchase.cut;
        let none: u64 = self.no_answer.values().sum();
        let _ = writeln!(
            out,
            "          {answered} answered + {none} without an answer + {cut} cut at the end = {}",
            answered + none + cut
        );
        if none > 0 {
            let _ = writeln!(out, "no answer {}", sum_text(&self.no_answer));
        }
        let _ = writeln!(out, "statuses  {} (pages and polls)", sum_text(&self.statuses));
    }

    fn purchases_text(&self, out: &mut String) {
        wrapped(out, "heard", &self.heard);
        if self.bots > 0 {
            wrapped(out, "bots", &self.heard_by_bots);
        }
        let people: BTreeMap<&String, u64> =
            self.people_fates.iter().filter(|(_, n)| **n > 0).map(|(k, n)| (k, *n)).collect();
        let _ = writeln!(out, "people    {}", sum_text(&people));
    }

    fn latencies_text(&self, out: &mut String) {
        let _ = writeln!(
            out,
            "latency in ms from the due moment:  count      p50      p90      p99    p99.9      max"
        );
        for (name, _) in SPANS {
            let Some(q) = self.latency_ms.get(name).filter(|q| q.count > 0) else { continue };
            let name = if name == "lag" { "(the drill's own lateness)" } else { name };
            let _ = writeln!(
                out,
                "  {name:<28} {:>10} {:>8.1} {:>8.1} {:>8.1} {:>8.1} {:>8.1}",
                q.count, q.p50, q.p90, q.p99, q.p999, q.max
            );
        }
    }
}

/// `3 a + 4 b = 7`.
pub fn sum_text<K: std::fmt::Display>(parts: &BTreeMap<K, u64>) -> String {
    if parts.is_empty() {
        return "0".to_owned();
    }
    let mut largest_first: Vec<(&K, &u64)> = parts.iter().collect();
    largest_first.sort_by(|a, b| b.1.cmp(a.1));
    let total: u64 = parts.values().sum();
    let parts: Vec<String> = largest_first.iter().map(|(name, n)| format!("{n} {name}")).collect();
    format!("{} = {total}", parts.join(" + "))
}

/// The sum on at most two lines: what does not fit is added up as `others`.
fn wrapped(out: &mut String, name: &str, parts: &BTreeMap<String, u64>) {
    const PARTS_MAX: usize = 6;
    let mut largest: Vec<(&String, &u64)> = parts.iter().collect();
    largest.sort_by(|a, b| b.1.cmp(a.1));
    let mut shown: BTreeMap<String, u64> =
        largest.iter().take(PARTS_MAX).map(|(k, n)| ((*k).clone(), **n)).collect();
    let others: u64 = largest.iter().skip(PARTS_MAX).map(|(_, n)| **n).sum();
    if others > 0 {
        shown.insert("others".to_owned(), others);
    }
    let _ = writeln!(out, "{name:<9} {}", sum_text(&shown));
}

fn owned(counts: &BTreeMap<&'static str, u64>) -> BTreeMap<String, u64> {
    counts.iter().map(|(label, n)| ((*label).to_owned(), *n)).collect()
}

#[cfg(test)]
mod tests;
