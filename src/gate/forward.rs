//! The way of an admitted purchase: a place at the shop, the claim, the send, what its answer means.
//!
//! It runs in a task that owns its permit. A place is taken before the claim, so that a permit never
//! waits for one. Nothing leaves after the permit's deadline.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use http_body::Body as _;
use tokio::time::Instant;

use super::Inner;
use super::alarm::Event;
use super::body::Hold;
use super::outcome::{Reading, classify};
use super::pass::Pass;
use super::repeat::{Relayed, Told};
use super::report::Report;
use super::say::Said;
use super::site::SiteGate;
use crate::claims::{Ask, Claim, Outcome, Permit};
use crate::clock::{Now, UnixMs};
use crate::fault::{self, Point};
use crate::http::{Note, ResponseBody, hop};
use crate::ident::{AttemptId, ClaimId, Name, RequestId, UserKey};
use crate::ledger::Claimed;
use crate::metrics::{Counter, Timing};
use crate::outcome::{Reason, Verdict};
use crate::sale::SaleSnapshot;
use crate::upstream::{Body, Group, Place, Reached, Request, Stage};
use crate::upstream::{Timeouts, UpstreamError, Written};

/// A purchase that passed every local check.
#[derive(Debug)]
pub(super) struct Errand {
    pub site: Arc<SiteGate>,
    pub sale: Arc<SaleSnapshot>,
    pub user: UserKey,
    pub attempt: AttemptId,
    /// Index of the pool in the sale.
    pub pool: usize,
    pub units: u32,
    /// Whether the client has a key of its own by which it may repeat.
    pub is_keyed: bool,
    pub headers: HeaderMap,
    pub target: String,
    pub host: String,
    pub body: Bytes,
    /// Room of the body, given back at the end.
    pub _hold: Option<Hold>,
    /// When `now` was read.
    pub started: Instant,
    pub now: Now,
    pub request: RequestId,
    pub note: Note,
}

/// What an errand came to.
#[derive(Debug)]
pub(super) struct Forwarded {
    /// What the client is told.
    pub told: Told,
    /// Whether it may be told again: the order exists.
    pub is_confirmed: bool,
}

impl From<Said> for Forwarded {
    fn from(said: Said) -> Forwarded {
        Forwarded { told: Told::Own(said), is_confirmed: false }
    }
}

impl From<Reason> for Forwarded {
    fn from(reason: Reason) -> Forwarded {
        Said::from(reason).into()
    }
}

/// What was heard of the shop.
enum Heard {
    /// A whole answer.
    Whole(Relayed),
    /// The shop has certainly not seen the purchase.
    Unsent(UpstreamError),
    /// Nobody knows.
    Lost {
        /// In words.
        cause: String,
        /// Whether an answer came that was longer than we read.
        too_long: bool,
    },
}

/// Claims and forwards.
pub(super) async fn run(inner: &Inner, errand: Errand) -> Forwarded {
    let Some(group) = inner.upstreams.group(&errand.site.upstream) else {
        return Reason::Unavailable.into();
    };
    let Some(place) = group.purchase_place().await else { return Reason::Busy.into() };
    let Some(pool) = errand.sale.state.pools.get(errand.pool).map(|p| p.name.clone()) else {
        return Reason::UnknownItem.into();
    };
    let ask = Ask {
        sale: errand.sale.state.id.clone(),
        attempt: errand.attempt,
        user: errand.user,
        pool: pool.clone(),
        units: errand.units,
        request: errand.request,
    };
    match inner.claims.claim(ask).await {
        Claim::Admitted(permit) => send(inner, (group, place), errand, pool, permit).await,
        Claim::Refused(claimed) => refused(inner, &errand, claimed),
        Claim::Unavailable => Reason::Unavailable.into(),
        Claim::Overloaded => Reason::Overloaded.into(),
    }
}

