//! A sale as the ledger holds it: the declared limits, the counters and the latches.

use serde::{Deserialize, Serialize};

use crate::clock::UnixMs;
use crate::config::schema::{PerUser, Restock};
use crate::config::stock::Stock;
use crate::ident::{Name, SaleId, Salt, ServerId};
use crate::sale::Follow;

/// A sale as the ledger holds it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SaleState {
    /// Site and sale.
    pub id: SaleId,
    /// The activity that is sold.
    pub activity: Name,
    /// Generation: a restock begins a new one. From 1.
    pub epoch: u32,
    /// Rises with every change that readers must see.
    pub version: u64,
    /// The last JSON declaration that was applied; 0 if none was.
    pub revision: u64,
    /// Hashes of the last 16 declarations that were applied, oldest first.
    pub applied: Vec<u64>,
    /// T0.
    pub opens_at: UnixMs,
    /// The end, if it has a time.
    pub ends_at: Option<UnixMs>,
    /// The operator paused purchases.
    pub paused: bool,
    /// The operator's word that the sale is over.
    pub ended: bool,
    /// The operator's word, or the latch of all pools.
    pub sold_out: bool,
    /// Admissions in flight per 1,000 unsold units.
    pub overshoot_permille: u32,
    /// What one user may buy.
    pub per_user: PerUser,
    /// What becomes of units that come back.
    pub restock: Restock,
    /// With the policy `auto`: so many units that came back open a pool again.
    #[serde(default)]
    pub restock_batch: u64,
    /// With the policy `auto`: how long a batch waits for more, in milliseconds.
    #[serde(default)]
    pub restock_debounce_ms: u64,
    /// Key of the users' hashes.
    pub salt: Salt,
    /// The server whose memory this ledger is. Another one may have lost what the last one knew.
    #[serde(default)]
    pub server: ServerId,
    /// How often claims were frozen because the ledger may have forgotten something.
    #[serde(default)]
    pub fences: u64,
    /// Until then nobody is admitted: the nodes re-assert what they know.
    #[serde(default)]
    pub learn_until: UnixMs,
    /// Rises with every operation that changed a record. A ledger that is behind what a node has seen
    /// has forgotten something.
    #[serde(default)]
    pub seq: u64,
    /// Ids of the last commands that added units, oldest first. They are a part of the state: whoever
    /// saw the units saw the id, so that what is re-asserted is never added twice.
    #[serde(default)]
    pub ids: Vec<String>,
    /// The stock numbers, in the order of their names.
    pub pools: Vec<PoolState>,
}

impl SaleState {
    /// A sale of which nothing is declared: open since ever, without an end, with nothing to sell.
    pub fn new(id: SaleId, activity: Name) -> SaleState {
        SaleState {
            id,
            activity,
            epoch: 1,
            version: 1,
            revision: 0,
            applied: Vec::new(),
            opens_at: UnixMs(0),
            ends_at: None,
            paused: false,
            ended: false,
            sold_out: false,
            overshoot_permille: 1000,
            per_user: PerUser::default(),
            restock: Restock::default(),
            restock_batch: 1,
            restock_debounce_ms: 0,
            salt: Salt::default(),
            server: ServerId::default(),
            fences: 0,
            learn_until: UnixMs(0),
            seq: 0,
            ids: Vec::new(),
            pools: Vec::new(),
        }
    }
}

/// One generation of the ledger's memory: what was re-asserted to one must be re-asserted to the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Mark {
    /// The server.
    pub server: ServerId,
    /// How often claims were frozen before.
    pub fences: u64,
}

/// One stock number. `held` and `limbo` count units whose outcome is open.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PoolState {
    /// The pool's id.
    pub name: Name,
    /// Units for sale.
    pub stock: u64,
    /// Units the shop took orders for.
    pub confirmed: u64,
    /// Units admitted (A) or pending (P).
    pub held: u64,
    /// Units whose outcome is unknown (L).
    pub limbo: u64,
    /// The latch: sold out in this epoch.
    pub sold_out: bool,
    /// The operator's word latched it: no policy opens it again.
    #[serde(default)]
    pub held_back: bool,
    /// With the policy `auto`: since when a batch of its units is back; 0: it is not.
    #[serde(default)]
    pub back_since: UnixMs,
    /// The stock is the shop's number, read from there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follow: Option<Follow>,
}

