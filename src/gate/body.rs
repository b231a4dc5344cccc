//! The body of a purchase, whole, within bounds of size, time and memory, before anything is claimed:
//! an order whose body stalls must not hold a unit.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::Body;

use super::say::Said;
use crate::http::RequestBody;
use crate::http::body::BodyError;
use crate::outcome::Reason;

/// What purchase bodies may take at once.
#[derive(Debug)]
pub struct BodyMemory {
    used: AtomicUsize,
    max: usize,
}

/// A part of it; given back when dropped.
#[derive(Debug)]
pub struct Hold {
    memory: Arc<BodyMemory>,
    bytes: usize,
}

impl BodyMemory {
    /// At most `max` bytes.
    pub fn new(max: usize) -> Arc<BodyMemory> {
        Arc::new(BodyMemory { used: AtomicUsize::new(0), max })
    }

    /// Room for `bytes`, if there is.
    pub fn hold(self: &Arc<Self>, bytes: usize) -> Option<Hold> {
        let fits = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= self.max);
        let order = Ordering::Relaxed;
        self.used.fetch_update(order, order, fits).ok()?;
        Some(Hold { memory: self.clone(), bytes })
    }
}

impl Hold {
    /// Gives back all but `bytes`.
    fn shrink(&mut self, bytes: usize) {
        let spare = self.bytes.saturating_sub(bytes);
        self.memory.used.fetch_sub(spare, Ordering::Relaxed);
        self.bytes -= spare;
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.memory.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Reads `body` whole, at most `bytes_max`, for at most `longest`.
pub async fn read_whole(
    body: RequestBody,
    bytes_max: usize,
    longest: Duration,
    memory: &Arc<BodyMemory>,
) -> Result<(Bytes, Option<Hold>), Said> {
    if body.is_end_stream() {
        return Ok((Bytes::new(), None));
    }
    let most = body.size_hint().exact().and_then(|n| usize::try_from(n).ok()).unwrap_or(bytes_max);
    if most > bytes_max {
        return Err(too_large(bytes_max));
    }
    let Some(mut hold) = memory.hold(most) else { return Err(Said::from(Reason::Overloaded)) };
    let read = collect(body, bytes_max);
    let Ok(read) = tokio::time::timeout(longest, read).await else { return Err(too_slow()) };
    let bytes = read?;
    hold.shrink(bytes.len());
    Ok((bytes, Some(hold)))
}

async fn collect(mut body: RequestBody, bytes_max: usize) -> Result<Bytes, Said> {
    let mut whole = BytesMut::new();
    loop {
        let frame = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
        let data = match frame {
            None => return Ok(whole.freeze()),
            Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
            Some(Err(BodyError::TooLarge)) => return Err(too_large(bytes_max)),
            Some(Err(BodyError::TimedOut)) => return Err(too_slow()),
            Some(Err(error @ (BodyError::Malformed | BodyError::Cut))) => {
                return Err(Said::because(Reason::BadRequest, error.to_string()));
            }
        };
        if whole.len() + data.len() > bytes_max {
            return Err(too_large(bytes_max));
        }
        whole.extend_from_slice(&data);
    }
}

/// What is said of a body over its bound.
pub fn too_large(bytes_max: usize) -> Said {
    Said::because(Reason::TooLarge, format!("the body may have {bytes_max} bytes"))
}

fn too_slow() -> Said {
    Said::because(Reason::BadRequest, "the body came too slowly")
}

#[cfg(test)]
mod tests {
    use http_body::Frame;

    use super::*;

    /// A body of chunks, then an end or silence.
    fn body(chunks: &'static [&'static str], ends: bool) -> RequestBody {
        struct Chunks(std::slice::Iter<'static, &'static str>, bool);
        impl Body for Chunks {
            type Data = Bytes;
            type Error = BodyError;
            fn poll_frame(
                mut self: Pin<&mut Self>,
                _: &mut std::task::Context<'_>,
            ) -> std::task::Poll<Option<Result<Frame<Bytes>, BodyError>>> {
                match self.0.next() {
                    Some(chunk) => std::task::Poll::Ready(Some(Ok(Frame::data((*chunk).into())))),
                    None if self.1 => std::task::Poll::Ready(None),
                    None => std::task::Poll::Pending,
                }
            }
        }
        RequestBody::Stream(Box::pin(Chunks(chunks.iter(), ends)))
    }

    async fn read(body: RequestBody, memory: &Arc<BodyMemory>) -> Result<Bytes, Reason> {
        let read = read_whole(body, 8, Duration::from_secs(10), memory).await;
        read.map(|(bytes, _)| bytes).map_err(|said| said.reason)
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_is_bounded_in_every_way() {
        let memory = BodyMemory::new(12);
        assert_eq!(read(RequestBody::Empty, &memory).await, Ok(Bytes::new()));
        assert_eq!(read(body(&["ab", "cd"], true), &memory).await, Ok("abcd".into()));
        assert_eq!(read(body(&["abcd", "efgh"], true), &memory).await, Ok("abcdefgh".into()));
        assert_eq!(read(body(&["abcd", "efghi"], true), &memory).await, Err(Reason::TooLarge));
        assert_eq!(read(body(&["abcd"], false), &memory).await, Err(Reason::BadRequest));
        assert_eq!(memory.used.load(Ordering::Relaxed), 0);
        let held = memory.hold(6).expect("room");
        assert_eq!(read(body(&["ab"], true), &memory).await, Err(Reason::Overloaded));
        drop(held);
        let bytes = read_whole(body(&["ab"], true), 8, Duration::from_secs(1), &memory).await;
        let held = bytes.expect("read");
        assert_eq!(memory.used.load(Ordering::Relaxed), 2);
        drop(held);
        assert_eq!(memory.used.load(Ordering::Relaxed), 0);
    }
}
