//! The shop's servers: bounded pools on hyper's connections, validated answers, and the one bit that
//! decides what a failure means: whether a byte may have been written.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};

use crate::config::schema;
use crate::http::{RequestBody, ResponseBody};
use crate::ident::Name;
use crate::metrics::Sink;

/// A request to the shop. Its head was built anew (fill, purchase or proxied request), never copied;
/// framing is the pool's.
pub struct Request {
    /// The method.
    pub method: Method,
    /// Path and query, raw.
    pub target: String,
    /// `Host`.
    pub host: String,
    /// Fields without Host, framing and hop-by-hop.
    pub headers: HeaderMap,
    /// The body.
    pub body: Body,
}

/// The body of a request to the shop.
pub enum Body {
    /// None.
    Empty,
    /// Known bytes, sent with their length.
    Full(Bytes),
    /// The client's, streamed; never sent again.
    Stream(RequestBody),
}

/// How long each stage may take.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// From the request's end to the head of the answer.
    pub first_byte: Duration,
    /// Silence within the answer.
    pub idle: Duration,
    /// The whole exchange; `None`: unlimited.
    pub total: Option<Duration>,
}

/// A validated answer of the shop: one framing, no hop-by-hop fields, a final status. Our own
/// `Penstock-*` fields are still in it; who relays it strips them.
pub struct Response {
    /// The status.
    pub status: StatusCode,
    /// The fields.
    pub headers: HeaderMap,
    /// The body; an error in it says that it was cut.
    pub body: ResponseBody,
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

/// What is shared by all workers: limits and health, as atomics.
#[derive(Debug)]
pub struct Shared {}

impl Shared {
    /// For `[upstream]`.
    pub fn new(_settings: &BTreeMap<Name, schema::Upstream>) -> Arc<Shared> {
        Arc::new(Shared {})
    }
}

/// One worker's connections to all groups. Nothing in it is `Send`.
#[derive(Debug)]
pub struct Upstreams {
    groups: BTreeMap<Name, Rc<Group>>,
}

impl Upstreams {
    /// One worker's pools.
    pub fn new(_shared: &Arc<Shared>, _sink: Sink) -> Upstreams {
        Upstreams { groups: BTreeMap::new() }
    }

    /// The group called `name`.
    pub fn group(&self, name: &Name) -> Option<&Rc<Group>> {
        self.groups.get(name)
    }
}

/// One worker's connections to one group of servers.
#[derive(Debug)]
pub struct Group {
    settings: schema::Upstream,
}

impl Group {
    /// Its settings.
    pub fn settings(&self) -> &schema::Upstream {
        &self.settings
    }

    /// Sends a request and waits for the head of its answer. What was provably unsent is tried again
    /// on another connection or server, anything else never.
    pub async fn send(
        self: &Rc<Self>,
        _request: Request,
        _timeouts: Timeouts,
    ) -> Result<Response, UpstreamError> {
        Err(UpstreamError {
            at: Stage::Connect,
            written: Written::Nothing,
            timed_out: false,
            cause: "no servers".to_owned(),
        })
    }

    /// A place among the purchases that may be on their way to this group at once (over all workers):
    /// waits in a bounded queue for at most `purchase_queue_timeout`. `None`: no room, say `busy`.
    pub async fn purchase_place(self: &Rc<Self>) -> Option<Place> {
        None
    }
}

/// A purchase's place on its way to the shop; given back when dropped.
#[derive(Debug)]
pub struct Place {}
