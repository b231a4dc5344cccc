//! From a handler to hyper: one call, a response whose framing cannot be wrong, and a close that is
//! said before it happens.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use http::{HeaderValue, Request, Response, StatusCode, Version, header};
use http_body::Body;
use hyper::body::Incoming;
use tokio::time::Instant;

use super::Asked;
use super::transfer::{ClientBody, SentBody, Transfer};
use crate::answer::Fill;
use crate::http::body::{RequestBody, ResponseBody, Upgraded};
use crate::http::drain::DrainSignal;
use crate::http::head::BodyKind;
use crate::http::refusal::Refusal;
use crate::http::{Interim, Work, hop};
use crate::metrics::Counter;
use crate::outcome::{CloseReason, Reason};

/// What the response has to fit.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub asked: Asked,
    pub fill: Fill,
    pub drain: DrainSignal,
    pub drain_bytes_max: usize,
    /// When the connection has reached its age.
    pub ages_at: Instant,
}

/// The response of one request, as hyper awaits it.
pub(super) type Responding = Pin<Box<dyn Future<Output = Result<Response<SentBody>, Infallible>>>>;

/// The service that hyper gets: it can be called once.
pub(super) struct Once {
    work: Cell<Option<Work>>,
    interim: Interim,
    ask: Ask,
    transfer: Rc<Transfer>,
}

impl Once {
    pub(super) fn new(work: Work, interim: Interim, ask: Ask, transfer: Rc<Transfer>) -> Once {
        Once { work: Cell::new(Some(work)), interim, ask, transfer }
    }
}

impl hyper::service::Service<Request<Incoming>> for Once {
    type Response = Response<SentBody>;
    type Error = Infallible;
    type Future = Responding;

    fn call(&self, request: Request<Incoming>) -> Responding {
        self.transfer.calls.set(self.transfer.calls.get() + 1);
        let (work, ask, transfer) = (self.work.take(), self.ask.clone(), self.transfer.clone());
        let interim = self.interim.clone();
        Box::pin(async move {
            let response = match work {
                Some(work) => {
                    handle(work, request.into_body(), interim.clone(), &ask, &transfer).await
                }
                // A second request without a grant; the driver sees the count and cuts.
                None => own_response(Refusal::Panic, &ask),
            };
            interim.close();
            Ok(prepare(response, &ask, transfer))
        })
    }
}

/// Runs the handler; a panic in it is an answer like any other.
async fn handle(
    work: Work,
    incoming: Incoming,
    interim: Interim,
    ask: &Ask,
    transfer: &Rc<Transfer>,
) -> Response<ResponseBody> {
    let body = match ask.asked.body {
        BodyKind::None => RequestBody::Empty,
        _ => RequestBody::Stream(Box::pin(ClientBody::new(incoming, transfer.clone()))),
    };
    let caught = match catch_unwind(AssertUnwindSafe(|| work(body, interim))) {
        Ok(future) => Caught(future).await,
        Err(_) => None,
    };
    match caught {
        Some(response) if response.status().is_informational() && !is_switch(&response) => {
            own_response(Refusal::Interim, ask)
        }
        Some(response) => response,
        None => {
            transfer.sink.inc(Counter::Panics);
            transfer.close.set(Some(CloseReason::Internal));
            own_response(Refusal::Panic, ask)
        }
    }
}

/// A future that resolves to nothing when it panics.
pub(in crate::http) struct Caught(pub Pin<Box<dyn Future<Output = Response<ResponseBody>>>>);

impl Future for Caught {
    type Output = Option<Response<ResponseBody>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let polled = catch_unwind(AssertUnwindSafe(|| self.0.as_mut().poll(cx)));
        polled.map_or(Poll::Ready(None), |poll| poll.map(Some))
    }
}

/// Whether the connection leaves HTTP with this response.
fn is_switch(response: &Response<ResponseBody>) -> bool {
    response.status() == StatusCode::SWITCHING_PROTOCOLS
        && matches!(response.body(), ResponseBody::Upgraded(_))
}

fn own_response(refusal: Refusal, ask: &Ask) -> Response<ResponseBody> {
    refusal.answer().response(&ask.fill).map(ResponseBody::Full)
}

