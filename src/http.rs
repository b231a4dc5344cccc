//! One validated [`Head`], whether the request came by HTTP/1.1 or HTTP/2, and the drivers that turn
//! a connection into a sequence of decisions.
//!
//! The HTTP/1.1 driver ([`h1`]) owns the socket: the strict head reader refuses what hyper would let
//! through, ready-made answers are written at once, and hyper gets exactly one request at a time over
//! an in-memory feed for everything else.

pub mod body;
mod cork;
mod deadlines;
pub mod drain;
pub mod forwarded;
pub mod h1;
pub mod h2;
pub mod head;
pub mod hop;
mod interim;
pub mod limits;
mod list;
pub mod note;
pub mod proxy_header;
pub mod reader;
pub mod refusal;
pub mod walker;

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use crate::answer::{Fill, Local};
use crate::clock::Now;
use crate::ident::RequestId;
use crate::outcome::Reason;
use crate::tls::{Front, Terms};

pub use crate::ident::authority;
pub use body::{RequestBody, ResponseBody, Upgraded};
pub use drain::{DrainSignal, Drainer};
pub use forwarded::{ClientAddr, Trust};
pub use h1::{Door, serve};
pub use h2::{Plain, serve as serve_h2, sniff};
pub use head::{Field, Head};
pub use interim::Interim;
pub use limits::Limits;
pub use list::{lists_tag, split_unquoted};
pub use note::{Asked, Due, Note, Route};
pub use proxy_header::ProxyHeader;

/// What the drivers need of the edge: one synchronous decision for each request.
pub trait Service: 'static {
    /// Decides about a validated head. Never blocks, never waits, takes no lock that others write.
    fn decide(&self, head: &Head<'_>, exchange: &Exchange) -> Step;

    /// How clients reach it: a listener's word about TLS and HTTP/2.
    fn front(&self) -> Front {
        Front::default()
    }

    /// Called once for every exchange, after its answer was written or given up: counters and logs.
    fn finished(&self, exchange: &Exchange, done: &Done);

    /// What connections begin with before their first request, if they have to.
    fn proxy_header(&self) -> Option<Arc<ProxyHeader>> {
        None
    }

    /// The same service for those who may only ask for health.
    fn health_only(&self) -> Option<Rc<Self>> {
        None
    }
}

/// One request on one connection, as the driver knows it.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// The clocks when the head was complete.
    pub now: Now,
    /// The request's id.
    pub id: RequestId,
    /// The peer of the connection.
    pub peer: Peer,
    /// Whether it came by TLS.
    pub is_tls: bool,
    /// What the handshake of its connection fixed, if anything.
    pub terms: Option<Arc<Terms>>,
    /// What the decision left for the end of the exchange.
    pub note: Note,
}

/// Who is at the other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A TCP peer, or the one that a PROXY header named.
    Tcp(SocketAddr),
    /// A Unix socket's peer.
    Unix,
}

/// How an exchange ended.
#[derive(Clone, Debug, Default)]
pub struct Done {
    /// Status that was sent, 0 if none was.
    pub status: u16,
    /// Body bytes that were sent.
    pub bytes: u64,
    /// Milliseconds from complete head to the last byte handed to the kernel.
    pub took_ms: u64,
    /// Whether the whole answer was written.
    pub complete: bool,
    /// Why we answered ourselves: [`Ready::reason`], or `Penstock-Reason` of what a handler answered.
    pub reason: Option<Reason>,
    /// `Cache-Status` of what a handler answered.
    pub cache: Option<http::HeaderValue>,
}

/// What to do with a request.
pub enum Step {
    /// Write this now. An unread request body is drained within bounds, or the connection closed.
    Answer(Ready),
    /// Write this now and close: the client's idea of its message may not be ours.
    Refuse(Ready),
    /// Needs the cold path: hyper reads the body and writes the response.
    Work(Work),
}

/// A ready-made answer with what fills its slots.
#[derive(Clone, Debug)]
pub struct Ready {
    /// The answer.
    pub answer: Local,
    /// What its slots show.
    pub fill: Fill,
    /// The reason, where the edge decided rather than served.
    pub reason: Option<Reason>,
}

/// The cold path of one request: given the body and the way for interim answers, produces the response. It runs on the worker's
/// thread and is dropped when the client leaves, so what must not be cancelled runs in a task of its
/// own (a fill, an admitted purchase).
pub type Work = Box<
    dyn FnOnce(RequestBody, Interim) -> Pin<Box<dyn Future<Output = http::Response<ResponseBody>>>>,
>;
