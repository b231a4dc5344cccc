use proptest::prelude::*;

use super::*;
use crate::answer::tests::agree;
use crate::clock::{MonoMs, Now, UnixMs};
use crate::config::schema::{Restock, Settings};
use crate::http::head::BodyKind;
use crate::http::{Field, Note, Peer};
use crate::ident::RequestId;
use crate::sale::{PoolState, SaleState};

const OPENS: u64 = 1_796_126_400_000;
const ENDS: u64 = 1_796_133_600_000;

fn name(text: &str) -> Name {
    Name::new(text).expect("valid")
}

fn state(version: u64) -> SaleState {
    SaleState {
        version,
        opens_at: UnixMs(OPENS),
        ends_at: Some(UnixMs(ENDS)),
        pools: vec![PoolState::new(name("default"), 10)],
        ..SaleState::new("shop/drop".parse().expect("id"), name("8848"))
    }
}

/// A snapshot that was heard at `heard`.
fn snapshot(state: SaleState, heard: u64) -> SaleSnapshot {
    let has_room = state.pools.iter().any(|p| p.room(state.overshoot_permille) > 0);
    let snapshot = SaleSnapshot::new(state);
    snapshot.heard().note(MonoMs(heard), has_room);
    snapshot
}

/// A reading of the clocks at ledger time `ledger`; monotonic time counts from T0 minus 1,000 s.
fn at(ledger: u64) -> Exchange {
    let now = Now {
        mono: MonoMs(mono(ledger)),
        wall: UnixMs(ledger),
        ledger: UnixMs(ledger),
        ledger_err_ms: 0,
    };
    Exchange {
        now,
        id: RequestId([7; 8]),
        peer: Peer::Unix,
        is_tls: false,
        terms: None,
        note: Note::default(),
    }
}

fn mono(ledger: u64) -> u64 {
    ledger - (OPENS - 1_000_000)
}

