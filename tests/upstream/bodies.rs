//! Bodies both ways: framing, cuts, silence, early answers.

use std::cell::Cell;
use std::rc::Rc;

use http::Method;
use penstock::http::ResponseBody;
use penstock::http::body::BodyError;
use penstock::upstream::{Body, Timeouts};
use tokio::time::Instant;

use crate::origin::{Origin, silence};
use crate::rig::{LONG, OK, PATIENT, SHORT, next, read, request, run, stream, text, to, until};

/// Answers once with `bytes` and closes.
async fn once(bytes: &'static str) -> Origin {
    Origin::new(move |mut server| async move {
        server.request().await;
        server.send(bytes).await;
    })
    .await
}

#[test]
fn requests_have_their_own_framing() {
    run(|| async {
        let origin = Origin::new(|mut server| async move {
            while let Some((head, body)) = server.request().await {
                let length = body.len();
                let has = |name: &str| head.contains(&format!("\r\n{name}:"));
                let framing = match (has("content-length"), has("transfer-encoding")) {
                    (false, false) => "none",
                    (true, false) => "sized",
                    (false, true) => "chunked",
                    (true, true) => "both",
                };
                let said = format!("{framing} {length}");
                let length = said.len();
                server
                    .send(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{said}"))
                    .await;
            }
        })
        .await;
        let stage = to(origin.address);
        let sent = |method: Method, body: Body| {
            let group = stage.group.clone();
            async move { text(group.send(request(method, body), PATIENT).await.expect("ok").body).await }
        };
        for method in [Method::GET, Method::DELETE, Method::OPTIONS] {
            assert_eq!(sent(method, Body::Empty).await, "none 0");
        }
        for method in [Method::POST, Method::PUT, Method::PATCH] {
            assert_eq!(sent(method, Body::Empty).await, "sized 0");
        }
        let odd = Method::from_bytes(b"BREW").expect("a token");
        for method in [Method::GET, Method::POST, Method::DELETE, odd] {
            assert_eq!(sent(method.clone(), Body::Full("order".into())).await, "sized 5");
            for (length, said) in [(Some(9), "sized 9"), (None, "chunked 9")] {
                let (frames, body) = stream(length);
                let feeding = async {
                    for frame in ["one", "two", "six"] {
                        frames.send(Ok(frame.into())).await.expect("taken");
                    }
                    drop(frames);
                };
                let (answer, ()) = tokio::join!(sent(method.clone(), body), feeding);
                assert_eq!(answer, said, "{method}");
            }
        }
        assert_eq!(origin.accepted.get(), 1, "one connection serves them all");
        let heads = origin.heads.borrow();
        assert!(
            heads[0].starts_with("GET /x?y HTTP/1.1\r\nhost: shop.example\r\n"),
            "{}",
            heads[0]
        );
    });
}

#[test]
fn answers_end_where_their_framing_says() {
    for (bytes, body, close_delimited) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "ok", false),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "", false),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1;x\r\nk\r\n0\r\n\r\n",
            "ok",
            false,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nSet-Cookie: a=b\r\n\r\n",
            "ok",
            false,
        ),
        ("HTTP/1.1 200 OK\r\n\r\nok", "ok", true),
        ("HTTP/1.0 200 OK\r\n\r\nok", "ok", true),
        ("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", "ok", false),
        ("HTTP/1.1 204 None\r\n\r\n", "", false),
        ("HTTP/1.1 304 Same\r\nContent-Length: 99\r\n\r\n", "", false),
    ] {
        run(|| async move {
            let origin = once(bytes).await;
            let answer = to(origin.address).get().await.expect("an answer");
            assert_eq!(answer.close_delimited, close_delimited, "{bytes}");
            assert_eq!(answer.headers.get("transfer-encoding"), None);
            assert_eq!(answer.headers.get("set-cookie"), None);
            assert_eq!(text(answer.body).await, body, "{bytes}");
        });
    }
}

