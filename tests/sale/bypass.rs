//! No request that a lenient decoder reads as a purchase reaches the shop outside the gate.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::rig::{Plan, Stage, send};

/// Spellings of the purchase path that some server or framework reads as that path.
fn spelling() -> impl Strategy<Value = String> {
    let one = |c: char| {
        prop_oneof![
            4 => Just(c.to_string()),
            1 => Just(c.to_ascii_uppercase().to_string()),
            1 => Just(format!("%{:02x}", c as u32)),
            1 => Just(format!("%{:02X}", c as u32)),
            1 => Just(format!("%25{:02x}", c as u32)),
        ]
    };
    let slash = prop_oneof![
        5 => Just("/".to_owned()),
        1 => Just("//".to_owned()),
        1 => Just("/./".to_owned()),
        1 => Just("/x/../".to_owned()),
        1 => Just("%2f".to_owned()),
        1 => Just("%5c".to_owned()),
        1 => Just(";v=1/".to_owned()),
        1 => Just("/%2e/".to_owned()),
    ];
    let word = move |text: &'static str| {
        text.chars().map(one).collect::<Vec<_>>().prop_map(|parts| parts.concat())
    };
    let end = prop_oneof![
        5 => Just(""), 1 => Just("/"), 1 => Just(";a=b"), 1 => Just("%20"), 1 => Just("?x=1"),
        1 => Just("/."), 1 => Just("//"), 1 => Just("/x/.."),
    ];
    (slash.clone(), word("activity"), slash.clone(), word("8848"), slash, word("orders"), end)
        .prop_map(|(a, b, c, d, e, f, g)| {
            let path = format!("{a}{b}{c}{d}{e}{f}{g}");
            if path.starts_with('/') { path } else { format!("/{path}") }
        })
}

#[test]
fn the_catch_all_is_no_bypass() {
    let stage = Stage::set(Plan { opens_in_ms: 3_600_000, ..Plan::default() });
    let edge = stage.edge();
    let methods = prop::sample::select(vec!["POST", "PUT", "PATCH", "DELETE"]);
    let overrides = prop::sample::select(vec![
        "",
        "X-HTTP-Method-Override: POST\r\n",
        "X-Original-URL: /activity/8848/orders\r\n",
    ]);
    let mut runner = TestRunner::new(Config { cases: 300, ..Config::default() });
    runner
        .run(&(spelling(), methods, overrides), |(path, method, extra)| {
            let bytes = format!(
                "{method} {path} HTTP/1.1\r\nHost: s\r\nConnection: close\r\nCookie: uid=eve\r\n\
                 {extra}Content-Length: 2\r\n\r\n{{}}"
            );
            let answer = send(edge.at, &bytes);
            let stats = stage.shop.stats();
            let seen = stats.posts + stats.others;
            prop_assert_eq!(seen, 0, "{} {} reached the shop: {:?}", method, path, answer);
            Ok(())
        })
        .expect("no bypass");
}

#[test]
fn override_fields_are_not_forwarded() {
    let stage = Stage::set(Plan { opens_in_ms: 3_600_000, ..Plan::default() });
    let edge = stage.edge();
    let bytes = "GET /activity/8848/orders HTTP/1.1\r\nHost: s\r\nConnection: close\r\n\
                 X-HTTP-Method-Override: POST\r\nX-HTTP-Method: POST\r\nCookie: uid=eve\r\n\r\n";
    send(edge.at, bytes);
    assert_eq!(stage.shop.stats().posts, 0);
}