fn head<'a>(method: Method, fields: &'a [Field<'a>]) -> Head<'a> {
    Head {
        method,
        version: http::Version::HTTP_11,
        path: "/activity/8848/availability",
        query: None,
        host: "shop.example".into(),
        fields,
        body: BodyKind::None,
    }
}

fn settings(toml: &str) -> Settings {
    toml::from_str(toml).expect("valid settings")
}

fn tell(toml: &str, sale: &SaleSnapshot, fields: &[Field<'_>], exchange: &Exchange) -> Told {
    let told = Availabilities::new(&settings(toml)).expect("valid");
    let ready = told.answer(&name("shop"), sale, &head(Method::GET, fields), exchange);
    assert_eq!(ready.reason, None);
    let response = agree::response(&ready.answer, &ready.fill);
    Told {
        status: response.status().as_u16(),
        headers: response.headers().clone(),
        body: String::from_utf8(response.body().to_vec()).expect("text"),
    }
}

struct Told {
    status: u16,
    headers: http::HeaderMap,
    body: String,
}

/// Every line of the documented table, in both styles.
#[test]
fn every_documented_line() {
    let two_pools = |mut state: SaleState| {
        let sold = PoolState { sold_out: true, ..PoolState::new(name("1002"), 5) };
        state.pools = vec![PoolState::new(name("1001"), 5), sold];
        state
    };
    let full = |mut state: SaleState| {
        state.pools[0].held = 10;
        state
    };
    let sold_out = SaleState { sold_out: true, ..state(9) };
    let never = SaleState { restock: Restock::Never, ..sold_out.clone() };
    let paused = SaleState { paused: true, ..state(4) };
    #[rustfmt::skip]
    let table = [
        (state(3), 1_796_126_102_003, 0, "not_started.ok",
         r#"{"state":"not_started","buyable":false,"final":false,"opens_at_ms":1796126400000,"ends_at_ms":1796133600000,"server_time_ms":1796126102003,"poll_ms":20000,"jitter_ms":10000,"spread_ms":400,"epoch":1,"version":3}"#),
        (two_pools(state(3)), 1_796_126_400_871, 0, "available.ok",
         r#"{"state":"available","buyable":true,"final":false,"opens_at_ms":1796126400000,"ends_at_ms":1796133600000,"server_time_ms":1796126400871,"poll_ms":2000,"jitter_ms":1000,"spread_ms":400,"epoch":1,"version":3,"pools":{"1001":"available","1002":"sold_out"}}"#),
        (full(state(3)), 1_796_126_403_120, 500, "available.busy",
         r#"{"state":"available","buyable":false,"hint":"busy","final":false,"opens_at_ms":1796126400000,"ends_at_ms":1796133600000,"server_time_ms":1796126403120,"poll_ms":2000,"jitter_ms":1000,"spread_ms":0,"epoch":1,"version":3}"#),
        (paused, 1_796_126_404_100, 0, "available.paused",
         r#"{"state":"available","buyable":false,"hint":"paused","final":false,"opens_at_ms":1796126400000,"ends_at_ms":1796133600000,"server_time_ms":1796126404100,"poll_ms":5000,"jitter_ms":2500,"spread_ms":0,"epoch":1,"version":4}"#),
        (state(4), 1_796_126_405_002, 1900, "available.stale",
         r#"{"state":"available","buyable":true,"hint":"stale","age_ms":1900      ,"final":false,"opens_at_ms":1796126400000,"ends_at_ms":1796133600000,"server_time_ms":1796126405002,"poll_ms":2000,"jitter_ms":1000,"spread_ms":0,"epoch":1,"version":4}"#),
        (sold_out, 1_796_126_441_000, 0, "sold_out.ok",
         r#"{"state":"sold_out","buyable":false,"final":false,"opens_at_ms":1796126400000,"ends_at_ms":1796133600000,"server_time_ms":1796126441000,"poll_ms":30000,"jitter_ms":15000,"spread_ms":0,"epoch":1,"version":9}"#),
        (never, 1_796_126_441_000, 0, "sold_out.ok",
         r#"{"state":"sold_out","buyable":false,"final":true,"opens_at_ms":1796126400000,"ends_at_ms":1796133600000,"server_time_ms":1796126441000,"poll_ms":null,"jitter_ms":0,"spread_ms":0,"epoch":1,"version":9}"#),
        (state(10), 1_796_133_600_010, 0, "ended.ok",
         r#"{"state":"ended","buyable":false,"final":true,"opens_at_ms":1796126400000,"ends_at_ms":1796133600000,"server_time_ms":1796133600010,"poll_ms":null,"jitter_ms":0,"spread_ms":0,"epoch":1,"version":10}"#),
    ];
    for (state, now, heard_ago, tag, line) in table {
        let version = state.version;
        let sale = snapshot(state, mono(now) - heard_ago);
        let bare = tell("", &sale, &[], &at(now));
        assert_eq!((bare.status, &*bare.body), (200, line));
        assert_eq!(bare.headers["etag"], format!("W/\"1.{version}.{tag}\""));
        assert_eq!(bare.headers["penstock-time"], now.to_string());
        assert_eq!(bare.headers["content-type"], "application/json");
        assert_eq!(bare.headers["cache-control"], "no-store");
        assert_eq!(bare.headers["access-control-allow-origin"], "*");
        assert!(!bare.headers.contains_key("vary"));
        let fresh = snapshot(sale.state.clone(), mono(now) - heard_ago);
        let wrapped = tell("answers.style = \"envelope\"", &fresh, &[], &at(now));
        assert_eq!(wrapped.body, format!(r#"{{"code":0,"msg":"ok","data":{line}}}"#));
        assert_eq!(wrapped.status, 200);
    }
}

#[test]
fn the_shops_own_envelope_and_its_variants() {
    let toml = r#"
        [answers]
        envelope = '{"ret":{code},"info":{msg},"trace":{request_id},"result":{data}}'
        variant = [{ when = { header = "X-App", prefix = "mini/" }, style = "envelope" }]
    "#;
    let sale = snapshot(state(3), mono(OPENS));
    let bare = tell(toml, &sale, &[], &at(OPENS));
    assert!(bare.body.starts_with(r#"{"state":"available""#));
    assert_eq!(bare.headers["vary"], "x-app");
    let app = [Field { name: b"x-app", value: b"mini/8.0" }];
    let told = tell(toml, &sale, &app, &at(OPENS));
    let start = r#"{"ret":0,"info":"ok","trace":"0707070707070707","result":{"state":"available""#;
    assert!(told.body.starts_with(start), "{}", told.body);
    assert!(told.body.contains(&format!("\"server_time_ms\":{OPENS},")));
    let broken = settings("answers.envelope = '{\"code\":{code}'");
    assert!(Availabilities::new(&broken).expect_err("not JSON").starts_with("answers.envelope:"));
}

#[test]
fn a_known_tag_is_answered_304_with_the_time() {
    let sale = snapshot(state(3), mono(OPENS));
    for (value, status) in [
        (&b"W/\"1.3.available.ok\""[..], 304),
        (b"\"1.3.available.ok\"", 304),
        (b"\"x\", W/\"1.3.available.ok\"", 304),
        (b"*", 304),
        (b"W/\"1.2.available.ok\"", 200),
        (b"", 200),
    ] {
        let fields = [Field { name: b"If-None-Match", value }];
        let told = tell("", &sale, &fields, &at(OPENS));
        assert_eq!(told.status, status, "{}", String::from_utf8_lossy(value));
        assert_eq!(told.headers["penstock-time"], OPENS.to_string());
        assert_eq!(told.headers["etag"], "W/\"1.3.available.ok\"");
        assert_eq!(told.body.is_empty(), status == 304);
    }
}

/// Both writers, for every state, hint and style, whole and 304, for a CDN and not.
#[test]
fn every_answer_is_written_alike() {
    let toml = r#"
        [site.shop.activity]
        availability_cache = "1s"
        [answers]
        envelope = '{"ret":{code},"info":{msg},"trace":{request_id},"result":{data}}'
        variant = [{ when = { header = "X-App", prefix = "mini/" }, style = "envelope" }]
    "#;
    let full = |mut state: SaleState| {
        state.pools.push(PoolState { held: 5, ..PoolState::new(name("second"), 5) });
        state.pools[0].held = 10;
        state
    };
    let sold_out = SaleState { sold_out: true, ..state(6) };
    let cases = [
        (state(3), OPENS - 9_000, 0, "not_started.ok"),
        (state(3), OPENS - 9_000, 600, "not_started.stale"),
        (state(3), OPENS, 0, "available.ok"),
        (state(3), OPENS + 9_000, 123_456, "available.stale"),
        (full(state(3)), OPENS, 500, "available.busy"),
        (SaleState { paused: true, ..state(4) }, OPENS, 0, "available.paused"),
        (sold_out.clone(), OPENS, 0, "sold_out.ok"),
        (SaleState { restock: Restock::Never, ..sold_out }, OPENS, 0, "sold_out.ok"),
        (state(3), ENDS, 0, "ended.ok"),
    ];
    for (state, now, heard_ago, tag) in cases {
        for app in ["web/1", "mini/8"] {
            for known in ["\"none\"", "*"] {
                for toml in [toml, ""] {
                    // A memo of its own: the settings are not part of its keys.
                    let sale = snapshot(state.clone(), mono(now) - heard_ago);
                    let fields = [("x-app", app), ("if-none-match", known)].map(|(name, value)| {
                        Field { name: name.as_bytes(), value: value.as_bytes() }
                    });
                    let told = tell(toml, &sale, &fields, &at(now));
                    let etag = told.headers["etag"].to_str().expect("text");
                    assert!(etag.ends_with(&format!("{tag}\"")), "{etag}");
                    let is_final = state.sold_out && state.restock == Restock::Never;
                    let is_known = known == "*" && !is_final;
                    assert_eq!(told.status, if is_known { 304 } else { 200 }, "{tag}");
                }
            }
        }
    }
}

#[test]
fn a_final_sold_out_is_told_in_full_to_who_holds_the_copy_before_it() {
    let mut sold = SaleState { sold_out: true, restock: Restock::Never, ..state(9) };
    sold.pools[0].limbo = 1;
    let before = snapshot(sold.clone(), mono(OPENS));
    let told = tell("", &before, &[], &at(OPENS));
    assert!(told.body.contains("\"final\":false"));
    sold.pools[0].limbo = 0;
    let after = before.next(sold);
    let fields = [Field { name: b"if-none-match", value: told.headers["etag"].as_bytes() }];
    let told = tell("", &after, &fields, &at(OPENS));
    assert!(told.status == 200 && told.body.contains("\"final\":true"));
}

#[test]
fn a_cdn_never_keeps_a_copy_across_an_edge() {
    let toml = "[site.shop.activity]\navailability_cache = \"1s\"";
    for (now, cacheable) in [
        (OPENS - 1_000, true),
        (OPENS - 999, false),
        (OPENS - 1, false),
        (OPENS, true),
        (ENDS - 1_000, true),
        (ENDS - 999, false),
        (ENDS, true),
    ] {
        let sale = snapshot(state(3), mono(now));
        let told = tell(toml, &sale, &[], &at(now));
        let expected = if cacheable { "public, max-age=1" } else { "no-store" };
        assert_eq!(told.headers["cache-control"], expected, "{now}");
        assert_eq!(told.headers.contains_key("cdn-cache-control"), cacheable);
    }
    let unsure = Exchange { now: Now { ledger_err_ms: 5, ..at(OPENS - 1_004).now }, ..at(ENDS) };
    let sale = snapshot(state(3), mono(OPENS - 1_004));
    assert_eq!(tell(toml, &sale, &[], &unsure).headers["cache-control"], "no-store");
    let odd = settings("[site.shop.activity]\navailability_cache = \"1500ms\"");
    assert!(Availabilities::new(&odd).expect_err("odd").contains("availability_cache"));
}

#[test]
fn options_allows_any_origin_to_read() {
    let told = Availabilities::new(&settings("")).expect("valid");
    let sale = snapshot(state(3), 0);
    let ready = told.answer(&name("shop"), &sale, &head(Method::OPTIONS, &[]), &at(OPENS));
    let response = agree::response(&ready.answer, &ready.fill);
    assert_eq!(response.status(), 204);
    assert_eq!(response.headers()["access-control-allow-origin"], "*");
    assert_eq!(response.headers()["allow"], "GET, HEAD, OPTIONS");
}

#[test]
fn an_answer_is_made_once() {
    let told = Availabilities::new(&settings("")).expect("valid");
    let sale = snapshot(state(3), mono(OPENS));
    let head = head(Method::GET, &[]);
    let first = told.answer(&name("shop"), &sale, &head, &at(OPENS));
    let second = told.answer(&name("shop"), &sale, &head, &at(OPENS + 7));
    assert!(first.answer.is_same(&second.answer));
}

fn states() -> impl Strategy<Value = SaleState> {
    let pool = (0u64..4, 0u64..4, 0u64..4, any::<bool>());
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    (1u32..4, 1u64..9, flags, proptest::collection::vec(pool, 1..4)).prop_map(
        |(epoch, version, (paused, ended, sold_out, no_end, never), pools)| {
            let pool = |(i, (confirmed, held, limbo, sold_out))| PoolState {
                confirmed,
                held,
                limbo,
                sold_out,
                ..PoolState::new(name(&format!("p{i}")), 4)
            };
            SaleState {
                epoch,
                paused,
                ended,
                sold_out,
                ends_at: (!no_end).then_some(UnixMs(ENDS)),
                restock: if never { Restock::Never } else { Restock::Manual },
                pools: pools.into_iter().enumerate().map(pool).collect(),
                ..state(version)
            }
        },
    )
}

proptest! {
    /// Always JSON, and always what the snapshot says, whatever its state.
    #[test]
    fn the_body_is_json_and_agrees_with_the_view(
        state in states(),
        offset in -5_000i64..8_000_000,
        heard_ago in 0u64..2_000,
        enveloped in any::<bool>(),
    ) {
        let exchange = at(OPENS.saturating_add_signed(offset));
        let sale = snapshot(state, exchange.now.mono.0 - heard_ago);
        let toml = if enveloped { "answers.style = \"envelope\"" } else { "" };
        let told = tell(toml, &sale, &[], &exchange);
        let mut value: serde_json::Value = serde_json::from_str(&told.body).expect("JSON");
        if enveloped {
            prop_assert_eq!(&value["code"], 0);
            value = value["data"].take();
        }
        let view = sale.at(&exchange.now);
        prop_assert_eq!(&value["state"], view.availability.label());
        prop_assert_eq!(&value["buyable"], view.buyable);
        prop_assert_eq!(value["hint"].as_str(), view.hint.map(Hint::label));
        prop_assert_eq!(&value["final"], view.is_final);
        prop_assert_eq!(value["poll_ms"].is_null(), view.is_final);
        prop_assert_eq!(&value["server_time_ms"], exchange.now.ledger.0);
        prop_assert_eq!(&value["epoch"], sale.state.epoch);
        prop_assert_eq!(&value["version"], sale.state.version);
        prop_assert_eq!(value["ends_at_ms"].as_u64(), sale.state.ends_at.map(|t| t.0));
        prop_assert_eq!(value["age_ms"].is_null(), view.hint != Some(Hint::Stale));
        prop_assert_eq!(value.get("pools").is_some(), sale.state.pools.len() > 1);
    }

    /// The state flips at T0 and at the end of the ledger's clock, whatever the machine's own shows.
    #[test]
    fn the_state_flips_exactly_at_its_edges(before in 1u64..100_000, after in 0u64..100_000, wall in any::<u32>()) {
        let state_at = |ledger: u64| {
            let mut exchange = at(ledger);
            exchange.now.wall = UnixMs(u64::from(wall));
            let sale = snapshot(state(3), exchange.now.mono.0);
            let told = tell("", &sale, &[], &exchange);
            let value: serde_json::Value = serde_json::from_str(&told.body).expect("JSON");
            value["state"].as_str().expect("text").to_owned()
        };
        prop_assert_eq!(state_at(OPENS - before), "not_started");
        prop_assert_eq!(state_at(OPENS + after), "available");
        prop_assert_eq!(state_at(ENDS - before), "available");
        prop_assert_eq!(state_at(ENDS + after), "ended");
    }
}
