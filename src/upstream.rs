//! The shop's servers: bounded pools on hyper's connections, validated answers, and the one bit that
//! decides what a failure means: whether a byte may have been written.
//!
//! ```text
//! send → connection (idle | new | queue) → exchange (request out, head in, validated) → body
//! ```
//!
//! A request is sent again only where it was provably unsent: the server could not be reached, hyper
//! handed it back, or not a byte of it was written. Beyond that only a GET or HEAD without a body is,
//! once, whose reused connection ended before a byte of the answer came.

mod address;
mod circuit;
mod conn;
mod exchange;
mod link;
mod places;
mod pool;
mod sent;
mod shared;
mod stream;
mod tail;
mod upgrade;
mod validate;
mod watch;
mod wire;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, Version, header};
use tokio::time::{Instant, timeout, timeout_at};

use crate::config::schema;
use crate::http::{RequestBody, ResponseBody};
use crate::ident::Name;
use crate::metrics::{Counter, Sink, Timing};

pub use circuit::Reached;
pub use shared::{GroupReport, ServerReport, Shared};

use circuit::Leave;
use conn::Conn;
use exchange::{Broken, Trace};
use link::Openings;
use pool::{Waiter, Wish};
use sent::SentBody;
use shared::{GroupShared, Server};

/// A request to the shop. Its head was built anew (fill, purchase or proxied request), never copied;
/// framing is the pool's.
pub struct Request {
    /// The method.
    pub method: Method,
    /// Path and query, raw.
    pub target: String,
    /// `Host`.
    pub host: String,
    /// Fields without Host, framing and hop-by-hop. `Upgrade` alone may be among them: with the one
    /// protocol to which a 101 may switch. Without it a 101 is invalid.
    pub headers: HeaderMap,
    /// The body.
    pub body: Body,
    /// Who hears of interim answers (1xx).
    pub interim: Option<Hints>,
}

/// Who hears of interim answers (1xx) to a request.
pub type Hints = Arc<dyn Fn(StatusCode, &HeaderMap) + Send + Sync>;

/// The body of a request to the shop.
pub enum Body {
    /// None.
    Empty,
    /// Known bytes, sent with their length.
    Full(Bytes),
    /// The client's, streamed: with its length where it has one, else chunked.
    Stream(RequestBody),
}

/// How long each stage may take.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// From the request's end to the head of the answer.
    pub first_byte: Duration,
    /// Silence within the answer; and of a server that takes no more of the request.
    pub idle: Duration,
    /// When the whole exchange must be over, and after which not a byte of the request leaves,
    /// however starved the process is; `None`: unlimited.
    pub until: Option<Instant>,
}

/// A validated answer of the shop: one framing, no hop-by-hop fields, a final status. Our own
/// `Penstock-*` fields are still in it; who relays it strips them.
pub struct Response {
    /// The status.
    pub status: StatusCode,
    /// The version that the server speaks.
    pub version: Version,
    /// The fields.
    pub headers: HeaderMap,
    /// The body; an error in it says that it was cut.
    pub body: ResponseBody,
    /// Whether only the end of the connection ends the body, so that a cut one may look whole: relay
    /// it, but store nothing of it.
    pub close_delimited: bool,
}

/// Whether the shop may have seen a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// Provably nothing was written.
    Nothing,
    /// A byte may have been written.
    Maybe,
}

/// Where an exchange failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// No place in the pool or its queue, or not in time.
    Queue,
    /// No connection: resolving or connecting failed or took too long.
    Connect,
    /// Sending the request.
    Send,
    /// Reading the request's body from the client, who broke it.
    Body,
    /// Waiting for the head of the answer.
    FirstByte,
    /// The answer was refused as invalid.
    Invalid,
}

/// Why there is no answer of the shop.
#[derive(Debug, thiserror::Error)]
#[error("{at:?}: {cause}")]
pub struct UpstreamError {
    /// Where.
    pub at: Stage,
    /// Whether the shop may have seen the request.
    pub written: Written,
    /// Whether it was a timeout.
    pub timed_out: bool,
    /// In words, for logs.
    pub cause: String,
}

/// One worker's connections to all groups. Nothing in it is `Send`.
#[derive(Debug)]
pub struct Upstreams {
    groups: BTreeMap<Name, Rc<Group>>,
}

/// One worker's connections to one group of servers.
#[derive(Debug)]
pub struct Group {
    shared: Arc<GroupShared>,
    lanes: Vec<Lane>,
    /// Who waits on this worker, the longest first.
    waiters: RefCell<VecDeque<Waiter>>,
    /// How many they are, those among them who were handed a connection and do not know it yet.
    waiting: Cell<usize>,
    turn: Cell<usize>,
    is_sweeping: Cell<bool>,
    sink: Sink,
}

