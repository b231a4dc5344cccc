//! An answer to POST that is what GET would bring: it says so by a `Content-Location` that is its own
//! URL, and how long it is good for (RFC 9110 9.3.3). Kept while it passes by.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body::{Body, Frame, SizeHint};

use super::cache::Filling;
use super::entry::Source;
use super::policy::judge::Windows;
use super::policy::tags::Tags;
use super::record::{Record, What};
use crate::clock::MonoMs;
use crate::http::ResponseBody;
use crate::http::body::BodyError;
use crate::metrics::Sink;

/// What becomes of the body once it is whole.
pub(super) struct Keeper {
    /// The right to store.
    pub filling: Filling,
    /// For how long it may be used.
    pub windows: Windows,
    /// The fields that are stored.
    pub headers: HeaderMap,
    /// What the shop calls it by in purges.
    pub tags: Tags,
    /// When its head came.
    pub came: MonoMs,
    /// Where it counts.
    pub sink: Sink,
}

impl Keeper {
    /// Keeps a piece of the body, among what fills under way keep. Says whether there was room.
    fn push(&self, taken: usize, chunk: &Bytes) -> bool {
        let cache = self.filling.cache();
        let has_room = taken <= cache.entry_bytes_max() && cache.has_room();
        if has_room {
            self.filling.flight().push(chunk.clone());
        }
        has_room
    }

    fn store(self) {
        let (status, body) = (StatusCode::OK, self.filling.flight().body());
        let source =
            Source { status, headers: self.headers, body, is_faithful: true, tags: self.tags };
        let page = What::Page(Box::new(source.into_entry(usize::MAX)));
        let record = Record::new(self.filling.key(), page, self.windows, self.came);
        self.filling.store(record, &self.sink);
    }
}

/// A body that is kept while it passes by.
pub(super) struct Passing {
    body: ResponseBody,
    /// Bytes that have come.
    taken: usize,
    /// Until it is whole, or is not to be kept after all.
    keeper: Option<Keeper>,
}

impl Passing {
    pub(super) fn new(body: ResponseBody, keeper: Keeper) -> Passing {
        Passing { body, taken: 0, keeper: Some(keeper) }
    }
}

impl Body for Passing {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let item = ready!(Pin::new(&mut this.body).poll_frame(cx));
        match &item {
            Some(Ok(frame)) => {
                if let (Some(data), Some(keeper)) = (frame.data_ref(), &this.keeper) {
                    this.taken += data.len();
                    if !keeper.push(this.taken, data) {
                        this.keeper = None;
                    }
                }
            }
            Some(Err(_)) => this.keeper = None,
            None => {}
        }
        // hyper does not ask for the end of a body that says it has come to it.
        let is_whole = item.is_none() || this.body.is_end_stream();
        if let Some(keeper) = this.keeper.take_if(|_| is_whole) {
            keeper.store();
        }
        Poll::Ready(item)
    }

    fn is_end_stream(&self) -> bool {
        // The end is to be seen.
        self.keeper.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
