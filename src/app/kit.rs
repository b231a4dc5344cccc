//! What every worker makes its edge of. Cheap to clone; moves between threads.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use tokio_util::task::TaskTracker;

use crate::answers::Answers;
use crate::claims::Claims;
use crate::config::{Settings, schema};
use crate::edge::{self, Edge, Entrance, Entry};
use crate::gate::{self, Gate};
use crate::http::Trust;
use crate::ident::Name;
use crate::log::AccessLog;
use crate::metrics::Sink;
use crate::page::{Cache, Pages};
use crate::proxy::{Proxy, Upgrades};
use crate::sale::SaleBook;
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
    answers: Arc<Answers>,
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
            cache: Cache::new(settings),
            upstream: upstream::Shared::new(&settings.upstream),
            gate: gate::Shared::new(settings, answers.clone(), trust.clone())?,
            entries: settings.listen.iter().map(entry).collect::<Result<_, _>>()?,
            upgrades: Upgrades::new(&settings.site),
            settings: settings.clone(),
            trust,
            log,
            answers,
            purchases: TaskTracker::new(),
            fills: TaskTracker::new(),
        })
    }

    /// What is special about the listener called `name`.
    pub(super) fn entry(&self, name: &Name) -> Entry {
        self.entries.get(name).cloned().unwrap_or_default()
    }

    /// One worker's edge as each listener shows it.
    pub fn entrances(self, claims: Claims, entries: Vec<Entry>, sink: &Sink) -> Vec<Rc<Entrance>> {
        let Kit { settings, trust, edge, cache, upstream, purchases, log, answers, gate, .. } =
            self;
        let (fills, places) = (self.fills, self.upgrades);
        let upstreams = Rc::new(Upstreams::new(&upstream, sink.clone()));
        let (to, counts) = (upstreams.clone(), sink.clone());
        let pages = Pages::new(&settings, cache, answers.clone(), to, fills, counts);
        let (to, counts) = (upstreams.clone(), sink.clone());
        let hook = Edge::admissions(log.clone());
        let gate = Gate::new(gate, to, claims, purchases, counts).with_hook(hook);
        let proxy = Proxy::new(&settings, answers, trust, upstreams, &places, sink.clone());
        let edge = Edge::new(edge, &settings.log, log, pages, gate, proxy, sink.clone());
        entries.into_iter().map(|entry| Entrance::new(edge.clone(), entry)).collect()
    }
}
