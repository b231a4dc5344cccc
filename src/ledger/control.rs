//! The operator's words, and units that are added or come back. The first line that fits answers:
//!
//! | word | refused | unchanged | else |
//! |---|---|---|---|
//! | `End` | | `ended` already | `ended` |
//! | every other, once the sale is over | by the end | | |
//! | `Pause`, `Resume` | | so already | `paused` |
//! | `SoldOut` | | `sold_out` already | every pool latches and is held back; also where it is unchanged |
//! | `AddStock`, `Restock` | a bad id (not 1 to 128 visible ASCII characters) | the id is remembered | as below |
//! | `AddStock` | no such pool; the shop's number leads; latched; 0 units; too many | | `stock += units` |
//! | `Restock` | policy `never`; no such pool; not latched; units where the shop's number leads; too many; `confirmed + held + limbo >= stock + units` | | `epoch + 1`, `stock += units`, this pool's latch and the sale's are cleared |
//!
//! Too many is more than [`STOCK_MAX`] in the pool. Only what was applied is remembered.

use crate::config::schema::Restock;
use crate::ident::Name;
use crate::ledger::turn::Turn;
use crate::ledger::{Control, Controlled, ID_BYTES_MAX, IDS_MAX, STOCK_MAX, Shard};
use crate::sale::{PoolState, SaleState};

/// Does what the operator says.
pub(super) fn control<S: Shard>(turn: &mut Turn<'_, S>, control: &Control) -> Controlled {
    let is_over = turn.state.is_ended_at(turn.now);
    let state = &mut turn.state;
    match control {
        Control::End => set(&mut state.ended, true),
        _ if is_over => Controlled::Refused(
            "the sale has ended; declare a new sale under another name".to_owned(),
        ),
        Control::Pause => set(&mut state.paused, true),
        Control::Resume => set(&mut state.paused, false),
        Control::SoldOut => {
            for pool in &mut state.pools {
                (pool.sold_out, pool.held_back) = (true, true);
            }
            set(&mut state.sold_out, true)
        }
        Control::AddStock { pool, units, id } => {
            once(state, id, |state| add_stock(state, pool, *units))
        }
        Control::Restock { pool, units, id } => {
            once(state, id, |state| restock(state, pool, *units))
        }
    }
}

fn set(flag: &mut bool, to: bool) -> Controlled {
    if std::mem::replace(flag, to) == to { Controlled::Unchanged } else { Controlled::Applied }
}

/// Runs a command unless its id was applied, and remembers the id.
fn once(
    state: &mut SaleState,
    id: &str,
    run: impl FnOnce(&mut SaleState) -> Result<(), String>,
) -> Controlled {
    let is_valid =
        (1..=ID_BYTES_MAX).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic());
    if !is_valid {
        return Controlled::Refused(format!(
            "id: must be 1 to {ID_BYTES_MAX} visible ASCII characters without spaces"
        ));
    }
    if state.ids.iter().any(|known| known == id) {
        return Controlled::Unchanged;
    }
    if let Err(why) = run(state) {
        return Controlled::Refused(why);
    }
    state.ids.push(id.to_owned());
    let surplus = state.ids.len().saturating_sub(IDS_MAX);
    state.ids.drain(..surplus);
    Controlled::Applied
}

fn add_stock(state: &mut SaleState, name: &Name, units: u64) -> Result<(), String> {
    let pool = find(state, name)?;
    if pool.follow.is_some() {
        return Err(shop_leads(name));
    }
    if pool.sold_out {
        return Err(format!(
            "pool {name} is sold out; `penstock sale restock` sells more in a new epoch"
        ));
    }
    if units == 0 {
        return Err("units: must be 1 or more".to_owned());
    }
    add(pool, units)
}

fn restock(state: &mut SaleState, name: &Name, units: u64) -> Result<(), String> {
    if state.restock == Restock::Never {
        return Err("the sale's restock policy is `never`: sold out is final".to_owned());
    }
    let pool = find(state, name)?;
    if !pool.sold_out {
        return Err(format!(
            "pool {name} is not sold out: units that come back are sold by themselves, \
             `penstock sale add-stock` adds more"
        ));
    }
    if pool.follow.is_some() && units > 0 {
        return Err(shop_leads(name));
    }
    let taken = pool.confirmed.saturating_add(pool.held).saturating_add(pool.limbo);
    if taken >= pool.stock.saturating_add(units) {
        return Err(format!(
            "nothing to sell in pool {name}: of {} units {} are confirmed, {} held, {} in limbo",
            pool.stock.saturating_add(units),
            pool.confirmed,
            pool.held,
            pool.limbo
        ));
    }
    add(pool, units)?;
    (pool.sold_out, pool.held_back) = (false, false);
    state.sold_out = false;
    state.epoch += 1;
    Ok(())
}

fn shop_leads(name: &Name) -> String {
    format!("the stock of pool {name} is the shop's own number: add the units there")
}

fn find<'a>(state: &'a mut SaleState, name: &Name) -> Result<&'a mut PoolState, String> {
    state.pool_mut(name.as_str()).ok_or_else(|| format!("the sale has no pool {name}"))
}

fn add(pool: &mut PoolState, units: u64) -> Result<(), String> {
    let stock = pool.stock.saturating_add(units);
    if stock > STOCK_MAX {
        return Err(format!("pool {} would have more than {STOCK_MAX} units", pool.name));
    }
    pool.stock = stock;
    Ok(())
}
