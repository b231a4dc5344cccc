//! Pages of a sale: one for each public state where the site says so, and nothing that is cached
//! outside past T0 or the end.

use penstock::clock::{MonoMs, UnixMs};
use penstock::ident::Name;
use penstock::sale::book::Update;
use penstock::sale::{PoolState, SaleState};

use super::rig::{Got, Worker, run, settings};
use super::shop::{Shop, page};

const OPENS: u64 = 10_000;
const ENDS: u64 = 20_000;

fn state(version: u64) -> SaleState {
    let name = |text: &str| Name::new(text).expect("valid");
    SaleState {
        version,
        opens_at: UnixMs(OPENS),
        ends_at: Some(UnixMs(ENDS)),
        pools: vec![PoolState::new(name("default"), 10)],
        ..SaleState::new("shop/drop".parse().expect("valid"), name("1"))
    }
}

/// A shop that says which state it was asked for, and may be cached for a minute.
async fn shop(fields: &'static str) -> Shop {
    Shop::open(move |_, head| {
        let head = head.to_ascii_lowercase();
        let state = head.lines().find_map(|line| line.strip_prefix("penstock-state: "));
        page(200, fields, state.unwrap_or("none"))
    })
    .await
}

async fn at(worker: &Worker, ms: u64) -> Got {
    worker.get("/activity/1", ms).await
}

fn tell(worker: &Worker, state: SaleState) {
    worker.book.apply(Update { state, heard: MonoMs(0) });
}

#[test]
fn the_page_changes_with_the_flag() {
    run(async {
        let shop = shop("cache-control: max-age=60\r\n").await;
        let worker = Worker::new(&settings(shop.address, "by_state = true", ""));
        tell(&worker, state(1));
        for (ms, expected) in [
            (OPENS - 1, "not_started"),
            (OPENS, "available"),
            (ENDS - 1, "available"),
            (ENDS, "ended"),
            (ENDS + 1, "ended"),
        ] {
            assert_eq!(at(&worker, ms).await.body, expected, "{ms}");
            worker.quiet().await;
        }
        assert_eq!(shop.asked(), 3, "each was asked for once");
        tell(&worker, SaleState { sold_out: true, ..state(2) });
        let later = ENDS - 2;
        assert_eq!(at(&worker, later).await.body, "sold_out");
        // An activity that is nobody's sale has one page.
        assert_eq!(worker.get("/activity/2", ENDS + 2).await.body, "none");
    });
}

#[test]
fn without_the_setting_there_is_one_page_and_no_field() {
    run(async {
        let shop = shop("cache-control: max-age=60\r\n").await;
        let worker = Worker::new(&settings(shop.address, "by_state = false", ""));
        tell(&worker, state(1));
        assert_eq!(at(&worker, OPENS - 1).await.body, "none");
        worker.quiet().await;
        assert_eq!(at(&worker, OPENS).await.body, "none");
        assert_eq!(shop.asked(), 1);
    });
}

/// What a cache outside may still do with it, in seconds from now on.
fn left(got: &Got) -> u64 {
    let control = got.field("cache-control").to_owned();
    let directive = |name: &str| {
        let found = control.split(", ").find_map(|one| one.strip_prefix(name));
        found.map_or(0, |text| text.parse::<u64>().expect("a number"))
    };
    let all = directive("max-age=") + directive("stale-while-revalidate=");
    all.saturating_sub(got.field("age").trim().parse().unwrap_or(0))
}

#[test]
fn nothing_outside_outlives_the_edge() {
    for fields in [
        "cache-control: max-age=60, stale-while-revalidate=600\r\n",
        "cache-control: max-age=2\r\n",
        "last-modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n",
        "cache-control: max-age=60\r\nage: 30\r\n",
    ] {
        run(async move {
            let shop = shop(fields).await;
            for by_state in [false, true] {
                let page = format!("by_state = {by_state}");
                let worker = Worker::new(&settings(shop.address, &page, ""));
                tell(&worker, state(1));
                // Not the last instants: by the time of the answer they would be past.
                for ms in [3_000, 3_001, 5_500, 8_999, 9_000, 9_500, 10_000, 15_500, 19_500] {
                    let edge = if ms < OPENS { OPENS } else { ENDS };
                    let got = at(&worker, ms).await;
                    assert!(left(&got) * 1000 <= edge - ms, "{fields}{ms}: {got:?}");
                    worker.quiet().await;
                }
                // Far from the edge the shop's own word is told.
                let worker = Worker::new(&settings(shop.address, &page, ""));
                tell(&worker, SaleState { opens_at: UnixMs(900_000), ends_at: None, ..state(1) });
                let got = at(&worker, 100_000).await;
                let said = fields.strip_prefix("cache-control: ").and_then(|f| f.split_once('\r'));
                assert_eq!(got.field("cache-control"), said.map_or("max-age=10", |said| said.0));
            }
        });
    }
}

/// A part of a page is told as little of its freshness as the whole, and one condition counts for both.
#[test]
fn a_part_of_a_page_is_clipped_like_the_whole() {
    run(async {
        let fields = "cache-control: max-age=60\r\netag: \"a\"\r\n";
        let shop = Shop::open(move |_, _| page(200, fields, "0123456789")).await;
        let worker = Worker::new(&settings(shop.address, "ttl = \"1h\"", ""));
        tell(&worker, state(1));
        at(&worker, 4_000).await;
        worker.quiet().await;
        let ask = async |range: &str, if_range: &str| {
            let fields = [("range", range), ("if-range", if_range)];
            worker.ask(http::Method::GET, "/activity/1", &fields, 4_000).await
        };
        for (range, if_range, status, body) in [
            ("bytes=2-3", "\"a\"", 206, "23"),
            ("bytes=-1", "\"a\"", 206, "9"),
            ("bytes=8-", "\"a\"", 206, "89"),
            ("bytes=2-3", "\"b\"", 200, "0123456789"),
            ("bytes=10-", "\"a\"", 416, ""),
        ] {
            let got = ask(range, if_range).await;
            assert_eq!((got.status, &*got.body), (status, body), "{range}");
            let kept = if status == 416 { "no-store" } else { "max-age=5" };
            assert_eq!(got.field("cache-control"), kept, "{range}");
        }
        assert!(ask("bytes=0-0,9-9", "\"a\"").await.body.contains("content-range: bytes 9-9/10"));
        assert_eq!(shop.asked(), 1);
    });
}
