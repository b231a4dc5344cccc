//! Ordinary routes: cached by RFC 9111. A hit is answered at once; everything else becomes an
//! [`Errand`], which joins a fill, begins one, or asks the shop for its client alone.
//!
//! ```text
//! URL ─ selector? ─ variant ─ judge ─┬─ serve, whole or in part
//!                                    ├─ serve, and refill            stale-while-revalidate
//!                                    ├─ join a fill, or begin one    coalesced, if the answer may be shared
//!                                    └─ alone                        HEAD, ranges, hit-for-miss
//! ```

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Method, Response, header};

use super::Pages;
use super::cache::{Cache, Filling, Joined};
use super::entry::Wanted;
use super::fill::{Fill, Ticks};
use super::flight::Waiter;
use super::key::{KeyRef, Url};
use super::plan::{Ordinary, Plan};
use super::policy::judge::{Decision, Life, Why, judge_for};
use super::policy::request::Demand;
use super::policy::{store, vary};
use super::record::{Record, What};
use super::reply::{Client, Reply};
use super::route::Route;
use super::select::{LANGUAGE, Said, in_head, is_in_head};
use crate::clock::MonoMs;
use crate::http::head::BodyKind;
use crate::http::{Exchange, Head, Interim, Ready, ResponseBody, Step};
use crate::ident::Name;
use crate::metrics::{Counter, Sink};
use crate::outcome::Reason;
use crate::upstream::{Group, Request};
use tokio_util::task::TaskTracker;

/// A request on an ordinary route.
pub struct OrdinaryAsk<'a> {
    /// The site.
    pub site: &'a Name,
    /// The request.
    pub head: &'a Head<'a>,
    /// The exchange.
    pub exchange: &'a Exchange,
    /// The Host that the shop is asked for.
    pub host: &'a str,
    /// The servers, and the request as the proxy would forward it; made when it is needed.
    pub forward: &'a dyn Fn() -> Option<(Rc<Group>, Request)>,
}

impl Pages {
    /// Whether a path is cached as an ordinary route.
    pub fn caches(&self, site: &Name, head: &Head<'_>) -> bool {
        let is_read = matches!(head.method, Method::GET | Method::HEAD);
        is_read && head.body == BodyKind::None && self.route(site, head.path).is_some()
    }

    /// Answers from the cache, or asks the shop. `None`: the proxy's.
    pub fn ordinary(&self, ask: &OrdinaryAsk<'_>) -> Option<Step> {
        let route = self.route(ask.site, ask.head.path)?.clone();
        let now = ask.exchange.now.mono;
        let query = route.query(ask.head.query);
        let (site, host, path) = (ask.site.as_str(), ask.host, ask.head.path);
        let url = Url { site, host, path, query: query.as_deref() };
        let mut buffer = self.buffer.borrow_mut();
        let url = url.bytes(&mut buffer);
        let demand = match route.honours_clients {
            true => Demand::of(ask.head),
            false => Demand::NONE,
        };
        let wanted = Wanted::with_range(ask.head);
        let mut made = None;
        let found = self.look(url, now, |name| match is_in_head(name) {
            true => in_head(ask.head, name),
            false => made
                .get_or_insert_with(|| self.said(&route, ask))
                .as_ref()
                .and_then(|said| said.value(name)),
        });
        let (decision, why) = decide(found.record.as_ref(), &wanted, ask.exchange, &demand);
        let record = found.record.as_ref();
        if let (Decision::Serve | Decision::ServeAndRefill, Some(record)) = (decision, record)
            && let Some(ready) = record.ready_in_part(&wanted, ask.exchange, ask.exchange.now)
        {
            self.count(why);
            if decision == Decision::ServeAndRefill
                && let Some(errand) = self.errand(&route, url, ask, &demand, wanted)
            {
                errand.refill(record, now);
            }
            return Some(Step::Answer(ready));
        }
        if demand.only_if_cached {
            // RFC 9111 5.2.1.7.
            return Some(self.refuse_as(ask.head, ask.exchange, Reason::GatewayTimeout));
        }
        if let (Decision::Fail, Some(What::Failed(reason))) = (decision, record.map(|r| r.what())) {
            self.sink.inc(Counter::CacheHits);
            return Some(self.refuse_as(ask.head, ask.exchange, *reason));
        }
        let errand = self.errand(&route, url, ask, &demand, wanted)?;
        Some(Step::Work(Box::new(move |_, interim| Box::pin(errand.run(interim)))))
    }

