//! One sale from before T0 to its end, as one buyer after the other sees it.

use serde_json::Value;

use crate::rig::{Plan, SALE, Stage, buy, get, order, reason, send, until};

fn body(answer: &crate::rig::Answer) -> Value {
    serde_json::from_str(&answer.body).unwrap_or_else(|_| panic!("no JSON: {answer:?}"))
}

#[test]
fn before_t0_nobody_is_early() {
    let stage = Stage::set(Plan { opens_in_ms: 3_600_000, ..Plan::default() });
    let edge = stage.edge();
    let said = edge.availability();
    assert_eq!((&said["state"], &said["buyable"]), (&"not_started".into(), &false.into()));
    assert_eq!(said["opens_at_ms"], stage.opens_at.0);
    let answer = buy(edge.at, "ann").expect("an answer");
    assert_eq!((answer.status, reason(&answer)), (403, "not_started"));
    assert!(answer.head.contains("cache-control: no-store"), "{}", answer.head);
    assert!(body(&answer)["retry_after_ms"].is_u64());
    assert_eq!(stage.shop.stats().posts, 0);
}

#[test]
fn a_sale_sells_its_stock_and_remembers_who_won() {
    let stage = Stage::set(Plan { stock: 2, ..Plan::default() });
    let edge = stage.opened();
    let won = buy(edge.at, "ann").expect("an answer");
    assert_eq!((won.status, reason(&won)), (201, "admitted"));
    let again = buy(edge.at, "ann").expect("an answer");
    assert_eq!((again.status, &again.body), (201, &won.body), "the first answer again");
    assert!(again.head.contains("idempotent-replayed: true"), "{}", again.head);
    let other = order(edge.at, "ann", "another", "{}").expect("an answer");
    assert_eq!((other.status, reason(&other)), (409, "already"));
    assert_eq!(reason(&buy(edge.at, "bob").expect("an answer")), "admitted");

    until("sold out", || edge.availability()["state"] == "sold_out");
    let late = buy(edge.at, "eve").expect("an answer");
    assert_eq!((late.status, reason(&late)), (409, "sold_out"));
    let winner = buy(edge.at, "ann").expect("an answer");
    assert_eq!((winner.status, &winner.body), (201, &won.body), "a winner keeps the win");
    assert_eq!((stage.shop.stats().posts, stage.shop.stats().orders), (2, 2));
    assert_eq!(edge.audit(&stage.orders_csv()), Vec::<String>::new());
}

#[test]
fn nobody_without_an_identity_gets_anywhere() {
    let stage = Stage::set(Plan::default());
    let edge = stage.opened();
    let bytes = "POST /activity/8848/orders HTTP/1.1\r\nHost: s\r\nConnection: close\r\n\
                 Content-Length: 2\r\n\r\n{}";
    let answer = send(edge.at, bytes).expect("an answer");
    assert_eq!((answer.status, reason(&answer)), (401, "login_required"));
    assert!(answer.head.contains("www-authenticate: bearer"), "{}", answer.head);
    let unknown = get(edge.at, "/activity/77/availability");
    assert_eq!((unknown.status, reason(&unknown)), (404, "unknown_activity"));
    assert_eq!(stage.shop.stats().posts, 0);
}

#[test]
fn the_operator_pauses_resumes_and_ends() {
    let stage = Stage::set(Plan::default());
    let edge = stage.opened();
    assert!(edge.verb(&["sale", "pause", SALE]).status.success());
    let paused = edge.availability();
    assert_eq!((&paused["state"], &paused["hint"]), (&"available".into(), &"paused".into()));
    assert_eq!(reason(&buy(edge.at, "ann").expect("an answer")), "paused");
    assert!(edge.verb(&["sale", "resume", SALE]).status.success());
    assert_eq!(reason(&buy(edge.at, "ann").expect("an answer")), "admitted");
    assert!(edge.verb(&["sale", "end", SALE]).status.success());
    assert_eq!(edge.availability()["final"], true);
    let over = buy(edge.at, "bob").expect("an answer");
    assert_eq!((over.status, reason(&over)), (410, "ended"));
    let refused = edge.verb(&["sale", "restock", SALE, "--pool", "default", "--units", "1"]);
    assert_eq!(refused.status.code(), Some(4), "{}", String::from_utf8_lossy(&refused.stderr));
}

#[test]
fn a_restock_is_a_new_epoch() {
    let stage = Stage::set(Plan { stock: 1, ..Plan::default() });
    let edge = stage.opened();
    assert_eq!(reason(&buy(edge.at, "ann").expect("an answer")), "admitted");
    until("sold out", || edge.availability()["state"] == "sold_out");
    let restock = ["sale", "restock", SALE, "--pool", "default", "--units", "1"];
    assert!(edge.verb(&restock).status.success());
    until("available again", || edge.availability()["state"] == "available");
    assert_eq!(edge.availability()["epoch"], 2);
    assert_eq!(reason(&order(edge.at, "ann", "more", "{}").expect("an answer")), "already");
    assert_eq!(reason(&buy(edge.at, "bob").expect("an answer")), "admitted");
    until("sold out again", || edge.availability()["state"] == "sold_out");
    assert_eq!(edge.sale()["confirmed"], 2);
}

#[test]
fn an_old_file_reverts_nothing() {
    let stage = Stage::set(Plan { stock: 1, ..Plan::default() });
    let mut edge = stage.opened();
    assert_eq!(reason(&buy(edge.at, "ann").expect("an answer")), "admitted");
    until("sold out", || edge.availability()["state"] == "sold_out");
    assert!(edge.stop(), "a drain ends well");
    let edge = stage.edge();
    assert_eq!(edge.availability()["state"], "sold_out");
    assert_eq!(reason(&buy(edge.at, "bob").expect("an answer")), "sold_out");
    assert_eq!(edge.sale()["confirmed"], 1);
}

#[test]
fn a_lost_ledger_cannot_resell() {
    let stage = Stage::set(Plan { stock: 1, ..Plan::default() });
    let mut edge = stage.opened();
    assert_eq!(reason(&buy(edge.at, "ann").expect("an answer")), "admitted");
    edge.kill();
    std::fs::remove_dir_all(stage.dir.path().join("state")).expect("a directory");
    let edge = stage.edge();
    until("the sale is known", || edge.sale()["paused"] == true);
    assert_eq!(reason(&buy(edge.at, "bob").expect("an answer")), "paused");
    assert_eq!(stage.shop.stats().orders, 1);
}
