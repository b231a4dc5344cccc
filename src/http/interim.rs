//! Interim answers (1xx) on their way to an HTTP/1.1 client: written before its answer, and only
//! before it (RFC 9110 15.2).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};

use http::{HeaderMap, StatusCode};

use super::hop;

/// The way to one client. The default leads nowhere: its protocol has no interim answers, or nobody
/// waits for any.
#[derive(Clone, Debug, Default)]
pub struct Interim(Option<Arc<Mutex<State>>>);

#[derive(Debug, Default)]
struct State {
    bytes: Vec<u8>,
    waker: Option<Waker>,
    is_over: bool,
}

impl Interim {
    /// A way to a client of HTTP/1.1.
    pub(super) fn open() -> Interim {
        Interim(Some(Arc::default()))
    }

    /// Whether one can be sent at all.
    pub fn is_open(&self) -> bool {
        self.lock().is_some_and(|state| !state.is_over)
    }

    /// Sends one on. `100 Continue` is between two hops and is not sent on; what would be more than
    /// `BYTES_MAX` is dropped.
    pub fn say(&self, status: StatusCode, headers: &HeaderMap) {
        let Some(mut state) = self.lock() else { return };
        if state.is_over || !RELAYED.contains(&status.as_u16()) {
            return;
        }
        let mut fields = headers.clone();
        hop::strip_response(&mut fields);
        hop::strip_penstock(&mut fields);
        let mut bytes = Vec::with_capacity(128);
        let phrase = status.canonical_reason().unwrap_or("Interim");
        bytes.extend_from_slice(format!("HTTP/1.1 {} {phrase}\r\n", status.as_str()).as_bytes());
        for (name, value) in fields.iter().filter(|(name, _)| *name != "content-length") {
            bytes.extend_from_slice(
                &[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat(),
            );
        }
        bytes.extend_from_slice(b"\r\n");
        if state.bytes.len() + bytes.len() <= BYTES_MAX {
            state.bytes.extend_from_slice(&bytes);
        }
        let waker = state.waker.take();
        drop(state);
        waker.into_iter().for_each(Waker::wake);
    }

    /// What is to be written; whoever says more wakes the caller.
    pub(super) fn take(&self, cx: &Context<'_>) -> Vec<u8> {
        let Some(mut state) = self.lock() else { return Vec::new() };
        if state.waker.as_ref().is_none_or(|waker| !waker.will_wake(cx.waker())) {
            state.waker = Some(cx.waker().clone());
        }
        std::mem::take(&mut state.bytes)
    }

    /// The answer begins: nothing goes before it any more.
    pub(super) fn close(&self) {
        if let Some(mut state) = self.lock() {
            state.is_over = true;
        }
    }

    fn lock(&self) -> Option<MutexGuard<'_, State>> {
        self.0.as_ref().map(|state| state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The statuses that are relayed (RFC 2518 10.1, RFC 8297).
const RELAYED: [u16; 2] = [102, 103];

/// Bytes of interim answers that wait for a client.
const BYTES_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interim_answers_go_before_the_answer_only() {
        let (interim, cx) = (Interim::open(), Context::from_waker(Waker::noop()));
        let mut fields = HeaderMap::new();
        for (name, value) in [
            ("link", "</a>; rel=preload"),
            ("connection", "x"),
            ("x", "1"),
            ("penstock-outcome", "c"),
        ] {
            fields.append(name, value.parse().expect("valid"));
        }
        interim.say(StatusCode::CONTINUE, &fields);
        interim.say(StatusCode::EARLY_HINTS, &fields);
        let said = String::from_utf8(interim.take(&cx)).expect("text");
        assert_eq!(said, "HTTP/1.1 103 Early Hints\r\nlink: </a>; rel=preload\r\n\r\n");
        interim.close();
        interim.say(StatusCode::EARLY_HINTS, &fields);
        assert!(interim.take(&cx).is_empty() && !interim.is_open());
        Interim::default().say(StatusCode::EARLY_HINTS, &fields);
    }
}
