//! Declarations: the ledger decides what to make of one, so that an old file reverts nothing and a
//! lost ledger sells nothing twice. The first line that fits answers:
//!
//! | the ledger knows | if | answer |
//! |---|---|---|
//! | anything | it makes no sense by itself ([`Declaration::check`]) | `Refused` |
//! | no such sale | `ends_at <= now` | `Refused` |
//! | | `opens_at <= now` | `CreatedPaused` |
//! | | else | `Applied`: epoch 1, version 1, the given salt |
//! | the sale | a revision below the last one | `Refused` |
//! | | the last revision, hash among the last 16 applied | `Unchanged` |
//! | | the last revision, another hash | `Refused` |
//! | | no revision, hash among the last 16 applied | `Unchanged` |
//! | | the sale is over, or `ends_at <= now` | `Refused` |
//! | | `now < opens_at` of the ledger, and a pool that has records is missing | `Refused` |
//! | | `now < opens_at` of the ledger | `Applied`: everything is replaced but the salt, the operator's words and what pools of the same name count |
//! | | it differs in more than `after_opening` takes | `Refused`, as a whole |
//! | | else | `Applied`: tighter limits and `ends_at` |
//!
//! A JSON declaration has a revision, a rendered config none. What is applied sets the revision, if it
//! has one, and puts its hash at the end of the last 16.
//!
//! A shard sees one sale; whether two sales claim one activity is [`rival`]'s question, asked by the
//! store before it applies.

use crate::clock::UnixMs;
use crate::config::stock::Stock;
use crate::ident::SaleId;
use crate::ledger::turn::Turn;
use crate::ledger::{Declare, Declared, Shard};
use crate::sale::{Declaration, PoolState, SaleState};

/// Hashes of applied declarations that are remembered.
pub const APPLIED_MAX: usize = 16;

/// Why `declaration` may not be applied to the sale `id` beside `others`: an activity has at most one
/// sale that is not over. A sale that keeps its activity has no rival.
pub fn rival<'a>(
    id: &SaleId,
    declaration: &Declaration,
    sales: impl IntoIterator<Item = &'a SaleState>,
    now: UnixMs,
) -> Option<String> {
    let mut rival = None;
    for sale in sales {
        if sale.id == *id && sale.activity == declaration.activity {
            return None;
        }
        if sale.id != *id
            && sale.id.site == id.site
            && sale.activity == declaration.activity
            && !sale.is_ended_at(now)
        {
            rival = Some(sale);
        }
    }
    rival.map(|sale| {
        format!(
            "activity {} is sold by {}, which is not over: end it first with `penstock sale end`",
            sale.activity, sale.id
        )
    })
}

/// A declaration of a sale that the ledger does not know.
pub(super) fn create<S: Shard>(
    shard: &mut S,
    declare: &Declare,
    now: UnixMs,
) -> Result<(Option<SaleState>, Declared), S::Error> {
    let said = &declare.declaration;
    if let Some(why) = check(said, now) {
        return Ok((None, Declared::Refused(why)));
    }
    let paused = said.opens_at.at <= now;
    let state = SaleState {
        revision: said.revision.unwrap_or(0),
        applied: vec![said.hash()],
        opens_at: said.opens_at.at,
        ends_at: said.ends_at.map(|end| end.at),
        paused,
        overshoot_permille: said.overshoot_permille(),
        per_user: said.per_user,
        restock: said.restock,
        restock_batch: said.restock_batch,
        restock_debounce_ms: said.restock_debounce.ms,
        salt: declare.salt,
        server: shard.server()?,
        pools: pools(said),
        ..SaleState::new(shard.id().clone(), said.activity.clone())
    };
    shard.put_sale(&state)?;
    let declared = if paused { Declared::CreatedPaused } else { Declared::Applied };
    Ok((Some(state), declared))
}

/// A declaration of a sale that the ledger knows.
pub(super) fn change<S: Shard>(turn: &mut Turn<'_, S>, declare: &Declare) -> Declared {
    let (said, now) = (&declare.declaration, turn.now);
    let state = &mut turn.state;
    let hash = said.hash();
    if let Some(known) = seen(state, said.revision, hash) {
        return known;
    }
    if state.is_ended_at(now) {
        return Declared::Refused(
            "the sale has ended; declare a new sale under another name".to_owned(),
        );
    }
    if let Some(why) = check(said, now) {
        return Declared::Refused(why);
    }
    let changed =
        if now < state.opens_at { before_opening(state, said) } else { after_opening(state, said) };
    if let Err(why) = changed {
        return Declared::Refused(why);
    }
    state.revision = said.revision.unwrap_or(state.revision);
    state.applied.retain(|known| *known != hash);
    state.applied.push(hash);
    let surplus = state.applied.len().saturating_sub(APPLIED_MAX);
    state.applied.drain(..surplus);
    Declared::Applied
}

/// What makes no sense by itself or at this time.
fn check(said: &Declaration, now: UnixMs) -> Option<String> {
    if let Err(bad) = said.check() {
        return Some(bad.to_string());
    }
    let end = said.ends_at.filter(|end| end.at <= now)?;
    Some(format!("ends_at: {end} is past; `penstock sale end` ends a sale that runs"))
}

