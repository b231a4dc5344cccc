//! The same decisions in other forms: envelopes, pages, other origins.

use crate::rig::{Lines, closed, open, purchase};

#[test]
fn an_envelope_is_200_and_a_browser_gets_a_page() {
    let root = "limits.user = 'off'\nanswers.style = 'envelope'\nanswers.language = 'zh'\n\
        answers.envelope = '{\"code\":{code},\"msg\":{msg},\"data\":{data},\"traceId\":{request_id}}'";
    closed(Lines { root, ..Lines::default() }, |node| async move {
        let told = node.buy("u1", "", "").await;
        assert_eq!((told.status, told.reason()), (200, "not_started"));
        let json = told.json();
        assert_eq!((&json["code"], &json["msg"]), (&10301.into(), &"活动尚未开始".into()));
        assert_eq!(json["traceId"].as_str(), told.field("penstock-request"));
        let page = node.buy("u1", "Sec-Fetch-Mode: navigate\r\n", "").await;
        assert_eq!((page.status, page.reason()), (403, "not_started"));
        assert_eq!(page.field("content-type"), Some("text/html; charset=utf-8"));
        assert!(page.body.contains("活动尚未开始"));
    });
}

#[test]
fn another_origin_may_buy_where_it_is_listed() {
    let activity = "cors_origins = ['https://m.shop.example']";
    open(Lines { activity, sale: "stock = 2", ..Lines::default() }, |node| async move {
        let origin = "Origin: https://m.shop.example\r\n";
        let preflight = purchase("", origin, "").replacen("POST", "OPTIONS", 1);
        let told = node.send(&preflight).await;
        assert_eq!(told.status, 204, "{told:?}");
        let allowed =
            |told: &crate::rig::Told| told.field("access-control-allow-origin").map(str::to_owned);
        assert_eq!(allowed(&told).as_deref(), Some("https://m.shop.example"));
        assert_eq!(told.field("access-control-max-age"), Some("7200"));
        let refused = node.buy("", origin, "").await;
        assert_eq!(refused.reason(), "login_required");
        assert_eq!(allowed(&refused).as_deref(), Some("https://m.shop.example"));
        assert!(refused.field("vary").is_some_and(|vary| vary.contains("Origin")));
        let bought = node.buy("u1", origin, "").await;
        assert_eq!(bought.reason(), "admitted");
        assert_eq!(allowed(&bought).as_deref(), Some("https://m.shop.example"));
        assert_eq!(bought.field("vary"), Some("Origin"));
        let stranger = node.buy("u2", "Origin: https://evil.example\r\n", "").await;
        assert_eq!((stranger.reason(), allowed(&stranger)), ("admitted", None));
    });
    open(Lines::default(), |node| async move {
        let options = purchase("", "", "").replacen("POST", "OPTIONS", 1);
        let told = node.send(&options).await;
        assert_eq!((told.status, told.reason()), (405, "method"));
        assert!(told.field("allow").is_some_and(|allow| !allow.contains("OPTIONS")));
    });
}
