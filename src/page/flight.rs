//! Request coalescing: one fill, and everybody who waits for it.
//!
//! A [`Flight`] is shared by all workers. The fill pushes the body into it chunk by chunk; waiters
//! stream from it, each at its own pace, from the beginning. While the page will be stored, nothing
//! waits for anybody. If it turns out that it will not be (too large, or uncacheable), only a window of
//! the body is kept: the fill then goes at the pace of the fastest waiter, and one that falls behind
//! the window is cut, so that memory is bounded and nobody delays another.

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body::{Body, Frame, SizeHint};

use super::policy::tags::Tags;
use super::record::Record;
use super::select::Said;
use crate::http::Interim;
use crate::http::body::BodyError;
use crate::outcome::Reason;

/// One fill and its waiters.
#[derive(Debug)]
pub struct Flight {
    state: Mutex<State>,
    /// Bytes of the body that are kept once it will not be stored.
    window_bytes: usize,
    /// The newest purge when it began.
    born: u64,
    /// The tags of the answer, once its head is there.
    tags: OnceLock<Tags>,
    /// What all fills under way keep of their bodies.
    held: Arc<Held>,
}

/// Bytes that all fills under way keep of their bodies, and how many that may be.
#[derive(Debug)]
pub struct Held {
    bytes: AtomicU64,
    bytes_max: u64,
}

#[derive(Debug)]
struct State {
    landing: Option<Landing>,
    /// Interim answers that came before it.
    interims: Vec<(StatusCode, HeaderMap)>,
    /// The body from chunk number `first` on.
    chunks: VecDeque<Bytes>,
    first: usize,
    kept_bytes: usize,
    end: Option<End>,
    /// All chunks are kept, for the cache.
    is_kept: bool,
    seats: HashMap<u64, Seat>,
    next_seat: u64,
    /// The fill, waiting for the fastest waiter.
    filler: Option<Waker>,
}

#[derive(Debug, Default)]
struct Seat {
    /// Number of the chunk that it takes next.
    next: usize,
    waker: Option<Waker>,
}

/// How a fill came down: what every waiter is told.
#[derive(Clone, Debug)]
pub enum Landing {
    /// The head of the shop's answer; the body follows.
    Stream(Arc<Lead>),
    /// What is stored: renewed by a 304, or stale instead of an error.
    Record(Arc<Record>),
    /// No answer.
    Failed(Reason),
}

/// The head of the shop's answer, as clients get it.
#[derive(Debug)]
pub struct Lead {
    /// The status.
    pub status: StatusCode,
    /// The fields that are relayed.
    pub headers: HeaderMap,
    /// Length of the body, if it was stated.
    pub length: Option<u64>,
    /// Whether it will be stored, as far as the head says.
    pub is_stored: bool,
    /// Whom else than the client it was fetched for it may be shown to.
    pub sharing: Sharing,
}

/// Whom the answer of a fill is for.
#[derive(Debug)]
pub enum Sharing {
    /// For all who wait: the fill carried nothing of any client.
    All,
    /// For those who say the same in these fields.
    Those(Said, Vec<Box<str>>),
    /// For the client it was fetched for. The others ask for themselves, side by side.
    One,
    /// For the client it was fetched for. The shop is failing: the others are told so.
    OneOfMany,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Whole,
    Cut,
}

impl Flight {
    /// A fill that has just begun.
    pub fn new(window_bytes: usize) -> Arc<Flight> {
        Flight::begun(window_bytes, 0, Held::of(u64::MAX))
    }

    /// A fill that began when `born` was the newest purge, one of those that keep `held` bytes.
    pub fn begun(window_bytes: usize, born: u64, held: Arc<Held>) -> Arc<Flight> {
        Arc::new(Flight {
            state: Mutex::new(State {
                landing: None,
                interims: Vec::new(),
                chunks: VecDeque::new(),
                first: 0,
                kept_bytes: 0,
                end: None,
                is_kept: true,
                seats: HashMap::new(),
                next_seat: 0,
                filler: None,
            }),
            window_bytes,
            born,
            tags: OnceLock::new(),
            held,
        })
    }

