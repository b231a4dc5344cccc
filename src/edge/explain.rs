//! What would become of a request, and why: the same way as [`Edge::decide`], by the same router, book
//! and cache, but nothing is counted and nobody is asked.

use http::Method;
use serde::Serialize;

use super::router::{Found, Site};
use super::{Edge, Entrance};
use crate::clock::Now;
use crate::http::head::BodyKind;
use crate::http::{Exchange, Field, Head, Note, Peer, Route, authority};
use crate::ident::RequestId;
use crate::page::{self, OrdinaryAsk};
use crate::sale::SaleSnapshot;

/// A request that nobody sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The method.
    pub method: Method,
    /// The whole URL.
    pub url: String,
    /// Fields of the request.
    pub headers: Vec<(String, String)>,
}

/// What would become of it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Explained {
    /// The site.
    pub site: Option<String>,
    /// The Host that the shop would be asked for, and that is in the key.
    pub host: Option<String>,
    /// What the request is: `page`, `availability`, `purchase`, `proxy` or `own`.
    pub route: &'static str,
    /// The activity, on its paths.
    pub activity: Option<String>,
    /// The city that it names.
    pub city: Option<String>,
    /// The sale of the activity, at this moment.
    pub sale: Option<Sale>,
    /// What the cache would do.
    pub cache: Option<page::explain::Explained>,
    /// What would be done.
    pub action: String,
    /// Why.
    pub why: String,
}

/// A sale at this moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Sale {
    /// Site and sale.
    pub id: String,
    /// What the public is told.
    pub state: &'static str,
    /// Whether a purchase may be tried.
    pub buyable: bool,
    /// Why not, or how sure.
    pub hint: Option<&'static str>,
    /// T0.
    pub opens_at_ms: u64,
    /// The end, if it has a time.
    pub ends_at_ms: Option<u64>,
    /// When time alone changes the state next.
    pub next_edge_ms: Option<u64>,
    /// Generation.
    pub epoch: u32,
    /// Version.
    pub version: u64,
}

impl Entrance {
    /// What would become of `question` at `now`; an error says what of it makes no sense.
    pub fn explain(&self, question: &Question, now: Now) -> Result<Explained, String> {
        let unclear = || format!("`{}` is not a URL like http://shop.example/a", question.url);
        let url: http::Uri = question.url.parse().map_err(|_| unclear())?;
        let named = url.authority().filter(|_| url.scheme().is_some()).ok_or_else(unclear)?;
        let host = authority::normalise(named.as_str().as_bytes()).ok_or_else(unclear)?;
        let field = |(name, value): &(String, String)| (name.clone(), value.clone());
        let own: Vec<(String, String)> = question.headers.iter().map(field).collect();
        let is_host = |name: &str| name.eq_ignore_ascii_case("host");
        let fields: Vec<Field<'_>> = own
            .iter()
            .filter(|(name, _)| !is_host(name))
            .map(|(name, value)| Field { name: name.as_bytes(), value: value.as_bytes() })
            .collect();
        let head = Head {
            method: question.method.clone(),
            version: http::Version::HTTP_11,
            path: if url.path().is_empty() { "/" } else { url.path() },
            query: url.query(),
            host,
            fields: &fields,
            body: BodyKind::None,
        };
        let (id, note) = (RequestId::default(), Note::default());
        let is_tls = url.scheme_str() == Some("https");
        let exchange = Exchange { now, id, peer: Peer::Unix, is_tls, terms: None, note };
        Ok(self.edge.explain(&head, &exchange, self.entry.health.as_deref()))
    }
}

