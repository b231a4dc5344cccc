//! What becomes of an admission whose answer is bad, late or missing.

use penstock::ledger::RecordKind;
use penstock::metrics::Counter;

use crate::rig::{Lines, Node, open};
use crate::shop::{Reply, answer, made};

/// Buys once; the status and reason that the client sees.
async fn bought(node: &Node, user: &str) -> (u16, String) {
    let told = node.buy(user, "", "").await;
    (told.status, told.reason().to_owned())
}

#[test]
fn a_refusal_of_the_shop_is_relayed_and_frees_the_unit() {
    open(Lines::default(), |node| async move {
        node.shop.next([Reply::Bytes(answer("409 Conflict", "{\"why\":\"captcha\"}"))]);
        let told = node.buy("u1", "", "").await;
        assert_eq!((told.status, told.reason()), (409, "admitted"));
        assert_eq!(told.body, "{\"why\":\"captcha\"}");
        node.until_records(&[]).await;
        assert_eq!(bought(&node, "u1").await, (201, "admitted".to_owned()));
    });
}

#[test]
fn an_error_of_the_shop_is_relayed_and_its_unit_waits() {
    open(Lines { sale: "stock = 2", ..Lines::default() }, |node| async move {
        node.shop.next([Reply::Bytes(answer("500 Internal Server Error", "{}"))]);
        assert_eq!(bought(&node, "u1").await, (500, "admitted".to_owned()));
        node.until_records(&[RecordKind::Limbo]).await;
        let again = node.buy("u1", "", "").await;
        assert_eq!((again.status, again.reason()), (202, "pending"));
        assert_eq!(node.shop.received().len(), 1);
    });
}

#[test]
fn a_cut_answer_is_pending_whatever_its_status() {
    for cut in [
        "HTTP/1.1 201 Created\r\nContent-Length: 100\r\n\r\n{\"order\"",
        "HTTP/1.1 409 Conflict\r\nContent-Length: 100\r\n\r\n{",
        "HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n",
        "HTTP/1.1 201 Cre",
        "",
        "nonsense\r\n\r\n",
    ] {
        open(Lines::default(), |node| async move {
            node.shop.next([Reply::Cut(cut.to_owned())]);
            assert_eq!(bought(&node, "u1").await, (202, "pending".to_owned()), "{cut}");
            node.until_records(&[RecordKind::Limbo]).await;
        });
    }
}

#[test]
fn silence_is_pending_after_the_purchase_timeout() {
    let upstream = "outcome = 'status'\npurchase_timeout = '100ms'";
    open(Lines { upstream, ..Lines::default() }, |node| async move {
        node.shop.next([Reply::Silence]);
        assert_eq!(bought(&node, "u1").await, (202, "pending".to_owned()));
        node.until_records(&[RecordKind::Limbo]).await;
    });
}

#[test]
fn an_answer_that_is_too_long_is_pending() {
    let gate = "answer_bytes_max = '1KiB'";
    open(Lines { gate, ..Lines::default() }, |node| async move {
        node.shop.next([Reply::Bytes(answer("201 Created", &"x".repeat(1025)))]);
        assert_eq!(bought(&node, "u1").await, (202, "pending".to_owned()));
        node.until_records(&[RecordKind::Limbo]).await;
    });
}

#[test]
fn what_was_never_sent_frees_the_unit() {
    let lines = Lines { activity: "purchase_upstream = 'gone'", root: GONE, ..Lines::default() };
    open(lines, |node| async move {
        assert_eq!(bought(&node, "u1").await, (502, "bad_gateway".to_owned()));
        node.until_records(&[]).await;
        assert_eq!(node.state().expect("a sale").pools[0].held, 0);
    });
}

/// An upstream on a port that nobody listens on.
const GONE: &str =
    "limits.user = 'off'\nupstream.gone = { servers = ['127.0.0.1:1'], outcome = 'status' }";

#[test]
fn nothing_is_claimed_for_a_shop_that_is_away_and_one_purchase_at_a_time_tries_it() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").expect("bind").local_addr();
    let address = port.expect("address");
    let root = format!(
        "limits.user = 'off'\nlimits.address = 'off'\n\
         upstream.gone = {{ servers = ['{address}'], outcome = 'status' }}"
    );
    let lines = Lines {
        activity: "purchase_upstream = 'gone'",
        root: root.leak(),
        sale: "stock = 1000",
        ..Lines::default()
    };
    open(lines, |node| async move {
        let mut users = 0..;
        let mut next = async || {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            bought(&node, &format!("u{}", users.next().unwrap())).await
        };
        let busy = (503, "busy".to_owned());
        let failed = (502, "bad_gateway".to_owned());
        assert_eq!(next().await, failed);
        assert_eq!(next().await, busy);
        assert_eq!(node.counted(Counter::Claims), 1, "who is told busy claims nothing");
        loop {
            let told = next().await;
            if told != busy {
                assert_eq!(told, failed);
                break;
            }
        }
        assert_eq!(node.counted(Counter::Claims), 2);
        node.until_records(&[]).await;
        // The shop comes.
        let shop = tokio::net::TcpListener::bind(address).await.expect("bind");
        tokio::spawn(answer_all(shop));
        while next().await == busy {}
        for _ in 0..5 {
            assert_eq!(next().await, (201, "admitted".to_owned()));
        }
        assert_eq!(node.counted(Counter::UpstreamCircuitOpened), 1);
        assert_eq!(node.counted(Counter::Claims), 2 + 6);
    });
}

#[test]
fn a_proxy_that_misses_the_shop_does_not_send_every_unit_to_limbo() {
    let lines = Lines { root: "limits.user = 'off'", sale: "stock = 100", ..Lines::default() };
    open(lines, |node| async move {
        node.shop.next((0..20).map(|_| Reply::Bytes(answer("503 Service Unavailable", "{}"))));
        for n in 0..8 {
            assert_eq!(bought(&node, &format!("u{n}")).await.0, 503);
        }
        node.until_records(&[RecordKind::Limbo; 8]).await;
        assert_eq!(bought(&node, "u8").await, (503, "busy".to_owned()));
        assert_eq!(node.counted(Counter::Claims), 8);
    });
}

/// A shop that takes every order without a body.
async fn answer_all(listener: tokio::net::TcpListener) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    while let Ok((mut stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            let mut head = Vec::new();
            while stream.read_buf(&mut head).await.is_ok_and(|n| n > 0) {
                if head.ends_with(b"\r\n\r\n") {
                    head.clear();
                    stream.write_all(made("S1").as_bytes()).await.expect("sent");
                }
            }
        });
    }
}
