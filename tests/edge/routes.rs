//! Rows of the attack table that need a live edge (S20, S27, S28, S29, S35), and the edge's own paths.

use super::client::{Client, get, purchase, request, until};
use super::node::{Config, Place, quick_shop, sale};

#[test]
fn own_paths_are_answered_for_every_host_and_never_forwarded() {
    let shop = quick_shop();
    let node = Place::new(shop.address(), &Config::default()).start();
    for host in ["shop.example", "other.example", "10.0.0.1:9"] {
        let mut client = node.client();
        let own = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        for path in ["/_penstock/health", "/health"] {
            let health = client.ask(own(path));
            assert_eq!((health.status, health.body.as_str()), (200, "ok\n"), "{host} {path}");
        }
        let time = client.ask(own("/_penstock/time"));
        assert_eq!((time.status, time.field("cache-control")), (204, Some("no-store")));
        assert!(time.field("penstock-time").unwrap().parse::<u64>().unwrap() > 1_700_000_000_000);
        for path in ["/_penstock/", "/_penstock/admin", "/_penstock/health/x"] {
            let nothing = client.ask(own(path));
            assert_eq!((nothing.status, nothing.reason()), (404, "not_found"), "{path}");
        }
    }
    let mut client = node.client();
    assert_eq!(client.ask(request("HEAD", "/_penstock/health")).status, 200);
    let post = client.ask(request("POST", "/_penstock/health"));
    assert_eq!((post.status, post.field("allow")), (405, Some("GET, HEAD, OPTIONS")));
    assert_eq!(client.ask("OPTIONS * HTTP/1.1\r\nHost: shop.example\r\n\r\n").status, 204);
    assert_eq!(shop.stats().pages + shop.stats().orders, 0);
}

