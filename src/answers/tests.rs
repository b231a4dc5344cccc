use serde_json::{Value, json};

use super::*;
use crate::answer::tests::agree;
use crate::clock::Now;
use crate::http::Limits;
use crate::http::Peer;
use crate::http::reader::read_head;
use crate::ident::RequestId;
use crate::outcome::Advice;

fn settings(toml: &str) -> schema::Answers {
    toml::from_str(toml).expect("settings")
}

fn answers(toml: &str) -> Answers {
    Answers::new(&settings(toml)).expect("valid")
}

fn refused(toml: &str) -> String {
    Answers::new(&settings(toml)).expect_err("invalid")
}

fn form(answers: &Answers, fields: &str) -> Form {
    let bytes = format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    let mut storage = Vec::new();
    let request = read_head(bytes.as_bytes(), &Limits::default(), &mut storage);
    answers.form(&request.expect("valid").expect("complete").head)
}

fn exchange() -> Exchange {
    let now =
        Now { wall: UnixMs(784_111_777_000), ledger: UnixMs(1_796_126_400_871), ..Now::default() };
    let id = RequestId([0x9f, 0x2c, 0x41, 0xd0, 0, 1, 2, 3]);
    Exchange { now, id, peer: Peer::Unix, is_tls: false, terms: None, note: Default::default() }
}

/// The answer as a client sees it, with the row's centre as the wait.
fn said(
    answers: &Answers,
    form: Form,
    reason: Reason,
    facts: &Facts<'_>,
) -> http::Response<String> {
    let mut ready = answers.ready(answers.make(form, reason, facts), reason, &exchange());
    ready.fill.retry_after_ms = reason.row().retry_after_ms;
    let response = agree::response(&ready.answer, &ready.fill);
    response.map(|body| String::from_utf8(body.to_vec()).expect("UTF-8"))
}

fn body(answers: &Answers, reason: Reason, facts: &Facts<'_>) -> Value {
    serde_json::from_str(said(answers, Form(0), reason, facts).body()).expect("JSON")
}

#[test]
fn a_problem_says_what_the_contract_shows() {
    let answers = answers("");
    let id = "9f2c41d000010203";
    let sold_out = Facts { is_final: Some(true), pool: Some("1001"), ..Facts::default() };
    let fits_one = Facts { max_units: Some(1), pool: Some("1001"), ..Facts::default() };
    let t0 = Facts { opens_at: Some(UnixMs(1_796_126_400_000)), ..Facts::default() };
    let detail = Facts { detail: Some("/num must be 1 to 10"), ..Facts::default() };
    let none = Facts::default();
    for (reason, facts, expected) in [
        (
            Reason::Pending,
            &none,
            json!({"type":"urn:penstock:pending","title":"Your order is being processed","status":202,"reason":"pending","retryable":true,"retry_after_ms":2000,"request_id":id}),
        ),
        (
            Reason::NotStarted,
            &t0,
            json!({"type":"urn:penstock:not_started","title":"The sale has not started","status":403,"reason":"not_started","retryable":true,"retry_after_ms":1000,"opens_at_ms":1_796_126_400_000_u64,"request_id":id}),
        ),
        (
            Reason::LoginRequired,
            &none,
            json!({"type":"urn:penstock:login_required","title":"Please log in","status":401,"reason":"login_required","retryable":false,"request_id":id}),
        ),
        (
            Reason::SoldOut,
            &sold_out,
            json!({"type":"urn:penstock:sold_out","title":"Sold out","status":409,"reason":"sold_out","retryable":false,"final":true,"pool":"1001","request_id":id}),
        ),
        (
            Reason::Insufficient,
            &fits_one,
            json!({"type":"urn:penstock:insufficient","title":"Fewer units are left than you asked for","status":409,"reason":"insufficient","retryable":true,"max_units":1,"pool":"1001","request_id":id}),
        ),
        (
            Reason::BadRequest,
            &detail,
            json!({"type":"urn:penstock:bad_request","title":"The request was not understood","status":400,"reason":"bad_request","retryable":false,"detail":"/num must be 1 to 10","request_id":id}),
        ),
        (
            Reason::TooEarly,
            &none,
            json!({"type":"urn:penstock:too_early","title":"Send again after the handshake","status":425,"reason":"too_early","retryable":true,"retry_after_ms":0,"request_id":id}),
        ),
        (
            Reason::Busy,
            &none,
            json!({"type":"urn:penstock:busy","title":"All units are being checked out","status":503,"reason":"busy","retryable":true,"retry_after_ms":2400,"request_id":id}),
        ),
    ] {
        let told = body(&answers, reason, facts);
        assert_eq!(told, expected);
        let order = |v: &Value| v.as_object().expect("object").keys().cloned().collect::<Vec<_>>();
        assert_eq!(order(&told), order(&expected));
    }
    let may_return = Facts { is_final: Some(false), ..Facts::default() };
    let told = said(&answers, Form(0), Reason::SoldOut, &may_return);
    assert!(told.body().contains("\"retryable\":true,\"retry_after_ms\":60000"), "{told:?}");
    assert_eq!(told.headers()["retry-after"], "60");
}

