//! The dashboard in a real browser: what it shows while a sale waits, sells and is sold out, and what its
//! buttons do. And who may not press them.

use serde_json::{Value, json};

use super::browser::Browser;
use super::client::{Answer, Client, purchase, until};
use super::node::{Config, Node, Place, sale, shop_with};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// A node with an admin address; the directory has its token.
fn node(shop: &penstock::shop::Running, sale: String) -> (Node, tempfile::TempDir) {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("token");
    std::fs::write(&file, TOKEN).expect("written");
    let admin = format!("address = \"127.0.0.2:0\"\ntoken_file = \"{}\"\n", file.display());
    let place = Place::new(shop.address(), &Config { admin, sale, ..Config::default() });
    (place.start(), dir)
}

fn origin(node: &Node) -> String {
    format!("http://{}", node.address("admin"))
}

/// Opens the dashboard as `alice` and waits for the first word of the node.
fn open(node: &Node, browser: &mut Browser) {
    browser.open(&format!("http://alice:{TOKEN}@{}/", node.address("admin")));
    browser.wait_text("#ready", "ready");
}

fn ledger(node: &Node) -> Value {
    serde_json::from_str(&node.place.good(&["sale", "show", "drop", "--json"])).expect("JSON")
}

fn buy(node: &Node, user: &str) -> Answer {
    node.client().ask(purchase(user))
}

/// Every place where it hangs: a wall, a desk, a telephone; nothing may stick out.
fn everywhere(browser: &mut Browser, name: &str) {
    for (place, width, height, scheme) in [
        ("wall", 1920, 1080, "dark"),
        ("desk", 1280, 900, "light"),
        ("phone", 390, 844, "dark"),
        ("phone-light", 390, 844, "light"),
    ] {
        browser.show_as(width, height, scheme);
        browser.eval("scrollTo(0, 0)");
        assert!(browser.overflow() <= 0, "{name} sticks out of the {place}");
        browser.picture(&format!("dashboard-{name}-{place}"));
    }
    browser.show_as(1280, 900, "dark");
}

#[test]
fn it_counts_down_while_a_sale_waits() {
    let shop = shop_with(|_| {});
    let (node, _dir) = node(&shop, sale("2030-01-01T00:00:00Z", 1000));
    let mut browser = Browser::start();
    open(&node, &mut browser);
    browser.wait_text("#state", "Not started");
    browser.wait_text("#count-label", "opens in");
    let counted = browser.text("#count-time");
    assert!(counted.starts_with("T−") && counted.contains(" d "), "{counted}");
    browser.wait(
        "the clock ticks",
        &format!("document.querySelector('#count-time').innerText !== {counted:?}"),
    );
    assert_eq!(browser.text("#units .stock dd"), "1,000");
    assert!(browser.text("#light").starts_with("1,000 = 0 + 0 + 0 + 1,000"));
    assert_eq!(browser.eval("document.querySelector('#alarms').hidden"), true);
    browser.wait_text("#log", "listening on");
    browser.wait("there is a curve", "document.querySelectorAll('.spark path').length > 3");
    everywhere(&mut browser, "waiting");
    browser.click("#language");
    browser.wait_text("#state", "未开始");
    browser.wait_text("#units .stock dt", "库存");
    everywhere(&mut browser, "waiting-zh");
    browser.assert_quiet(&origin(&node));
}

