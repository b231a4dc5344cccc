//! What is counted: requests and answers by kind, what people came home with, latencies.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use hdrhistogram::Histogram;
use serde::Serialize;

use super::client::NoAnswer;
use super::hear::{Heard, Meaning};

/// Kinds of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A page.
    Page,
    /// A look at the availability flag.
    Poll,
    /// A purchase.
    Purchase,
}

/// Latencies are kept apart by these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    /// Pages.
    Page,
    /// Polls.
    Poll,
    /// Purchases that won.
    Winner,
    /// Purchases that were refused, without the shop where there is a gate.
    Loser,
    /// Purchases that reached the shop and won nothing, or got no answer.
    Other,
    /// From the due moment to the first byte written: our own lateness, and waiting for a connection.
    Lag,
}

/// Requests of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sent {
    /// Begun.
    pub sent: u64,
    /// With a complete answer.
    pub answered: u64,
    /// Without one.
    pub no_answer: u64,
}

/// What someone came home with. The greater one counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// The drill ended before they did.
    #[default]
    Unfinished,
    /// They only looked.
    Looked,
    /// No connection, to the end.
    Unreachable,
    /// Still told to wait when they gave up.
    GaveUp,
    /// Refused for good: a limit, no login, an ended sale.
    Refused,
    /// Sold out.
    SoldOut,
    /// Nobody could tell them.
    Unknown,
    /// An order.
    Won,
}

impl Fate {
    /// All of them, best first.
    pub const ALL: [Fate; 8] = [
        Fate::Won,
        Fate::Unknown,
        Fate::SoldOut,
        Fate::Refused,
        Fate::GaveUp,
        Fate::Unreachable,
        Fate::Looked,
        Fate::Unfinished,
    ];

    /// Name in reports.
    pub fn label(self) -> &'static str {
        match self {
            Fate::Won => "won",
            Fate::Unknown => "unknown",
            Fate::SoldOut => "sold_out",
            Fate::Refused => "refused",
            Fate::GaveUp => "gave_up",
            Fate::Unreachable => "unreachable",
            Fate::Looked => "looked",
            Fate::Unfinished => "unfinished",
        }
    }
}

/// Everything that is counted.
#[derive(Debug)]
pub struct Tally {
    /// Requests by [`Kind`].
    pub sent: [Sent; 3],
    /// Purchases of people by what they heard.
    pub heard: BTreeMap<&'static str, u64>,
    /// Purchases of bots by what they heard.
    pub heard_by_bots: BTreeMap<&'static str, u64>,
    /// Requests without an answer by cause, of all kinds.
    pub no_answer: BTreeMap<&'static str, u64>,
    /// Pages and polls by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Order numbers, and who got each.
    pub orders: HashMap<String, u32>,
    /// Wins of whom nobody told the order's number, by user.
    pub unnumbered: BTreeSet<u32>,
    /// Wins that were heard before T0.
    pub early: u64,
    /// Microseconds from T0 to the first win heard.
    pub first_win_us: Option<u64>,
    /// Microseconds from T0 to the last win heard.
    pub last_win_us: Option<u64>,
    /// Microseconds from T0 to the first `sold_out` heard.
    pub first_sold_out_us: Option<u64>,
    fates: Vec<Option<Fate>>,
    /// How many have gone home, and perhaps only watch from there.
    at_home: u64,
    spans: [Histogram<u64>; 6],
}

impl Tally {
    /// Nothing yet, for so many people and bots together.
    pub fn new(users: usize) -> Tally {
        Tally {
            sent: Default::default(),
            heard: BTreeMap::new(),
            heard_by_bots: BTreeMap::new(),
            no_answer: BTreeMap::new(),
            statuses: BTreeMap::new(),
            orders: HashMap::new(),
            unnumbered: BTreeSet::new(),
            early: 0,
            first_win_us: None,
            last_win_us: None,
            first_sold_out_us: None,
            fates: vec![None; users],
            at_home: 0,
            spans: std::array::from_fn(|_| crate::shop::order::latencies()),
        }
    }

    /// Requests of one kind.
    pub fn of(&mut self, kind: Kind) -> &mut Sent {
        &mut self.sent[kind as usize]
    }

    /// Records a latency in microseconds.
    pub fn took(&mut self, span: Span, us: u64) {
        self.spans[span as usize].saturating_record(us);
    }

