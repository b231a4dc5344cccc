//! What every worker makes its edge of. Cheap to clone; moves between threads.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use tokio_util::task::TaskTracker;

use crate::answers::Answers;
use crate::claims::Claims;
use crate::clock::Clock;
use crate::config::schema::ListenTls;
use crate::config::{Settings, schema};
use crate::edge::{self, Edge, Entrance, Entry, Ways};
use crate::gate::{self, Gate};
use crate::http::Trust;
use crate::ident::Name;
use crate::log::AccessLog;
use crate::metrics::Sink;
use crate::page::{Cache, Pages};
use crate::proxy::{Proxy, Upgrades};
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
    book: Arc<SaleBook>,
    gate: Arc<gate::Shared>,
    entries: BTreeMap<Name, Entry>,
    upgrades: Upgrades,
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
        Kit::after(None, settings, book, log)
    }

    /// The parts for other settings: cache, counters, connections and what is under way go on. Nothing
    /// changes before [`Kit::take_effect`].
    pub fn next(
        &self,
        settings: &Arc<Settings>,
        book: &Arc<SaleBook>,
        log: AccessLog,
    ) -> Result<Kit, String> {
        Kit::after(Some(self), settings, book, log)
    }

    fn after(
        old: Option<&Kit>,
        settings: &Arc<Settings>,
        book: &Arc<SaleBook>,
        log: AccessLog,
    ) -> Result<Kit, String> {
        let trust =
            Trust::new(&settings.trust.proxies).map_err(|bad| format!("trust.proxies: {bad}"))?;
        let trust = Arc::new(trust);
        let answers = Arc::new(Answers::new(&settings.answers)?);
        let entry = |(name, listen): (&Name, &schema::Listen)| match Entry::new(listen) {
            Ok(entry) => Ok((name.clone(), entry)),
            Err(what) => Err(format!("listen.{name}.{what}")),
        };
        Ok(Kit {
            edge: edge::Shared::new(settings, book.clone(), answers.clone(), trust.clone())?,
            cache: old.map_or_else(|| Cache::new(settings), |old| old.cache.clone()),
            upstream: match old {
                Some(old) => old.upstream.next(&settings.upstream)?,
                None => upstream::Shared::with_tls(&settings.upstream)?,
            },
            fronts: fronts(settings, old.map(|old| &old.fronts))?,
            gate: match old {
                Some(old) => old.gate.next(settings, answers.clone(), trust.clone())?,
                None => gate::Shared::new(settings, answers.clone(), trust.clone())?,
            },
            entries: settings.listen.iter().map(entry).collect::<Result<_, _>>()?,
            upgrades: match old {
                Some(old) => old.upgrades.next(&settings.site),
                None => Upgrades::new(&settings.site),
            },
            settings: settings.clone(),
            trust,
            log,
            answers,
            book: book.clone(),
            purchases: old.map(|old| old.purchases.clone()).unwrap_or_default(),
            fills: old.map(|old| old.fills.clone()).unwrap_or_default(),
        })
    }

    /// Everything that is made of files and can be read again while we run.
    pub fn watched(&self) -> Vec<Arc<dyn Watched>> {
        let servers = self.fronts.values().filter_map(|front| front.tls.clone());
        let servers = servers.map(|server| server as Arc<dyn Watched>);
        servers.chain(self.upstream.watched()).collect()
    }

    /// What is special about the listener called `name`.
    pub(super) fn entry(&self, name: &Name) -> Entry {
        let front = self.fronts.get(name).cloned().unwrap_or_default();
        Entry { front, ..self.entries.get(name).cloned().unwrap_or_default() }
    }

    /// What all workers share and is not exchanged but changed.
    pub fn take_effect(&self) {
        self.cache.set(&self.settings.cache);
        self.upstream.resize();
    }

    /// One worker's edge as each listener shows it, by their numbers. `old` is what the worker showed
    /// before.
    pub fn entrances(
        self,
        claims: Claims,
        entries: Vec<(usize, Entry)>,
        old: Option<&Entrance>,
        sink: &Sink,
    ) -> Vec<(usize, Rc<Entrance>)> {
        let Kit { settings, trust, edge, cache, upstream, purchases, log, answers, gate, .. } =
            self;
        let (book, fills, places) = (self.book, self.fills, self.upgrades);
        let upstreams = Rc::new(match old {
            Some(old) => old.proxy().upstreams().next(&upstream, sink.clone()),
            None => Upstreams::new(&upstream, sink.clone()),
        });
        let (to, counts) = (upstreams.clone(), sink.clone());
        let pages = Pages::new(&settings, cache, answers.clone(), to, fills, counts, &book);
        let (to, counts) = (upstreams.clone(), sink.clone());
        let hook = Edge::admissions(log.clone());
        let gate = Gate::new(gate, to, claims, purchases, counts).with_hook(hook);
        let proxy = Proxy::new(&settings, answers, trust, upstreams, &places, sink.clone());
        let ways = Ways { pages, gate, proxy };
        let edge = Edge::new(edge, &settings.log, log, ways, sink.clone());
        let entrance = |(listener, entry)| (listener, Entrance::new(edge.clone(), entry));
        entries.into_iter().map(entrance).collect()
    }
}

/// Reads the certificates of all listeners, but for those that `old` has under the same settings. An
/// error names the setting and the file.
pub fn fronts(
    settings: &Settings,
    old: Option<&BTreeMap<Name, Front>>,
) -> Result<BTreeMap<Name, Front>, String> {
    let mut fronts = BTreeMap::new();
    for (name, listen) in &settings.listen {
        let http2 = listen.speaks_http2();
        let kept = |tls: &ListenTls| {
            let server = old?.get(name)?.tls.clone()?;
            server.is_of(tls, http2).then_some(server)
        };
        let made = |tls: &ListenTls| match kept(tls) {
            Some(server) => Ok(server),
            None => Server::new(name, tls, http2, Clock::system()),
        };
        let tls = listen.tls.as_ref().map(made).transpose().map_err(|error| error.to_string())?;
        fronts.insert(name.clone(), Front { tls, http2 });
    }
    Ok(fronts)
}