/// One worker's connections to one server.
#[derive(Debug, Default)]
struct Lane {
    /// For one exchange at a time; the last used is last.
    idle: RefCell<Vec<Conn>>,
    /// For many at once: one of each, idle or not.
    common: RefCell<Vec<Conn>>,
    /// Those that will be among them.
    openings: Rc<Openings>,
    /// How many are open, idle or not.
    open: Rc<Cell<usize>>,
}

/// A purchase's place on its way to the shop; given back when dropped, or with a word about what became
/// of the purchase.
#[derive(Debug)]
pub struct Place {
    leave: Leave,
    sink: Sink,
    _taken: places::Taken,
}

impl Upstreams {
    /// One worker's pools.
    pub fn new(shared: &Arc<Shared>, sink: Sink) -> Upstreams {
        Upstreams { groups: BTreeMap::new() }.next(shared, sink)
    }

    /// One worker's pools after a change. Groups that are as they were keep their connections.
    pub fn next(&self, shared: &Arc<Shared>, sink: Sink) -> Upstreams {
        let group = |(name, shared): (&Name, &Arc<GroupShared>)| {
            let old = self.groups.get(name);
            let same = old.filter(|old| Arc::ptr_eq(&old.shared, shared)).cloned();
            let new = || Rc::new(Group::new(shared.clone(), sink.clone()));
            (name.clone(), same.unwrap_or_else(new))
        };
        Upstreams { groups: shared.groups.iter().map(group).collect() }
    }

    /// The group called `name`.
    pub fn group(&self, name: &Name) -> Option<&Rc<Group>> {
        self.groups.get(name)
    }
}

impl Group {
    fn new(shared: Arc<GroupShared>, sink: Sink) -> Group {
        // Workers begin with different servers.
        let turn = shared.limits.workers.fetch_add(1, Ordering::Relaxed);
        Group {
            lanes: shared.servers.iter().map(|_| Lane::default()).collect(),
            waiters: RefCell::default(),
            waiting: Cell::new(0),
            turn: Cell::new(turn),
            is_sweeping: Cell::new(false),
            shared,
            sink,
        }
    }

    /// Its settings.
    pub fn settings(&self) -> &schema::Upstream {
        &self.shared.settings
    }

    /// Sends a request and waits for the head of its answer. What was provably unsent is tried again
    /// on another connection or server; see the rule above. Dropping the future closes the connection.
    pub async fn send(
        self: &Rc<Self>,
        request: Request,
        timeouts: Timeouts,
    ) -> Result<Response, UpstreamError> {
        let began = Instant::now();
        let result = self.send_until(request, timeouts).await;
        let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.sink.took(Timing::Upstream, took_ms);
        result
    }

    async fn send_until(
        self: &Rc<Self>,
        request: Request,
        timeouts: Timeouts,
    ) -> Result<Response, UpstreamError> {
        let trace = Trace::new();
        let attempts = self.attempts(request, timeouts, &trace);
        let Some(until) = timeouts.until else { return attempts.await };
        // Dropped when it is late, and its connection with it: then the trace is exact.
        let result = timeout_at(until, attempts).await;
        result.unwrap_or_else(|_| {
            let late = UpstreamError::unsent(trace.stage(), true, "the exchange took too long");
            Err(UpstreamError { written: trace.written(), ..late })
        })
    }

    async fn attempts(
        self: &Rc<Self>,
        request: Request,
        timeouts: Timeouts,
        trace: &Trace,
    ) -> Result<Response, UpstreamError> {
        let spare = Spare::of(&request);
        let is_idempotent = matches!(request.method, Method::GET | Method::HEAD)
            && matches!(request.body, Body::Empty);
        let mut outgoing = assemble(request)?;
        // A purchase has its connection for itself: whether a byte of it left is known for sure.
        let is_shared = self.settings().http2 && timeouts.until.is_none();
        let mut wish = Wish::new(is_shared);
        let mut is_repeated = false;
        loop {
            let conn = self.connection(&mut wish, |stage| trace.at(stage)).await?;
            let is_reused = conn.is_reused();
            let broken = match self.exchange(conn, outgoing, timeouts, trace).await {
                Ok(response) => return Ok(response),
                Err(broken) => broken,
            };
            let Broken { error, unsent, has_read } = broken;
            let is_unsent = error.written == Written::Nothing;
            let may_repeat = is_idempotent && is_reused && !has_read;
            let is_final =
                is_repeated || error.timed_out || matches!(error.at, Stage::Invalid | Stage::Body);
            let again = unsent.or_else(|| spare.as_ref().and_then(Spare::request));
            match again {
                Some(request) if !is_final && (is_unsent || may_repeat) => outgoing = request,
                _ => return Err(error),
            }
            self.sink.inc(Counter::UpstreamRetries);
            is_repeated = true;
            wish.is_fresh = !is_shared;
        }
    }

