//! The shop's contract: `want` and `have`, `in` and `out`.

use std::collections::BTreeMap;

use penstock::clock::UnixMs;
use penstock::config::units::Time;
use penstock::ident::{AttemptId, ClaimId, UserKey};
use penstock::ledger::{Claimed, Op, RecordKind, Try};
use penstock::outcome::Verdict;

use crate::rig::{Node, check, key, name, one, opened, outcome, sale, until};
use crate::server::{Server, Shop};

fn want(now: UnixMs, stock: u64, revision: u64) -> String {
    let opens_at = Time { at: UnixMs(now.0 + 3_600_000) };
    format!(
        r#"{{"activity":"8848","opens_at":"{opens_at}","per_user":{{"orders":1,"units":2}},
            "pools":{{"1001":{{"stock":{stock}}}}},"revision":{revision}}}"#
    )
}

async fn have_is(shop: &mut Shop, field: &str, expected: &str) -> BTreeMap<String, String> {
    let shop = std::cell::RefCell::new(shop);
    let is = || shop.borrow_mut().hash(&key("have"));
    until(&format!("have.{field} is {expected:?}"), async || {
        is().get(field).is_some_and(|text| match expected {
            "" => text.is_empty(),
            part => text.contains(part),
        })
    })
    .await;
    is()
}

