//! Request bodies: read, unread, expected, broken.

use std::time::Duration;

use penstock::metrics::Counter;
use penstock::outcome::CloseReason;

use tokio::time::{Instant, sleep};

use crate::client::{get, post, post_chunked};
use crate::rig::{run, run_paused, until};

const EXPECT: &str = "HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n";

#[test]
fn uploads_of_ten_megabytes() {
    run(|rig| async move {
        let body = "0123456789abcdef".repeat(10 << 16);
        let chunks: Vec<&str> = (0..160).map(|i| &body[i << 16..(i + 1) << 16]).collect();
        for request in [post("/echo", &body), post_chunked("/echo", &chunks)] {
            let mut client = rig.tcp().await;
            client.send(request + &get("/hot") + &get("/cold"));
            assert!(client.response().await.body == body.as_bytes(), "the body came back changed");
            assert_eq!(client.response().await.text(), "hot");
            assert_eq!(client.response().await.text(), "cold");
            client.lives().await;
        }
    });
}

#[test]
fn chunks_with_trailers_cut_at_every_byte() {
    run(|rig| async move {
        let mut client = rig.pipe(1);
        let mut request = post_chunked("/echo", &["one", "two", "three"]);
        request.truncate(request.len() - 2);
        client.send(request + "X-Trailer: dropped\r\nHost: evil\r\n\r\n");
        assert_eq!(client.response().await.text(), "onetwothree");
        client.lives().await;
    });
}

#[test]
fn an_accepted_expectation_gets_its_continue() {
    run(|rig| async move {
        let mut client = rig.tcp().await;
        client.send(format!("POST /echo {EXPECT}"));
        assert_eq!(client.response().await.status, 100);
        client.send("body");
        assert_eq!(client.response().await.text(), "body");
        client.lives().await;
        // The body was sent without waiting.
        client.send(format!("POST /echo {EXPECT}body"));
        let mut response = client.response().await;
        if response.status == 100 {
            response = client.response().await;
        }
        assert_eq!(response.text(), "body");
        client.lives().await;
    });
}

#[test]
fn a_refused_expectation_gets_no_continue_and_a_close() {
    run(|rig| async move {
        for (path, status) in [("/ignore", 413), ("/deny", 429)] {
            let mut client = rig.tcp().await;
            client.send(format!("POST {path} {EXPECT}"));
            let response = client.response().await;
            assert_eq!((response.status, response.closes()), (status, true));
            assert_eq!(client.closed().await, CloseReason::UndrainedBody);
        }
        // Where the body came along there is nothing to be unsure about.
        let mut client = rig.tcp().await;
        client.send(format!("POST /deny {EXPECT}body"));
        assert_eq!(client.response().await.status, 429);
        client.lives().await;
    });
}

#[test]
fn an_unknown_expectation_is_refused() {
    run(|rig| async move {
        let mut client = rig.tcp().await;
        client.send("POST /echo HTTP/1.1\r\nHost: a\r\nExpect: magic\r\nContent-Length: 1\r\n\r\n");
        assert_eq!(client.response().await.status, 417);
        assert_eq!(client.closed().await, CloseReason::Malformed);
    });
}

#[test]
fn the_rest_after_an_early_answer_is_drained() {
    run(|rig| async move {
        let inner = get("/second").repeat(10);
        for path in ["/deny", "/ignore"] {
            for request in [post(path, &inner), post_chunked(path, &[&inner, &inner])] {
                for cut in [request.len(), request.len() - 1, request.len() / 2] {
                    let mut client = rig.tcp().await;
                    client.send(&request[..cut]);
                    let response = client.response().await;
                    assert!(matches!(response.status, 413 | 429) && !response.closes());
                    client.send(&request[cut..]);
                    client.lives().await;
                }
            }
        }
        assert!(!rig.script.saw("/second"), "a body was executed");
    });
}

#[test]
fn a_body_too_large_to_drain_closes_and_says_so() {
    run(|rig| async move {
        let body = "x".repeat(10 << 20);
        for path in ["/deny", "/ignore"] {
            let mut client = rig.tcp().await;
            client.send(post(path, &body));
            let response = client.response().await;
            assert!(matches!(response.status, 413 | 429) && response.closes(), "{response:?}");
            assert_eq!(client.closed().await, CloseReason::UndrainedBody);
        }
    });
}

#[test]
fn a_chunked_body_too_large_to_drain_closes() {
    run(|rig| async move {
        let body = "x".repeat(1 << 20);
        for path in ["/deny", "/ignore"] {
            let mut client = rig.tcp().await;
            client.send(post_chunked(path, &[&body]));
            assert!(matches!(client.response().await.status, 413 | 429));
            assert_eq!(client.closed().await, CloseReason::UndrainedBody);
        }
    });
}