    /// The newest purge when it began.
    pub fn born(&self) -> u64 {
        self.born
    }

    /// The answer has these tags.
    pub fn tag(&self, tags: Tags) {
        let _ = self.tags.set(tags);
    }

    /// The tags of the answer, once they are known.
    pub fn tags(&self) -> Option<&[Box<str>]> {
        self.tags.get().map(|tags| &**tags)
    }

    /// A place among those who wait, unless there are `waiters_max`.
    pub fn join(self: &Arc<Self>, waiters_max: usize) -> Option<Waiter> {
        let mut state = self.lock();
        if state.seats.len() >= waiters_max {
            return None;
        }
        let seat = state.next_seat;
        state.next_seat += 1;
        state.seats.insert(seat, Seat::default());
        drop(state);
        Some(Waiter { flight: self.clone(), seat })
    }

    /// Tells everybody how the fill came down. Only the first word counts.
    pub fn land(&self, landing: Landing) {
        let mut state = self.lock();
        state.landing.get_or_insert(landing);
        wake_all(state);
    }

    /// Tells those who wait of an interim answer, which is never stored.
    pub fn interim(&self, status: StatusCode, headers: &HeaderMap) {
        let mut state = self.lock();
        if state.landing.is_none() && state.interims.len() < INTERIMS_MAX {
            state.interims.push((status, headers.clone()));
            wake_all(state);
        }
    }

    /// Whether [`Flight::land`] was called.
    pub fn has_landed(&self) -> bool {
        self.lock().landing.is_some()
    }

    /// Adds a chunk of the body.
    pub fn push(&self, chunk: Bytes) {
        if chunk.is_empty() {
            return;
        }
        let mut state = self.lock();
        state.kept_bytes += chunk.len();
        self.held.bytes.fetch_add(chunk.len() as u64, Ordering::Relaxed);
        state.chunks.push_back(chunk);
        // What is not stored may be far behind its fastest reader only while there is room for that.
        let trimmed = state.trim(match self.held.has_room() {
            true => self.window_bytes,
            false => self.window_bytes.min(WINDOW_BYTES_FULL),
        });
        self.held.bytes.fetch_sub(trimmed, Ordering::Relaxed);
        wake_all(state);
    }

    /// The body will not be stored: from now on only a window of it is kept.
    pub fn stop_keeping(&self) {
        self.lock().is_kept = false;
    }