#[tokio::test]
async fn a_declaration_is_applied_and_answered() {
    let server = Server::start(&[]);
    let node = Node::mirroring(&server).await;
    let _other = Node::mirroring(&server).await;
    let mut shop = server.shop();
    let now = node.clock.now().wall;
    shop.run(&["SADD", "ps:sales", "shop/drop"]);
    shop.run(&["SET", &key("want"), &want(now, 300, 7)]);
    let have = have_is(&mut shop, "revision", "7").await;
    assert_eq!((have["state"].as_str(), have["epoch"].as_str()), ("not_started", "1"));
    assert_eq!((have["version"].as_str(), have["error"].as_str()), ("1", ""));
    let applied: u64 = have["applied_at_ms"].parse().expect("a time");
    assert!(applied >= now.0 && applied <= node.clock.now().wall.0 + 1_000);
    until("the book has it", async || node.book.sale(&sale()).is_some()).await;

    // What is wrong leaves what runs.
    for (bad, why) in [
        ("{", "EOF"),
        (r#"{"activity":"8848","stokc":1}"#, "stokc"),
        (&*want(now, 300, 6), "revision: 6 is old"),
        (&*want(now, 301, 7), "another content"),
        (&*want(now, 0, 8), "pools.1001.stock"),
        (&*want(now, 300, 8).replace(",\"revision\":8", ""), "revision: is missing"),
        (&*" ".repeat(70_000), "longer than"),
    ] {
        shop.run(&["SET", &key("want"), bad]);
        let have = have_is(&mut shop, "error", why).await;
        assert_eq!(have["revision"], "7", "{why}");
    }
    assert_eq!(node.state().await.pools[0].stock, 300);
    redis_bytes(&mut shop, b"\xff\xfe");
    have_is(&mut shop, "error", "UTF-8").await;
    shop.run(&["DEL", &key("want")]);
    have_is(&mut shop, "error", "").await;
    shop.run(&["SADD", &key("want"), "a set"]);
    have_is(&mut shop, "error", &key("want")).await;
    shop.run(&["DEL", &key("want")]);

    shop.run(&["SET", &key("want"), &want(now, 400, 9)]);
    let have = have_is(&mut shop, "revision", "9").await;
    assert_eq!((have["version"].as_str(), have["error"].as_str()), ("2", ""));
    assert_eq!(node.state().await.pools[0].stock, 400);
    let declared = shop.events("shop/drop").iter().filter(|e| e.starts_with("declared")).count();
    assert_eq!(declared, 2, "two nodes, each declaration once");
}

fn redis_bytes(shop: &mut Shop, bytes: &[u8]) {
    // The command line of a test speaks UTF-8 only.
    shop.run(&["DEL", &key("want")]);
    for (at, byte) in bytes.iter().enumerate() {
        for bit in 0..8 {
            let set = if byte >> (7 - bit) & 1 == 1 { "1" } else { "0" };
            shop.run(&["SETBIT", &key("want"), &(at * 8 + bit).to_string(), set]);
        }
    }
}

#[tokio::test]
async fn a_declaration_that_is_announced_needs_no_other_list() {
    let server = Server::start(&[]);
    let node = Node::mirroring(&server).await;
    let mut shop = server.shop();
    shop.run(&["SET", &key("want"), &want(node.clock.now().wall, 5, 1)]);
    until("somebody listens", async || {
        server.shop().ask::<u64>(&["PUBLISH", "ps:bus", "want:shop/drop"]) == 1
    })
    .await;
    have_is(&mut shop, "revision", "1").await;
    let members: Vec<String> = shop.ask(&["SMEMBERS", "ps:sales"]);
    assert_eq!(members, ["shop/drop"]);
}

#[tokio::test]
async fn a_declaration_too_late_is_created_paused() {
    let server = Server::start(&[]);
    let node = Node::mirroring(&server).await;
    let mut shop = server.shop();
    shop.run(&["SADD", "ps:sales", "shop/drop"]);
    let past = UnixMs(node.clock.now().wall.0 - 2 * 3_600_000);
    shop.run(&["SET", &key("want"), &want(past, 5, 1)]);
    let have = have_is(&mut shop, "revision", "1").await;
    assert_eq!((have["state"].as_str(), have["paused"].as_str()), ("available", "1"));
}

/// A sale of 3 units with two nodes, of which either may read the shop's commands.
struct Story {
    server: Server,
    node: Node,
    _other: Node,
}

impl Story {
    async fn new() -> Story {
        let server = Server::start(&[]);
        let node = Node::mirroring(&server).await;
        let other = Node::mirroring(&server).await;
        opened(&node, 3).await;
        Story { server, node, _other: other }
    }

    /// Says a command and waits until it was read.
    async fn say(&self, command: &str) {
        let mut shop = self.server.shop();
        let inbox = key("in");
        let mut words = vec!["XADD", &inbox, "*"];
        words.extend(command.split(' '));
        let id: String = shop.ask(&words);
        until("the command was read", async || {
            self.server.shop().hash(&key("L")).get("cursor") == Some(&id)
        })
        .await;
    }

    fn last_event(&self) -> String {
        self.server.shop().events("shop/drop").pop().unwrap_or_default()
    }

    /// A claim of a user whom the shop knows by this identity.
    async fn admitted(&self, identity: &str) -> Try {
        let salt = self.node.state().await.salt;
        let try_ = Try { user: UserKey::of_identity(&salt, identity.as_bytes()), ..one(0) };
        let claimed = self.node.claim(vec![try_.clone()]).await;
        assert!(matches!(claimed[..], [Claimed::Admitted { .. }]), "{claimed:?}");
        try_
    }

    async fn resolve(&self, of: &Try, verdict: Verdict) {
        self.node.call(Op::Resolve(vec![outcome(of, verdict)])).await;
    }

    async fn pool(&self) -> (u64, u64, u64, u64) {
        let pool = self.node.state().await.pools[0].clone();
        (pool.stock, pool.confirmed, pool.held, pool.limbo)
    }
}

#[tokio::test]
async fn stock_is_added_once_for_an_id() {
    let story = Story::new().await;
    story.say("op add_stock pool default units 50 id 7d1e").await;
    assert_eq!(story.pool().await, (53, 0, 0, 0));
    assert_eq!(story.last_event(), "add_stock 50");
    story.say("op add_stock pool default units 50 id 7d1e").await;
    story.say("op add_stock pool nowhere units 50 id 7d1f").await;
    assert!(story.last_event().ends_with("there is no such pool"), "{}", story.last_event());
    assert_eq!(story.pool().await, (53, 0, 0, 0));
    story.say("op add_stock pool default units 50").await;
    assert!(story.last_event().starts_with("error"), "{}", story.last_event());
    story.say("opp add_stock").await;
    assert!(story.last_event().ends_with("op: is missing"), "{}", story.last_event());
}

#[tokio::test]
async fn the_operators_words_come_by_the_stream_too() {
    let story = Story::new().await;
    story.say("op pause by alice").await;
    assert!(story.node.state().await.paused);
    assert_eq!(story.last_event(), "pause alice");
    story.say("op resume by alice id 9").await;
    story.say("op sold_out by bob").await;
    let state = story.node.state().await;
    assert!(!state.paused && state.sold_out);
    story.say("op restock pool default units 2 id r1").await;
    let state = story.node.state().await;
    assert_eq!((state.epoch, state.sold_out, state.pools[0].stock), (2, false, 5));
    story.say("op end by bob").await;
    assert!(story.node.state().await.ended);
    story.say("op resume by alice").await;
    assert!(story.last_event().ends_with("the sale has ended"));
    have_is(&mut story.server.shop(), "state", "ended").await;
}

#[tokio::test]
async fn a_cancelled_order_gives_the_unit_and_the_right_back() {
    let story = Story::new().await;
    let order = story.admitted("U1").await;
    story.say("op void user U1 order 2026 id v0").await;
    assert!(story.last_event().contains("no such order"), "{}", story.last_event());
    story.resolve(&order, Verdict::Confirmed).await;
    assert_eq!(story.pool().await, (3, 1, 0, 0));
    story.say("op void user U1 order 2026 id v1").await;
    assert_eq!(story.last_event(), "void 2026");
    assert_eq!(story.pool().await, (3, 0, 0, 0));
    // A node that starts again tells what its journal says.
    story.resolve(&order, Verdict::Confirmed).await;
    assert_eq!(story.pool().await, (3, 0, 0, 0));
    // The same command again must not cancel the user's next order.
    let next = story.admitted("U1").await;
    story.resolve(&next, Verdict::Confirmed).await;
    story.say("op void user U1 order 2026 id v1").await;
    assert_eq!(story.pool().await, (3, 1, 0, 0));
    check(&story.node.state().await, &story.node.records().await, 0);
}

#[tokio::test]
async fn a_late_word_resolves_what_is_open() {
    let story = Story::new().await;
    let salt = story.node.state().await.salt;
    // The client had a key of its own: that is what the shop received.
    let mut first = story.admitted("U1").await;
    story.resolve(&first, Verdict::Failed).await;
    first.attempt = AttemptId::of_key(&salt, &first.user, b"01JDX3");
    first.claim = ClaimId::random();
    assert!(matches!(story.node.claim(vec![first.clone()]).await[..], [Claimed::Admitted { .. }]));
    // An order in flight is its node's to resolve.
    story.say("op outcome user U1 key 01JDX3 result failed id o0").await;
    assert!(story.last_event().starts_with("error"), "{}", story.last_event());
    story.resolve(&first, Verdict::Unknown).await;
    story.say("op outcome user U1 key 01JDX3 result confirmed id o1").await;
    assert_eq!(story.pool().await, (3, 1, 0, 0));
    assert_eq!(story.last_event(), "confirmed");
    // Another had none: the shop received the claim's id.
    let second = story.admitted("U2").await;
    story.resolve(&second, Verdict::Pending).await;
    let claim = second.claim;
    story.say(&format!("op outcome user U3 key {claim} result failed id o2")).await;
    assert!(story.last_event().starts_with("error"), "{}", story.last_event());
    story.say(&format!("op outcome user U2 key {claim} result failed id o3")).await;
    assert_eq!(story.pool().await, (3, 1, 0, 0));
    let records = story.node.records().await;
    assert!(records.iter().all(|r| r.kind == RecordKind::Confirmed));
    check(&story.node.state().await, &records, 0);
}

#[tokio::test]
async fn many_commands_are_each_read_once_by_two_nodes() {
    let story = Story::new().await;
    let mut shop = story.server.shop();
    for n in 0..250 {
        let id = format!("id{n}");
        let inbox = key("in");
        let words = ["op", "add_stock", "pool", "default", "units", "1", "id", &id];
        shop.run(&[&["XADD", &inbox, "*"], &words[..]].concat());
    }
    story.say("op add_stock pool default units 1 id last").await;
    assert_eq!(story.pool().await.0, 3 + 251);
}

#[tokio::test]
async fn what_happens_is_told() {
    let story = Story::new().await;
    let (a, b, c) =
        (story.admitted("A").await, story.admitted("B").await, story.admitted("C").await);
    story.resolve(&a, Verdict::Confirmed).await;
    story.resolve(&b, Verdict::Failed).await;
    story.resolve(&c, Verdict::Unknown).await;
    let d = story.admitted("D").await;
    story.resolve(&d, Verdict::Confirmed).await;
    let out = story.server.shop().stream(&key("out"));
    let told: Vec<_> = out.iter().map(|e| format!("{} {}", e["event"], e["pool"])).collect();
    let d = "default";
    let of_pool = |event| format!("{event} {d}");
    let mut expected = vec!["declared ".to_owned(), "resume ".to_owned()];
    expected.extend(
        ["admitted", "admitted", "admitted", "confirmed", "failed", "limbo", "admitted"]
            .map(of_pool),
    );
    expected.extend(["confirmed", "sold_out"].map(of_pool));
    expected.push("sold_out ".to_owned());
    assert_eq!(told, expected);
    let won = &out[5];
    assert_eq!(won["claims"], format!("{} {} 1", a.user, a.claim));
    assert_eq!((won["pool"].as_str(), won["units"].as_str()), ("default", "1"));
    let flag = story.server.shop().hash(&key("F"));
    assert_eq!((flag["sold_out"].as_str(), flag["epoch"].as_str()), ("1", "1"));
    assert_eq!(story.node.state().await.pool(name("default").as_str()).map(|p| p.stock), Some(3));
}
