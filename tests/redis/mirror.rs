//! The book follows Redis: by the bus at once, by the poll for certain.

use penstock::config::units::Span;
use penstock::ledger::{Control, Op};
use penstock::sale::Availability;
use penstock::store::{Store, StoreError};

use crate::rig::{Node, declaration, key, name, one, opened, sale, until};
use crate::server::Server;

fn is_paused(node: &Node) -> Option<bool> {
    node.book.sale(&sale()).map(|snapshot| snapshot.state.paused)
}

#[tokio::test]
async fn the_bus_tells_at_once() {
    let server = Server::start(&[]);
    let mut settings = server.settings();
    settings.poll = Span::from_ms(3_600_000);
    let teller = Node::connected(&server).await;
    opened(&teller, 5).await;
    let mut node = Node::open(&settings);
    node.mirror();
    until("the book is in sync", async || node.book.is_synced()).await;
    let mut shop = server.shop();
    until("the node listens", async || {
        let listening: Vec<(String, u64)> = server.shop().ask(&["PUBSUB", "NUMSUB", "ps:bus"]);
        listening[0].1 == 1
    })
    .await;
    for paused in [true, false] {
        let word = if paused { Control::Pause } else { Control::Resume };
        teller.call(Op::Control(word)).await;
        until("the bus told it", async || is_paused(&node) == Some(paused)).await;
    }
    // What is said while the listener's connection is down is read when it is up again.
    shop.run(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    teller.call(Op::Control(Control::Pause)).await;
    until("it was read anew", async || is_paused(&node) == Some(true)).await;
}

#[tokio::test]
async fn a_message_that_is_lost_is_healed_by_the_poll() {
    let server = Server::start(&[]);
    let node = Node::mirroring(&server).await;
    opened(&node, 5).await;
    let mut shop = server.shop();
    shop.run(&["HSET", &key("L"), "paused", "1", "version", "7"]);
    until("the poll told it", async || is_paused(&node) == Some(true)).await;
}

#[tokio::test]
async fn noise_on_the_bus_harms_nobody() {
    let server = Server::start(&[]);
    let node = Node::mirroring(&server).await;
    opened(&node, 5).await;
    let mut shop = server.shop();
    for n in 0..5_000 {
        let noise = ["", "x", "shop/drop", "want:shop/drop", "want:no/sale", "a/b/c"][n % 6];
        shop.run(&["PUBLISH", "ps:bus", noise]);
    }
    node.call(Op::Control(Control::Pause)).await;
    until("the change got through", async || is_paused(&node) == Some(true)).await;
    assert!(node.book.sale(&"no/sale".parse().expect("a name")).is_none());
}

#[tokio::test]
async fn older_news_never_wins() {
    let server = Server::start(&[]);
    let node = Node::mirroring(&server).await;
    opened(&node, 5).await;
    node.call(Op::Control(Control::SoldOut)).await;
    let sold_out = async || {
        let snapshot = node.book.sale(&sale());
        snapshot.is_some_and(|s| s.at(&node.clock.now()).availability == Availability::SoldOut)
    };
    until("the book says so", sold_out).await;
    let mut shop = server.shop();
    shop.run(&["HSET", &key("L"), "version", "1", "sold_out", "0", "sold_out:default", "0"]);
    // The poll has read the old version at least once when the next sale is seen.
    let mut other = declaration(node.clock.now().wall, 1);
    other.activity = name("other");
    let id = "shop/other".parse().expect("a name");
    let op = crate::rig::declare(other);
    let told = penstock::store::Store::call(&*node.store, &id, op, crate::rig::DEADLINE).await;
    told.expect("a reply");
    until("the other sale is known", async || node.book.sale(&id).is_some()).await;
    assert!(sold_out().await, "a restored ledger does not open a sale again");
}

#[tokio::test]
async fn a_sale_that_is_removed_leaves_the_book() {
    let server = Server::start(&[]);
    let node = Node::mirroring(&server).await;
    opened(&node, 5).await;
    until("the sale is known", async || node.book.sale(&sale()).is_some()).await;
    let mut shop = server.shop();
    shop.run(&["SREM", "ps:sales", "shop/drop"]);
    until("the sale is gone", async || node.book.sale(&sale()).is_none()).await;
}

#[tokio::test]
async fn an_activity_has_one_sale_that_is_not_over() {
    let server = Server::start(&[]);
    let node = Node::connected(&server).await;
    opened(&node, 5).await;
    let id = "shop/rival".parse().expect("a name");
    let declare = || crate::rig::declare(declaration(node.clock.now().wall, 1));
    let store = &*node.store;
    let call = async || {
        let reply = penstock::store::Store::call(store, &id, declare(), crate::rig::DEADLINE).await;
        format!("{:?}", reply.expect("a reply").result)
    };
    let refused = call().await;
    assert!(refused.contains("shop/drop") && refused.contains("penstock sale end"), "{refused}");
    node.call(Op::Control(Control::End)).await;
    assert_eq!(call().await, "Declared(CreatedPaused)");
}

#[tokio::test]
async fn the_servers_clock_is_followed() {
    let server = Server::start(&[]);
    let node = Node::mirroring(&server).await;
    opened(&node, 5).await;
    let reply = node.call(Op::Claim(node.batch(vec![one(1)]))).await;
    let now = node.clock.now();
    assert!(now.ledger_err_ms > 0, "the clock was compared");
    assert!(now.ledger.0.abs_diff(reply.now.0) < 1_000, "{now:?} {:?}", reply.now);
}

#[tokio::test]
async fn a_sale_whose_ledger_is_lost_is_shown_as_last_known_and_admits_nobody() {
    let server = Server::start(&[]);
    let node = Node::mirroring(&server).await;
    opened(&node, 5).await;
    until("the sale is known", async || node.book.sale(&sale()).is_some()).await;
    server.shop().run(&["FLUSHALL"]);
    let is_gone = |why: String| why.contains("shop/drop") && why.contains("gone from Redis");
    until("the loss is said", async || node.store.health().is_err_and(is_gone)).await;
    let refused = node.try_call(Op::Claim(node.batch(vec![one(1)]))).await;
    assert!(matches!(refused, Err(StoreError::Refused(why)) if why.contains("gone from Redis")));
    assert!(node.book.sale(&sale()).is_some(), "clients are told what was known last, not 404");
}
