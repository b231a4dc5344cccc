//! Every byte case on a fresh connection, after a good request, and cut at every byte.

use penstock::metrics::Counter;
use penstock::outcome::CloseReason;

use crate::cases::{Case, Expect, all};
use crate::client::Client;
use crate::rig::{Rig, run};

#[test]
fn on_a_fresh_connection() {
    run(|rig| async move {
        for case in all() {
            let client = rig.tcp().await;
            check(&rig, client, &case).await;
        }
    });
}

#[test]
fn over_a_unix_socket() {
    run(|rig| async move {
        for case in all() {
            check(&rig, rig.unix(), &case).await;
        }
    });
}

#[test]
fn after_a_good_request() {
    run(|rig| async move {
        for case in all() {
            let mut client = rig.tcp().await;
            assert_eq!(client.get("/cold").await.text(), "cold");
            check(&rig, client, &case).await;
        }
    });
}

#[test]
fn pipelined_behind_good_requests() {
    run(|rig| async move {
        for (name, bytes, expect) in all() {
            let mut client = rig.tcp().await;
            let good = "GET /hot HTTP/1.1\r\nHost: a\r\n\r\nGET /cold HTTP/1.1\r\nHost: a\r\n\r\n";
            // Their answers have to arrive whole although the connection may break behind them.
            let malformed = rig.counted(Counter::Malformed);
            client.send([good.as_bytes(), &bytes].concat());
            assert_eq!(client.response().await.text(), "hot", "{name}");
            assert_eq!(client.response().await.text(), "cold", "{name}");
            verify(&rig, client, name, expect, malformed).await;
        }
    });
}

#[test]
fn cut_at_every_byte() {
    run(|rig| async move {
        for case in all() {
            check(&rig, rig.pipe(1), &case).await;
        }
    });
}

async fn check(rig: &Rig, client: Client, (name, bytes, expect): &Case) {
    let malformed = rig.counted(Counter::Malformed);
    client.send(bytes);
    verify(rig, client, name, *expect, malformed).await;
}

/// `malformed`: that counter before the case was sent.
async fn verify(rig: &Rig, mut client: Client, name: &str, expect: Expect, malformed: u64) {
    match expect {
        Expect::Refused(status) => {
            let response = client.response().await;
            assert_eq!(
                (response.status, response.closes()),
                (status, true),
                "{name}: {response:?}"
            );
            assert_eq!(client.closed().await, CloseReason::Malformed, "{name}");
            assert!(!rig.script.saw("/second"), "{name}: something behind it was decided");
            assert_eq!(rig.counted(Counter::Malformed), malformed + 1, "{name}");
        }
        Expect::Last(status) => {
            let response = client.response().await;
            assert_eq!(
                (response.status, response.closes()),
                (status, true),
                "{name}: {response:?}"
            );
            client.closed().await;
            assert!(!rig.script.saw("/second"), "{name}: something behind it was decided");
        }
        Expect::Served(statuses) => {
            for status in statuses {
                let response = client.response().await;
                assert_eq!(response.status, *status, "{name}: {response:?}");
                assert!(!response.closes(), "{name}");
            }
            client.lives().await;
            rig.script.seen.borrow_mut().clear();
            assert_eq!(rig.counted(Counter::Malformed), malformed, "{name}");
        }
    }
}
