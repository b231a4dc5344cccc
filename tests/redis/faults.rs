//! What is wrong with Redis is said, admits nobody, and heals by itself.

use std::cell::RefCell;
use std::time::Duration;

use penstock::clock::UnixMs;
use penstock::config::units::Span;
use penstock::ledger::{Claimed, Op, OpResult};
use penstock::outcome::Verdict;
use penstock::sale::Hint;
use penstock::store::{Store, StoreError};

use crate::rig::{
    DEADLINE, Node, check, declaration, declare, key, one, opened, outcome, sale, until, user,
};
use crate::server::Server;

fn refused(error: StoreError) -> String {
    match error {
        StoreError::Refused(why) => why,
        other => panic!("{other:?}"),
    }
}

async fn claim_refused(node: &Node) -> String {
    let claim = Op::Claim(node.batch(vec![one(1)]));
    refused(node.try_call(claim).await.expect_err("refused"))
}

#[tokio::test]
async fn a_server_that_is_down_at_start_is_used_when_it_comes() {
    let mut server = Server::stopped(&[]);
    let mut node = Node::open(&server.settings());
    node.mirror();
    until("the refusal is told", async || {
        node.store.health().is_err_and(|why| why.contains("cannot connect"))
    })
    .await;
    let error = node.try_call(Op::Read).await.expect_err("nobody there");
    assert!(matches!(error, StoreError::NotSent(_)), "{error:?}");
    assert!(!node.book.is_synced());
    server.run();
    until("the book is in sync", async || node.book.is_synced()).await;
    assert_eq!(node.store.health(), Ok(()));
    opened(&node, 1).await;
    until("the sale is in the book", async || node.book.sale(&sale()).is_some()).await;
}

#[tokio::test]
async fn killed_and_restarted_in_mid_sale_it_has_forgotten_nothing() {
    let mut server = Server::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let node = Node::mirroring(&server).await;
    opened(&node, 100).await;
    let first: Vec<_> = (0..60).map(one).collect();
    let claimed = node.claim(first.clone()).await;
    assert!(claimed.iter().all(|c| matches!(c, Claimed::Admitted { .. })), "{claimed:?}");
    server.kill();
    until("nothing is sent any more", async || {
        matches!(node.try_call(Op::Read).await, Err(StoreError::NotSent(_)))
    })
    .await;
    until("the flag has aged", async || {
        let view = node.book.sale(&sale()).expect("the sale is known").at(&node.clock.now());
        view.hint == Some(Hint::Stale) && view.age_ms > 500
    })
    .await;
    server.run();
    until("the node is healthy", async || node.store.health().is_ok()).await;
    // It cannot know that it has forgotten nothing.
    assert_eq!(node.claim(vec![one(99)]).await, [Claimed::Learning]);
    node.report().await;
    let second = node.claim((0..100).map(one).collect()).await;
    let admitted = second.iter().filter(|c| matches!(c, Claimed::Admitted { .. })).count();
    assert_eq!(admitted, 40);
    node.call(Op::Resolve(first.iter().map(|o| outcome(o, Verdict::Confirmed)).collect())).await;
    let state = node.state().await;
    assert_eq!((state.pools[0].confirmed, state.pools[0].held), (60, 40));
    check(&state, &node.records().await, 0);
}

#[tokio::test]
async fn a_server_that_hangs_is_given_up_and_its_late_answers_reach_nobody() {
    let server = Server::start(&[]);
    let node = Node::connected(&server).await;
    opened(&node, 10).await;
    server.signal("-STOP");
    let mut batch = node.batch(vec![one(1)]);
    batch.not_after = node.clock.now().ledger;
    let deadline = Duration::from_millis(20);
    let error = node.store.call(&sale(), Op::Claim(batch), deadline).await.expect_err("no answer");
    assert_eq!(error, StoreError::MaybeApplied);
    until("nothing is sent any more", async || {
        let read = node.store.call(&sale(), Op::Read, deadline).await;
        matches!(read, Err(StoreError::NotSent(_)))
    })
    .await;
    server.signal("-CONT");
    until("the node is healthy", async || node.store.health().is_ok()).await;
    let claimed = node.claim(vec![one(2)]).await;
    assert!(matches!(claimed[..], [Claimed::Admitted { .. }]), "{claimed:?}");
    let state = node.state().await;
    assert_eq!(state.pools[0].held, 1, "the batch that came after its time did nothing");
    check(&state, &node.records().await, 0);
}

