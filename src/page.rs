//! Activity pages: cached under activity and city, filled once for everybody, served stale rather
//! than not at all.
//!
//! ```text
//! decide → key → cache → judge ─┬─ serve                      ready-made, at once
//!                               ├─ serve, and refill          stale-while-revalidate
//!                               ├─ join a fill, or begin one  coalesced; stale if it fails
//!                               └─ pass                       uncacheable: each client alone
//! ```

pub mod cache;
mod changed;
pub mod coding;
pub mod entry;
pub mod explain;
pub mod fill;
pub mod flight;
pub mod key;
mod l0;
mod ordinary;
mod pace;
mod packed;
pub mod parts;
pub mod plan;
pub mod policy;
mod posted;
pub mod record;
mod refused;
mod reply;
pub mod route;
pub mod select;
mod site;
pub mod snapshot;
pub mod warm;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use tokio_util::task::TaskTracker;

use crate::answers::Answers;
use crate::config::Settings;
use crate::http::{Exchange, Head, ResponseBody, Step};
use crate::ident::Name;
use crate::metrics::{Counter, Sink};
use crate::outcome::Reason;
use crate::sale::SaleBook;
use crate::upstream::Upstreams;

pub use cache::{Ban, Cache, Mode, Purge, Report};
pub use key::Url;
pub use ordinary::OrdinaryAsk;
pub use route::url_key;

use cache::{Filling, Joined};
use entry::Wanted;
use fill::{Fill, Ticks};
use flight::Waiter;
use key::{Fields, KeyRef};
use l0::L0;
use plan::Plan;
use policy::judge::{Asked, Decision, Refill, Why, judge};
use record::{Record, What};
use reply::{Client, Reply};
use site::Site;

