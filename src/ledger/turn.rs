//! One operation under way: the sale that it changes, and what happens at its end.

use crate::clock::UnixMs;
use crate::ident::UserKey;
use crate::ledger::{Due, Record, RecordKind, Shard};
use crate::sale::{Follow, PoolState, SaleState};

/// One operation's turn at a sale.
#[derive(Debug)]
pub(super) struct Turn<'a, S> {
    pub(super) shard: &'a mut S,
    /// The sale as the operation leaves it so far.
    pub(super) state: SaleState,
    pub(super) now: UnixMs,
    before: SaleState,
    /// Whether the version rises whatever is different.
    pub(super) rises: bool,
    /// Whether the ledger knew nothing of the sale a moment ago.
    pub(super) is_restored: bool,
    /// Whether records were written.
    wrote: bool,
}

impl<'a, S: Shard> Turn<'a, S> {
    pub(super) fn new(shard: &'a mut S, state: SaleState, now: UnixMs) -> Turn<'a, S> {
        let before = state.clone();
        let (rises, is_restored, wrote) = Default::default();
        let mut turn = Turn { shard, state, now, before, rises, is_restored, wrote };
        if turn.state.learn_until != UnixMs(0) {
            turn.latch();
        }
        turn
    }

    /// Latches what is sold, unless the ledger is learning.
    fn latch(&mut self) {
        if !self.state.is_learning_at(self.now) {
            for pool in &mut self.state.pools {
                pool.sold_out |= pool.is_exhausted_at(self.now);
            }
            self.state.learn_until = UnixMs(0);
        }
        self.state.sold_out = self.state.pools.iter().all(|p| p.sold_out);
    }

    /// A sale that the ledger has lost, as a node knew it: nobody has bought yet, as far as is known.
    pub(super) fn restored(shard: &'a mut S, known: SaleState, now: UnixMs) -> Turn<'a, S> {
        let pools = known
            .pools
            .iter()
            .map(|p| PoolState {
                sold_out: p.sold_out,
                held_back: p.held_back,
                follow: forgotten(p, now),
                ..PoolState::new(p.name.clone(), p.stock)
            })
            .collect();
        let state = SaleState { pools, ..known };
        Turn { rises: true, is_restored: true, ..Turn::new(shard, state, now) }
    }

    /// Replaces a user's records. Counters and deadlines follow here and nowhere else, so that they
    /// are what the records say, whatever an operation did.
    pub(super) fn put_user(
        &mut self,
        user: &UserKey,
        old: &[Record],
        new: &[Record],
    ) -> Result<(), S::Error> {
        for record in old {
            if let Some(counter) = self.counter(record) {
                *counter = counter.saturating_sub(u64::from(record.units));
            }
            if let Some(due) = due(record) {
                self.shard.remove_due(due)?;
            }
        }
        for record in new {
            if let Some(counter) = self.counter(record) {
                *counter = counter.saturating_add(u64::from(record.units));
            }
            if let Some(due) = due(record) {
                self.shard.add_due(due)?;
            }
        }
        self.wrote = true;
        self.shard.put_user(user, new)
    }

    /// Latches, raises the version where the public must see a change, and writes the sale.
    pub(super) fn finish(mut self) -> Result<SaleState, S::Error> {
        self.latch();
        self.note_back();
        self.state.seq += u64::from(self.wrote);
        if self.rises || self.state != self.before {
            if self.rises || public(&self.state) != public(&self.before) {
                self.state.version += 1;
            }
            self.shard.put_sale(&self.state)?;
        }
        Ok(self.state)
    }

    /// Notes since when units have been back that the policy sells.
    fn note_back(&mut self) {
        if self.state.is_learning_at(self.now) {
            return;
        }
        let mut pools = std::mem::take(&mut self.state.pools);
        for pool in &mut pools {
            pool.back_since = match (self.state.is_back(pool), pool.back_since) {
                (false, _) => UnixMs(0),
                (true, UnixMs(0)) => self.now,
                (true, since) => since,
            };
        }
        self.state.pools = pools;
    }

    fn counter(&mut self, record: &Record) -> Option<&mut u64> {
        let pool = self.state.pool_mut(record.pool.as_str())?;
        Some(match record.kind {
            RecordKind::Admitted | RecordKind::Pending => &mut pool.held,
            RecordKind::Limbo => &mut pool.limbo,
            RecordKind::Confirmed => &mut pool.confirmed,
        })
    }
}

fn due(record: &Record) -> Option<Due> {
    matches!(record.kind, RecordKind::Admitted | RecordKind::Pending).then_some(Due {
        at: record.deadline,
        user: record.user,
        claim: record.claim,
    })
}

/// Where the shop's number leads: the number as one that nobody has read.
pub(super) fn forgotten(pool: &PoolState, now: UnixMs) -> Option<Follow> {
    let mut follow = pool.follow.clone()?;
    follow.forget(now);
    Some(follow)
}

/// What raises the version: everything but counters, the shop's own numbers and the memory of
/// declarations.
fn public(state: &SaleState) -> SaleState {
    let of_pool = |p: &PoolState| {
        let stock = if p.follow.is_some() { 0 } else { p.stock };
        let follow = p.follow.as_ref().map(|f| Follow::new(f.source.clone()));
        PoolState { sold_out: p.sold_out, follow, ..PoolState::new(p.name.clone(), stock) }
    };
    let pools = state.pools.iter().map(of_pool).collect();
    let (applied, ids) = Default::default();
    SaleState { version: 0, revision: 0, applied, ids, seq: 0, pools, ..state.clone() }
}
