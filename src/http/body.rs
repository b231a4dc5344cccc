//! The bodies that handlers see: never hyper's own types.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::OwnedSemaphorePermit;

/// Error of a streamed body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// The client broke the framing of the body.
    #[error("malformed request body")]
    Malformed,
    /// The client left, or the upstream cut its body.
    #[error("body ended before its end")]
    Cut,
    /// The body came too slowly.
    #[error("body timed out")]
    TimedOut,
    /// More than the handler's bound.
    #[error("body too large")]
    TooLarge,
}

type Stream = Pin<Box<dyn Body<Data = Bytes, Error = BodyError>>>;

/// A request's body. Trailers are dropped.
pub enum RequestBody {
    /// No body.
    Empty,
    /// A body that is read from the client as it is polled.
    Stream(Stream),
}

/// A response's body.
pub enum ResponseBody {
    /// No body.
    Empty,
    /// Known bytes.
    Full(Bytes),
    /// Frames as they come.
    Stream(Stream),
    /// None: with this 101 the connection leaves HTTP. Only for a request that asked for it, by
    /// HTTP/1.1.
    Upgraded(Box<Upgraded>),
}

/// The other end of a connection that leaves HTTP.
pub trait Far: AsyncRead + AsyncWrite + Unpin {}

impl<IO: AsyncRead + AsyncWrite + Unpin> Far for IO {}

/// What is relayed after a 101.
pub struct Upgraded {
    /// The other end; dropping it closes it.
    pub far: Box<dyn Far>,
    /// How long both sides may be silent.
    pub idle: Duration,
    /// Its place among the upgraded connections.
    pub place: Option<OwnedSemaphorePermit>,
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            RequestBody::Empty => Poll::Ready(None),
            RequestBody::Stream(stream) => stream.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            RequestBody::Empty => true,
            RequestBody::Stream(stream) => stream.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            RequestBody::Empty => SizeHint::with_exact(0),
            RequestBody::Stream(stream) => stream.size_hint(),
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            ResponseBody::Empty | ResponseBody::Upgraded(_) => Poll::Ready(None),
            ResponseBody::Full(bytes) if bytes.is_empty() => Poll::Ready(None),
            ResponseBody::Full(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            ResponseBody::Stream(stream) => stream.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            ResponseBody::Empty | ResponseBody::Upgraded(_) => true,
            ResponseBody::Full(bytes) => bytes.is_empty(),
            ResponseBody::Stream(stream) => stream.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            ResponseBody::Empty | ResponseBody::Upgraded(_) => SizeHint::with_exact(0),
            ResponseBody::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            ResponseBody::Stream(stream) => stream.size_hint(),
        }
    }
}
