//! Purges against what is stored and what is under way.

use http::Method;
use penstock::metrics::Counter;
use penstock::page::{Mode, Purge};
use tokio::task::spawn_local;

use crate::rig::{Worker, run, settings, until};
use crate::shop::{Shop, gate, gated, page};

const PAGE: &str = "/activity/8848";
const WHAT: Purge<'static> = Purge::Activity { site: "shop", activity: "8848" };

/// The page changes, the shop purges, and an old fill comes in afterwards: it must not win.
#[test]
fn a_fill_under_way_does_not_survive_a_purge() {
    for mode in [Mode::Hard, Mode::Soft] {
        run(async {
            let (old, new) = (gate(), gate());
            let gates = [old.clone(), new.clone()];
            let shop = Shop::open(move |n, _| gated(&gates[n], 200, "", ["old", "new"][n])).await;
            let worker = Worker::new(&settings(shop.address, "ttl = \"10s\"", ""));
            let before = spawn_local(worker.ask(Method::GET, PAGE, &[], 0));
            until(|| shop.asked() == 1).await;
            worker.cache.purge(&WHAT, mode, &worker.sink);
            let after = spawn_local(worker.ask(Method::GET, PAGE, &[], 1));
            until(|| shop.asked() == 2).await;
            new.add_permits(1);
            assert_eq!(after.await.expect("no panic").body, "new");
            old.add_permits(1);
            assert_eq!(before.await.expect("no panic").body, "old");
            worker.quiet().await;
            assert_eq!(worker.get(PAGE, 2).await.body, "new");
            assert_eq!(shop.asked(), 2);
        });
    }
}

#[test]
fn a_hard_purge_removes_and_a_soft_one_makes_stale() {
    run(async {
        let shop = Shop::open(|n, _| page(200, "", &format!("page {n}"))).await;
        let worker = Worker::new(&settings(shop.address, "ttl = \"1h\"", ""));
        worker.get(PAGE, 0).await;
        worker.quiet().await;
        assert_eq!(worker.cache.purge(&WHAT, Mode::Soft, &worker.sink), 1);
        assert_eq!(worker.get(PAGE, 1).await.body, "page 0", "stale, at once");
        worker.quiet().await;
        assert_eq!(worker.get(PAGE, 2).await.body, "page 1");
        assert_eq!(worker.cache.purge(&WHAT, Mode::Hard, &worker.sink), 1);
        assert_eq!(worker.get(PAGE, 3).await.body, "page 2");
        assert_eq!(worker.counted(Counter::CachePurged), 2);
    });
}

/// After a soft purge the page is still there if the shop is not.
#[test]
fn a_soft_purge_keeps_what_stands_in_for_errors() {
    run(async {
        let shop = Shop::open(|_, _| page(200, "cache-control: max-age=60\r\n", "good")).await;
        let worker = Worker::new(&settings(shop.address, "ttl = \"1h\"", ""));
        worker.get(PAGE, 0).await;
        worker.quiet().await;
        worker.cache.purge(&WHAT, Mode::Soft, &worker.sink);
        shop.change(|_, _| page(500, "", "sorry"));
        assert_eq!(worker.get(PAGE, 1).await.body, "good");
    });
}
