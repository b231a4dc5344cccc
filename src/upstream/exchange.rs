//! One exchange on one connection: the request out, the head of the answer in, each within its time.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use http::response::Parts;
use http::{HeaderMap, Request, header};
use hyper::body::Incoming;
use tokio::time::{Instant, sleep_until};

use super::conn::{Conn, Failed};
use super::sent::{Progress, SentBody};
use super::tail::Tail;
use super::upgrade::{Switched, Wanted};
use super::validate::{Framing, validate};
use super::wire::Wire;
use super::{Group, Response, Stage, Timeouts, UpstreamError, Written};
use crate::http::body::BodyError;
use crate::http::{ResponseBody, Upgraded, hop};
use crate::metrics::Counter;

/// How far a request is, over all its attempts. Who gives up from outside reads here what that means.
#[derive(Debug)]
pub(super) struct Trace {
    stage: Cell<Stage>,
    wire: RefCell<Option<Rc<Wire>>>,
    wrote_before: Cell<bool>,
}

impl Trace {
    pub(super) fn new() -> Trace {
        Trace {
            stage: Cell::new(Stage::Queue),
            wire: RefCell::new(None),
            wrote_before: Cell::new(false),
        }
    }

    pub(super) fn at(&self, stage: Stage) {
        self.stage.set(stage);
    }

    pub(super) fn stage(&self) -> Stage {
        self.stage.get()
    }

    /// Whether a server may have seen the request. Exact only once the connection is closed.
    pub(super) fn written(&self) -> Written {
        let wire = self.wire.borrow();
        let has_written = wire.as_ref().is_some_and(|wire| wire.has_written());
        if has_written || self.wrote_before.get() { Written::Maybe } else { Written::Nothing }
    }

    fn begin(&self, wire: &Rc<Wire>) {
        self.wrote_before.set(self.written() == Written::Maybe);
        *self.wire.borrow_mut() = Some(wire.clone());
        self.at(Stage::Send);
    }
}

/// Why an exchange has no answer, and what that allows.
pub(super) struct Broken {
    pub error: UpstreamError,
    /// The request, where hyper handed it back.
    pub unsent: Option<Request<SentBody>>,
    /// Whether a byte of an answer came.
    pub has_read: bool,
}

impl Group {
    /// Sends `request` over `conn`.
    pub(super) async fn exchange(
        self: &Rc<Self>,
        mut conn: Conn,
        request: Request<SentBody>,
        timeouts: Timeouts,
        trace: &Trace,
    ) -> Result<Response, Broken> {
        let method = request.method().clone();
        let wanted = Wanted::of(request.headers());
        let progress = request.body().progress();
        let wire = conn.wire.clone();
        // What others share is not watched for one of them.
        let alone = (!conn.is_shared).then_some(&*wire);
        match alone {
            Some(wire) => {
                let head_bytes_max = self.settings().head_bytes_max.in_memory();
                wire.begin((!conn.is_http2()).then_some(head_bytes_max), timeouts.until);
            }
            None => self.sink.inc(Counter::UpstreamRequests),
        }
        trace.begin(&wire);
        let sent = conn.send(request);
        let (error, unsent) = match answer(sent, alone, &progress, timeouts, trace).await {
            Some(Ok(response)) => match validate(&method, wanted.as_ref(), &response) {
                Ok(Framing::Switched) => {
                    let (parts, _) = response.into_parts();
                    match Switched::of(conn).await {
                        Ok(far) => return Ok(switched(parts, far, timeouts.idle)),
                        Err(why) => {
                            let error =
                                UpstreamError { written: trace.written(), ..self.invalid(why) };
                            return Err(Broken { error, unsent: None, has_read: true });
                        }
                    }
                }
                Ok(framing) => {
                    let (parts, incoming) = response.into_parts();
                    conn.hears(keeps(&parts.headers));
                    let times = (timeouts.idle, timeouts.until);
                    let tail = Tail::new(incoming, conn, self.clone(), progress, times);
                    return Ok(relayed(parts, tail, framing));
                }
                Err(why) => (self.invalid(why), None),
            },
            Some(Err(mut failed)) => {
                let unsent = failed.take_message();
                let error = match progress.broken.get() {
                    Some(broken) => {
                        let timed_out = broken == BodyError::TimedOut;
                        UpstreamError::unsent(Stage::Body, timed_out, &broken.to_string())
                    }
                    None => self.failure(&failed.into_error(), &wire, trace),
                };
                (error, unsent)
            }
            None => (UpstreamError::unsent(trace.stage(), true, "the server is silent"), None),
        };
        Err(self.broken(&conn, error, unsent, trace))
    }

