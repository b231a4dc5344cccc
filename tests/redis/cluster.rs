//! A cluster of three masters: each sale with its own, slots that move, masters that go and come.

use std::sync::Arc;
use std::time::Duration;

use penstock::config::schema;
use penstock::config::units::Span;
use penstock::ident::SaleId;
use penstock::ledger::{Claimed, Control, Op, OpResult, Record};
use penstock::store::{Store, StoreError};

use crate::load::Load;
use crate::rig::{DEADLINE, Node, declaration, declare, name, one, until};
use crate::server::{Server, settings};

struct Cluster {
    masters: Vec<Server>,
    ids: Vec<String>,
}

impl Cluster {
    async fn start(options: &[&str]) -> Cluster {
        let mut masters: Vec<Server> = Vec::new();
        for _ in 0..3 {
            masters.push(member(options));
        }
        let mut ids = Vec::new();
        for (n, (master, slots)) in masters.iter().zip(RANGES).enumerate() {
            let mut shop = master.shop();
            shop.run(&["CLUSTER", "SET-CONFIG-EPOCH", &(n + 1).to_string()]);
            shop.run(&["CLUSTER", "ADDSLOTSRANGE", slots.0, slots.1]);
            ids.push(shop.ask::<String>(&["CLUSTER", "MYID"]));
        }
        for other in &masters[1..] {
            let (port, bus) = (other.port().to_string(), other.option(BUS));
            masters[0].shop().run(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]);
        }
        for master in &masters {
            until("the masters know each other", async || {
                let info: String = master.shop().ask(&["CLUSTER", "INFO"]);
                let mut wanted = ["cluster_state:ok", "cluster_known_nodes:3", "assigned:16384"];
                wanted.iter_mut().all(|line| info.contains(*line))
            })
            .await;
        }
        Cluster { masters, ids }
    }

    /// By its first master; the others are found.
    fn settings(&self) -> schema::Store {
        settings(format!("redis+cluster://{}", self.masters[0].address()))
    }

    /// A sale whose slot the master has.
    fn sale_of(&self, master: usize) -> SaleId {
        let mut shop = self.masters[0].shop();
        let (first, last) = RANGES[master];
        let range = first.parse::<u32>().expect("a slot")..=last.parse().expect("a slot");
        (0..)
            .map(|n| format!("shop/s{n}"))
            .find(|sale| range.contains(&slot(&mut shop, sale)))
            .and_then(|sale| sale.parse().ok())
            .expect("a sale")
    }

    /// Begins to move the slot of a sale.
    fn begin(&self, sale: &SaleId, from: usize, to: usize) -> String {
        let slot = slot(&mut self.masters[0].shop(), &sale.to_string()).to_string();
        self.masters[to].shop().run(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &self.ids[from]]);
        self.masters[from].shop().run(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &self.ids[to]]);
        slot
    }

    /// Moves its keys one by one and ends the move.
    fn finish(&self, slot: &str, from: usize, to: usize) {
        let mut shop = self.masters[from].shop();
        let port = self.masters[to].port().to_string();
        loop {
            let keys: Vec<String> = shop.ask(&["CLUSTER", "GETKEYSINSLOT", slot, "1"]);
            let Some(key) = keys.first() else { break };
            shop.run(&["MIGRATE", "127.0.0.1", &port, key, "0", "5000"]);
        }
        for master in [to, from] {
            let node = &self.ids[to];
            self.masters[master].shop().run(&["CLUSTER", "SETSLOT", slot, "NODE", node]);
        }
    }
}

/// A server that may be a member of a cluster.
fn member(options: &[&str]) -> Server {
    let bus = Server::stopped(&[]).port().to_string();
    let mut all = vec!["--cluster-enabled", "yes", BUS, &bus];
    all.extend(["--cluster-node-timeout", "1000", "--cluster-require-full-coverage", "no"]);
    all.extend(["--repl-diskless-sync-delay", "0"]);
    all.extend(options);
    Server::start(&all)
}

const BUS: &str = "--cluster-port";

const RANGES: [(&str, &str); 3] = [("0", "5460"), ("5461", "10922"), ("10923", "16383")];

fn slot(shop: &mut crate::server::Shop, sale: &str) -> u32 {
    shop.ask(&["CLUSTER", "KEYSLOT", &format!("ps:{{{sale}}}:L")])
}