#[test]
fn an_answer_to_head_has_a_length_and_no_body() {
    run(|| async {
        let origin = Origin::new(|mut server| async move {
            while server.request().await.is_some() {
                server.send("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n").await;
            }
        })
        .await;
        let stage = to(origin.address);
        for _ in 0..2 {
            let answer = stage.group.send(request(Method::HEAD, Body::Empty), PATIENT).await;
            let answer = answer.expect("an answer");
            assert_eq!(answer.headers["content-length"], "99");
            assert!(matches!(answer.body, ResponseBody::Empty) && !answer.close_delimited);
        }
        assert_eq!(origin.accepted.get(), 1);
    });
}

/// F04: a body that is cut has an error, never an end.
#[test]
fn a_cut_body_is_an_error() {
    for bytes in [
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhalf",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n\r\n",
    ] {
        run(|| async move {
            let origin = once(bytes).await;
            let stage = to(origin.address);
            let (body, error) = read(stage.get().await.expect("a head").body).await;
            assert_eq!(body, b"half");
            assert!(matches!(error, Some(BodyError::Cut)), "{bytes}: {error:?}");
            let report = stage.shared.report();
            assert_eq!((report[0].open, report[0].in_flight), (0, 0));
            assert!(report[0].last_error.is_some());
        });
    }
}

#[test]
fn a_body_that_is_reset_is_an_error_even_without_a_length() {
    run(|| async {
        let origin = Origin::new(|mut server| async move {
            server.request().await;
            server.send("HTTP/1.1 200 OK\r\n\r\nhalf").await;
            // What was sent must be read before the reset takes it away.
            tokio::time::sleep(SHORT).await;
            server.reset();
        })
        .await;
        let answer = to(origin.address).get().await.expect("a head");
        let (body, error) = read(answer.body).await;
        assert_eq!((body.as_slice(), error.is_some()), (&b"half"[..], true));
    });
}

/// F05: silence within a body ends it; time that nobody reads does not.
#[test]
fn a_silent_body_times_out_and_a_slow_reader_does_not() {
    run(|| async {
        let origin = Origin::new(|mut server| async move {
            server.request().await;
            server.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf").await;
            server.gone().await;
        })
        .await;
        let stage = to(origin.address);
        for idle in [SHORT, LONG] {
            let until = (idle == LONG).then(|| Instant::now() + SHORT * 3);
            let timeouts = Timeouts { idle, until, ..PATIENT };
            let answer = stage.group.send(request(Method::GET, Body::Empty), timeouts).await;
            let mut body = answer.expect("a head").body;
            assert_eq!(next(&mut body).await.expect("data").expect("data"), "half");
            let error = next(&mut body).await.expect("an error").expect_err("an error");
            assert!(matches!(error, BodyError::TimedOut), "{error:?}");
        }
        assert_eq!(stage.shared.report()[0].open, 0);
        let origin = Origin::constant(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        )
        .await;
        let timeouts = Timeouts { idle: SHORT, ..PATIENT };
        let sent = to(origin.address).group.send(request(Method::GET, Body::Empty), timeouts).await;
        let mut body = sent.expect("a head").body;
        assert!(next(&mut body).await.is_some());
        tokio::time::sleep(SHORT * 3).await;
        assert!(next(&mut body).await.is_none());
    });
}

#[test]
fn a_drip_is_not_silence() {
    run(|| async {
        let origin = Origin::new(|mut server| async move {
            server.request().await;
            server.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n").await;
            for _ in 0..10 {
                tokio::time::sleep(SHORT / 4).await;
                server.send("x").await;
            }
            silence().await;
        })
        .await;
        let timeouts = Timeouts { idle: SHORT, ..PATIENT };
        let sent = to(origin.address).group.send(request(Method::GET, Body::Empty), timeouts).await;
        assert_eq!(text(sent.expect("a head").body).await, "xxxxxxxxxx");
    });
}

