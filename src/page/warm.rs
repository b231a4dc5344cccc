//! Warming: pages are fetched before anybody asks for them, looked at, and pinned. The way to the shop
//! is that of every fill, so that what is pinned is what clients get.

use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use serde::Serialize;
use tokio::time::{Instant, sleep, timeout_at};

use super::Pages;
use super::cache::{Cache, Joined};
use super::coding::{CODINGS, Coding, decode};
use super::entry::Entry;
use super::fill::{Fill, Seen, Ticks};
use super::key::{Fields, Key, KeyRef};
use super::plan::Plan;
use super::record::Record;
use super::site::Site;
use crate::clock::Now;
use crate::http::Interim;
use crate::ident::{Name, SaleId};
use crate::metrics::{Counter, Sink};
use crate::sale::Availability;
use crate::upstream::Group;
use tokio_util::task::TaskTracker;

/// One page to warm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The site.
    pub site: Name,
    /// Host of the fill.
    pub host: String,
    /// Path of the fill.
    pub path: String,
    /// The activity.
    pub activity: String,
    /// The city; `None`: the page without one.
    pub city: Option<String>,
    /// The state of the sale, where there is a page for each.
    pub state: Option<Availability>,
}

/// What is expected of a page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// Whether more than status 200 is expected: everything below, no cookie, codings that decode.
    pub verify: bool,
    /// Least length of the page as the shop sent it, in bytes.
    pub bytes_min: u64,
    /// A text that stands in the page.
    pub marker: Option<String>,
}

/// What came of warming a page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Warmed {
    /// The activity.
    pub activity: String,
    /// The city; `None`: the page without one.
    pub city: Option<String>,
    /// The state of the sale, where there is a page for each.
    pub state: Option<&'static str>,
    /// Host of the fill.
    pub host: String,
    /// Path.
    pub path: String,
    /// The shop's status, if it answered: 304 where what was stored is still good.
    pub status: Option<u16>,
    /// What is stored for each coding; one that would not be smaller is left out, and clients that ask
    /// for it get the page as it is.
    pub encodings: Vec<Encoded>,
    /// Whether it stays until the sale ends.
    pub pinned: bool,
    /// What is wrong with it; none: it is warm.
    pub problems: Vec<String>,
}

/// One coding of a page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Encoded {
    /// Its name.
    pub encoding: &'static str,
    /// Its length, in bytes.
    pub bytes: u64,
}

/// Warming one page, on the worker that fetches it.
struct Warming {
    cache: Arc<Cache>,
    tasks: TaskTracker,
    sink: Sink,
    site: Rc<Site>,
    group: Rc<Group>,
    key: Key,
    ticks: Ticks,
    deadline: Instant,
}

impl Pages {
    /// Runs `work` on this worker, tracked as fills are.
    pub fn spawn(&self, work: impl Future<Output = ()> + 'static) {
        self.tasks.spawn_local(work);
    }

    /// Fetches a page, looks at it, and pins it for `sale` if it is as expected. `longest` is what it
    /// may take.
    pub fn warm(
        &self,
        target: Target,
        expected: Expected,
        sale: SaleId,
        now: Now,
        longest: Duration,
    ) -> impl Future<Output = Warmed> + use<> + 'static {
        let site = self.sites.get(target.site.as_str()).cloned();
        let group = site.as_ref().and_then(|site| site.group.clone());
        let (cache, tasks, sink) = (self.cache.clone(), self.tasks.clone(), self.sink.clone());
        async move {
            let mut warmed = Warmed::nothing(&target);
            let (Some(site), Some(group)) = (site, group) else {
                warmed.problems.push("the site has no upstream".to_owned());
                return warmed;
            };
            let key = target.fields().key(&mut Vec::new()).to_key();
            let (ticks, deadline) = (Ticks::from(now), Instant::now() + longest);
            let warming = Warming { cache, tasks, sink, site, group, key, ticks, deadline };
            let seen = match warming.fetch().await {
                Ok(seen) => seen,
                Err(problem) => {
                    warmed.problems.push(problem);
                    return warmed;
                }
            };
            warming.look(&seen, &expected, &mut warmed).await;
            if warmed.problems.is_empty() {
                warming.pin(&sale, &mut warmed);
            }
            warmed
        }
    }
}

impl Target {
    fn fields(&self) -> Fields<'_> {
        Fields {
            site: self.site.as_str(),
            host: &self.host,
            path: &self.path,
            activity: &self.activity,
            city: self.city.as_deref(),
            state: self.state.map(Availability::label),
        }
    }
}

impl Warmed {
    fn nothing(target: &Target) -> Warmed {
        Warmed {
            activity: target.activity.clone(),
            city: target.city.clone(),
            state: target.state.map(Availability::label),
            host: target.host.clone(),
            path: target.path.clone(),
            status: None,
            encodings: Vec::new(),
            pinned: false,
            problems: Vec::new(),
        }
    }
}

