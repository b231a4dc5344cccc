//! The body of an answer, streamed from its connection. What ends cleanly gives the connection back,
//! anything else closes it.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep_until};

use super::Group;
use super::conn::Conn;
use super::sent::Progress;
use crate::http::ResponseBody;
use crate::http::body::BodyError;

/// A body that is read as it is polled.
pub(super) struct Tail {
    incoming: Incoming,
    /// The connection, until the end.
    conn: Option<Conn>,
    group: Rc<Group>,
    request: Rc<Progress>,
    idle: Duration,
    deadline: Option<Instant>,
    /// Since when we wait for the server; not while nobody asks us.
    waits_since: Option<Instant>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Tail {
    /// `times`: how long the server may be silent, and when the whole must be over.
    pub(super) fn new(
        incoming: Incoming,
        conn: Conn,
        group: Rc<Group>,
        request: Rc<Progress>,
        times: (Duration, Option<Instant>),
    ) -> Tail {
        let (idle, deadline) = times;
        let conn = Some(conn);
        Tail { incoming, conn, group, request, idle, deadline, waits_since: None, sleep: None }
    }

    /// As a body; one that is empty is over at once.
    pub(super) fn into_body(mut self) -> ResponseBody {
        if self.incoming.is_end_stream() {
            self.finish();
            return ResponseBody::Empty;
        }
        ResponseBody::Stream(Box::pin(self))
    }

    /// The end was seen: the connection may serve again.
    fn finish(&mut self) {
        if let Some(conn) = self.conn.take() {
            self.group.finished(conn, &self.request);
        }
    }

    fn fail(&mut self, error: BodyError) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(conn) = self.conn.take() {
            if error == BodyError::TimedOut {
                conn.retire();
            }
            self.group.server(conn.at).failed(&format!("in an answer: {error}"));
        }
        Poll::Ready(Some(Err(error)))
    }

    /// Whether the server was silent for too long, or the whole takes too long.
    fn is_late(&mut self, cx: &mut Context<'_>) -> bool {
        let since = *self.waits_since.get_or_insert_with(Instant::now);
        let due = self.deadline.map_or(since + self.idle, |at| at.min(since + self.idle));
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(due)));
        loop {
            if sleep.as_mut().poll(cx).is_pending() {
                return false;
            }
            if Instant::now() >= due {
                return true;
            }
            sleep.as_mut().reset(due);
        }
    }
}

impl Body for Tail {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if this.conn.is_none() {
            return Poll::Ready(None);
        }
        loop {
            match Pin::new(&mut this.incoming).poll_frame(cx) {
                Poll::Pending if this.is_late(cx) => return this.fail(BodyError::TimedOut),
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => {
                    this.finish();
                    return Poll::Ready(None);
                }
                Poll::Ready(Some(Err(_))) => return this.fail(BodyError::Cut),
                Poll::Ready(Some(Ok(frame))) => {
                    this.waits_since = None;
                    if this.deadline.is_some_and(|at| Instant::now() >= at) {
                        return this.fail(BodyError::TimedOut);
                    }
                    // Trailers are dropped.
                    let Ok(data) = frame.into_data() else { continue };
                    if this.incoming.is_end_stream() {
                        this.finish();
                    }
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.conn.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
