//! `GET /v1/stats`: the whole node at a glance, for the dashboard and `penstock stats`.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::Context;
use super::alarms;
use super::live::{Sample, Window};
use super::memory::Memory;
use super::{ready, sales};
use crate::metrics::{Counter, Timing};
use crate::outcome::{REASONS, Reason};
use crate::sale::{PoolState, SaleSnapshot};

/// Everything, as one JSON object; `DESIGN` words, units last in names.
pub(super) fn stats(context: &Context, window: &Window) -> Value {
    let now = context.clock.now();
    let memory = Memory::now();
    let wrong = ready::wrong(context);
    let sales: Vec<Value> = context.book.all().iter().map(|sale| of_sale(sale, context)).collect();
    json!({
        "t": now.wall,
        "version": env!("CARGO_PKG_VERSION"),
        "host": host(),
        "config": context.view().config.hash,
        "configs": context.fleet.configs(),
        "up_s": now.mono.0 / 1_000,
        "ready": wrong.is_empty(),
        "ledger_ms": now.ledger,
        "ledger_offset_ms": i128::from(now.ledger.0) - i128::from(now.wall.0),
        "ledger_error_ms": now.ledger_err_ms,
        "alarms": alarms::of(context, window, &wrong, memory),
        "sales": sales,
        "total": counts(window.now(), None),
        "per_s": rates(window, SECOND),
        "per_s_10s": rates(window, TEN_SECONDS),
        "took_ms": took(window),
        "cache": cache(context, window),
        "upstreams": context.view().upstream.groups(),
        "servers": context.view().upstream.report(),
        "store": store(window),
        "memory": memory,
        "connections": (context.connections)(),
        "connections_max": context.view().connections_max,
        "purchases_under_way": context.claims.under_way(),
    })
}

/// What the curves show of one second.
pub(super) fn point(stats: &Value) -> Value {
    let sum = |name: &str| -> u64 {
        let sales = stats["sales"].as_array().into_iter().flatten();
        sales.filter_map(|sale| sale[name].as_u64()).sum()
    };
    let upstreams = stats["upstreams"].as_array().into_iter().flatten();
    let purchases: u64 = upstreams.filter_map(|group| group["purchases"].as_u64()).sum();
    let (rate, took) = (&stats["per_s"], &stats["took_ms"]);
    json!({
        "t": stats["t"],
        "requests": rate["requests"],
        "purchase": rate["purchase"],
        "refused": rate["refused"],
        "admitted": rate["admitted"],
        "confirmed": sum("confirmed"),
        "held": sum("held"),
        "limbo": sum("limbo"),
        "shop": purchases,
        "shop_p99_ms": took["shop"]["p99"],
        "edge_p99_ms": took["page"]["p99"],
        "hit_permille": stats["cache"]["hit_permille"],
        "memory": stats["memory"]["bytes"],
    })
}

fn of_sale(sale: &Arc<SaleSnapshot>, context: &Context) -> Value {
    let now = context.clock.now();
    let mut told = sales::describe(sale, context);
    if let Some(fields) = told.as_object_mut() {
        // Who looks at the wall need not know the key of the users' hashes.
        fields.shift_remove("salt");
        fields.insert("learning".to_owned(), sale.state.is_learning_at(now.ledger).into());
        let room = |pool: &PoolState| pool.room(sale.state.overshoot_permille);
        let room: i64 = sale.state.pools.iter().map(room).sum();
        fields.insert("room".to_owned(), room.into());
    }
    told
}

/// Counts of a sample, or what they rose by since `earlier`.
fn counts(sample: &Sample, earlier: Option<&Sample>) -> Map<String, Value> {
    let since = |of: &dyn Fn(&Sample) -> u64| of(sample) - earlier.map_or(0, of).min(of(sample));
    let counter = |counter| since(&|sample: &Sample| sample.counter(counter));
    let mut counts = Map::new();
    let routes = [
        ("page", Counter::RequestsPage),
        ("availability", Counter::RequestsAvailability),
        ("purchase", Counter::RequestsPurchase),
        ("proxy", Counter::RequestsProxy),
        ("own", Counter::RequestsOwn),
    ];
    let requests: u64 = routes.iter().map(|(_, of)| counter(*of)).sum();
    counts.insert("requests".to_owned(), requests.into());
    for (name, of) in routes.into_iter().chain(COUNTED) {
        counts.insert(name.to_owned(), counter(of).into());
    }
    let mut refused = 0;
    let mut reasons = Map::new();
    for row in REASONS {
        let n = since(&|sample: &Sample| sample.reason(row.reason));
        if n > 0 {
            reasons.insert(row.label.to_owned(), n.into());
        }
        if is_refusal(row.reason) {
            refused += n;
        }
    }
    counts.insert("refused".to_owned(), refused.into());
    counts.insert("reasons".to_owned(), reasons.into());
    counts
}

