use http::HeaderValue;
use proptest::prelude::*;

use super::*;

fn rules(toml: &str) -> Rules {
    Rules::new(&parsed(toml)).expect("valid")
}

fn parsed(toml: &str) -> schema::Outcome {
    #[derive(serde::Deserialize)]
    struct Holder {
        outcome: schema::Outcome,
    }
    toml::from_str::<Holder>(&format!("[outcome]\n{toml}")).expect("settings").outcome
}

const JSON: &str = "read = 'json'\nat = '/code'\nconfirmed = [0, 'OK']\nfailed = [1002, 'E1']\n\
    sold_out = [1001]\nalready = [1005]\npending = [202]\norder_id = '/data/orderNo'";

fn headers(fields: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        let name: HeaderName = name.parse().expect("name");
        headers.append(name, HeaderValue::from_str(value).expect("value"));
    }
    headers
}

fn read_as(rules: &Rules, status: u16, fields: &[(&str, &str)], body: &str) -> (char, By) {
    let reading = classify(rules, status, &headers(fields), body.as_bytes());
    (reading.verdict.letter(), reading.by)
}

#[test]
fn the_status_table() {
    let rules = Rules::by_status();
    for status in 100..=599_u16 {
        let expected = match status {
            200 | 201 | 204 => ('C', By::Table),
            202 => ('P', By::Table),
            400 | 401 | 402 | 403 | 404 | 405 | 409 | 410 | 413 | 415 | 422 | 429 => {
                ('F', By::Table)
            }
            302 | 303 => ('X', By::Nothing(Unread::Redirect)),
            500..=599 => ('X', By::Table),
            _ => ('X', By::Nothing(Unread::Status)),
        };
        let reading = classify(&rules, status, &headers(&[("location", "/login")]), b"<html>");
        assert_eq!((reading.verdict.letter(), reading.by), expected, "{status}");
        assert_eq!(reading.is_sold_out(status), status == 410, "{status}");
    }
}

