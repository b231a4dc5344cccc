//! What the connections of one listener and worker share: whom they ask, and within which bounds.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;

use http::{Method, Version};
use tokio::time::Instant;

use super::{Asked, scratch};
use crate::clock::Clock;
use crate::http::drain::DrainSignal;
use crate::http::limits::Limits;
use crate::http::reader::{Request, read_head};
use crate::http::refusal::Refusal;
use crate::http::{Done, Exchange, Head, Note, Peer, ProxyHeader, Service, Step};
use crate::ident::RequestId;
use crate::metrics::{Counter, Sink};
use crate::tls::{Front, Terms};

/// What the connections of one listener and worker share. Each of them holds one pointer to it.
#[derive(Debug)]
pub struct Door<S> {
    /// Exchanged as a whole, between two requests.
    service: Rc<RefCell<Rc<S>>>,
    pub(in crate::http) limits: Rc<Limits>,
    pub(super) clock: Clock,
    pub(in crate::http) sink: Sink,
    pub(in crate::http) drain: DrainSignal,
    is_tls: bool,
    /// What the handshake of its one connection fixed.
    terms: Option<Arc<Terms>>,
}

/// What came of the bytes that a client has sent: a whole head and what was decided about it, or why
/// it was refused.
pub(super) type Heard = Result<Decided, Refusal>;

/// One request, decided. It is boxed where it has to wait, and never before.
pub(super) struct Decided {
    pub exchange: Exchange,
    pub step: std::thread::Result<Step>,
    pub ask: Asked,
    /// When its head was complete.
    pub heard: Instant,
}

impl<S: Service> Door<S> {
    /// A door to `service`.
    pub fn new(
        service: Rc<S>,
        limits: Rc<Limits>,
        clock: Clock,
        sink: Sink,
        drain: DrainSignal,
    ) -> Rc<Door<S>> {
        let is_tls = service.front().tls.is_some();
        let service = Rc::new(RefCell::new(service));
        Rc::new(Door { service, limits, clock, sink, drain, is_tls, terms: None })
    }

    /// What connections have to begin with.
    pub fn proxy_header(&self) -> Option<Arc<ProxyHeader>> {
        self.service.borrow().proxy_header()
    }

    /// The same door for those who may only ask for health.
    pub fn health_only(&self) -> Option<Rc<Door<S>>> {
        let Door { limits, clock, sink, drain, .. } = self;
        let service = self.service().health_only()?;
        Some(Door::new(service, limits.clone(), clock.clone(), sink.clone(), drain.clone()))
    }

    /// The same door with other bounds for those who come; those who came keep theirs.
    pub fn with_limits(&self, limits: Rc<Limits>) -> Rc<Door<S>> {
        let is_tls = self.front().tls.is_some();
        Rc::new(Door { limits, is_tls, ..self.clone() })
    }

    /// The same door for one connection, whose handshake fixed `terms`.
    pub fn with_terms(&self, terms: Arc<Terms>) -> Rc<Door<S>> {
        Rc::new(Door { terms: Some(terms), ..self.clone() })
    }

    /// The service that is asked now.
    pub fn service(&self) -> Rc<S> {
        self.service.borrow().clone()
    }

    /// From the next request on `service` is asked, also by connections that are open.
    pub fn set_service(&self, service: Rc<S>) {
        // The old one is dropped after the borrow.
        let _old = self.service.replace(service);
    }

    /// Whether those who come are taken for what they are: with TLS or without.
    pub fn fits(&self) -> bool {
        self.is_tls == self.front().tls.is_some()
    }

    /// Nobody new comes through this door: connections close with their current response.
    pub fn close(&self) {
        self.drain.begin();
    }

    /// How clients come to this door.
    pub fn front(&self) -> Front {
        self.service.borrow().front()
    }

    pub(in crate::http) fn exchange(&self, peer: &Peer, heard: Instant) -> Exchange {
        Exchange {
            now: self.clock.at(heard.into_std()),
            id: RequestId::next(),
            peer: peer.clone(),
            is_tls: self.is_tls,
            terms: self.terms.clone(),
            note: Note::default(),
        }
    }

    /// Reads a head from what has come and has it decided. `None`: it is not complete. The number
    /// is how many bytes are used.
    pub(super) fn judge(&self, peer: &Peer, bytes: &[u8]) -> Option<(usize, Heard)> {
        scratch::with_fields(|fields| match read_head(bytes, &self.limits, fields) {
            Ok(None) => None,
            Err(refusal) => Some((0, Err(refusal))),
            Ok(Some(request)) => {
                let heard = Instant::now();
                let exchange = self.exchange(peer, heard);
                let ask = Asked::of(&request);
                let step = catch_unwind(AssertUnwindSafe(|| self.decide(&request.head, &exchange)));
                let decided = Decided { exchange, step, ask, heard };
                Some((request.bytes, Ok(decided)))
            }
        })
    }

    /// What the service says.
    pub(in crate::http) fn decide(&self, head: &Head<'_>, exchange: &Exchange) -> Step {
        self.service.borrow().decide(head, exchange)
    }

    /// Tells the service of the end of an exchange, and when that was.
    pub(in crate::http) fn finished(&self, exchange: &Exchange, done: &mut Done) -> Instant {
        let now = Instant::now();
        done.took_ms = self.clock.mono_at(now.into_std()).since(exchange.now.mono);
        self.sink.add(Counter::ResponseBytes, done.bytes);
        let finished = || self.service.borrow().finished(exchange, done);
        if catch_unwind(AssertUnwindSafe(finished)).is_err() {
            self.sink.inc(Counter::Panics);
        }
        now
    }
}

// Written by hand: a service need not be one that can be copied.
impl<S> Clone for Door<S> {
    fn clone(&self) -> Door<S> {
        Door {
            service: self.service.clone(),
            limits: self.limits.clone(),
            clock: self.clock.clone(),
            sink: self.sink.clone(),
            drain: self.drain.clone(),
            is_tls: self.is_tls,
            terms: self.terms.clone(),
        }
    }
}

impl Asked {
    fn of(request: &Request<'_>) -> Asked {
        Asked {
            is_head: request.head.method == Method::HEAD,
            is_old: request.head.version == Version::HTTP_10,
            persistent: request.persistent,
            expects_continue: request.expects_continue,
            body: request.head.body,
        }
    }
}

/// An exchange that has to wait: however it ends, even if its connection is dropped, the service
/// hears of it once.
pub(super) struct Open<'a, S: Service> {
    door: &'a Door<S>,
    exchange: &'a Exchange,
    pub done: Done,
}

impl<'a, S: Service> Open<'a, S> {
    pub(super) fn new(door: &'a Door<S>, exchange: &'a Exchange, done: Done) -> Open<'a, S> {
        Open { door, exchange, done }
    }
}

impl<S: Service> Drop for Open<'_, S> {
    fn drop(&mut self) {
        self.door.finished(self.exchange, &mut self.done);
    }
}
