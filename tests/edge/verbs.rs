//! The verbs of an operator: what they print, and how they end.

use serde_json::Value;

use super::client::{get, purchase};
use super::node::{Config, Place, quick_shop, sale};

fn code(place: &Place, args: &[&str]) -> (Option<i32>, String) {
    let output = place.verb(args);
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_sale_is_shown_and_steered() {
    let shop = quick_shop();
    let node = Place::new(shop.address(), &Config::default()).start();
    let place = &node.place;
    let list = place.good(&["sale", "list"]);
    assert!(list.contains("shop/drop") && list.contains("PAUSED"), "{list}");
    place.good(&["sale", "resume", "drop"]);
    assert_eq!(node.client().ask(purchase("u")).status, 201);
    let shown = place.good(&["sale", "show", "shop/drop"]);
    assert!(shown.contains("available") && shown.contains("default"), "{shown}");
    let json: Value =
        serde_json::from_str(&place.good(&["sale", "show", "drop", "--json"])).unwrap();
    assert_eq!((json["confirmed"].as_u64(), json["stock"].as_u64()), (Some(1), Some(5)));
    place.good(&["sale", "pause", "drop"]);
    assert_eq!(node.client().ask(purchase("v")).reason(), "paused");
    place.good(&["sale", "resume", "drop"]);
    place.good(&["sale", "add-stock", "drop", "--units", "2", "--pool", "default"]);
    place.good(&["sale", "sold-out", "drop"]);
    assert_eq!(node.client().ask(purchase("v")).reason(), "sold_out");
    place.good(&["sale", "restock", "drop", "--pool", "default", "--units", "3"]);
    assert_eq!(node.client().ask(purchase("v")).status, 201);
    place.good(&["sale", "end", "drop"]);
    assert_eq!(node.client().ask(purchase("w")).reason(), "ended");
    let (refused, said) = code(place, &["sale", "add-stock", "drop", "--units", "1"]);
    assert_eq!(refused, Some(4), "{said}");
}

#[test]
fn a_file_declares_a_sale() {
    let shop = quick_shop();
    let node = Place::new(shop.address(), &Config::default()).start();
    let file = node.place.path("sale.json");
    let write = |revision: u64| {
        let text = format!(
            r#"{{"activity":"77","opens_at":"2030-01-01T00:00:00Z","revision":{revision},"pools":{{"a":{{"stock":3}}}}}}"#
        );
        std::fs::write(&file, text).unwrap();
    };
    let path = file.display().to_string();
    write(1);
    assert!(node.place.good(&["sale", "put", "second", "-f", &path]).contains("shop/second"));
    write(0);
    assert_eq!(code(&node.place, &["sale", "put", "second", "-f", &path]).0, Some(4));
    std::fs::write(&file, "{").unwrap();
    assert_eq!(code(&node.place, &["sale", "put", "second", "-f", &path]).0, Some(1));
}

#[test]
fn pages_are_purged_and_limbo_is_matched() {
    let shop = quick_shop();
    let node = Place::new(shop.address(), &Config::default()).start();
    assert_eq!(node.client().ask(get("/activity/8848")).status, 200);
    assert_eq!(node.place.good(&["purge", "8848"]), "1 page purged\n");
    assert_eq!(node.place.good(&["purge", "--all", "--soft"]), "0 pages made stale\n");
    for verb in [
        &["purge", "--tag", "a", "--tag", "b"][..],
        &["purge", "--tag", "a", "--site", "shop"],
        &["purge", "--host", "shop.example"],
        &["purge", "--prefix", "/activity/", "--host", "www.shop.example"],
        &["purge", "--url", "http://shop.example/activity/1"],
    ] {
        assert_eq!(node.place.good(verb), "0 pages purged\n", "{verb:?}");
    }
    let told = node.place.good(&["purge", "--prefix", "/", "--json"]);
    assert!(told.contains("\"purged\": 0"), "{told}");
    assert_eq!(code(&node.place, &["purge", "--tag", "a", "--host", "b"]).0, Some(2));
    let orders = node.place.path("orders.csv");
    std::fs::write(&orders, "key,order,status\n").unwrap();
    let orders = orders.display().to_string();
    let said = node.place.good(&["limbo", "match", "drop", &orders, "--at-rest"]);
    assert!(said.starts_with("0 confirmed, 0 failed"), "{said}");
    assert!(node.place.good(&["limbo", "list", "drop"]).starts_with("CLAIM"));
    assert_eq!(code(&node.place, &["limbo", "match", "drop", "/nowhere.csv"]).0, Some(1));
}

#[test]
fn exit_codes_tell_what_happened() {
    let shop = quick_shop();
    let place = Place::new(
        shop.address(),
        &Config { sale: sale("2030-01-01T00:00:00Z", 1), ..Config::default() },
    );
    let (unreachable, said) = code(&place, &["sale", "list"]);
    assert_eq!(unreachable, Some(3), "{said}");
    assert!(said.contains("admin.sock"), "{said}");
    assert_eq!(code(&place, &["sale", "show"]).0, Some(2));
    assert_eq!(code(&place, &["purge"]).0, Some(2));
    let node = place.start();
    assert_eq!(node.place.good(&["ctl", "ready"]), "ready\n");
    assert_eq!(code(&node.place, &["sale", "show", "none"]).0, Some(1));
    assert_eq!(code(&node.place, &["sale", "show", "a b"]).0, Some(2));
    // The socket alone is enough.
    let socket = node.place.admin_socket().display().to_string();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_penstock"))
        .args(["sale", "show", "drop", "--json", "--socket", &socket])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    std::fs::write(node.place.config(), "nonsense = 1\n").unwrap();
    assert_eq!(code(&node.place, &["sale", "list"]).0, Some(78));
}
