//! One request of an HTTP/2 connection: the decision, and the response as hyper takes it.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{Method, Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep_until};

use super::head;
use super::unread::{Shared, Unread};
use crate::answer::Fill;
use crate::http::body::BodyError;
use crate::http::h1::respond;
use crate::http::refusal::Refusal;
use crate::http::{
    Done, Door, Exchange, Interim, Peer, Ready, RequestBody, ResponseBody, Service, Step, Work, hop,
};
use crate::metrics::Counter;

/// The service that hyper gets for a connection.
pub(super) struct Requests<S: Service> {
    pub door: Rc<Door<S>>,
    pub peer: Peer,
}

impl<S: Service> hyper::service::Service<Request<Incoming>> for Requests<S> {
    type Response = Response<SentBody<S>>;
    type Error = Infallible;
    type Future = Answering<S>;

    fn call(&self, request: Request<Incoming>) -> Answering<S> {
        let (parts, incoming) = request.into_parts();
        let exchange = self.door.exchange(&self.peer, Instant::now());
        let decided = self.decide(&parts, incoming.is_end_stream(), &exchange);
        let is_head = parts.method == Method::HEAD;
        let incoming = (!incoming.is_end_stream()).then(|| Rc::new(RefCell::new(incoming)));
        let unread =
            incoming.as_ref().and_then(|body| Unread::new(&parts.headers, body, &self.door.limits));
        let mut response = match decided {
            Ok(Ok(Step::Answer(ready) | Step::Refuse(ready))) => {
                self.ready(&ready, exchange, is_head)
            }
            Ok(Ok(Step::Work(work))) => {
                self.door.sink.inc(Counter::ColdRequests);
                return Answering::Work(self.work(work, incoming, unread, exchange, is_head));
            }
            Ok(Err(_)) => {
                self.door.sink.inc(Counter::Panics);
                let open = Open::new(&self.door, exchange.clone(), Done::default());
                own(Refusal::Panic, &exchange, is_head, Some(open))
            }
            Err(refusal) => {
                self.door.sink.inc(Counter::Malformed);
                self.door.sink.reason(refusal.row().reason);
                own(refusal, &exchange, is_head, None)
            }
        };
        response.body_mut().unread = unread;
        Answering::Ready(Some(response))
    }
}

impl<S: Service> Requests<S> {
    fn decide(
        &self,
        parts: &Parts,
        is_whole: bool,
        exchange: &Exchange,
    ) -> Result<std::thread::Result<Step>, Refusal> {
        head::with_head(parts, is_whole, &self.door.limits, |head| {
            catch_unwind(AssertUnwindSafe(|| self.door.decide(head, exchange)))
        })
    }

    /// A ready-made answer; all requests for it share its body.
    fn ready(&self, ready: &Ready, exchange: Exchange, is_head: bool) -> Response<SentBody<S>> {
        let done = Done {
            status: ready.answer.status().as_u16(),
            reason: ready.reason,
            ..Done::default()
        };
        let open = Open::new(&self.door, exchange, done);
        let response = ready.answer.response(&ready.fill);
        response.map(|body| {
            let body = if is_head { ResponseBody::Empty } else { ResponseBody::Full(body) };
            SentBody::new(body, Some(open))
        })
    }

    fn work(
        &self,
        work: Work,
        incoming: Option<Shared>,
        unread: Option<Unread>,
        exchange: Exchange,
        is_head: bool,
    ) -> Pin<Box<dyn Future<Output = Response<SentBody<S>>>>> {
        let idle = self.door.limits.body_idle_timeout;
        let body = match incoming {
            None => RequestBody::Empty,
            Some(body) => RequestBody::Stream(Box::pin(ClientBody { body, idle, late: None })),
        };
        let open = Open::new(&self.door, exchange, Done::default());
        Box::pin(async move {
            let mut response = worked(work, body, open, is_head).await;
            response.body_mut().unread = unread;
            response
        })
    }
}

/// What the service's work came to.
async fn worked<S: Service>(
    work: Work,
    body: RequestBody,
    mut open: Open<S>,
    is_head: bool,
) -> Response<SentBody<S>> {
    let answered = match catch_unwind(AssertUnwindSafe(|| work(body, Interim::default()))) {
        Ok(future) => respond::Caught(future).await,
        Err(_) => None,
    };
    let exchange = open.exchange.clone();
    let response = match answered {
        None => {
            open.door.sink.inc(Counter::Panics);
            return own(Refusal::Panic, &exchange, is_head, Some(open));
        }
        Some(response) if response.status().is_informational() => {
            return own(Refusal::Interim, &exchange, is_head, Some(open));
        }
        Some(response) => response,
    };
    let (mut parts, mut body) = response.into_parts();
    hop::strip_response(&mut parts.headers);
    respond::frame(&mut parts, &mut body, is_head);
    open.done.status = parts.status.as_u16();
    open.done.reason = respond::reason(&parts.headers);
    open.done.cache = parts.headers.get("cache-status").cloned();
    Response::from_parts(parts, SentBody::new(body, Some(open)))
}

