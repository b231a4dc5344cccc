//! The feed: ready-made answers and hyper take turns on one connection.

use penstock::metrics::Counter;

use crate::client::{get, post, post_chunked};
use crate::rig::{run, until};

#[test]
fn hot_and_cold_alternate() {
    run(|rig| async move {
        let mut client = rig.tcp().await;
        for _ in 0..10 {
            client.lives().await;
        }
        client.send(post("/echo", "body"));
        assert_eq!(client.response().await.text(), "body");
        client.lives().await;
        assert_eq!(rig.counted(Counter::ColdRequests), 12);
    });
}

#[test]
fn a_slow_handler_is_not_taken_for_done() {
    run(|rig| async move {
        let mut client = rig.tcp().await;
        client.send(get("/slow") + &get("/hot"));
        until(|| rig.script.begun.get() == 1).await;
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
        assert!(!rig.script.saw("/hot"), "what is behind waits");
        rig.script.go.notify_one();
        assert_eq!(client.response().await.text(), "slow");
        assert_eq!(client.response().await.text(), "hot");
        client.lives().await;
    });
}

#[test]
fn a_dripping_response_is_not_broken_into() {
    run(|rig| async move {
        let mut client = rig.tcp().await;
        let drip = rig.script.drip();
        client.send(get("/drip") + &get("/hot"));
        for word in ["one ", "two ", "three"] {
            drip.send(Ok(word.into())).expect("open");
            // What follows comes only after the client has this frame: the response is under way.
            let frame = format!("{:X}\r\n{word}\r\n", word.len());
            if word == "one " {
                let head = client.head().await;
                assert!(head.contains("transfer-encoding: chunked"), "{head}");
            }
            assert_eq!(client.take(frame.len()).await, frame.as_bytes());
            for _ in 0..50 {
                tokio::task::yield_now().await;
            }
            client.send(get("/hot"));
            assert!(!rig.script.saw("/hot"), "what is behind waits");
        }
        drop(drip);
        assert_eq!(client.take(5).await, b"0\r\n\r\n");
        for _ in 0..4 {
            assert_eq!(client.response().await.text(), "hot");
        }
        client.lives().await;
    });
}

#[test]
fn a_pipeline_of_everything_is_answered_in_order() {
    run(|rig| async move {
        for mut client in [rig.tcp().await, rig.unix(), rig.pipe(1), rig.pipe(7)] {
            let mut all = String::new();
            for i in 0..24 {
                all += &get("/hot");
                all += &get("/cold");
                all += &post("/echo", &format!("sized {i}"));
                all += &post_chunked("/echo", &["chunked ", &i.to_string()]);
                all += &post("/deny", "unread");
            }
            client.send(all);
            for i in 0..24 {
                assert_eq!(client.response().await.text(), "hot");
                assert_eq!(client.response().await.text(), "cold");
                assert_eq!(client.response().await.text(), format!("sized {i}"));
                assert_eq!(client.response().await.text(), format!("chunked {i}"));
                assert_eq!(client.response().await.status, 429);
            }
            client.lives().await;
        }
    });
}

#[test]
fn a_thousand_pipelined_requests_stop_at_the_bad_one() {
    run(|rig| async move {
        let mut client = rig.tcp().await;
        let good = get("/hot").repeat(500);
        client.send(good.clone() + "GET /bad\r\n\r\n" + &good);
        for _ in 0..500 {
            assert_eq!(client.response().await.text(), "hot");
        }
        assert_eq!(client.response().await.status, 400);
        client.closed().await;
        assert_eq!(rig.script.seen.borrow().len(), 500);
    });
}
