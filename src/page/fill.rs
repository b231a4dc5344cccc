//! One fill: asks the shop for a page, tells those who wait, and stores what may be stored. It is a
//! task of its own on the worker that began it; no client can cancel it.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use http_body::Body;
use tokio::time::{Instant, timeout_at};

use super::cache::Filling;
use super::entry::{Entry, Source, kept_headers};
use super::flight::{Landing, Lead, Sharing};
use super::parts;
use super::plan::{Ordinary, Plan};
use super::policy::clip::{Bound, clipped};
use super::policy::head::{Effect, effect};
use super::policy::judge::{Arrival, Keep, Refusal, Windows};
use super::policy::tags::{self, Tags};
use super::policy::update::updated;
use super::policy::vary;
use super::record::{Record, What};
use super::refused::{counter, reason_of};
use super::site::Site;
use crate::clock::Now;
use crate::http::ResponseBody;
use crate::http::body::BodyError;
use crate::metrics::{Counter, Sink};
use crate::outcome::Reason;
use crate::upstream::{Group, Hints, Response, Timeouts};

/// The clocks of a request, read again while its work goes on.
#[derive(Clone, Copy, Debug)]
pub struct Ticks {
    at: Now,
    since: Instant,
}

impl Ticks {
    /// Goes on from `now`.
    pub fn from(now: Now) -> Ticks {
        Ticks { at: now, since: Instant::now() }
    }

    /// When it began.
    pub fn began(&self) -> crate::clock::MonoMs {
        self.at.mono
    }

    /// The clocks now.
    pub fn now(&self) -> Now {
        let passed = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        Now {
            mono: self.at.mono.plus(passed),
            wall: self.at.wall.plus(passed),
            ledger: self.at.ledger.plus(passed),
            ..self.at
        }
    }
}

/// A fill that has not begun.
pub struct Fill {
    /// The right to fill, and the flight.
    pub filling: Filling,
    /// What it is for.
    pub plan: Plan,
    /// The servers.
    pub group: Rc<Group>,
    /// The clocks.
    pub ticks: Ticks,
    /// Where it counts.
    pub sink: Sink,
    /// Where it is noted what the shop said, if somebody wants to know.
    pub seen: Option<Rc<Seen>>,
}

/// What one fill saw.
#[derive(Debug, Default)]
pub struct Seen {
    /// The shop's status, if it answered.
    pub status: Cell<Option<StatusCode>>,
    /// Cookies that its answer sets.
    pub cookies: Cell<usize>,
    /// Why nothing was stored.
    pub trouble: RefCell<Vec<String>>,
}

impl Fill {
    /// Runs to its end, whatever becomes of the clients.
    pub async fn run(self) {
        self.sink.inc(Counter::CacheFills);
        let fill_timeout = self.filling.cache().settings().fill_timeout.duration();
        let deadline = Instant::now() + fill_timeout;
        let flight = self.filling.flight().clone();
        let hints: Hints = Arc::new(move |status, headers| flight.interim(status, headers));
        let request = self.plan.request(&self.filling.key(), self.old_page(), hints);
        let asked_at = self.ticks.now();
        let sending = self.group.send(request, self.timeouts(fill_timeout));
        let sent = match self.plan.ordinary() {
            Some(_) => Ok(sending.await),
            None => timeout_at(deadline, sending).await,
        };
        match sent {
            Err(_) => self.fail(Reason::GatewayTimeout, "it took too long"),
            Ok(Err(error)) => self.fail(reason_of(&error), &error.cause),
            Ok(Ok(response)) => {
                let now = self.ticks.now();
                let arrival = Arrival { wall: now.wall, delay_ms: now.mono.since(asked_at.mono) };
                self.take(response, arrival, deadline).await;
            }
        }
    }

    /// On an ordinary route the shop has the time that the proxy gives it.
    fn timeouts(&self, fill_timeout: Duration) -> Timeouts {
        match self.plan.ordinary() {
            Some(_) => timeouts(&self.group, self.group.settings().first_byte_timeout.duration()),
            None => timeouts(&self.group, fill_timeout),
        }
    }

