//! Activity pages: cached under activity and city, filled once for everybody, served stale rather
//! than not at all.

use std::rc::Rc;
use std::sync::Arc;

use crate::answers::Answers;
use crate::config::Settings;
use crate::http::{Exchange, Head, Step};
use crate::ident::Name;
use crate::metrics::Sink;
use crate::outcome::Reason;
use crate::upstream::Upstreams;

/// The cache, shared by all workers.
#[derive(Debug)]
pub struct Cache {}

impl Cache {
    /// For `[cache]`.
    pub fn new(_settings: &Settings) -> Arc<Cache> {
        Arc::new(Cache {})
    }
}

/// One worker's way to the cache.
#[derive(Debug)]
pub struct Pages {
    answers: Arc<Answers>,
}

/// A request for a page: GET or HEAD on the page path of a site.
#[derive(Debug)]
pub struct Ask<'a> {
    /// The site.
    pub site: &'a Name,
    /// The Host that is part of the key and of the fill: the site's canonical one, or the validated
    /// one where the site has none.
    pub host: &'a str,
    /// The activity.
    pub activity: &'a str,
    /// The city, if the request named a valid one.
    pub city: Option<&'a str>,
    /// The request.
    pub head: &'a Head<'a>,
    /// The exchange.
    pub exchange: &'a Exchange,
}

impl Pages {
    /// One worker's way to `cache`. `tasks` tracks fills under way.
    pub fn new(
        _settings: &Settings,
        _cache: Arc<Cache>,
        answers: Arc<Answers>,
        _upstreams: Rc<Upstreams>,
        _tasks: tokio_util::task::TaskTracker,
        _sink: Sink,
    ) -> Pages {
        Pages { answers }
    }

    /// Fresh or stale from the cache at once, else by a fill.
    pub fn decide(&self, ask: Ask<'_>) -> Step {
        let answer = self.answers.plain(self.answers.form(ask.head), Reason::BadGateway);
        Step::Answer(self.answers.ready(answer, Reason::BadGateway, ask.exchange))
    }
}
