//! What a fill asks the shop for, what it keeps of the answer, and for whom: on the page of a sale,
//! where nothing of a client reaches the shop, and on an ordinary route, where a client's request does.

use std::rc::Rc;

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use super::entry::{Entry, kept_headers};
use super::flight::Sharing;
use super::key::Key;
use super::policy::clip::Bound;
use super::policy::judge::{Arrival, Keep, keep};
use super::policy::tags::{self, Tags};
use super::policy::{range, store, targeted, update, vary};
use super::route::Route;
use super::select::Said;
use super::site::Site;
use crate::clock::{Now, UnixMs};
use crate::upstream::{Body, Hints, Request, Response};

/// What a fill is for.
#[derive(Clone, Debug)]
pub enum Plan {
    /// The page of a sale.
    Page(Rc<Site>),
    /// An ordinary route.
    Ordinary(Box<Ordinary>),
}

/// A request on an ordinary route, without what concerns the client's own copy.
#[derive(Clone, Debug)]
pub struct Ordinary {
    /// The route.
    pub route: Rc<Route>,
    /// The key of its URL.
    pub url: Rc<[u8]>,
    /// GET or HEAD.
    pub method: Method,
    /// Path and what counts of the query.
    pub target: String,
    /// The Host that the shop is asked for.
    pub host: String,
    /// The fields, as the proxy forwards them.
    pub headers: HeaderMap,
    /// The client's `Range` and `If-Range`, where they go to the shop.
    pub range: Option<(HeaderValue, Option<HeaderValue>)>,
    /// What it says in fields that may select.
    pub said: Said,
    /// What of it matters for storing the answer.
    pub asked: store::Asked,
}

impl Plan {
    /// The request for the shop. `old` is what is stored: it may be renewed, or completed.
    pub fn request(&self, key: &Key, old: Option<&Entry>, hints: Hints) -> Request {
        match self {
            Plan::Page(site) => {
                site.request(&key.fields(), old.into_iter().flat_map(Entry::validators))
            }
            Plan::Ordinary(plan) => Request { interim: Some(hints), ..plan.request(old) },
        }
    }

    /// The fields that clients get, and those that are stored.
    pub fn fields(&self, response: &Response, wall: UnixMs) -> (HeaderMap, HeaderMap) {
        match self {
            Plan::Page(site) => {
                let mut kept = kept_headers(&response.headers, &site.vary, wall);
                if site.shows_tags {
                    tags::copy(&response.headers, &mut kept);
                }
                (kept.clone(), kept)
            }
            Plan::Ordinary(plan) => plan.fields(response, wall),
        }
    }

    /// How long what came at `now` may be kept outside; `None`: as long as the shop says.
    pub fn bound(&self, key: &Key, headers: &HeaderMap, now: &Now) -> Option<Bound> {
        match self {
            Plan::Page(site) => site.bound(&key.fields(), headers, now),
            Plan::Ordinary(_) => None,
        }
    }

    /// The tags of a response; `None`: it has more than it may have.
    pub fn tags(&self, headers: &HeaderMap) -> Option<Tags> {
        let bounds = match self {
            Plan::Page(site) => site.tag_bounds,
            Plan::Ordinary(plan) => plan.route.tag_bounds,
        };
        tags::of(headers, bounds)
    }

    /// Whether, and for how long, a response may be used.
    pub fn keep(&self, status: StatusCode, headers: &HeaderMap, arrival: Arrival) -> Keep {
        match self {
            Plan::Page(site) => keep(status, headers, &site.route, arrival),
            Plan::Ordinary(plan) => {
                store::keep(status, headers, &plan.route.rules, plan.asked, arrival)
            }
        }
    }

    /// The ordinary route, if it is one.
    pub fn ordinary(&self) -> Option<&Ordinary> {
        match self {
            Plan::Ordinary(plan) => Some(plan),
            Plan::Page(_) => None,
        }
    }

    /// Bodies from this length on are compressed.
    pub fn compress_bytes_min(&self, of_pages: usize) -> usize {
        self.ordinary().map_or(of_pages, |plan| plan.route.compress_bytes_min)
    }