    async fn take(&self, response: Response, arrival: Arrival, deadline: Instant) {
        let is_page = self.plan.ordinary().is_none();
        if let Some(seen) = &self.seen {
            seen.status.set(Some(response.status));
        }
        if is_page {
            let cookies = response.headers.get_all(header::SET_COOKIE).iter().count();
            if let Some(seen) = &self.seen {
                seen.cookies.set(cookies);
            }
            self.sink.add(Counter::CacheCookiesStripped, cookies as u64);
        }
        let (mut relayed, stored) = self.plan.fields(&response, arrival.wall);
        if let Some(bound) = self.bound(&relayed) {
            relayed = clipped(&relayed, bound);
        }
        let tags = self.plan.tags(&response.headers);
        if response.status == StatusCode::NOT_MODIFIED {
            return match self.old_page().filter(|old| is_page || old.part().is_none()) {
                Some(page) if is_page => {
                    let page = page.refreshed(stored).with_tags(self.newer_tags(&response));
                    self.renew(page, arrival);
                }
                Some(page) => {
                    let page = page.with_headers(updated(&page.headers(), &stored));
                    self.renew(page.with_tags(self.newer_tags(&response)), arrival);
                }
                None => self.fail(Reason::BadGateway, "304 to a request without a condition"),
            };
        }
        if let Some(plan) = self.plan.ordinary() {
            if response.status.is_server_error() && self.has_stand_in() {
                return self.fail(Reason::BadGateway, response.status.as_str());
            }
            if plan.method == Method::HEAD {
                return self.take_head(plan, &response, relayed, &stored, arrival);
            }
            if response.status == StatusCode::PARTIAL_CONTENT
                && let Some(joined) = self.join_parts(plan, &response)
            {
                return self.complete(joined, response, relayed, stored, arrival, deadline).await;
            }
        }
        let windows = match self.windows(&response, arrival) {
            Ok(windows) => windows,
            Err(reason) => return self.fail(reason, response.status.as_str()),
        };
        let tags = tags.unwrap_or_default();
        let came = Came { status: response.status, relayed, stored, windows, tags };
        self.pass_on(came, response.body, Bytes::new(), deadline).await;
    }

    /// For how long the response may be used; nothing where it is not stored. An error says that what
    /// is stale stands in for it.
    fn windows(&self, response: &Response, arrival: Arrival) -> Result<Option<Windows>, Reason> {
        let mut keep = self.plan.keep(response.status, &response.headers, arrival);
        let length = response.body.size_hint().exact();
        let entry_bytes_max = self.filling.cache().entry_bytes_max();
        if let Keep::Page(_) = keep {
            if response.close_delimited {
                keep = Keep::Not(Refusal::Undelimited);
            } else if length.is_some_and(|l| l > entry_bytes_max as u64) {
                keep = Keep::Not(Refusal::TooLarge);
            } else if self.plan.tags(&response.headers).is_none() {
                keep = Keep::Not(Refusal::Tags);
            } else if !self.filling.may_store() {
                return Ok(None);
            }
        }
        match keep {
            Keep::Page(windows) => Ok(Some(windows)),
            Keep::Error(_) if self.has_stand_in() => Err(Reason::BadGateway),
            Keep::Error(windows) => {
                self.sink.inc(Counter::CacheFillErrors);
                Ok((!response.close_delimited).then_some(windows))
            }
            // An error is no reason to remember that nothing may be stored: who comes next asks
            // again, and those who come with it wait together.
            Keep::Not(_) if self.plan.ordinary().is_some() && response.status.is_server_error() => {
                self.sink.inc(Counter::CacheFillErrors);
                Ok(None)
            }
            Keep::Not(refusal) => {
                self.refuse(refusal);
                Ok(None)
            }
        }
    }

    /// Tells those who wait of the answer and hands on its body, which begins with `before`.
    async fn pass_on(&self, came: Came, body: ResponseBody, before: Bytes, deadline: Instant) {
        let Came { status, relayed, stored, windows, tags } = came;
        self.filling.flight().tag(tags.clone());
        if windows.is_none() {
            self.filling.leave();
            self.filling.flight().stop_keeping();
        } else if let Some(plan) = self.plan.ordinary() {
            self.select(plan, &relayed);
        }
        let is_shared = windows.is_some_and(|windows| !windows.alone);
        let sharing = self.plan.sharing(status, &relayed, is_shared);
        let length = body.size_hint().exact().map(|length| length + before.len() as u64);
        let is_stored = windows.is_some();
        let lead = Lead { status, headers: relayed, length, is_stored, sharing };
        self.filling.flight().land(Landing::Stream(Arc::new(lead)));
        self.filling.flight().push(before);
        let is_faithful = self.plan.ordinary().is_some();
        let source = Source { status, headers: stored, body: Bytes::new(), is_faithful, tags };
        self.stream(body, windows, source, deadline).await;
    }

