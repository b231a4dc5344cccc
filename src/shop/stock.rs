//! The shop's own stock: one number for each pool, checked well, badly or not at all.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How an order is checked against the stock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum StockCheck {
    /// Look first, decrement later: oversells under load, on purpose.
    #[default]
    Naive,
    /// Look and decrement in one step.
    Atomic,
    /// Sell whatever is asked for.
    None,
}

/// One pool, as the shop counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolStock {
    /// Units at the start.
    pub stock: u64,
    /// Units left; below 0 when oversold.
    pub left: i64,
}

/// All pools.
#[derive(Clone, Debug)]
pub struct Stock {
    check: StockCheck,
    pools: BTreeMap<String, PoolStock>,
}

/// What the first look at the stock gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Looked {
    /// Enough is there; the units are still to be taken.
    Enough,
    /// The units were taken in the same step.
    Taken,
    /// Not enough is left.
    SoldOut,
    /// There is no such pool.
    Unknown,
}

impl Stock {
    /// Full pools.
    pub fn new(check: StockCheck, pools: &BTreeMap<String, u64>) -> Stock {
        let full = |stock: u64| PoolStock { stock, left: signed(stock) };
        let pools = pools.iter().map(|(id, n)| (id.clone(), full(*n))).collect();
        Stock { check, pools }
    }

    /// The check that comes first.
    pub fn look(&mut self, pool: &str, units: u64) -> Looked {
        let Some(entry) = self.pools.get_mut(pool) else { return Looked::Unknown };
        match self.check {
            StockCheck::None => Looked::Enough,
            _ if entry.left < signed(units) => Looked::SoldOut,
            StockCheck::Naive => Looked::Enough,
            StockCheck::Atomic => {
                entry.left -= signed(units);
                Looked::Taken
            }
        }
    }

    /// Takes units that [`Stock::look`] only looked at. Nobody checks again: that is the flaw.
    pub fn take(&mut self, pool: &str, units: u64) {
        self.change(pool, -signed(units));
    }

    /// Puts units back, of a cancelled order or of one that failed after they were taken.
    pub fn put_back(&mut self, pool: &str, units: u64) {
        self.change(pool, signed(units));
    }

    /// The pools as they stand.
    pub fn pools(&self) -> &BTreeMap<String, PoolStock> {
        &self.pools
    }

    fn change(&mut self, pool: &str, by: i64) {
        if let Some(entry) = self.pools.get_mut(pool) {
            entry.left = entry.left.saturating_add(by);
        }
    }
}

fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(check: StockCheck) -> Stock {
        Stock::new(check, &BTreeMap::from([("a".to_owned(), 1)]))
    }

    #[test]
    fn naive_lets_two_look_before_one_takes() {
        let mut stock = one(StockCheck::Naive);
        assert_eq!(stock.look("a", 1), Looked::Enough);
        assert_eq!(stock.look("a", 1), Looked::Enough);
        stock.take("a", 1);
        stock.take("a", 1);
        assert_eq!(stock.pools()["a"].left, -1);
        assert_eq!(stock.look("a", 1), Looked::SoldOut);
    }

    #[test]
    fn atomic_does_not() {
        let mut stock = one(StockCheck::Atomic);
        assert_eq!(stock.look("a", 1), Looked::Taken);
        assert_eq!(stock.look("a", 1), Looked::SoldOut);
        stock.put_back("a", 1);
        assert_eq!(stock.look("a", 2), Looked::SoldOut);
        assert_eq!(stock.look("a", 1), Looked::Taken);
        assert_eq!(stock.look("b", 1), Looked::Unknown);
    }

    #[test]
    fn none_sells_everything() {
        let mut stock = one(StockCheck::None);
        assert_eq!(stock.look("a", 9), Looked::Enough);
    }
}
