//! Sales: what they are, and an operator's word about them.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};

use super::Context;
use super::reply::{Reply, Result};
use super::route::Ask;
use crate::clock::{Now, UnixMs};
use crate::ident::{AttemptId, Name, SaleId, UserKey};
use crate::ledger::{Control, Controlled, Declared, Op, OpResult, Reply as Told};
use crate::sale::rosters::UserSet;
use crate::sale::{Declaration, Follow, PoolState, SaleSnapshot, SaleState};

/// `GET /v1/sales`.
pub(super) fn list(context: &Context) -> Result {
    synced(context)?;
    let sales: Vec<Value> = context.book.all().iter().map(|s| describe(s, context)).collect();
    Ok(Reply::ok(&json!({ "sales": sales })))
}

/// `GET /v1/sales/SITE/SALE`.
pub(super) fn show(id: &SaleId, context: &Context) -> Result {
    match context.book.sale(id) {
        Some(sale) => Ok(Reply::ok(&describe(&sale, context))),
        None => {
            synced(context)?;
            Err(no_sale(id))
        }
    }
}

/// `PUT /v1/sales/SITE/SALE`: a declaration, which the ledger applies once.
pub(super) async fn put(id: &SaleId, ask: &Ask<'_>, context: &Context) -> Result {
    let declaration = Declaration::parse(&ask.body).map_err(Reply::bad)?;
    if declaration.revision.is_none() {
        return Err(Reply::bad(
            "revision: write a number that rises with every change; what is running is never \
             reverted by an old file",
        ));
    }
    tracing::info!("sale {id}: a declaration, says {}", ask.who);
    let told = context.claims.declare(id, declaration).await?;
    let result = match told {
        Declared::Applied => "applied",
        Declared::Unchanged => "unchanged",
        Declared::CreatedPaused => "created_paused",
        Declared::Refused(why) => return Err(Reply::conflict(why)),
    };
    Ok(done(id, result, context))
}

/// `POST /v1/sales/SITE/SALE/pause` and its like.
pub(super) async fn control(
    id: &SaleId,
    word: Control,
    ask: &Ask<'_>,
    context: &Context,
) -> Result {
    let verb = ask.path.rsplit('/').next().unwrap_or_default();
    tracing::info!("sale {id}: {verb}, says {}", ask.who);
    let told: Told = context.claims.call(id, Op::Control(word)).await?;
    match told.result {
        OpResult::Controlled(Controlled::Applied) => Ok(done(id, "applied", context)),
        OpResult::Controlled(Controlled::Unchanged) => Ok(done(id, "unchanged", context)),
        OpResult::Controlled(Controlled::Refused(why)) => Err(Reply::conflict(why)),
        OpResult::NoSale => Err(no_sale(id)),
        _ => Err(Reply::unavailable("the store answered something else than it was asked")),
    }
}

/// The body of `add-stock` and `restock`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Stock {
    /// The pool; absent: the only one.
    pool: Option<Name>,
    units: u64,
    /// What makes it safe to ask twice; absent: a new one.
    id: Option<Name>,
}

impl Stock {
    pub(super) fn add(pool: Name, units: u64, id: String) -> Control {
        Control::AddStock { pool, units, id }
    }

    pub(super) fn restock(pool: Name, units: u64, id: String) -> Control {
        Control::Restock { pool, units, id }
    }
}

/// `POST /v1/sales/SITE/SALE/add-stock` and `…/restock`.
pub(super) async fn stock(
    id: &SaleId,
    ask: &Ask<'_>,
    context: &Context,
    word: impl FnOnce(Name, u64, String) -> Control,
) -> Result {
    let said: Stock = ask.json()?;
    if said.units > UNITS_MAX {
        return Err(Reply::bad(format!("units: at most {UNITS_MAX}")));
    }
    let pool = match said.pool {
        Some(pool) => pool,
        None => only_pool(id, context)?,
    };
    let key = said.id.map_or_else(|| AttemptId::random().to_string(), |id| id.to_string());
    control(id, word(pool, said.units, key), ask, context).await
}

fn only_pool(id: &SaleId, context: &Context) -> Result<Name> {
    let sale = context.book.sale(id).ok_or_else(|| no_sale(id))?;
    match sale.state.pools.as_slice() {
        [pool] => Ok(pool.name.clone()),
        pools => {
            let names: Vec<&str> = pools.iter().map(|pool| pool.name.as_str()).collect();
            Err(Reply::bad(format!("pool: say which of {}", names.join(", "))))
        }
    }
}