    /// The key of what comes depends on what the response says about its variants.
    fn select(&self, plan: &Ordinary, headers: &HeaderMap) {
        let names = plan.selecting(headers);
        let is_variant = *self.filling.key().bytes() != *plan.url;
        if names.is_empty() && !is_variant {
            return;
        }
        let value = |name: &str| plan.said.value(name);
        let language = vary::language_of(headers);
        let variants_max = plan.route.variants_max;
        let language = language.as_deref();
        self.filling.select(&plan.url, &names, language, value, variants_max, &self.sink);
    }

    /// An answer to HEAD: nothing to store, but perhaps news of what is (RFC 9111 4.3.5).
    fn take_head(
        &self,
        plan: &Ordinary,
        response: &Response,
        relayed: HeaderMap,
        stored: &HeaderMap,
        arrival: Arrival,
    ) {
        if let Some(page) = self.old_page().filter(|page| page.part().is_none()) {
            let length = page.body().len() as u64;
            match effect(&page.headers(), length, response.status, &response.headers) {
                Effect::Update => {
                    let page = page.with_headers(updated(&page.headers(), stored));
                    let page = page.with_tags(self.newer_tags(response));
                    self.store_renewed(page, arrival);
                }
                Effect::Invalidate => self.filling.cache().invalidate(&plan.url, &self.sink),
                Effect::None => {}
            }
        }
        self.filling.leave();
        let length = stated_length(&response.headers);
        let (status, sharing) = (response.status, Sharing::One);
        let lead = Lead { status, headers: relayed, length, is_stored: false, sharing };
        self.filling.flight().land(Landing::Stream(Arc::new(lead)));
        self.filling.flight().end(true);
    }

    /// The stored beginning of which this 206 is the rest, if they are of one representation: the
    /// same strong validator (RFC 9110 15.3.7.3).
    fn join_parts(&self, plan: &Ordinary, response: &Response) -> Option<Entry> {
        let old = self.old_page()?;
        let (_, etag) = plan.completion(old)?;
        let (held, total) = old.part()?;
        let (rest, all) = parts::of(&response.headers)?;
        let is_the_rest = (rest.first, rest.last + 1, all) == (held.last + 1, total, total);
        let is_same = response.headers.get(header::ETAG) == Some(&etag);
        let is_sized = old.body().len() as u64 == held.length()
            && response.body.size_hint().exact() == Some(rest.length());
        (is_the_rest && is_same && is_sized).then(|| old.with_headers(old.headers()))
    }

    /// Hands on a stored beginning and its rest as the whole (RFC 9111 3.4).
    async fn complete(
        &self,
        old: Entry,
        response: Response,
        relayed: HeaderMap,
        stored: HeaderMap,
        arrival: Arrival,
        deadline: Instant,
    ) {
        let whole = |newer: &HeaderMap| {
            let mut fields = updated(&old.headers(), newer);
            fields.remove(header::CONTENT_RANGE);
            fields.remove(header::CONTENT_LENGTH);
            fields
        };
        let (relayed, stored) = (whole(&relayed), whole(&stored));
        let is_small = old
            .part()
            .is_some_and(|(_, total)| total <= self.filling.cache().entry_bytes_max() as u64);
        let windows = match self.plan.keep(StatusCode::OK, &response.headers, arrival) {
            Keep::Page(windows) if is_small => Some(windows),
            _ => None,
        };
        let tags = self.newer_tags(&response).unwrap_or_else(|| old.tags().clone());
        let came = Came { status: StatusCode::OK, relayed, stored, windows, tags };
        self.pass_on(came, response.body, old.body(), deadline).await;
    }

    /// Hands the body on as it comes, and stores it if it is kept to its end.
    async fn stream(
        &self,
        mut body: ResponseBody,
        mut windows: Option<Windows>,
        source: Source,
        deadline: Instant,
    ) {
        let flight = self.filling.flight();
        let entry_bytes_max = self.filling.cache().entry_bytes_max();
        let mut taken = 0;
        loop {
            let item = if windows.is_some() {
                match timeout_at(deadline, next(&mut body)).await {
                    Ok(item) => item,
                    Err(_) if self.plan.ordinary().is_some() => {
                        // Too slow to be kept in memory, but its clients go on.
                        windows = None;
                        self.filling.leave();
                        flight.stop_keeping();
                        continue;
                    }
                    Err(_) => return self.cut("the body took too long", true),
                }
            } else {
                // Nobody is left to read it, and it will not be stored.
                if !flight.pace().await {
                    return flight.end(false);
                }
                next(&mut body).await
            };
            match item {
                Some(Ok(chunk)) => {
                    taken += chunk.len();
                    let has_room = self.filling.cache().has_room();
                    if windows.is_some() && (taken > entry_bytes_max || !has_room) {
                        windows = None;
                        self.refuse(if has_room { Refusal::TooLarge } else { Refusal::NoRoom });
                        flight.stop_keeping();
                    }
                    flight.push(chunk);
                }
                Some(Err(error)) => return self.cut(&error.to_string(), windows.is_some()),
                None => break,
            }
        }
        flight.end(true);
        if let Some(windows) = windows {
            let source = Source { body: flight.body(), ..source };
            if source.is_consistent() {
                self.store(source, windows).await;
            }
        }
    }

