//! Whether a response on an ordinary route is stored, and for how long it may be used
//! (RFC 9111 3, 4.2; RFC 5861; RFC 9213).

use http::{HeaderMap, HeaderName, StatusCode, header};

use super::directives::{Directives, current_age_ms, date_s};
use super::judge::{Arrival, Keep, Refusal, Windows};
use super::{range, targeted, vary};

/// What the operator says about an ordinary route.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Fresh for so long where the response gives neither freshness nor a date of change.
    pub ttl_ms: u64,
    /// Served rather than an error for so long after its freshness, unless the response forbids it.
    pub stale_ms: u64,
    /// Of the time since the last change, how much is heuristic freshness, in per cent.
    pub heuristic_percent: u64,
    /// Longest heuristic freshness.
    pub heuristic_max_ms: u64,
    /// Whether a response with `Set-Cookie` is stored.
    pub stores_cookies: bool,
    /// Fields that speak to this cache alone, the most important first.
    pub targeted: Vec<HeaderName>,
}

/// What of the request matters for storing its response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// It had `Authorization`.
    pub is_authorized: bool,
    /// It said `no-store`, and the route listens to that.
    pub no_store: bool,
    /// It asked for a range, and that alone was asked for.
    pub has_range: bool,
}

/// What a response says to this cache: by the first targeted field that is valid, else by
/// `Cache-Control`. The flag says whether `Expires` counts beside it (RFC 9213 2.2: it does not).
pub fn directives(headers: &HeaderMap, rules: &Rules) -> (Directives, bool) {
    match targeted::of(headers, &rules.targeted) {
        Some(targeted) => (targeted, true),
        None => (Directives::of(headers), false),
    }
}

/// Decides what becomes of a response to a fill of an ordinary route.
pub fn keep(
    status: StatusCode,
    headers: &HeaderMap,
    rules: &Rules,
    asked: Asked,
    arrival: Arrival,
) -> Keep {
    let (said, is_targeted) = directives(headers, rules);
    if let Err(refusal) = may_store(status, headers, &said, rules, asked) {
        return Keep::Not(refusal);
    }
    let lifetime_s = match is_targeted {
        true => said.s_maxage_s.or(said.max_age_s),
        false => said.lifetime_s(headers, arrival.wall),
    };
    let age_ms = current_age_ms(headers, arrival);
    let (is_explicit, lifetime_ms) = match lifetime_s {
        _ if said.no_cache => (true, 0),
        Some(seconds) => (true, seconds * 1000),
        None => (false, implicit_ms(status, headers, &said, rules, arrival)),
    };
    let mut windows = windows(&said, lifetime_ms, age_ms, rules);
    if status.is_server_error() {
        // An error does not stand in for the next one.
        (windows.refill_ms, windows.error_ms) = (0, 0);
    }
    let fresh_ms = windows.fresh_ms;
    let has_validator =
        headers.contains_key(header::ETAG) || headers.contains_key(header::LAST_MODIFIED);
    // What is stored must be of some use: fresh now, to be validated, or to stand in for an error
    // that the shop has allowed it for.
    let is_useful = fresh_ms > 0 || has_validator || is_explicit && windows.error_ms > 0;
    if is_useful { Keep::Page(windows) } else { Keep::Not(Refusal::Stale) }
}

/// RFC 9111 3, condition by condition.
fn may_store(
    status: StatusCode,
    headers: &HeaderMap,
    said: &Directives,
    rules: &Rules,
    asked: Asked,
) -> Result<(), Refusal> {
    let is_partial = status == StatusCode::PARTIAL_CONTENT;
    if is_partial {
        // RFC 9111 3.3: a part is stored only by who understands it.
        let range =
            headers.get(header::CONTENT_RANGE).and_then(|v| range::content_range(v.as_bytes()));
        if !asked.has_range || range.is_none() {
            return Err(Refusal::Status);
        }
    }
    let is_understood = UNDERSTOOD.contains(&status.as_u16());
    if said.must_understand && !is_understood {
        return Err(Refusal::Status);
    }
    // RFC 9111 5.2.2.3: `must-understand` goes before `no-store`, which is for those who do not.
    let no_store = said.no_store && !said.must_understand;
    if no_store || said.private || vary::is_all(headers) {
        return Err(Refusal::Directive);
    }
    if asked.no_store {
        return Err(Refusal::Client);
    }
    // RFC 9111 3.5.
    let is_shared = said.public || said.s_maxage_s.is_some() || said.must_revalidate;
    if asked.is_authorized && !is_shared {
        return Err(Refusal::Client);
    }
    if !rules.stores_cookies && headers.contains_key(header::SET_COOKIE) {
        return Err(Refusal::Cookie);
    }
    Ok(())
}

/// Freshness where the response gives none: a share of the time since it last changed
/// (RFC 9111 4.2.2), else the route's own.
fn implicit_ms(
    status: StatusCode,
    headers: &HeaderMap,
    said: &Directives,
    rules: &Rules,
    arrival: Arrival,
) -> u64 {
    if !said.public && !HEURISTIC.contains(&status.as_u16()) {
        return 0;
    }
    let seconds = |name| headers.get(name).and_then(|v: &http::HeaderValue| date_s(v.as_bytes()));
    let Some(modified) = seconds(header::LAST_MODIFIED) else { return rules.ttl_ms };
    let date = seconds(header::DATE).unwrap_or_else(|| arrival.wall.secs());
    let share_ms = date.saturating_sub(modified).saturating_mul(10 * rules.heuristic_percent);
    share_ms.min(rules.heuristic_max_ms).max(rules.ttl_ms)
}

/// RFC 9111 4.2.4 and 5.2.2, RFC 5861.
fn windows(said: &Directives, lifetime_ms: u64, age_ms: u64, rules: &Rules) -> Windows {
    let fresh_ms = lifetime_ms.saturating_sub(age_ms);
    let overdue_ms = age_ms.saturating_sub(lifetime_ms);
    let never_stale = said.must_revalidate || said.no_cache;
    // `s-maxage` forbids stale use as `proxy-revalidate` does (RFC 9111 5.2.2.10), unless the shop
    // allows it in the same breath.
    let silent_ms = if said.s_maxage_s.is_some() { 0 } else { rules.stale_ms };
    let window = |allowed: Option<u64>, or_ms: u64| match allowed {
        _ if never_stale => 0,
        Some(seconds) => (seconds * 1000).saturating_sub(overdue_ms),
        None => or_ms.saturating_sub(overdue_ms),
    };
    let refill_ms = window(said.stale_while_revalidate_s, 0);
    let error_ms = window(said.stale_if_error_s, silent_ms).max(refill_ms);
    let never_stale = never_stale || said.s_maxage_s.is_some();
    let alone = fresh_ms == 0;
    Windows { age_ms, fresh_ms, refill_ms, error_ms, overdue_ms, never_stale, alone }
}

/// Statuses whose meaning for a cache we know (RFC 9110 15; RFC 9111 3).
const UNDERSTOOD: [u16; 22] = [
    200, 203, 204, 206, 300, 301, 302, 303, 307, 308, 400, 403, 404, 405, 410, 414, 421, 451, 500,
    501, 503, 504,
];

/// Statuses that are stored without explicit freshness (RFC 9110 15.1).
const HEURISTIC: [u16; 12] = [200, 203, 204, 206, 300, 301, 308, 404, 405, 410, 414, 501];

#[cfg(test)]
mod tests;
