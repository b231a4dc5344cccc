//! Several nodes, no faults: exact.

use std::collections::HashSet;
use std::sync::Arc;

use penstock::config::schema::{PerUser, Pool};
use penstock::ledger::{Claimed, Control, Op, Resolved, Try};
use penstock::outcome::Verdict;
use tokio::task::JoinSet;

use crate::rig::{Node, check, declaration, name, one, opened, outcome};
use crate::server::Server;

async fn fleet(server: &Server, nodes: usize) -> Vec<Arc<Node>> {
    let mut fleet = Vec::new();
    for _ in 0..nodes {
        fleet.push(Arc::new(Node::connected(server).await));
    }
    fleet
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn eight_nodes_admit_exactly_the_stock() {
    let server = Server::start(&[]);
    let nodes = fleet(&server, 8).await;
    opened(&nodes[0], 100).await;
    let mut tasks = JoinSet::new();
    for (n, node) in nodes.iter().cloned().enumerate() {
        // Every user is on two nodes.
        let from = u32::try_from(n / 2).expect("few nodes") * 500;
        tasks.spawn(async move {
            node.state().await;
            let mut admitted = Vec::new();
            for first in (from..from + 500).step_by(10) {
                let tries: Vec<Try> = (first..first + 10).map(one).collect();
                let claimed = node.claim(tries.clone()).await;
                let won = tries.into_iter().zip(claimed);
                admitted.extend(won.filter_map(|(one, claimed)| match claimed {
                    Claimed::Admitted { .. } => Some(one),
                    Claimed::Busy | Claimed::InProgress { .. } => None,
                    other => panic!("{other:?}"),
                }));
            }
            admitted
        });
    }
    let admitted: Vec<Try> = tasks.join_all().await.into_iter().flatten().collect();
    assert_eq!(admitted.len(), 100);
    let users: HashSet<_> = admitted.iter().map(|one| one.user).collect();
    assert_eq!(users.len(), 100, "nobody twice");
    check(&nodes[0].state().await, &nodes[1].records().await, 0);

    let all = admitted.iter().map(|one| outcome(one, Verdict::Confirmed)).collect();
    let reply = nodes[3].call(Op::Resolve(all)).await;
    let state = reply.state.expect("a sale");
    assert!(state.sold_out);
    assert_eq!((state.pools[0].confirmed, state.version), (100, 3));
    assert_eq!(nodes[5].claim(vec![one(9_999)]).await, [Claimed::SoldOut]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_comes_back_is_sold_until_the_last_unit() {
    let server = Server::start(&[]);
    let nodes = fleet(&server, 4).await;
    let mut said = declaration(nodes[0].clock.now().wall, 30);
    said.pools.insert(name("other"), Pool::of(31));
    said.per_user = PerUser { orders: 2, units: 3 };
    nodes[0].declare(said).await;
    nodes[0].call(Op::Control(Control::Resume)).await;
    let mut tasks = JoinSet::new();
    for (n, node) in nodes.iter().cloned().enumerate() {
        tasks.spawn(async move {
            let mut sold = 0;
            // Every third order fails; a node that finds nothing left for long enough is done.
            for round in 0..400_u32 {
                let mut one = one(u32::try_from(n).expect("few") * 1_000 + round);
                one.units = 1 + round % 2;
                one.pool = name(if round % 4 < 2 { "default" } else { "other" });
                if !matches!(node.claim(vec![one.clone()]).await[..], [Claimed::Admitted { .. }]) {
                    continue;
                }
                let is_sold = round % 3 != 0;
                let verdict = if is_sold { Verdict::Confirmed } else { Verdict::Failed };
                let resolved = node.call(Op::Resolve(vec![outcome(&one, verdict)])).await.result;
                let applied = penstock::ledger::OpResult::Resolved(vec![Resolved::Applied]);
                assert_eq!(resolved, applied);
                sold += if is_sold { u64::from(one.units) } else { 0 };
            }
            sold
        });
    }
    let sold: u64 = tasks.join_all().await.into_iter().sum();
    let state = nodes[2].state().await;
    assert_eq!(sold, 61, "every unit, none twice");
    assert!(state.sold_out && state.pools.iter().all(|p| p.held == 0 && p.limbo == 0));
    check(&state, &nodes[2].records().await, 0);
}
