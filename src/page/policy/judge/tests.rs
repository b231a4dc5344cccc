use proptest::prelude::*;

use super::*;

fn stored(kind: Kind) -> Stored {
    Stored { kind, fresh_until: MonoMs(100), refill_until: MonoMs(200), error_until: MonoMs(300) }
}

#[test]
fn every_decision_about_a_request() {
    let ask = |kind, now, refill| judge(Some(&stored(kind)), Asked { refill }, MonoMs(now));
    let fill = |or_stale| Decision::Fill { or_stale };
    let (idle, under_way, held) = (Refill::Idle, Refill::UnderWay, Refill::Held);
    for (kind, now, refill, expected) in [
        (Kind::Page, 99, idle, (Decision::Serve, Why::Fresh)),
        (Kind::Page, 99, held, (Decision::Serve, Why::Fresh)),
        (Kind::Page, 100, idle, (Decision::ServeAndRefill, Why::Stale)),
        (Kind::Page, 199, under_way, (Decision::Serve, Why::Stale)),
        (Kind::Page, 199, held, (Decision::Serve, Why::HeldByError)),
        (Kind::Page, 200, idle, (fill(true), Why::Expired)),
        (Kind::Page, 200, under_way, (fill(true), Why::Expired)),
        (Kind::Page, 200, held, (Decision::Serve, Why::HeldByError)),
        (Kind::Page, 300, idle, (fill(false), Why::Expired)),
        (Kind::Page, 300, held, (fill(false), Why::Expired)),
        (Kind::HitForMiss, 99, idle, (Decision::Pass, Why::HitForMiss)),
        (Kind::HitForMiss, 100, idle, (fill(false), Why::Expired)),
        (Kind::Failed, 99, idle, (Decision::Fail, Why::Failed)),
        (Kind::Failed, 100, held, (fill(false), Why::Expired)),
    ] {
        assert_eq!(ask(kind, now, refill), expected, "{kind:?} at {now}");
    }
    let absent = judge(None, Asked { refill: idle }, MonoMs(0));
    assert_eq!(absent, (fill(false), Why::Absent));
}

const ROUTE: Route = Route { ttl_ms: 10_000, stale_ms: 60_000, force: false, error_hold_ms: 1_000 };