async fn call(node: &Node, sale: &SaleId, op: Op) -> OpResult {
    node.tell(sale, op, DEADLINE).await.expect("a reply").result
}

async fn open(node: &Node, sale: &SaleId, stock: u64) {
    let mut said = declaration(node.clock.now().wall, stock);
    said.activity = name(&sale.to_string().replace('/', "-"));
    let declared = call(node, sale, declare(said)).await;
    assert!(matches!(declared, OpResult::Declared(_)), "{declared:?}");
    call(node, sale, Op::Control(Control::Resume)).await;
}

async fn records(node: &Node, sale: &SaleId) -> Vec<Record> {
    node.store.records(sale, None, None, usize::MAX).await.expect("records")
}

async fn connected(cluster: &Cluster) -> Arc<Node> {
    let mut node = Node::open(&cluster.settings());
    until("the node is healthy", async || node.store.health().is_ok()).await;
    node.mirror();
    until("the book is in sync", async || node.book.is_synced()).await;
    Arc::new(node)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_sale_is_with_its_master_and_goes_on_while_its_slot_moves() {
    let cluster = Cluster::start(&[]).await;
    // The rights of the manual, and no others.
    let rights = crate::faults::rights_of_the_manual() + " +cluster|slots +asking";
    for master in &cluster.masters {
        master.shop().run(&rights.split_ascii_whitespace().collect::<Vec<_>>());
    }
    let mut limited = cluster.settings();
    limited.url = limited.url.map(|url| url.replace("://", "://node:pw@"));
    let node = connected(&cluster).await;
    let sales: Vec<SaleId> = (0..3).map(|n| cluster.sale_of(n)).collect();
    for sale in &sales {
        open(&node, sale, 1_000_000).await;
    }
    // A second node, with no more than its rights, hears of all by the bus.
    limited.poll = Span::from_ms(3_600_000);
    let mut other = Node::open(&limited);
    other.mirror();
    until("the other node is in sync", async || other.book.is_synced()).await;
    for sale in &sales {
        until("the other node has read it", async || other.book.sale(sale).is_some()).await;
        until("the bus tells it", async || {
            call(&node, sale, Op::Control(Control::Pause)).await;
            call(&node, sale, Op::Control(Control::Resume)).await;
            other.book.sale(sale).is_some_and(|known| known.state.version > 3)
        })
        .await;
        other.report_of(sale).await.expect("a reply");
        let claimed = call(&other, sale, Op::Claim(other.batch_of(sale, vec![one(1)]))).await;
        assert!(
            matches!(&claimed, OpResult::Claimed(c) if matches!(c[..], [Claimed::Admitted { .. }]))
        );
    }

    let moving = &sales[0];
    let load = Load::start(&node, moving, 1_000, DEADLINE);
    until("some are admitted", async || load.admitted() > 50).await;
    let slot = cluster.begin(moving, 0, 2);
    // Nobody waits longer than the deadline, and nothing is unknown.
    until("the move is said", async || {
        let op = Op::Claim(node.batch_of(moving, vec![one(2)]));
        match node.store.call(moving, op, Duration::from_millis(20)).await {
            Err(StoreError::Refused(why)) => why.contains("TRYAGAIN"),
            _ => false,
        }
    })
    .await;
    let op = Op::Claim(node.batch_of(&sales[1], vec![one(3)]));
    node.store.call(&sales[1], op, DEADLINE).await.expect("other sales go on");
    let before = load.admitted();
    cluster.finish(&slot, 0, 2);
    until("it goes on elsewhere", async || load.admitted() > before + 50).await;
    let tally = load.stop().await;
    let all = records(&node, moving).await;
    let all: Vec<Record> =
        all.into_iter().filter(|r| ![1, 2].map(crate::rig::user).contains(&r.user)).collect();
    tally.check_kept(&all);
    assert!(tally.unknown.is_empty(), "a move makes nothing unknown");
    assert!(node.store.health().is_ok());
    until("the other node follows", async || {
        call(&other, moving, Op::Read).await == OpResult::Read
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_that_is_killed_closes_its_own_sales_until_it_is_back() {
    // Without a sync to the disk: what was written outlives the process.
    let mut cluster = Cluster::start(&["--appendonly", "yes", "--appendfsync", "no"]).await;
    let node = connected(&cluster).await;
    let (lost, other) = (cluster.sale_of(1), cluster.sale_of(2));
    open(&node, &lost, 1_000_000).await;
    open(&node, &other, 1_000_000).await;
    let on_lost = Load::start(&node, &lost, 0, Duration::from_secs(2));
    let on_other = Load::start(&node, &other, 0, DEADLINE);
    until("both admit", async || on_lost.admitted() > 20 && on_other.admitted() > 20).await;
    cluster.masters[1].kill();
    until("the loss is said", async || node.store.health().is_err()).await;
    let (before, elsewhere) = (on_lost.admitted(), on_other.admitted());
    until("the others go on", async || on_other.admitted() > elsewhere + 20).await;
    assert_eq!(on_lost.admitted(), before);
    let error = node.store.call(&lost, Op::Read, DEADLINE).await.expect_err("nobody there");
    assert!(matches!(error, StoreError::Refused(_)), "the breaker stays closed: {error:?}");
    cluster.masters[1].run();
    until("it is back", async || on_lost.admitted() > before + 20).await;
    until("the node is healthy", async || node.store.health().is_ok()).await;
    let tally = on_lost.stop().await;
    tally.check_kept(&records(&node, &lost).await);
    assert!(tally.unknown.len() <= 2, "only what was on its way");
    let tally = on_other.stop().await;
    tally.check_kept(&records(&node, &other).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_of_a_master_that_is_killed_takes_over() {
    let mut cluster = Cluster::start(&[]).await;
    let replica = member(&[]);
    let (port, bus) = (cluster.masters[0].port().to_string(), cluster.masters[0].option(BUS));
    replica.shop().run(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]);
    until("it is a replica", async || {
        replica.shop().refusal(&["CLUSTER", "REPLICATE", &cluster.ids[0]]).is_none()
    })
    .await;
    for member in cluster.masters.iter().chain([&replica]) {
        until("all know it", async || {
            let nodes: String = member.shop().ask(&["CLUSTER", "NODES"]);
            nodes.lines().count() == 4 && nodes.contains("slave")
        })
        .await;
    }
    until("it is in sync", async || {
        let info: String = replica.shop().ask(&["INFO", "replication"]);
        info.contains("master_link_status:up")
    })
    .await;
    let node = connected(&cluster).await;
    let sale = cluster.sale_of(0);
    open(&node, &sale, 1_000_000).await;
    let load = Load::start(&node, &sale, 0, Duration::from_secs(2));
    until("some are admitted", async || load.admitted() > 50).await;
    replica.follows().await;
    cluster.masters[0].kill();
    until("the loss is said", async || node.store.health().is_err()).await;
    let before = load.admitted();
    until("the replica admits", async || load.admitted() > before + 20).await;
    until("the node is healthy", async || node.store.health().is_ok()).await;
    let tally = load.stop().await;
    tally.check(&records(&node, &sale).await);
    assert!(tally.unknown.len() <= 2, "only what was on its way: {:?}", tally.unknown.len());
}

/// For as long as `make test-long` allows: to and fro under load.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_moves_again_and_again_loses_nothing() {
    if std::env::var_os("PENSTOCK_TEST_LONG").is_none() {
        return;
    }
    let cluster = Cluster::start(&[]).await;
    let node = connected(&cluster).await;
    let sale = cluster.sale_of(0);
    open(&node, &sale, 1_000_000).await;
    let load = Load::start(&node, &sale, 0, DEADLINE);
    let mut at = 0;
    for round in 1..=30 {
        let to = (at + 1 + round % 2) % 3;
        let slot = cluster.begin(&sale, at, to);
        cluster.finish(&slot, at, to);
        let before = load.admitted();
        until("it goes on", async || load.admitted() > before + 20).await;
        at = to;
    }
    let tally = load.stop().await;
    tally.check_kept(&records(&node, &sale).await);
    assert!(tally.unknown.is_empty(), "{:?}", tally.unknown.len());
}

#[tokio::test]
async fn a_wrong_kind_of_redis_is_named() {
    let server = Server::start(&[]);
    let node = Node::open(&settings(format!("redis+cluster://{}", server.address())));
    until("it is no cluster", async || {
        node.store.health().is_err_and(|why| why.contains("begin store.url with redis://"))
    })
    .await;
    let bus = Server::stopped(&[]).port().to_string();
    let server = Server::start(&["--cluster-enabled", "yes", "--cluster-port", &bus]);
    let node = Node::open(&server.settings());
    until("it is a cluster", async || {
        node.store.health().is_err_and(|why| why.contains("redis+cluster://"))
    })
    .await;
}
