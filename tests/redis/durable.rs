//! An admission counts when replicas have it.

use penstock::config::units::Span;
use penstock::ledger::Op;
use penstock::outcome::Verdict;
use penstock::store::{Store, StoreError};

use crate::rig::{Node, one, opened, outcome, until};
use crate::server::Server;

#[tokio::test]
async fn an_admission_that_no_replica_has_is_refused_and_can_be_undone() {
    let master = Server::start(&["--repl-diskless-sync-delay", "0"]);
    let port = master.settings().url.and_then(|u| u.rsplit(':').next().map(str::to_owned));
    let replica = Server::start(&["--replicaof", &format!("127.0.0.1 {}", port.expect("a port"))]);
    let mut shop = replica.shop();
    until("the replica follows", async || {
        let mut shop = replica.shop();
        shop.ask::<String>(&["INFO", "replication"]).contains("master_link_status:up")
    })
    .await;
    let mut settings = master.settings();
    settings.wait_replicas = 1;
    settings.wait_timeout = Span::from_ms(500);
    settings.wait_alone = Span::from_secs(3_600);
    let node = Node::open(&settings);
    until("the node is healthy", async || node.store.health().is_ok()).await;
    opened(&node, 5).await;
    until("a replica acknowledges", async || {
        node.try_call(Op::Claim(node.batch(vec![one(1)]))).await.is_ok()
    })
    .await;
    let held: String = shop.ask(&["HGET", "ps:{shop/drop}:L", "held:default"]);
    assert_eq!(held, "1", "the replica has it when the node hears of it");
    replica.signal("-STOP");
    let lost = one(2);
    let error =
        node.try_call(Op::Claim(node.batch(vec![lost.clone()]))).await.expect_err("refused");
    assert_eq!(error, StoreError::NotDurable);
    assert_eq!(node.state().await.pools[0].held, 2, "it stands in the ledger all the same");
    node.call(Op::Resolve(vec![outcome(&lost, Verdict::Failed)])).await;
    assert_eq!(node.state().await.pools[0].held, 1);
    replica.signal("-CONT");
    until("the replica is back", async || {
        let claim = node.try_call(Op::Claim(node.batch(vec![one(3)]))).await;
        claim.is_ok()
    })
    .await;
}

#[tokio::test]
async fn a_server_that_has_no_replica_yet_sells_after_a_while() {
    let server = Server::start(&[]);
    let mut settings = server.settings();
    settings.wait_replicas = 1;
    settings.wait_timeout = Span::from_ms(5);
    settings.wait_alone = Span::from_ms(100);
    let node = Node::open(&settings);
    until("the node is healthy", async || node.store.health().is_ok()).await;
    opened(&node, 5).await;
    let first = node.try_call(Op::Claim(node.batch(vec![one(1)]))).await;
    assert_eq!(first.expect_err("refused"), StoreError::NotDurable);
    until("it goes on", async || {
        node.try_call(Op::Claim(node.batch(vec![one(2)]))).await.is_ok_and(|_| true)
    })
    .await;
}
