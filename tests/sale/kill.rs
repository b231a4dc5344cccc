//! `kill -9` of an edge in mid-sale: the shop never sees more than the stock, nobody twice.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::rig::{Plan, SALE, Stage, buy, until};

#[test]
fn a_killed_edge_sells_no_unit_twice() {
    let mut shop = crate::rig::boundless();
    shop.latency_ms = 15;
    shop.workers = 8;
    let upstream = "purchases_max = 8".to_owned();
    let more = "[gate]\nclaim_ttl = \"11s\"".to_owned();
    let stage = Stage::set(Plan { stock: 60, shop, upstream, more, ..Plan::default() });
    let mut edge = stage.opened();
    let at = edge.at;
    let over = AtomicBool::new(false);
    let over = &over;
    std::thread::scope(|scope| {
        for t in 0..8 {
            scope.spawn(move || {
                for i in 0.. {
                    if over.load(Ordering::Relaxed) {
                        return;
                    }
                    // A dead edge refuses the connection: the buyer tries again, as people do.
                    let user = format!("u{t}-{i}");
                    let _ = std::panic::catch_unwind(|| buy(at, &user));
                    let _ = std::panic::catch_unwind(|| buy(at, &user));
                }
            });
        }
        for killed_after in [10, 25] {
            until("orders were made", || stage.shop.stats().orders >= killed_after);
            edge.kill();
            edge = stage.edge();
        }
        until("sold out", || {
            let sale = edge.sale();
            sale["state"] == "sold_out" && sale["held"] == 0
        });
        over.store(true, Ordering::Relaxed);
    });
    until("the shop is idle", || stage.shop.stats().in_flight == 0);
    let (shop, sale) = (stage.shop.stats(), edge.sale());
    let (confirmed, limbo) = (sale["confirmed"].as_u64(), sale["limbo"].as_u64());
    assert!(shop.orders <= 60 && shop.users_twice == 0, "{} orders", shop.orders);
    assert_eq!(confirmed.zip(limbo).map(|(c, l)| c + l), Some(60));
    let orders = stage.orders_csv().display().to_string();
    assert!(edge.verb(&["limbo", "match", SALE, &orders, "--at-rest"]).status.success());
    let sale = edge.sale();
    assert_eq!((sale["limbo"].as_u64(), sale["confirmed"].as_u64()), (Some(0), Some(shop.orders)));
    assert_eq!(edge.audit(&stage.orders_csv()), Vec::<String>::new());
}
