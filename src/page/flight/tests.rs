use std::pin::pin;
use std::task::Waker;

use http::HeaderValue;

use super::*;
use crate::page::entry::kept_headers;

/// One poll, by nobody in particular.
fn poll<F: Future>(future: F) -> Option<F::Output> {
    let mut cx = Context::from_waker(Waker::noop());
    match pin!(future).poll(&mut cx) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

/// What a body gives at once: chunks, and how it ended if it did.
fn read(body: &mut FlightBody) -> (String, Option<bool>) {
    let mut cx = Context::from_waker(Waker::noop());
    let mut text = String::new();
    loop {
        match Pin::new(&mut *body).poll_frame(&mut cx) {
            Poll::Pending => return (text, None),
            Poll::Ready(None) => return (text, Some(true)),
            Poll::Ready(Some(Err(_))) => return (text, Some(false)),
            Poll::Ready(Some(Ok(frame))) => {
                let data = frame.into_data().expect("data");
                text.push_str(std::str::from_utf8(&data).expect("text"));
            }
        }
    }
}

fn stream() -> Landing {
    Landing::Stream(Arc::new(Lead {
        status: StatusCode::OK,
        headers: HeaderMap::new(),
        length: None,
        is_stored: true,
        sharing: Sharing::All,
    }))
}

#[test]
fn everybody_reads_the_whole_body_whenever_they_come() {
    let flight = Flight::new(1 << 20);
    let early = flight.join(9).expect("room");
    assert!(poll(early.landing(&Interim::default())).is_none());
    flight.land(stream());
    assert!(matches!(poll(early.landing(&Interim::default())), Some(Landing::Stream(_))));
    let mut early = early.into_body(None);
    flight.push("a".into());
    assert_eq!(read(&mut early), ("a".into(), None));
    flight.push("b".into());
    let mut late = flight.join(9).expect("room").into_body(None);
    assert_eq!(read(&mut late), ("ab".into(), None));
    flight.end(true);
    assert_eq!(read(&mut early), ("b".into(), Some(true)));
    assert_eq!(read(&mut late), (String::new(), Some(true)));
    let mut last = flight.join(9).expect("room").into_body(None);
    assert_eq!(read(&mut last), ("ab".into(), Some(true)));
    assert_eq!(flight.body(), "ab");
}

#[test]
fn a_cut_is_told_to_all_and_the_first_word_counts() {
    let flight = Flight::new(1 << 20);
    let (one, two) = (flight.join(2).expect("room"), flight.join(2).expect("room"));
    assert!(flight.join(2).is_none());
    flight.land(Landing::Failed(Reason::BadGateway));
    flight.land(stream());
    assert!(matches!(
        poll(one.landing(&Interim::default())),
        Some(Landing::Failed(Reason::BadGateway))
    ));
    flight.push("a".into());
    flight.end(false);
    flight.end(true);
    assert_eq!(read(&mut one.into_body(None)), ("a".into(), Some(false)));
    assert_eq!(read(&mut two.into_body(None)), ("a".into(), Some(false)));
    assert!(flight.join(2).is_some(), "a seat is given back");
}

#[test]
fn what_is_not_stored_goes_at_the_pace_of_the_fastest_within_a_window() {
    let flight = Flight::new(8);
    let mut fast = flight.join(9).expect("room").into_body(None);
    let mut slow = flight.join(9).expect("room").into_body(None);
    flight.land(stream());
    flight.stop_keeping();
    let mut pushed = 0;
    for _ in 0..3 {
        while poll(flight.pace()) == Some(true) {
            flight.push(format!("{pushed:04}").into());
            pushed += 1;
            assert!(pushed < 100, "nothing holds the fill back");
        }
        let (text, end) = read(&mut fast);
        assert!(!text.is_empty() && end.is_none());
    }
    assert!(pushed >= 6);
    assert_eq!(read(&mut slow), (String::new(), Some(false)), "it fell behind the window");
    drop(slow);
    flight.end(true);
    assert_eq!(read(&mut fast).1, Some(true));
    drop(fast);
    assert_eq!(poll(flight.pace()), Some(false), "nobody is left");
}

/// Two clients of each of many bodies, of whom one reads nothing, cannot fill the memory.
#[test]
fn all_windows_together_are_bounded() {
    const BYTES_MAX: u64 = 256 * 1024;
    let held = Held::of(BYTES_MAX);
    let mut all: Vec<_> = (0..16)
        .map(|_| {
            let flight = Flight::begun(1 << 20, 0, held.clone());
            let join = || flight.join(2).expect("room").into_body(None);
            let both = (join(), join());
            flight.land(stream());
            flight.stop_keeping();
            (flight, both)
        })
        .collect();
    for _ in 0..200 {
        for (flight, (fast, _)) in &mut all {
            flight.push("x".repeat(4_096).into());
            assert_eq!(read(fast).0.len(), 4_096);
        }
        let windows = all.len() * WINDOW_BYTES_FULL;
        assert!(held.bytes() <= BYTES_MAX + windows as u64, "{}", held.bytes());
    }
    drop(all);
    assert_eq!(held.bytes(), 0);
}

#[test]
fn the_stated_length_is_told_and_counted_down() {
    let flight = Flight::new(1 << 20);
    let mut body = flight.join(9).expect("room").into_body(Some(5));
    assert_eq!(body.size_hint().exact(), Some(5));
    flight.push("abc".into());
    assert_eq!(read(&mut body).0, "abc");
    assert_eq!(body.size_hint().exact(), Some(2));
}

/// Waiters on other threads are woken, all of them, while others leave.
#[test]
fn wakers_cross_threads() {
    let flight = Flight::new(1 << 20);
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let flight = flight.clone();
            std::thread::spawn(move || {
                let runtime =
                    tokio::runtime::Builder::new_current_thread().build().expect("runtime");
                runtime.block_on(async {
                    let waiters: Vec<_> =
                        (0..500).map(|_| flight.join(9_999).expect("room")).collect();
                    for (i, waiter) in waiters.into_iter().enumerate() {
                        if i % 7 == 0 {
                            drop(waiter);
                            continue;
                        }
                        assert!(matches!(
                            waiter.landing(&Interim::default()).await,
                            Landing::Stream(_)
                        ));
                        let mut body = waiter.into_body(None);
                        let mut length = 0;
                        while let Some(frame) =
                            poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await
                        {
                            length += frame.expect("whole").into_data().expect("data").len();
                        }
                        assert_eq!(length, 100 * 10);
                    }
                });
            })
        })
        .collect();
    flight.land(stream());
    for _ in 0..100 {
        flight.push("0123456789".into());
        std::thread::yield_now();
    }
    flight.end(true);
    threads.into_iter().for_each(|t| t.join().expect("no panic"));
}

#[test]
fn what_is_stored_keeps_no_larger_buffer_alive() {
    let flight = Flight::new(1_000);
    let buffer = Bytes::from(vec![b'a'; 64_000]);
    flight.push(buffer.slice(..10));
    assert_eq!(flight.body(), "aaaaaaaaaa");
    assert_ne!(flight.body().as_ptr(), buffer.as_ptr());
    let mut shops = HeaderMap::new();
    let value = HeaderValue::from_maybe_shared(buffer.slice(..4)).expect("valid");
    shops.insert(http::header::ETAG, value.clone());
    let kept = kept_headers(&shops, "accept-encoding", crate::clock::UnixMs(0));
    assert_eq!(kept["etag"], value);
    assert_ne!(kept["etag"].as_bytes().as_ptr(), buffer.as_ptr());
}