#[test]
fn it_shows_a_sale_that_sells_and_its_buttons_work() {
    let shop = shop_with(|_| {});
    let (node, _dir) = node(&shop, sale("2020-01-01T00:00:00Z", 5));
    let mut browser = Browser::start();
    open(&node, &mut browser);
    // A sale that the ledger did not know after its T0 begins paused, and a person must open it.
    browser.wait_text("#state", "Paused");
    browser.wait_text("#why", "an operator paused the sale");
    let press = |browser: &mut Browser, verb: &str, answer: &str| {
        browser.click(&format!("[data-verb={verb}]"));
        browser.wait("it asks first", "document.querySelector('#confirm').open");
        let command = format!("penstock sale {} shop/drop", verb.replace('_', "-"));
        assert_eq!(browser.text("#confirm code"), command);
        browser.click(&format!("#confirm [value={answer}]"));
        browser.wait("the question is gone", "!document.querySelector('#confirm').open");
    };
    press(&mut browser, "resume", "yes");
    browser.wait_text("#said", "done");
    browser.wait_text("#state", "On sale");
    until("the events say who", || node.said("sale shop/drop: resume, says alice"));
    for user in ["a", "b", "c"] {
        assert_eq!(buy(&node, user).status, 201);
    }
    assert_eq!(buy(&node, "a").reason(), "already");
    browser.wait_text("#units .sold dd", "3");
    browser.wait_text("#light", "5 = 3 + 0 + 0 + 2");
    browser.wait_text("#funnel tbody", "already");
    let share = "document.querySelector('#bar .sold').clientWidth / document.querySelector('#bar').clientWidth";
    browser.wait("three fifths of the bar are sold", &format!("Math.abs({share} - 0.6) < 0.02"));
    everywhere(&mut browser, "selling");

    press(&mut browser, "pause", "no");
    assert_eq!(ledger(&node)["paused"], false, "the second step was not made");
    press(&mut browser, "pause", "yes");
    browser.wait_text("#state", "Paused");
    assert_eq!(ledger(&node)["paused"], true);
    assert_eq!(buy(&node, "d").reason(), "paused");
    press(&mut browser, "resume", "yes");
    browser.wait_text("#state", "On sale");
    until("purchases go on", || buy(&node, "e").status == 201);
    press(&mut browser, "sold_out", "yes");
    browser.wait_text("#state", "Sold out");
    assert_eq!(ledger(&node)["state"], "sold_out");
    browser.wait_text("#log", "sale shop/drop: sold_out, says alice");
    browser.assert_quiet(&origin(&node));
}

#[test]
fn it_shows_a_sale_that_is_sold_out_and_what_a_person_must_mend() {
    // Every order is made, and nobody hears of it.
    let shop = shop_with(|settings| settings.drop_permille = 1_000);
    let (node, _dir) = node(&shop, sale("2020-01-01T00:00:00Z", 3));
    node.place.good(&["sale", "resume", "drop"]);
    let mut browser = Browser::start();
    open(&node, &mut browser);
    for n in 0..3 {
        assert_eq!(buy(&node, &format!("u{n}")).reason(), "pending");
    }
    browser.wait_text("#state", "Sold out");
    browser.wait_text("#units .limbo dd", "3");
    browser.wait_text("#alarms", "limbo grew from 0 to 3 units");
    browser.wait_text("#alarms code", "penstock limbo list shop/drop");
    for _ in 0..12 {
        node.client().ask(
            "GET /activity/8848 HTTP/1.1\r\nHost: shop.example\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n",
        );
    }
    browser.wait_text("#alarms", "a proxy that is not trusted");
    assert_eq!(buy(&node, "late").reason(), "sold_out");
    browser.wait_text("#funnel tbody", "sold_out");
    everywhere(&mut browser, "sold-out");
    browser.assert_quiet(&origin(&node));
    until("the scrape counts them too", || node.metric("penstock_alarms") >= 2.0);
}

#[test]
fn a_node_without_a_sale_says_how_to_get_one() {
    let shop = shop_with(|_| {});
    let (node, _dir) = node(&shop, sale("2030-01-01T00:00:00Z", 1));
    node.place.good(&["sale", "end", "drop"]);
    let mut browser = Browser::start();
    open(&node, &mut browser);
    browser.wait_text("#state", "Ended");
    browser.eval("stats.sales = []; draw(); 0");
    browser.wait_text("#empty", "penstock sale put SITE/SALE");
    browser.assert_quiet(&origin(&node));
}