/// Makes the framing ours, and says `connection: close` if the connection will close.
fn prepare(
    response: Response<ResponseBody>,
    ask: &Ask,
    transfer: Rc<Transfer>,
) -> Response<SentBody> {
    let (mut parts, mut body) = response.into_parts();
    if let ResponseBody::Upgraded(upgraded) = body {
        return switch(parts, upgraded, transfer);
    }
    let asked_to_close = says_close(&parts.headers);
    hop::strip_response(&mut parts.headers);
    frame(&mut parts, &mut body, ask.asked.is_head);
    let unbounded = ask.asked.is_old
        && body.size_hint().exact().is_none()
        && !parts.headers.contains_key(header::CONTENT_LENGTH);
    if transfer.close.get().is_none() {
        let close = close_reason(ask, &transfer)
            .or((asked_to_close || unbounded).then_some(CloseReason::ResponseClose));
        transfer.close.set(close);
    }
    if ask.asked.is_old {
        parts.version = Version::HTTP_10;
    }
    let said = match transfer.close.get() {
        Some(_) => Some("close"),
        None => ask.asked.is_old.then_some("keep-alive"),
    };
    if let Some(said) = said {
        parts.headers.insert(header::CONNECTION, HeaderValue::from_static(said));
    }
    transfer.status.set(parts.status.as_u16());
    transfer.reason.set(reason(&parts.headers));
    // The last is the nearest: ours, where we are the cache (RFC 9211 2).
    transfer.cache.set(parts.headers.get_all("cache-status").iter().next_back().cloned());
    transfer.response_given.set(true);
    Response::from_parts(parts, SentBody::new(body, transfer))
}

/// The 101 with which the connection leaves HTTP. What it switches to is hop-by-hop, and said anew.
fn switch(
    mut parts: http::response::Parts,
    upgraded: Box<Upgraded>,
    transfer: Rc<Transfer>,
) -> Response<SentBody> {
    let protocol = parts.headers.get(header::UPGRADE).cloned();
    hop::strip_response(&mut parts.headers);
    parts.headers.remove(header::CONTENT_LENGTH);
    if let Some(protocol) = protocol {
        parts.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        parts.headers.insert(header::UPGRADE, protocol);
    }
    transfer.upgraded.set(Some(upgraded));
    transfer.status.set(parts.status.as_u16());
    transfer.response_given.set(true);
    Response::from_parts(parts, SentBody::new(ResponseBody::Empty, transfer))
}

/// Why this has to be the last response, if it has to.
fn close_reason(ask: &Ask, transfer: &Transfer) -> Option<CloseReason> {
    if let Some(failure) = transfer.failure.get() {
        return Some(failure.close_reason());
    }
    if !ask.asked.persistent {
        return Some(CloseReason::RequestClose);
    }
    // A body that nobody waits for any more is drained after the response, within bounds. A client
    // that waits for `100 Continue` may send it or not: only a close tells it what we heard.
    let unread = ask.asked.expects_continue && !transfer.body_polled.get()
        || transfer.body_abandoned() && transfer.request_left.get() > ask.drain_bytes_max as u64;
    if unread {
        return Some(CloseReason::UndrainedBody);
    }
    if ask.drain.is_draining() {
        return Some(CloseReason::Drain);
    }
    if ask.drain.patience().is_some() {
        return Some(CloseReason::Overload);
    }
    (Instant::now() >= ask.ages_at).then_some(CloseReason::MaxAge)
}

/// One length, and it is true: hyper writes it where the body knows it, a stated one stands only
/// where the body's cannot be known.
pub(in crate::http) fn frame(
    parts: &mut http::response::Parts,
    body: &mut ResponseBody,
    is_head: bool,
) {
    let stated = one_length(&parts.headers);
    parts.headers.remove(header::CONTENT_LENGTH);
    let bodiless = matches!(parts.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if bodiless {
        *body = ResponseBody::Empty;
    } else if is_head {
        let known = match *body {
            // An empty body of an answer to HEAD says nothing about GET's.
            ResponseBody::Empty => None,
            ref body => body.size_hint().exact(),
        };
        if let Some(length) = stated.or(known) {
            parts.headers.insert(header::CONTENT_LENGTH, length.into());
        }
        *body = ResponseBody::Empty;
    } else if body.size_hint().exact().is_none()
        && let Some(length) = stated
    {
        parts.headers.insert(header::CONTENT_LENGTH, length.into());
    }
}

/// Only we say `Penstock-Reason`: the shop's is stripped before its answer comes here.
pub(in crate::http) fn reason(headers: &http::HeaderMap) -> Option<Reason> {
    Reason::of_label(headers.get("penstock-reason")?.to_str().ok()?)
}

fn one_length(headers: &http::HeaderMap) -> Option<u64> {
    let mut values = headers.get_all(header::CONTENT_LENGTH).iter();
    let value = values.next()?;
    let single = values.next().is_none() && value.as_bytes().iter().all(u8::is_ascii_digit);
    single.then(|| value.to_str().ok()?.parse().ok()).flatten()
}

fn says_close(headers: &http::HeaderMap) -> bool {
    headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|line| line.as_bytes().split(|b| *b == b','))
        .any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"))
}