impl Edge {
    fn explain(&self, head: &Head<'_>, exchange: &Exchange, health: Option<&str>) -> Explained {
        let shared = &*self.shared;
        if shared.own.is_own(head, health) {
            return said("own", "it is answered by Penstock itself", "the path is its own");
        }
        let Some(site) = shared.router.site(head) else {
            return said("own", "refused: unknown_host", "no site has this host");
        };
        let told = match site.find(head) {
            Found::Page { activity, city } => {
                let ask = site.page_of(activity, city, head, exchange);
                let host = Some(ask.host.to_owned());
                let cache = self.ways.pages.explain(&ask);
                let action = cache.as_ref().map_or("", |cache| cache.action).to_owned();
                let why = cache.as_ref().map_or("", |cache| cache.why).to_owned();
                let city = city.map(str::to_owned);
                let sale = self.sale_of(site, activity, exchange);
                let activity = Some(activity.to_owned());
                let route = "page";
                Explained { route, host, activity, city, sale, cache, action, why, site: None }
            }
            Found::Availability { activity } => {
                let told = self.of_activity(site, activity, exchange);
                let action = match &told.sale {
                    Some(sale) => format!("the flag is answered at once: {}", sale.state),
                    None => told.action.clone(),
                };
                Explained { route: "availability", action, ..told }
            }
            Found::Purchase { activity } => {
                let told = self.of_activity(site, activity, exchange);
                let sale = self.shared.book.get(site.name.as_str(), activity);
                let refusal = sale.and_then(|sale| sale.at(&exchange.now).refusal);
                let action = match (&told.sale, refusal) {
                    (None, _) => told.action.clone(),
                    (Some(_), Some(reason)) => format!("refused: {}", reason.label()),
                    (Some(_), None) => {
                        "judged by the gate: who buys, limits, and a claim in the ledger".to_owned()
                    }
                };
                Explained { route: "purchase", action, ..told }
            }
            Found::Preflight => {
                said("purchase", "answered at the edge", "OPTIONS on the path of a purchase")
            }
            Found::Proxied(route) => self.proxied_explained(site, route, head, exchange),
            Found::Refused(route, refusal) => {
                let action = format!("refused: {}", refusal.reason.label());
                let why = refusal.detail.unwrap_or("the rules of the router (docs/answers.md)");
                said(route.label(), &action, why)
            }
        };
        Explained { site: Some(site.name.to_string()), ..told }
    }

    fn of_activity(&self, site: &Site, activity: &str, exchange: &Exchange) -> Explained {
        let sale = self.sale_of(site, activity, exchange);
        let (action, why) = match &sale {
            _ if !self.shared.book.is_synced() => {
                ("refused: unavailable", "the store has not told its sales yet")
            }
            Some(_) => ("", "the state of the sale"),
            None if site.proxies_unlisted => ("proxied", "no sale has this activity"),
            None => ("refused: unknown_activity", "no sale has this activity"),
        };
        let activity = Some(activity.to_owned());
        Explained { activity, sale, ..said("", action, why) }
    }

    fn proxied_explained(
        &self,
        site: &Site,
        route: Route,
        head: &Head<'_>,
        exchange: &Exchange,
    ) -> Explained {
        let name = &site.name;
        let host = site.host_asked(head);
        let mut told = said(route.label(), "proxied, uncached", "the route is not cached");
        if site.upgrade(route, head).is_some() {
            told.why = "it asks for another protocol, which no cache answers".to_owned();
        } else if route == Route::Proxy && self.ways.pages.caches(name, head) {
            let forward = || self.ways.proxy.forward(name, head, exchange);
            let ask = OrdinaryAsk { site: name, head, exchange, host, forward: &forward };
            if let Some(cache) = self.ways.pages.explain_ordinary(&ask) {
                (told.action, told.why) = (cache.action.to_owned(), cache.why.to_owned());
                told.cache = Some(cache);
            }
        }
        Explained { host: Some(host.to_owned()), ..told }
    }

    fn sale_of(&self, site: &Site, activity: &str, exchange: &Exchange) -> Option<Sale> {
        let sale = self.shared.book.get(site.name.as_str(), activity)?;
        Some(Sale::of(&sale, exchange))
    }
}

impl Sale {
    fn of(sale: &SaleSnapshot, exchange: &Exchange) -> Sale {
        let view = sale.at(&exchange.now);
        let state = &sale.state;
        Sale {
            id: state.id.to_string(),
            state: view.availability.label(),
            buyable: view.buyable,
            hint: view.hint.map(|hint| hint.label()),
            opens_at_ms: state.opens_at.0,
            ends_at_ms: state.ends_at.map(|end| end.0),
            next_edge_ms: view.next_edge.map(|edge| edge.0),
            epoch: state.epoch,
            version: state.version,
        }
    }
}

fn said(route: &'static str, action: &str, why: &str) -> Explained {
    Explained { route, action: action.to_owned(), why: why.to_owned(), ..Explained::default() }
}