#[test]
fn every_reason_in_every_form_is_whole() {
    let answers = answers(
        "[[variant]]\nwhen = { header = 'X-Client', prefix = 'app/2.' }\nstyle = 'envelope'\n",
    );
    for row in REASONS {
        for form in answers.forms() {
            let told = said(&answers, form, row.reason, &Facts::default());
            let headers = told.headers();
            assert_eq!(headers["cache-control"], "no-store");
            assert_eq!(headers["penstock-reason"], row.label);
            assert_eq!(headers["penstock-time"], "1796126400871");
            assert_eq!(headers["penstock-request"], "9f2c41d000010203");
            assert_eq!(headers["vary"], "Accept, Sec-Fetch-Mode, x-client");
            let waits = row.advice == Advice::Later && row.retry_after_ms > 0;
            assert_eq!(headers.contains_key("retry-after"), waits, "{}", row.label);
            let status = if form == Form(1) { 200 } else { row.status };
            assert_eq!(told.status(), status, "{} {form:?}", row.label);
            let challenged = headers.contains_key("www-authenticate");
            assert_eq!(challenged, status == 401, "{} {form:?}", row.label);
            assert_eq!(headers.contains_key("allow"), row.reason == Reason::Method);
            if form == HTML {
                assert!(told.body().len() <= 14 * 1024 && told.body().contains(row.title));
                assert!(told.body().contains("9f2c41d000010203"));
                let again = row.advice == Advice::Later;
                assert_eq!(told.body().contains("<noscript>"), again, "{}", row.label);
            } else {
                serde_json::from_str::<Value>(told.body()).expect("JSON");
            }
            let plain = answers.plain(form, row.reason);
            assert_eq!(plain.status().as_u16(), status);
            assert_eq!(plain.body_len(), told.body().len());
            agree::response(&plain, &Fill::default());
        }
    }
}

/// Both writers, for every reason in every form with every fact.
#[test]
fn every_reason_in_every_form_is_written_alike() {
    let answers = answers(
        r#"
        language = "zh"
        envelope = '{"code":{code},"msg":{msg},"data":{data},"traceId":{request_id}}'
        [[variant]]
        when = { header = "X-Client", prefix = "app/" }
        style = "envelope"
        [[variant]]
        when = { header = "X-Client", prefix = "web/" }
        style = "problem"
        "#,
    );
    let all = Facts {
        detail: Some("</p> /num must be \"1\" to 10, 最多 10"),
        is_final: Some(false),
        pool: Some("1001"),
        max_units: Some(1),
        opens_at: Some(UnixMs(1_796_126_400_000)),
        order: Some("no. 7"),
        allow: Some("GET"),
        allow_origin: Some("https://m.shop.example"),
    };
    let last = Facts { is_final: Some(true), allow_origin: Some("*"), ..Facts::default() };
    for row in REASONS {
        for form in answers.forms() {
            for facts in [&Facts::default(), &all, &last] {
                let told = said(&answers, form, row.reason, facts);
                assert_eq!(told.headers()["penstock-reason"], row.label);
            }
        }
    }
}