    pub(super) fn route(&self, site: &Name, path: &str) -> Option<&Rc<Route>> {
        self.sites.get(site.as_str())?.routes.of(path)
    }

    /// What is stored for a request: this worker's own table first.
    fn look(
        &self,
        url: &[u8],
        now: MonoMs,
        mut value: impl FnMut(&str) -> Option<Vec<u8>>,
    ) -> Found {
        let near = |bytes: &[u8]| {
            let mut l0 = self.l0.borrow_mut();
            if let Some(record) = l0.get(bytes, now, self.cache.newest()) {
                return Some(record.clone());
            }
            let record = self.cache.get(&KeyRef::of(bytes))?;
            l0.put(&record, now);
            Some(record)
        };
        let value = std::cell::RefCell::new(&mut value);
        find(url, near, |name| (value.borrow_mut())(name))
    }

    pub(super) fn said(&self, route: &Route, ask: &OrdinaryAsk<'_>) -> Option<Said> {
        let (_, request) = (ask.forward)()?;
        Some(Said::of(ask.head, &route.counted, request.headers))
    }

    fn errand(
        &self,
        route: &Rc<Route>,
        url: &[u8],
        ask: &OrdinaryAsk<'_>,
        demand: &Demand,
        wanted: Wanted<'_>,
    ) -> Option<Errand> {
        let (group, request) = (ask.forward)()?;
        let plan = plan(route, url, ask, demand, request);
        let client = Client {
            wanted: wanted.into_owned(),
            form: self.answers.form(ask.head),
            cache: self.cache.clone(),
            answers: self.answers.clone(),
            exchange: ask.exchange.clone(),
            ticks: Ticks::from(ask.exchange.now),
            why: Why::Absent,
        };
        Some(Errand {
            cache: self.cache.clone(),
            tasks: self.tasks.clone(),
            sink: self.sink.clone(),
            demand: *demand,
            group,
            plan,
            client,
        })
    }

    fn count(&self, why: Why) {
        self.sink.inc(match why {
            Why::Fresh => Counter::CacheHits,
            _ => Counter::CacheStale,
        });
    }
}

/// What is stored for a request.
pub(super) struct Found {
    /// The key: the URL's, or a variant's.
    pub key: Option<Vec<u8>>,
    pub record: Option<Arc<Record>>,
}

/// Looks for a page under its URL and, where a selector stands there, under what it selects.
pub(super) fn find(
    url: &[u8],
    get: impl Fn(&[u8]) -> Option<Arc<Record>>,
    value: impl Fn(&str) -> Option<Vec<u8>>,
) -> Found {
    let first = get(url);
    match first.as_ref().and_then(|record| record.selector()) {
        None => Found { key: None, record: first },
        Some(selector) => {
            let key = selector.key(url, &value);
            let by_language = || {
                let said = value(LANGUAGE)?;
                get(&selector.key_in(url, vary::first_language(&said)?, &value)?)
            };
            let record = get(&key).or_else(by_language);
            Found { key: Some(key), record }
        }
    }
}

