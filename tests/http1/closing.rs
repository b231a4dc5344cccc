//! Who closes, when, and how it is said.

use penstock::outcome::CloseReason;

use tokio::task::spawn_local;

use crate::client::{get, post};
use crate::rig::{run, tcp_pair, until};

#[test]
fn http_1_0_closes_unless_asked_not_to() {
    run(|rig| async move {
        for path in ["/hot", "/cold", "/unknown"] {
            let mut client = rig.tcp().await;
            client.send(format!("GET {path} HTTP/1.0\r\n\r\n"));
            let response = client.response().await;
            assert!(response.closes(), "{path}");
            assert_eq!(response.field("transfer-encoding"), None);
            client.closed().await;

            let mut client = rig.tcp().await;
            for _ in 0..2 {
                client.send(format!("GET {path} HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"));
                let response = client.response().await;
                if path == "/unknown" {
                    // Only a close can end it.
                    assert_eq!((response.closes(), response.text()), (true, "unknown"));
                    break;
                }
                assert_eq!(response.field("connection"), Some("keep-alive"), "{path}");
            }
            if path != "/unknown" {
                client.lives().await;
            }
        }
    });
}

#[test]
fn nothing_is_served_behind_a_close() {
    run(|rig| async move {
        for (request, reason) in [
            (
                "GET /hot HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
                CloseReason::RequestClose,
            ),
            (
                "GET /cold HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
                CloseReason::RequestClose,
            ),
            ("GET /closes HTTP/1.1\r\nHost: a\r\n\r\n", CloseReason::ResponseClose),
        ] {
            let mut client = rig.tcp().await;
            client.send(request.to_owned() + &get("/second"));
            assert!(client.response().await.closes(), "{request}");
            assert_eq!(client.closed().await, reason);
            assert!(!rig.script.saw("/second"));
        }
    });
}

#[test]
fn a_close_with_an_unread_body_is_answered_whole_over_a_narrow_pipe() {
    run(|rig| async move {
        let mut client = rig.pipe(1);
        let body = "x".repeat(100);
        client.send(format!(
            "POST /ignore HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 200\r\n\r\n{body}"
        ));
        let response = client.response().await;
        assert_eq!((response.text(), response.closes()), ("too large", true));
        assert_eq!(client.closed().await, CloseReason::RequestClose);
    });
}

#[test]
fn a_client_that_leaves_drops_the_handler() {
    run(|rig| async move {
        for request in [get("/slow"), post("/slow", "body")] {
            let begun = rig.script.begun.get();
            let client = rig.tcp().await;
            client.send(request);
            until(|| rig.script.begun.get() > begun).await;
            assert_eq!(client.leave().await, CloseReason::ClientAborted);
            assert_eq!(rig.script.ended.get(), 0);
            let done = rig.script.done.borrow().last().cloned().expect("finished");
            assert_eq!((done.status, done.complete), (0, false));
        }
    });
}

#[test]
fn a_client_that_leaves_within_its_response_ends_it() {
    run(|rig| async move {
        for path in ["/drip", "/big", "/hot-large"] {
            let drip = rig.script.drip();
            let mut client = rig.pipe(1000);
            client.send(get(path));
            if path == "/drip" {
                drip.send(Ok("one".into())).expect("open");
            }
            client.head().await;
            let server = spawn_local(client.leave());
            for _ in 0..50 {
                tokio::task::yield_now().await;
            }
            if path == "/drip" {
                drip.send(Ok("two".into())).expect("open");
            }
            assert_eq!(server.await.expect("left"), CloseReason::ClientAborted, "{path}");
            let done = rig.script.done.borrow().last().cloned().expect("finished");
            assert_eq!((done.status, done.complete), (200, false));
        }
    });
}

#[test]
fn a_reset_within_a_response_ends_it() {
    run(|rig| async move {
        for path in ["/hot-large", "/big", "/big-chunked"] {
            let (near, far) = tcp_pair().await;
            let server = rig.serve(far);
            // The most abrupt of ends: what was received and not read makes the kernel reset.
            near.writable().await.expect("open");
            let requests = get(path).repeat(20);
            assert_eq!(near.try_write(requests.as_bytes()).expect("room"), requests.len());
            near.readable().await.expect("open");
            near.set_zero_linger().expect("an option");
            drop(near);
            assert_eq!(server.await.expect("the driver"), CloseReason::ClientAborted, "{path}");
            let done = rig.script.done.borrow().last().cloned().expect("finished");
            assert!(!done.complete, "{path}");
        }
        rig.tcp().await.lives().await;
    });
}

