//! The way of an admitted purchase to the shop and back.

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use penstock::ledger::RecordKind;
use penstock::metrics::Counter;
use penstock::outcome::Verdict;
use tokio::io::AsyncWriteExt;

use crate::rig::{Lines, open, purchase};
use crate::shop::{Reply, answer, made};

#[test]
fn the_shop_gets_a_head_of_our_own_and_the_client_the_shops_answer() {
    let key = tempfile::NamedTempFile::new().expect("file");
    std::fs::write(key.path(), "pass secret\n").expect("written");
    let gate = format!("pass_key_file = '{}'", key.path().display());
    let lines = Lines { gate: gate.leak(), ..Lines::default() };
    open(lines, |node| async move {
        let shop_says = "HTTP/1.1 201 Created\r\nX-Shop: yes\r\nPenstock-Reason: forged\r\n\
            Penstock-Outcome: confirmed\r\nConnection: x-hop\r\nX-Hop: 1\r\n\
            Content-Length: 13\r\n\r\n{\"order\":\"7\"}";
        node.shop.next([Reply::Bytes(shop_says.to_owned())]);
        let fields = "X-Mine: 1\r\nAccept-Encoding: gzip\r\nPenstock-Admission: forged\r\n\
            X-Forwarded-For: 6.6.6.6\r\nX-HTTP-Method-Override: DELETE\r\nTE: trailers\r\n";
        let told = node.buy("u1", fields, "{\"sku\":1}").await;
        assert_eq!((told.status, told.reason()), (201, "admitted"), "{told:?}");
        assert_eq!(told.body, "{\"order\":\"7\"}");
        assert_eq!(told.field("x-shop"), Some("yes"));
        assert!(told.field("penstock-time").is_some() && told.field("penstock-request").is_some());
        assert_eq!(told.field("penstock-outcome").or(told.field("x-hop")), None);

        let received = node.shop.received();
        let [got] = received.as_slice() else { panic!("{received:?}") };
        assert!(got.head.starts_with("POST /activity/8848/orders?from=a%20b HTTP/1.1\r\n"));
        assert_eq!(got.body, "{\"sku\":1}");
        for (name, value) in [
            ("host", "shop.example"),
            ("content-length", "9"),
            ("x-mine", "1"),
            ("cookie", "uid=u1"),
            ("accept-encoding", "identity"),
            ("x-forwarded-for", "127.0.0.1"),
            ("x-forwarded-proto", "http"),
        ] {
            assert_eq!(got.field(name), [value], "{name}");
        }
        for name in ["te", "x-http-method-override"] {
            assert_eq!(got.field(name), [""; 0], "{name}");
        }
        let reports = node.reports.borrow().clone();
        let [report] = reports.as_slice() else { panic!("{reports:?}") };
        assert_eq!(got.field("idempotency-key"), [report.claim.to_string()]);
        assert_eq!((report.verdict, report.status), (Verdict::Confirmed, Some(201)));
        let pass = got.field("penstock-admission");
        let (payload, tag) = pass[0].strip_prefix("v1 ").unwrap().split_once('.').unwrap();
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"pass secret");
        let tag = URL_SAFE_NO_PAD.decode(tag).unwrap();
        hmac::verify(&key, payload.as_bytes(), &tag).expect("a valid pass");
        let payload = String::from_utf8(URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap();
        assert!(payload.contains(&format!("\"claim\":\"{}\"", report.claim)), "{payload}");
        node.until_records(&[RecordKind::Confirmed]).await;
    });
}

#[test]
fn a_key_of_the_clients_goes_to_the_shop() {
    open(Lines::default(), |node| async move {
        node.buy("u1", "Idempotency-Key: mine\r\n", "").await;
        let received = node.shop.received();
        assert_eq!(received[0].field("idempotency-key"), ["mine"]);
        assert_eq!(received[0].field("content-length"), ["0"]);
    });
}

