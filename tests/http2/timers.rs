//! What ends a connection on which nothing goes on: row D11, stalls, age and drain.

use std::time::Duration;

use penstock::metrics::Counter;
use penstock::outcome::CloseReason;
use tokio::time::Instant;

use super::client::*;
use super::rig::{Rig, run, settle};

/// Sends `sent`, waits for the end, and says why it came and after how many seconds.
async fn silence(rig: &Rig, greets: bool, sent: &[u8]) -> (CloseReason, u64) {
    let mut client = rig.pipe(64 * 1024);
    let begun = Instant::now();
    if greets {
        client.greet(&[]).await;
    }
    client.send(sent).await;
    client.rest().await;
    let took = begun.elapsed().as_secs();
    (client.reason().await, took)
}

#[test]
fn silence_has_an_end() {
    run(async |rig| {
        assert_eq!(silence(&rig, false, b"").await, (CloseReason::FirstByteTimeout, 5));
        assert_eq!(silence(&rig, false, &PREFACE[..9]).await, (CloseReason::HeadTimeout, 10));
        assert_eq!(silence(&rig, false, PREFACE).await, (CloseReason::HeadTimeout, 10));
        let half = frame(HEADERS, ES, 1, &block(&GET));
        assert_eq!(silence(&rig, true, &half).await, (CloseReason::HeadTimeout, 5));
        assert_eq!(silence(&rig, true, &half[..5]).await, (CloseReason::HeadTimeout, 5));
        // It is told to go, and given a moment for that.
        assert_eq!(silence(&rig, true, b"").await, (CloseReason::IdleTimeout, 76));
    });
}

#[test]
fn a_request_body_that_does_not_come_is_given_up() {
    run(async |rig| {
        let mut client = rig.greeted().await;
        let begun = Instant::now();
        client.send(frame(HEADERS, EH, 1, &block(&POST))).await;
        client.send(frame(DATA, 0, 1, b"abc")).await;
        assert_eq!(client.response(1).await.text(), "body timed out");
        assert_eq!(begun.elapsed().as_secs(), 60);
    });
}

#[test]
fn a_response_that_nobody_takes_is_given_up_alone() {
    run(async |rig| {
        let mut client = rig.pipe(256 * 1024);
        // Windows of nothing: even the smallest response has to wait.
        client.greet(&[&4u16.to_be_bytes()[..], &0u32.to_be_bytes()].concat()).await;
        let begun = Instant::now();
        client.send([get(1, "/big"), get(3, "/"), get(5, "/wait")].concat()).await;
        let mut reset = Vec::new();
        while reset.len() < 2 {
            let came = client.next().await.expect("a frame");
            if came.kind == RST_STREAM {
                reset.push((came.stream, came.code()));
            }
        }
        reset.sort_unstable();
        assert_eq!(reset, [(1, 8), (3, 8)]);
        assert_eq!(begun.elapsed().as_secs(), 10);
        settle().await;
        assert_eq!(rig.counted(Counter::Http2Stalled), 2);
        // The other request, and those to come, are served.
        rig.told.go.notify_waiters();
        client.send(frame(WINDOW_UPDATE, 0, 5, &1000u32.to_be_bytes())).await;
        assert_eq!(client.response(5).await.text(), "went on");
        client.send(get(7, "/")).await;
        client.send(frame(WINDOW_UPDATE, 0, 7, &1000u32.to_be_bytes())).await;
        assert_eq!(client.response(7).await.status, 200);
        assert_eq!(client.close().await, CloseReason::ClientClosed);
    });
}

#[test]
fn a_byte_now_and_then_does_not_keep_a_response() {
    run(async |rig| {
        let mut client = rig.pipe(256 * 1024);
        client.greet(&[&4u16.to_be_bytes()[..], &0u32.to_be_bytes()].concat()).await;
        client.send(get(1, "/big")).await;
        let begun = Instant::now();
        let reset = loop {
            client.send(frame(WINDOW_UPDATE, 0, 1, &1u32.to_be_bytes())).await;
            let came = tokio::time::timeout(Duration::from_secs(1), client.next()).await;
            if let Ok(Some(came)) = came
                && came.kind == RST_STREAM
            {
                break came;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
            assert!(begun.elapsed() < Duration::from_secs(60), "it goes on and on");
        };
        assert_eq!((reset.stream, reset.code()), (1, 8));
    });
}

#[test]
fn a_client_that_reads_nothing_is_cut() {
    run(async |rig| {
        let mut client = rig.pipe(8 * 1024);
        client.greet(&[&4u16.to_be_bytes()[..], &(1u32 << 30).to_be_bytes()].concat()).await;
        client.send(frame(WINDOW_UPDATE, 0, 0, &(1u32 << 30).to_be_bytes())).await;
        client.send(get(1, "/big")).await;
        let begun = Instant::now();
        tokio::time::sleep(Duration::from_secs(9)).await;
        assert_eq!(rig.told.done.borrow().len(), 0);
        tokio::time::sleep(Duration::from_secs(3)).await;
        let done = rig.told.done.borrow().first().cloned().expect("it is over");
        assert!(!done.complete && begun.elapsed().as_secs() == 12);
        assert_eq!(client.reason().await, CloseReason::WriteTimeout);
    });
}

#[test]
fn a_drain_lets_requests_end() {
    run(async |rig| {
        let mut client = rig.greeted().await;
        client.send(get(1, "/wait")).await;
        settle().await;
        rig.drainer.begin();
        let came = client.next().await.expect("a frame");
        assert_eq!((came.kind, came.code()), (GOAWAY, 0));
        // What crossed the goodbye on its way is served.
        client.send(get(3, "/")).await;
        loop {
            let came = client.next().await.expect("a frame");
            match came.kind {
                PING if came.flags & ACK == 0 => {
                    client.send(frame(PING, ACK, 0, &came.content)).await
                }
                DATA if came.stream == 3 => break,
                _ => {}
            }
        }
        settle().await;
        rig.told.go.notify_waiters();
        let rest = client.rest().await;
        assert!(rest.iter().any(|came| came.stream == 1 && came.ends()), "{rest:?}");
        assert_eq!(client.reason().await, CloseReason::Drain);
    });
}

#[test]
fn a_drain_ends_idle_connections() {
    run(async |rig| {
        let mut client = rig.greeted().await;
        rig.drainer.begin();
        assert_eq!(client.goodbye().await, Some(0));
        assert_eq!(client.reason().await, CloseReason::Drain);
    });
}

#[test]
fn a_connection_has_an_age() {
    run(async |mut rig: Rig| {
        rig.limits.connection_age_max = Duration::from_secs(20);
        let mut client = rig.greeted().await;
        let begun = Instant::now();
        assert_eq!(client.goodbye().await, Some(0));
        let age = begun.elapsed().as_secs();
        assert!((18..=24).contains(&age), "{age}");
        assert_eq!(client.reason().await, CloseReason::MaxAge);
    });
}
