use super::*;
use crate::http::limits::Limits;
use crate::http::reader::read_head;

const SITE: &str = r#"
    [shop]
    hosts = ["Shop.example", "www.shop.example"]
    upstream = "shop"
    [shop.activity]
    page = "/activity/{activity}"
    availability = "/activity/{activity}/availability"
    purchase = "/activity/{activity}/orders"
    city = ["query:city", "cookie:city_id", "header:x-city"]
"#;

fn router(toml: &str) -> Router {
    try_router(toml).expect("valid")
}

fn try_router(toml: &str) -> Result<Router, BadRoute> {
    Router::new(&toml::from_str(toml).expect("toml"))
}

/// What `line` (a method and a target) with `fields` is, as text.
fn found(router: &Router, line: &str, fields: &str) -> String {
    let bytes = format!("{line} HTTP/1.1\r\nHost: shop.example\r\n{fields}\r\n");
    ask(router, &bytes, |found| match found {
        None => "unknown host".to_owned(),
        Some(Found::Refused(_, refusal)) => format!("{refusal:?}"),
        Some(found) => format!("{found:?}"),
    })
}

fn ask<T>(router: &Router, bytes: &str, say: impl FnOnce(Option<Found<'_>>) -> T) -> T {
    let mut storage = Vec::new();
    let request = read_head(bytes.as_bytes(), &Limits::default(), &mut storage);
    let request = request.expect("valid").expect("complete");
    say(router.site(&request.head).map(|site| site.find(&request.head)))
}

#[test]
fn methods_decide_on_the_routes_of_a_sale() {
    let router = router(SITE);
    let page = r#"Page { activity: "8848", city: None }"#;
    let flag = r#"Availability { activity: "8848" }"#;
    let elsewhere = "Proxied(Proxy)";
    for (line, expected) in [
        ("GET /activity/8848", page),
        ("HEAD /activity/8848", page),
        ("POST /activity/8848", elsewhere),
        ("PUT /activity/8848", elsewhere),
        ("FOO /activity/8848", elsewhere),
        ("GET /activity/8848/availability", flag),
        ("HEAD /activity/8848/availability", flag),
        ("OPTIONS /activity/8848/availability", flag),
        ("POST /activity/8848/orders", r#"Purchase { activity: "8848" }"#),
        ("GET /activity/8848/orders", "Proxied(Purchase)"),
        ("HEAD /activity/8848/orders", "Proxied(Purchase)"),
        ("OPTIONS /activity/8848/orders", "Preflight"),
        ("GET /", elsewhere),
        ("DELETE /cart", elsewhere),
        ("GET /activity/8848/", elsewhere),
        ("GET //activity/8848", elsewhere),
        ("GET /activity/88%34", elsewhere),
    ] {
        assert_eq!(found(&router, line, ""), expected, "{line}");
    }
    for line in ["POST /activity/1/availability", "get /activity/1/availability"] {
        assert!(found(&router, line, "").contains("GET, HEAD, OPTIONS"), "{line}");
    }
    for line in ["PUT /activity/1/orders", "DELETE /activity/1/orders", "FOO /activity/1/orders"] {
        assert!(found(&router, line, "").contains("GET, HEAD, POST, OPTIONS"), "{line}");
    }
}

#[test]
fn what_is_read_has_no_body_on_a_route_of_a_sale() {
    let router = router(SITE);
    let body = "Content-Length: 5\r\n";
    for line in [
        "GET /activity/1",
        "HEAD /activity/1",
        "GET /activity/1/availability",
        "OPTIONS /activity/1/availability",
        "GET /activity/1/orders",
        "OPTIONS /activity/1/orders",
    ] {
        assert!(found(&router, line, body).contains("closes: true"), "{line}");
        assert!(!found(&router, line, "Content-Length: 0\r\n").contains("closes"), "{line}");
    }
    assert_eq!(found(&router, "GET /cart", body), "Proxied(Proxy)");
    assert!(found(&router, "POST /activity/1/orders", body).starts_with("Purchase"));
}

#[test]
fn the_first_valid_city_counts() {
    let router = router(SITE);
    for (target, fields, city) in [
        ("/activity/1", "", None),
        ("/activity/1?city=sh", "", Some("sh")),
        ("/activity/1?x=1&city=sh&y=2", "Cookie: city_id=bj\r\n", Some("sh")),
        ("/activity/1", "Cookie: a=b; city_id=bj\r\n", Some("bj")),
        ("/activity/1", "X-City: gz\r\n", Some("gz")),
        ("/activity/1?city=s%68", "", None),
        ("/activity/1?city=s%68", "Cookie: city_id=bj\r\n", Some("bj")),
        ("/activity/1?city=", "", None),
        ("/activity/1?city", "", None),
        ("/activity/1?CITY=sh", "", None),
        ("/activity/1?city%3dsh", "", None),
    ] {
        let expected = format!(r#"Page {{ activity: "1", city: {city:?} }}"#);
        assert_eq!(found(&router, &format!("GET {target}"), fields), expected, "{target} {fields}");
    }
    let twice = found(&router, "GET /activity/1?city=sh&city=bj", "");
    assert!(twice.contains("twice"), "{twice}");
}

#[test]
fn a_list_of_cities_bounds_them() {
    let router = router(&SITE.replace("city = [", "cities = [\"sh\", \"bj\"]\ncity = ["));
    let page = |city: &str| format!(r#"Page {{ activity: "1", city: {city} }}"#);
    assert_eq!(found(&router, "GET /activity/1?city=sh", ""), page(r#"Some("sh")"#));
    assert_eq!(found(&router, "GET /activity/1?city=xx", ""), page("None"));
}

#[test]
fn a_city_may_stand_in_the_path() {
    let toml = r#"
        [shop.activity]
        page = "/{city}/show/{activity}.html"
        city = ["path"]
    "#;
    let expected = r#"Page { activity: "8848", city: Some("sh") }"#;
    assert_eq!(found(&router(toml), "GET /sh/show/8848.html", ""), expected);
}

#[test]
fn hosts_choose_the_site() {
    let two = "[a]\nhosts = [\"a.example\", \"b.example:8080\"]\n[b]\n";
    let router = router(two);
    let site = |host: &str| {
        let bytes = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let mut storage = Vec::new();
        let request = read_head(bytes.as_bytes(), &Limits::default(), &mut storage);
        let request = request.expect("valid").expect("complete");
        router.site(&request.head).map(|site| site.name.to_string())
    };
    for (host, name) in [
        ("a.example", "a"),
        ("A.EXAMPLE:80", "a"),
        ("a.example:8443", "a"),
        ("b.example:8080", "a"),
        ("b.example", "b"),
        ("[::1]:8080", "b"),
    ] {
        assert_eq!(site(host).as_deref(), Some(name), "{host}");
    }
    let listed = super::Router::new(&toml::from_str(SITE).expect("toml")).expect("valid");
    let other = "GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n";
    assert!(ask(&listed, other, |found| found.is_none()));
}

#[test]
fn without_a_host_only_a_site_for_any_host_is_meant() {
    let old = "GET /activity/1 HTTP/1.0\r\n\r\n";
    assert!(ask(&router(SITE), old, |found| found.is_none()));
    let any = router("[shop.activity]\npage = \"/activity/{activity}\"\n");
    assert!(ask(&any, old, |found| found == Some(Found::Proxied(Route::Proxy))));
}

#[test]
fn a_purchase_in_disguise_is_not_proxied() {
    let router = router(SITE);
    for line in ["POST /activity/1/Orders", "PUT /activity/1/orders/", "POST /ACTIVITY/1/orders"] {
        assert!(found(&router, line, "").contains("Alias"), "{line}");
    }
    assert_eq!(found(&router, "GET /activity/1/Orders", ""), "Proxied(Proxy)");
    assert_eq!(found(&router, "POST /activity/1/other", ""), "Proxied(Proxy)");
}

#[test]
fn what_cannot_be_routed_is_named() {
    for (toml, part) in [
        ("[a]\nhosts = [\"a/b\"]\n", "site.a.hosts: `a/b`"),
        ("[a]\nhosts = [\"x.y\"]\n[b]\nhosts = [\"X.Y\"]\n", "site.b.hosts: `x.y` is listed twice"),
        ("[a]\n[b]\n", "site.b.hosts: only one site"),
        ("[a.activity]\npage = \"/x\"\n", "site.a.activity.page: "),
        ("[a.activity]\ncity = [\"ip\"]\n", "site.a.activity.city: \"ip\""),
    ] {
        let error = try_router(toml).expect_err(toml).to_string();
        assert!(error.starts_with(part), "{error}");
    }
}