/// The policy's word, and whether what is stored has the part that is asked for.
pub(super) fn decide(
    record: Option<&Arc<Record>>,
    wanted: &Wanted<'_>,
    exchange: &Exchange,
    demand: &Demand,
) -> (Decision, Why) {
    let now = exchange.now.mono;
    let Some(record) = record else {
        return (Decision::Fill { or_stale: false }, Why::Absent);
    };
    let none = Life { at: now, age_ms: 0, overdue_ms: 0, never_stale: false };
    let life = record.page().map_or(none, |_| record.life());
    let (decision, why) = judge_for(Some(&record.stored()), life, record.asked(now), demand, now);
    let is_served = matches!(decision, Decision::Serve | Decision::ServeAndRefill);
    let has_part = record.page().is_some_and(|page| page.part_for(wanted).is_some());
    match is_served && !has_part {
        true => (Decision::Fill { or_stale: false }, Why::Partial),
        false => (decision, why),
    }
}

/// The reason with what is known of the lookup: whether a variant was looked for, and the method.
pub(super) fn named(why: Why, is_variant: bool, method: &Method) -> Why {
    match (why, is_variant, method) {
        (Why::Absent, true, _) => Why::NoVariant,
        (Why::Absent, false, &Method::HEAD) => Why::Method,
        (why, ..) => why,
    }
}

/// What the shop is asked for: the client's request without what concerns its own copy, which we
/// answer for ourselves.
fn plan(
    route: &Rc<Route>,
    url: &[u8],
    ask: &OrdinaryAsk<'_>,
    demand: &Demand,
    request: Request,
) -> Ordinary {
    let mut headers = request.headers;
    for name in CONDITIONS {
        headers.remove(name);
    }
    let take = |headers: &mut http::HeaderMap, name| headers.remove(name);
    let if_range: Option<HeaderValue> = take(&mut headers, header::IF_RANGE);
    let range = take(&mut headers, header::RANGE)
        .filter(|_| ask.head.method == Method::GET)
        .map(|range| (range, if_range));
    let query = route.query(ask.head.query);
    let target = match query {
        Some(query) => format!("{}?{query}", ask.head.path),
        None => ask.head.path.to_owned(),
    };
    Ordinary {
        route: route.clone(),
        url: url.into(),
        method: ask.head.method.clone(),
        target,
        host: request.host,
        asked: store::Asked {
            is_authorized: headers.contains_key(header::AUTHORIZATION),
            no_store: demand.no_store,
            has_range: range.is_some(),
        },
        said: Said::of(ask.head, &route.counted, headers.clone()),
        headers,
        range,
    }
}

/// One client's way to an answer that is not ready.
struct Errand {
    cache: Arc<Cache>,
    tasks: TaskTracker,
    sink: Sink,
    demand: Demand,
    group: Rc<Group>,
    plan: Ordinary,
    client: Client,
}

/// How an errand goes to the shop.
enum Way {
    /// With others.
    Together(Waiter, bool),
    /// For its client alone.
    Alone(Waiter),
    /// A bound was reached.
    Full,
    /// Something newer is stored.
    Again,
}

impl Errand {
    async fn run(mut self, interim: Interim) -> Response<ResponseBody> {
        let mut must_be_alone = self.plan.method == Method::HEAD
            || self.plan.range.is_some()
            || self.plan.asked.is_authorized
            || self.plan.asked.no_store;
        for _ in 0..LOOKS_MAX {
            let exchange =
                Exchange { now: self.client.ticks.now(), ..self.client.exchange.clone() };
            let found = self.find();
            let record = found.record.clone();
            let (decision, why) =
                decide(record.as_ref(), &self.client.wanted, &exchange, &self.demand);
            self.client.why = named(why, found.key.is_some(), &self.plan.method);
            if let Some(ready) = self.ready(decision, record.as_ref(), &exchange) {
                self.sink.inc(Counter::CacheHits);
                return super::reply::written(&ready);
            }
            let is_alone = decision == Decision::Pass
                || record.as_ref().is_some_and(|r| r.page().is_some() && r.is_alone());
            let way = match must_be_alone || is_alone {
                true => self.go_alone(&found),
                false => self.go_together(&found),
            };
            let longest = self.cache.settings().wait_timeout.duration();
            let (waiter, is_first, is_alone) = match way {
                Way::Together(waiter, is_first) => (waiter, is_first, false),
                Way::Alone(waiter) => (waiter, true, true),
                Way::Again => continue,
                Way::Full => return self.client.stand_in(record, Reason::Overloaded),
            };
            self.sink.inc(match (is_alone, is_first) {
                (true, _) => Counter::CachePasses,
                (false, true) => Counter::CacheMisses,
                (false, false) => Counter::CacheWaited,
            });
            // Who is alone waits for nobody else: the fill's own bound is enough.
            let longest = if is_alone { Duration::MAX } else { longest };
            let mine = Some(&self.plan.said);
            match self.client.wait(waiter, record, is_first, mine, longest, &interim).await {
                Reply::Answer(response) => return response,
                Reply::Another => {}
                Reply::NotShared => must_be_alone = true,
            }
        }
        self.client.apology(Reason::Overloaded)
    }

