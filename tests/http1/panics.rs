//! A bug in a decision or a handler costs one request and its connection, never the process.

use penstock::metrics::Counter;
use penstock::outcome::CloseReason;

use crate::client::{get, post};
use crate::rig::run;

#[test]
fn a_panic_is_an_answer_and_a_close() {
    run(|rig| async move {
        for (i, path) in ["/panic-decide", "/panic", "/panic-start"].into_iter().enumerate() {
            let mut client = rig.tcp().await;
            client.lives().await;
            client.send(post(path, "body") + &get("/second"));
            let response = client.response().await;
            assert_eq!((response.status, response.closes()), (500, true), "{path}");
            assert_eq!(response.field("penstock-reason"), Some("internal"));
            assert_eq!(client.closed().await, CloseReason::Internal, "{path}");
            assert_eq!(rig.counted(Counter::Panics), i as u64 + 1);
            assert!(!rig.script.saw("/second"));
            let done = rig.script.done.borrow().last().cloned().expect("finished");
            assert_eq!((done.status, done.complete), (500, true), "{path}");
        }
    });
}

#[test]
fn a_panic_within_a_body_cuts_the_response() {
    run(|rig| async move {
        let mut client = rig.tcp().await;
        client.send(get("/panic-body") + &get("/second"));
        let rest = client.rest().await;
        assert!(!rest.ends_with(b"0\r\n\r\n"), "the response looks whole");
        client.ended().await;
        assert_eq!(rig.counted(Counter::Panics), 1);
        assert!(!rig.script.saw("/second"));
    });
}