/// One worker's way to the cache.
#[derive(Debug)]
pub struct Pages {
    cache: Arc<Cache>,
    answers: Arc<Answers>,
    sites: FxHashMap<Name, Rc<Site>>,
    tasks: TaskTracker,
    sink: Sink,
    l0: RefCell<L0>,
    /// Where keys are written.
    buffer: RefCell<Vec<u8>>,
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
        settings: &Settings,
        cache: Arc<Cache>,
        answers: Arc<Answers>,
        upstreams: Rc<Upstreams>,
        tasks: TaskTracker,
        sink: Sink,
        book: &Arc<SaleBook>,
    ) -> Pages {
        let site = |(name, site): (&Name, &crate::config::schema::Site)| {
            let site = Site::new(site, &settings.cache, &upstreams, book.clone());
            (name.clone(), Rc::new(site))
        };
        let sites = settings.site.iter().map(site).collect();
        Pages {
            cache,
            answers,
            sites,
            tasks,
            sink,
            l0: RefCell::new(L0::new()),
            buffer: RefCell::default(),
        }
    }

    /// Fresh or stale from the cache at once, else by a fill.
    pub fn decide(&self, ask: Ask<'_>) -> Step {
        let Some(site) = self.sites.get(ask.site.as_str()) else {
            return self.refuse(&ask, Reason::BadGateway);
        };
        let fields = site.fields(&ask);
        let mut buffer = self.buffer.borrow_mut();
        let bytes = fields.bytes(&mut buffer);
        let now = ask.exchange.now.mono;
        if let Some(record) = self.l0.borrow().get(bytes, now, self.cache.newest())
            && let (Decision::Serve, why) = judge(Some(&record.stored()), record.asked(now), now)
        {
            return self.serve(&ask, record, why);
        }
        let key = KeyRef::of(bytes);
        let mut found = self.cache.get(&key);
        for _ in 0..LOOKS_MAX {
            let stored = found.as_ref().map(|record| record.stored());
            let idle = Asked { refill: Refill::Idle };
            let asked = found.as_ref().map_or(idle, |record| record.asked(now));
            let (decision, why) = judge(stored.as_ref(), asked, now);
            match (decision, &found) {
                (Decision::Serve, Some(record)) => {
                    self.l0.borrow_mut().put(record, now);
                    return self.serve(&ask, record, why);
                }
                (Decision::ServeAndRefill, Some(record)) => {
                    self.refill(site, record, &ask);
                    return self.serve(&ask, record, why);
                }
                (Decision::Pass, _) => return self.pass(site, &fields, &ask),
                (Decision::Fail, Some(record)) => {
                    self.sink.inc(Counter::CacheHits);
                    return match record.what() {
                        What::Failed(reason) => self.refuse(&ask, *reason),
                        _ => self.refuse(&ask, Reason::BadGateway),
                    };
                }
                _ => match self.join(site, key, found.as_ref(), &ask, why) {
                    Ok(step) => return step,
                    Err(newer) => found = Some(newer),
                },
            }
        }
        self.refuse(&ask, Reason::Overloaded)
    }

    fn serve(&self, ask: &Ask<'_>, record: &Arc<Record>, why: Why) -> Step {
        let wanted = Wanted::with_range(ask.head);
        let Some(ready) = record.ready_in_part(&wanted, ask.exchange, ask.exchange.now) else {
            return self.refuse(ask, Reason::Internal);
        };
        self.sink.inc(match why {
            Why::Fresh => Counter::CacheHits,
            _ => Counter::CacheStale,
        });
        Step::Answer(ready)
    }

    /// Joins the fill of the key or begins it. If something newer is stored by now, that is the error.
    fn join(
        &self,
        site: &Rc<Site>,
        key: KeyRef<'_>,
        found: Option<&Arc<Record>>,
        ask: &Ask<'_>,
        why: Why,
    ) -> Result<Step, Arc<Record>> {
        let (waiter, is_first) = match self.cache.join(key, found, ask.exchange.now.mono) {
            Joined::Found(record) => return Err(record),
            Joined::Waits(waiter) => (waiter, false),
            Joined::Began(filling, waiter) => {
                if !self.begin(site, filling, ask) {
                    return Ok(self.refuse(ask, Reason::BadGateway));
                }
                (waiter, true)
            }
            Joined::TooNew => {
                self.sink.inc(Counter::CacheNewKeysRefused);
                return Ok(self.refuse(ask, Reason::Overloaded));
            }
            Joined::Busy | Joined::Full => {
                let stand_in = found.filter(|old| {
                    self.cache.is_current(old) && old.stands_in(ask.exchange.now.mono)
                });
                return Ok(match stand_in {
                    Some(old) => self.serve(ask, old, Why::HeldByError),
                    None => self.refuse(ask, Reason::Overloaded),
                });
            }
        };
        self.sink.inc(if is_first { Counter::CacheMisses } else { Counter::CacheWaited });
        Ok(self.wait(waiter, found.cloned(), is_first, self.client(ask, why)))
    }

    fn wait(
        &self,
        waiter: Waiter,
        old: Option<Arc<Record>>,
        is_first: bool,
        client: Client,
    ) -> Step {
        let longest = self.cache.settings().wait_timeout.duration();
        Step::Work(Box::new(move |_, interim| {
            Box::pin(async move {
                match client.wait(waiter, old, is_first, None, longest, &interim).await {
                    Reply::Answer(response) => response,
                    // A page is everybody's.
                    Reply::Another | Reply::NotShared => client.apology(Reason::Internal),
                }
            })
        }))
    }

    /// Fetches a stale page again behind everybody's back.
    fn refill(&self, site: &Rc<Site>, record: &Arc<Record>, ask: &Ask<'_>) {
        if let Some(filling) = self.cache.refill(record, ask.exchange.now.mono) {
            self.begin(site, filling, ask);
        }
    }

    /// Begins a fill on this worker. Says whether the site has servers to ask.
    fn begin(&self, site: &Rc<Site>, filling: Filling, ask: &Ask<'_>) -> bool {
        let Some(group) = site.group.clone() else { return false };
        let fill = Fill {
            filling,
            plan: Plan::Page(site.clone()),
            group,
            ticks: Ticks::from(ask.exchange.now),
            sink: self.sink.clone(),
            seen: None,
        };
        self.tasks.spawn_local(fill.run());
        true
    }

    /// Asks the shop for this client alone.
    fn pass(&self, site: &Rc<Site>, fields: &Fields<'_>, ask: &Ask<'_>) -> Step {
        self.sink.inc(Counter::CachePasses);
        let Some(group) = site.group.clone() else {
            return self.refuse(ask, Reason::BadGateway);
        };
        let client = self.client(ask, Why::HitForMiss);
        let fill_timeout = self.cache.settings().fill_timeout.duration();
        let (site, sink) = (site.clone(), self.sink.clone());
        let mut buffer = Vec::new();
        let key = fields.key(&mut buffer).to_key();
        Step::Work(Box::new(move |_, _| {
            Box::pin(async move {
                let now = || client.ticks.now();
                let passed =
                    fill::pass(&site, &group, &key.fields(), fill_timeout, &sink, now).await;
                match passed {
                    Ok((lead, body)) => {
                        let mut body: Option<ResponseBody> = Some(body);
                        let body = || body.take().unwrap_or(ResponseBody::Empty);
                        client.relay(&lead, body, false)
                    }
                    Err(reason) => client.apology(reason),
                }
            })
        }))
    }

    fn client(&self, ask: &Ask<'_>, why: Why) -> Client {
        Client {
            wanted: Wanted::with_range(ask.head).into_owned(),
            form: self.answers.form(ask.head),
            cache: self.cache.clone(),
            answers: self.answers.clone(),
            exchange: ask.exchange.clone(),
            ticks: Ticks::from(ask.exchange.now),
            why,
        }
    }

    fn refuse(&self, ask: &Ask<'_>, reason: Reason) -> Step {
        self.refuse_as(ask.head, ask.exchange, reason)
    }

    fn refuse_as(&self, head: &Head<'_>, exchange: &Exchange, reason: Reason) -> Step {
        let answer = self.answers.plain(self.answers.form(head), reason);
        Step::Answer(self.answers.ready(answer, reason, exchange))
    }
}

/// How often a request looks again because something was stored in the meantime. Only a `ttl` of a
/// millisecond could need more.
const LOOKS_MAX: usize = 4;
