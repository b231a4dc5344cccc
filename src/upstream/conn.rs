//! One connection to a server: hyper's sender, the wire under it, and the task that drives it.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::uri::{Authority, Scheme};
use http::{Request, Response, Uri, Version, header};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{Instant, timeout};

use super::sent::SentBody;
use super::shared::Server;
use super::stream::Stream;
use super::wire::{Seat, Tap, Wire};
use crate::config::schema;
use crate::metrics::Sink;

/// What takes requests, by the protocol that is spoken.
#[derive(Debug)]
enum Sender {
    Http1(http1::SendRequest<SentBody>),
    Http2(http2::SendRequest<SentBody>, Scheme),
}

/// A connection that serves one exchange at a time. Dropping it closes it.
#[derive(Debug)]
pub(super) struct Conn {
    sender: Sender,
    pub wire: Rc<Wire>,
    /// Ends with the connection, or with what hyper had read behind a 101.
    driver: JoinHandle<Bytes>,
    /// The server's place in its group.
    pub at: usize,
    /// Whether it served an exchange before.
    pub is_reused: bool,
    busy: Option<InFlight>,
    /// How long the server keeps it idle, if it said so.
    keeps: Option<Duration>,
    idle_since: Instant,
}

impl Conn {
    /// Speaks HTTP over `stream` to server number `at`.
    pub(super) async fn new(
        stream: Stream,
        seat: Seat,
        at: usize,
        settings: &schema::Upstream,
        sink: Sink,
    ) -> Result<Conn, hyper::Error> {
        let wire = Wire::new(stream, seat, sink);
        let (io, driven) = (TokioIo::new(Tap(wire.clone())), wire.clone());
        let head_bytes_max = settings.head_bytes_max.in_memory();
        // What goes wrong with a connection, the exchange hears.
        let (sender, driver) = if settings.http2 {
            let list_max = u32::try_from(head_bytes_max).unwrap_or(u32::MAX);
            let (sender, connection) = http2::Builder::new(Local)
                .max_header_list_size(list_max)
                .initial_max_send_streams(1)
                .handshake(io)
                .await?;
            let scheme = if settings.tls.is_some() { Scheme::HTTPS } else { Scheme::HTTP };
            let driver = spawn_local(async move {
                let _ = connection.await;
                driven.close();
                Bytes::new()
            });
            (Sender::Http2(sender, scheme), driver)
        } else {
            let (sender, mut connection) = http1::Builder::new()
                // The wire bounds the head exactly; this bounds hyper's memory.
                .max_buf_size(head_bytes_max.max(BUFFER_BYTES))
                .handshake(io)
                .await?;
            let driver = spawn_local(async move {
                let ended = poll_fn(|cx| connection.poll_without_shutdown(cx)).await;
                if ended.is_ok() && driven.has_switched() {
                    // Whether it may is the exchange's to say.
                    return connection.into_parts().read_buf;
                }
                driven.close();
                Bytes::new()
            });
            (Sender::Http1(sender), driver)
        };
        Ok(Conn {
            sender,
            wire,
            driver,
            at,
            is_reused: false,
            busy: None,
            keeps: None,
            idle_since: Instant::now(),
        })
    }

    /// Counts an exchange on `server` from now until the connection is idle or closed.
    pub(super) fn begin(&mut self, server: &Arc<Server>) {
        self.busy = Some(InFlight::new(server));
    }

    /// Hands a request to hyper.
    pub(super) fn send(
        &mut self,
        request: Request<SentBody>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Incoming>, Failed>>>> {
        match &mut self.sender {
            Sender::Http1(sender) => Box::pin(sender.try_send_request(request)),
            Sender::Http2(sender, scheme) => {
                Box::pin(sender.try_send_request(as_http2(request, scheme)))
            }
        }
    }

    /// Whether HTTP/2 is spoken.
    pub(super) fn is_http2(&self) -> bool {
        matches!(self.sender, Sender::Http2(..))
    }

    /// The server says with an answer how long it keeps the connection.
    pub(super) fn hears(&mut self, keeps: Option<Duration>) {
        self.keeps = keeps;
    }

    /// Whether hyper could take a request now; ready with false if it never can again.
    pub(super) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        if self.wire.is_closed() {
            return Poll::Ready(false);
        }
        match &mut self.sender {
            Sender::Http1(sender) => sender.poll_ready(cx).map(|ready| ready.is_ok()),
            Sender::Http2(sender, _) => sender.poll_ready(cx).map(|ready| ready.is_ok()),
        }
    }

    /// The connection leaves HTTP and its pool. What hyper had read behind the 101; `None`: it is
    /// closed, or hyper does not let go of it.
    pub(super) async fn leave(&mut self) -> Option<Bytes> {
        let early = timeout(LETS_GO, &mut self.driver).await.ok()?.ok()?;
        self.busy = None;
        self.wire.leave_pool();
        (!self.wire.is_closed()).then_some(early)
    }

    /// Marks the end of an exchange.
    pub(super) fn rests(&mut self) {
        self.busy = None;
        self.is_reused = true;
        self.idle_since = Instant::now();
    }

    /// When an idle connection is to be closed.
    pub(super) fn expires(&self, keep_alive: Duration) -> Instant {
        self.idle_since + self.keeps.map_or(keep_alive, |keeps| keeps.min(keep_alive))
    }

    /// Whether an idle connection can be used: open, silent, and not expired.
    pub(super) fn is_usable(&self, keep_alive: Duration) -> bool {
        let is_ready = match &self.sender {
            Sender::Http1(sender) => sender.is_ready(),
            Sender::Http2(sender, _) => sender.is_ready(),
        };
        is_ready && Instant::now() < self.expires(keep_alive) && self.wire.is_quiet()
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        self.wire.close();
        self.driver.abort();
    }
}

/// A request as HTTP/2 has it: scheme and authority in the target, no Host, no framing but a length.
fn as_http2(request: Request<SentBody>, scheme: &Scheme) -> Request<SentBody> {
    let (mut parts, body) = request.into_parts();
    parts.headers.remove(header::TRANSFER_ENCODING);
    if let Some(host) = parts.headers.remove(header::HOST) {
        let mut target = std::mem::take(&mut parts.uri).into_parts();
        target.authority = Authority::try_from(host.as_bytes()).ok();
        target.scheme = target.authority.is_some().then(|| scheme.clone());
        // Both were valid before: so they are together.
        parts.uri = Uri::from_parts(target).unwrap_or_default();
    }
    parts.version = Version::HTTP_2;
    Request::from_parts(parts, body)
}

/// Runs what hyper's HTTP/2 needs beside a connection; it ends with it.
#[derive(Clone, Copy, Debug)]
struct Local;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, future: F) {
        spawn_local(future);
    }
}

/// What hyper says when there is no answer; the request may be in it, unsent.
pub(super) type Failed = hyper::client::conn::TrySendError<Request<SentBody>>;

/// One exchange that a server is busy with.
#[derive(Debug)]
struct InFlight(Arc<Server>);

impl InFlight {
    fn new(server: &Arc<Server>) -> InFlight {
        server.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(server.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// hyper lets go at once, in the turn after the one in which it gave the 101.
const LETS_GO: Duration = Duration::from_secs(1);
/// hyper's buffer of one connection.
const BUFFER_BYTES: usize = 64 * 1024;