    /// Makes the entry and stores it. Until it is there, who comes joins the flight. Where more pages
    /// come than can be encoded, they are stored without codings: better large than not at all.
    async fn store(&self, source: Source, windows: Windows) {
        let came = self.ticks.now().mono;
        let cache = self.filling.cache();
        self.filling.answered();
        let of_pages = cache.settings().compress_bytes_min.in_memory();
        let mut compress_bytes_min = self.plan.compress_bytes_min(of_pages);
        let mut turn = None;
        if source.is_expensive(compress_bytes_min) {
            turn = cache.encoding_turn().await;
            if turn.is_none() {
                compress_bytes_min = usize::MAX;
            }
        }
        let entry = if source.is_expensive(compress_bytes_min) {
            let made = tokio::task::spawn_blocking(move || source.into_entry(compress_bytes_min));
            match made.await {
                Ok(entry) => entry,
                Err(_) => return self.sink.inc(Counter::Panics),
            }
        } else {
            source.into_entry(compress_bytes_min)
        };
        drop(turn);
        let bound = self.bound(&entry.headers());
        let entry = entry.bounded(bound);
        let record = Record::new(self.filling.key(), What::Page(Box::new(entry)), windows, came);
        self.filling.store(record, &self.sink);
    }

    /// The shop says that the stored page is still good.
    fn renew(&self, page: Entry, arrival: Arrival) {
        let record = self.store_renewed(page, arrival);
        self.filling.flight().land(Landing::Record(record));
        self.filling.flight().end(true);
    }

    /// Stores a page with newer fields, if these allow it.
    fn store_renewed(&self, page: Entry, arrival: Arrival) -> Arc<Record> {
        let keep = self.plan.keep(page.status(), &page.headers(), arrival);
        let windows = match keep {
            Keep::Page(windows) | Keep::Error(windows) => windows,
            Keep::Not(refusal) => {
                self.refuse(refusal);
                // On an ordinary route it was this client's word: the others ask for themselves.
                Windows { alone: self.plan.ordinary().is_some(), ..Windows::default() }
            }
        };
        let now = self.ticks.now().mono;
        let bound = self.bound(&page.headers());
        let page = page.bounded(bound);
        let record = Record::new(self.filling.key(), What::Page(Box::new(page)), windows, now);
        if let Keep::Page(_) = keep {
            self.filling.store(record.clone(), &self.sink);
        }
        record
    }

    /// The page may not be stored: who comes from now on asks for itself.
    fn refuse(&self, refusal: Refusal) {
        self.sink.inc(counter(refusal));
        self.note(|| format!("not stored: {}", refusal.text()));
        if let Refusal::Client | Refusal::NoRoom = refusal {
            // It says nothing about other clients, or other times.
            return self.filling.leave();
        }
        tracing::debug!(?refusal, path = self.filling.key().fields().path, "page not stored");
        let fresh_ms = self.filling.cache().settings().hit_for_miss.ms;
        self.remark(What::HitForMiss, fresh_ms);
    }

    /// No answer: those who wait get what is stale, or are told at once.
    fn fail(&self, reason: Reason, cause: &str) {
        self.settle_failure(reason, cause);
        self.filling.flight().end(false);
    }

    /// The body broke off after its head was told; a cut one is never stored.
    fn cut(&self, cause: &str, was_kept: bool) {
        if was_kept {
            self.settle_failure(Reason::BadGateway, cause);
        } else {
            self.sink.inc(Counter::CacheFillErrors);
        }
        self.filling.flight().end(false);
    }

