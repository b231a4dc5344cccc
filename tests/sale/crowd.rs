//! Stock N and a crowd of 100 N.

use crate::rig::{Plan, Stage, crowd, until};

#[test]
fn a_crowd_buys_exactly_what_there_is() {
    let stage = Stage::set(Plan { stock: 20, ..Plan::default() });
    let edge = stage.opened();
    let heard = crowd(edge.at, 2_000, 48);
    until("the latch", || edge.sale()["state"] == "sold_out" && edge.sale()["held"] == 0);
    let shop = stage.shop.stats();
    assert_eq!(heard.get("admitted"), Some(&20), "{heard:?}");
    assert_eq!(heard.get("sold_out"), Some(&1_980), "{heard:?}");
    assert_eq!((shop.orders, shop.users_twice), (20, 0));
    assert_eq!(shop.posts, 20, "no refused request reaches the shop");
    assert_eq!(edge.sale()["confirmed"], 20);
    assert_eq!(edge.audit(&stage.orders_csv()), Vec::<String>::new());
}

#[test]
fn a_refusal_costs_no_store_call_and_no_upstream_byte() {
    let stage = Stage::set(Plan { stock: 1, ..Plan::default() });
    let edge = stage.opened();
    crowd(edge.at, 10, 4);
    until("the latch", || edge.availability()["state"] == "sold_out");
    let calls = || {
        let claims = edge.metric("penstock_claim_batches_total");
        (claims, edge.metric("penstock_upstream_requests_total"))
    };
    let before = calls();
    let heard = crowd(edge.at, 500, 16);
    // The ten who came before may hear of their win; everybody else is refused here.
    assert!(heard["sold_out"] >= 499, "{heard:?}");
    assert_eq!(calls(), before);
}

#[test]
fn units_that_failed_are_sold_to_somebody_else() {
    let mut shop = crate::rig::boundless();
    shop.fail_permille = 300;
    let stage = Stage::set(Plan { stock: 30, shop, ..Plan::default() });
    let edge = stage.opened();
    crowd(edge.at, 1_000, 32);
    until("the latch", || edge.sale()["state"] == "sold_out" && edge.sale()["held"] == 0);
    let stats = stage.shop.stats();
    assert_eq!((stats.orders, edge.sale()["confirmed"].as_u64()), (30, Some(30)));
    assert!(stats.declined > 0, "the shop did refuse some");
    assert_eq!(edge.audit(&stage.orders_csv()), Vec::<String>::new());
}
