//! One synchronous decision for each request: `decide` is the whole life of a request on one page.
//!
//! ```text
//! own paths → site by host → route by path and method ─┬─ page
//!                                                      ├─ availability
//!                                                      ├─ gate
//!                                                      └─ proxy, unless it would pass the gate by
//! ```

mod alias;
mod city;
mod explain;
mod forwarding;
mod note;
mod own;
mod purge;
mod refuse;
mod router;
mod targets;
mod upgrade;

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::answers::Answers;
use crate::availability::Availabilities;
use crate::config::schema;
use crate::gate::{Gate, Hook, Purchase};
use crate::http::{Done, Exchange, Head, ProxyHeader, Route, Service, Step, Trust};
use crate::ident::Name;
use crate::log::AccessLog;
use crate::metrics::{Counter, Sink};
use crate::outcome::Reason;
use crate::page::{self, Pages};
use crate::proxy::Proxy;
use crate::sale::SaleBook;
use crate::tls::{Front, Terms};

pub use self::explain::{Explained, Question};
use self::forwarding::Forwarding;
use self::note::Notes;
use self::own::Own;
use self::purge::Purges;
pub use self::purge::{Purged, Purger, Purging};
use self::refuse::{Refusal, Refusals};
pub use self::router::{BadRoute, Named, Router};
use self::router::{Found, Site};
pub use self::targets::Targets;

/// What the edges of all workers share.
#[derive(Debug)]
pub struct Shared {
    router: Router,
    book: Arc<SaleBook>,
    availabilities: Availabilities,
    trust: Arc<Trust>,
    own: Own,
    refusals: Refusals,
    forwarding: Forwarding,
    purges: Purges,
    draining: AtomicBool,
}

impl Shared {
    /// Why a request may not come by its connection (RFC 9110 15.5.20), if it may not.
    fn misdirected(&self, site: &Site, head: &Head<'_>, exchange: &Exchange) -> Option<Refusal> {
        let terms = exchange.terms.as_deref();
        if site.is_for_certified && !terms.is_some_and(Terms::has_certificate) {
            return Some(Refusal::misdirected("this host is for clients that show a certificate"));
        }
        // A front of ours may send everything over one connection.
        let is_elsewhere = terms.is_some_and(|terms| !terms.speaks_for(&head.host))
            && !self.trust.is_trusted(&exchange.peer);
        is_elsewhere.then(|| Refusal::misdirected("this connection is for another host"))
    }

    /// Reads the sites and their routes; an error says which setting is wrong.
    pub fn new(
        settings: &schema::Settings,
        book: Arc<SaleBook>,
        answers: Arc<Answers>,
        trust: Arc<Trust>,
    ) -> Result<Arc<Shared>, String> {
        Ok(Arc::new(Shared {
            router: Router::new(&settings.site).map_err(|e| e.to_string())?,
            book,
            refusals: Refusals::new(answers),
            availabilities: Availabilities::new(settings)?,
            trust,
            own: Own::new(),
            forwarding: Forwarding::default(),
            purges: Purges::new(&settings.cache)?,
            draining: AtomicBool::new(false),
        }))
    }

    /// What a URL names; an error says why it names nothing here.
    pub fn named(&self, url: &str) -> Result<Named, String> {
        self.router.named(url)
    }

    /// From now on `purger` does what clients say that may purge.
    pub fn purge_by(&self, purger: Purger) {
        self.purges.by(purger);
    }

    /// From now on health checks say that this node is leaving.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }
}

/// One worker's edge.
#[derive(Debug)]
pub struct Edge {
    shared: Arc<Shared>,
    ways: Ways,
    notes: Notes,
    sink: Sink,
}

/// Where one worker's requests go.
#[derive(Debug)]
pub struct Ways {
    /// Pages.
    pub pages: Pages,
    /// Purchases.
    pub gate: Gate,
    /// Everything else.
    pub proxy: Proxy,
}

impl Edge {
    /// What writes the line of every admission to `log`.
    pub fn admissions(log: AccessLog) -> Hook {
        note::admissions(log)
    }

    /// One worker's edge.
    pub fn new(
        shared: Arc<Shared>,
        settings: &schema::Log,
        log: AccessLog,
        ways: Ways,
        sink: Sink,
    ) -> Rc<Edge> {
        let notes = Notes::new(settings, log, shared.trust.clone());
        Rc::new(Edge { shared, ways, notes, sink })
    }
}

