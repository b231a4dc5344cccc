//! A fill that stores nothing: how it is counted, and what clients are told.

use super::policy::judge::Refusal;
use crate::metrics::Counter;
use crate::outcome::Reason;
use crate::upstream::{Stage, UpstreamError};

/// Where a refusal counts.
pub(super) fn counter(refusal: Refusal) -> Counter {
    match refusal {
        Refusal::Status => Counter::CacheRefusedStatus,
        Refusal::Directive => Counter::CacheRefusedDirective,
        Refusal::Stale => Counter::CacheRefusedStale,
        Refusal::TooLarge => Counter::CacheRefusedTooLarge,
        Refusal::Client => Counter::CacheRefusedClient,
        Refusal::Cookie => Counter::CacheRefusedCookie,
        Refusal::Undelimited => Counter::CacheRefusedUndelimited,
        Refusal::Tags => Counter::CacheRefusedTags,
        Refusal::NoRoom => Counter::CacheRefusedNoRoom,
    }
}

/// What clients are told about an error.
pub(super) fn reason_of(error: &UpstreamError) -> Reason {
    match error.at {
        Stage::Queue => Reason::Overloaded,
        _ if error.timed_out => Reason::GatewayTimeout,
        _ => Reason::BadGateway,
    }
}