    fn settle_failure(&self, reason: Reason, cause: &str) {
        self.sink.inc(Counter::CacheFillErrors);
        let key = self.filling.key();
        let fields = key.fields();
        self.note(|| cause.to_owned());
        tracing::debug!(cause, path = fields.path, host = fields.host, "a fill failed");
        let hold_ms = self.filling.cache().settings().error_hold.ms;
        let flight = self.filling.flight();
        match self.filling.old().filter(|_| self.has_stand_in()) {
            Some(old) => {
                old.hold(self.ticks.now().mono.plus(hold_ms));
                self.filling.leave();
                flight.land(Landing::Record(old.clone()));
            }
            // One client's errand says little about the others'.
            None if self.filling.is_alone() => flight.land(Landing::Failed(reason)),
            None => {
                self.remark(What::Failed(reason), hold_ms);
                flight.land(Landing::Failed(reason));
            }
        }
    }

    /// Stores a remark about the key for `fresh_ms`, and lets others fill it after that.
    fn remark(&self, what: What, fresh_ms: u64) {
        if fresh_ms > 0 {
            let windows = Windows { fresh_ms, ..Windows::default() };
            let now = self.ticks.now().mono;
            let record = Record::new(self.filling.key(), what, windows, now);
            self.filling.store(record, &self.sink);
        }
        self.filling.leave();
    }

    /// How long what is sent now may be kept outside.
    fn bound(&self, headers: &HeaderMap) -> Option<Bound> {
        self.plan.bound(&self.filling.key(), headers, &self.ticks.now())
    }

    fn note(&self, trouble: impl FnOnce() -> String) {
        if let Some(seen) = &self.seen {
            seen.trouble.borrow_mut().push(trouble());
        }
    }

    /// The tags that a response gives anew to what is stored. Where it has too many, none are given:
    /// what it had still holds.
    fn newer_tags(&self, response: &Response) -> Option<Tags> {
        tags::are_said(&response.headers).then(|| self.plan.tags(&response.headers)).flatten()
    }

    fn old_page(&self) -> Option<&Entry> {
        self.filling.old()?.page()
    }

    fn has_stand_in(&self) -> bool {
        self.filling.old().is_some_and(|old| {
            let cache = self.filling.cache();
            cache.is_current(old) && old.stands_in(self.ticks.now().mono)
        })
    }
}

/// A response that has begun to come.
struct Came {
    status: StatusCode,
    relayed: HeaderMap,
    stored: HeaderMap,
    windows: Option<Windows>,
    tags: Tags,
}

/// Asks for the page of one client alone. Nothing of it is stored, but for the rest it is a fill: the
/// same request, and the same fields are kept.
pub async fn pass(
    site: &Site,
    group: &Rc<Group>,
    fields: &super::key::Fields<'_>,
    fill_timeout: Duration,
    sink: &Sink,
    now: impl Fn() -> Now,
) -> Result<(Lead, ResponseBody), Reason> {
    let none = std::iter::empty::<(HeaderName, HeaderValue)>();
    let request = site.request(fields, none);
    let response = match group.send(request, timeouts(group, fill_timeout)).await {
        Ok(response) if response.status != StatusCode::NOT_MODIFIED => response,
        Ok(_) => return Err(Reason::BadGateway),
        Err(error) => return Err(reason_of(&error)),
    };
    let cookies = response.headers.get_all(header::SET_COOKIE).iter().count();
    sink.add(Counter::CacheCookiesStripped, cookies as u64);
    let now = now();
    let mut headers: HeaderMap = kept_headers(&response.headers, &site.vary, now.wall);
    if let Some(bound) = site.bound(fields, &headers, &now) {
        headers = clipped(&headers, bound);
    }
    let length = response.body.size_hint().exact();
    let (status, sharing) = (response.status, Sharing::All);
    let lead = Lead { status, headers, length, is_stored: false, sharing };
    Ok((lead, response.body))
}

/// A fill as a whole has a deadline of its own: one whose body is not stored goes on as long as
/// somebody reads it.
fn timeouts(group: &Group, fill_timeout: Duration) -> Timeouts {
    Timeouts {
        first_byte: fill_timeout,
        idle: group.settings().idle_timeout.duration(),
        until: None,
    }
}

/// `Content-Length` of an answer to HEAD.
fn stated_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

async fn next(body: &mut ResponseBody) -> Option<Result<Bytes, BodyError>> {
    loop {
        match poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await? {
            // Trailers are dropped.
            Ok(frame) => match frame.into_data() {
                Ok(data) => return Some(Ok(data)),
                Err(_) => continue,
            },
            Err(error) => return Some(Err(error)),
        }
    }
}