/// An edge as one listener shows it.
#[derive(Debug)]
pub struct Entrance {
    edge: Rc<Edge>,
    entry: Entry,
    /// Whether nothing but health is answered.
    is_for_health: bool,
}

/// What is special about one listener.
#[derive(Clone, Debug, Default)]
pub struct Entry {
    /// Its own path for health checks, beside `/_penstock/health`.
    pub health: Option<String>,
    /// What its connections begin with.
    pub proxy_header: Option<Arc<ProxyHeader>>,
    /// TLS and protocols.
    pub front: Front,
}

impl Entry {
    /// As `listen.X` says, without TLS; an error says which setting is wrong.
    pub fn new(listen: &schema::Listen) -> Result<Entry, String> {
        let proxy_header = listen.proxy_protocol.as_ref().map(ProxyHeader::new).transpose();
        let proxy_header = proxy_header.map_err(|bad| format!("proxy_protocol.from: {bad}"))?;
        let proxy_header = proxy_header.map(Arc::new);
        Ok(Entry { health: listen.health.clone(), proxy_header, front: Front::default() })
    }
}

impl Entrance {
    /// An edge as `entry` says.
    pub fn new(edge: Rc<Edge>, entry: Entry) -> Rc<Entrance> {
        Rc::new(Entrance { edge, entry, is_for_health: false })
    }

    /// The pages of an activity, to be warmed; an error says what is missing.
    pub fn targets(
        &self,
        site: &Name,
        activity: &Name,
        cities: &[Name],
        host: &Option<String>,
    ) -> Result<Targets, String> {
        self.edge.shared.router.targets(site, activity.as_str(), cities, host.as_deref())
    }

    /// The worker's pages, to be warmed.
    pub fn pages(&self) -> &Pages {
        &self.edge.ways.pages
    }

    /// The worker's proxy, whose connections the entrance after this one goes on with.
    pub fn proxy(&self) -> &Proxy {
        &self.edge.ways.proxy
    }
}

impl Service for Entrance {
    fn proxy_header(&self) -> Option<Arc<ProxyHeader>> {
        self.entry.proxy_header.clone()
    }

    fn health_only(&self) -> Option<Rc<Entrance>> {
        let (edge, entry) = (self.edge.clone(), self.entry.clone());
        Some(Rc::new(Entrance { edge, entry, is_for_health: true }))
    }

    fn decide(&self, head: &Head<'_>, exchange: &Exchange) -> Step {
        let (edge, health) = (&*self.edge, self.entry.health.as_deref());
        let (route, step) = if self.is_for_health && !Own::is_health(head, health) {
            edge.lacks_header(head, exchange)
        } else {
            edge.decide(head, exchange, health)
        };
        edge.notes.begun(route, &step, head, exchange, &edge.sink);
        step
    }

    fn front(&self) -> Front {
        self.entry.front.clone()
    }

    fn finished(&self, exchange: &Exchange, done: &Done) {
        self.edge.notes.finished(exchange, done, &self.edge.sink);
    }
}

impl Edge {
    fn decide(&self, head: &Head<'_>, exchange: &Exchange, health: Option<&str>) -> (Route, Step) {
        let shared = &*self.shared;
        shared.forwarding.look(head, exchange, &shared.trust, &self.sink);
        if shared.own.is_own(head, health) {
            let draining = shared.draining.load(Ordering::Acquire);
            return (
                Route::Own,
                shared.own.answer(head, exchange, health, draining, &shared.refusals),
            );
        }
        let Some(site) = shared.router.site(head) else {
            let refusal = Refusal::of(Reason::UnknownHost);
            return (Route::Own, shared.refusals.step(head, exchange, refusal, &self.sink));
        };
        if let Some(refusal) = shared.misdirected(site, head, exchange) {
            return (Route::Own, shared.refusals.step(head, exchange, refusal, &self.sink));
        }
        match site.find(head) {
            Found::Page { activity, city } => {
                let site = site.page_of(activity, city, head, exchange);
                (Route::Page, self.ways.pages.decide(site))
            }
            Found::Availability { activity } => {
                (Route::Availability, self.availability(site, activity, head, exchange))
            }
            Found::Purchase { activity } => {
                (Route::Purchase, self.purchase(site, activity, head, exchange))
            }
            Found::Preflight => {
                (Route::Purchase, self.ways.gate.preflight(&site.name, head, exchange))
            }
            Found::Proxied(route) if shared.purges.takes(head) => {
                (route, shared.purges.step(&site.name, head, exchange, &shared.trust))
            }
            Found::Proxied(route) => (route, self.proxied(site, route, head, exchange)),
            Found::Refused(route, refusal) => {
                (route, shared.refusals.step(head, exchange, refusal, &self.sink))
            }
        }
    }

