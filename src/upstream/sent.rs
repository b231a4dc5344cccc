//! The body of a request on its way to a server, with its own framing and a view of how far it is.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use tokio::time::Instant;

use super::Body;
use crate::http::RequestBody;
use crate::http::body::BodyError;

/// How far a request's body is.
#[derive(Debug)]
pub(super) struct Progress {
    /// When its last byte was handed to hyper.
    pub done_at: Cell<Option<Instant>>,
    /// When it last moved.
    pub moved_at: Cell<Instant>,
    /// Whether it is the client that we wait for.
    pub waits: Cell<bool>,
    /// How the client broke it, if it did.
    pub broken: Cell<Option<BodyError>>,
}

impl Progress {
    fn moved(&self) {
        self.moved_at.set(Instant::now());
    }

    fn breaks(&self, error: BodyError) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.broken.set(Some(error));
        Poll::Ready(Some(Err(error)))
    }

    fn done(&self) {
        self.done_at.set(Some(Instant::now()));
    }
}

/// The body as hyper polls it.
#[derive(Debug)]
pub(super) struct SentBody {
    body: Source,
    progress: Rc<Progress>,
}

enum Source {
    Bytes(Bytes),
    /// With the bytes that are left, where its length is known.
    Stream(RequestBody, Option<u64>),
}

impl SentBody {
    pub(super) fn new(body: Body) -> SentBody {
        let progress = Rc::new(Progress {
            done_at: Cell::new(None),
            moved_at: Cell::new(Instant::now()),
            waits: Cell::new(false),
            broken: Cell::new(None),
        });
        let body = match body {
            Body::Empty => Source::Bytes(Bytes::new()),
            Body::Full(bytes) => Source::Bytes(bytes),
            Body::Stream(stream) => {
                let exact = stream.size_hint().exact();
                Source::Stream(stream, exact)
            }
        };
        if matches!(body, Source::Bytes(_)) {
            progress.done();
        }
        SentBody { body, progress }
    }

    /// Its length, unless it has to be chunked.
    pub(super) fn length(&self) -> Option<u64> {
        match &self.body {
            Source::Bytes(bytes) => Some(bytes.len() as u64),
            Source::Stream(_, left) => *left,
        }
    }

    /// Where it can be seen how far it is.
    pub(super) fn progress(&self) -> Rc<Progress> {
        self.progress.clone()
    }
}

impl http_body::Body for SentBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let SentBody { body, progress } = self.get_mut();
        let (stream, left) = match body {
            Source::Bytes(bytes) if bytes.is_empty() => return Poll::Ready(None),
            Source::Bytes(bytes) => {
                return Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes)))));
            }
            Source::Stream(stream, left) => (stream, left),
        };
        loop {
            let polled = Pin::new(&mut *stream).poll_frame(cx);
            progress.waits.set(polled.is_pending());
            let frame = match polled {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) if left.is_some_and(|left| left > 0) => {
                    return progress.breaks(BodyError::Cut);
                }
                Poll::Ready(None) => {
                    progress.done();
                    return Poll::Ready(None);
                }
                Poll::Ready(Some(Err(error))) => return progress.breaks(error),
                Poll::Ready(Some(Ok(frame))) => frame,
            };
            // Trailers are dropped.
            let Ok(data) = frame.into_data() else { continue };
            progress.moved();
            if let Some(left) = left {
                *left = left.saturating_sub(data.len() as u64);
                if *left == 0 {
                    progress.done();
                }
            }
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.body {
            Source::Bytes(bytes) => bytes.is_empty(),
            Source::Stream(_, left) => *left == Some(0),
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.length().map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Source::Bytes(bytes) => write!(f, "{} bytes", bytes.len()),
            Source::Stream(_, left) => write!(f, "a stream, {left:?} bytes left"),
        }
    }
}
