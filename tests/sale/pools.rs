//! Several pools, quantities, limits in orders and units.

use crate::rig::{Plan, Stage, order, reason, until};

fn stage() -> Stage {
    let mut shop = crate::rig::boundless();
    shop.stock = [("1001".to_owned(), 3), ("1002".to_owned(), 2)].into();
    shop.pool_at = "/skuId".to_owned();
    shop.units_at = "/num".to_owned();
    Stage::set(Plan {
        pools: Some(
            "per_user = { orders = 2, units = 3 }\npool.1001 = { stock = 3 }\npool.1002 = { stock = 2 }"
                .to_owned(),
        ),
        activity: "order = { body = \"json\", pool = \"/skuId\", quantity = \"/num\" }".to_owned(),
        shop,
        ..Plan::default()
    })
}

#[test]
fn a_claim_is_all_or_nothing_for_its_units() {
    let stage = stage();
    let edge = stage.opened();
    let buy = |user: &str, key: &str, body: &str| {
        let answer = order(edge.at, user, key, body).expect("an answer");
        (answer.status, reason(&answer).to_owned(), answer.body)
    };
    let is = |said: &(u16, String, String), status: u16, reason: &str| {
        assert_eq!((said.0, said.1.as_str()), (status, reason), "{}", said.2);
    };
    is(&buy("ann", "a", r#"{"skuId":"1001","num":2}"#), 201, "admitted");
    let short = buy("bob", "b", r#"{"skuId":"1001","num":2}"#);
    is(&short, 409, "insufficient");
    assert!(short.2.contains("\"max_units\":1"), "{}", short.2);
    is(&buy("ann", "a", r#"{"skuId":"1001","num":1}"#), 422, "key_reused");
    let limit = buy("ann", "c", r#"{"skuId":"1002","num":2}"#);
    is(&limit, 409, "limit");
    is(&buy("bob", "d", r#"{"skuId":"1001","num":1}"#), 201, "admitted");
    until("one pool is sold", || edge.availability()["pools"]["1001"] == "sold_out");
    assert_eq!(edge.availability()["state"], "available");
    is(&buy("eve", "e", r#"{"skuId":"1001","num":1}"#), 409, "sold_out");
    is(&buy("eve", "f", r#"{"skuId":"9","num":1}"#), 404, "unknown_item");
    for odd in ["0", "-1", "1000000000", "\"two\"", "1.5", "null"] {
        let said = buy("eve", "g", &format!(r#"{{"skuId":"1002","num":{odd}}}"#));
        is(&said, 400, "bad_request");
    }
    is(&buy("eve", "h", r#"{"skuId":"1002","num":2}"#), 201, "admitted");
    until("all are sold", || edge.availability()["state"] == "sold_out");
    assert_eq!(stage.shop.stats().units, 5);
    assert_eq!(edge.audit(&stage.orders_csv()), Vec::<String>::new());
}