    fn find(&self) -> Found {
        let get = |bytes: &[u8]| self.cache.get(&KeyRef::of(bytes));
        find(&self.plan.url, get, |name| self.plan.said.value(name))
    }

    /// What somebody else stored in the meantime, or the word that the shop fails.
    fn ready(
        &self,
        decision: Decision,
        record: Option<&Arc<Record>>,
        exchange: &Exchange,
    ) -> Option<Ready> {
        let record = record?;
        match (decision, record.what()) {
            (Decision::Serve | Decision::ServeAndRefill, _) => {
                record.ready_in_part(&self.client.wanted, exchange, exchange.now)
            }
            (Decision::Fail, What::Failed(reason)) => {
                let answer = self.client.answers.plain(self.client.form, *reason);
                Some(self.client.answers.ready(answer, *reason, exchange))
            }
            _ => None,
        }
    }

    fn go_together(&self, found: &Found) -> Way {
        let key = KeyRef::of(found.key.as_deref().unwrap_or(&self.plan.url));
        match self.cache.join(key, found.record.as_ref(), self.client.ticks.now().mono) {
            Joined::Found(_) => Way::Again,
            Joined::Waits(waiter) => Way::Together(waiter, false),
            Joined::Began(filling, waiter) => {
                self.begin(filling);
                Way::Together(waiter, true)
            }
            Joined::TooNew => {
                self.sink.inc(Counter::CacheNewKeysRefused);
                self.go_alone(found)
            }
            Joined::Busy => self.go_alone(found),
            Joined::Full => Way::Full,
        }
    }

    fn go_alone(&self, found: &Found) -> Way {
        let key = KeyRef::of(found.key.as_deref().unwrap_or(&self.plan.url));
        match self.cache.alone(key, found.record.as_ref(), self.client.ticks.now().mono) {
            Some((filling, waiter)) => {
                self.begin(filling);
                Way::Alone(waiter)
            }
            None => Way::Full,
        }
    }

    fn refill(&self, record: &Arc<Record>, now: MonoMs) {
        if let Some(filling) = self.cache.refill(record, now) {
            self.begin(filling);
        }
    }

    /// Begins a fill on this worker.
    fn begin(&self, filling: Filling) {
        let fill = Fill {
            filling,
            plan: Plan::Ordinary(Box::new(self.plan.clone())),
            group: self.group.clone(),
            ticks: Ticks::from(self.client.ticks.now()),
            sink: self.sink.clone(),
            seen: None,
        };
        self.tasks.spawn_local(fill.run());
    }
}

/// What asks about the client's own copy.
const CONDITIONS: [header::HeaderName; 4] = [
    header::IF_NONE_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_MATCH,
    header::IF_UNMODIFIED_SINCE,
];

/// How often an errand looks again: what it waited for was another's, or something was stored in the
/// meantime.
const LOOKS_MAX: usize = 8;
