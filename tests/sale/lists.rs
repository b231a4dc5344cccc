//! Lists of users: the shop's sets, and the winners that another node has sold to.

use crate::nodes::Fleet;
use crate::redis::Redis;
use crate::rig::{Plan, Stage, buy, order, reason, until};

/// The answer to a user who buys with a key of their own.
fn said(at: std::net::SocketAddr, user: &str, body: &str) -> (u16, String) {
    let answer = order(at, user, &format!("key-{user}"), body).expect("an answer");
    (answer.status, reason(&answer).to_owned())
}

fn is(status: u16, reason: &str) -> (u16, String) {
    (status, reason.to_owned())
}

#[test]
fn the_shops_sets_say_who_may_buy() {
    let redis = Redis::start(&[]);
    redis.say(&["SADD", "bought:1001", "ann"]);
    redis.say(&["SADD", "risk:deny", "bob", "eve"]);
    redis.say(&["SADD", "reserve:8848", "ann", "bob", "cat"]);
    let plan = Plan {
        pools: Some(
            "pool.1001 = { stock = 5 }\npool.1002 = { stock = 5 }\n\
             already = { redis_set = \"bought:{pool}\" }\n\
             only = { redis_set = \"reserve:{activity}\" }\n\
             deny = { redis_set = \"risk:deny\" }"
                .to_owned(),
        ),
        more: format!(
            "[shop]\nredis_url = \"redis://{}\"\nsets_refresh = \"100ms\"\nsets_age_max = \"2s\"\n",
            redis.at
        ),
        activity: "order = { body = \"json\", pool = \"/skuId\" }".to_owned(),
        ..Plan::default()
    };
    let stage = Stage::set(plan);
    let edge = stage.opened();
    let (first, second) = ("{\"skuId\":\"1001\"}", "{\"skuId\":\"1002\"}");
    assert_eq!(said(edge.at, "cat", first), is(201, "admitted"));
    assert_eq!(said(edge.at, "ann", first), is(409, "already"));
    assert_eq!(said(edge.at, "ann", second), is(201, "admitted"));
    assert_eq!(said(edge.at, "bob", first), is(403, "not_eligible"), "denied");
    assert_eq!(said(edge.at, "dan", first), is(403, "not_eligible"), "not one of the only ones");
    let sets = edge.sale()["sets"].clone();
    let members = |set: &str| {
        let sets = sets.as_array().expect("sets").iter().filter(|s| s["set"] == set);
        sets.map(|s| s["members"].as_u64().expect("read")).sum::<u64>()
    };
    assert_eq!((members("already"), members("only"), members("deny")), (1, 3, 2), "{sets}");
    // A change is heard.
    redis.say(&["SREM", "risk:deny", "bob"]);
    until("bob may buy", || said(edge.at, "bob", second).0 == 201);
    // What cannot be read is used until it is too old.
    redis.say(&["SADD", "reserve:8848", "fay"]);
    until("fay is known", || {
        let sets = edge.sale()["sets"].clone();
        sets.as_array().expect("sets").iter().any(|s| s["set"] == "only" && s["members"] == 4)
    });
    redis.say(&["RENAME", "risk:deny", "away"]);
    redis.say(&["SET", "risk:deny", "no set"]);
    until("it is too old", || said(edge.at, "dan", first) == is(503, "unavailable"));
    assert!(edge.metric("penstock_shop_set_read_errors_total") > 0.0);
    redis.say(&["DEL", "risk:deny"]);
    until("nobody is denied", || said(edge.at, "fay", first).0 == 201);
    // A set of the only ones that is not there cannot be meant: nobody gets in, and that is said.
    redis.say(&["DEL", "reserve:8848"]);
    until("it is too old", || said(edge.at, "gus", first) == is(503, "unavailable"));
    assert!(!edge.verb(&["ctl", "ready"]).status.success());
}

#[test]
fn a_winner_is_known_on_every_node() {
    let redis = Redis::start(&[]);
    let fleet = Fleet::start(
        Plan {
            stock: 3,
            opens_in_ms: 2_500,
            more: format!("[store]\nkind = \"redis\"\nurl = \"redis://{}\"", redis.at),
            ..Plan::default()
        },
        2,
    );
    for edge in &fleet.edges {
        until("T0", || edge.availability()["state"] == "available");
    }
    let (here, there) = (fleet.edges[0].at, fleet.edges[1].at);
    for user in ["ann", "bob", "cat"] {
        until(user, || {
            let answer = buy(here, user).expect("an answer");
            ["admitted", "replayed"].contains(&reason(&answer))
        });
    }
    until("sold out there", || fleet.edges[1].availability()["state"] == "sold_out");
    let calls = || fleet.edges[1].metric("penstock_claims_total");
    for user in ["ann", "bob", "cat"] {
        until("the attempt that won is told so", || {
            said(there, user, "{}") == is(200, "confirmed")
        });
    }
    let before = calls();
    for user in ["ann", "bob", "cat"] {
        let again = order(there, user, "another key", "{}").expect("an answer");
        assert_eq!((again.status, reason(&again)), (409, "already"));
    }
    for user in ["dan", "eve"] {
        assert_eq!(said(there, user, "{}"), is(409, "sold_out"));
    }
    assert_eq!(calls(), before, "neither asks the ledger");
}
