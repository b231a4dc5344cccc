//! What the service left of a request's body.
//!
//! A server may answer before it has the whole request, and then reset the stream with NO_ERROR (RFC
//! 9113 section 8.1). Clients in use take that for a failure and never show the answer, so a response
//! ends after its request did, within the bounds of a drain.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http::header::EXPECT;
use http_body::Body;
use hyper::body::Incoming;
use tokio::time::{Sleep, sleep};

use crate::http::Limits;

/// A body that whoever reads it shares with who reads what is left.
pub(super) type Shared = Rc<RefCell<Incoming>>;

/// What is left of a request's body, once the response has ended.
pub(super) struct Unread {
    body: Shared,
    bytes_left: usize,
    /// While the client is waited for.
    late: Option<Pin<Box<Sleep>>>,
    limits: Rc<Limits>,
}

impl Unread {
    /// Nothing for a body that is whole, for one that will not come, and for one above the bound.
    pub fn new(fields: &HeaderMap, body: &Shared, limits: &Rc<Limits>) -> Option<Unread> {
        let bytes_left = limits.drain_bytes_max;
        let (is_whole, bytes) = {
            let body = body.borrow();
            (body.is_end_stream(), body.size_hint().lower())
        };
        if is_whole || fields.contains_key(EXPECT) || bytes > bytes_left as u64 {
            return None;
        }
        Some(Unread { body: body.clone(), bytes_left, late: None, limits: limits.clone() })
    }

    /// Ready at the body's end, or at the end of patience.
    pub fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // Somebody still reads it, and goes on doing so.
        if Rc::strong_count(&self.body) > 1 {
            return Poll::Ready(());
        }
        let mut body = self.body.borrow_mut();
        while let Poll::Ready(item) = Pin::new(&mut *body).poll_frame(cx) {
            let Some(Ok(frame)) = item else { return Poll::Ready(()) };
            let bytes = frame.data_ref().map_or(0, Bytes::len);
            match self.bytes_left.checked_sub(bytes) {
                Some(left) => self.bytes_left = left,
                None => return Poll::Ready(()),
            }
        }
        let patience = self.limits.drain_timeout;
        self.late.get_or_insert_with(|| Box::pin(sleep(patience))).as_mut().poll(cx)
    }
}
