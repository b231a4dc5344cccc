use super::*;
use crate::sale::PoolState;

fn rules(toml: &str) -> OrderRules {
    OrderRules::new(Some(&toml::from_str(toml).expect("settings"))).expect("valid")
}

fn sale(pools: &[&str]) -> SaleState {
    let name = |text: &str| Name::new(text).expect("name");
    SaleState {
        pools: pools.iter().map(|pool| PoolState::new(name(pool), 10)).collect(),
        ..SaleState::new("shop/drop".parse().expect("id"), name("8848"))
    }
}

fn read<'a>(
    rules: &OrderRules,
    pools: &[&str],
    source: Source<'a>,
    key: Single<'a>,
) -> Result<Order, BadOrder> {
    rules.read(&sale(pools), source, |_| key)
}

/// Pool and units of a JSON order, or the reason it is refused for.
fn json(rules: &OrderRules, pools: &[&str], body: &str) -> Result<(usize, u32), Reason> {
    let source = Source {
        content_type: Some(b"application/json; charset=utf-8"),
        body: body.as_bytes(),
        ..Source::default()
    };
    read(rules, pools, source, Single::Absent).map(|o| (o.pool, o.units)).map_err(|e| e.reason)
}

#[test]
fn one_rule_for_each_quantity() {
    let rules = rules("quantity = '/num'\nquantity_max = 10");
    for (num, expected) in [
        (r#"{"num":1}"#, Some(1)),
        (r#"{"num":10}"#, Some(10)),
        (r#"{"num":"2"}"#, Some(2)),
        (r#"{"num":0}"#, None),
        (r#"{"num":-1}"#, None),
        (r#"{"num":11}"#, None),
        (r#"{"num":1e9}"#, None),
        (r#"{"num":1000000000}"#, None),
        (r#"{"num":18446744073709551617}"#, None),
        (r#"{"num":4294967297}"#, None),
        (r#"{"num":1.0}"#, None),
        (r#"{"num":1e0}"#, None),
        (r#"{"num":"1.0"}"#, None),
        (r#"{"num":"02"}"#, None),
        (r#"{"num":"+2"}"#, None),
        (r#"{"num":" 2"}"#, None),
        (r#"{"num":""}"#, None),
        (r#"{"num":null}"#, None),
        (r#"{"num":true}"#, None),
        (r#"{"num":[1]}"#, None),
        (r#"{"num":{"num":1}}"#, None),
        (r#"{}"#, None),
        (r#"{"num":1,"num":1}"#, None),
        (r#"{"num":1,"Num":5}"#, None),
        (r#"{"NUM":5}"#, None),
        ("[]", None),
        ("", None),
        (r#"{"num":1"#, None),
        (r#"{"num":1}{"num":5}"#, None),
    ] {
        let units = json(&rules, &["default"], num).map(|(_, units)| units);
        assert_eq!(units, expected.ok_or(Reason::BadRequest), "{num}");
    }
    let told = read(
        &rules,
        &["default"],
        Source { body: br#"{"num":99}"#, ..Source::default() },
        Single::Absent,
    );
    assert_eq!(told.expect_err("refused").detail, "/num must be 1 to 10");
}

#[test]
fn a_pool_is_named_where_there_are_several() {
    let rules = rules("pool = '/sku'");
    let two = ["1001", "1002"];
    for (pools, body, expected) in [
        (&two[..], r#"{"sku":"1002"}"#, Ok(1)),
        (&two[..], r#"{"sku":1002}"#, Ok(1)),
        (&two[..], r#"{"sku":"1003"}"#, Err(Reason::UnknownItem)),
        (&two[..], r#"{"sku":"a/b"}"#, Err(Reason::UnknownItem)),
        (&two[..], r#"{"sku":"default"}"#, Err(Reason::UnknownItem)),
        (&two[..], r#"{"sku":1002.0}"#, Err(Reason::BadRequest)),
        (&two[..], r#"{}"#, Err(Reason::BadRequest)),
        (&two[..], r#"{"sku":""}"#, Err(Reason::BadRequest)),
        (&two[..], r#"{"sku":"1001","sku":"1002"}"#, Err(Reason::BadRequest)),
        (&["1001"][..], r#"{}"#, Ok(0)),
        (&["1001"][..], r#"{"sku":"1002"}"#, Err(Reason::UnknownItem)),
        (&["default"][..], r#"{"sku":"anything"}"#, Ok(0)),
    ] {
        assert_eq!(json(&rules, pools, body).map(|(pool, _)| pool), expected, "{body}");
    }
    let unset = super::tests::rules("");
    assert_eq!(json(&unset, &two, "{}"), Err(Reason::BadRequest));
    assert_eq!(json(&unset, &["1001"], "not JSON at all"), Ok((0, 1)));
}

#[test]
fn a_form_says_a_field_once() {
    let rules = rules("body = 'form'\npool = 'sku'\nquantity = 'num'");
    let form = "Application/X-WWW-Form-Urlencoded;charset=UTF-8";
    for (kind, query, body, expected) in [
        (form, None, "sku=1002&num=2", Ok((1, 2))),
        (form, None, "sku=%31002&num=%32&note=a+b%", Ok((1, 2))),
        (form, Some("ref=1"), "sku=1002&num=2", Ok((1, 2))),
        (form, Some("num=5"), "sku=1002&num=2", Err(Reason::BadRequest)),
        (form, Some("%6eum=5"), "sku=1002&num=2", Err(Reason::BadRequest)),
        (form, None, "sku=1002&num=2&num=2", Err(Reason::BadRequest)),
        (form, None, "sku=1002&num=2&nu%6d=5", Err(Reason::BadRequest)),
        (form, None, "sku=1002&num=2&NUM=5", Err(Reason::BadRequest)),
        (form, None, "sku=1002&x=1;num=5&num=1", Err(Reason::BadRequest)),
        (form, None, "sku=1002&num=1.0", Err(Reason::BadRequest)),
        (form, None, "sku=1002&num=", Err(Reason::BadRequest)),
        (form, None, "sku=1002", Err(Reason::BadRequest)),
        (form, None, "num=1", Err(Reason::BadRequest)),
        (form, None, "sku=7&num=1", Err(Reason::UnknownItem)),
        ("application/json", None, "sku=1002&num=2", Err(Reason::BadRequest)),
        ("multipart/form-data; boundary=x", None, "sku=1002&num=2", Err(Reason::BadRequest)),
    ] {
        let source = Source { content_type: Some(kind.as_bytes()), query, body: body.as_bytes() };
        let order = read(&rules, &["1001", "1002"], source, Single::Absent);
        assert_eq!(order.map(|o| (o.pool, o.units)).map_err(|e| e.reason), expected, "{body}");
    }
}

#[test]
fn a_query_is_not_contradicted_by_a_form() {
    let rules = rules("body = 'query'\nquantity = 'num'");
    assert!(!rules.is_in_body(false) && rules.is_in_body(true));
    for (kind, query, body, expected) in [
        (None, Some("num=3"), "", Ok(3)),
        (None, Some("num=3&num=4"), "", Err(Reason::BadRequest)),
        (None, None, "", Err(Reason::BadRequest)),
        (Some(FORM), Some("num=3"), "x=1", Ok(3)),
        (Some(FORM), Some("num=3"), "num=5", Err(Reason::BadRequest)),
        (Some("multipart/form-data"), Some("num=3"), "", Err(Reason::BadRequest)),
        (Some("application/json"), Some("num=3"), r#"{"num":5}"#, Ok(3)),
    ] {
        let source = Source { content_type: kind.map(str::as_bytes), query, body: body.as_bytes() };
        let order = read(&rules, &["default"], source, Single::Absent);
        assert_eq!(order.map(|o| o.units).map_err(|e| e.reason), expected, "{query:?} {body}");
    }
}

#[test]
fn the_first_key_that_is_there_counts() {
    let both = rules("key = ['header:X-Key', '/requestId']");
    let key = |header: Single<'static>, body: &'static str| {
        let source = Source { body: body.as_bytes(), ..Source::default() };
        read(&both, &["default"], source, header).map(|o| o.key).map_err(|e| e.reason)
    };
    let text = |key: &str| Ok(Some(key.as_bytes().to_vec()));
    assert_eq!(key(Single::One(b"h"), r#"{"requestId":"b"}"#), text("h"));
    assert_eq!(key(Single::Absent, r#"{"requestId":"b"}"#), text("b"));
    assert_eq!(key(Single::Absent, r#"{"requestId":17}"#), text("17"));
    assert_eq!(key(Single::Absent, r#"{"requestId":""}"#), Ok(None));
    assert_eq!(key(Single::Several, r#"{"requestId":"b"}"#), Err(Reason::BadRequest));
    assert_eq!(key(Single::One(&[b'k'; 257]), "{}"), Err(Reason::BadRequest));
    let header_only = OrderRules::new(None).expect("valid");
    assert!(!header_only.is_in_body(true));
}

#[test]
fn a_mistake_names_its_setting() {
    for (toml, named) in [
        ("pool = 'skuId'", "pool: `skuId` is not a JSON pointer like /skuId"),
        ("body = 'form'\nquantity = ''", "quantity: the name of a field is missing"),
        ("key = ['header:a b']", "key: `header:a b`"),
        ("key = ['requestId']", "key: `requestId`"),
    ] {
        let settings = toml::from_str::<schema::Order>(toml).expect("settings");
        let error = OrderRules::new(Some(&settings)).expect_err("invalid");
        assert!(error.contains(named), "{error}");
    }
}