    /// Latencies in microseconds.
    pub fn span(&self, span: Span) -> &Histogram<u64> {
        &self.spans[span as usize]
    }

    /// Counts a request without an answer.
    pub fn unanswered(&mut self, kind: Kind, cause: NoAnswer) {
        self.of(kind).no_answer += 1;
        *self.no_answer.entry(cause.label()).or_default() += 1;
    }

    /// Counts what `user` heard, `since_t0_us` after T0; None is before it.
    pub fn hear(&mut self, user: u32, is_bot: bool, heard: &Heard, since_t0_us: Option<u64>) {
        let by_label = if is_bot { &mut self.heard_by_bots } else { &mut self.heard };
        *by_label.entry(heard.label).or_default() += 1;
        match &heard.meaning {
            Meaning::Won(order) => {
                match order {
                    Some(order) => {
                        self.orders.entry(order.clone()).or_insert(user);
                    }
                    None => {
                        self.unnumbered.insert(user);
                    }
                }
                match since_t0_us {
                    None => self.early += 1,
                    Some(us) => {
                        self.first_win_us.get_or_insert(us);
                        self.last_win_us = Some(us);
                    }
                }
            }
            Meaning::SoldOut => {
                self.first_sold_out_us.get_or_insert(since_t0_us.unwrap_or(0));
            }
            _ => {}
        }
    }

    /// What `user` came home with, unless they had something better already.
    pub fn home(&mut self, user: u32, fate: Fate) {
        if let Some(known) = self.fates.get_mut(user as usize) {
            self.at_home += u64::from(known.is_none());
            *known = Some(known.map_or(fate, |before| before.max(fate)));
        }
    }

    /// How many of the users in `range` came home with each.
    pub fn fates(&self, range: std::ops::Range<usize>) -> BTreeMap<&'static str, u64> {
        let mut out: BTreeMap<_, _> = Fate::ALL.iter().map(|fate| (fate.label(), 0)).collect();
        for fate in self.fates.get(range).unwrap_or_default() {
            *out.entry(fate.unwrap_or_default().label()).or_default() += 1;
        }
        out
    }

    /// How many have not gone home yet.
    pub fn away(&self) -> u64 {
        self.fates.len() as u64 - self.at_home
    }

    /// Distinct orders that clients know of.
    pub fn sold(&self) -> u64 {
        let numbered: BTreeSet<u32> = self.orders.values().copied().collect();
        let unnumbered = self.unnumbered.difference(&numbered).count();
        (self.orders.len() + unnumbered) as u64
    }

    /// Users with more than one order.
    pub fn users_twice(&self) -> u64 {
        let mut by_user: HashMap<u32, u32> = HashMap::new();
        for user in self.orders.values() {
            *by_user.entry(*user).or_default() += 1;
        }
        by_user.values().filter(|n| **n > 1).count() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn won(order: Option<&str>) -> Heard {
        let meaning = Meaning::Won(order.map(str::to_owned));
        Heard { label: "sold", meaning, from_shop: true }
    }

    #[test]
    fn orders_are_counted_once_and_twice_means_two_numbers() {
        let mut tally = Tally::new(4);
        tally.hear(0, false, &won(Some("S1")), Some(5));
        tally.hear(0, false, &won(Some("S1")), Some(6));
        tally.hear(0, false, &won(None), Some(7));
        tally.hear(1, false, &won(Some("S2")), None);
        tally.hear(2, true, &won(None), Some(9));
        assert_eq!((tally.sold(), tally.users_twice(), tally.early), (3, 0, 1));
        assert_eq!((tally.first_win_us, tally.last_win_us), (Some(5), Some(9)));
        tally.hear(1, false, &won(Some("S3")), Some(9));
        assert_eq!((tally.sold(), tally.users_twice()), (4, 1));
        assert_eq!((tally.heard["sold"], tally.heard_by_bots["sold"]), (5, 1));
    }

    #[test]
    fn fates_add_up_and_the_best_one_stays() {
        let mut tally = Tally::new(3);
        tally.home(0, Fate::Won);
        tally.home(0, Fate::SoldOut);
        tally.home(2, Fate::GaveUp);
        assert_eq!(tally.away(), 1);
        let fates = tally.fates(0..3);
        assert_eq!(fates.values().sum::<u64>(), 3);
        assert_eq!((fates["won"], fates["gave_up"], fates["unfinished"]), (1, 1, 1));
    }
}
