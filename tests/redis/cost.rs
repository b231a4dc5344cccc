//! What a sale costs a real Redis, by Redis' own account, and how soon a fleet hears that it is over.
//! `docs/faults.md` has the figures; what is asserted is far from them, since others test here too.

use std::time::{Duration, Instant};

use penstock::config::units::Span;
use penstock::ledger::{Claimed, Control, Op, OpResult, Resolved, Try};
use penstock::outcome::Verdict;

use crate::rig::{Node, name, one, opened, outcome, sale, until};
use crate::server::{Server, Shop};

/// Milliseconds of processor time that the server has used; and those of its scripts, by the clock.
fn used(shop: &mut Shop) -> (f64, f64) {
    let cpu: String = shop.ask(&["INFO", "cpu"]);
    let stats: String = shop.ask(&["INFO", "commandstats"]);
    let seconds = |field: &str| -> f64 {
        let line = cpu.lines().find_map(|line| line.strip_prefix(field)).expect("a field");
        line.trim().parse().expect("seconds")
    };
    let script = stats.lines().find(|line| line.starts_with("cmdstat_evalsha:"));
    let usec = script.and_then(|line| line.split("usec=").nth(1)?.split(',').next()?.parse().ok());
    let all = seconds("used_cpu_user_main_thread:") + seconds("used_cpu_sys_main_thread:");
    (all * 1e3, usec.unwrap_or(0.0) / 1e3)
}

#[tokio::test]
async fn a_whole_sale() {
    const UNITS: u32 = 10_000;
    let server = Server::start(&[]);
    let node = Node::connected(&server).await;
    opened(&node, u64::from(UNITS)).await;
    node.report().await;
    let mut shop = server.shop();
    let before = used(&mut shop);
    for first in (0..UNITS).step_by(64) {
        let tries: Vec<Try> = (first..UNITS.min(first + 64)).map(one).collect();
        let claimed = node.claim(tries.clone()).await;
        assert!(claimed.iter().all(|c| matches!(c, Claimed::Admitted { .. })), "{claimed:?}");
        let all = tries.iter().map(|one| outcome(one, Verdict::Confirmed)).collect();
        let resolved = node.call(Op::Resolve(all)).await.result;
        assert_eq!(resolved, OpResult::Resolved(vec![Resolved::Applied; tries.len()]));
    }
    let after = used(&mut shop);
    let (cpu, scripts) = (after.0 - before.0, after.1 - before.1);
    println!(
        "{UNITS} units: {cpu:.0} ms of the server's processor, {scripts:.0} ms in scripts by the clock: \
         {:.1} us for an admission with its outcome",
        cpu * 1e3 / f64::from(UNITS)
    );
    assert!(node.state().await.sold_out);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_nodes_hear_that_it_is_sold_out() {
    const ROUNDS: usize = 5;
    let server = Server::start(&[]);
    let teller = Node::connected(&server).await;
    opened(&teller, 5).await;
    // The poll may not help.
    let mut settings = server.settings();
    settings.poll = Span::from_ms(3_600_000);
    let mut nodes: Vec<Node> = (0..100).map(|_| Node::open(&settings)).collect();
    nodes.iter_mut().for_each(Node::mirror);
    let is_sold_out =
        |node: &Node, is: bool| node.book.sale(&sale()).is_some_and(|s| s.state.sold_out == is);
    until("all nodes listen", async || {
        let listening: Vec<(String, u64)> = server.shop().ask(&["PUBSUB", "NUMSUB", "ps:bus"]);
        listening[0].1 == 100 && nodes.iter().all(|node| is_sold_out(node, false))
    })
    .await;
    let mut heard: Vec<Duration> = Vec::new();
    for round in 0..ROUNDS {
        let began = Instant::now();
        teller.call(Op::Control(Control::SoldOut)).await;
        let mut waits: Vec<&Node> = nodes.iter().collect();
        while !waits.is_empty() {
            waits.retain(|node| !is_sold_out(node, true));
            heard.resize(round * 100 + 100 - waits.len(), began.elapsed());
            assert!(began.elapsed() < Duration::from_secs(20), "{} never heard", waits.len());
            tokio::task::yield_now().await;
        }
        let (pool, id) = (name("default"), format!("again-{round}"));
        teller.call(Op::Control(Control::Restock { pool, units: 0, id })).await;
        until("open again", async || nodes.iter().all(|node| is_sold_out(node, false))).await;
    }
    heard.sort();
    println!(
        "sold out on 100 nodes, {ROUNDS} times: p50 {:?}, p99 {:?}, last {:?}",
        heard[heard.len() / 2],
        heard[heard.len() * 99 / 100],
        heard[heard.len() - 1]
    );
}
