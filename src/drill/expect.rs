//! What a drill is expected to show; a failed expectation ends it with exit code 5.

use serde::{Deserialize, Serialize};

use super::report::Report;

/// What is expected. None: anything goes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Expectations {
    /// Orders, exactly: as the built-in shop counts them, else as clients saw them.
    pub sold: Option<u64>,
    /// Requests without an answer, with a broken one or 5xx, at most.
    pub errors_max: Option<u64>,
    /// Users with more than one order, at most, to clients and to the shop.
    pub twice_max: Option<u64>,
    /// Wins before T0, at most.
    pub early_max: Option<u64>,
    /// 99 of 100 refusals faster than this.
    pub loser_p99_ms_max: Option<f64>,
}

/// One expectation, held against what was seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Checked {
    /// What.
    pub name: String,
    /// `=` or `<=`.
    pub relation: String,
    /// What was expected.
    pub want: f64,
    /// What was seen.
    pub got: f64,
    /// Whether it holds.
    pub holds: bool,
}

impl std::fmt::Display for Checked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let verdict = if self.holds { "ok    " } else { "FAILED" };
        let Checked { name, relation, want, got, .. } = self;
        write!(f, "{verdict}    {name} {relation} {want}: saw {got}")
    }
}

impl Expectations {
    /// Holds the report against each expectation there is.
    pub fn check(&self, report: &Report) -> Vec<Checked> {
        let shop = report.shop.as_ref();
        let sold = shop.map_or(report.sold, |shop| shop.orders - shop.cancelled);
        let twice = report.users_twice.max(shop.map_or(0, |shop| shop.users_twice));
        let loser = report.latency_ms.get("loser").map_or(0.0, |q| q.p99);
        let number = |n: Option<u64>| n.map(|n| n as f64);
        let rows = [
            ("sold", "=", number(self.sold), sold as f64),
            ("errors", "<=", number(self.errors_max), report.errors() as f64),
            ("users with two", "<=", number(self.twice_max), twice as f64),
            ("wins before T0", "<=", number(self.early_max), report.early as f64),
            ("p99 of losers in ms", "<=", self.loser_p99_ms_max, loser),
        ];
        let check = |(name, relation, want, got): (&str, &str, Option<f64>, f64)| {
            let want = want?;
            // Counts below 2^53 are exact in an f64.
            let holds = if relation == "=" { (got - want).abs() < 0.5 } else { got <= want };
            let (name, relation) = (name.to_owned(), relation.to_owned());
            Some(Checked { name, relation, want, got, holds })
        };
        rows.into_iter().filter_map(check).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shop::Stats;

    #[test]
    fn the_shops_count_wins_over_what_clients_saw() {
        let expected = Expectations { sold: Some(5), twice_max: Some(0), ..Default::default() };
        let mut report = Report { sold: 5, ..Report::default() };
        assert!(expected.check(&report).iter().all(|c| c.holds));
        report.shop = Some(Stats { orders: 6, users_twice: 1, ..Stats::default() });
        assert!(expected.check(&report).iter().all(|c| !c.holds));
        assert!(Expectations::default().check(&report).is_empty());
    }
}