#[tokio::test]
async fn a_key_of_another_type_is_named_and_nothing_is_half_written() {
    let server = Server::start(&[]);
    let mut node = Node::connected(&server).await;
    let mut shop = server.shop();
    opened(&node, 10).await;
    node.claim(vec![one(2)]).await;
    for part in ["U", "D", "F", "out", "L"] {
        shop.run(&["RENAME", &key(part), "kept"]);
        shop.run(&["SET", &key(part), "a string"]);
        let before = shop.everything();
        let why = claim_refused(&node).await;
        assert!(why.contains(&key(part)) && why.contains("RENAME"), "{why}");
        assert_eq!(before, shop.everything(), "{part}");
        shop.run(&["DEL", &key(part)]);
        shop.run(&["RENAME", "kept", &key(part)]);
    }
    node.mirror();
    until("the book is in sync", async || node.book.is_synced()).await;
    shop.run(&["SADD", "ps:sales", "shop/other"]);
    shop.run(&["SET", "ps:{shop/other}:L", "a string"]);
    until("health names the key", async || {
        node.store.health().is_err_and(|why| why.contains("ps:{shop/other}:L"))
    })
    .await;
    shop.run(&["DEL", "ps:{shop/other}:L"]);
    until("it healed", async || node.store.health().is_ok()).await;
    node.claim(vec![one(3)]).await;
}

#[tokio::test]
async fn a_book_with_a_sale_that_cannot_be_read_is_not_in_sync() {
    let server = Server::start(&[]);
    let mut node = Node::connected(&server).await;
    opened(&node, 10).await;
    let mut shop = server.shop();
    shop.run(&["SADD", "ps:sales", "shop/other", "noise"]);
    shop.run(&["HSET", "ps:{shop/other}:L", "epoch", "one"]);
    node.mirror();
    until("health says why", async || {
        node.store.health().is_err_and(|why| why.contains("shop/other"))
    })
    .await;
    assert!(!node.book.is_synced());
    assert!(node.book.sale(&sale()).is_some(), "the others are served");
    shop.run(&["DEL", "ps:{shop/other}:L"]);
    until("the book is in sync", async || node.book.is_synced()).await;
}

#[tokio::test]
async fn values_that_make_no_sense_admit_nobody_and_change_nothing() {
    let server = Server::start(&[]);
    let node = Node::connected(&server).await;
    let mut shop = server.shop();
    opened(&node, 10).await;
    node.claim(vec![one(1)]).await;
    let (ledger, users) = (key("L"), key("U"));
    let known = user(1).to_string();
    let record: String = shop.ask(&["HGET", &users, &known]);
    for (hash, field, bad) in [
        (&ledger, "held:default", "banana"),
        (&ledger, "held:default", "-1"),
        (&ledger, "stock:default", "1e3"),
        (&ledger, "stock:default", "99999999999999999999"),
        (&ledger, "opens_at", ""),
        (&users, known.as_str(), "A|nonsense"),
        (&users, known.as_str(), "\0"),
    ] {
        let good: String = shop.ask(&["HGET", hash, field]);
        shop.run(&["HSET", hash, field, bad]);
        let before = shop.everything();
        let tries = vec![one(7), one(1)];
        let why = node.try_call(Op::Claim(node.batch(tries))).await.expect_err("refused");
        assert!(refused(why).contains("makes no sense"), "{field} {bad:?}");
        assert_eq!(before, shop.everything(), "{field} {bad:?}");
        shop.run(&["HSET", hash, field, &good]);
    }
    assert_eq!(record, shop.ask::<String>(&["HGET", &users, &known]));
    node.claim(vec![one(8)]).await;
    check(&node.state().await, &node.records().await, 0);
}