fn kept(status: u16, lines: &[(&'static str, &str)], route: &Route) -> Keep {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(*name, value.parse().expect("valid"));
    }
    let arrival = Arrival { wall: UnixMs(784_111_777_000), delay_ms: 0 };
    keep(StatusCode::from_u16(status).expect("valid"), &headers, route, arrival)
}

fn page(fresh_ms: u64, refill_ms: u64, error_ms: u64) -> Keep {
    Keep::Page(Windows { age_ms: 0, fresh_ms, refill_ms, error_ms, ..Windows::default() })
}

#[test]
fn every_decision_about_a_response() {
    let control = |value| vec![("cache-control", value)];
    let not = Keep::Not;
    for (status, lines, expected) in [
        (200, vec![], page(10_000, 60_000, 60_000)),
        (200, vec![("set-cookie", "a=b")], page(10_000, 60_000, 60_000)),
        (200, vec![("vary", "Cookie")], page(10_000, 60_000, 60_000)),
        (200, control("max-age=5"), page(5_000, 0, 60_000)),
        (200, control("s-maxage=5, max-age=9"), page(5_000, 0, 0)),
        (200, control("s-maxage=5, stale-if-error=7"), page(5_000, 0, 7_000)),
        (200, control("max-age=5, must-revalidate"), page(5_000, 0, 0)),
        (200, control("max-age=5, stale-while-revalidate=3"), page(5_000, 3_000, 60_000)),
        (
            200,
            control("max-age=5, stale-while-revalidate=9, stale-if-error=3"),
            page(5_000, 9_000, 9_000),
        ),
        (200, control("max-age=0"), not(Refusal::Stale)),
        (200, control("no-cache"), not(Refusal::Stale)),
        (200, control("no-store, max-age=5"), not(Refusal::Directive)),
        (200, control("private"), not(Refusal::Directive)),
        (200, vec![("vary", "accept, *")], not(Refusal::Directive)),
        (200, vec![("expires", "0")], not(Refusal::Stale)),
        (200, vec![("cache-control", "max-age=5"), ("age", "9")], not(Refusal::Stale)),
        (301, vec![], page(10_000, 60_000, 60_000)),
        (302, vec![], not(Refusal::Status)),
        (204, vec![], not(Refusal::Status)),
        (206, control("max-age=5"), not(Refusal::Status)),
        (403, control("max-age=5"), not(Refusal::Status)),
        (404, control("max-age=60"), page(1_000, 0, 0)),
        (410, vec![], page(1_000, 0, 0)),
    ] {
        assert_eq!(kept(status, &lines, &ROUTE), expected, "{status} {lines:?}");
    }
    let held = Windows { fresh_ms: 1_000, ..Windows::default() };
    for status in [429, 500, 502, 503, 504] {
        assert_eq!(kept(status, &control("max-age=60"), &ROUTE), Keep::Error(held));
    }
}

#[test]
fn force_sets_aside_what_forbids_storing() {
    let forced = Route { force: true, ..ROUTE };
    for value in
        ["no-store", "private, max-age=0", "no-store, no-cache, must-revalidate", "no-cache"]
    {
        let lines = [("cache-control", value), ("expires", "Thu, 19 Nov 1981 08:52:00 GMT")];
        assert_eq!(kept(200, &lines, &forced), page(10_000, 60_000, 60_000), "{value}");
    }
    // Freshness that does not forbid it stands.
    assert_eq!(kept(200, &[("cache-control", "max-age=5")], &forced), page(5_000, 0, 60_000));
    assert_eq!(kept(302, &[], &forced), Keep::Not(Refusal::Status));
}

#[test]
fn the_age_on_arrival_shortens_explicit_freshness() {
    let mut headers = HeaderMap::new();
    headers.insert("cache-control", "max-age=60".parse().expect("valid"));
    headers.insert("age", "20".parse().expect("valid"));
    let arrival = Arrival { wall: UnixMs(0), delay_ms: 500 };
    let Keep::Page(windows) = keep(StatusCode::OK, &headers, &ROUTE, arrival) else {
        panic!("not kept");
    };
    assert_eq!((windows.age_ms, windows.fresh_ms), (20_500, 39_500));
}

proptest! {
    /// No number in a response makes the arithmetic overflow, and stale windows never end before
    /// one another.
    #[test]
    fn numbers_never_overflow(
        status in 100u16..600,
        control in "(max-age|s-maxage|stale-if-error|stale-while-revalidate)=[0-9]{1,30}",
        age in "[0-9]{1,30}",
        delay_ms in any::<u64>(),
        force in any::<bool>(),
    ) {
        let mut headers = HeaderMap::new();
        headers.insert("cache-control", control.parse().expect("valid"));
        headers.insert("age", age.parse().expect("valid"));
        let arrival = Arrival { wall: UnixMs(0), delay_ms };
        let route = Route { force, ..ROUTE };
        let status = StatusCode::from_u16(status).expect("valid");
        if let Keep::Page(w) = keep(status, &headers, &route, arrival) {
            prop_assert!(w.error_ms >= w.refill_ms);
        }
    }
}

/// RFC 9111 5.2.1.
#[test]
fn a_clients_demands_count_where_they_may() {
    let page = stored(Kind::Page);
    let life = Life { at: MonoMs(0), age_ms: 50, overdue_ms: 0, never_stale: false };
    let ask = |demand: Demand, now, life| {
        judge_for(Some(&page), life, Asked { refill: Refill::Idle }, &demand, MonoMs(now))
    };
    let none = Demand::NONE;
    let demanded = (Decision::Fill { or_stale: true }, Why::Demanded);
    let fresh = (Decision::Serve, Why::Fresh);
    assert_eq!(ask(none, 99, life), fresh);
    assert_eq!(ask(Demand { no_cache: true, ..none }, 99, life), demanded);
    assert_eq!(ask(Demand { no_store: true, ..none }, 99, life), demanded);
    assert_eq!(ask(Demand { age_max_ms: 149, ..none }, 99, life), fresh);
    assert_eq!(ask(Demand { age_max_ms: 148, ..none }, 99, life), demanded);
    assert_eq!(ask(Demand { fresh_min_ms: 10, ..none }, 90, life), fresh);
    assert_eq!(ask(Demand { fresh_min_ms: 11, ..none }, 90, life), demanded);
    let accepted = (Decision::Serve, Why::Accepted);
    assert_eq!(ask(Demand { stale_max_ms: 250, ..none }, 350, life), accepted);
    let expired = (Decision::Fill { or_stale: false }, Why::Expired);
    assert_eq!(ask(Demand { stale_max_ms: 249, ..none }, 350, life), expired);
    let never = Life { never_stale: true, ..life };
    assert_eq!(ask(Demand { stale_max_ms: u64::MAX, ..none }, 350, never), expired);
}