#[test]
fn nobody_else_presses_the_buttons() {
    use base64::Engine;
    let shop = shop_with(|_| {});
    let (node, _dir) = node(&shop, sale("2020-01-01T00:00:00Z", 5));
    let tcp = |method: &str, path: &str, fields: &str| {
        let host = node.address("admin");
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\n{fields}\r\n"
        );
        Client::tcp(node.address("admin")).ask(request)
    };
    for path in ["/", "/v1/stats", "/v1/stream"] {
        let answer = tcp("GET", path, "");
        assert_eq!((answer.status, answer.body.contains("<html")), (401, false), "{path}");
    }
    let pair = base64::engine::general_purpose::STANDARD.encode(format!("alice:{TOKEN}"));
    let basic = format!("Authorization: Basic {pair}\r\n");
    let page = tcp("GET", "/", &basic);
    assert_eq!(page.status, 200);
    let policy = page.field("content-security-policy").expect("a policy");
    assert!(
        policy.starts_with("default-src 'none'; script-src 'sha256-") && !policy.contains("unsafe"),
        "{policy}"
    );
    assert_eq!(page.field("x-frame-options"), Some("DENY"));
    let resume = "/v1/sales/shop/drop/resume";
    let own = format!("Origin: {}\r\n", origin(&node));
    let confirm = "Penstock-Confirm: 1\r\n";
    // What a page of somebody else's can make the operator's browser send.
    for fields in [
        basic.clone(),
        format!("{basic}{own}"),
        format!("{basic}{confirm}Origin: http://evil.example\r\n"),
        format!("{basic}{confirm}Origin: null\r\n"),
        format!("{basic}{confirm}Sec-Fetch-Site: cross-site\r\n"),
    ] {
        assert_eq!(tcp("POST", resume, &fields).status, 403, "{fields}");
    }
    assert_eq!(tcp("POST", resume, &format!("{own}{confirm}")).status, 401, "without the token");
    assert_eq!(ledger(&node)["paused"], true);
    assert_eq!(tcp("POST", resume, &format!("{basic}{own}{confirm}")).status, 200);
    assert_eq!(ledger(&node)["paused"], false);

    // The socket has no token, and a name that leads here by DNS is no name of this machine.
    let unix = |host: &str| {
        Client::unix(&node.place.admin_socket())
            .ask(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"))
    };
    assert_eq!(unix("localhost:9901").status, 200);
    assert_eq!(unix("evil.example:9901").status, 403);
}

#[test]
fn stats_are_told_to_people_and_programs() {
    let shop = shop_with(|_| {});
    let (node, _dir) = node(&shop, sale("2020-01-01T00:00:00Z", 5));
    node.place.good(&["sale", "resume", "drop"]);
    assert_eq!(buy(&node, "a").status, 201);
    assert_eq!(buy(&node, "a").reason(), "already");
    let stats =
        || -> Value { serde_json::from_str(&node.place.good(&["stats", "--json"])).expect("JSON") };
    until("the second is over", || stats()["total"]["confirmed"] == 1);
    let told = stats();
    assert_eq!(told["sales"][0]["confirmed"], 1);
    assert_eq!(
        told["sales"][0]["salt"],
        Value::Null,
        "the key of the users' hashes is not for walls"
    );
    assert_eq!(told["total"]["purchase"], 2);
    assert_eq!(told["total"]["reasons"]["already"], json!(1));
    assert_eq!(told["upstreams"][0]["group"], "shop");
    assert_eq!(told["alarms"], json!([]));
    assert!(told["memory"]["bytes"].as_u64().expect("bytes") > 1_000_000);
    assert_eq!(told["took_ms"]["shop"]["count"], 1);
    let text = node.place.good(&["stats"]);
    for word in ["shop/drop", "available", "already", "purchase", "in flight", "config "] {
        assert!(text.contains(word), "{word} is not in\n{text}");
    }
}
