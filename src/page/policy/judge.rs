//! The policy: pure functions from what is known to what is done, and why. All rules about storing
//! and serving a page stand here, so that the complete HTTP semantics have one place to grow.

use http::{HeaderMap, StatusCode};

use super::directives::{Directives, age_s};
use super::request::Demand;
use super::vary;
use crate::clock::{MonoMs, UnixMs};

/// What is stored under a key, as far as the policy looks at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// What it is.
    pub kind: Kind,
    /// Fresh before this.
    pub fresh_until: MonoMs,
    /// Before this it is served while it is fetched again.
    pub refill_until: MonoMs,
    /// Before this it is served rather than an error.
    pub error_until: MonoMs,
}

/// What can be stored under a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A page.
    Page,
    /// A remark that the page may not be stored: requests go on one by one.
    HitForMiss,
    /// A remark that the shop did not answer just now.
    Failed,
    /// Not a page but the fields of a request that select one.
    Selector,
}

/// What of a request matters here. The client's `Cache-Control` does not: a `no-cache` in a crowd
/// would be a way around the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// How it stands with fetching again what is stored.
    pub refill: Refill,
}

/// How it stands with fetching again what is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refill {
    /// Nobody does.
    Idle,
    /// It is under way.
    UnderWay,
    /// It failed just now and is not tried again yet.
    Held,
}

/// What to do with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Serve what is stored.
    Serve,
    /// Serve what is stored, and fetch it again behind the client's back.
    ServeAndRefill,
    /// Join a fill or begin one; what is stored is served if that fails, where `or_stale`.
    Fill {
        /// Whether what is stored may stand in for an error.
        or_stale: bool,
    },
    /// Ask the shop for this client alone.
    Pass,
    /// Say at once that the shop does not answer.
    Fail,
}

/// Why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Nothing is stored.
    Absent,
    /// Nothing is stored for what the request says in the fields that select.
    NoVariant,
    /// Only a part of it is stored, and not the one that is asked for.
    Partial,
    /// Its method goes to the shop.
    Method,
    /// The client demands that the shop is asked.
    Demanded,
    /// It is stale, and the client takes it as it is.
    Accepted,
    /// It is fresh.
    Fresh,
    /// It is stale, within its window.
    Stale,
    /// It is stale, and a fill failed just now.
    HeldByError,
    /// It is stale and its windows are over.
    Expired,
    /// The page may not be stored.
    HitForMiss,
    /// The shop did not answer just now.
    Failed,
}

/// Decides about a request for what is stored at `now`.
pub fn judge(stored: Option<&Stored>, asked: Asked, now: MonoMs) -> (Decision, Why) {
    let Some(stored) = stored else { return (Decision::Fill { or_stale: false }, Why::Absent) };
    let is_fresh = now < stored.fresh_until;
    let or_stale = stored.kind == Kind::Page && now < stored.error_until;
    match stored.kind {
        Kind::Page if is_fresh => (Decision::Serve, Why::Fresh),
        Kind::HitForMiss if is_fresh => (Decision::Pass, Why::HitForMiss),
        Kind::Failed if is_fresh => (Decision::Fail, Why::Failed),
        Kind::Page if or_stale && asked.refill == Refill::Held => {
            (Decision::Serve, Why::HeldByError)
        }
        Kind::Page if now < stored.refill_until => match asked.refill {
            Refill::Idle => (Decision::ServeAndRefill, Why::Stale),
            Refill::UnderWay | Refill::Held => (Decision::Serve, Why::Stale),
        },
        _ => (Decision::Fill { or_stale }, Why::Expired),
    }
}

impl Decision {
    /// What would be done, for an operator.
    pub fn text(self) -> &'static str {
        match self {
            Decision::Serve => "served from the cache",
            Decision::ServeAndRefill => "served from the cache, and fetched again meanwhile",
            Decision::Fill { or_stale: true } => {
                "fetched from the shop, together with all who ask for it; what is stored if that fails"
            }
            Decision::Fill { or_stale: false } => {
                "fetched from the shop, together with all who ask for it"
            }
            Decision::Pass => "fetched from the shop for this client alone",
            Decision::Fail => "refused: the shop did not answer just now",
        }
    }
}

