//! The third outcome: what nobody knows is held, listed, and matched with the shop.

use crate::rig::{Plan, SALE, Stage, buy, crowd, order, reason, until};

#[test]
fn an_answer_500_may_be_an_order_and_is_held() {
    let mut shop = crate::rig::boundless();
    shop.error_permille = 1_000;
    let stage = Stage::set(Plan { stock: 4, shop, ..Plan::default() });
    let edge = stage.opened();
    let unsure = buy(edge.at, "ann").expect("an answer");
    assert_eq!(unsure.status, 500, "a complete answer is relayed untouched");
    let again = buy(edge.at, "ann").expect("an answer");
    assert_eq!((again.status, reason(&again)), (202, "pending"));
    let other = order(edge.at, "ann", "another", "{}").expect("an answer");
    assert_eq!(reason(&other), "pending", "one right, whatever the key");
    crowd(edge.at, 3, 1);
    until("all in limbo", || edge.sale()["limbo"] == 4);
    assert_eq!(edge.availability()["state"], "sold_out");
    assert_eq!(edge.availability()["final"], false);

    let listed = edge.json(&["limbo", "list", SALE, "--json"]);
    assert_eq!(listed["limbo"].as_array().map(Vec::len), Some(4), "{listed}");
    let orders = stage.orders_csv().display().to_string();
    assert!(edge.verb(&["limbo", "match", SALE, &orders, "--at-rest"]).status.success());
    let made = stage.shop.stats().orders;
    let sale = edge.sale();
    assert_eq!((sale["confirmed"].as_u64(), sale["limbo"].as_u64()), (Some(made), Some(0)));
    assert_eq!(edge.audit(&stage.orders_csv()), Vec::<String>::new());
    // What came back after the latch is sold by a restock of no new units.
    if made < 4 {
        let restock = ["sale", "restock", SALE, "--pool", "default", "--units", "0"];
        assert!(edge.verb(&restock).status.success());
        assert_eq!(edge.availability()["state"], "available");
    }
}

#[test]
fn a_connection_without_an_answer_is_unknown_too() {
    let mut shop = crate::rig::boundless();
    shop.drop_permille = 1_000;
    let stage = Stage::set(Plan { stock: 2, shop, ..Plan::default() });
    let edge = stage.opened();
    let answer = buy(edge.at, "ann").expect("an answer");
    assert_eq!((answer.status, reason(&answer)), (202, "pending"));
    until("in limbo", || edge.sale()["limbo"] == 1);
    assert_eq!(stage.shop.stats().posts, 1, "never sent twice");
}

#[test]
fn a_shop_that_is_away_loses_nothing() {
    let stage = Stage::set(Plan {
        stock: 3,
        upstream: "connect_timeout = \"100ms\"".to_owned(),
        ..Plan::default()
    });
    let config = std::fs::read_to_string(stage.dir.path().join("penstock.toml")).expect("a file");
    let gone = crate::rig::free();
    let away = config.replace(&stage.shop.address().to_string(), &gone.to_string());
    stage.write("penstock.toml", &away);
    let edge = stage.opened();
    let answer = buy(edge.at, "ann").expect("an answer");
    assert!(matches!(answer.status, 502 | 503), "{answer:?}");
    until("the unit is back", || {
        let sale = edge.sale();
        (sale["held"].as_u64(), sale["limbo"].as_u64()) == (Some(0), Some(0))
    });
    assert_eq!(edge.availability()["state"], "available");
}