impl PoolState {
    /// A pool as it is declared. Where the shop's number leads, nobody has read it yet.
    pub fn declared(name: Name, stock: &Stock) -> PoolState {
        let follow = stock.source().cloned().map(Follow::new);
        PoolState { follow, ..PoolState::new(name, stock.own().unwrap_or(0)) }
    }

    /// A pool nobody has bought from.
    pub fn new(name: Name, stock: u64) -> PoolState {
        PoolState {
            name,
            stock,
            confirmed: 0,
            held: 0,
            limbo: 0,
            sold_out: false,
            held_back: false,
            back_since: UnixMs(0),
            follow: None,
        }
    }

    /// Whether it is known how many units there are: always, but where the shop's number leads.
    pub fn is_known_at(&self, now: UnixMs) -> bool {
        self.follow.as_ref().is_none_or(|follow| follow.is_known_at(now))
    }

    /// Units that may be admitted now; negative after an operator lowered the stock. How old the shop's
    /// number is, is asked apart ([`PoolState::is_known_at`]).
    pub fn room(&self, overshoot_permille: u32) -> i64 {
        let is_unknown = self.follow.as_ref().is_some_and(|f| f.read_at == UnixMs(0));
        let unsold = if is_unknown { 0 } else { self.stock.saturating_sub(self.confirmed) };
        let unsold = u128::from(unsold);
        let window =
            i64::try_from(unsold * u128::from(overshoot_permille) / 1000).unwrap_or(i64::MAX);
        let open = i64::try_from(self.held.saturating_add(self.limbo)).unwrap_or(i64::MAX);
        window.saturating_sub(open)
    }

    /// Units that nobody has: of a pool that is latched, those that came back.
    pub fn free(&self) -> u64 {
        let taken = self.confirmed.saturating_add(self.held).saturating_add(self.limbo);
        self.stock.saturating_sub(taken)
    }

    /// Whether the latch's condition holds (DESIGN section 4). Where the shop's number leads, units that
    /// are in it and in our counters are counted twice for a moment: the shop itself must have said
    /// that nothing is left, and not once only.
    pub fn is_exhausted_at(&self, now: UnixMs) -> bool {
        self.held == 0
            && self.confirmed.saturating_add(self.limbo) >= self.stock
            && self.follow.as_ref().is_none_or(|follow| follow.is_empty_at(now))
    }
}

impl SaleState {
    /// The pool called `name`.
    pub fn pool(&self, name: &str) -> Option<&PoolState> {
        self.pools.iter().find(|p| p.name.as_str() == name)
    }

    /// The pool called `name`, to change it.
    pub fn pool_mut(&mut self, name: &str) -> Option<&mut PoolState> {
        self.pools.iter_mut().find(|p| p.name.as_str() == name)
    }

    /// Whether `other` is this sale at the same version: all that the public is told is equal, and at
    /// most the counters differ.
    pub fn says_the_same(&self, other: &SaleState) -> bool {
        let no_limbo = |state: &SaleState| state.pools.iter().all(|p| p.limbo == 0);
        (self.epoch, self.version, self.sold_out, self.paused, self.ended)
            == (other.epoch, other.version, other.sold_out, other.paused, other.ended)
            && no_limbo(self) == no_limbo(other)
    }

    /// The generation of the ledger's memory.
    pub fn mark(&self) -> Mark {
        Mark { server: self.server, fences: self.fences }
    }

    /// Whether the nodes re-assert what they know, at ledger time `now`: nobody is admitted.
    pub fn is_learning_at(&self, now: UnixMs) -> bool {
        now < self.learn_until
    }

    /// Whether units of `pool` have come back that the policy sells again.
    pub fn is_back(&self, pool: &PoolState) -> bool {
        self.restock == Restock::Auto
            && pool.sold_out
            && !pool.held_back
            && pool.free() >= self.restock_batch.max(1)
    }

    /// Whether the sale is over at ledger time `now`.
    pub fn is_ended_at(&self, now: UnixMs) -> bool {
        self.ended || self.ends_at.is_some_and(|end| now >= end)
    }
}