/// `GET /v1/sales/SITE/SALE/records?after=USER&max=N`: whole users, in the order of their keys.
pub(super) async fn records(id: &SaleId, ask: &Ask<'_>, context: &Context) -> Result {
    let after: Option<UserKey> = ask.parsed("after")?;
    let max = ask.parsed::<usize>("max")?.unwrap_or(RECORDS_MAX).clamp(1, RECORDS_MAX);
    let records = context.claims.records(id, None, after, max).await?;
    let next = records.iter().map(|record| record.user).max();
    Ok(Reply::ok(&json!({ "records": records, "next": next })))
}

/// What was done, and the sale as it is now.
pub(super) fn done(id: &SaleId, result: &str, context: &Context) -> Reply {
    let sale = context.book.sale(id).map(|sale| describe(&sale, context));
    Reply::ok(&json!({ "result": result, "sale": sale }))
}

pub(super) fn no_sale(id: &SaleId) -> Reply {
    Reply::missing(format!("there is no sale {id}"))
}

fn synced(context: &Context) -> Result<()> {
    if context.book.is_synced() {
        return Ok(());
    }
    Err(Reply::unavailable("the store has not told yet which sales there are"))
}

/// A sale as an operator sees it: all that the ledger holds, and what the public is told.
pub(super) fn describe(sale: &Arc<SaleSnapshot>, context: &Context) -> Value {
    let now = context.clock.now();
    let state = &sale.state;
    let view = sale.at(&now);
    let total = |of: fn(&PoolState) -> u64| state.pools.iter().map(of).sum::<u64>();
    let pools: Vec<Value> = state
        .pools
        .iter()
        .map(|pool| {
            json!({
                "name": pool.name,
                "stock": pool.stock,
                "confirmed": pool.confirmed,
                "held": pool.held,
                "limbo": pool.limbo,
                "room": pool.room(state.overshoot_permille),
                "sold_out": pool.sold_out,
                "held_back": pool.held_back,
                "shop": pool.follow.as_ref().map(|follow| shop(state, pool, follow, now.ledger)),
            })
        })
        .collect();
    json!({
        "id": state.id.to_string(),
        "activity": state.activity,
        "state": view.availability.label(),
        "buyable": view.buyable,
        "hint": view.hint.map(|hint| hint.label()),
        "epoch": state.epoch,
        "version": state.version,
        "revision": state.revision,
        "opens_at_ms": state.opens_at,
        "ends_at_ms": state.ends_at,
        "paused": state.paused,
        "ended": state.ended,
        "sold_out": state.sold_out,
        "overshoot_permille": state.overshoot_permille,
        "per_user": { "orders": state.per_user.orders, "units": state.per_user.units },
        "restock": state.restock,
        "stock": total(|pool| pool.stock),
        "confirmed": total(|pool| pool.confirmed),
        "held": total(|pool| pool.held),
        "limbo": total(|pool| pool.limbo),
        "pools": pools,
        "sets": sets(sale, &now),
        "age_ms": view.age_ms,
        "ledger_ms": now.ledger,
        "ledger_err_ms": now.ledger_err_ms,
        "claims_open": context.claims.is_open(&state.id),
        "learning": state.is_learning_at(now.ledger),
        "nodes": context.claims.nodes(&state.id),
        "fences": state.fences,
        // Who may read this may read the ledger: it ties the shop's orders to admissions in an audit.
        "salt": state.salt,
    })
}

/// The shop's sets of users, as this node has read them.
fn sets(sale: &SaleSnapshot, now: &Now) -> Vec<Value> {
    let sets = sale.rosters().sets();
    let sets = sets.iter().flat_map(|sets| &sets.sets);
    let of_set = |set: &UserSet| {
        json!({
            "set": set.kind.label(),
            "pool": set.pool,
            "members": set.members.as_ref().map(|members| members.members()),
            "age_ms": set.members.as_ref().map(|_| now.mono.since(set.read_at)),
        })
    };
    sets.map(of_set).collect()
}

/// The shop's own number, where it leads.
fn shop(state: &SaleState, pool: &PoolState, follow: &Follow, now: UnixMs) -> Value {
    let is_read = follow.read_at != UnixMs(0);
    json!({
        "source": follow.source.of(state.activity.as_str(), pool.name.as_str()).to_string(),
        "known": follow.is_known_at(now),
        "age_ms": is_read.then(|| now.since(follow.read_at)),
    })
}

/// As many as a declaration may have.
const UNITS_MAX: u64 = 1_000_000_000;
const RECORDS_MAX: usize = 1_000;