    /// Ends what has failed: the connection, or of one that others share its part.
    fn broken(
        &self,
        conn: &Conn,
        error: UpstreamError,
        unsent: Option<Request<SentBody>>,
        trace: &Trace,
    ) -> Broken {
        // After this not a byte more leaves, and what was written is known for sure.
        if !conn.is_shared {
            conn.wire.close();
        } else if !matches!(error.at, Stage::Body | Stage::Invalid) {
            conn.retire();
        }
        if error.at != Stage::Body {
            self.server(conn.at).failed(&error.cause);
        }
        let is_unsent = conn.is_shared && unsent.is_some();
        let written = if is_unsent { Written::Nothing } else { trace.written() };
        let has_read = !conn.is_shared && conn.wire.has_read();
        Broken { error: UpstreamError { written, ..error }, unsent, has_read }
    }

    fn failure(&self, error: &hyper::Error, wire: &Wire, trace: &Trace) -> UpstreamError {
        match wire.refused() {
            Some(why) => self.invalid(why),
            None if wire.was_late() => {
                UpstreamError::unsent(trace.stage(), true, "the time to send was over")
            }
            None if error.is_parse() => self.invalid(&in_words(error)),
            None => UpstreamError::unsent(trace.stage(), false, &in_words(error)),
        }
    }

    fn invalid(&self, why: &str) -> UpstreamError {
        self.sink.inc(Counter::UpstreamInvalid);
        UpstreamError::unsent(Stage::Invalid, false, why)
    }
}

/// Waits for the head of the answer, as long as there is progress; nothing if there is none.
async fn answer(
    sent: impl Future<Output = Result<http::Response<Incoming>, Failed>>,
    wire: Option<&Wire>,
    request: &Progress,
    timeouts: Timeouts,
    trace: &Trace,
) -> Option<Result<http::Response<Incoming>, Failed>> {
    let late = sleep_until(Instant::now() + timeouts.first_byte.min(timeouts.idle));
    tokio::pin!(sent, late);
    poll_fn(|cx| {
        if let Poll::Ready(answer) = sent.as_mut().poll(cx) {
            return Poll::Ready(Some(answer));
        }
        if request.done_at.get().is_some() && wire.is_none_or(Wire::has_written) {
            trace.at(Stage::FirstByte);
        }
        while late.as_mut().poll(cx).is_ready() {
            let due = due(wire, request, timeouts);
            if due <= Instant::now() {
                return Poll::Ready(None);
            }
            late.as_mut().reset(due);
        }
        Poll::Pending
    })
    .await
}

/// When to give up, as things stand: a server has to take the request's bytes, and then to answer.
fn due(wire: Option<&Wire>, request: &Progress, timeouts: Timeouts) -> Instant {
    let wrote = |at: Instant| wire.map_or(at, |wire| at.max(wire.wrote_at()));
    match request.done_at.get() {
        Some(done_at) => wrote(done_at) + timeouts.first_byte,
        // The client is watched where its body is read.
        None if request.waits.get() => Instant::now() + timeouts.idle,
        None => wrote(request.moved_at.get()) + timeouts.idle,
    }
}

/// The answer as it is given on, its body to come.
fn relayed(parts: Parts, tail: Tail, framing: Framing) -> Response {
    let Parts { status, mut headers, version, .. } = parts;
    hop::strip_response(&mut headers);
    Response {
        status,
        version,
        headers,
        body: tail.into_body(),
        close_delimited: framing == Framing::Close,
    }
}

/// A 101 as it is given on, and the connection that it is about. Its hop-by-hop fields are what it is.
fn switched(parts: Parts, far: Switched, idle: Duration) -> Response {
    let Parts { status, mut headers, version, .. } = parts;
    let protocol = headers.get(header::UPGRADE).cloned();
    hop::strip_response(&mut headers);
    headers.extend(protocol.map(|protocol| (header::UPGRADE, protocol)));
    let upgraded = Upgraded { far: Box::new(far), idle, place: None };
    let body = ResponseBody::Upgraded(Box::new(upgraded));
    Response { status, version, headers, body, close_delimited: false }
}

/// How long the server keeps an idle connection, by `Keep-Alive: timeout=5`; less a second, so that
/// we close it first.
fn keeps(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get("keep-alive")?.to_str().ok()?;
    let (_, secs) = value
        .split(',')
        .filter_map(|part| part.trim().split_once('='))
        .find(|(name, _)| name.eq_ignore_ascii_case("timeout"))?;
    let secs = secs.trim().parse::<u64>().ok()?;
    Some(Duration::from_secs(secs.saturating_sub(1)))
}

/// An error and what is behind it.
fn in_words(error: &hyper::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
