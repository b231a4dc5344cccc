//! One sale at one version, with what every request needs ready made.

use std::sync::Arc;

use super::heard::Heard;
use super::memo::Memo;
use super::rosters::Rosters;
use super::state::SaleState;
use crate::clock::{Now, UnixMs};
use crate::config::schema::Restock;
use crate::outcome::Reason;

/// What the public is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Availability {
    /// Before T0.
    NotStarted,
    /// Between T0 and the end, with stock.
    Available,
    /// Every pool is sold.
    SoldOut,
    /// Over.
    Ended,
}

impl Availability {
    /// The word on the wire.
    pub fn label(self) -> &'static str {
        match self {
            Availability::NotStarted => "not_started",
            Availability::Available => "available",
            Availability::SoldOut => "sold_out",
            Availability::Ended => "ended",
        }
    }
}

/// Why an available sale cannot be bought from now, or how sure the answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hint {
    /// The operator paused purchases.
    Paused,
    /// Every unit is held by an order in flight, or the shop's own number is not known.
    Busy,
    /// The store has not been heard for more than 500 ms.
    Stale,
}

impl Hint {
    /// The word on the wire.
    pub fn label(self) -> &'static str {
        match self {
            Hint::Paused => "paused",
            Hint::Busy => "busy",
            Hint::Stale => "stale",
        }
    }
}

/// A sale at one instant: what page, flag and gate agree on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// The public state.
    pub availability: Availability,
    /// May a purchase be tried now.
    pub buyable: bool,
    /// Why not, or how sure.
    pub hint: Option<Hint>,
    /// Whether the state will never change again: stop polling.
    pub is_final: bool,
    /// Why a purchase is refused before anything else is looked at; `None` where it is not.
    pub refusal: Option<Reason>,
    /// The next instant at which time alone changes the state.
    pub next_edge: Option<UnixMs>,
    /// Milliseconds since the store was heard.
    pub age_ms: u64,
}

/// Beyond this the answer says that it is stale, in milliseconds.
pub const STALE_AFTER_MS: u64 = 500;

/// A purchase is refused locally when the store was not heard for so long, in milliseconds. The store
/// client's breaker refuses much earlier; this bounds a mirror that hangs without an error.
pub const DEAF_AFTER_MS: u64 = 10_000;

/// Room must have been 0 for so long before `busy` shows, in milliseconds.
pub const BUSY_AFTER_MS: u64 = 500;

/// One sale at one version. A request loads it once and uses it to the end.
#[derive(Debug)]
pub struct SaleSnapshot {
    /// What the ledger holds.
    pub state: SaleState,
    /// When the store was last heard about this sale; shared by the sale's snapshots.
    heard: Arc<Heard>,
    /// Ready-made answers; shared by the snapshots that say the same to the public.
    memo: Arc<Memo>,
    /// Lists of users; shared by the sale's snapshots.
    rosters: Arc<Rosters>,
    /// Whether a pool's stock is the shop's own number.
    follows: bool,
}

impl SaleSnapshot {
    /// The first snapshot of a sale.
    pub fn new(state: SaleState) -> SaleSnapshot {
        let follows = follows(&state);
        let (heard, memo, rosters) = Default::default();
        SaleSnapshot { state, heard, memo, rosters, follows }
    }

    /// The snapshot that follows this one. Ready-made answers are kept where only counters moved.
    pub fn next(&self, state: SaleState) -> SaleSnapshot {
        let memo =
            if self.state.says_the_same(&state) { self.memo.clone() } else { Arc::default() };
        let follows = follows(&state);
        let (heard, rosters) = (self.heard.clone(), self.rosters.clone());
        SaleSnapshot { state, heard, memo, rosters, follows }
    }

    /// What is shared by all snapshots of the sale.
    pub fn heard(&self) -> &Heard {
        &self.heard
    }

    /// Lists of users.
    pub fn rosters(&self) -> &Rosters {
        &self.rosters
    }

    /// Ready-made answers about what this snapshot says to the public.
    pub fn memo(&self) -> &Memo {
        &self.memo
    }

    /// The sale at `now`. Page, flag and gate all call this: operator's word > ended > sold out > time.
    pub fn at(&self, now: &Now) -> View {
        let state = &self.state;
        let availability = if state.is_ended_at(now.ledger) {
            Availability::Ended
        } else if state.sold_out {
            Availability::SoldOut
        } else if now.ledger < state.opens_at {
            Availability::NotStarted
        } else {
            Availability::Available
        };
        let age_ms = now.mono.since(self.heard.at());
        let hint = self.hint(availability, now, age_ms);
        let refusal = match availability {
            Availability::NotStarted => Some(Reason::NotStarted),
            Availability::Ended => Some(Reason::Ended),
            Availability::SoldOut => Some(Reason::SoldOut),
            Availability::Available if state.paused => Some(Reason::Paused),
            Availability::Available => None,
        };
        View {
            availability,
            buyable: availability == Availability::Available
                && !matches!(hint, Some(Hint::Paused | Hint::Busy)),
            hint,
            is_final: self.is_final(availability),
            refusal,
            next_edge: match availability {
                Availability::NotStarted => Some(state.opens_at),
                Availability::Available | Availability::SoldOut => state.ends_at,
                Availability::Ended => None,
            },
            age_ms,
        }
    }

    fn hint(&self, availability: Availability, now: &Now, age_ms: u64) -> Option<Hint> {
        let is_full_since = |since| now.mono.since(since) >= BUSY_AFTER_MS;
        let is_busy = self.heard.full_since().is_some_and(is_full_since)
            || self.follows && !self.has_known(now.ledger);
        match availability {
            Availability::SoldOut | Availability::Ended => None,
            Availability::Available if self.state.paused => Some(Hint::Paused),
            Availability::Available if is_busy => Some(Hint::Busy),
            _ => (age_ms > STALE_AFTER_MS).then_some(Hint::Stale),
        }
    }

    /// Whether it is known of some pool how many units there are.
    fn has_known(&self, now: UnixMs) -> bool {
        self.state.pools.iter().any(|pool| !pool.sold_out && pool.is_known_at(now))
    }

    /// Whether this state will never change again.
    pub fn is_final(&self, availability: Availability) -> bool {
        match availability {
            Availability::Ended => true,
            Availability::SoldOut => {
                self.state.restock == Restock::Never
                    && self.state.pools.iter().all(|p| p.limbo == 0)
            }
            Availability::NotStarted | Availability::Available => false,
        }
    }
}

fn follows(state: &SaleState) -> bool {
    state.pools.iter().any(|pool| pool.follow.is_some())
}
