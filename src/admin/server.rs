//! Serving: few connections, small bodies, nothing that a slow client can hold for long.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use super::reply::{Body, Reply, Result};
use super::route::{self, Ask};
use super::{Context, Token, guard};
use crate::metrics::Counter;

/// Serves the Unix socket until it is dropped.
pub async fn serve_unix(
    listener: std::os::unix::net::UnixListener,
    context: Arc<Context>,
) -> io::Result<()> {
    let listener = UnixListener::from_std(listener)?;
    Room::new(context, None).run(async move || Ok(listener.accept().await?.0)).await
}

/// Serves the TCP address until it is dropped.
pub async fn serve_tcp(
    listener: std::net::TcpListener,
    token: Token,
    context: Arc<Context>,
) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    Room::new(context, Some(token)).run(async move || Ok(listener.accept().await?.0)).await
}

/// One listener's connections.
struct Room {
    context: Arc<Context>,
    token: Option<Token>,
    places: Arc<Semaphore>,
    connections: JoinSet<()>,
}

impl Room {
    fn new(context: Arc<Context>, token: Option<Token>) -> Room {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        Room { context, token, places, connections: JoinSet::new() }
    }

    /// Serves what `accept` gives, until the process closes: then nothing more is accepted, and answers
    /// under way are given.
    async fn run<IO>(mut self, accept: impl AsyncFn() -> io::Result<IO>) -> io::Result<()>
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let closing = self.context.closing.clone();
        loop {
            let place = self.place().await;
            match closing.run_until_cancelled(accept()).await {
                Some(Ok(stream)) => self.serve(stream, place),
                Some(Err(cause)) => self.trouble(&cause).await,
                None => break,
            }
        }
        drop(accept);
        while self.connections.join_next().await.is_some() {}
        std::future::pending().await
    }

    /// Waits for a place; those of connections that ended are free again.
    async fn place(&mut self) -> Option<OwnedSemaphorePermit> {
        while self.connections.try_join_next().is_some() {}
        // The semaphore is never closed.
        self.places.clone().acquire_owned().await.ok()
    }

    async fn trouble(&self, cause: &io::Error) {
        self.context.sink.inc(Counter::AcceptErrors);
        tracing::warn!(%cause, "the admin interface cannot accept a connection");
        tokio::time::sleep(PAUSE).await;
    }

    fn serve<IO>(&mut self, io: IO, place: Option<OwnedSemaphorePermit>)
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (context, token) = (self.context.clone(), self.token.clone());
        let counted = self.context.operators.token();
        self.connections.spawn(async move {
            let (_place, _counted) = (place, counted);
            let answer = service_fn(|request| answer(request, &context, token.as_ref()));
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_LONGEST)
                .max_buf_size(HEAD_BYTES_MAX)
                .serve_connection(TokioIo::new(io), answer);
            // What a client breaks is its own loss; it gets no second word.
            let _ = tokio::time::timeout(CONNECTION_LONGEST, connection).await;
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    context: &Arc<Context>,
    token: Option<&Token>,
) -> std::result::Result<Response<Body>, Infallible> {
    let reply = reply(request, context, token).await.unwrap_or_else(|error| error);
    Ok(reply.response())
}

async fn reply(
    request: Request<Incoming>,
    context: &Arc<Context>,
    token: Option<&Token>,
) -> Result {
    guard::refuse_strangers(request.method(), request.headers(), token)?;
    let who = guard::who(request.headers(), token);
    let (parts, body) = request.into_parts();
    let Some(who) = who else {
        return super::ready::stranger(context, parts.uri.path()).ok_or_else(|| {
            context.sink.inc(Counter::AdminRefused);
            Reply::unauthorised()
        });
    };
    let body = whole(body, bytes_max(parts.uri.path())).await?;
    let seen = parts.headers.get("last-event-id").and_then(|id| id.to_str().ok());
    let ask = Ask {
        method: parts.method,
        path: parts.uri.path(),
        query: parts.uri.query(),
        body,
        who: &who.name,
        seen,
    };
    route::answer(&ask, context).await
}

/// Reads a body.
async fn whole(body: Incoming, bytes_max: usize) -> Result<Bytes> {
    if body.size_hint().lower() > bytes_max as u64 {
        return Err(Reply::too_large(bytes_max));
    }
    let read = Limited::new(body, bytes_max).collect();
    match tokio::time::timeout(BODY_LONGEST, read).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Reply::too_large(bytes_max)),
        Ok(Err(error)) => Err(Reply::bad(format!("the body broke off: {error}"))),
        Err(_) => Err(Reply::bad("the body came too slowly")),
    }
}

/// Only the shop's whole list of orders is long.
fn bytes_max(path: &str) -> usize {
    if path.ends_with("/limbo/match") { ORDERS_BYTES_MAX } else { BODY_BYTES_MAX }
}

/// Operators, a scraper, a balancer: not many at once.
const CONNECTIONS_MAX: usize = 64;
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// A declaration has at most 200 pools.
const BODY_BYTES_MAX: usize = 1 << 20;
/// About half a million orders.
const ORDERS_BYTES_MAX: usize = 64 << 20;
const HEAD_LONGEST: Duration = Duration::from_secs(10);
const BODY_LONGEST: Duration = Duration::from_secs(10);
const CONNECTION_LONGEST: Duration = Duration::from_secs(600);
const PAUSE: Duration = Duration::from_millis(100);
