//! The JSON object of an availability answer: every field, in the order in which it is documented.

use crate::answer::SlotKind;
use crate::answers::body::Json;
use crate::clock::UnixMs;
use crate::sale::{Availability, Hint, PoolState, SaleSnapshot, View};

/// Milliseconds over which the first purchases after T0 are spread; each client draws once.
pub const SPREAD_MS: u32 = 400;

/// For so long after T0 a client is still told to spread its first purchase, in milliseconds. Who
/// asks later is spread by having asked later.
pub const SPREAD_AFTER_T0_MS: u64 = 3_000;

/// Whether an answer at `now` spreads the first purchase: before T0 and shortly after it.
pub fn is_spread(sale: &SaleSnapshot, view: &View, now: UnixMs) -> bool {
    match view.availability {
        Availability::NotStarted => true,
        Availability::Available => now.since(sale.state.opens_at) < SPREAD_AFTER_T0_MS,
        Availability::SoldOut | Availability::Ended => false,
    }
}

/// The next poll of a client: after `poll_ms` and a random part of `jitter_ms`; `None`: never.
fn poll_ms(view: &View) -> Option<(u32, u32)> {
    match (view.availability, view.hint) {
        _ if view.is_final => None,
        (Availability::NotStarted, _) => Some((20_000, 10_000)),
        (Availability::Available, Some(Hint::Paused)) => Some((5_000, 2_500)),
        (Availability::Available, _) => Some((2_000, 1_000)),
        (Availability::SoldOut | Availability::Ended, _) => Some((30_000, 15_000)),
    }
}

/// The object for `view`. Names are `[A-Za-z0-9._~-]`, so nothing in it needs escaping.
pub fn body(sale: &SaleSnapshot, view: &View, spread: bool) -> Json {
    let mut json = Json::default();
    let state = &sale.state;
    json.raw(&format!(r#"{{"state":"{}","buyable":{}"#, view.availability.label(), view.buyable));
    if let Some(hint) = view.hint {
        json.raw(&format!(r#","hint":"{}""#, hint.label()));
    }
    if view.hint == Some(Hint::Stale) {
        json.raw(r#","age_ms":"#);
        json.slot(SlotKind::AgeMs);
    }
    let ends_at = state.ends_at.map_or_else(|| "null".to_owned(), |end| end.0.to_string());
    json.raw(&format!(r#","final":{},"opens_at_ms":{}"#, view.is_final, state.opens_at.0));
    json.raw(&format!(r#","ends_at_ms":{ends_at},"server_time_ms":"#));
    json.slot(SlotKind::ServerTime);
    json.raw(&match poll_ms(view) {
        Some((poll, jitter)) => format!(r#","poll_ms":{poll},"jitter_ms":{jitter}"#),
        None => r#","poll_ms":null,"jitter_ms":0"#.to_owned(),
    });
    let spread_ms = if spread { SPREAD_MS } else { 0 };
    let (epoch, version) = (state.epoch, state.version);
    json.raw(&format!(r#","spread_ms":{spread_ms},"epoch":{epoch},"version":{version}"#));
    if state.pools.len() > 1 {
        let pool =
            |p: &PoolState| format!(r#""{}":"{}""#, p.name, pool_state(view, p.sold_out).label());
        let pools: Vec<_> = state.pools.iter().map(pool).collect();
        json.raw(&format!(r#","pools":{{{}}}"#, pools.join(",")));
    }
    json.raw("}");
    json
}

/// A pool says what its sale says, until it is sold before the others are.
fn pool_state(view: &View, is_sold_out: bool) -> Availability {
    match view.availability {
        Availability::Available | Availability::NotStarted if is_sold_out => Availability::SoldOut,
        of_sale => of_sale,
    }
}
