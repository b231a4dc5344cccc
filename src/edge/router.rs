//! Which site, and what of it: pure functions of a head. The rules of methods are DESIGN section 3,
//! point 6; the strict rules hold on the routes of a sale only.

use std::collections::BTreeMap;

use http::Method;
use rustc_hash::FxHashMap;

use super::alias;
use super::city::Cities;
use super::refuse::Refusal;
use super::upgrade::Upgrade;
use crate::config::pattern::{Captures, Pattern};
use crate::config::schema;
use crate::http::head::BodyKind;
use crate::http::{Head, Route, authority};
use crate::ident::Name;
use crate::outcome::Reason;

/// All sites.
#[derive(Debug)]
pub struct Router {
    sites: Vec<Site>,
    by_host: FxHashMap<String, usize>,
    /// The site that takes any host.
    any: Option<usize>,
}

/// A setting of a site that cannot be routed by.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("site.{site}.{setting}: {said}")]
pub struct BadRoute {
    site: Name,
    setting: &'static str,
    said: String,
}

/// One site, as requests see it.
#[derive(Debug)]
pub(super) struct Site {
    pub name: Name,
    /// The first of its hosts: what stands in keys, fills and purchases.
    pub canonical: Option<String>,
    /// Whether availability and purchase of an activity without a sale are proxied.
    pub proxies_unlisted: bool,
    /// Whether only clients that showed a certificate are served.
    pub is_for_certified: bool,
    /// Whether there is a page for each public state of a sale.
    pub by_state: bool,
    page: Option<Pattern>,
    availability: Option<Pattern>,
    purchase: Option<Pattern>,
    upgrade: Option<Upgrade>,
    pub cities: Cities,
}

/// What a URL names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The site.
    pub site: Name,
    /// The host, as it stands in keys of ordinary routes.
    pub host: String,
    /// The host of sale pages: the site's first one, or the same.
    pub canonical: String,
    /// Path.
    pub path: String,
    /// Query.
    pub query: Option<String>,
    /// Whether it is the page of a sale.
    pub is_page: bool,
    /// The city, if it is one and the URL names one.
    pub city: Option<String>,
}

