//! What the operator sees and moves of a node.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use tokio::sync::{RwLock, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::boot::Roots;
use super::kit::Kit;
use super::ledger::Ledger;
use super::memory;
use crate::admin::{self, ConfigState, Locate, Located, Order, Standing, View};
use crate::config::Settings;
use crate::edge;
use crate::listener::Caps;
use crate::page::{self, Url};

/// All of it, as the node begins.
pub(super) fn context(
    roots: &Roots,
    kit: &Kit,
    ledger: &Ledger,
    (caps, memory): (&Arc<Caps>, &Arc<memory::Seen>),
    config: ConfigState,
    orders: mpsc::Sender<Order>,
) -> Arc<admin::Context> {
    let open = caps.clone();
    Arc::new(admin::Context {
        registry: roots.registry.clone(),
        sink: roots.registry.sink(),
        clock: roots.clock.clone(),
        book: roots.book.clone(),
        claims: ledger.claims.clone(),
        fleet: admin::Fleet::new(ledger.store.clone()),
        cache: kit.cache.clone(),
        crew: OnceLock::new(),
        purges_end: RwLock::new(false),
        view: ArcSwap::from_pointee(view(&kit.settings, kit, config)),
        orders,
        connections: Box::new(move || open.open()),
        gauges: gauges(memory),
        live: admin::Live::default(),
        draining: false.into(),
        closing: CancellationToken::new(),
        operators: TaskTracker::new(),
    })
}

/// What the operator sees of a config.
pub(super) fn view(settings: &Settings, kit: &Kit, config: ConfigState) -> View {
    View {
        config,
        upstream: kit.upstream.clone(),
        sites: settings.site.keys().cloned().collect(),
        locate: locate(kit.edge.clone(), kit.settings.clone()),
        connections_max: settings.limits.connections_max.into(),
    }
}

/// What the memory guard saw, for `/metrics`.
fn gauges(memory: &Arc<memory::Seen>) -> Vec<admin::Gauge> {
    let gauge = |name, help, read: fn(&memory::Seen) -> &AtomicU64| {
        let memory = memory.clone();
        let read = Box::new(move || read(&memory).load(Ordering::Relaxed));
        admin::Gauge { name, help, read }
    };
    vec![
        gauge("memory_guard_bytes", "Memory taken, as the guard counts it.", |seen| &seen.bytes),
        gauge("memory_guard_limit_bytes", "What may be taken; 0: no limit.", |seen| &seen.limit),
        gauge(
            "memory_level",
            "0 calm, 1 shedding idle connections, 2 shrinking the cache, 3 refusing new connections.",
            |seen| &seen.level,
        ),
    ]
}

/// Finds what is stored by the routes of the edge.
fn locate(edge: Arc<edge::Shared>, settings: Arc<Settings>) -> Locate {
    Box::new(move |url| {
        let named = edge.named(url)?;
        let edge::Named { site, host, canonical, path, query, is_page, city } = named;
        let url = Url { site: site.as_str(), host: &host, path: &path, query: query.as_deref() };
        let key = || page::url_key(&settings, &url);
        let what = match is_page {
            true => Standing::Page(city),
            false => key().map_or(Standing::Nothing, Standing::Stored),
        };
        Ok(Located { host, canonical, path, what })
    })
}

/// Does what clients of the edge say that may purge, on the control runtime, where the way to the other
/// nodes is.
pub(super) fn purger(context: &Arc<admin::Context>) -> edge::Purger {
    let (weak, control) = (Arc::downgrade(context), tokio::runtime::Handle::current());
    Box::new(move |purging| {
        let (weak, control) = (weak.clone(), control.clone());
        Box::pin(async move {
            let purge = async move {
                let context = weak.upgrade()?;
                let edge::Purging { site, url, tags, soft, who } = purging;
                // The snapshot that the next process reads is written already.
                let have_ended = context.purges_end.read().await;
                if *have_ended {
                    return None;
                }
                Some(admin::purge_for(&who, site, url, tags, soft, &context).await)
            };
            match control.spawn(purge).await {
                Ok(Some(purged)) => (purged.status, purged.body.to_string()),
                _ => (
                    http::StatusCode::SERVICE_UNAVAILABLE,
                    "{\"error\":\"the node is ending: purge again in a moment\"}".to_owned(),
                ),
            }
        })
    })
}
