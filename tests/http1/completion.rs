//! When a response is complete, and what its framing says.

use penstock::http::body::BodyError;
use penstock::outcome::CloseReason;

use crate::client::{get, post};
use crate::rig::{run, until};
use crate::script::BIG_BYTES;

#[test]
fn large_responses_arrive_whole_at_a_slow_reader() {
    run(|rig| async move {
        for path in ["/big", "/big-chunked"] {
            let mut client = rig.tcp().await;
            client.send(get(path) + &get("/hot") + &get("/cold"));
            // Nobody reads until the kernel's buffers are full and the driver has to wait.
            until(|| rig.script.begun.get() > 0).await;
            for _ in 0..200 {
                tokio::task::yield_now().await;
            }
            let response = client.response().await;
            assert_eq!(response.body.len(), BIG_BYTES, "{path}");
            assert!(response.body.iter().all(|b| *b == b'b'));
            assert_eq!(client.response().await.text(), "hot");
            assert_eq!(client.response().await.text(), "cold");
            client.lives().await;
        }
    });
}

#[test]
fn a_large_ready_made_answer_arrives_whole() {
    run(|rig| async move {
        for mut client in [rig.tcp().await, rig.unix(), rig.pipe(333)] {
            client.send(get("/hot-large") + &get("/hot-large") + &get("/hot"));
            for _ in 0..2 {
                assert_eq!(client.response().await.body, vec![b'x'; 1 << 20]);
            }
            assert_eq!(client.response().await.text(), "hot");
            client.lives().await;
        }
    });
}

#[test]
fn bodiless_responses_keep_the_connection() {
    run(|rig| async move {
        let mut client = rig.tcp().await;
        for (path, length) in [
            ("/cold", Some("4")),
            ("/hot", Some("3")),
            ("/unknown", None),
            ("/stated", Some("4")),
            ("/wrong", Some("9")),
            ("/big", Some("10485760")),
        ] {
            client.send(format!("HEAD {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
            let response = client.response_to_head().await;
            assert_eq!(response.field("content-length"), length, "{path}");
            assert!(!response.closes(), "{path}");
            client.lives().await;
        }
        for (path, status) in [("/none", 204), ("/unmodified", 304), ("/hot-304", 304)] {
            let response = client.get(path).await;
            assert_eq!((response.status, response.field("transfer-encoding")), (status, None));
            assert!(response.body.is_empty());
            client.lives().await;
        }
    });
}

#[test]
fn framing_of_a_handler_cannot_be_wrong() {
    run(|rig| async move {
        let mut client = rig.tcp().await;
        let response = client.get("/wrong").await;
        assert_eq!((response.field("content-length"), response.text()), (Some("5"), "right"));
        let response = client.get("/copied").await;
        assert_eq!(response.text(), "copied");
        for name in ["keep-alive", "upgrade", "trailer", "x-hop", "connection"] {
            assert_eq!(response.field(name), None);
        }
        assert_eq!(client.get("/unknown").await.field("transfer-encoding"), Some("chunked"));
        let response = client.get("/switch").await;
        assert_eq!(
            (response.status, response.field("penstock-reason")),
            (502, Some("bad_gateway"))
        );
        client.lives().await;
    });
}

#[test]
fn a_response_that_breaks_off_is_seen_to_be_broken() {
    run(|rig| async move {
        for path in ["/drip", "/drip-sized"] {
            let mut client = rig.tcp().await;
            let drip = rig.script.drip();
            client.send(get(path) + &get("/hot"));
            drip.send(Ok("one".into())).expect("open");
            client.head().await;
            drip.send(Err(BodyError::Cut)).expect("open");
            let rest = client.rest().await;
            assert!(rest == b"one" || rest == b"3\r\none\r\n" || rest.is_empty(), "{rest:?}");
            assert_eq!(client.ended().await, CloseReason::ResponseClose);
            assert!(!rig.script.saw("/hot"));
            assert!(rig.script.done.borrow().iter().all(|done| !done.complete));
        }
    });
}

#[test]
fn a_response_shorter_than_it_said_breaks_off() {
    run(|rig| async move {
        let mut client = rig.tcp().await;
        let drip = rig.script.drip();
        client.send(get("/drip-sized") + &get("/hot"));
        drip.send(Ok("one".into())).expect("open");
        assert!(client.head().await.contains("content-length: 6"));
        drop(drip);
        assert_eq!(client.rest().await, b"one");
        assert!(!rig.script.saw("/hot"));
    });
}

#[test]
fn a_response_that_breaks_before_it_began_is_an_answer_of_ours() {
    run(|rig| async move {
        for (path, last, status) in
            [("/drip-sized", None, 500), ("/drip", Some(Err(BodyError::Cut)), 502)]
        {
            let mut client = rig.tcp().await;
            let drip = rig.script.drip();
            drip.send(Ok("one".into())).expect("open");
            if let Some(last) = last {
                drip.send(last).expect("open");
            }
            drop(drip);
            client.send(get(path) + &get("/hot"));
            let response = client.response().await;
            assert_eq!((response.status, response.closes()), (status, true));
            client.closed().await;
            let done = rig.script.done.borrow().last().cloned().expect("finished");
            assert_eq!((done.status, done.bytes, done.complete), (status, 0, true));
            assert!(!rig.script.saw("/hot"));
        }
    });
}

#[test]
fn full_duplex_sends_back_what_has_come() {
    run(|rig| async move {
        let mut client = rig.tcp().await;
        client.send("POST /duplex HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
        let head = client.head().await;
        assert!(!head.contains("close"), "{head}");
        for frame in ["3\r\none\r\n", "3\r\ntwo\r\n"] {
            client.send(frame);
            assert_eq!(client.take(frame.len()).await, frame.as_bytes());
        }
        client.send("0\r\n\r\n".to_owned() + &get("/hot"));
        assert_eq!(client.take(5).await, b"0\r\n\r\n");
        assert_eq!(client.response().await.text(), "hot");
        client.lives().await;
    });
}

#[test]
fn every_exchange_is_finished_once() {
    run(|rig| async move {
        let mut client = rig.tcp().await;
        client.send(post("/echo", "12345"));
        client.response().await;
        client.get("/hot").await;
        client.get("/deny").await;
        client.send("HEAD /cold HTTP/1.1\r\nHost: a\r\n\r\n");
        client.response_to_head().await;
        let leaves = client.get("/none").await.status;
        client.leave().await;
        let done: Vec<_> =
            rig.script.done.borrow().iter().map(|d| (d.status, d.bytes, d.complete)).collect();
        let expected = [(200, 5, true), (200, 3, true), (429, 4, true), (200, 0, true)];
        assert_eq!(done[..4], expected);
        assert_eq!(done[4..], [(leaves, 0, true)]);
        assert_eq!(rig.counted(penstock::metrics::Counter::ResponseBytes), 12);
    });
}
