//! A purge on one edge is a purge on all, also for one that was cut off.

use crate::client::{get, until};
use crate::nodes::Fleet;
use crate::proxy::{Fault, Proxy, Side};
use crate::redis::Redis;
use crate::rig::{Edge, Plan};

/// Two edges; the second reaches Redis by a way that can fail.
fn two(redis: &Redis, way: &Proxy) -> Fleet {
    let plan = |at| Plan {
        opens_in_ms: 600_000,
        more: format!(
            "[store]\nkind = \"redis\"\nurl = \"redis://{at}\"\nclaim_deadline = \"150ms\""
        ),
        ..Plan::default()
    };
    let mut fleet = Fleet::start(plan(redis.at), 1);
    fleet.edges.push(fleet.edge_by(&plan(way.at), 1));
    fleet
}

/// How the page was answered: `hit`, or by a fill.
fn is_hit(edge: &Edge) -> bool {
    let answer = get(edge.at, "/activity/8848?city=sh");
    assert_eq!(answer.status, 200);
    answer.head.contains("cache-status: penstock; hit")
}

/// Both have the page.
fn filled(fleet: &Fleet) {
    for edge in &fleet.edges {
        until("the page is stored", || is_hit(edge));
    }
}

fn purge(edge: &Edge) {
    assert!(edge.verb(&["purge", "8848"]).status.success());
}

fn removed(edge: &Edge) -> f64 {
    edge.metric("penstock_cache_purged_total")
}

#[test]
fn a_purge_is_heard_by_all_also_later() {
    let redis = Redis::start(&[]);
    let way = Proxy::to(redis.at);
    let fleet = two(&redis, &way);
    let [near, far] = fleet.edges.as_slice() else { panic!("two edges") };
    filled(&fleet);
    purge(near);
    until("the other one heard", || removed(far) == 1.0);
    assert!(!is_hit(far), "the page is fetched again");
    assert_eq!(removed(near), 1.0, "its own words are not done twice");

    filled(&fleet);
    way.be(Side::Replies, Fault::Lost);
    way.be(Side::Asks, Fault::Lost);
    purge(near);
    assert!(is_hit(far), "it cannot know yet");
    let refused = far.verb(&["purge", "8848"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("purged here alone"), "{said}");
    until("it has the page again", || is_hit(far));
    let before = removed(far);
    way.heal();
    until("what was told meanwhile is heard", || removed(far) > before);
}

#[test]
fn what_may_have_gone_unheard_removes_every_page() {
    let redis = Redis::start(&[]);
    let way = Proxy::to(redis.at);
    let fleet = two(&redis, &way);
    filled(&fleet);
    purge(&fleet.edges[0]);
    until("the other one heard", || removed(&fleet.edges[1]) == 1.0);
    filled(&fleet);
    redis.say(&["DEL", "ps:notices"]);
    for edge in &fleet.edges {
        until("it was noticed", || edge.metric("penstock_notices_missed_total") == 1.0);
        until("every page was removed", || removed(edge) == 2.0);
    }
}

/// A node that was away while another one purged: what it kept is no older than that.
#[test]
fn a_snapshot_is_no_older_than_the_purges_of_others() {
    let redis = Redis::start(&[]);
    let way = Proxy::to(redis.at);
    let mut fleet = two(&redis, &way);
    filled(&fleet);
    let again = |edge: &mut Edge| {
        assert!(edge.stop(), "it drained");
        *edge = Edge::start(edge.config.clone(), edge.at);
    };
    again(&mut fleet.edges[1]);
    assert!(is_hit(&fleet.edges[1]), "nothing was purged");
    assert!(fleet.edges[1].stop());
    purge(&fleet.edges[0]);
    let (config, at) = (fleet.edges[1].config.clone(), fleet.edges[1].at);
    fleet.edges[1] = Edge::start(config, at);
    assert!(!is_hit(&fleet.edges[1]), "it was purged while the node was away");
}

#[test]
fn two_configs_in_one_fleet_are_said_by_both() {
    let redis = Redis::start(&[]);
    let plan = |more: &str| Plan {
        opens_in_ms: 600_000,
        more: format!("[store]\nkind = \"redis\"\nurl = \"redis://{}\"\n{more}", redis.at),
        ..Plan::default()
    };
    let mut fleet = Fleet::start(plan(""), 2);
    let configs = |edge: &Edge| edge.json(&["stats", "--json"])["configs"].clone();
    for edge in &fleet.edges {
        until("both have met, and run the same", || {
            configs(edge)
                .as_object()
                .is_some_and(|all| all.len() == 1 && all.values().all(|nodes| *nodes == 2))
        });
    }
    let odd = fleet.edge_by(&plan("[gate]\nclaim_ttl = \"31s\""), 2);
    fleet.edges.push(odd);
    for edge in &fleet.edges {
        until("two configs are seen", || {
            configs(edge).as_object().is_some_and(|all| all.len() == 2)
        });
        until("and said", || {
            let alarms = edge.json(&["stats", "--json"])["alarms"].clone();
            let all = alarms.as_array().cloned().unwrap_or_default();
            all.iter().any(|alarm| alarm["what"] == "two_configs")
        });
    }
}
