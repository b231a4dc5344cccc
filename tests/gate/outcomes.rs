//! What becomes of an admission whose answer is bad, late or missing.

use penstock::ledger::RecordKind;

use crate::rig::{Lines, Node, open};
use crate::shop::{Reply, answer};

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