#[test]
fn each_body_has_a_stated_class() {
    let rules = rules(JSON);
    use Unread::*;
    for (status, body, expected) in [
        (200, r#"{"code":0}"#, ('C', By::Listed(List::Confirmed))),
        (200, r#"{"code":"OK"}"#, ('C', By::Listed(List::Confirmed))),
        (500, r#"{"code":0}"#, ('C', By::Listed(List::Confirmed))),
        (200, r#"{"code":1002}"#, ('F', By::Listed(List::Failed))),
        (200, r#"{"code":1001}"#, ('F', By::Listed(List::SoldOut))),
        (200, r#"{"code":1005}"#, ('F', By::Listed(List::Already))),
        (200, r#"{"code":202}"#, ('P', By::Listed(List::Pending))),
        (200, r#"{"code":"0"}"#, ('X', By::Nothing(Unlisted))),
        (200, r#"{"code":"1002"}"#, ('X', By::Nothing(Unlisted))),
        (200, r#"{"code":1007}"#, ('X', By::Nothing(Unlisted))),
        (200, r#"{"code":0.0}"#, ('X', By::Nothing(NotACode))),
        (200, r#"{"code":99999999999999999999}"#, ('X', By::Nothing(NotACode))),
        (200, r#"{"code":true}"#, ('X', By::Nothing(NotACode))),
        (200, r#"{"code":null}"#, ('X', By::Nothing(NotACode))),
        (200, r#"{"kode":0}"#, ('X', By::Nothing(NoValue))),
        (200, "[0]", ('X', By::Nothing(NoValue))),
        (200, "0", ('X', By::Nothing(NoValue))),
        (200, "", ('X', By::Nothing(Empty))),
        (204, "  \r\n", ('X', By::Nothing(Empty))),
        (200, " <!doctype html><h1>WAF</h1>", ('X', By::Nothing(Html))),
        (200, r#"{"code":0"#, ('X', By::Nothing(Truncated))),
        (200, r#"{"code":0}{"code":0}"#, ('X', By::Nothing(NotJson))),
        (200, "code=0", ('X', By::Nothing(NotJson))),
        (400, r#"{"code":1007}"#, ('X', By::Nothing(Unlisted))),
        (200, "\u{feff}{\"code\":0}", ('C', By::Listed(List::Confirmed))),
    ] {
        assert_eq!(read_as(&rules, status, &[], body), expected, "{body}");
    }
    let deep = "[".repeat(100_000);
    assert_eq!(read_as(&rules, 200, &[], &deep), ('X', By::Nothing(NotJson)));
    let gzip = [("content-encoding", "gzip")];
    assert_eq!(read_as(&rules, 200, &gzip, r#"{"code":0}"#), ('X', By::Nothing(Encoded)));
}

#[test]
fn otherwise_takes_the_table_for_what_is_not_2xx() {
    let rules = rules(&format!("{JSON}\notherwise = 'status'\nredirect_confirmed = ['/orders/']"));
    for (status, location, body, expected) in [
        (200, "", "<html>", ('X', By::Nothing(Unread::Html))),
        (202, "", "", ('X', By::Nothing(Unread::Empty))),
        (409, "", "", ('F', By::Table)),
        (500, "", r#"{"code":1007}"#, ('X', By::Table)),
        (418, "", "", ('X', By::Nothing(Unread::Status))),
        (409, "", r#"{"code":0}"#, ('C', By::Listed(List::Confirmed))),
        (302, "/orders/7", "", ('C', By::Redirect)),
        (303, "/orders/7", "", ('C', By::Redirect)),
        (301, "/orders/7", "", ('X', By::Nothing(Unread::Status))),
        (302, "/login?next=/orders/7", "", ('X', By::Nothing(Unread::Redirect))),
        (303, "/orders/7", r#"{"code":1002}"#, ('F', By::Listed(List::Failed))),
    ] {
        assert_eq!(
            read_as(&rules, status, &[("location", location)], body),
            expected,
            "{status} {location} {body}"
        );
    }
}

#[test]
fn a_named_redirect_counts_without_otherwise() {
    let rules = rules(&format!("{JSON}\nredirect_confirmed = ['/orders/']"));
    let to = |location| read_as(&rules, 303, &[("location", location)], "");
    assert_eq!(to("/orders/7"), ('C', By::Redirect));
    assert_eq!(to("/login"), ('X', By::Nothing(Unread::Empty)));
}

#[test]
fn the_shops_own_word_comes_first() {
    let rules = rules(JSON);
    for (words, expected) in [
        (&["confirmed"][..], ('C', By::Shop(List::Confirmed))),
        (&["failed"][..], ('F', By::Shop(List::Failed))),
        (&["sold_out"][..], ('F', By::Shop(List::SoldOut))),
        (&["duplicate"][..], ('F', By::Shop(List::Already))),
        (&["pending"][..], ('P', By::Shop(List::Pending))),
        (&["ok"][..], ('X', By::Nothing(Unread::Word))),
        (&[""][..], ('X', By::Nothing(Unread::Word))),
        (&["failed", "failed"][..], ('X', By::Nothing(Unread::Word))),
    ] {
        let fields: Vec<_> = words.iter().map(|word| (PENSTOCK_OUTCOME, *word)).collect();
        assert_eq!(read_as(&rules, 200, &fields, r#"{"code":0}"#), expected, "{words:?}");
    }
}

#[test]
fn a_header_or_the_status_can_be_the_source() {
    let by_header = rules("read = 'header'\nat = 'X-Code'\nconfirmed = [0]\nfailed = ['no']");
    let said = |values: &[&str]| {
        let fields: Vec<_> = values.iter().map(|value| ("x-code", *value)).collect();
        read_as(&by_header, 200, &fields, "")
    };
    assert_eq!(said(&["0"]), ('C', By::Listed(List::Confirmed)));
    assert_eq!(said(&["no"]), ('F', By::Listed(List::Failed)));
    assert_eq!(said(&["00"]), ('X', By::Nothing(Unread::Unlisted)));
    assert_eq!(said(&[]), ('X', By::Nothing(Unread::NoHeader)));
    assert_eq!(said(&["0", "0"]), ('X', By::Nothing(Unread::NoHeader)));
    let by_status = rules("read = 'status'\nconfirmed = [200]\nfailed = [500]");
    assert_eq!(read_as(&by_status, 200, &[], ""), ('C', By::Listed(List::Confirmed)));
    assert_eq!(read_as(&by_status, 500, &[], ""), ('F', By::Listed(List::Failed)));
    assert_eq!(read_as(&by_status, 409, &[], ""), ('X', By::Nothing(Unread::Unlisted)));
}

#[test]
fn code_and_order_are_kept_for_the_journal() {
    let rules = rules(JSON);
    let read = |body: &str| classify(&rules, 200, &HeaderMap::new(), body.as_bytes());
    let won = read(r#"{"code":0,"data":{"orderNo":"A-7"}}"#);
    assert_eq!((won.code.as_deref(), won.order.as_deref()), (Some("0"), Some("A-7")));
    let number = read(r#"{"code":0,"data":{"orderNo":9007199254740993}}"#);
    assert_eq!(number.order.as_deref(), Some("9007199254740993"));
    let lost = read(r#"{"code":1007,"data":{"orderNo":""}}"#);
    assert_eq!((lost.code.as_deref(), lost.order), (Some("1007"), None));
    let long = read(&format!(r#"{{"code":"{}"}}"#, "\u{4e2d}".repeat(500)));
    assert_eq!(long.code.map(|code| code.chars().count()), Some(128));
}

#[test]
fn a_mistake_names_its_setting() {
    for (toml, named) in [
        ("read = 'json'", "at: the JSON pointer"),
        ("read = 'json'\nat = 'code'", "at: `code` is not a JSON pointer like /code"),
        ("read = 'header'", "at: the name of the header"),
        ("read = 'header'\nat = 'a b'", "at: `a b`"),
        ("read = 'status'\nat = '/x'", "leave `at` out"),
        ("read = 'status'\nconfirmed = [1]\npending = [1]", "in both `confirmed` and `pending`"),
        ("read = 'status'\norder_id = 'id'", "order_id: `id`"),
        ("read = 'status'\nredirect_confirmed = ['']", "redirect_confirmed"),
    ] {
        let error = Rules::new(&parsed(toml)).expect_err("invalid");
        assert!(error.contains(named), "{error}");
    }
    // 0 and "0" are different codes.
    rules("read = 'json'\nat = '/code'\nconfirmed = [0]\nfailed = ['0']");
}

proptest! {
    /// Whatever the shop sends, it has a verdict, and nothing unclassified is anything but unknown.
    #[test]
    fn any_answer_is_read(
        status in 100_u16..1000,
        word in prop::option::of("[ -~]{0,12}"),
        location in "[ -~]{0,12}",
        body in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..200),
            "\\{\"code\":[0-9\"a-z.]{0,5}\\}?".prop_map(String::into_bytes),
        ],
        table in any::<bool>(),
    ) {
        let rules = if table { Rules::by_status() } else { rules(JSON) };
        let mut fields = vec![("location", location.as_str())];
        fields.extend(word.as_deref().map(|word| (PENSTOCK_OUTCOME, word)));
        let reading = classify(&rules, status, &headers(&fields), &body);
        if reading.unread().is_some() {
            prop_assert_eq!(reading.verdict, Verdict::Unknown);
        }
    }
}