/// What a request is on its site.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found<'a> {
    /// GET or HEAD of a page.
    Page { activity: &'a str, city: Option<&'a str> },
    /// GET, HEAD or OPTIONS of the flag.
    Availability { activity: &'a str },
    /// POST of a purchase.
    Purchase { activity: &'a str },
    /// OPTIONS on the path of a purchase.
    Preflight,
    /// For the shop, uncached.
    Proxied(Route),
    /// For nobody.
    Refused(Route, Refusal),
}

impl Router {
    /// Reads `[site]`.
    pub fn new(sites: &BTreeMap<Name, schema::Site>) -> Result<Router, BadRoute> {
        let mut router = Router { sites: Vec::new(), by_host: FxHashMap::default(), any: None };
        for (name, settings) in sites {
            let at = router.sites.len();
            let bad = |setting, said| BadRoute { site: name.clone(), setting, said };
            let mut canonical = None;
            for host in &settings.hosts {
                let host = authority::normalise(host.as_bytes())
                    .ok_or_else(|| bad("hosts", format!("`{host}` is not a host name")))?;
                canonical.get_or_insert_with(|| host.to_string());
                if router.by_host.insert(host.to_string(), at).is_some() {
                    return Err(bad("hosts", format!("`{host}` is listed twice")));
                }
            }
            if canonical.is_none() && router.any.replace(at).is_some() {
                return Err(bad("hosts", "only one site may take any host".to_owned()));
            }
            router.sites.push(Site::new(name, canonical, settings)?);
        }
        Ok(router)
    }

    /// The site of the request's host. A host in the config without a port takes every port. Without
    /// a Host (HTTP/1.0) only a site for any host can be meant.
    pub(super) fn site(&self, head: &Head<'_>) -> Option<&Site> {
        let host = &*head.host;
        let bare = || host.rsplit_once(':').map(|(bare, _)| bare);
        let at = self.by_host.get(host).or_else(|| self.by_host.get(bare()?)).copied().or(self.any);
        self.sites.get(at?)
    }

    /// The site called `name`.
    pub(super) fn site_named(&self, name: &Name) -> Option<&Site> {
        self.sites.iter().find(|site| site.name == *name)
    }

    /// What a URL names; an error says why it names nothing here.
    pub(super) fn named(&self, url: &str) -> Result<Named, String> {
        let unclear = || format!("`{url}` is not a URL like http://shop.example/activity/8848");
        let url: http::Uri = url.parse().map_err(|_| unclear())?;
        let authority = url.authority().ok_or_else(unclear)?;
        let host = authority::normalise(authority.as_str().as_bytes()).ok_or_else(unclear)?;
        let head = Head {
            method: Method::GET,
            version: http::Version::HTTP_11,
            path: url.path(),
            query: url.query(),
            host,
            fields: &[],
            body: BodyKind::None,
        };
        let site = self.site(&head).ok_or_else(|| format!("no site has the host {}", head.host))?;
        let city = match site.find(&head) {
            Found::Page { city, .. } => Some(city.map(str::to_owned)),
            _ => None,
        };
        Ok(Named {
            site: site.name.clone(),
            host: head.host.to_string(),
            canonical: site.canonical.clone().unwrap_or_else(|| head.host.to_string()),
            path: head.path.to_owned(),
            query: head.query.map(str::to_owned),
            is_page: city.is_some(),
            city: city.flatten(),
        })
    }
}

impl Site {
    fn new(
        name: &Name,
        canonical: Option<String>,
        settings: &schema::Site,
    ) -> Result<Site, BadRoute> {
        let bad = |setting, said| BadRoute { site: name.clone(), setting, said };
        let pattern = |setting, path: Option<String>| {
            path.map(|path| Pattern::parse(&path).map_err(|said| bad(setting, said))).transpose()
        };
        let activity = settings.activity.clone().unwrap_or_default();
        let page = activity.page.as_ref().map(|page| page.settings());
        let by_state = page.as_ref().is_some_and(|page| page.by_state);
        let page = page.map(|page| page.path);
        let cities = Cities::new(&activity.city, &activity.cities);
        Ok(Site {
            name: name.clone(),
            canonical,
            is_for_certified: settings.client_certificate,
            proxies_unlisted: activity.unlisted == schema::Unlisted::Proxy,
            by_state,
            page: pattern("activity.page", page)?,
            availability: pattern("activity.availability", activity.availability)?,
            purchase: pattern("activity.purchase", activity.purchase)?,
            upgrade: settings.upgrade.as_ref().map(Upgrade::new),
            cities: cities.map_err(|said| bad("activity.city", said))?,
        })
    }

    /// The paths of its pages.
    pub(super) fn page(&self) -> Option<&Pattern> {
        self.page.as_ref()
    }

    /// The protocol to which `head` may switch, never on the routes of a sale.
    pub(super) fn upgrade(&self, route: Route, head: &Head<'_>) -> Option<&str> {
        let upgrade = self.upgrade.as_ref().filter(|_| route == Route::Proxy)?;
        upgrade.asked(head).filter(|_| !self.reads_as_purchase(head))
    }

    /// What `head` is here.
    pub(super) fn find<'a>(&self, head: &'a Head<'a>) -> Found<'a> {
        let at = |pattern: &Option<Pattern>| pattern.as_ref()?.matches(head.path);
        if let Some(captures) = at(&self.purchase) {
            self.on_purchase(head, captures)
        } else if let Some(captures) = at(&self.availability) {
            self.on_availability(head, captures)
        } else if let Some(captures) = at(&self.page) {
            self.on_page(head, captures)
        } else {
            self.elsewhere(head)
        }
    }

    fn on_purchase<'a>(&self, head: &'a Head<'a>, captures: Captures<'a>) -> Found<'a> {
        let route = Route::Purchase;
        match head.method {
            Method::POST => {
                self.strictly(head, route, || Found::Purchase { activity: captures.activity })
            }
            Method::GET | Method::HEAD if alias::only_reads(head) => {
                self.strictly(head, route, || Found::Proxied(route))
            }
            Method::OPTIONS => self.strictly(head, route, || Found::Preflight),
            _ => Found::Refused(route, Refusal::method("GET, HEAD, POST, OPTIONS")),
        }
    }

    fn on_availability<'a>(&self, head: &'a Head<'a>, captures: Captures<'a>) -> Found<'a> {
        let route = Route::Availability;
        match head.method {
            Method::GET | Method::HEAD | Method::OPTIONS => {
                self.strictly(head, route, || Found::Availability { activity: captures.activity })
            }
            _ => Found::Refused(route, Refusal::method("GET, HEAD, OPTIONS")),
        }
    }

    fn on_page<'a>(&self, head: &'a Head<'a>, captures: Captures<'a>) -> Found<'a> {
        // A page of nobody in particular is in no cache: without any Host there is no key.
        let is_nobodys = self.canonical.is_none() && head.host.is_empty();
        match head.method {
            Method::GET | Method::HEAD if !is_nobodys => self.strictly(head, Route::Page, || {
                Found::Page { activity: captures.activity, city: self.cities.of(head, &captures) }
            }),
            _ => self.elsewhere(head),
        }
    }

    /// The catch-all is no bypass of the gate.
    fn elsewhere<'a>(&self, head: &Head<'_>) -> Found<'a> {
        if !alias::only_reads(head) && self.reads_as_purchase(head) {
            return Found::Refused(Route::Proxy, Refusal::of(Reason::Alias));
        }
        Found::Proxied(Route::Proxy)
    }

    fn reads_as_purchase(&self, head: &Head<'_>) -> bool {
        self.purchase.as_ref().is_some_and(|purchase| {
            alias::reads_as(head.path, head.query, |path| purchase.matches_loosely(path))
        })
    }

    /// Rules that hold on the routes of a sale only: what is read from cache or snapshot has no body,
    /// and nothing is said twice.
    fn strictly<'a>(
        &self,
        head: &Head<'_>,
        route: Route,
        found: impl FnOnce() -> Found<'a>,
    ) -> Found<'a> {
        if head.method != Method::POST && head.body != BodyKind::None {
            let refusal = Refusal::malformed("GET, HEAD and OPTIONS have no body here");
            return Found::Refused(route, refusal);
        }
        if self.cities.is_ambiguous(head) {
            return Found::Refused(route, Refusal::bad("the city is said twice"));
        }
        found()
    }
}

#[cfg(test)]
mod tests;
