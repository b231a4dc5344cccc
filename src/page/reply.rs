//! What one client gets that could not be answered at once.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use tokio::time::timeout;

use super::cache::Cache;
use super::entry::{Wanted, in_unmodified};
use super::fill::Ticks;
use super::flight::{Landing, Lead, Sharing, Waiter};
use super::policy::directives::date_s;
use super::policy::judge::Why;
use super::record::Record;
use super::select::Said;
use crate::answers::{Answers, Form};
use crate::http::{Exchange, Interim, Ready, ResponseBody};
use crate::outcome::Reason;

/// A client whose answer takes a while.
pub struct Client {
    /// What it said about the form of its answer.
    pub wanted: Wanted<'static>,
    /// The form of an apology.
    pub form: Form,
    /// The cache.
    pub cache: Arc<Cache>,
    /// The apologies.
    pub answers: Arc<Answers>,
    /// Its exchange.
    pub exchange: Exchange,
    /// The clocks.
    pub ticks: Ticks,
    /// Why the cache could not answer.
    pub why: Why,
}

/// What came of waiting.
pub enum Reply {
    /// The answer.
    Answer(Response<ResponseBody>),
    /// What came is for those who say something else in the fields that select.
    Another,
    /// What came is for the client it was fetched for.
    NotShared,
}

impl Client {
    /// Waits for a fill, for at most `longest`; then what is stale, if it may stand in, else
    /// `overloaded`. `is_first` says whether the fill was begun for this client; `said` is what it
    /// says in fields that may select, where that matters.
    pub async fn wait(
        &self,
        waiter: Waiter,
        old: Option<Arc<Record>>,
        is_first: bool,
        said: Option<&Said>,
        longest: Duration,
        interim: &Interim,
    ) -> Reply {
        let landing = timeout(longest, waiter.landing(interim)).await;
        Reply::Answer(match landing {
            Ok(Landing::Stream(lead)) => {
                match &lead.sharing {
                    _ if is_first => {}
                    Sharing::All => {}
                    Sharing::Those(theirs, names) => {
                        if !said.is_some_and(|said| said.agrees(theirs, names)) {
                            return Reply::Another;
                        }
                    }
                    Sharing::One => return Reply::NotShared,
                    Sharing::OneOfMany => {
                        return Reply::Answer(self.apology(Reason::BadGateway));
                    }
                }
                let length = lead.length;
                let body = || ResponseBody::Stream(Box::pin(waiter.into_body(length)));
                self.relay(&lead, body, !is_first)
            }
            Ok(Landing::Record(record)) if is_first || said.is_none() => self.stored(&record),
            // Where each request has to ask for itself, a renewal is no other's.
            Ok(Landing::Record(record)) if record.is_alone() => return Reply::NotShared,
            Ok(Landing::Record(record)) => self.stored(&record),
            Ok(Landing::Failed(reason)) => self.apology(reason),
            Err(_) => return Reply::Answer(self.stand_in(old, Reason::Overloaded)),
        })
    }

    /// What is stale, if it may stand in, else the word of `reason`.
    pub fn stand_in(&self, old: Option<Arc<Record>>, reason: Reason) -> Response<ResponseBody> {
        let stands_in =
            |old: &Arc<Record>| self.cache.is_current(old) && old.stands_in(self.ticks.now().mono);
        match old.filter(stands_in) {
            Some(old) => self.stored(&old),
            None => self.apology(reason),
        }
    }

    /// The shop's answer, with `body` unless the client needs none.
    pub fn relay(
        &self,
        lead: &Lead,
        body: impl FnOnce() -> ResponseBody,
        is_collapsed: bool,
    ) -> Response<ResponseBody> {
        let modified = lead.headers.get(header::LAST_MODIFIED).or(lead.headers.get(header::DATE));
        let modified_s = modified.and_then(|v| date_s(v.as_bytes()));
        let has_copy = lead.status == StatusCode::OK
            && self
                .wanted
                .has_copy_of(lead.headers.get(header::ETAG).map(|v| v.as_bytes()), modified_s);
        let mut headers = lead.headers.clone();
        if let Ok(status) = HeaderValue::from_str(&self.cache_status(lead, is_collapsed)) {
            headers.append("cache-status", status);
        }
        let (status, body) = if has_copy {
            headers = unmodified(headers);
            (StatusCode::NOT_MODIFIED, ResponseBody::Empty)
        } else if self.wanted.is_head {
            if let Some(length) = lead.length {
                headers.insert(header::CONTENT_LENGTH, length.into());
            }
            (lead.status, ResponseBody::Empty)
        } else {
            (lead.status, body())
        };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response
    }

    /// What we say where there is nothing to relay.
    pub fn apology(&self, reason: Reason) -> Response<ResponseBody> {
        let answer = self.answers.plain(self.form, reason);
        written(&self.answers.ready(answer, reason, &self.exchange))
    }

    fn stored(&self, record: &Record) -> Response<ResponseBody> {
        match record.ready_in_part(&self.wanted, &self.exchange, self.ticks.now()) {
            Some(ready) => written(&ready),
            // Only a part of it is stored, and not the one that is asked for.
            None => self.apology(Reason::BadGateway),
        }
    }

    /// RFC 9211: why it was forwarded, and what became of it.
    fn cache_status(&self, lead: &Lead, is_collapsed: bool) -> String {
        let forwarded = self.why.forwarded();
        let stored = if lead.is_stored { "; stored" } else { "" };
        let collapsed = if is_collapsed { "; collapsed" } else { "" };
        format!("penstock; fwd={forwarded}; fwd-status={}{stored}{collapsed}", lead.status.as_str())
    }
}

/// A ready answer as hyper takes it.
pub fn written(ready: &Ready) -> Response<ResponseBody> {
    ready.answer.response(&ready.fill).map(ResponseBody::Full)
}

/// The fields that a 304 repeats.
fn unmodified(headers: HeaderMap) -> HeaderMap {
    let is_repeated = |name: &header::HeaderName| {
        in_unmodified(name)
            || [header::DATE, header::ETAG].contains(name)
            || *name == "cache-status"
    };
    let mut repeated = HeaderMap::new();
    for (name, value) in headers.iter().filter(|(name, _)| is_repeated(name)) {
        repeated.append(name, value.clone());
    }
    repeated
}