#[test]
fn a_half_close_gets_its_answer_from_a_fast_handler_and_within_a_response() {
    run(|rig| async move {
        for path in ["/hot", "/cold", "/unknown"] {
            let mut client = rig.tcp().await;
            client.send(get("/hot") + &get(path));
            client.finish();
            assert_eq!(client.response().await.status, 200);
            assert_eq!(client.response().await.status, 200);
            assert_eq!(client.closed().await, CloseReason::ClientClosed);
        }
        let mut client = rig.tcp().await;
        let drip = rig.script.drip();
        client.send(get("/drip"));
        drip.send(Ok("one".into())).expect("open");
        client.head().await;
        client.finish();
        assert_eq!(client.take(8).await, b"3\r\none\r\n");
        drip.send(Ok("two".into())).expect("open");
        drop(drip);
        assert_eq!(client.take(13).await, b"3\r\ntwo\r\n0\r\n\r\n");
        assert_eq!(client.closed().await, CloseReason::ClientClosed);
    });
}

#[test]
fn a_half_close_ends_a_slow_handler() {
    run(|rig| async move {
        let mut client = rig.tcp().await;
        client.send(get("/slow"));
        until(|| rig.script.begun.get() == 1).await;
        client.finish();
        assert!(client.next_response(false).await.is_none());
        assert_eq!(client.closed().await, CloseReason::ClientAborted);
        assert_eq!(rig.script.ended.get(), 0);
    });
}

#[test]
fn read_ahead_is_bounded_and_nothing_of_it_is_lost() {
    run(|mut rig| async move {
        rig.limits.read_ahead_bytes_max = 4096;
        let mut client = rig.pipe(1024);
        let behind = get("/hot");
        let count = 20 * 4096 / behind.len();
        client.send(get("/slow") + &behind.repeat(count));
        until(|| rig.script.begun.get() == 1).await;
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert!(!client.all_sent(), "the driver took everything in");
        rig.script.go.notify_one();
        assert_eq!(client.response().await.text(), "slow");
        for _ in 0..count {
            assert_eq!(client.response().await.text(), "hot");
        }
        client.lives().await;
    });
}

#[test]
fn a_drain_closes_idle_connections_and_lets_busy_ones_finish() {
    run(|rig| async move {
        let mut idle = rig.tcp().await;
        idle.lives().await;
        let mut about_to_ask = rig.tcp().await;
        about_to_ask.lives().await;
        let mut cold = rig.tcp().await;
        cold.send(get("/slow"));
        let mut under_way = rig.tcp().await;
        let drip = rig.script.drip();
        under_way.send(get("/drip"));
        drip.send(Ok("one".into())).expect("open");
        under_way.head().await;
        let mut fresh = rig.tcp().await;
        until(|| rig.script.begun.get() == 4).await;

        rig.drainer.begin();
        let response = about_to_ask.get("/hot").await;
        assert_eq!((response.text(), response.closes()), ("hot", true));
        assert!(idle.next_response(false).await.is_none());
        assert_eq!(idle.closed().await, CloseReason::Drain);

        rig.script.go.notify_one();
        let response = cold.response().await;
        assert_eq!((response.text(), response.closes()), ("slow", true));
        assert_eq!(cold.closed().await, CloseReason::Drain);

        // Its head was out before the drain: it closes behind this response all the same.
        drop(drip);
        assert_eq!(under_way.take(13).await, b"3\r\none\r\n0\r\n\r\n");
        assert_eq!(under_way.closed().await, CloseReason::Drain);

        // A request that was on its way when the drain began is served.
        let response = fresh.get("/hot").await;
        assert_eq!((response.text(), response.closes()), ("hot", true));
        assert_eq!(fresh.closed().await, CloseReason::Drain);
    });
}

#[test]
fn upgrades_and_tunnels_are_not_opened() {
    run(|rig| async move {
        let mut client = rig.tcp().await;
        client.send(
            "GET /cold HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
                .to_owned()
                + &get("/hot"),
        );
        assert_eq!(client.response().await.text(), "cold");
        assert_eq!(client.response().await.text(), "hot");
        client.send("GET /switch HTTP/1.1\r\nHost: a\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n");
        assert_eq!(client.response().await.status, 502);
        client.lives().await;
        client.send("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n".to_owned() + &get("/second"));
        let response = client.response().await;
        assert_eq!(response.status, 405);
        assert!(response.field("allow").is_some());
        client.closed().await;
        assert!(!rig.script.saw("/second"));
    });
}