/// The same for each second since so many seconds ago, to a tenth.
fn rates(window: &Window, secs: usize) -> Value {
    let (now, then) = (window.now(), window.before(secs));
    // Tasks are late at times, and the first window is a short one.
    let ms = now.at.since(then.at).max(1);
    let rate = |n: u64| (n as f64 * 10_000.0 / ms as f64).round() / 10.0;
    let mut counts = counts(now, Some(then));
    for value in counts.values_mut() {
        match value {
            Value::Object(reasons) => {
                reasons.values_mut().for_each(|n| *n = rate(n.as_u64().unwrap_or(0)).into());
            }
            n => *n = rate(n.as_u64().unwrap_or(0)).into(),
        }
    }
    counts.into()
}

/// Times of the last ten seconds: bounds of buckets that so many stay under; null where there is
/// nothing, or no bound.
fn took(window: &Window) -> Value {
    let of = |timing: Timing| {
        let times = window.now().times(timing).since(window.before(TEN_SECONDS).times(timing));
        json!({
            "count": times.count(),
            "p50": times.below_ms(500),
            "p99": times.below_ms(990),
            "mean": (times.count() > 0).then(|| times.sum_ms / times.count()),
        })
    };
    json!({
        "page": of(Timing::RequestPage),
        "availability": of(Timing::RequestAvailability),
        "purchase": of(Timing::RequestPurchase),
        "proxy": of(Timing::RequestProxy),
        "upstream": of(Timing::Upstream),
        "shop": of(Timing::Purchase),
    })
}

fn cache(context: &Context, window: &Window) -> Value {
    let report = context.cache.report();
    let (now, then) = (window.now(), window.before(TEN_SECONDS));
    let came = |of: Counter| now.counter(of) - then.counter(of).min(now.counter(of));
    let hits = came(Counter::CacheHits) + came(Counter::CacheStale);
    let all = hits + came(Counter::CacheWaited) + came(Counter::CacheMisses);
    json!({
        "entries": report.entries,
        "bytes": report.bytes,
        "bytes_max": report.bytes_max,
        "fills": report.fills,
        "hits": now.counter(Counter::CacheHits),
        "stale": now.counter(Counter::CacheStale),
        "waited": now.counter(Counter::CacheWaited),
        "misses": now.counter(Counter::CacheMisses),
        "passes": now.counter(Counter::CachePasses),
        "fill_errors": now.counter(Counter::CacheFillErrors),
        // Of the last ten seconds; those who waited for a fill are no hits.
        "hit_permille": (all > 0).then(|| hits * 1_000 / all.max(1)),
    })
}

fn store(window: &Window) -> Value {
    let now = window.now();
    json!({
        "claims": now.counter(Counter::Claims),
        "batches": now.counter(Counter::ClaimBatches),
        "errors": now.counter(Counter::StoreErrors),
        "reconnects": now.counter(Counter::StoreReconnects),
        "journal_lines": now.counter(Counter::JournalLines),
        "journal_errors": now.counter(Counter::JournalErrors),
    })
}

/// Whether a purchase that was answered so was kept from the shop.
fn is_refusal(reason: Reason) -> bool {
    !matches!(
        reason,
        Reason::Admitted
            | Reason::Replayed
            | Reason::Confirmed
            | Reason::Pending
            | Reason::Alias
            | Reason::NotFound
            | Reason::Method
            | Reason::UnknownHost
            | Reason::BadGateway
            | Reason::GatewayTimeout
            | Reason::Internal
    )
}

fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}

const COUNTED: [(&str, Counter); 9] = [
    ("admitted", Counter::Admitted),
    ("confirmed", Counter::OutcomeConfirmed),
    ("failed", Counter::OutcomeFailed),
    ("unknown", Counter::OutcomeUnknown),
    ("pending", Counter::OutcomePending),
    ("unclassified", Counter::OutcomeUnclassified),
    ("upstream", Counter::UpstreamRequests),
    ("connections", Counter::Connections),
    ("bytes", Counter::ResponseBytes),
];
const SECOND: usize = 1;
const TEN_SECONDS: usize = 10;