/// What the ledger's refusal is to a client.
fn refused(inner: &Inner, errand: &Errand, claimed: Claimed) -> Forwarded {
    let said = match claimed {
        // The store never says this of a refusal; if it did, nothing was sent.
        Claimed::Admitted { .. } | Claimed::TooLate | Claimed::Learning | Claimed::Unread => {
            Said::from(Reason::Unavailable)
        }
        Claimed::InProgress { .. } => Said::from(Reason::InProgress),
        Claimed::Pending { .. } => Said::from(Reason::Pending),
        Claimed::Confirmed { claim } => {
            let known = inner.claims.known(&errand.sale.state.id, &errand.user);
            let order = known.filter(|known| known.claim == claim).and_then(|known| known.order);
            Said { order, ..Said::from(Reason::Confirmed) }
        }
        Claimed::Already => Said::from(Reason::Already),
        Claimed::Limit { max_units } => {
            Said { max_units: Some(max_units), ..Said::from(Reason::Limit) }
        }
        Claimed::NotStarted => Said::from(Reason::NotStarted),
        Claimed::Ended => Said::from(Reason::Ended),
        Claimed::SoldOut => Said::of_pool(Reason::SoldOut, errand.pool),
        Claimed::Paused => Said::from(Reason::Paused),
        Claimed::Busy => Said::from(Reason::Busy),
        Claimed::Insufficient { max_units } => {
            Said { max_units: Some(max_units), ..Said::of_pool(Reason::Insufficient, errand.pool) }
        }
        Claimed::UnknownPool => Said::from(Reason::UnknownItem),
    };
    said.into()
}

/// Sends an admitted purchase and settles what it came to.
async fn send(
    inner: &Inner,
    (group, place): (&std::rc::Rc<Group>, Place),
    mut errand: Errand,
    pool: Name,
    permit: Permit,
) -> Forwarded {
    let (claim, deadline) = (permit.claim(), permit.deadline());
    let request = errand.request(inner, &pool, &claim, deadline);
    let now = Instant::now();
    let until = errand.at_ledger(deadline).min(now + errand.site.purchase_timeout);
    if until <= now {
        drop(permit);
        tracing::warn!(%claim, "an admission came after its deadline; its units are free again");
        return Reason::Unavailable.into();
    }
    let timeouts = Timeouts {
        first_byte: errand.site.first_byte_timeout,
        idle: errand.site.idle_timeout,
        until: Some(until),
    };
    let sent = permit.begin_send();
    let heard = hear(group, request, timeouts, until, inner.shared.answer_bytes_max).await;
    inner.sink.took(Timing::Purchase, u64::try_from(now.elapsed().as_millis()).unwrap_or(u64::MAX));
    fault::pass(Point::Answered);
    let settled = settle(inner, &errand, &pool, heard);
    place.tell(settled.reached);
    let outcome = settled.outcome;
    inner.hook.tell(&Report {
        request: errand.request,
        at: errand.now.wall,
        note: errand.note,
        sale: errand.sale.state.id.clone(),
        claim,
        user: errand.user,
        pool,
        units: errand.units,
        verdict: outcome.verdict,
        by: settled.by,
        status: outcome.status,
        bytes: settled.told.shop_bytes(),
        code: outcome.code.clone(),
        order: outcome.order.clone(),
        took_ms: u64::try_from(errand.started.elapsed().as_millis()).unwrap_or(u64::MAX),
    });
    let is_confirmed = outcome.verdict == Verdict::Confirmed;
    sent.resolve(outcome);
    Forwarded { told: settled.told, is_confirmed }
}

/// An outcome, and what the client hears.
struct Settled {
    outcome: Outcome,
    by: String,
    told: Told,
    /// What it says about the shop's servers.
    reached: Reached,
}

fn settle(inner: &Inner, errand: &Errand, pool: &Name, heard: Heard) -> Settled {
    let without_answer = |verdict| Outcome { verdict, status: None, code: None, order: None };
    match heard {
        Heard::Whole(relayed) => {
            let status = relayed.status.as_u16();
            let rules = &errand.site.outcome;
            let reading = classify(rules, status, &relayed.headers, &relayed.body);
            note(inner, errand, pool, status, &reading);
            let by = reading.by.to_string();
            let Reading { verdict, code, order, .. } = reading;
            let reached = match (verdict, status) {
                // A proxy in front of the shop says that it is not there.
                (Verdict::Unknown, 502..=504) => Reached::Silent,
                _ => Reached::Answered,
            };
            let outcome = Outcome { verdict, status: Some(status), code, order };
            let mut relayed = relayed;
            hop::strip_penstock(&mut relayed.headers);
            Settled { outcome, by, told: Told::Shop(relayed), reached }
        }
        Heard::Unsent(error) => {
            let reason = if error.at == Stage::Queue { Reason::Busy } else { Reason::BadGateway };
            let told = Told::Own(Said::from(reason));
            let by = format!("never sent: {error}");
            let is_away = error.at == Stage::Connect;
            let reached = if is_away { Reached::Unreachable } else { Reached::Unclear };
            Settled { outcome: without_answer(Verdict::Failed), by, told, reached }
        }
        Heard::Lost { cause, too_long } => {
            if too_long {
                inner.shared.alarm.ring(Event::TooLong {
                    upstream: errand.site.upstream.clone(),
                    sale: errand.sale.state.id.clone(),
                    bytes_max: inner.shared.answer_bytes_max,
                });
            }
            let told = Told::Own(Said::from(Reason::Pending));
            let reached = if too_long { Reached::Answered } else { Reached::Silent };
            Settled { outcome: without_answer(Verdict::Unknown), by: cause, told, reached }
        }
    }
}