#[test]
fn a_dropped_body_closes_its_connection() {
    run(|| async {
        let origin = Origin::new(|mut server| async move {
            server.request().await;
            server.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf").await;
            server.gone().await;
        })
        .await;
        let stage = to(origin.address);
        drop(stage.get().await.expect("a head").body);
        assert_eq!(stage.shared.report()[0].open, 0);
        drop(stage.get().await.expect("a head").body);
        assert_eq!(origin.accepted.get(), 2);
    });
}

/// An answer that comes while the body is still on its way is relayed, and its connection not used
/// again.
#[test]
fn an_early_answer_is_heard() {
    run(|| async {
        let origin = Origin::new(|mut server| async move {
            server.head().await;
            server.send("HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy").await;
            server.gone().await;
        })
        .await;
        let stage = to(origin.address);
        let (frames, body) = stream(Some(1 << 30));
        let feeding =
            async move { while frames.send(Ok(vec![0; 1 << 16].into())).await.is_ok() {} };
        let asking = async {
            let sent = stage.group.send(request(Method::POST, body), PATIENT).await;
            let answer = sent.expect("an answer");
            assert_eq!(answer.status.as_u16(), 503);
            assert_eq!(text(answer.body).await, "busy");
        };
        tokio::join!(asking, feeding);
        until(|| stage.shared.report()[0].open == 0).await;
    });
}

#[test]
fn bodies_go_both_ways_at_once() {
    run(|| async {
        let origin = Origin::new(|mut server| async move {
            server.head().await;
            server.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
            for _ in 0..3 {
                // A chunk of one byte: `1\r\nx\r\n`.
                let chunk = server.take(6).await.expect("a chunk");
                server.send(chunk).await;
            }
            assert_eq!(server.take(5).await.expect("the end"), b"0\r\n\r\n");
            server.send("0\r\n\r\n").await;
            server.gone().await;
        })
        .await;
        let stage = to(origin.address);
        let (frames, body) = stream(None);
        let mut answer = {
            let sent = stage.group.send(request(Method::POST, body), PATIENT).await;
            sent.expect("an answer before the request ended").body
        };
        for _ in 0..3 {
            frames.send(Ok("x".into())).await.expect("taken");
            assert_eq!(next(&mut answer).await.expect("data").expect("data"), "x");
        }
        drop(frames);
        assert!(next(&mut answer).await.is_none());
        // Both ends were clean: the connection is kept.
        until(|| stage.shared.report()[0].in_flight == 0).await;
        assert_eq!(stage.shared.report()[0].open, 1);
    });
}

#[test]
fn a_slow_reader_slows_the_server() {
    run(|| async {
        let stuck_at = Rc::new(Cell::new(None));
        let seen = stuck_at.clone();
        let origin = Origin::new(move |mut server| {
            let stuck_at = stuck_at.clone();
            async move {
                server.request().await;
                server.send("HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n").await;
                let chunk = vec![0; 1 << 20];
                let mut sent = 0;
                while tokio::time::timeout(SHORT * 4, server.send(&chunk)).await.is_ok() {
                    sent += chunk.len();
                }
                stuck_at.set(Some(sent));
                server.reset();
            }
        })
        .await;
        let answer = to(origin.address).get().await.expect("a head");
        until(|| seen.get().is_some()).await;
        // The sockets' buffers and one of hyper's, and not all of it.
        assert!(seen.get().is_some_and(|sent| sent < 64 << 20), "{seen:?}");
        let (_, error) = read(answer.body).await;
        assert!(matches!(error, Some(BodyError::Cut)));
    });
}

#[test]
fn the_hundred_and_first_exchange_uses_the_first_connection() {
    run(|| async {
        let origin = Origin::constant(OK).await;
        let stage = to(origin.address);
        for _ in 0..101 {
            let answer = stage.post("order").await.expect("an answer");
            assert_eq!(text(answer.body).await, "ok");
        }
        assert_eq!((origin.accepted.get(), origin.requests()), (1, 101));
    });
}