/// An answer of the driver's own.
fn own<S: Service>(
    refusal: Refusal,
    exchange: &Exchange,
    is_head: bool,
    mut open: Option<Open<S>>,
) -> Response<SentBody<S>> {
    if let Some(open) = &mut open {
        open.done.status = refusal.row().status;
        open.done.reason = Some(refusal.row().reason);
    }
    let fill = Fill { now: exchange.now, request: exchange.id, ..Fill::default() };
    let response = refusal.answer().response(&fill);
    response.map(|body| {
        let body = if is_head { ResponseBody::Empty } else { ResponseBody::Full(body) };
        SentBody::new(body, open)
    })
}

/// The response of one request, as hyper awaits it.
#[expect(clippy::large_enum_variant, reason = "the large one is the usual one, and hyper's to box")]
pub(super) enum Answering<S: Service> {
    Ready(Option<Response<SentBody<S>>>),
    Work(Pin<Box<dyn Future<Output = Response<SentBody<S>>>>>),
}

impl<S: Service> Unpin for Answering<S> {}

impl<S: Service> Future for Answering<S> {
    type Output = Result<Response<SentBody<S>>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            // Polled once more than it should be, it has no answer.
            Answering::Ready(response) => {
                response.take().map_or(Poll::Pending, |r| Poll::Ready(Ok(r)))
            }
            Answering::Work(work) => work.as_mut().poll(cx).map(Ok),
        }
    }
}

/// An exchange that is under way: however it ends, the service hears of it once.
pub(super) struct Open<S: Service> {
    door: Rc<Door<S>>,
    exchange: Exchange,
    done: Done,
}

impl<S: Service> Open<S> {
    fn new(door: &Rc<Door<S>>, exchange: Exchange, done: Done) -> Open<S> {
        Open { door: door.clone(), exchange, done }
    }
}

impl<S: Service> Drop for Open<S> {
    fn drop(&mut self) {
        self.door.finished(&self.exchange, &mut self.done);
    }
}

/// The response's body as hyper takes it.
pub(super) struct SentBody<S: Service> {
    body: ResponseBody,
    /// `None` for what is counted elsewhere.
    open: Option<Open<S>>,
    /// The response ends after it.
    unread: Option<Unread>,
}

impl<S: Service> SentBody<S> {
    fn new(body: ResponseBody, mut open: Option<Open<S>>) -> SentBody<S> {
        if let Some(open) = &mut open {
            // hyper does not ask for a body that is none.
            open.done.complete = body.is_end_stream();
        }
        SentBody { body, open, unread: None }
    }

    /// Ready once nothing keeps the response from its end.
    fn poll_unread(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(unread) = &mut self.unread {
            // The exchange is over, whatever the client still sends.
            self.open = None;
            ready!(unread.poll_drain(cx));
            self.unread = None;
        }
        Poll::Ready(())
    }
}

impl<S: Service> Unpin for SentBody<S> {}

impl<S: Service> Body for SentBody<S> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        loop {
            let SentBody { body, open, .. } = this;
            let item = match &mut *body {
                // In pieces, so that a client that leaves in the middle is noticed.
                ResponseBody::Full(bytes) if bytes.len() > PIECE_BYTES => {
                    Some(Ok(Frame::data(bytes.split_to(PIECE_BYTES))))
                }
                body => {
                    let polled = AssertUnwindSafe(|| Pin::new(body).poll_frame(cx));
                    match catch_unwind(polled) {
                        Ok(item) => ready!(item),
                        Err(_) => {
                            if let Some(open) = open {
                                open.door.sink.inc(Counter::Panics);
                            }
                            Some(Err(BodyError::Cut))
                        }
                    }
                }
            };
            let data = match &item {
                // Trailers are dropped.
                Some(Ok(frame)) if !frame.is_data() => continue,
                Some(Ok(frame)) => frame.data_ref().map_or(0, Bytes::len),
                Some(Err(_)) | None => 0,
            };
            if let Some(open) = open {
                open.done.bytes += data as u64;
                let is_last = matches!(item, Some(Ok(_))) && body.is_end_stream();
                open.done.complete = item.is_none() || is_last;
            }
            match &item {
                None => ready!(this.poll_unread(cx)),
                // With what has come already, this frame is the last.
                Some(Ok(_)) if this.body.is_end_stream() => {
                    let _ = this.poll_unread(cx);
                }
                Some(_) => {}
            }
            return Poll::Ready(item);
        }
    }

    fn is_end_stream(&self) -> bool {
        self.unread.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The request's body as the handler reads it.
struct ClientBody {
    body: Shared,
    idle: Duration,
    /// While the client is waited for.
    late: Option<Pin<Box<Sleep>>>,
}

impl Body for ClientBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        loop {
            match Pin::new(&mut *this.body.borrow_mut()).poll_frame(cx) {
                Poll::Ready(item) => {
                    this.late = None;
                    match item {
                        // Trailers are dropped.
                        Some(Ok(frame)) if !frame.is_data() => continue,
                        Some(Ok(frame)) => return Poll::Ready(Some(Ok(frame))),
                        Some(Err(_)) => return Poll::Ready(Some(Err(BodyError::Cut))),
                        None => return Poll::Ready(None),
                    }
                }
                Poll::Pending => {
                    let due = Instant::now() + this.idle;
                    let late = this.late.get_or_insert_with(|| Box::pin(sleep_until(due)));
                    ready!(late.as_mut().poll(cx));
                    return Poll::Ready(Some(Err(BodyError::TimedOut)));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.borrow().is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.borrow().size_hint()
    }
}

/// Bytes of a body that HTTP/2 gets at once.
const PIECE_BYTES: usize = 64 * 1024;
