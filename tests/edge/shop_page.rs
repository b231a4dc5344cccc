//! The mock shop's activity page in a real browser, behind the gate and without it.

use std::time::Duration;

use serde_json::Value;

use super::browser::Browser;
use super::client::{purchase, until};
use super::node::{Config, Node, Place, sale, shop_with};

fn node(shop: &penstock::shop::Running, sale: String) -> Node {
    let site = String::new();
    let place = Place::new(shop.address(), &Config { site, sale, ..Config::default() });
    place.start()
}

fn open(node: &Node, browser: &mut Browser) {
    browser.open(&format!("http://{}/activity/8848?city=paris", node.address("http")));
}

fn everywhere(browser: &mut Browser, name: &str) {
    for (place, width, height, scheme) in [
        ("desk", 1280, 800, "light"),
        ("phone", 390, 844, "light"),
        ("phone-dark", 390, 844, "dark"),
    ] {
        browser.show_as(width, height, scheme);
        assert!(browser.overflow() <= 0, "{name} sticks out of the {place}");
        browser.picture(&format!("shop-{name}-{place}"));
    }
}

/// Buys, and waits for what the page says in the end.
fn buy(browser: &mut Browser, says: &str) {
    browser.wait("the button is open", "!document.querySelector('#buy').disabled");
    browser.click("#buy");
    browser.wait_text("#said", says);
}

#[test]
fn it_opens_by_the_clock_and_sells_one_ticket() {
    let shop = shop_with(|_| {});
    let opens = jiff::Timestamp::now() + Duration::from_secs(6);
    let node = node(&shop, sale(&opens.to_string(), 2));
    let mut browser = Browser::start();
    open(&node, &mut browser);
    browser.wait_text("#state", "Not open yet");
    browser.wait_text("#time", "00:00:0");
    assert_eq!(browser.eval("document.querySelector('#buy').disabled"), true);
    assert_eq!(browser.text("#city"), "paris");
    everywhere(&mut browser, "waiting");
    let polls = |browser: &Browser| {
        browser.requests.iter().filter(|url| url.ends_with("/availability")).count()
    };
    browser.wait("it opens", "!document.querySelector('#buy').disabled");
    assert_eq!(polls(&browser), 1, "the opening needs no poll");
    browser.wait_text("#state", "On sale");
    everywhere(&mut browser, "open");
    buy(&mut browser, "Your ticket is booked");
    let orders = shop.backend().orders();
    assert_eq!(orders.len(), 1);
    assert!(browser.text("#said").contains(&orders[0].id));
    assert_eq!(orders[0].ask.key.as_ref().map(String::len), Some(32), "the page's own number");
    everywhere(&mut browser, "bought");
    buy(&mut browser, "You have one already");
    assert_eq!(shop.backend().orders().len(), 1);

    // Somebody else takes the last one; the page hears of it by polling.
    assert_eq!(node.client().ask(purchase("rival")).status, 201);
    browser.click("#change");
    browser.wait_text("#state", "Sold out");
    assert!(polls(&browser) > 1);
    assert_eq!(browser.eval("document.querySelector('#buy').disabled"), true);
    everywhere(&mut browser, "sold-out");
    browser.click("#language");
    browser.wait_text("#state", "已售罄");
    everywhere(&mut browser, "sold-out-zh");
    browser.complaints.retain(|text| !text.contains("409"));
    browser.assert_quiet(&format!("http://{}", node.address("http")));
}

#[test]
fn it_polls_as_the_answer_says() {
    let shop = shop_with(|_| {});
    let node = node(&shop, sale("2030-01-01T00:00:00Z", 2));
    let mut browser = Browser::start();
    open(&node, &mut browser);
    browser.wait_text("#state", "Not open yet");
    let mut waits = |change: &str| -> Vec<f64> {
        let script = format!(
            "(() => {{ const real = setTimeout, waits = []; window.setTimeout = (_, ms) => {{ waits.push(ms); return 0; }}; \
             const kept = flag; flag = {{...flag, ...{change}}}; for (let i = 0; i < 50; i++) plan(); \
             flag = kept; window.setTimeout = real; return waits; }})()"
        );
        let waits = browser.eval(&script);
        waits.as_array().expect("waits").iter().filter_map(Value::as_f64).collect()
    };
    let usual = waits("{poll_ms: 2000, jitter_ms: 1000}");
    assert!(usual.iter().all(|ms| (2000.0..3000.0).contains(ms)), "{usual:?}");
    assert!(usual.iter().any(|ms| (ms - usual[0]).abs() > 50.0), "no jitter: {usual:?}");
    assert_eq!(waits("{poll_ms: null, jitter_ms: 0}"), [0.0; 0], "final: it stops");
    let near = waits("{poll_ms: 20000, jitter_ms: 10000, opens_at_ms: now() + 5000}");
    assert!(near.iter().all(|ms| *ms > 6000.0), "nobody asks at T0: {near:?}");
}

#[test]
fn it_is_honest_about_an_order_of_which_nobody_knows() {
    let shop = shop_with(|settings| settings.drop_permille = 1_000);
    let node = node(&shop, sale("2020-01-01T00:00:00Z", 2));
    let mut browser = Browser::start();
    open(&node, &mut browser);
    browser.wait_text("#state", "Paused");
    assert_eq!(browser.eval("document.querySelector('#buy').disabled"), true);
    node.place.good(&["sale", "resume", "drop"]);
    buy(&mut browser, "Your order is being processed");
    browser.wait_text("#said", "with the same number");
    everywhere(&mut browser, "pending");
    let claim = || -> Option<String> {
        let told = node.place.good(&["limbo", "list", "drop", "--json"]);
        let told: Value = serde_json::from_str(&told).expect("JSON");
        Some(told["limbo"][0]["claim"].as_str()?.to_owned())
    };
    until("the claim is in limbo", || claim().is_some());
    let claim = claim().expect("a claim");
    node.place.good(&["limbo", "resolve", "drop", &claim, "--as", "confirmed"]);
    browser.wait_text("#said", "Your ticket is booked");
    assert_eq!(shop.stats().posts, 1, "however often the page asked");
}

#[test]
fn it_works_without_a_gate() {
    let shop = shop_with(|settings| {
        settings.stock = [("default".to_owned(), 1)].into();
    });
    let mut browser = Browser::start();
    browser.open(&format!("http://{}/activity/8848", shop.address()));
    buy(&mut browser, "Your ticket is booked");
    browser.click("#change");
    buy(&mut browser, "Sold out");
    assert_eq!(shop.stats().orders, 1);
}
