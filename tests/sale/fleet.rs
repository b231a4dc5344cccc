//! Several edges over one Redis, without faults: exact already.

use crate::redis::Redis;
use crate::rig::{Edge, Plan, SALE, Stage, crowd, free, until};

#[test]
fn three_edges_sell_one_stock() {
    let redis = Redis::start(&[]);
    let plan = || Plan {
        stock: 40,
        opens_in_ms: 2_500,
        more: format!("[store]\nkind = \"redis\"\nurl = \"redis://{}\"", redis.at),
        ..Plan::default()
    };
    let stage = Stage::set(plan());
    let edges: Vec<Edge> = (0..3)
        .map(|i| {
            let (at, name) = (free(), format!("edge-{i}"));
            let config = stage.write(&format!("{name}.toml"), &stage.config(&plan(), at, &name));
            Edge::start(config, at)
        })
        .collect();
    for edge in &edges {
        until("T0", || edge.availability()["state"] == "available");
    }
    // The same people at every edge: a right is one, wherever it is used.
    let heard: Vec<_> = std::thread::scope(|scope| {
        let crowds: Vec<_> =
            edges.iter().map(|edge| scope.spawn(|| crowd(edge.at, 600, 16))).collect();
        crowds.into_iter().map(|crowd| crowd.join().expect("no panic")).collect()
    });
    for edge in &edges {
        until("sold out everywhere", || {
            let sale = edge.sale();
            sale["state"] == "sold_out" && sale["held"] == 0
        });
        assert_eq!(edge.sale()["confirmed"], 40);
    }
    let shop = stage.shop.stats();
    assert_eq!((shop.orders, shop.users_twice), (40, 0), "{heard:?}");
    let wins: usize = heard.iter().filter_map(|h| h.get("admitted")).sum();
    assert_eq!(wins, 40, "{heard:?}");
    let pause = edges[1].verb(&["sale", "end", SALE]);
    assert!(pause.status.success());
    for edge in &edges {
        until("ended everywhere", || edge.availability()["state"] == "ended");
    }
}