    /// Waits until the fastest waiter has nearly caught up. Says whether anybody is still there.
    pub async fn pace(&self) -> bool {
        poll_fn(|cx| {
            let mut state = self.lock();
            let Some(fastest) = state.seats.values().map(|s| s.next).max() else {
                return Poll::Ready(false);
            };
            if state.first + state.chunks.len() <= fastest + READ_AHEAD_CHUNKS {
                return Poll::Ready(true);
            }
            state.filler = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// The body so far, where all of it is kept. Always a copy: a chunk is a piece of a larger buffer,
    /// which it would keep in memory as long as the page is stored.
    pub fn body(&self) -> Bytes {
        let state = self.lock();
        let mut body = Vec::with_capacity(state.kept_bytes);
        state.chunks.iter().for_each(|chunk| body.extend_from_slice(chunk));
        body.into()
    }

    /// No chunk follows; `is_whole` says whether the body is complete.
    pub fn end(&self, is_whole: bool) {
        let mut state = self.lock();
        state.end.get_or_insert(if is_whole { End::Whole } else { End::Cut });
        wake_all(state);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    /// Nothing yet, of at most `bytes_max`.
    pub fn of(bytes_max: u64) -> Arc<Held> {
        Arc::new(Held { bytes: AtomicU64::new(0), bytes_max })
    }

    /// How many there are.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// How many there may be.
    pub fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    /// Whether there may be more.
    pub fn has_room(&self) -> bool {
        self.bytes() <= self.bytes_max
    }
}

impl State {
    /// Drops what everybody has, and of what the fastest has all that exceeds the window.
    /// Says how many bytes that were.
    fn trim(&mut self, window_bytes: usize) -> u64 {
        if self.is_kept {
            return 0;
        }
        let before = self.kept_bytes;
        let (mut slowest, mut fastest) = (usize::MAX, 0);
        for seat in self.seats.values() {
            slowest = slowest.min(seat.next);
            fastest = fastest.max(seat.next);
        }
        while self.first < slowest || self.kept_bytes > window_bytes && self.first < fastest {
            let Some(chunk) = self.chunks.pop_front() else { break };
            self.kept_bytes -= chunk.len();
            self.first += 1;
        }
        (before - self.kept_bytes) as u64
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.held.bytes.fetch_sub(state.kept_bytes as u64, Ordering::Relaxed);
    }
}

/// Wakes every waiter, outside the lock: they may run on other threads at once.
fn wake_all(mut state: MutexGuard<'_, State>) {
    let wakers: Vec<_> = state.seats.values_mut().filter_map(|s| s.waker.take()).collect();
    drop(state);
    wakers.into_iter().for_each(Waker::wake);
}

/// One who waits for a fill, on any worker. Leaving is dropping it; the fill goes on.
#[derive(Debug)]
pub struct Waiter {
    flight: Arc<Flight>,
    seat: u64,
}

impl Waiter {
    /// How the fill came down. Interim answers until then go to `interim`.
    pub async fn landing(&self, interim: &Interim) -> Landing {
        let mut told = 0;
        poll_fn(|cx| {
            let mut state = self.flight.lock();
            for (status, headers) in &state.interims[told..] {
                interim.say(*status, headers);
            }
            told = state.interims.len();
            if let Some(landing) = &state.landing {
                return Poll::Ready(landing.clone());
            }
            if let Some(seat) = state.seats.get_mut(&self.seat) {
                seat.waker = Some(cx.waker().clone());
            }
            Poll::Pending
        })
        .await
    }

    /// The body, as it comes. `length` is what the head states.
    pub fn into_body(self, length: Option<u64>) -> FlightBody {
        FlightBody { waiter: self, left: length }
    }

    fn poll_chunk(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        let mut state = self.flight.lock();
        let (first, end) = (state.first, state.end);
        let Some(next) = state.seats.get(&self.seat).map(|s| s.next) else {
            return Poll::Ready(None);
        };
        let Some(at) = next.checked_sub(first) else {
            // It fell behind the window.
            return Poll::Ready(Some(Err(BodyError::Cut)));
        };
        let chunk = state.chunks.get(at).cloned();
        let Some(seat) = state.seats.get_mut(&self.seat) else { return Poll::Ready(None) };
        match (chunk, end) {
            (Some(chunk), _) => {
                seat.next += 1;
                let filler = state.filler.take();
                drop(state);
                filler.into_iter().for_each(Waker::wake);
                Poll::Ready(Some(Ok(chunk)))
            }
            (None, Some(End::Whole)) => Poll::Ready(None),
            (None, Some(End::Cut)) => Poll::Ready(Some(Err(BodyError::Cut))),
            (None, None) => {
                seat.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut state = self.flight.lock();
        state.seats.remove(&self.seat);
        let filler = state.filler.take();
        drop(state);
        filler.into_iter().for_each(Waker::wake);
    }
}

/// The body of a fill, for one waiter.
#[derive(Debug)]
pub struct FlightBody {
    waiter: Waiter,
    left: Option<u64>,
}

impl Body for FlightBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        this.waiter.poll_chunk(cx).map(|item| {
            item.map(|chunk| {
                chunk.map(|chunk| {
                    this.left = this.left.map(|l| l.saturating_sub(chunk.len() as u64));
                    Frame::data(chunk)
                })
            })
        })
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// Interim answers of one fill that are relayed.
const INTERIMS_MAX: usize = 8;

/// The window of a body that is not stored, where fills under way keep as much as they may.
const WINDOW_BYTES_FULL: usize = 64 * 1024;

/// Once a body is not stored, the fill reads so many chunks ahead of the fastest waiter.
const READ_AHEAD_CHUNKS: usize = 2;

#[cfg(test)]
mod tests;
