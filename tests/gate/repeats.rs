//! Those who ask again.

use penstock::ledger::{Control, RecordKind};
use penstock::store::sim::Fault;

use crate::rig::{Lines, open};
use crate::shop::{Reply, answer, made};

const KEY: &str = "Idempotency-Key: k\r\n";

#[test]
fn the_same_attempt_hears_the_first_answer_again() {
    open(Lines { sale: "stock = 5", ..Lines::default() }, |node| async move {
        let first = node.buy("u1", KEY, "{\"a\":1}").await;
        assert_eq!((first.status, first.field("idempotent-replayed")), (201, None));
        let again = node.buy("u1", KEY, "{\"a\":1}").await;
        assert_eq!((again.status, again.reason()), (201, "replayed"));
        assert_eq!(again.field("idempotent-replayed"), Some("true"));
        assert_eq!(
            (again.body.as_str(), again.field("x-shop")),
            (first.body.as_str(), Some("yes"))
        );
        let reused = node.buy("u1", KEY, "{\"a\":2}").await;
        assert_eq!((reused.status, reused.reason()), (422, "key_reused"));
        let other = node.buy("u1", "Idempotency-Key: k2\r\n", "{\"a\":1}").await;
        assert_eq!((other.status, other.reason()), (409, "already"));
        let stranger = node.buy("u2", KEY, "{\"a\":2}").await;
        assert_eq!((stranger.status, stranger.reason()), (201, "admitted"));
        assert_eq!(node.shop.received().len(), 2);
    });
}

#[test]
fn a_winner_who_asks_again_after_the_sell_out_gets_the_win() {
    open(Lines::default(), |node| async move {
        node.buy("u1", KEY, "").await;
        node.until("sold out", |node| node.state().is_some_and(|s| s.sold_out)).await;
        node.control(Control::Pause).await;
        let again = node.buy("u1", KEY, "").await;
        assert_eq!((again.status, again.reason()), (201, "replayed"));
        let loser = node.buy("u2", KEY, "").await;
        assert_eq!((loser.status, loser.reason()), (409, "sold_out"));
        assert_eq!(node.shop.received().len(), 1);
    });
}

#[test]
fn a_winner_is_told_even_when_the_store_is_down() {
    open(Lines { sale: "stock = 5", ..Lines::default() }, |node| async move {
        node.buy("u1", KEY, "").await;
        node.until_records(&[RecordKind::Confirmed]).await;
        node.store.always(Some(Fault::Down));
        let lost = node.buy("u2", KEY, "").await;
        assert_eq!((lost.status, lost.reason()), (503, "unavailable"));
        let again = node.buy("u1", KEY, "").await;
        assert_eq!((again.status, again.reason()), (201, "replayed"));
    });
}

#[test]
fn the_same_attempt_in_flight_waits_for_the_first_ones_answer() {
    open(Lines { sale: "stock = 5", ..Lines::default() }, |node| async move {
        node.shop.next([Reply::Held(made("S7"))]);
        let (first, joined, reused, other) = tokio::join!(
            node.buy("u1", KEY, "{}"),
            async {
                node.until("the shop gets it", |node| node.shop.received().len() == 1).await;
                node.buy("u1", KEY, "{}").await
            },
            async {
                node.until("the shop gets it", |node| node.shop.received().len() == 1).await;
                node.buy("u1", KEY, "{ }").await
            },
            async {
                node.until("the shop gets it", |node| node.shop.received().len() == 1).await;
                let other = node.buy("u1", "", "{}").await;
                node.shop.release();
                other
            }
        );
        assert_eq!((first.status, first.reason()), (201, "admitted"));
        assert_eq!((joined.status, joined.reason()), (201, "replayed"));
        assert_eq!(joined.body, first.body);
        assert_eq!((reused.status, reused.reason()), (422, "key_reused"));
        assert_eq!((other.status, other.reason()), (409, "in_progress"));
        assert_eq!(node.shop.received().len(), 1);
    });
}

#[test]
fn who_waits_too_long_is_told_that_it_is_in_progress() {
    let lines = Lines { gate: "join_timeout = '30ms'", ..Lines::default() };
    open(lines, |node| async move {
        node.shop.next([Reply::Held(made("S7"))]);
        let (first, joined) = tokio::join!(node.buy("u1", KEY, ""), async {
            node.until("the shop gets it", |node| node.shop.received().len() == 1).await;
            let joined = node.buy("u1", KEY, "").await;
            node.shop.release();
            joined
        });
        assert_eq!((first.status, joined.status, joined.reason()), (201, 409, "in_progress"));
        assert!(joined.field("retry-after").is_some());
    });
}

#[test]
fn an_attempt_that_failed_for_certain_may_be_made_again() {
    open(Lines::default(), |node| async move {
        node.shop.next([Reply::Bytes(answer("400 Bad Request", "{}"))]);
        assert_eq!(node.buy("u1", KEY, "").await.status, 400);
        node.until_records(&[]).await;
        let again = node.buy("u1", KEY, "").await;
        assert_eq!((again.status, again.reason()), (201, "admitted"));
        assert_eq!(node.shop.received().len(), 2);
    });
}

#[test]
fn an_answer_too_large_to_keep_is_told_as_confirmed() {
    let upstream = "outcome = { read = 'status', confirmed = [201], order_id = '/order' }";
    let lines = Lines { upstream, gate: "replay_bytes_max = '16B'", ..Lines::default() };
    open(lines, |node| async move {
        assert_eq!(node.buy("u1", KEY, "").await.status, 201);
        let again = node.buy("u1", KEY, "").await;
        assert_eq!((again.status, again.reason()), (200, "confirmed"));
        assert_eq!(again.json()["order"], "S1");
    });
}
