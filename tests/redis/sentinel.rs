//! A pair under Sentinel: the node finds the master, and the next one.

use std::sync::Arc;
use std::time::Duration;

use penstock::config::schema;
use penstock::config::units::Span;
use penstock::store::{Store, StoreError};

use crate::load::Load;
use crate::rig::{Node, one, opened, sale, until};
use crate::server::{Server, settings};

/// A master, its replica and their Sentinels.
struct Pair {
    master: Server,
    replica: Server,
    sentinels: Vec<Server>,
}

impl Pair {
    async fn start(sentinels: u32, more: &[&str]) -> Pair {
        let master = Server::start(&["--repl-diskless-sync-delay", "0"]);
        let replica = master.replica();
        let quorum = sentinels / 2 + 1;
        let sentinels: Vec<Server> =
            (0..sentinels).map(|_| Server::sentinel(&master, quorum, more)).collect();
        Pair { master, replica, sentinels }
    }

    /// Until every Sentinel knows the replica and the others.
    async fn settled(&self, login: &str) {
        for sentinel in &self.sentinels {
            let mut shop = sentinel.shop_with(login);
            let others = (self.sentinels.len() - 1).to_string();
            let mut knows = move || {
                let flat: Vec<String> = shop.ask(&["SENTINEL", "MASTER", "drop"]);
                let has = |name: &str, value: &str| {
                    flat.chunks(2).any(|pair| pair[0] == name && pair[1] == value)
                };
                has("num-slaves", "1") && has("num-other-sentinels", &others)
            };
            let knows = std::cell::RefCell::new(&mut knows);
            until("the Sentinels know each other", async || knows.borrow_mut()()).await;
        }
        let mut shop = self.master.shop();
        let synced = std::cell::RefCell::new(&mut shop);
        until("the replica is in sync", async || {
            let info: String = synced.borrow_mut().ask(&["INFO", "replication"]);
            info.contains("state=online")
        })
        .await;
    }

    fn settings(&self) -> schema::Store {
        let hosts: Vec<String> = self.sentinels.iter().map(Server::address).collect();
        settings(format!("redis+sentinel://{}/drop", hosts.join(",")))
    }
}

async fn healthy(node: &Node) {
    until("the node is healthy", async || node.store.health().is_ok()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_that_is_killed_under_load_is_followed_by_its_replica() {
    let mut pair = Pair::start(3, &[]).await;
    pair.settled("").await;
    let mut node = Node::open(&pair.settings());
    node.mirror();
    let node = Arc::new(node);
    healthy(&node).await;
    opened(&node, 1_000_000).await;
    let load = Load::start(&node, &sale(), 0, Duration::from_secs(2));
    until("some are admitted", async || load.admitted() > 100).await;
    pair.replica.follows().await;
    pair.master.kill();
    until("the loss is said", async || node.store.health().is_err()).await;
    let before = load.admitted();
    until("others are admitted by the next master", async || load.admitted() > before + 50).await;
    let tally = load.stop().await;
    healthy(&node).await;
    let mut shop = pair.replica.shop();
    let info: String = shop.ask(&["INFO", "replication"]);
    assert!(info.contains("role:master"), "{info}");
    tally.check(&node.records().await);
    assert!(tally.unknown.len() <= 2, "only what was on its way: {:?}", tally.unknown.len());
    // The bus is where the master is.
    until("the bus is heard", async || {
        let listening: Vec<(String, u64)> =
            pair.replica.shop().ask(&["PUBSUB", "NUMSUB", "ps:bus"]);
        listening[0].1 == 1
    })
    .await;
}

/// The rights of the manual for a user of the Sentinels, and for the test.
const USERS: &[&str] = &[
    "user default off",
    "user watcher on >watch resetkeys resetchannels &+switch-master -@all +auth +hello \
     +sentinel|master +subscribe",
    "user operator on >op allkeys allchannels +@all",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_master_that_is_demoted_is_left_and_nothing_is_unknown_for_it() {
    let pair = Pair::start(1, USERS).await;
    pair.settled("operator:op@").await;
    let mut settings = pair.settings();
    let file = pair.master.dir().join("sentinel.password");
    std::fs::write(&file, "watch\n").expect("written");
    settings.sentinel_username = Some("watcher".into());
    settings.sentinel_password_file = Some(file.display().to_string());
    let node = Arc::new(Node::open(&settings));
    healthy(&node).await;
    opened(&node, 1_000_000).await;
    let load = Load::start(&node, &sale(), 0, Duration::from_secs(2));
    until("some are admitted", async || load.admitted() > 50).await;
    pair.replica.follows().await;
    let mut operator = pair.sentinels[0].shop_with("operator:op@");
    operator.run(&["SENTINEL", "FAILOVER", "drop"]);
    until("the replica is master", async || {
        let info = pair.replica.heard::<String>(&["INFO", "replication"]);
        info.is_some_and(|info| info.contains("role:master"))
    })
    .await;
    let known = std::cell::Cell::new(None);
    until("it admits", async || {
        let now = pair.replica.heard::<usize>(&["HLEN", &crate::rig::key("U")]);
        if known.get().is_none() {
            known.set(now);
        }
        now.zip(known.get()).is_some_and(|(now, before)| now > before + 20)
    })
    .await;
    let tally = load.stop().await;
    healthy(&node).await;
    tally.check(&node.records().await);
    assert!(node.claim(vec![one(u32::MAX)]).await.len() == 1);
}

#[tokio::test]
async fn what_is_wrong_with_the_sentinels_is_said() {
    let pair = Pair::start(1, &[]).await;
    let mut settings = pair.settings();
    let url = settings.url.take().expect("a URL");
    settings.url = Some(url.replace("/drop", "/other"));
    let node = Node::open(&settings);
    until("the unknown name is said", async || {
        node.store.health().is_err_and(|why| why.contains("no master called other"))
    })
    .await;
    settings.url = Some("redis+sentinel://127.0.0.1:1/drop".into());
    settings.connect_timeout = Span::from_ms(200);
    let node = Node::open(&settings);
    until("the Sentinel that is missing is said", async || {
        node.store
            .health()
            .is_err_and(|why| why.contains("the Sentinel at 127.0.0.1:1: cannot connect"))
    })
    .await;
    let error = node.try_call(penstock::ledger::Op::Read).await.expect_err("nobody there");
    assert!(matches!(error, StoreError::NotSent(_)), "{error:?}");
    // Not the Sentinel's port, and the other way round.
    let server = Server::start(&[]);
    settings.url = Some(format!("redis+sentinel://{}/drop", server.address()));
    let node = Node::open(&settings);
    until("a server is no Sentinel", async || {
        node.store.health().is_err_and(|why| why.contains("the Sentinel at") && why.contains("ERR"))
    })
    .await;
}
