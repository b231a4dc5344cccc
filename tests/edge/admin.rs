//! The admin interface, spoken to as a program speaks to it.

use serde_json::{Value, json};

use super::client::{Answer, Client, get, purchase, until};
use super::node::{Config, Node, Place, quick_shop, sale};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

fn ask(node: &Node, method: &str, path: &str, body: Option<&Value>) -> Answer {
    let body = body.map(Value::to_string).unwrap_or_default();
    Client::unix(&node.place.admin_socket()).ask(format!(
        "{method} {path} HTTP/1.1\r\nHost: node\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ))
}

fn declaration(revision: u64, stock: u64) -> Value {
    json!({"activity": "77", "opens_at": "2030-01-01T00:00:00Z", "revision": revision,
        "pools": {"a": {"stock": stock}, "b": {"stock": 2}}})
}

#[test]
fn a_node_tells_how_it_is() {
    let shop = quick_shop();
    let node = Place::new(shop.address(), &Config::default()).start();
    assert_eq!(ask(&node, "GET", "/livez", None).status, 200);
    let ready = ask(&node, "GET", "/readyz", None);
    assert_eq!((ready.status, ready.json()["ready"].clone()), (200, true.into()));
    for (path, name) in
        [("/activity/8848", "page"), ("/activity/8848/availability", "availability")]
    {
        assert_eq!(node.client().ask(get(path)).status, 200);
        let requests = format!("penstock_requests_total{{route=\"{name}\"}}");
        assert_eq!(node.metric(&requests), 1.0);
    }
    assert_eq!(node.client().ask(purchase("u")).reason(), "paused");
    assert_eq!(node.metric("penstock_answers_total{reason=\"paused\"}"), 1.0);
    assert_eq!(node.metric("penstock_sale_stock_units{sale=\"shop/drop\",pool=\"default\"}"), 5.0);
    assert_eq!(node.metric("penstock_sale_state{sale=\"shop/drop\",state=\"available\"}"), 1.0);
    assert_eq!(node.metric("penstock_ready"), 1.0);
    assert_eq!(node.metric("penstock_cache_entries"), 1.0);
    let upstreams = ask(&node, "GET", "/v1/upstreams", None).json();
    assert_eq!(upstreams["upstreams"][0]["server"], shop.address().to_string());
    for (method, path, status) in [
        ("GET", "/v1/nothing", 404),
        ("GET", "/v1/sales/shop/none", 404),
        ("GET", "/v1/sales/a%2fb/c", 404),
        ("DELETE", "/v1/sales", 405),
        ("GET", "/v1/sales/shop/drop/pause", 405),
        ("POST", "/v1/sales/shop/none/pause", 404),
    ] {
        let answer = ask(&node, method, path, None);
        assert_eq!(answer.status, status, "{method} {path}");
        assert!(answer.json()["error"].is_string(), "{method} {path}");
    }
}

#[test]
fn the_exposition_is_well_formed() {
    let shop = quick_shop();
    let node = Place::new(shop.address(), &Config::default()).start();
    let text = ask(&node, "GET", "/metrics", None).body;
    let (mut families, mut samples) = (Vec::new(), std::collections::HashSet::new());
    for line in text.lines() {
        if let Some(family) = line.strip_prefix("# TYPE ") {
            let name = family.split(' ').next().unwrap().to_owned();
            assert!(!families.contains(&name), "{name} is there twice");
            families.push(name);
        } else if !line.starts_with('#') {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(value.parse::<f64>().is_ok(), "{line}");
            assert!(samples.insert(name.to_owned()), "{name} is there twice");
            let family = name.split('{').next().unwrap();
            let parts = ["", "_bucket", "_sum", "_count"];
            let last = families.last().expect("a family");
            assert!(parts.iter().any(|part| *family == format!("{last}{part}")), "{line}");
        }
    }
    assert!(samples.len() > 80);
}

#[test]
fn sales_are_declared_and_controlled() {
    let shop = quick_shop();
    let node = Place::new(shop.address(), &Config::default()).start();
    let path = "/v1/sales/shop/second";
    let bad = ask(&node, "PUT", path, Some(&json!({"activity": "77"})));
    assert_eq!(bad.status, 400);
    let mut without = declaration(1, 5);
    without.as_object_mut().unwrap().remove("revision");
    assert!(ask(&node, "PUT", path, Some(&without)).body.contains("revision"));
    let put = ask(&node, "PUT", path, Some(&declaration(1, 5))).json();
    assert_eq!((&put["result"], &put["sale"]["stock"]), (&json!("applied"), &json!(7)));
    assert_eq!(node.client().ask(get("/activity/77/availability")).status, 200, "known at once");
    assert_eq!(ask(&node, "PUT", path, Some(&declaration(2, 6))).json()["sale"]["stock"], 8);
    assert_eq!(ask(&node, "PUT", path, Some(&declaration(1, 9))).status, 409, "an old revision");
    // One activity, one sale.
    let mut rival = declaration(1, 1);
    rival["activity"] = json!("8848");
    assert_eq!(ask(&node, "PUT", "/v1/sales/shop/third", Some(&rival)).status, 409);

    let post =
        |part: &str, body: Option<&Value>| ask(&node, "POST", &format!("{path}/{part}"), body);
    assert_eq!(post("pause", None).json()["sale"]["paused"], true);
    assert_eq!(post("pause", None).json()["result"], "unchanged");
    assert_eq!(post("resume", None).json()["sale"]["paused"], false);
    let more = json!({"pool": "a", "units": 4, "id": "x1"});
    assert_eq!(post("add-stock", Some(&more)).json()["sale"]["stock"], 12);
    assert_eq!(post("add-stock", Some(&more)).json()["result"], "unchanged", "the same id");
    assert_eq!(post("add-stock", Some(&json!({"units": 1}))).status, 400, "which pool?");
    assert_eq!(post("add-stock", Some(&json!({"pool": "z", "units": 1}))).status, 409);
    assert_eq!(post("sold_out", None).json()["sale"]["state"], "sold_out");
    assert_eq!(post("end", None).json()["sale"]["state"], "ended");
    let sales = ask(&node, "GET", "/v1/sales", None).json();
    let ids: Vec<_> = sales["sales"].as_array().unwrap().iter().map(|s| s["id"].clone()).collect();
    assert_eq!(ids, ["shop/drop", "shop/second"]);
}

#[test]
fn records_and_limbo_are_told() {
    let shop = quick_shop();
    let node = Place::new(shop.address(), &Config::default()).start();
    node.place.good(&["sale", "resume", "drop"]);
    for user in ["a", "b", "c"] {
        assert_eq!(node.client().ask(purchase(user)).status, 201);
    }
    let show = || ask(&node, "GET", "/v1/sales/shop/drop", None).json();
    until("the outcomes are with the ledger", || show()["confirmed"] == 3);
    let (mut seen, mut after) = (0, String::new());
    loop {
        let path = format!("/v1/sales/shop/drop/records?max=1{after}");
        let page = ask(&node, "GET", &path, None).json();
        let records = page["records"].as_array().unwrap();
        if records.is_empty() {
            break;
        }
        assert_eq!(records[0]["kind"], "C");
        seen += records.len();
        after = format!("&after={}", page["next"].as_str().unwrap());
    }
    assert_eq!(seen, 3);
    assert_eq!(ask(&node, "GET", "/v1/sales/shop/drop/records?max=x", None).status, 400);
    let limbo = ask(&node, "GET", "/v1/sales/shop/drop/limbo", None).json();
    assert_eq!(limbo["limbo"], json!([]));
    let nothing =
        ask(&node, "POST", "/v1/sales/shop/drop/limbo/reclassify", Some(&json!({"as": "failed"})));
    assert_eq!(nothing.status, 400);
}

#[test]
fn pages_are_purged() {
    let shop = quick_shop();
    let node = Place::new(shop.address(), &Config::default()).start();
    let page = || assert_eq!(node.client().ask(get("/activity/8848")).status, 200);
    let purge = |body: Value| ask(&node, "POST", "/v1/purge", Some(&body));
    let is_stored = || until("the page is stored", || node.metric("penstock_cache_entries") == 1.0);
    page();
    is_stored();
    page();
    assert_eq!(shop.stats().pages, 1);
    for (round, body) in [
        json!({"activity": "8848"}),
        json!({"url": "http://www.shop.example/activity/8848"}),
        json!({"all": true}),
        json!({"host": "www.shop.example"}),
        json!({"prefix": "/act"}),
        json!({"prefix": "http://shop.example/activity/8"}),
        json!({"prefix": "/activity/", "host": "shop.example"}),
        json!({"activity": "8848", "soft": true}),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(purge(body.clone()).json()["purged"], 1, "{body}");
        page();
        until("it is fetched again", || shop.stats().pages == round as u64 + 2);
        is_stored();
    }
    for body in [
        json!({}),
        json!({"activity": "1", "all": true}),
        json!({"url": "http://other.example/activity/8848"}),
        json!({"url": "/activity/8848"}),
        json!({"city": "sh"}),
        json!({"url": "http://shop.example/not-cached"}),
        json!({"host": "other.example"}),
        json!({"tags": [""]}),
        json!({"tags": ["a"], "all": true}),
        json!({"prefix": "http://shop.example/", "host": "shop.example"}),
    ] {
        assert_eq!(purge(body.clone()).status, 400, "{body}");
    }
    assert_eq!(purge(json!({"site": "none", "activity": "1"})).status, 404);
}

/// `PURGE` at the edge is the shop's until somebody may, and then that one's alone.
#[test]
fn purge_is_for_those_who_may() {
    let shop = quick_shop();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, format!("{TOKEN}\n")).unwrap();
    let token = format!("purge_token_file = \"{}\"\n", file.display());
    for (more, without, with) in [
        (String::new(), 0, 0),
        ("[cache]\npurge_from = [\"127.0.0.0/8\"]\n".to_owned(), 200, 200),
        (format!("[cache]\n{token}"), 403, 200),
        (format!("[cache]\npurge_from = [\"192.0.2.1\"]\n{token}"), 403, 403),
    ] {
        let node = Place::new(shop.address(), &Config { more, ..Config::default() }).start();
        let purge = |fields: &str| {
            let head = "PURGE /activity/8848 HTTP/1.1\r\nHost: www.shop.example\r\n";
            node.client().ask(format!("{head}{fields}\r\n"))
        };
        let bearer = format!("Authorization: Bearer {TOKEN}\r\n");
        for (fields, status) in [("", without), (&*bearer, with)] {
            assert_eq!(node.client().ask(get("/activity/8848")).status, 200);
            until("the page is stored", || node.metric("penstock_cache_entries") == 1.0);
            let answer = purge(fields);
            match status {
                0 => assert!(answer.status >= 400 && answer.status != 403, "the shop's word"),
                200 => assert_eq!((answer.status, answer.json()), (200, json!({"purged": 1}))),
                _ => assert_eq!(answer.status, status),
            }
            let left = if status == 200 { 0.0 } else { 1.0 };
            assert_eq!(node.metric("penstock_cache_entries"), left);
            if status == 200 {
                let tagged = format!("{fields}Surrogate-Key: a b\r\nPenstock-Purge: soft\r\n");
                assert_eq!(purge(&tagged).json(), json!({"purged": 0}));
            }
        }
    }
}

#[test]
fn tcp_asks_for_the_token() {
    let shop = quick_shop();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, format!("{TOKEN}\n")).unwrap();
    let admin = format!("address = \"127.0.0.2:0\"\ntoken_file = \"{}\"\n", file.display());
    let node = Place::new(shop.address(), &Config { admin, ..Config::default() }).start();
    let ask = |path: &str, fields: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nHost: node\r\n{fields}\r\n");
        Client::tcp(node.address("admin")).ask(request)
    };
    for fields in ["", "Authorization: Bearer wrong\r\n", "Authorization: Basic x\r\n"] {
        let answer = ask("/v1/sales", fields);
        assert_eq!((answer.status, answer.field("www-authenticate")), (401, Some("Bearer")));
    }
    assert_eq!(ask(&format!("/v1/sales?token={TOKEN}"), "").status, 401, "never in a URL");
    let good = format!("Authorization: Bearer {TOKEN}\r\n");
    assert_eq!(ask("/v1/sales", &good).status, 200);
    assert_eq!(ask("/metrics", &good).status, 200);
    // Balancers and kubelets have no token: they hear yes or no, and not why.
    assert_eq!(ask("/livez", "").status, 200);
    let ready = ask("/readyz", "");
    assert_eq!((ready.status, ready.json()["wrong"].clone()), (200, Value::Null));
    let browser = format!("{good}Origin: https://evil.example\r\n");
    assert_eq!(ask("/v1/sales", &browser).status, 403);
    assert_eq!(node.metric("penstock_admin_refused_total"), 4.0);
    // Another token in the file, from the next reload on; one that cannot be used refuses the reload.
    std::fs::write(&file, "short").unwrap();
    let refused = node.place.verb(&["reload", "--wait"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(78), "{said}");
    assert!(said.contains("admin.token_file") && said.contains("penstock.toml:"), "{said}");
    assert_eq!(ask("/v1/sales", &good).status, 200);
    std::fs::write(&file, format!("{TOKEN}-another")).unwrap();
    node.place.good(&["reload", "--wait"]);
    assert_eq!(ask("/v1/sales", &good).status, 401);
    let other = format!("Authorization: Bearer {TOKEN}-another\r\n");
    assert_eq!(ask("/v1/sales", &other).status, 200);
    assert!(!node.events().iter().any(|line| line.contains(TOKEN)));
}

#[test]
fn large_bodies_are_refused() {
    let shop = quick_shop();
    let node = Place::new(
        shop.address(),
        &Config { sale: sale("2030-01-01T00:00:00Z", 1), ..Config::default() },
    )
    .start();
    let mut client = Client::unix(&node.place.admin_socket());
    client.send("PUT /v1/sales/shop/x HTTP/1.1\r\nHost: node\r\nContent-Length: 99999999\r\n\r\n");
    assert_eq!(client.answer().unwrap().status, 413);
    assert_eq!(ask(&node, "GET", "/readyz", None).status, 200);
}
