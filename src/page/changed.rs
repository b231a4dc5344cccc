//! What an unsafe request changes: a successful answer to it makes what is stored for its URL, and
//! for those it names, a thing of the past (RFC 9111 4.4).

use std::rc::Rc;
use std::sync::Arc;

use http::{Method, Response, StatusCode, header};

use super::Pages;
use super::cache::Cache;
use super::fill::Ticks;
use super::key::{KeyRef, Url};
use super::policy::judge::{Arrival, Keep};
use super::policy::store::{self, Rules};
use super::policy::{invalidate, tags, update};
use super::posted::{Keeper, Passing};
use super::site::Site;
use crate::http::{Exchange, Head, ResponseBody, Step, Work};
use crate::ident::Name;
use crate::metrics::Sink;

impl Pages {
    /// Lets `step`, the proxy's, take out of the cache what the request changes, and keeps tags from
    /// the client: on a site that caches they are for us. `host` is that of the keys.
    pub fn watch(
        &self,
        name: &Name,
        host: &str,
        head: &Head<'_>,
        exchange: &Exchange,
        step: Step,
    ) -> Step {
        let Step::Work(work) = step else { return step };
        let Some(site) = self.sites.get(name.as_str()).filter(|site| site.routes.any()) else {
            return Step::Work(work);
        };
        if !invalidate::is_unsafe(&head.method) {
            return Step::Work(if site.shows_tags { work } else { without_tags(work) });
        }
        let watch = Watch {
            cache: self.cache.clone(),
            sink: self.sink.clone(),
            site: site.clone(),
            name: name.clone(),
            host: host.to_owned(),
            asked_host: head.host.clone().into_owned(),
            path: head.path.to_owned(),
            query: head.query.map(str::to_owned),
            is_post: head.method == Method::POST,
            is_authorized: head.field("authorization").is_some(),
            ticks: Ticks::from(exchange.now),
        };
        Step::Work(Box::new(move |body, interim| {
            let answered = work(body, interim);
            Box::pin(async move {
                let mut response = answered.await;
                if invalidate::is_success(response.status()) {
                    watch.invalidate(response.headers());
                }
                let keeper = watch.keeper(&response);
                if !watch.shows_tags() {
                    tags::strip(response.headers_mut());
                }
                match keeper {
                    Some(keeper) => response
                        .map(|body| ResponseBody::Stream(Box::pin(Passing::new(body, keeper)))),
                    None => response,
                }
            })
        }))
    }
}

fn without_tags(work: Work) -> Work {
    Box::new(move |body, interim| {
        let answered = work(body, interim);
        Box::pin(async move {
            let mut response = answered.await;
            tags::strip(response.headers_mut());
            response
        })
    })
}

struct Watch {
    cache: Arc<Cache>,
    sink: Sink,
    site: Rc<Site>,
    name: Name,
    host: String,
    asked_host: String,
    path: String,
    query: Option<String>,
    is_post: bool,
    is_authorized: bool,
    ticks: Ticks,
}

impl Watch {
    fn shows_tags(&self) -> bool {
        self.site.shows_tags
    }

    fn invalidate(&self, headers: &http::HeaderMap) {
        self.forget(&self.path, self.query.as_deref());
        for target in invalidate::named(headers, &self.asked_host, &self.path) {
            match target.split_once('?') {
                Some((path, query)) => self.forget(path, Some(query)),
                None => self.forget(&target, None),
            }
        }
    }

    /// Keeps an answer to POST that is what GET would bring. One that a request's fields select is
    /// not: those of a POST are not those of a GET.
    fn keeper(&self, response: &Response<ResponseBody>) -> Option<Keeper> {
        let headers = response.headers();
        let is_candidate = self.is_post
            && response.status() == StatusCode::OK
            && headers.contains_key(header::CONTENT_LOCATION)
            && !headers.contains_key(header::VARY);
        let route = self.site.routes.of(&self.path).filter(|_| is_candidate)?;
        let target = match &self.query {
            Some(query) => format!("{}?{query}", self.path),
            None => self.path.clone(),
        };
        let said = headers.get(header::CONTENT_LOCATION)?.to_str().ok()?;
        let is_own = invalidate::resolve(said, &self.asked_host, &self.path)? == target;
        let now = self.ticks.now();
        let delay_ms = now.mono.since(self.ticks.began());
        let arrival = Arrival { wall: now.wall, delay_ms };
        let asked = store::Asked { is_authorized: self.is_authorized, ..store::Asked::default() };
        // Explicit freshness alone counts here.
        let rules = Rules { heuristic_percent: 0, ttl_ms: 0, ..route.rules.clone() };
        let Keep::Page(windows) = store::keep(response.status(), headers, &rules, asked, arrival)
        else {
            return None;
        };
        if !is_own || windows.fresh_ms == 0 || !route.counted.is_empty() {
            return None;
        }
        let tags = tags::of(headers, route.tag_bounds)?;
        let (directives, _) = store::directives(headers, &rules);
        let mut stored = update::stored(headers, &directives, !route.strips_cookies);
        if !route.shows_tags {
            tags::strip(&mut stored);
        }
        let mut buffer = Vec::new();
        let key = KeyRef::of(self.url(&self.path, self.query.as_deref(), &mut buffer)?);
        let (filling, _) = self.cache.alone(key, None, now.mono).filter(|(f, _)| f.may_store())?;
        Some(Keeper {
            filling,
            windows,
            headers: stored,
            tags,
            came: now.mono,
            sink: self.sink.clone(),
        })
    }

    fn forget(&self, path: &str, query: Option<&str>) {
        let mut buffer = Vec::new();
        if let Some(url) = self.url(path, query, &mut buffer) {
            self.cache.invalidate(url, &self.sink);
        }
    }

    /// The key of a URL, if it is cached.
    fn url<'b>(
        &self,
        path: &str,
        query: Option<&str>,
        buffer: &'b mut Vec<u8>,
    ) -> Option<&'b [u8]> {
        let query = self.site.routes.of(path)?.query(query);
        let site = self.name.as_str();
        let url = Url { site, host: &self.host, path, query: query.as_deref() };
        Some(url.bytes(buffer))
    }
}