#[test]
fn an_envelope_is_the_shops_own() {
    let answers = answers(
        r#"
        style = "envelope"
        language = "zh"
        envelope = '{"code":{code},"msg":{msg},"data":{data},"traceId":{request_id}}'
        [sold_out]
        code = 1001
        msg = "抢\"光\"了"
        "#,
    );
    let facts = Facts { is_final: Some(true), pool: Some("1001"), ..Facts::default() };
    assert_eq!(
        said(&answers, Form(0), Reason::SoldOut, &facts).body(),
        r#"{"code":1001,"msg":"抢\"光\"了","data":{"reason":"sold_out","retryable":false,"final":true,"pool":"1001"},"traceId":"9f2c41d000010203"}"#
    );
    let told = said(&answers, Form(0), Reason::LoginRequired, &Facts::default());
    assert_eq!(told.status(), 200);
    assert_eq!(
        told.body(),
        r#"{"code":10401,"msg":"请先登录","data":{"reason":"login_required","retryable":false},"traceId":"9f2c41d000010203"}"#
    );
    let busy = body(&answers, Reason::Busy, &Facts::default());
    assert_eq!(busy["data"]["retry_after_ms"], 2400);
    let default = super::tests::answers("style = 'envelope'");
    let ended = body(&default, Reason::Ended, &Facts::default());
    let expected = json!({"code":10910,"msg":"The sale has ended","data":{"reason":"ended","retryable":false}});
    assert_eq!(ended, expected);
}

#[test]
fn a_double_brace_is_a_literal_one() {
    let answers = answers(
        r#"
        style = "envelope"
        status = 203
        envelope = '{"a":"{{code}","b":{},"c":{"d":{code}},"e":{"f" :{msg}}}'
    "#,
    );
    let told = said(&answers, Form(0), Reason::Ended, &Facts::default());
    assert_eq!(told.status(), 203);
    assert_eq!(
        told.body(),
        r#"{"a":"{code}","b":{},"c":{"d":10910},"e":{"f" :"The sale has ended"}}"#
    );
}

#[test]
fn a_mistake_names_its_setting() {
    for (toml, named) in [
        ("envelope = '{\"code\":{kode}}'", "answers.envelope: `{kode}` stands for nothing"),
        ("envelope = '{\"code\":\"{request_id}\"}'", "answers.envelope: what it renders to is not"),
        ("envelope = '{\"code\":{code}'", "answers.envelope: what it renders to is not JSON"),
        ("status = 204", "answers.status: 204 has no body"),
        ("[soldout]\ncode = 1", "answers.soldout: no such reason"),
        ("[busy]\nstatus = 600", "answers.busy.status: 600 is not"),
        ("html_dir = '/nonexistent'", "answers.html_dir: `/nonexistent` is not a directory"),
        ("type_base = 'a b'", "answers.type_base"),
        ("[[variant]]\nwhen = { header = 'a b', prefix = '' }\nstyle = 'problem'", "variant[0]"),
    ] {
        let error = refused(toml);
        assert!(error.contains(named), "{error}");
    }
    let many = "[[variant]]\nwhen = { header = 'x', prefix = '' }\nstyle = 'problem'\n".repeat(5);
    assert!(refused(&many).contains("at most 4"));
}

#[test]
fn a_form_is_chosen_by_what_the_client_sends() {
    let answers = answers(
        "[[variant]]\nwhen = { header = 'X-Client', prefix = 'app/2.' }\nstyle = 'envelope'\n\
         [[variant]]\nwhen = { header = 'X-Client', prefix = 'app/' }\nstyle = 'problem'\n",
    );
    for (fields, expected) in [
        ("", Form(0)),
        ("Accept: */*\r\n", Form(0)),
        ("Accept: application/json, text/plain\r\n", Form(0)),
        ("Accept: text/*\r\n", Form(0)),
        ("Accept: text/html;q=0\r\n", Form(0)),
        ("Accept: text/html ;q=0.000, */*\r\n", Form(0)),
        ("Accept: text/html;q=0.1\r\n", HTML),
        ("Accept: text/html,application/xhtml+xml,*/*;q=0.8\r\n", HTML),
        ("Accept: application/json\r\nAccept: Text/HTML\r\n", HTML),
        ("Sec-Fetch-Mode: navigate\r\n", HTML),
        ("Sec-Fetch-Mode: cors\r\n", Form(0)),
        ("X-Client: app/2.1\r\n", Form(1)),
        ("X-Client: app/3\r\n", Form(2)),
        ("X-Client: web\r\n", Form(0)),
    ] {
        assert_eq!(form(&answers, fields), expected, "{fields}");
    }
}