#[test]
fn the_shop_sees_one_host() {
    open(Lines::default(), |node| async move {
        let to = |host: &str| purchase("u1", "", "").replace("shop.example", host);
        assert_eq!(node.send(&to("evil.example")).await.status, 421);
        assert_eq!(node.send(&to("WWW.shop.example:80")).await.status, 201);
        let received = node.shop.received();
        let hosts: Vec<_> = received.iter().flat_map(|got| got.field("host")).collect();
        assert_eq!(hosts, ["shop.example"]);
    });
}

#[test]
fn a_client_that_leaves_changes_nothing() {
    open(Lines::default(), |node| async move {
        node.shop.next([Reply::Held(made("S7"))]);
        let mut client = node.connect().await;
        let request = purchase("u1", "Idempotency-Key: k\r\n", "{}");
        client.write_all(request.as_bytes()).await.expect("sent");
        node.until("the shop gets it", |node| node.shop.received().len() == 1).await;
        drop(client);
        assert_eq!(node.purchases.len(), 1, "a drain waits for it");
        node.shop.release();
        node.until_records(&[RecordKind::Confirmed]).await;
        node.until("the report", |node| node.reports.borrow().len() == 1).await;
        let again = node.buy("u1", "Idempotency-Key: k\r\n", "{}").await;
        assert_eq!((again.status, again.reason()), (201, "replayed"));
        assert_eq!(again.body, "{\"order\":\"S7\"}");
        assert_eq!(node.shop.received().len(), 1);
    });
}

#[test]
fn who_finds_no_place_at_the_shop_claims_nothing() {
    let upstream = "outcome = 'status'\npurchases_max = 1\npurchase_queue_max = 0";
    let lines = Lines { upstream, sale: "stock = 5", ..Lines::default() };
    open(lines, |node| async move {
        node.shop.next([Reply::Held(made("S1"))]);
        let first = node.buy("u1", "", "");
        let second = async {
            node.until("the shop gets it", |node| node.shop.received().len() == 1).await;
            let told = node.buy("u2", "", "").await;
            node.shop.release();
            told
        };
        let (first, second) = tokio::join!(first, second);
        assert_eq!((first.status, second.status, second.reason()), (201, 503, "busy"));
        assert!(second.field("retry-after").is_some());
        assert_eq!(node.counted(Counter::Claims), 1);
    });
}

#[test]
fn rules_read_the_body_and_tell_of_what_they_do_not_know() {
    let upstream = "outcome = { read = 'json', at = '/code', confirmed = [0], sold_out = [1001], \
        order_id = '/order' }";
    let lines = Lines { upstream, sale: "stock = 5", ..Lines::default() };
    open(lines, |node| async move {
        node.shop.next([
            Reply::Bytes(answer("200 OK", "{\"code\":0,\"order\":\"A-7\"}")),
            Reply::Bytes(answer("200 OK", "{\"code\":1001}")),
            Reply::Bytes(answer("200 OK", "{\"code\":1007}")),
        ]);
        for (user, body) in [
            ("u1", "{\"code\":0,\"order\":\"A-7\"}"),
            ("u2", "{\"code\":1001}"),
            ("u3", "{\"code\":1007}"),
        ] {
            let told = node.buy(user, "", "").await;
            assert_eq!((told.status, told.body.as_str()), (200, body));
        }
        let reports = node.reports.borrow().clone();
        let read = |i: usize| (reports[i].verdict, reports[i].code.as_deref());
        assert_eq!(read(0), (Verdict::Confirmed, Some("0")));
        assert_eq!(reports[0].order.as_deref(), Some("A-7"));
        assert_eq!(read(1), (Verdict::Failed, Some("1001")));
        assert_eq!(read(2), (Verdict::Unknown, Some("1007")));
        assert_eq!(node.counted(Counter::OutcomeUnclassified), 1);
        assert_eq!(node.counted(Counter::SoldOutEvidence), 1);
    });
}
