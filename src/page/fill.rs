//! One fill: asks the shop for a page, tells those who wait, and stores what may be stored. It is a
//! task of its own on the worker that began it; no client can cancel it.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use http_body::Body;
use tokio::time::{Instant, timeout_at};

use super::cache::Filling;
use super::entry::{Entry, Source, kept_headers};
use super::flight::{Landing, Lead};
use super::judge::{Arrival, Keep, Refusal, Windows, keep};
use super::record::{Record, What};
use super::site::Site;
use crate::clock::Now;
use crate::http::ResponseBody;
use crate::http::body::BodyError;
use crate::metrics::{Counter, Sink};
use crate::outcome::Reason;
use crate::upstream::{Group, Response, Stage, Timeouts, UpstreamError};

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
    /// The site.
    pub site: Rc<Site>,
    /// Its servers.
    pub group: Rc<Group>,
    /// The clocks.
    pub ticks: Ticks,
    /// Where it counts.
    pub sink: Sink,
}

impl Fill {
    /// Runs to its end, whatever becomes of the clients.
    pub async fn run(self) {
        self.sink.inc(Counter::CacheFills);
        let fill_timeout = self.filling.cache().settings().fill_timeout.duration();
        let deadline = Instant::now() + fill_timeout;
        let validators = self.old_page().into_iter().flat_map(Entry::validators);
        let request = self.site.request(&self.filling.key().fields(), validators);
        let asked_at = self.ticks.now();
        let sending = self.group.send(request, timeouts(&self.group, fill_timeout));
        match timeout_at(deadline, sending).await {
            Err(_) => self.fail(Reason::GatewayTimeout, "it took too long"),
            Ok(Err(error)) => self.fail(reason_of(&error), &error.cause),
            Ok(Ok(response)) => {
                let now = self.ticks.now();
                let arrival = Arrival { wall: now.wall, delay_ms: now.mono.since(asked_at.mono) };
                self.take(response, arrival, deadline).await;
            }
        }
    }

    async fn take(&self, response: Response, arrival: Arrival, deadline: Instant) {
        let cookies = response.headers.get_all(header::SET_COOKIE).iter().count();
        self.sink.add(Counter::CacheCookiesStripped, cookies as u64);
        let headers = kept_headers(&response.headers, &self.site.vary, arrival.wall);
        if response.status == StatusCode::NOT_MODIFIED {
            return match self.old_page() {
                Some(page) => self.renew(page.refreshed(headers), arrival),
                None => self.fail(Reason::BadGateway, "304 to a request without a condition"),
            };
        }
        let mut keep = keep(response.status, &headers, &self.site.route, arrival);
        let length = response.body.size_hint().exact();
        let entry_bytes_max = self.filling.cache().entry_bytes_max();
        if let Keep::Page(_) = keep {
            if response.close_delimited {
                keep = Keep::Not(Refusal::Undelimited);
            } else if length.is_some_and(|l| l > entry_bytes_max as u64) {
                keep = Keep::Not(Refusal::TooLarge);
            }
        }
        let windows = match keep {
            Keep::Page(windows) => Some(windows),
            Keep::Error(_) if self.has_stand_in() => {
                return self.fail(Reason::BadGateway, response.status.as_str());
            }
            Keep::Error(windows) => {
                self.sink.inc(Counter::CacheFillErrors);
                (!response.close_delimited).then_some(windows)
            }
            Keep::Not(refusal) => {
                self.refuse(refusal);
                None
            }
        };
        if windows.is_none() {
            self.filling.leave();
            self.filling.flight().stop_keeping();
        }
        let is_stored = windows.is_some();
        let lead = Lead { status: response.status, headers: headers.clone(), length, is_stored };
        self.filling.flight().land(Landing::Stream(Arc::new(lead)));
        self.stream(
            response.body,
            windows,
            Source { status: response.status, headers, body: Bytes::new() },
            deadline,
        )
        .await;
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
                    if windows.is_some() && taken > entry_bytes_max {
                        windows = None;
                        self.refuse(Refusal::TooLarge);
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
            let body = flight.body();
            self.store(Source { body, ..source }, windows).await;
        }
    }

    /// Makes the entry and stores it. Until it is there, who comes joins the flight. Where more pages
    /// come than can be encoded, they are stored without codings: better large than not at all.
    async fn store(&self, source: Source, windows: Windows) {
        let came = self.ticks.now().mono;
        let cache = self.filling.cache();
        self.filling.answered();
        let mut compress_bytes_min = cache.settings().compress_bytes_min.in_memory();
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
        let record =
            Record::new(self.filling.key().clone(), What::Page(Box::new(entry)), windows, came);
        self.filling.store(record, &self.sink);
    }

    /// The shop says that the stored page is still good.
    fn renew(&self, page: Entry, arrival: Arrival) {
        let keep = keep(page.status(), page.headers(), &self.site.route, arrival);
        let windows = match keep {
            Keep::Page(windows) | Keep::Error(windows) => windows,
            Keep::Not(refusal) => {
                self.refuse(refusal);
                Windows::default()
            }
        };
        let now = self.ticks.now().mono;
        let record =
            Record::new(self.filling.key().clone(), What::Page(Box::new(page)), windows, now);
        if let Keep::Page(_) = keep {
            self.filling.store(record.clone(), &self.sink);
        }
        self.filling.flight().land(Landing::Record(record));
        self.filling.flight().end(true);
    }

    /// The page may not be stored: who comes from now on asks for itself.
    fn refuse(&self, refusal: Refusal) {
        self.sink.inc(Counter::CacheRefused);
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
        let fields = self.filling.key().fields();
        tracing::debug!(cause, path = fields.path, host = fields.host, "a fill failed");
        let hold_ms = self.filling.cache().settings().error_hold.ms;
        let flight = self.filling.flight();
        match self.filling.old().filter(|_| self.has_stand_in()) {
            Some(old) => {
                old.hold(self.ticks.now().mono.plus(hold_ms));
                self.filling.leave();
                flight.land(Landing::Record(old.clone()));
            }
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
            let record = Record::new(self.filling.key().clone(), what, windows, now);
            self.filling.store(record, &self.sink);
        }
        self.filling.leave();
    }

    fn old_page(&self) -> Option<&Entry> {
        match self.filling.old()?.what() {
            What::Page(entry) => Some(entry),
            What::HitForMiss | What::Failed(_) => None,
        }
    }

    fn has_stand_in(&self) -> bool {
        self.filling.old().is_some_and(|old| old.stands_in(self.ticks.now().mono))
    }
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
    let none = std::iter::empty::<(HeaderName, &HeaderValue)>();
    let request = site.request(fields, none);
    let response = match group.send(request, timeouts(group, fill_timeout)).await {
        Ok(response) if response.status != StatusCode::NOT_MODIFIED => response,
        Ok(_) => return Err(Reason::BadGateway),
        Err(error) => return Err(reason_of(&error)),
    };
    let cookies = response.headers.get_all(header::SET_COOKIE).iter().count();
    sink.add(Counter::CacheCookiesStripped, cookies as u64);
    let headers: HeaderMap = kept_headers(&response.headers, &site.vary, now().wall);
    let length = response.body.size_hint().exact();
    let lead = Lead { status: response.status, headers, length, is_stored: false };
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

/// What clients are told about an error.
fn reason_of(error: &UpstreamError) -> Reason {
    match error.at {
        Stage::Queue => Reason::Overloaded,
        _ if error.timed_out => Reason::GatewayTimeout,
        _ => Reason::BadGateway,
    }
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