    /// Whom the answer is for.
    pub fn sharing(&self, status: StatusCode, headers: &HeaderMap, is_shared: bool) -> Sharing {
        match self {
            Plan::Page(_) => Sharing::All,
            Plan::Ordinary(plan) if is_shared => {
                Sharing::Those(plan.said.clone(), plan.selecting(headers))
            }
            Plan::Ordinary(_) if status.is_server_error() => Sharing::OneOfMany,
            Plan::Ordinary(_) => Sharing::One,
        }
    }
}

impl Ordinary {
    fn request(&self, old: Option<&Entry>) -> Request {
        let mut headers = self.headers.clone();
        let completes = old.and_then(|old| self.completion(old));
        if let Some((from, etag)) = completes {
            headers.insert(header::RANGE, from);
            headers.insert(header::IF_RANGE, etag);
        } else if let Some((range, if_range)) = &self.range {
            headers.insert(header::RANGE, range.clone());
            headers.extend(if_range.iter().map(|value| (header::IF_RANGE, value.clone())));
        } else if let Some(old) = old.filter(|old| old.part().is_none()) {
            for (name, value) in old.validators() {
                headers.insert(name, value);
            }
        }
        if self.route.compress_bytes_min != usize::MAX {
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        if self.route.is_surrogate
            && let Ok(said) = HeaderValue::from_str(&capability(&self.headers))
        {
            headers.insert("surrogate-capability", said);
        }
        Request {
            method: self.method.clone(),
            target: self.target.clone(),
            host: self.host.clone(),
            headers,
            body: Body::Empty,
            interim: None,
        }
    }

    /// How the rest of a stored beginning is asked for: only with a strong validator may the two be
    /// put together (RFC 9110 15.3.7.3).
    pub fn completion(&self, old: &Entry) -> Option<(HeaderValue, HeaderValue)> {
        let (span, total) = old.part()?;
        let etag = old.field(&header::ETAG).filter(range::is_strong)?;
        let is_beginning = span.first == 0 && span.last + 1 < total;
        let wants_all = self.range.is_none() && self.method == Method::GET;
        let from = HeaderValue::from_str(&format!("bytes={}-", span.last + 1)).ok()?;
        (is_beginning && wants_all).then_some((from, etag))
    }

    fn fields(&self, response: &Response, wall: UnixMs) -> (HeaderMap, HeaderMap) {
        let mut relayed = response.headers.clone();
        crate::http::hop::strip_penstock(&mut relayed);
        if self.route.is_surrogate {
            relayed.remove("surrogate-control");
        }
        if !self.route.shows_tags {
            tags::strip(&mut relayed);
        }
        if self.route.strips_cookies {
            relayed.remove(header::SET_COOKIE);
        }
        // Also of a 304: it is the time from which the stored page is young again (RFC 9110 6.6.1).
        if !relayed.contains_key(header::DATE) {
            let date = crate::answer::imf_fixdate(wall);
            relayed.extend(HeaderValue::from_bytes(&date).ok().map(|date| (header::DATE, date)));
        }
        let via = if response.version == http::Version::HTTP_10 { "1.0" } else { "1.1" };
        if let Ok(via) = HeaderValue::from_str(&format!("{via} penstock")) {
            relayed.append(header::VIA, via);
        }
        if self.route.compress_bytes_min != usize::MAX {
            relayed.append(header::VARY, HeaderValue::from_static("accept-encoding"));
        }
        let (said, _) = store::directives(&response.headers, &self.route.rules);
        let stored = update::stored(&relayed, &said, !self.route.strips_cookies);
        (relayed, stored)
    }

    /// The fields of a request that select this response: those that it names, and those that the
    /// route counts. Our own codings are no variants.
    pub fn selecting(&self, headers: &HeaderMap) -> Vec<Box<str>> {
        let mut names = vary::names(headers);
        if self.route.compress_bytes_min != usize::MAX {
            names.retain(|name| **name != *"accept-encoding");
        }
        names.extend(self.route.counted.iter().cloned());
        names.sort_unstable();
        names.dedup();
        names
    }
}

/// What we can do as a surrogate, behind what surrogates in front of us can.
fn capability(headers: &HeaderMap) -> String {
    let ours = format!("{}=\"Surrogate/1.0\"", targeted::SURROGATE);
    match headers.get("surrogate-capability").and_then(|value| value.to_str().ok()) {
        Some(theirs) => format!("{theirs}, {ours}"),
        None => ours,
    }
}
