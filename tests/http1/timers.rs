//! Every timer of a connection, on a clock that jumps from one to the next.

use std::time::Duration;

use penstock::outcome::CloseReason;
use tokio::time::{Instant, sleep};

use crate::client::get;
use crate::rig::run_paused;

const PIPE: usize = 1 << 16;

#[test]
fn no_first_byte() {
    run_paused(|rig| async move {
        let begun = Instant::now();
        assert_eq!(rig.pipe(PIPE).closed().await, CloseReason::FirstByteTimeout);
        assert_eq!(begun.elapsed().as_secs(), 5);
    });
}

#[test]
fn an_incomplete_head() {
    run_paused(|rig| async move {
        for prelude in ["", "/hot"] {
            let mut client = rig.pipe(PIPE);
            if !prelude.is_empty() {
                client.get(prelude).await;
                sleep(Duration::from_secs(20)).await;
            }
            let begun = Instant::now();
            // A byte now and then does not help.
            for byte in "GET / ".chars() {
                client.send(byte.to_string());
                sleep(Duration::from_millis(700)).await;
            }
            let response = client.response().await;
            assert_eq!((response.status, response.closes()), (408, true));
            assert_eq!(client.closed().await, CloseReason::HeadTimeout);
            assert_eq!(begun.elapsed().as_secs(), 5);
        }
    });
}

#[test]
fn keep_alive_is_counted_from_the_last_answer() {
    run_paused(|rig| async move {
        let mut client = rig.pipe(PIPE);
        for _ in 0..4 {
            client.lives().await;
            sleep(Duration::from_secs(70)).await;
        }
        client.lives().await;
        let begun = Instant::now();
        assert_eq!(client.closed().await, CloseReason::IdleTimeout);
        assert_eq!(begun.elapsed().as_secs(), 75);
    });
}

#[test]
fn a_silent_body_that_a_handler_waits_for() {
    run_paused(|rig| async move {
        let mut client = rig.pipe(PIPE);
        client.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\n");
        for _ in 0..3 {
            sleep(Duration::from_secs(50)).await;
            client.send("x");
        }
        let begun = Instant::now();
        let response = client.response().await;
        assert_eq!((response.status, response.closes()), (408, true));
        assert_eq!(begun.elapsed().as_secs(), 60);
        assert_eq!(client.closed().await, CloseReason::BodyTimeout);
    });
}

#[test]
fn a_handler_may_take_its_time() {
    run_paused(|rig| async move {
        let mut client = rig.pipe(PIPE);
        client.send(get("/slow"));
        sleep(Duration::from_secs(1000)).await;
        rig.script.go.notify_one();
        assert_eq!(client.response().await.text(), "slow");
        client.lives().await;
    });
}

#[test]
fn a_client_that_takes_nothing() {
    run_paused(|rig| async move {
        for path in ["/hot-large", "/big", "/big-chunked"] {
            let begun = Instant::now();
            let client = rig.pipe(1000);
            client.send(get(path));
            assert_eq!(client.ended().await, CloseReason::WriteTimeout, "{path}");
            assert_eq!(begun.elapsed().as_secs(), 10);
        }
    });
}

#[test]
fn a_client_that_takes_little_is_not_cut() {
    run_paused(|rig| async move {
        for path in ["/hot-large", "/big-chunked"] {
            let mut client = rig.pipe(PIPE);
            client.send(get(path));
            client.head().await;
            for _ in 0..4 {
                sleep(Duration::from_secs(9)).await;
                client.take(PIPE).await;
            }
        }
    });
}

#[test]
fn an_old_connection_closes_behind_a_response_or_when_idle() {
    run_paused(|mut rig| async move {
        rig.limits.connection_age_max = Duration::from_secs(100);
        for path in ["/hot", "/cold"] {
            let mut client = rig.pipe(PIPE);
            assert!(!client.get(path).await.closes());
            client.send(get("/slow"));
            sleep(Duration::from_secs(89)).await;
            rig.script.go.notify_one();
            assert!(!client.response().await.closes(), "10 % below its age");
            client.send("GET ");
            sleep(Duration::from_secs(4)).await;
            client.send(format!("{path} HTTP/1.1\r\nHost: a\r\n\r\n"));
            if client.response().await.closes() {
                assert_eq!(client.closed().await, CloseReason::MaxAge);
                continue;
            }
            let begun = Instant::now();
            assert_eq!(client.closed().await, CloseReason::MaxAge);
            assert!(begun.elapsed().as_secs() <= 17);
        }
    });
}

#[test]
fn the_age_is_said_with_the_response() {
    run_paused(|mut rig| async move {
        rig.limits.connection_age_max = Duration::from_secs(10);
        for path in ["/hot", "/cold"] {
            let mut client = rig.pipe(PIPE);
            client.send(get("/slow") + &get(path));
            sleep(Duration::from_secs(12)).await;
            rig.script.go.notify_one();
            let response = client.response().await;
            assert_eq!((response.text(), response.closes()), ("slow", true));
            assert_eq!(client.closed().await, CloseReason::MaxAge);
        }
        let mut client = rig.pipe(PIPE);
        client.get("/hot").await;
        let drip = rig.script.drip();
        client.send(get("/drip") + &get("/hot"));
        sleep(Duration::from_secs(12)).await;
        drop(drip);
        assert_eq!(client.response().await.status, 200);
        assert!(client.response().await.closes(), "the response after the age");
        client.closed().await;
    });
}

#[test]
fn a_client_that_does_not_close_is_not_waited_for_long() {
    run_paused(|rig| async move {
        let client = rig.pipe(PIPE);
        client.send("nonsense\r\n\r\n");
        let begun = Instant::now();
        assert_eq!(client.ended().await, CloseReason::Malformed);
        assert_eq!(begun.elapsed().as_millis(), 250);
    });
}
