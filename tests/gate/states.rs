//! Refusals by the state of the sale, by identity and by limits: none of them reaches store or shop.

use penstock::ledger::Control;
use penstock::metrics::Counter;

use crate::rig::{Lines, Node, Told, closed, open};
use crate::shop::{Reply, answer};

/// Nothing went to the store, nothing to the shop.
fn stayed_here(node: &Node) {
    assert_eq!(node.counted(Counter::Claims), 0);
    assert!(node.shop.received().is_empty());
}

#[test]
fn before_t0_nobody_is_asked_who_they_are() {
    closed(Lines::default(), |node| async move {
        let told = node.buy("", "", "").await;
        assert_eq!((told.status, told.reason()), (403, "not_started"));
        let json = told.json();
        let t0 = node.state().expect("a sale").opens_at.0;
        assert_eq!(json["opens_at_ms"], t0);
        let wait = json["retry_after_ms"].as_u64().expect("a wait");
        assert!((3_590_000..3_602_000).contains(&wait), "{wait}");
        stayed_here(&node);
        node.pass_t0();
        assert_eq!(node.buy("u1", "", "").await.reason(), "admitted");
    });
}

#[test]
fn who_is_not_known_has_to_log_in() {
    open(Lines::default(), |node| async move {
        let told = node.buy("", "", "").await;
        assert_eq!((told.status, told.reason()), (401, "login_required"));
        assert_eq!(told.field("www-authenticate"), Some("Bearer"));
        stayed_here(&node);
    });
}

#[test]
fn the_operators_word_counts_at_once() {
    open(Lines { sale: "stock = 5", ..Lines::default() }, |node| async move {
        node.control(Control::Pause).await;
        let paused = node.buy("u1", "", "").await;
        assert_eq!((paused.status, paused.reason()), (403, "paused"));
        node.control(Control::Resume).await;
        node.control(Control::SoldOut).await;
        let sold_out = node.buy("u1", "", "").await;
        assert_eq!((sold_out.status, sold_out.reason()), (409, "sold_out"));
        assert_eq!(sold_out.json()["final"], false);
        node.control(Control::End).await;
        let ended = node.buy("u1", "", "").await;
        assert_eq!((ended.status, ended.reason()), (410, "ended"));
        assert_eq!(ended.json()["final"], true);
        stayed_here(&node);
    });
}

#[test]
fn what_cannot_be_bought_again_is_final() {
    let sale = "stock = 1\nrestock = 'never'";
    open(Lines { sale, ..Lines::default() }, |node| async move {
        assert_eq!(node.buy("u1", "", "").await.status, 201);
        node.until("sold out", |node| {
            node.book.get("shop", "8848").is_some_and(|sale| sale.state.sold_out)
        })
        .await;
        let json = node.buy("u2", "", "").await.json();
        assert_eq!((&json["final"], &json["retryable"]), (&true.into(), &false.into()));
    });
}

#[test]
fn who_is_over_a_limit_waits() {
    let lines = Lines { root: "limits.user = '2@1/m'", ..Lines::default() };
    open(lines, |node| async move {
        let refusal = || Reply::Bytes(answer("400 Bad Request", "{}"));
        node.shop.next([refusal(), refusal()]);
        for expected in ["admitted", "admitted", "rate_limited", "rate_limited"] {
            assert_eq!(node.buy("u1", "", "").await.reason(), expected);
            node.until_records(&[]).await;
        }
        assert_eq!(node.buy("u2", "", "").await.reason(), "admitted");
        assert_eq!(node.shop.received().len(), 3);
    });
    let lines = Lines { root: "limits.user = 'off'\nlimits.address = '2@1/m'", ..Lines::default() };
    open(Lines { sale: "stock = 9", ..lines }, |node| async move {
        let mut told: Vec<Told> = Vec::new();
        for user in ["u1", "u2", "u3"] {
            told.push(node.buy(user, "", "").await);
        }
        let reasons: Vec<_> = told.iter().map(Told::reason).collect();
        assert_eq!(reasons, ["admitted", "admitted", "rate_limited"]);
        assert_eq!(told[2].status, 429);
        let wait = told[2].json()["retry_after_ms"].as_u64().expect("a wait");
        assert!((1_800..64_000).contains(&wait), "{wait}");
        assert_eq!(node.shop.received().len(), 2);
    });
}

#[test]
fn a_trusted_peer_that_names_nobody_is_no_address() {
    let root = "limits.user = 'off'\nlimits.address = '1@1/m'\ntrust.proxies = ['127.0.0.1']";
    open(Lines { root, sale: "stock = 9", ..Lines::default() }, |node| async move {
        for user in ["u1", "u2"] {
            assert_eq!(node.buy(user, "", "").await.reason(), "admitted");
        }
        let named = "X-Forwarded-For: 192.0.2.7\r\n";
        assert_eq!(node.buy("u3", named, "").await.reason(), "admitted");
        assert_eq!(node.buy("u4", named, "").await.reason(), "rate_limited");
        let chain = node.shop.received()[2].field("x-forwarded-for").join("|");
        assert_eq!(chain, "192.0.2.7, 127.0.0.1");
    });
}
