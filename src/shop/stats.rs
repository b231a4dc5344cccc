//! What the shop counts, as `GET /_shop/stats` shows it.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::stock::PoolStock;

/// Everything the shop has counted since its start or last reset.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    /// Requests for activity pages.
    pub pages: u64,
    /// Requests for static files.
    pub assets: u64,
    /// Requests for anything else, `/_shop/` apart.
    pub others: u64,
    /// Order requests that arrived.
    pub posts: u64,
    /// Orders made, cancelled ones included.
    pub orders: u64,
    /// Units of those orders.
    pub units: u64,
    /// Orders cancelled later.
    pub cancelled: u64,
    /// Units of those.
    pub units_cancelled: u64,
    /// Users with more than one order that was not cancelled.
    pub users_twice: u64,
    /// Answers `sold out`.
    pub sold_out: u64,
    /// Definite failures of the error model.
    pub declined: u64,
    /// Answers 500 before an order was made.
    pub errors_before: u64,
    /// Answers 500 although the order was made.
    pub errors_after: u64,
    /// Closed without an answer before an order was made.
    pub dropped_before: u64,
    /// Closed without an answer although the order was made.
    pub dropped_after: u64,
    /// Refused because too many waited.
    pub busy: u64,
    /// Refused for other reasons: no user, unknown pool, bad body.
    pub invalid: u64,
    /// Repeats that got the first order again.
    pub repeated: u64,
    /// Order requests with a `Penstock-Admission`.
    pub with_admission: u64,
    /// Order requests under way.
    pub in_flight: u64,
    /// The most at once.
    pub in_flight_max: u64,
    /// Orders between the check of the stock and their making.
    pub in_gap: u64,
    /// Unix milliseconds of the first order request, 0 if none.
    pub first_post_ms: u64,
    /// Unix milliseconds of the last order request, 0 if none.
    pub last_post_ms: u64,
    /// Each pool.
    pub stock: BTreeMap<String, PoolStock>,
    /// Milliseconds from an order request's arrival to its answer.
    pub latency_ms: Latency,
}

/// Percentiles of a histogram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// How many were measured.
    pub count: u64,
    /// Half are faster.
    pub p50: f64,
    /// 99 of 100 are faster.
    pub p99: f64,
    /// The slowest.
    pub max: f64,
}

impl Latency {
    /// Milliseconds from a histogram of microseconds.
    pub fn of_us(histogram: &Histogram<u64>) -> Latency {
        let ms = |us: u64| us as f64 / 1_000.0;
        Latency {
            count: histogram.len(),
            p50: ms(histogram.value_at_quantile(0.50)),
            p99: ms(histogram.value_at_quantile(0.99)),
            max: ms(histogram.max()),
        }
    }
}

impl Stats {
    /// Order requests that were answered or dropped: equals `posts - in_flight`.
    pub fn posts_ended(&self) -> u64 {
        let made_and_told = self.orders - self.errors_after - self.dropped_after;
        made_and_told
            + self.sold_out
            + self.declined
            + self.errors_before
            + self.errors_after
            + self.dropped_before
            + self.dropped_after
            + self.busy
            + self.invalid
            + self.repeated
    }

    /// Units sold and not cancelled beyond the stock, over all pools.
    pub fn oversold(&self) -> u64 {
        self.stock.values().map(|pool| u64::try_from(-pool.left).unwrap_or(0)).sum()
    }
}