impl Why {
    /// The reason, for an operator.
    pub fn text(self) -> &'static str {
        match self {
            Why::Absent => "nothing is stored",
            Why::NoVariant => {
                "nothing is stored for what the request says in the fields that select"
            }
            Why::Partial => "only another part of it is stored",
            Why::Method => "nothing is stored, and its method goes to the shop",
            Why::Demanded => "the client demands that the shop is asked",
            Why::Accepted => "it is stale, and the client takes it as it is",
            Why::Fresh => "it is fresh",
            Why::Stale => "it is stale, within its window",
            Why::HeldByError => "it is stale, and a fill failed just now",
            Why::Expired => "it is stale, and its windows are over",
            Why::HitForMiss => "what came last may not be stored (hit-for-miss)",
            Why::Failed => "the shop did not answer just now",
        }
    }

    /// The reason as `Cache-Status` gives it where a request went to the shop (RFC 9211 2.2).
    pub fn forwarded(self) -> &'static str {
        match self {
            Why::Absent | Why::Fresh | Why::Failed => "uri-miss",
            Why::NoVariant => "vary-miss",
            Why::Partial => "partial",
            Why::Method => "method",
            Why::Demanded | Why::Accepted => "request",
            Why::HitForMiss => "bypass",
            Why::Stale | Why::HeldByError | Why::Expired => "stale",
        }
    }
}

/// What of a stored page is looked at only where clients may make demands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// When it came.
    pub at: MonoMs,
    /// How old it was then.
    pub age_ms: u64,
    /// By how much it was stale then.
    pub overdue_ms: u64,
    /// It is never served stale, whatever the client would take.
    pub never_stale: bool,
}

/// Decides as [`judge`] does, for a client whose demands count (RFC 9111 5.2.1).
pub fn judge_for(
    stored: Option<&Stored>,
    life: Life,
    asked: Asked,
    demand: &Demand,
    now: MonoMs,
) -> (Decision, Why) {
    let Some(page) = stored.filter(|s| s.kind == Kind::Page && *demand != Demand::NONE) else {
        return judge(stored, asked, now);
    };
    let age_ms = life.age_ms.saturating_add(now.since(life.at));
    let left_ms = page.fresh_until.since(now);
    let is_fresh = now < page.fresh_until;
    let is_too_old = demand.no_cache || demand.no_store || age_ms > demand.age_max_ms;
    let is_too_stale = is_fresh && left_ms < demand.fresh_min_ms;
    if is_too_old || is_too_stale {
        return (Decision::Fill { or_stale: now < page.error_until }, Why::Demanded);
    }
    let stale_ms = now.since(page.fresh_until).saturating_add(life.overdue_ms);
    if !is_fresh && !life.never_stale && demand.stale_max_ms > 0 && stale_ms <= demand.stale_max_ms
    {
        return (Decision::Serve, Why::Accepted);
    }
    judge(stored, asked, now)
}

/// What the operator says about a page route, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Fresh for so long where the response does not say.
    pub ttl_ms: u64,
    /// Then stale for so long.
    pub stale_ms: u64,
    /// Whether `no-store` and the like are overridden.
    pub force: bool,
    /// How long an error is kept.
    pub error_hold_ms: u64,
}

/// When a response came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arrival {
    /// The wall clock when its head was complete.
    pub wall: UnixMs,
    /// From the request to that, in milliseconds.
    pub delay_ms: u64,
}

/// What becomes of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// It is stored.
    Page(Windows),
    /// It is an error of the shop: told to those who wait and kept for a moment, unless something
    /// stale may stand in for it.
    Error(Windows),
    /// It is told to those who wait, and remembered as uncacheable.
    Not(Refusal),
}

/// For how long a response may be used, in milliseconds from its arrival.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Windows {
    /// Its age on arrival.
    pub age_ms: u64,
    /// Fresh for so long.
    pub fresh_ms: u64,
    /// After that, served while it is fetched again.
    pub refill_ms: u64,
    /// After that, served rather than an error.
    pub error_ms: u64,
    /// By how much it was stale already when it came.
    pub overdue_ms: u64,
    /// Never served stale, not even to a client that would take it.
    pub never_stale: bool,
    /// Not fresh even on arrival: it is the answer to its own request and to no other, so that those
    /// who wait ask for themselves, at once and side by side.
    pub alone: bool,
}

/// Why a response is not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Its status is not one that is stored.
    Status,
    /// `no-store`, `private`, or `Vary: *`.
    Directive,
    /// It was not fresh even on arrival.
    Stale,
    /// Its body is longer than `cache.entry_bytes_max`.
    TooLarge,
    /// It is the answer to this client's request alone: `Authorization`, or the client's `no-store`.
    /// Nothing follows for others.
    Client,
    /// It sets a cookie, which the route does not store.
    Cookie,
    /// It has more tags than a page may have, or longer ones.
    Tags,
    /// The fills under way take as much memory as they may.
    NoRoom,
    /// Only the close of the connection ends its body, so that a cut cannot be told from the end.
    Undelimited,
}