#[tokio::test]
async fn an_answer_that_makes_no_sense_closes_the_sale_until_it_does() {
    let server = Server::start(&[]);
    let node = Node::mirroring(&server).await;
    let mut shop = server.shop();
    opened(&node, 10).await;
    // The scripts look at the pool of the claim alone; the node reads all.
    shop.run(&["HSET", &key("L"), "pools", "default,other"]);
    until("the sale is closed", async || {
        let claim = Op::Claim(node.batch(vec![one(1)]));
        match node.try_call(claim).await {
            Err(StoreError::Refused(why)) => why.contains("unexpected"),
            Err(StoreError::MaybeApplied) => false,
            other => panic!("{other:?}"),
        }
    })
    .await;
    assert!(node.store.health().is_err_and(|why| why.contains("shop/drop")));
    shop.run(&["HSET", &key("L"), "pools", "default"]);
    until("it healed", async || node.store.health().is_ok()).await;
    node.claim(vec![one(2)]).await;
}

#[tokio::test]
async fn a_server_that_evicts_admits_nobody_until_it_does_not() {
    let server = Server::start(&["--maxmemory-policy", "allkeys-lru"]);
    let node = Node::open(&server.settings());
    until("health says why", async || {
        node.store.health().is_err_and(|why| why.contains("maxmemory-policy noeviction"))
    })
    .await;
    assert!(claim_refused(&node).await.contains("allkeys-lru"));
    let read = node.call(Op::Read).await;
    assert_eq!(read.result, OpResult::NoSale, "reads pass");
    let mut shop = server.shop();
    shop.run(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    until("the node is healthy", async || node.store.health().is_ok()).await;
    opened(&node, 1).await;
    shop.run(&["CONFIG", "SET", "maxmemory", "1"]);
    assert!(claim_refused(&node).await.contains("out of memory"));
    until("health says why", async || {
        node.store.health().is_err_and(|why| why.contains("out of memory"))
    })
    .await;
}

#[tokio::test]
async fn the_password_is_read_from_its_file_at_every_connection() {
    let server = Server::start(&["--requirepass", "first"]);
    let file = server.dir().join("password");
    let mut settings = server.settings();
    let node = Node::open(&settings);
    until("a password is asked for", async || {
        node.store.health().is_err_and(|why| why.contains("store.password_file"))
    })
    .await;
    settings.password_file = Some(file.display().to_string());
    let node = Node::open(&settings);
    until("the missing file is told", async || {
        node.store.health().is_err_and(|why| why.contains("cannot be read"))
    })
    .await;
    std::fs::write(&file, "wrong\n").expect("written");
    until("the wrong password is told", async || {
        node.store.health().is_err_and(|why| why.contains("refused"))
    })
    .await;
    std::fs::write(&file, "first\n").expect("written");
    until("the node is healthy", async || node.store.health().is_ok()).await;
    let mut shop = server.shop_with(":first@");
    shop.run(&["CONFIG", "SET", "requirepass", "second"]);
    std::fs::write(&file, "second\n").expect("written");
    shop.run(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    until("the node is connected again", async || node.try_call(Op::Read).await.is_ok()).await;
}

#[tokio::test]
async fn a_right_that_is_missing_shows_before_a_script_needs_it() {
    let server = Server::start(&[]);
    let mut shop = server.shop();
    let rights = "ACL SETUSER node on >pw ~ps:* &ps:bus +@all -xadd";
    shop.run(&rights.split(' ').collect::<Vec<_>>());
    let mut settings = server.settings();
    settings.username = Some("node".into());
    let file = server.dir().join("password");
    std::fs::write(&file, "pw").expect("written");
    settings.password_file = Some(file.display().to_string());
    let node = Node::open(&settings);
    until("health says why", async || {
        node.store.health().is_err_and(|why| why.contains("lacks a right"))
    })
    .await;
    assert!(claim_refused(&node).await.contains("ACL"));
    shop.run(&["ACL", "SETUSER", "node", "+xadd"]);
    until("the node is healthy", async || node.store.health().is_ok()).await;
    opened(&node, 1).await;
}

#[tokio::test]
async fn the_rights_of_the_manual_are_enough() {
    let server = Server::start(&[]);
    let mut shop = server.shop();
    let rights = rights_of_the_manual();
    shop.run(&rights.split_ascii_whitespace().collect::<Vec<_>>());
    let mut settings = server.settings();
    settings.username = Some("node".into());
    settings.poll = Span::from_ms(3_600_000);
    let file = server.dir().join("password");
    std::fs::write(&file, "pw").expect("written");
    settings.password_file = Some(file.display().to_string());
    let mut node = Node::open(&settings);
    node.mirror();
    until("the book is in sync", async || node.book.is_synced()).await;
    assert_eq!(node.store.health(), Ok(()));
    opened(&node, 1).await;
    until("the bus told it", async || node.book.sale(&sale()).is_some_and(|s| !s.state.paused))
        .await;
    node.claim(vec![one(1)]).await;
    assert_eq!(node.records().await.len(), 1);
}

/// The ACL line for nodes in the manual; nothing else is needed.
pub fn rights_of_the_manual() -> String {
    let manual = include_str!("../../docs/operations.md");
    let at = manual.find("ACL SETUSER node ").expect("the line");
    let line = manual[at..].split("```").next().expect("its end");
    line.replace("PASSWORD", "pw")
}

#[tokio::test]
async fn a_master_that_is_demoted_admits_nobody_until_it_is_one_again() {
    let server = Server::start(&[]);
    let node = Node::connected(&server).await;
    opened(&node, 100).await;
    let mut shop = server.shop();
    shop.run(&["REPLICAOF", "127.0.0.1", "1"]);
    // At first the server says it, then the node knows.
    for n in 0..20 {
        let op = Op::Claim(node.batch(vec![one(n)]));
        let error = node.store.call(&sale(), op, DEADLINE).await;
        match error.expect_err("a replica admits nobody") {
            StoreError::NotSent(_) | StoreError::Refused(_) => {}
            StoreError::MaybeApplied | StoreError::NotDurable => panic!("a refusal is not unknown"),
        }
    }
    until("health says why", async || {
        node.store.health().is_err_and(|why| why.contains("it is a replica"))
    })
    .await;
    shop.run(&["REPLICAOF", "NO", "ONE"]);
    until("the node is healthy", async || node.store.health().is_ok()).await;
    // It may have followed another in between: that it is the same process says nothing.
    assert_eq!(node.claim(vec![one(50)]).await, [Claimed::Learning]);
    node.report().await;
    node.claim(vec![one(50)]).await;
    assert_eq!(node.records().await.len(), 1, "nothing of what was refused was done");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_busy_with_another_script_refuses_and_is_never_unknown() {
    let server = Server::start(&["--busy-reply-threshold", "50"]);
    let node = Node::connected(&server).await;
    opened(&node, 100).await;
    let (mut blocker, killer) = (server.shop(), RefCell::new(server.shop()));
    let blocked = std::thread::spawn(move || blocker.refusal(&["EVAL", "while true do end", "0"]));
    until("it is busy", async || killer.borrow_mut().refusal(&["PING"]).is_some()).await;
    let claim = async |n, deadline| {
        let op = Op::Claim(node.batch(vec![one(n)]));
        node.store.call(&sale(), op, Duration::from_millis(deadline)).await
    };
    let error = claim(1, 1_000).await.expect_err("busy");
    assert!(matches!(error, StoreError::NotSent(_)), "{error:?}");
    killer.borrow_mut().run(&["SCRIPT", "KILL"]);
    assert!(blocked.join().expect("a thread").is_some());
    until("it admits again", async || claim(2, 5_000).await.is_ok()).await;
    assert_eq!(node.records().await.len(), 1);
}

#[tokio::test]
async fn too_few_replicas_admit_nobody_and_are_named() {
    let server = Server::start(&[]);
    let node = Node::connected(&server).await;
    opened(&node, 10).await;
    let mut shop = server.shop();
    shop.run(&["CONFIG", "SET", "min-replicas-to-write", "1"]);
    assert!(claim_refused(&node).await.contains("min-replicas-to-write"));
    until("health says why", async || {
        node.store.health().is_err_and(|why| why.contains("min-replicas-to-write"))
    })
    .await;
    shop.run(&["CONFIG", "SET", "min-replicas-to-write", "0"]);
    until("the node is healthy", async || node.store.health().is_ok()).await;
    node.claim(vec![one(2)]).await;
    assert_eq!(node.records().await.len(), 1);
}

#[tokio::test]
async fn a_replica_is_read_but_admits_nobody() {
    let master = Server::start(&[]);
    let node = Node::connected(&master).await;
    opened(&node, 5).await;
    let port = master.settings().url.and_then(|u| u.rsplit(':').next().map(str::to_owned));
    let replica = Server::start(&["--replicaof", &format!("127.0.0.1 {}", port.expect("a port"))]);
    let other = Node::open(&replica.settings());
    until("health says why", async || {
        other.store.health().is_err_and(|why| why.contains("it is a replica"))
    })
    .await;
    assert!(claim_refused(&other).await.contains("master"));
    until("it can be read", async || {
        other.try_call(Op::Read).await.is_ok_and(|read| read.state.is_some())
    })
    .await;
}

#[tokio::test]
async fn scripts_that_were_flushed_are_sent_again() {
    let server = Server::start(&[]);
    let node = Node::mirroring(&server).await;
    let mut shop = server.shop();
    opened(&node, 3).await;
    for n in 0..3 {
        shop.run(&["SCRIPT", "FLUSH"]);
        let claimed = node.claim(vec![one(n)]).await;
        assert!(matches!(claimed[..], [Claimed::Admitted { .. }]), "{claimed:?}");
    }
    until("the mirror reads on", async || {
        node.book.sale(&sale()).is_some_and(|s| s.state.pools[0].held == 3)
    })
    .await;
}

#[tokio::test]
async fn a_connection_that_is_killed_again_and_again_comes_back() {
    let server = Server::start(&[]);
    let node = Node::connected(&server).await;
    let mut shop = server.shop();
    opened(&node, 50).await;
    let mut tries = 0;
    for n in 0..20 {
        shop.run(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
        let mine = one(n);
        until("the claim got through", async || {
            let op = Op::Claim(node.batch(vec![mine.clone()]));
            node.store.call(&sale(), op, DEADLINE).await.is_ok()
        })
        .await;
        tries += 1;
    }
    let state = node.state().await;
    assert_eq!(state.pools[0].held, tries, "a batch that was sent twice counts once");
    check(&state, &node.records().await, 0);
}

#[tokio::test]
async fn no_time_is_early() {
    let server = Server::start(&[]);
    let node = Node::connected(&server).await;
    let opens_at = UnixMs(node.clock.now().ledger.0 + 150);
    let mut said = declaration(opens_at, 100_000);
    said.opens_at.at = opens_at;
    node.call(declare(said)).await;
    let (mut early, mut n) = (0, 0);
    loop {
        n += 1;
        let before = node.clock.now();
        let reply = node.call(Op::Claim(node.batch(vec![one(n)]))).await;
        let OpResult::Claimed(claimed) = reply.result else { panic!("{reply:?}") };
        match claimed[..] {
            [Claimed::NotStarted] => assert!(reply.now < opens_at),
            [Claimed::Admitted { .. }] => {
                assert!(reply.now >= opens_at);
                break;
            }
            _ => panic!("{claimed:?}"),
        }
        early += 1;
        // What a node believes is never ahead, and behind by no more than it says.
        assert!(before.ledger <= reply.now);
        let after = node.clock.now();
        assert!(reply.now.0 <= after.ledger.0 + u64::from(after.ledger_err_ms) + 1);
    }
    assert!(early > 0);
}