#[test]
fn a_cdn_gets_no_503_and_an_own_status_wins() {
    let answers = answers("behind_cdn = true\n[unavailable]\nstatus = 500\n");
    let status = |reason| said(&answers, Form(0), reason, &Facts::default()).status().as_u16();
    assert_eq!(status(Reason::Busy), 429);
    assert_eq!(status(Reason::Overloaded), 429);
    assert_eq!(status(Reason::Unavailable), 500);
    assert_eq!(status(Reason::BadGateway), 502);
    assert_eq!(body(&answers, Reason::Busy, &Facts::default())["status"], 429);
}

#[test]
fn texts_cannot_break_out_of_a_page() {
    let answers = answers("[busy]\nmsg = '<b>&\"'\n");
    let facts = Facts { detail: Some("<script>alert('x')</script>"), ..Facts::default() };
    let told = said(&answers, HTML, Reason::Busy, &facts);
    assert_eq!(told.headers()["content-type"], "text/html; charset=utf-8");
    assert!(told.body().contains("<h1>&lt;b&gt;&amp;&quot;</h1>"), "{told:?}");
    assert!(!told.body().contains("<script>alert"));
    let wait = told.body().split("about ").nth(1).expect("a wait");
    assert!(wait.starts_with("3          s."), "{wait}");
}

#[test]
fn own_pages_are_served_and_bounded() {
    let dir = tempfile::tempdir().expect("directory");
    std::fs::write(dir.path().join("sold_out.html"), "<h1>gone</h1>").expect("written");
    let toml = format!("html_dir = '{}'", dir.path().display());
    let told = said(&answers(&toml), HTML, Reason::SoldOut, &Facts::default());
    assert_eq!(told.body(), "<h1>gone</h1>");
    let other = said(&answers(&toml), HTML, Reason::Busy, &Facts::default());
    assert!(other.body().contains("All units are being checked out"));
    std::fs::write(dir.path().join("busy.html"), vec![b' '; 15 * 1024]).expect("written");
    assert!(refused(&toml).contains("busy.html has 15360 bytes"));
}

#[test]
fn another_origin_may_read_what_it_needs() {
    let answers = answers("");
    let facts = |origin| Facts { allow_origin: Some(origin), ..Facts::default() };
    let named = said(&answers, Form(0), Reason::Busy, &facts("https://m.shop.example"));
    assert_eq!(named.headers()["access-control-allow-origin"], "https://m.shop.example");
    assert_eq!(named.headers()["access-control-allow-credentials"], "true");
    assert_eq!(named.headers()["access-control-expose-headers"], EXPOSE);
    assert_eq!(named.headers()["vary"], "Accept, Sec-Fetch-Mode, Origin");
    let any = said(&answers, Form(0), Reason::Busy, &facts("*"));
    assert!(!any.headers().contains_key("access-control-allow-credentials"));
    let own = Facts { allow: Some("GET, HEAD"), ..Facts::default() };
    assert_eq!(said(&answers, Form(0), Reason::Method, &own).headers()["allow"], "GET, HEAD");
}

#[test]
fn waits_spread_around_their_centre() {
    let mut waits: Vec<_> = (0..800).map(|_| jittered(1000)).collect();
    assert!(waits.iter().all(|w| (700..=1300).contains(w)));
    assert_eq!(waits.iter().sum::<u32>() / 800, 1000);
    waits.sort_unstable();
    waits.dedup();
    assert_eq!(waits.len(), 8);
    assert_eq!(jittered(0), 0);
}