/// What the ledger says to a declaration that does not raise the revision, or comes again.
fn seen(state: &SaleState, revision: Option<u64>, hash: u64) -> Option<Declared> {
    let is_known = state.applied.contains(&hash);
    let last = state.revision;
    match revision {
        None => is_known.then_some(Declared::Unchanged),
        Some(revision) if revision > last => None,
        Some(revision) if revision == last && is_known => Some(Declared::Unchanged),
        Some(revision) if revision == last => Some(Declared::Refused(format!(
            "revision: {revision} was applied with another content; write {} to change the sale",
            last.saturating_add(1)
        ))),
        Some(revision) => Some(Declared::Refused(format!(
            "revision: {revision} is old, {last} was applied; write {} to change the sale",
            last.saturating_add(1)
        ))),
    }
}

/// Before T0 a declaration replaces everything, but not what happened: the counters of pools that
/// stay, and the operator's word that the sale is sold out.
fn before_opening(state: &mut SaleState, said: &Declaration) -> Result<(), String> {
    let mut pools = pools(said);
    for old in &state.pools {
        let is_used = old.confirmed != 0 || old.held != 0 || old.limbo != 0;
        match pools.iter_mut().find(|p| p.name == old.name) {
            Some(new) => *new = kept(old, new),
            None if is_used => {
                return Err(format!("pools.{}: has orders and cannot be removed", old.name));
            }
            None => {}
        }
    }
    if state.sold_out {
        pools.iter_mut().for_each(|p| (p.sold_out, p.held_back) = (true, true));
    }
    state.pools = pools;
    state.activity = said.activity.clone();
    state.opens_at = said.opens_at.at;
    state.ends_at = said.ends_at.map(|end| end.at);
    state.overshoot_permille = said.overshoot_permille();
    state.per_user = said.per_user;
    state.restock = said.restock;
    state.restock_batch = said.restock_batch;
    state.restock_debounce_ms = said.restock_debounce.ms;
    Ok(())
}

/// After T0 only limits tightened and `ends_at` are taken: lower `per_user`, a lower overshoot, the
/// restock policy that gives back less (`never`, then `manual`, then `auto`). Anything else that differs refuses the declaration as a whole.
fn after_opening(state: &mut SaleState, said: &Declaration) -> Result<(), String> {
    let overshoot = said.overshoot_permille();
    if said.activity != state.activity {
        return Err(running("activity", &state.activity));
    }
    if said.opens_at.at != state.opens_at {
        return Err(running("opens_at", &crate::config::units::Time { at: state.opens_at }));
    }
    if overshoot > state.overshoot_permille {
        return Err(tighter("overshoot"));
    }
    if said.per_user.orders > state.per_user.orders || said.per_user.units > state.per_user.units {
        return Err(tighter("per_user"));
    }
    if said.restock > state.restock {
        return Err(tighter("restock"));
    }
    if let Some(name) = said.pools.keys().find(|name| state.pool(name.as_str()).is_none()) {
        return Err(format!("pools.{name}: a pool cannot be added after T0"));
    }
    for pool in &state.pools {
        match said.pools.get(&pool.name) {
            None => return Err(format!("pools.{}: cannot be removed after T0", pool.name)),
            Some(said) if said.stock != stock_of(pool) => {
                let hint = match pool.follow {
                    None => "; `penstock sale add-stock` adds units",
                    Some(_) => "",
                };
                return Err(format!(
                    "pools.{}.stock: is {} since T0 and cannot be declared {}{hint}",
                    pool.name,
                    stock_of(pool),
                    said.stock
                ));
            }
            Some(_) => {}
        }
    }
    state.ends_at = said.ends_at.map(|end| end.at);
    state.overshoot_permille = overshoot;
    state.per_user = said.per_user;
    state.restock = said.restock;
    state.restock_batch = said.restock_batch;
    state.restock_debounce_ms = said.restock_debounce.ms;
    Ok(())
}

fn running(field: &str, is: &dyn std::fmt::Display) -> String {
    format!("{field}: is {is} and cannot change after T0")
}

fn tighter(field: &str) -> String {
    format!("{field}: can only be tightened after T0")
}

fn pools(said: &Declaration) -> Vec<PoolState> {
    said.pools.iter().map(|(name, pool)| PoolState::declared(name.clone(), &pool.stock)).collect()
}

/// A pool declared anew: what happened stays, and what was read of the same number of the shop's.
fn kept(old: &PoolState, new: &PoolState) -> PoolState {
    match stock_of(old) == stock_of(new) {
        true => old.clone(),
        false => PoolState { stock: new.stock, follow: new.follow.clone(), ..old.clone() },
    }
}

/// The stock as it would be declared.
fn stock_of(pool: &PoolState) -> Stock {
    pool.follow.as_ref().map_or(Stock::Own(pool.stock), |f| Stock::Shop(f.source.clone()))
}