    /// Who may only ask for health asks for something else.
    fn lacks_header(&self, head: &Head<'_>, exchange: &Exchange) -> (Route, Step) {
        self.sink.inc(Counter::ProxyHeadersMissing);
        let refusal = Refusal::closing("a PROXY header must come before requests of clients here");
        (Route::Own, self.shared.refusals.step(head, exchange, refusal, &self.sink))
    }

    /// Everything that is no sale's: cached where the site says so, and what changes things watched.
    fn proxied(&self, site: &Site, route: Route, head: &Head<'_>, exchange: &Exchange) -> Step {
        let name = &site.name;
        let upgrade = site.upgrade(route, head);
        if upgrade.is_some() {
            // No answer to it is anybody else's.
            return self.ways.proxy.decide(name, route, upgrade, head, exchange);
        }
        let host = site.host_asked(head);
        if route == Route::Proxy && self.ways.pages.caches(name, head) {
            let forward = || self.ways.proxy.forward(name, head, exchange);
            let ask = page::OrdinaryAsk { site: name, head, exchange, host, forward: &forward };
            if let Some(step) = self.ways.pages.ordinary(&ask) {
                return step;
            }
        }
        let step = self.ways.proxy.decide(name, route, None, head, exchange);
        self.ways.pages.watch(name, host, head, exchange, step)
    }

    fn availability(
        &self,
        site: &Site,
        activity: &str,
        head: &Head<'_>,
        exchange: &Exchange,
    ) -> Step {
        let shared = &*self.shared;
        match shared.book.get(site.name.as_str(), activity) {
            _ if !shared.book.is_synced() => self.unavailable(head, exchange),
            Some(sale) => {
                Step::Answer(shared.availabilities.answer(&site.name, &sale, head, exchange))
            }
            None => self.unlisted(site, Route::Availability, head, exchange),
        }
    }

    fn purchase(&self, site: &Site, activity: &str, head: &Head<'_>, exchange: &Exchange) -> Step {
        let shared = &*self.shared;
        match shared.book.get(site.name.as_str(), activity) {
            _ if !shared.book.is_synced() => self.unavailable(head, exchange),
            Some(sale) => {
                let remember = || self.notes.purchase(head, exchange);
                let site = &site.name;
                self.ways.gate.decide(Purchase {
                    site,
                    head,
                    exchange,
                    sale: &sale,
                    remember: &remember,
                })
            }
            None => self.unlisted(site, Route::Purchase, head, exchange),
        }
    }

    /// Nobody knows yet which sales there are: not the time to say that one is unknown.
    fn unavailable(&self, head: &Head<'_>, exchange: &Exchange) -> Step {
        let refusal = Refusal::of(Reason::Unavailable);
        self.shared.refusals.step(head, exchange, refusal, &self.sink)
    }

    /// An activity without a sale.
    fn unlisted(&self, site: &Site, route: Route, head: &Head<'_>, exchange: &Exchange) -> Step {
        if site.proxies_unlisted {
            return self.ways.proxy.decide(&site.name, route, None, head, exchange);
        }
        let refusal = Refusal::of(Reason::UnknownActivity);
        self.shared.refusals.step(head, exchange, refusal, &self.sink)
    }
}

impl Site {
    /// The shop is asked for the client's own Host on an ordinary route: another one's is another page.
    fn host_asked<'a>(&'a self, head: &'a Head<'a>) -> &'a str {
        match (&*head.host, &self.canonical) {
            ("", Some(canonical)) => canonical,
            (host, _) => host,
        }
    }

    /// What the cache needs to know of a request for a page.
    fn page_of<'a>(
        &'a self,
        activity: &'a str,
        city: Option<&'a str>,
        head: &'a Head<'a>,
        exchange: &'a Exchange,
    ) -> page::Ask<'a> {
        let host = self.canonical.as_deref().unwrap_or(&head.host);
        page::Ask { site: &self.name, host, activity, city, head, exchange }
    }
}
