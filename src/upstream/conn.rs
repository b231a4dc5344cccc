//! A connection to a server as one exchange uses it: hyper's sender, the wire under it, and the task
//! that drives it.
//!
//! It serves one exchange at a time, so that it is known for sure whether a byte of a purchase left. Over
//! HTTP/2 everything else shares connections: then each exchange has a `Conn` of its own, and what it
//! ends is its stream alone.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::uri::{Authority, Scheme};
use http::{Request, Response, Uri, Version, header};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use tokio::task::spawn_local;
use tokio::time::{Instant, timeout};

use super::Group;
use super::link::{InFlight, Link};
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

/// A connection for one exchange at a time. Dropping it closes it, unless others share it.
#[derive(Debug)]
pub(super) struct Conn {
    sender: Sender,
    pub wire: Rc<Wire>,
    link: Rc<Link>,
    /// The server's place in its group.
    pub at: usize,
    /// Whether others use it meanwhile.
    pub is_shared: bool,
    busy: Option<InFlight>,
    /// Who hears that there is room for another exchange.
    home: Option<Rc<Group>>,
}

impl Conn {
    /// Speaks HTTP over `stream` to server number `at`; `is_shared`: many exchanges will use it at once.
    pub(super) async fn new(
        stream: Stream,
        seat: Seat,
        (at, is_shared): (usize, bool),
        settings: &schema::Upstream,
        sink: Sink,
    ) -> Result<Conn, hyper::Error> {
        let wire = Wire::new(stream, seat, sink);
        let (io, driven) = (TokioIo::new(Tap(wire.clone())), wire.clone());
        let head_bytes_max = settings.head_bytes_max.in_memory();
        // What goes wrong with a connection, the exchange hears.
        let (sender, driver) = if settings.http2 {
            let list_max = u32::try_from(head_bytes_max).unwrap_or(u32::MAX);
            let mut builder = http2::Builder::new(Local);
            builder.max_header_list_size(list_max).initial_max_send_streams(1);
            if is_shared {
                // Room for all, so that one whose client is slow holds back nobody else.
                builder
                    .initial_max_send_streams(STREAMS_MAX)
                    .initial_stream_window_size(STREAM_WINDOW_BYTES)
                    .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
            }
            let (sender, connection) = builder.handshake(io).await?;
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
        let link = Link::new(wire.clone(), driver);
        Ok(Conn { sender, wire, link, at, is_shared, busy: None, home: None })
    }

    /// The same connection for one more exchange, if it is shared and has room.
    pub(super) fn share(&self, group: &Rc<Group>) -> Option<Conn> {
        let Sender::Http2(sender, scheme) = &self.sender else { return None };
        let has_room = self.is_shared && self.link.busy() < STREAMS_MAX;
        has_room.then(|| Conn {
            sender: Sender::Http2(sender.clone(), scheme.clone()),
            wire: self.wire.clone(),
            link: self.link.clone(),
            at: self.at,
            is_shared: true,
            busy: Some(InFlight::new(&group.shared.servers[self.at], &self.link)),
            home: Some(group.clone()),
        })
    }

    /// Counts an exchange on `server` from now until the connection is idle or closed.
    pub(super) fn begin(&mut self, server: &Arc<Server>) {
        if self.busy.is_none() {
            self.busy = Some(InFlight::new(server, &self.link));
        }
    }

    /// Whether it served an exchange before.
    pub(super) fn is_reused(&self) -> bool {
        self.link.has_served()
    }

    /// Whether no exchange is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.link.busy() == 0
    }

    /// From now on it serves no further exchange; those under way end as they may.
    pub(super) fn retire(&self) {
        self.link.retire();
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
    pub(super) fn hears(&self, keeps: Option<Duration>) {
        self.link.hears(keeps);
    }

    /// Whether hyper could take a request now; ready with false if it never can again.
    pub(super) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        if self.link.is_over() {
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
        let early = timeout(LETS_GO, self.link.early()).await.ok()??;
        self.busy = None;
        self.wire.leave_pool();
        (!self.wire.is_closed()).then_some(early)
    }

    /// Marks the end of an exchange.
    pub(super) fn rests(&mut self) {
        self.busy = None;
        self.link.served();
    }

    /// When an idle connection is to be closed.
    pub(super) fn expires(&self, keep_alive: Duration) -> Instant {
        self.link.expires(keep_alive)
    }

    /// Whether it can serve no further exchange.
    pub(super) fn is_over(&self) -> bool {
        self.link.is_over()
    }

    /// Whether the server is still there; and silent, where nothing was asked.
    pub(super) fn is_alive(&self) -> bool {
        self.link.is_alive()
    }

    /// Whether a connection can be used: open, silent where it is idle, and not expired.
    pub(super) fn is_usable(&self, keep_alive: Duration) -> bool {
        let is_ready = match &self.sender {
            Sender::Http1(sender) => sender.is_ready(),
            Sender::Http2(sender, _) => sender.is_ready(),
        };
        is_ready && Instant::now() < self.expires(keep_alive) && self.is_alive()
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        self.busy = None;
        if let Some(group) = self.home.take() {
            group.has_room(self.at);
        }
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

/// hyper lets go at once, in the turn after the one in which it gave the 101.
const LETS_GO: Duration = Duration::from_secs(1);
/// Exchanges that share a connection; a server that allows fewer lets the others wait within it.
const STREAMS_MAX: usize = 64;
/// What one of them may have sent and its client not taken.
const STREAM_WINDOW_BYTES: u32 = 128 * 1024;
/// The same of all of them together.
const CONNECTION_WINDOW_BYTES: u32 = 64 * STREAM_WINDOW_BYTES;
/// hyper's buffer of one connection.
const BUFFER_BYTES: usize = 64 * 1024;
