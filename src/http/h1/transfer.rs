//! What the parties to one cold request tell each other, and the bodies on both sides of hyper.
//!
//! The handler sees [`ClientBody`] and never hyper's own type; hyper sees [`SentBody`] around the
//! handler's. Both report to the [`Transfer`], by which the driver knows when the exchange is over.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::http::body::{BodyError, ResponseBody, Upgraded};
use crate::http::head::BodyKind;
use crate::http::refusal::Refusal;
use crate::metrics::{Counter, Sink};
use crate::outcome::{CloseReason, Reason};

/// Why a request body did not come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    Malformed(Refusal),
    Cut,
    TimedOut,
}

impl Failure {
    pub(super) fn close_reason(self) -> CloseReason {
        match self {
            Failure::Malformed(_) => CloseReason::Malformed,
            Failure::Cut => CloseReason::ClientAborted,
            Failure::TimedOut => CloseReason::BodyTimeout,
        }
    }

    fn error(self) -> BodyError {
        match self {
            Failure::Malformed(_) => BodyError::Malformed,
            Failure::Cut => BodyError::Cut,
            Failure::TimedOut => BodyError::TimedOut,
        }
    }
}

/// The state of one cold request, on one thread.
pub(super) struct Transfer {
    /// Service calls: exactly one for each grant.
    pub calls: Cell<u32>,
    /// The walker saw the end of the request.
    pub request_done: Cell<bool>,
    /// Bytes of the request body that are still to come, as far as its framing has said.
    pub request_left: Cell<u64>,
    /// Bytes of the request body that hyper was given.
    pub request_bytes: Cell<u64>,
    /// Why the request body failed.
    pub failure: Cell<Option<Failure>>,
    /// Who reads the body and has to hear of a failure: hyper does not.
    reader: Cell<Option<Waker>>,
    /// The handler has asked for the body, so that `100 Continue` was sent if it was expected.
    pub body_polled: Cell<bool>,
    /// A body that the handler dropped before its end. hyper must not learn of that: it would answer
    /// with a close of its own.
    pub parked: RefCell<Option<Incoming>>,
    /// The handler has given its response to hyper.
    pub response_given: Cell<bool>,
    /// hyper has taken the last frame of the response, or dropped it.
    pub response_ended: Cell<bool>,
    /// The response broke off.
    pub response_failed: Cell<bool>,
    /// Status of the response, 0 before it is given.
    pub status: Cell<u16>,
    /// The reason that the response states, where the edge answered rather than the shop.
    pub reason: Cell<Option<Reason>>,
    /// `Cache-Status` of the response.
    pub cache: Cell<Option<http::HeaderValue>>,
    /// What follows the response, if that is a 101.
    pub upgraded: Cell<Option<Box<Upgraded>>>,
    /// Body bytes that hyper took.
    pub body_bytes: Cell<u64>,
    /// Why the connection closes after this response, if it does.
    pub close: Cell<Option<CloseReason>>,
    pub sink: Sink,
}

impl Transfer {
    pub(super) fn new(kind: BodyKind, sink: Sink) -> Transfer {
        let left = match kind {
            BodyKind::Sized(left) => left,
            BodyKind::None | BodyKind::Chunked => 0,
        };
        Transfer {
            calls: Cell::new(0),
            request_done: Cell::new(kind == BodyKind::None),
            request_left: Cell::new(left),
            request_bytes: Cell::new(0),
            failure: Cell::new(None),
            reader: Cell::new(None),
            body_polled: Cell::new(false),
            parked: RefCell::new(None),
            response_given: Cell::new(false),
            response_ended: Cell::new(false),
            response_failed: Cell::new(false),
            status: Cell::new(0),
            reason: Cell::new(None),
            cache: Cell::new(None),
            upgraded: Cell::new(None),
            body_bytes: Cell::new(0),
            close: Cell::new(None),
            sink,
        }
    }

    /// What we answer where hyper gave up before it wrote anything.
    pub(super) fn own_answer(&self) -> Refusal {
        match self.failure.get() {
            Some(Failure::Malformed(refusal)) => refusal,
            Some(Failure::TimedOut) => Refusal::BodyTimeout,
            _ if self.response_failed.get() => Refusal::ResponseCut,
            Some(Failure::Cut) | None => Refusal::Panic,
        }
    }