#[test]
fn unknown_hosts_go_nowhere() {
    let shop = quick_shop();
    let node = Place::new(shop.address(), &Config::default()).start();
    let mut client = node.client();
    for host in ["evil.example", "shop.example.evil", "127.0.0.1"] {
        let answer = client.ask(format!("GET /activity/8848 HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!((answer.status, answer.reason()), (421, "unknown_host"), "{host}");
    }
    // S29: without a Host nobody in particular is meant.
    let answer = node.client().ask("GET /activity/8848 HTTP/1.0\r\n\r\n");
    assert_eq!(answer.status, 421);
    for host in ["SHOP.example", "www.shop.example", "shop.example:8443"] {
        let answer = client.ask(format!("GET /activity/8848 HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!(answer.status, 200, "{host}");
    }
    // All of them are the canonical host to cache and shop: one page was rendered.
    assert_eq!(shop.stats().pages, 1);
}

#[test]
fn a_site_for_any_host_serves_those_without_one_uncached() {
    let shop = quick_shop();
    let config = Config { site: String::new(), ..Config::default() };
    let node = Place::new(shop.address(), &config).start();
    for _ in 0..2 {
        assert_eq!(node.client().ask("GET /activity/8848 HTTP/1.0\r\n\r\n").status, 200);
    }
    assert_eq!(shop.stats().pages, 2);
    for _ in 0..2 {
        assert_eq!(node.client().ask(get("/activity/8848")).status, 200);
    }
    assert_eq!(shop.stats().pages, 3);
}

#[test]
fn s20_a_read_with_a_body_is_refused_and_nothing_in_it_is_a_request() {
    let shop = quick_shop();
    let node = Place::new(shop.address(), &Config::default()).start();
    assert_eq!(node.client().ask(get("/activity/8848")).status, 200);
    let inner = purchase("mallory");
    for path in ["/activity/8848", "/activity/8848/availability", "/activity/8848/orders"] {
        let mut client = node.client();
        client.send(format!(
            "GET {path} HTTP/1.1\r\nHost: shop.example\r\nContent-Length: {}\r\n\r\n{inner}{}",
            inner.len(),
            get("/activity/8848"),
        ));
        let answer = client.answer().unwrap();
        assert_eq!((answer.status, answer.reason()), (400, "bad_request"), "{path}");
        assert!(answer.closes() && client.is_closed(), "{path}");
        // The next client gets the right page.
        assert_eq!(node.client().ask(get("/activity/8848")).status, 200);
    }
    assert_eq!(shop.stats().orders, 0, "the inner purchase was executed");
    // Elsewhere a body is the shop's to judge.
    let elsewhere = "GET /cart HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 2\r\n\r\nxx";
    assert_ne!(node.client().ask(elsewhere).reason(), "bad_request");
    assert_eq!(node.metric("penstock_malformed_total"), 3.0);
}

#[test]
fn s27_odd_paths_are_never_redirected_and_never_a_purchase() {
    let shop = quick_shop();
    let node = Place::new(shop.address(), &Config::default()).start();
    let mut client = node.client();
    let body = "Cookie: uid=u\r\nContent-Length: 2\r\n\r\n{}";
    for path in [
        "//activity/8848/orders",
        "/activity/8848/orders/",
        "/activity//8848/orders",
        "/activity/8848/./orders",
        "/x/../activity/8848/orders",
        "/activity/8848/%6frders",
        "/activity/8848/%256frders",
        "/activity/8848/orders;x=1",
        "/ACTIVITY/8848/Orders",
        "/activity/8848%2forders",
    ] {
        for method in ["POST", "PUT", "DELETE", "FOO"] {
            let head = format!("{method} {path} HTTP/1.1\r\nHost: shop.example\r\n");
            let answer = client.ask(format!("{head}{body}"));
            assert_eq!((answer.status, answer.reason()), (404, "alias"), "{method} {path}");
        }
    }
    assert_eq!(shop.stats().orders, 0);
    for path in ["//evil.example/x", "/\\evil.example", "/x#y"] {
        let answer = node.client().ask(get(path));
        assert!(answer.status >= 400 && answer.field("location").is_none(), "{path}");
    }
}

#[test]
fn s35_each_route_of_a_sale_knows_its_methods() {
    let shop = quick_shop();
    let node = Place::new(shop.address(), &Config::default()).start();
    let mut client = node.client();
    for (method, path, allow) in [
        ("PUT", "/activity/8848/orders", "GET, HEAD, POST, OPTIONS"),
        ("DELETE", "/activity/8848/orders", "GET, HEAD, POST, OPTIONS"),
        ("post", "/activity/8848/orders", "GET, HEAD, POST, OPTIONS"),
        ("FOO", "/activity/8848/orders", "GET, HEAD, POST, OPTIONS"),
        ("POST", "/activity/8848/availability", "GET, HEAD, OPTIONS"),
        ("PATCH", "/activity/8848/availability", "GET, HEAD, OPTIONS"),
    ] {
        let answer = client.ask(request(method, path));
        assert_eq!((answer.status, answer.reason()), (405, "method"), "{method} {path}");
        assert_eq!(answer.field("allow"), Some(allow), "{method} {path}");
    }
    for method in ["TRACE", "CONNECT"] {
        assert_eq!(node.client().ask(request(method, "/activity/8848")).status, 405, "{method}");
    }
    assert_eq!(shop.stats().orders, 0);
}

#[test]
fn activities_without_a_sale_are_refused_or_proxied() {
    let shop = quick_shop();
    let node = Place::new(shop.address(), &Config::default()).start();
    let mut client = node.client();
    let other = purchase("u").replace("8848", "77");
    for bytes in [get("/activity/77/availability"), other.clone()] {
        let answer = client.ask(bytes);
        assert_eq!((answer.status, answer.reason()), (404, "unknown_activity"));
    }
    let config = Config { activity: "unlisted = \"proxy\"\n".to_owned(), ..Config::default() };
    let node = Place::new(shop.address(), &config).start();
    assert_ne!(node.client().ask(other).reason(), "unknown_activity");
}

#[test]
fn the_path_of_purchases_is_one_service_for_every_method() {
    let (shop, orders) = (quick_shop(), quick_shop());
    let server = orders.address();
    let config = Config {
        more: format!("[upstream.orders]\nservers = [\"{server}\"]\noutcome = \"status\"\n"),
        activity: "unlisted = \"proxy\"\npurchase_upstream = \"orders\"\n".to_owned(),
        ..Config::default()
    };
    let node = Place::new(shop.address(), &config).start();
    let mut client = node.client();
    client.ask(get("/activity/8848/orders"));
    client.ask(purchase("u").replace("8848", "77"));
    client.ask(get("/activity/77/availability"));
    client.ask(get("/cart"));
    let (shop, orders) = (shop.stats(), orders.stats());
    assert_eq!((orders.others, orders.posts), (1, 1));
    assert_eq!((shop.others, shop.posts), (2, 0));
}

#[test]
fn until_the_ledger_was_heard_nothing_is_unknown() {
    let shop = quick_shop();
    // Nobody listens there.
    let config = Config {
        more: "[store]\nkind = \"redis\"\nurl = \"redis://127.0.0.1:1\"\n".to_owned(),
        ..Config::default()
    };
    let node = Place::new(shop.address(), &config).start();
    let mut client = node.client();
    for bytes in
        [get("/activity/8848/availability"), purchase("u"), get("/activity/77/availability")]
    {
        let answer = client.ask(bytes);
        assert_eq!((answer.status, answer.reason()), (503, "unavailable"));
    }
    assert_eq!(client.ask(get("/activity/8848")).status, 200, "pages are served");
    assert_eq!(client.ask(get("/health")).status, 200, "a balancer keeps the node");
    let said = node.place.verb(&["ctl", "ready"]);
    assert_eq!(said.status.code(), Some(1));
    let said = String::from_utf8(said.stdout).unwrap();
    assert!(said.contains("mirror") && said.contains("store"), "{said}");
}

#[test]
fn a_sale_goes_its_way() {
    let shop = quick_shop();
    let config = Config { sale: sale("2030-01-01T00:00:00Z", 2), ..Config::default() };
    let node = Place::new(shop.address(), &config).start();
    let mut client = node.client();
    let flag = |client: &mut Client| client.ask(get("/activity/8848/availability")).json();
    assert_eq!(flag(&mut client)["state"], "not_started");
    assert_eq!(client.ask(purchase("early")).reason(), "not_started");
    drop(node);

    let node = Place::new(shop.address(), &Config::default()).start();
    let mut client = node.client();
    // Its opens_at is past and the ledger did not know it.
    assert_eq!(client.ask(purchase("a")).reason(), "paused");
    node.place.good(&["sale", "resume", "drop"]);
    for user in ["a", "b", "c", "d", "e"] {
        let answer = client.ask(purchase(user));
        assert_eq!(answer.status, 201, "{user}: {answer:?}");
    }
    // Held until its outcome is in the ledger.
    until("the last one is sold", || client.ask(purchase("f")).reason() == "sold_out");
    assert_eq!(flag(&mut client)["state"], "sold_out");
    assert_eq!(shop.stats().orders, 5);
}