/// Counts and tells what an operator has to hear of.
fn note(inner: &Inner, errand: &Errand, pool: &Name, status: u16, reading: &Reading) {
    let sale = errand.sale.state.id.clone();
    if let Some(why) = reading.unread() {
        inner.sink.inc(Counter::OutcomeUnclassified);
        let (upstream, code) = (errand.site.upstream.clone(), reading.code.clone());
        inner.shared.alarm.ring(Event::Unclassified { upstream, sale, status, code, why });
    } else if reading.is_sold_out(status) {
        inner.sink.inc(Counter::SoldOutEvidence);
        inner.shared.alarm.ring(Event::SoldOut { sale, pool: pool.clone() });
    }
}

/// Sends, and reads the answer whole.
async fn hear(
    group: &std::rc::Rc<Group>,
    request: Request,
    timeouts: Timeouts,
    until: Instant,
    bytes_max: usize,
) -> Heard {
    let until = until + GRACE;
    let lost = |cause: String| Heard::Lost { cause, too_long: false };
    let response = match tokio::time::timeout_at(until, group.send(request, timeouts)).await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) if error.written == Written::Nothing => return Heard::Unsent(error),
        Ok(Err(error)) => return lost(error.to_string()),
        Err(_) => return lost("no answer in time".to_owned()),
    };
    let (status, headers) = (response.status, response.headers);
    match tokio::time::timeout_at(until, collect(response.body, bytes_max)).await {
        Ok(Ok(body)) => Heard::Whole(Relayed { status, headers, body }),
        Ok(Err(cut)) => Heard::Lost { cause: cut.describe(status), too_long: cut == Cut::TooLong },
        Err(_) => lost(format!("the body of the {status} did not end in time")),
    }
}

/// Why an answer's body is not whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    Short,
    TooLong,
}

impl Cut {
    fn describe(self, status: StatusCode) -> String {
        match self {
            Cut::Short => format!("the body of the {status} was cut"),
            Cut::TooLong => format!("the body of the {status} is longer than we read"),
        }
    }
}

async fn collect(mut body: ResponseBody, bytes_max: usize) -> Result<Bytes, Cut> {
    let mut whole = BytesMut::new();
    loop {
        let frame = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
        let data = match frame {
            None => return Ok(whole.freeze()),
            Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
            Some(Err(_)) => return Err(Cut::Short),
        };
        if whole.len() + data.len() > bytes_max {
            return Err(Cut::TooLong);
        }
        whole.extend_from_slice(&data);
    }
}

impl Errand {
    /// The earliest that the ledger's clock may show `at`, by the request's reading of it. One instant for the whole
    /// way to the socket: a process that is stopped somewhere on it gets no more time.
    fn at_ledger(&self, at: UnixMs) -> Instant {
        self.started + Duration::from_millis(at.since(self.now.ledger_latest()))
    }

    /// The purchase as the shop receives it: a head of our own making.
    fn request(
        &mut self,
        inner: &Inner,
        pool: &Name,
        claim: &ClaimId,
        deadline: UnixMs,
    ) -> Request {
        let mut headers = std::mem::take(&mut self.headers);
        if !headers.contains_key(IDEMPOTENCY_KEY)
            && let Ok(key) = HeaderValue::from_str(&claim.to_string())
        {
            headers.insert(IDEMPOTENCY_KEY, key);
        }
        if let Some(key) = &inner.shared.pass {
            let pass = Pass {
                sale: &self.sale.state.id,
                pool,
                units: self.units,
                user: &self.user,
                claim,
                deadline,
            };
            if let Ok(pass) = HeaderValue::from_str(&key.sign(pass)) {
                headers.insert(ADMISSION, pass);
            }
        }
        let body = std::mem::take(&mut self.body);
        Request {
            method: Method::POST,
            target: std::mem::take(&mut self.target),
            host: std::mem::take(&mut self.host),
            headers,
            // A POST without a body says `Content-Length: 0`.
            body: Body::Full(body),
            interim: None,
        }
    }
}

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static(super::order::IDEMPOTENCY_KEY);
const ADMISSION: HeaderName = HeaderName::from_static("penstock-admission");
/// How much longer an answer's end is awaited than a byte of the request may leave.
const GRACE: Duration = Duration::from_millis(50);
