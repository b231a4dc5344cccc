//! What an unsafe request changes: a successful answer to it makes what is stored for its URL, and
//! for those it names, a thing of the past (RFC 9111 4.4).

use std::rc::Rc;
use std::sync::Arc;

use super::Pages;
use super::cache::Cache;
use super::key::Url;
use super::policy::invalidate;
use super::site::Site;
use crate::http::{Head, Step};
use crate::ident::Name;
use crate::metrics::Sink;

impl Pages {
    /// Lets `step`, the proxy's, take out of the cache what the request changes. `host` is that of
    /// the keys.
    pub fn watch(&self, name: &Name, host: &str, head: &Head<'_>, step: Step) -> Step {
        let work = match step {
            Step::Work(work) if invalidate::is_unsafe(&head.method) => work,
            step => return step,
        };
        let Some(site) = self.sites.get(name.as_str()).filter(|site| site.routes.any()) else {
            return Step::Work(work);
        };
        let watch = Watch {
            cache: self.cache.clone(),
            sink: self.sink.clone(),
            site: site.clone(),
            name: name.clone(),
            host: host.to_owned(),
            asked_host: head.host.clone().into_owned(),
            path: head.path.to_owned(),
            query: head.query.map(str::to_owned),
        };
        Step::Work(Box::new(move |body, interim| {
            let answered = work(body, interim);
            Box::pin(async move {
                let response = answered.await;
                if invalidate::is_success(response.status()) {
                    watch.invalidate(response.headers());
                }
                response
            })
        }))
    }
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
}

impl Watch {
    fn invalidate(&self, headers: &http::HeaderMap) {
        self.forget(&self.path, self.query.as_deref());
        for target in invalidate::named(headers, &self.asked_host, &self.path) {
            match target.split_once('?') {
                Some((path, query)) => self.forget(path, Some(query)),
                None => self.forget(&target, None),
            }
        }
    }

    fn forget(&self, path: &str, query: Option<&str>) {
        let Some(route) = self.site.routes.of(path) else { return };
        let query = route.query(query);
        let url = Url { site: self.name.as_str(), host: &self.host, path, query: query.as_deref() };
        self.cache.invalidate(url.bytes(&mut Vec::new()), &self.sink);
    }
}
