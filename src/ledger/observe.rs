//! The shop's own numbers, where they lead. In turn for each reading:
//!
//! | if | answer |
//! |---|---|
//! | there is no such pool, or its stock is its own | `NotFollowed` |
//! | the reading began in another generation of the ledger's memory | `Late` |
//! | it did not begin after `not_before`, or began before the last one that counts | `Late` |
//! | the number is unknown | `Applied`: nobody is admitted until one is read that began later |
//! | else | `Applied`: `stock = confirmed_before + left` |
//!
//! A reading begins when the ledger is read, and the shop's number is read after that. So every unit in
//! `confirmed_before` is gone from `left` already, and no unit that is left counts twice. What is
//! confirmed meanwhile may be gone from `left` or not: both lower the room, and with orders in flight it
//! is the smaller number that counts.

use crate::clock::UnixMs;
use crate::ident::Name;
use crate::ledger::turn::Turn;
use crate::ledger::{STOCK_MAX, Shard};
use crate::sale::Mark;

/// What was read of the shop's numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observe {
    /// The generation of the ledger's memory in which the reading began.
    pub mark: Mark,
    /// When the ledger said `confirmed_before`, by its clock. The shop was asked later.
    pub read_at: UnixMs,
    /// One for each pool.
    pub readings: Vec<Reading>,
}

/// What was read of one pool's number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The pool.
    pub pool: Name,
    /// Units that the shop has left, 0 where it has sold too many; `None`: it does not say.
    pub left: Option<u64>,
    /// Units confirmed, as the ledger said before the shop was asked.
    pub confirmed_before: u64,
}

/// What became of a reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observed {
    /// The stock is what the shop says.
    Applied,
    /// A later one counts, or the ledger has changed too much since it began.
    Late,
    /// The shop's number does not lead here.
    NotFollowed,
}

/// One answer for each reading, in their order.
pub(super) fn observe<S: Shard>(turn: &mut Turn<'_, S>, seen: &Observe) -> Vec<Observed> {
    let mark = turn.state.mark();
    let read_at = seen.read_at.min(turn.now);
    let mut answers = Vec::new();
    for reading in &seen.readings {
        let pool = turn.state.pool_mut(reading.pool.as_str());
        let Some((pool, follow)) =
            pool.and_then(|pool| Some((&mut pool.stock, pool.follow.as_mut()?)))
        else {
            answers.push(Observed::NotFollowed);
            continue;
        };
        if seen.mark != mark || read_at <= follow.not_before || read_at < follow.read_at {
            answers.push(Observed::Late);
            continue;
        }
        match reading.left {
            None => follow.forget(read_at),
            Some(left) => {
                *pool = reading.confirmed_before.saturating_add(left).min(STOCK_MAX);
                follow.read_at = read_at;
                follow.empty_since = match (left, follow.empty_since) {
                    (1.., _) => UnixMs(0),
                    (0, UnixMs(0)) => read_at,
                    (0, since) => since,
                };
            }
        }
        answers.push(Observed::Applied);
    }
    answers
}
