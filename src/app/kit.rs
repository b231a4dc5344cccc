//! What every worker makes its edge of. Cheap to clone; moves between threads.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use tokio_util::task::TaskTracker;

use crate::answers::Answers;
use crate::claims::Claims;
use crate::clock::Clock;
use crate::config::Settings;
use crate::edge::{self, Edge, Entrance};
use crate::gate::{self, Gate};
use crate::http::Trust;
use crate::ident::Name;
use crate::log::AccessLog;
use crate::metrics::Sink;
use crate::page::{Cache, Pages};
use crate::proxy::Proxy;
use crate::sale::SaleBook;
use crate::tls::{Front, Server, Watched};
use crate::upstream::{self, Upstreams};

/// The parts that all workers share.
#[derive(Clone, Debug)]
pub struct Kit {
    pub(super) settings: Arc<Settings>,
    pub(super) trust: Arc<Trust>,
    pub(super) edge: Arc<edge::Shared>,
    pub(super) cache: Arc<Cache>,
    pub(super) upstream: Arc<upstream::Shared>,
    /// Purchases under way: a drain waits for them.
    pub(super) purchases: TaskTracker,
    pub(super) log: AccessLog,
    /// How each listener is reached.
    fronts: BTreeMap<Name, Front>,
    answers: Arc<Answers>,
    gate: Arc<gate::Shared>,
    /// Fills under way: whoever waits for one is a connection, and those are waited for.
    fills: TaskTracker,
}

impl Kit {
    /// Reads what the parts need of the settings, key files among it. An error names the setting.
    pub fn new(
        settings: &Arc<Settings>,
        book: &Arc<SaleBook>,
        log: AccessLog,
    ) -> Result<Kit, String> {
        let trust =
            Trust::new(&settings.trust.proxies).map_err(|bad| format!("trust.proxies: {bad}"))?;
        let trust = Arc::new(trust);
        let answers = Arc::new(Answers::new(&settings.answers)?);
        Ok(Kit {
            edge: edge::Shared::new(settings, book.clone(), answers.clone(), trust.clone())?,
            cache: Cache::new(settings),
            upstream: upstream::Shared::with_tls(&settings.upstream)?,
            fronts: fronts(settings)?,
            gate: gate::Shared::new(settings, answers.clone(), trust.clone())?,
            settings: settings.clone(),
            trust,
            log,
            answers,
            purchases: TaskTracker::new(),
            fills: TaskTracker::new(),
        })
    }

    /// Everything that is made of files and can be read again while we run.
    pub fn watched(&self) -> Vec<Arc<dyn Watched>> {
        let servers = self.fronts.values().filter_map(|front| front.tls.clone());
        let servers = servers.map(|server| server as Arc<dyn Watched>);
        servers.chain(self.upstream.watched()).collect()
    }

    /// One worker's edge as each of these listeners shows it.
    pub fn entrances(self, claims: Claims, listeners: &[Name], sink: &Sink) -> Vec<Rc<Entrance>> {
        let Kit {
            settings,
            trust,
            edge,
            cache,
            upstream,
            purchases,
            log,
            answers,
            gate,
            fills,
            fronts,
        } = self;
        let upstreams = Rc::new(Upstreams::new(&upstream, sink.clone()));
        let (to, counts) = (upstreams.clone(), sink.clone());
        let pages = Pages::new(&settings, cache, answers.clone(), to, fills, counts);
        let (to, counts) = (upstreams.clone(), sink.clone());
        let hook = Edge::admissions(log.clone());
        let gate = Gate::new(gate, to, claims, purchases, counts).with_hook(hook);
        let proxy = Proxy::new(&settings, answers, trust, upstreams, sink.clone());
        let edge = Edge::new(edge, &settings.log, log, pages, gate, proxy, sink.clone());
        let entrance = |name: &Name| {
            let health = settings.listen.get(name).and_then(|listen| listen.health.clone());
            Entrance::new(edge.clone(), health, fronts.get(name).cloned().unwrap_or_default())
        };
        listeners.iter().map(entrance).collect()
    }
}

/// Reads the certificates of all listeners. An error names the setting and the file.
pub fn fronts(settings: &Settings) -> Result<BTreeMap<Name, Front>, String> {
    let mut fronts = BTreeMap::new();
    for (name, listen) in &settings.listen {
        let http2 = listen.speaks_http2();
        let tls = listen.tls.as_ref().map(|tls| Server::new(name, tls, http2, Clock::system()));
        let tls = tls.transpose().map_err(|error| error.to_string())?;
        fronts.insert(name.clone(), Front { tls, http2 });
    }
    Ok(fronts)
}