    /// A place among the purchases that may be on their way to this group at once (over all workers):
    /// waits in a bounded queue for at most `purchase_queue_timeout`. `None`: no room, or the shop does
    /// not answer: say `busy`.
    pub async fn purchase_place(self: &Rc<Self>) -> Option<Place> {
        let taken = self.purchase_permit().await?;
        // Asked last: what is heard while a purchase waits counts for it, too.
        let leave = self.shared.limits.circuit.enter()?;
        Some(Place { leave, sink: self.sink.clone(), _taken: taken })
    }

    async fn purchase_permit(&self) -> Option<places::Taken> {
        let (shared, settings) = (&self.shared, self.settings());
        let limits = &shared.limits;
        if !limits.circuit.lets_through() {
            return None;
        }
        if let Some(taken) = limits.purchases.try_take() {
            return Some(taken);
        }
        let _counted = limits.purchases_waiting.enter(settings.purchase_queue_max)?;
        let taken = limits.purchases.clone().take();
        timeout(settings.purchase_queue_timeout.duration(), taken).await.ok()?
    }

    /// Whether a purchase would get a place now, or one in the queue. A forecast: another may come
    /// first.
    pub fn has_purchase_room(&self) -> bool {
        let limits = &self.shared.limits;
        let has_place = limits.purchases.free() > 0
            || limits.purchases_waiting.get() < self.settings().purchase_queue_max;
        has_place && limits.circuit.lets_through()
    }

    fn server(&self, at: usize) -> &Arc<Server> {
        &self.shared.servers[at]
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.shared.limits.workers.fetch_sub(1, Ordering::Relaxed);
    }
}

impl UpstreamError {
    fn unsent(at: Stage, timed_out: bool, cause: &str) -> UpstreamError {
        UpstreamError { at, written: Written::Nothing, timed_out, cause: cause.to_owned() }
    }
}

/// What it takes to write a request again that hyper took and did not write.
struct Spare {
    method: Method,
    target: String,
    host: String,
    headers: HeaderMap,
    body: Bytes,
    interim: Option<Hints>,
}

impl Spare {
    /// A streamed body cannot be had twice.
    fn of(request: &Request) -> Option<Spare> {
        let body = match &request.body {
            Body::Empty => Bytes::new(),
            Body::Full(bytes) => bytes.clone(),
            Body::Stream(_) => return None,
        };
        Some(Spare {
            method: request.method.clone(),
            target: request.target.clone(),
            host: request.host.clone(),
            headers: request.headers.clone(),
            body,
            interim: request.interim.clone(),
        })
    }

    fn request(&self) -> Option<http::Request<SentBody>> {
        let request = Request {
            method: self.method.clone(),
            target: self.target.clone(),
            host: self.host.clone(),
            headers: self.headers.clone(),
            body: Body::Full(self.body.clone()),
            interim: self.interim.clone(),
        };
        assemble(request).ok()
    }
}

/// The request as hyper takes it. Its framing is written here and nowhere else.
fn assemble(request: Request) -> Result<http::Request<SentBody>, UpstreamError> {
    let Request { method, target, host, headers: fields, body, interim } = request;
    let bad = |what| UpstreamError::unsent(Stage::Send, false, what);
    let uri = Uri::try_from(target).map_err(|_| bad("the target is not one of HTTP"))?;
    let host = HeaderValue::try_from(host).map_err(|_| bad("the Host is not one of HTTP"))?;
    let mut headers = HeaderMap::with_capacity(fields.len() + 2);
    headers.insert(header::HOST, host);
    headers.extend(fields);
    headers.remove(header::CONTENT_LENGTH);
    headers.remove(header::TRANSFER_ENCODING);
    if headers.contains_key(header::UPGRADE) {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    }
    let body = SentBody::new(body);
    match body.length() {
        // RFC 9110 8.6: said where the method has a meaning for content.
        Some(0) if !matches!(method, Method::POST | Method::PUT | Method::PATCH) => {}
        Some(length) => {
            headers.insert(header::CONTENT_LENGTH, length.into());
        }
        // Said here, because hyper would drop the body of a GET otherwise.
        None => {
            headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
    }
    let mut assembled = http::Request::new(body);
    *assembled.method_mut() = method;
    *assembled.uri_mut() = uri;
    *assembled.headers_mut() = headers;
    if let Some(hears) = interim {
        hyper::ext::on_informational(&mut assembled, move |said| {
            hears(said.status(), said.headers());
        });
    }
    Ok(assembled)
}