    /// Notes the first failure of the request body.
    pub(super) fn fail(&self, failure: Failure) {
        if self.failure.get().is_none() {
            if matches!(failure, Failure::Malformed(_)) {
                self.sink.inc(Counter::Malformed);
            }
            self.failure.set(Some(failure));
            if let Some(reader) = self.reader.take() {
                reader.wake();
            }
        }
    }

    /// Whether the handler has let go of the request body before its end.
    pub(super) fn body_abandoned(&self) -> bool {
        self.parked.borrow().is_some()
    }
}

/// The request's body as the handler reads it.
pub(super) struct ClientBody {
    /// `None` once the end was seen.
    incoming: Option<Incoming>,
    /// Bytes handed out.
    bytes: u64,
    transfer: Rc<Transfer>,
}

impl ClientBody {
    pub(super) fn new(incoming: Incoming, transfer: Rc<Transfer>) -> ClientBody {
        ClientBody { incoming: Some(incoming), bytes: 0, transfer }
    }

    fn is_whole(&self) -> bool {
        self.transfer.request_done.get() && self.bytes == self.transfer.request_bytes.get()
    }

    /// Lets go of hyper's body before its end.
    fn park(&mut self) {
        if let Some(incoming) = self.incoming.take() {
            *self.transfer.parked.borrow_mut() = Some(incoming);
        }
    }

    fn failed(&mut self, failure: Failure) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.park();
        Poll::Ready(Some(Err(failure.error())))
    }
}

impl Body for ClientBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        this.transfer.body_polled.set(true);
        loop {
            let Some(incoming) = &mut this.incoming else { return Poll::Ready(None) };
            if let Some(failure) = this.transfer.failure.get() {
                return this.failed(failure);
            }
            match Pin::new(incoming).poll_frame(cx) {
                Poll::Pending => {
                    this.transfer.reader.set(Some(cx.waker().clone()));
                    return Poll::Pending;
                }
                Poll::Ready(Some(Ok(frame))) => {
                    // Anything else is trailers, which are dropped.
                    if let Some(data) = frame.data_ref() {
                        this.bytes += data.len() as u64;
                        return Poll::Ready(Some(Ok(frame)));
                    }
                }
                // How hyper's channel ends says little: a connection that goes away ends it too, and
                // hyper may be done before it has said that the body is. What counts is whether
                // everything that the walker saw up to the end has come.
                Poll::Ready(None | Some(Err(_))) if this.is_whole() => this.incoming = None,
                Poll::Ready(None | Some(Err(_))) => return this.failed(Failure::Cut),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.as_ref().map_or(SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for ClientBody {
    fn drop(&mut self) {
        if !self.is_end_stream() {
            self.park();
        }
    }
}

/// The response's body as hyper takes it.
pub(super) struct SentBody {
    body: ResponseBody,
    transfer: Rc<Transfer>,
}

impl SentBody {
    pub(super) fn new(body: ResponseBody, transfer: Rc<Transfer>) -> SentBody {
        SentBody { body, transfer }
    }
}

impl Body for SentBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        loop {
            let polled = catch_unwind(AssertUnwindSafe(|| Pin::new(&mut this.body).poll_frame(cx)));
            let item = match polled {
                Ok(item) => ready!(item),
                Err(_) => {
                    this.transfer.sink.inc(Counter::Panics);
                    Some(Err(BodyError::Cut))
                }
            };
            match &item {
                Some(Ok(frame)) => match frame.data_ref() {
                    Some(data) => {
                        let sent = this.transfer.body_bytes.get() + data.len() as u64;
                        this.transfer.body_bytes.set(sent);
                        if this.body.is_end_stream() {
                            this.transfer.response_ended.set(true);
                        }
                    }
                    // Trailers are dropped.
                    None => continue,
                },
                Some(Err(_)) => this.transfer.response_failed.set(true),
                None => this.transfer.response_ended.set(true),
            }
            return Poll::Ready(item);
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for SentBody {
    fn drop(&mut self) {
        self.transfer.response_ended.set(true);
    }
}