#[test]
fn a_rest_that_never_comes_ends_the_connection() {
    run_paused(|rig| async move {
        for path in ["/deny", "/ignore"] {
            let mut client = rig.pipe(1 << 16);
            client
                .send(format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf"));
            assert!(matches!(client.response().await.status, 413 | 429));
            assert_eq!(client.closed().await, CloseReason::UndrainedBody);
        }
    });
}

#[test]
fn a_rest_that_drips_is_waited_for_once() {
    run_paused(|rig| async move {
        for path in ["/deny", "/ignore"] {
            let mut client = rig.pipe(1 << 16);
            client.send(format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 99\r\n\r\n"));
            assert!(!client.response().await.closes());
            let begun = Instant::now();
            for _ in 0..10 {
                client.send("x");
                sleep(Duration::from_millis(100)).await;
            }
            assert_eq!(client.closed().await, CloseReason::UndrainedBody);
            assert!(begun.elapsed() >= Duration::from_millis(250));
        }
    });
}

#[test]
fn an_expectation_in_http_1_0_is_not_heard() {
    run(|rig| async move {
        for path in ["/echo", "/deny"] {
            let mut client = rig.tcp().await;
            client.send(format!(
                "POST {path} HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\nbody"
            ));
            let response = client.response().await;
            assert!(matches!(response.status, 200 | 429) && response.closes(), "{response:?}");
            assert_eq!(client.closed().await, CloseReason::RequestClose);
        }
    });
}

#[test]
fn a_rest_that_is_malformed_ends_the_connection() {
    run(|rig| async move {
        for path in ["/deny", "/ignore"] {
            let before = rig.counted(Counter::Malformed);
            let mut client = rig.tcp().await;
            let head =
                format!("POST {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
            client.send(head + "3\r\nabc\r\n");
            assert!(matches!(client.response().await.status, 413 | 429));
            client.send("0;x\r\n\r\n".to_owned() + &get("/second"));
            assert_eq!(client.closed().await, CloseReason::Malformed);
            assert!(!rig.script.saw("/second"));
            assert_eq!(rig.counted(Counter::Malformed), before + 1);
        }
    });
}

#[test]
fn a_handler_that_gave_the_body_up_early_may_answer_late() {
    run(|rig| async move {
        for request in
            [post("/slow-ignore", "body"), post_chunked("/slow-ignore", &["bo", "dy", "!"])]
        {
            let mut client = rig.tcp().await;
            let begun = rig.script.begun.get();
            client.send(request + &get("/hot"));
            until(|| rig.script.begun.get() > begun).await;
            rig.script.go.notify_one();
            let response = client.response().await;
            assert_eq!((response.text(), response.closes()), ("slow", false));
            assert_eq!(client.response().await.text(), "hot");
            client.lives().await;
        }
    });
}

#[test]
fn a_task_of_its_own_may_read_the_body_after_the_response() {
    run(|rig| async move {
        let mut client = rig.tcp().await;
        client.send("POST /detach HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\nbody");
        assert_eq!(client.response().await.text(), "detached");
        until(|| rig.script.detached.get() == 4).await;
        client.send("more".to_owned() + &get("/hot"));
        assert_eq!(client.response().await.text(), "hot");
        assert_eq!((rig.script.detached.get(), rig.script.detached_end.get()), (8, Some(true)));
        client.lives().await;
    });
}

#[test]
fn a_task_of_its_own_hears_when_the_client_leaves() {
    run(|rig| async move {
        let mut client = rig.tcp().await;
        client.send("POST /detach HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\nbody");
        assert_eq!(client.response().await.text(), "detached");
        until(|| rig.script.detached.get() == 4).await;
        assert_eq!(client.leave().await, CloseReason::ClientAborted);
        until(|| rig.script.detached_end.get() == Some(false)).await;
    });
}

#[test]
fn a_body_that_never_ends_is_timed_out_in_any_task() {
    run_paused(|rig| async move {
        let mut client = rig.pipe(1 << 16);
        client.send("POST /detach HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\nbody");
        assert_eq!(client.response().await.text(), "detached");
        assert_eq!(client.closed().await, CloseReason::BodyTimeout);
        until(|| rig.script.detached_end.get() == Some(false)).await;
    });
}

#[test]
fn a_cut_body_is_never_taken_for_a_whole_one() {
    run(|rig| async move {
        for request in [
            "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\nbody",
            "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n",
            "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
        ] {
            let mut client = rig.tcp().await;
            client.send(request);
            client.finish();
            if let Some(response) = client.next_response(false).await {
                assert_eq!((response.status, response.closes()), (400, true), "{request:?}");
            }
            assert_eq!(client.closed().await, CloseReason::ClientAborted, "{request:?}");
        }
    });
}

#[test]
fn a_malformed_body_is_answered_whole_over_a_narrow_pipe() {
    run(|rig| async move {
        let mut client = rig.pipe(1);
        client.send("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx");
        let response = client.response().await;
        assert_eq!((response.text(), response.closes()), ("body error", true));
        assert_eq!(client.closed().await, CloseReason::Malformed);
    });
}