impl Warming {
    /// Asks the shop by a fill of our own, and waits until what came of it is stored. Fills that others
    /// began, and bounds that are reached, are waited for.
    async fn fetch(&self) -> Result<Rc<Seen>, String> {
        let mut held_up = "a fill that others began does not end";
        while Instant::now() < self.deadline {
            let key = KeyRef::of(self.key.bytes());
            let found = self.cache.peek(&key);
            match self.cache.join(key, found.as_ref(), self.ticks.now().mono) {
                Joined::Began(filling, waiter) => {
                    // A body that is not stored is of no use to us: nobody reads it.
                    drop(waiter);
                    let seen = Rc::new(Seen::default());
                    let fill = Fill {
                        filling,
                        plan: Plan::Page(self.site.clone()),
                        group: self.group.clone(),
                        ticks: Ticks::from(self.ticks.now()),
                        sink: self.sink.clone(),
                        seen: Some(seen.clone()),
                    };
                    let run = self.tasks.spawn_local(fill.run());
                    return match timeout_at(self.deadline, run).await {
                        Ok(Ok(())) => Ok(seen),
                        Ok(Err(panic)) => Err(format!("the fill died: {panic}")),
                        Err(_) => Err("it took too long; the fill goes on".to_owned()),
                    };
                }
                Joined::Waits(waiter) => {
                    let interim = Interim::default();
                    let landing = waiter.landing(&interim);
                    let _ = timeout_at(self.deadline, landing).await;
                }
                Joined::TooNew => held_up = "keys come faster than cache.new_keys",
                Joined::Busy => held_up = "there are as many fills as cache.fills_max",
                Joined::Full => held_up = "a fill has as many waiters as cache.waiters_max",
                Joined::Found(_) => continue,
            }
            sleep(LOOK_EVERY).await;
        }
        Err(held_up.to_owned())
    }

    /// What the shop answered, and what is stored now.
    async fn look(&self, seen: &Seen, expected: &Expected, warmed: &mut Warmed) {
        warmed.status = seen.status.get().map(|status| status.as_u16());
        let problems = &mut warmed.problems;
        problems.extend(seen.trouble.borrow().iter().cloned());
        if let Some(status) = seen.status.get().filter(|status| !is_good(*status)) {
            problems.push(format!("the shop answered {}", status.as_u16()));
        }
        let record = self.cache.peek(&KeyRef::of(self.key.bytes()));
        let Some(entry) = record.as_ref().and_then(|record: &Arc<Record>| record.page()) else {
            if problems.is_empty() {
                problems.push("it was purged meanwhile".to_owned());
            }
            return;
        };
        if entry.status() != StatusCode::OK && problems.is_empty() {
            problems.push(format!("what is stored is a {}", entry.status().as_u16()));
        }
        let encoded = |coding: Coding| {
            let bytes = entry.coded(coding)?.len() as u64;
            Some(Encoded { encoding: coding.label(), bytes })
        };
        warmed.encodings = CODINGS.into_iter().filter_map(encoded).collect();
        if expected.verify {
            let cookies = seen.cookies.get();
            if cookies > 0 {
                let what = if cookies == 1 { "a cookie" } else { "cookies" };
                problems.push(format!("it sets {what}: stripped, but look why"));
            }
            verify(entry, expected, problems).await;
        }
    }

    fn pin(&self, sale: &SaleId, warmed: &mut Warmed) {
        warmed.pinned = self.cache.pin(&KeyRef::of(self.key.bytes()), sale);
        if !warmed.pinned {
            self.sink.inc(Counter::CachePinsRefused);
            let what = "not pinned: pins would take more than half of cache.size";
            warmed.problems.push(what.to_owned());
        }
    }
}

fn is_good(status: StatusCode) -> bool {
    status == StatusCode::OK || status == StatusCode::NOT_MODIFIED
}

/// Length, marker, and that every coding is the page.
async fn verify(entry: &Entry, expected: &Expected, problems: &mut Vec<String>) {
    let page = entry.body();
    if (page.len() as u64) < expected.bytes_min {
        let (is, least) = (page.len(), expected.bytes_min);
        problems.push(format!("it has {is} bytes, expected are {least} at least"));
    }
    if let Some(marker) = &expected.marker
        && memchr::memmem::find(&page, marker.as_bytes()).is_none()
    {
        problems.push(format!("`{marker}` is not in it"));
    }
    let coded = |coding: Coding| Some((coding, entry.coded(coding)?.clone()));
    let coded: Vec<(Coding, Bytes)> = CODINGS.into_iter().filter_map(coded).collect();
    let bad = move || {
        let is_bad = |(coding, bytes): &(Coding, Bytes)| {
            decode(*coding, bytes, page.len()).is_none_or(|decoded| decoded != page)
        };
        coded.iter().filter(|one| is_bad(one)).map(|(coding, _)| coding.label()).collect()
    };
    // Takes milliseconds: not on a worker.
    match tokio::task::spawn_blocking(bad).await {
        Ok(bad) => {
            let bad: Vec<&str> = bad;
            problems.extend(bad.iter().map(|name| format!("{name} does not decode to the page")));
        }
        Err(panic) => problems.push(format!("it could not be decoded: {panic}")),
    }
}

/// How often a fill of others is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);