impl Refusal {
    /// What an operator is told.
    pub fn text(self) -> &'static str {
        match self {
            Refusal::Status => "its status is not one that is stored",
            Refusal::Directive => "the shop says no-store, private or Vary: *",
            Refusal::Stale => "it is not fresh even on arrival (no-cache, max-age=0, or too old)",
            Refusal::TooLarge => "its body is longer than cache.entry_bytes_max allows",
            Refusal::Client => "it is one client's alone",
            Refusal::Cookie => "it sets a cookie, which the route does not store",
            Refusal::Tags => "it has more tags than cache.tags_max allows, or longer ones",
            Refusal::NoRoom => "the fills under way take as much memory as they may",
            Refusal::Undelimited => "only the close of the connection ends its body",
        }
    }
}

/// Decides what becomes of a response to a fill.
///
/// With explicit freshness the response's own windows count (RFC 5861), and `stale` of the route only
/// where the shop fails; without it, `ttl` and `stale` of the route. `force` sets aside all that a
/// response says which may not be stored. `Vary` other than `*` does not matter: a fill carries
/// nothing that could vary.
pub fn keep(status: StatusCode, headers: &HeaderMap, route: &Route, arrival: Arrival) -> Keep {
    let age_ms = age_s(headers).saturating_mul(1000).saturating_add(arrival.delay_ms);
    if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
        let fresh_ms = route.error_hold_ms;
        return Keep::Error(Windows { fresh_ms, ..Windows::default() });
    }
    let directives = Directives::of(headers);
    // A sale page is either everybody's or it is not: field names make no difference here.
    let no_cache = directives.no_cache || directives.no_cache_fields;
    let is_private = directives.private || directives.private_fields;
    let is_refused = directives.no_store || is_private || vary::is_all(headers);
    let ttl_max_ms = match status.as_u16() {
        200 | 301 | 308 => u64::MAX,
        404 | 410 => ABSENT_TTL_MAX_MS,
        _ => return Keep::Not(Refusal::Status),
    };
    if is_refused && !route.force {
        return Keep::Not(Refusal::Directive);
    }
    let is_forced = route.force && (is_refused || no_cache);
    let explicit = match is_forced {
        true => None,
        false if no_cache => Some(0),
        false => directives.lifetime_s(headers, arrival.wall),
    };
    let mut windows = match explicit {
        Some(lifetime_s) => explicit_windows(&directives, lifetime_s, age_ms, route),
        None => Windows {
            age_ms,
            fresh_ms: route.ttl_ms,
            refill_ms: route.stale_ms,
            error_ms: route.stale_ms,
            ..Windows::default()
        },
    };
    if ttl_max_ms != u64::MAX {
        let fresh_ms = windows.fresh_ms.min(ttl_max_ms);
        windows = Windows { age_ms, fresh_ms, refill_ms: 0, error_ms: 0, ..Windows::default() };
    }
    if windows.fresh_ms + windows.refill_ms == 0 {
        return Keep::Not(Refusal::Stale);
    }
    Keep::Page(windows)
}

fn explicit_windows(
    directives: &Directives,
    lifetime_s: u64,
    age_ms: u64,
    route: &Route,
) -> Windows {
    let fresh_ms = (lifetime_s * 1000).saturating_sub(age_ms);
    // `s-maxage` forbids stale use as `proxy-revalidate` does (RFC 9111 5.2.2.10), unless the shop
    // allows it in the same breath.
    let forbidden = directives.must_revalidate || directives.no_cache || directives.no_cache_fields;
    let silent_ms = if directives.s_maxage_s.is_some() { 0 } else { route.stale_ms };
    let window = |said: Option<u64>, or_ms: u64| match said {
        _ if forbidden => 0,
        Some(seconds) => seconds * 1000,
        None => or_ms,
    };
    let refill_ms = match fresh_ms {
        // Stale on arrival: storing it would serve it stale at once to everybody.
        0 => 0,
        _ => window(directives.stale_while_revalidate_s, 0),
    };
    let error_ms = window(directives.stale_if_error_s, silent_ms).max(refill_ms);
    Windows { age_ms, fresh_ms, refill_ms, error_ms, ..Windows::default() }
}

/// A missing page is believed for at most this long: an activity may appear at any moment.
const ABSENT_TTL_MAX_MS: u64 = 1_000;

#[cfg(test)]
mod tests;
