//! One validated head, whether by HTTP/1.1 or HTTP/2: what is refused, what is rejoined, what is
//! answered.

use penstock::metrics::Counter;
use penstock::outcome::CloseReason;
use tokio::time::Instant;

use super::client::*;
use super::rig::{BIG, run, settle};

/// What is asked, the status of the answer, the fields.
type Row<'a> = (&'a str, u16, Vec<(&'a str, &'a str)>);

async fn status(client: &mut Client, stream: u32, fields: &[(&str, &str)]) -> u16 {
    client.send(frame(HEADERS, ES | EH, stream, &block(fields))).await;
    client.response(stream).await.status
}

#[test]
fn heads_that_http1_would_refuse_are_refused() {
    let long = "x".repeat(4_097);
    let [method, scheme, authority, path] = GET;
    let rows: Vec<Row<'_>> = vec![
        (
            "authority and host differ",
            400,
            vec![method, scheme, authority, path, ("host", "other")],
        ),
        ("two hosts", 400, vec![method, scheme, path, ("host", "a"), ("host", "a")]),
        ("no host at all", 400, vec![method, scheme, path]),
        ("a bad host", 400, vec![method, scheme, path, ("host", "a/b")]),
        (
            "the same host twice",
            200,
            vec![method, scheme, authority, path, ("host", "SHOP.example:443")],
        ),
        ("host alone", 200, vec![method, scheme, path, ("host", "shop.example")]),
        ("another scheme", 400, vec![method, (":scheme", "gopher"), authority, path]),
        ("a target that is no path", 400, vec![method, scheme, authority, (":path", "*")]),
        ("the server itself", 200, vec![(":method", "OPTIONS"), scheme, authority, (":path", "*")]),
        ("TRACE", 405, vec![(":method", "TRACE"), scheme, authority, path]),
        (
            "a long method",
            501,
            vec![(":method", "ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFG"), scheme, authority, path],
        ),
        (
            "an unknown expectation",
            417,
            vec![(":method", "POST"), scheme, authority, path, ("expect", "200-ok")],
        ),
    ];
    run(async |rig| {
        let mut client = rig.greeted().await;
        let mut stream = 1;
        for (name, expected, fields) in rows {
            assert_eq!(status(&mut client, stream, &fields).await, expected, "{name}");
            stream += 2;
        }
        let target = format!("/{long}");
        let fields = [method, scheme, authority, (":path", &target)];
        assert_eq!(status(&mut client, stream, &fields).await, 414);
        assert!(rig.counted(Counter::Malformed) >= 9, "{}", rig.counted(Counter::Malformed));
        assert_eq!(client.close().await, CloseReason::ClientClosed);
    });
}

#[test]
fn fields_are_counted_one_by_one() {
    run(async |rig| {
        let mut client = rig.greeted().await;
        let fields = |n| [&GET[..], &vec![("cookie", "a=b"); n]].concat();
        assert_eq!(status(&mut client, 1, &fields(64)).await, 200);
        assert_eq!(status(&mut client, 3, &fields(65)).await, 431);
        // 8 KiB with 32 bytes for each field: more is refused before it is a head.
        let long = "x".repeat(8_000);
        let fields = [&GET[..], &[("cookie", &*long)]].concat();
        assert_eq!(status(&mut client, 5, &fields).await, 431);
        assert_eq!(rig.told.asked.get(), 1);
    });
}

#[test]
fn crumbs_are_one_cookie() {
    run(async |rig| {
        let mut client = rig.greeted().await;
        let fields = [&GET[..], &[("cookie", "a=1"), ("x", "y"), ("cookie", "b=2; c=3")]].concat();
        client.send(frame(HEADERS, ES | EH, 1, &block(&fields))).await;
        let told = client.response(1).await;
        assert_eq!(told.text(), "GET shop.example / None [\"a=1; b=2; c=3\"]");
    });
}

#[test]
fn bodies_are_read_or_left() {
    run(async |rig| {
        let mut client = rig.greeted().await;
        client.send(frame(HEADERS, EH, 1, &block(&POST))).await;
        client.send(frame(DATA, 0, 1, &[7; 1000])).await;
        client.send(frame(DATA, ES, 1, &[7; 234])).await;
        assert_eq!(client.response(1).await.text(), "1234");
        // An answer that does not wait for the body.
        let mut fields = POST;
        fields[3].1 = "/";
        client.send(frame(HEADERS, EH, 3, &block(&fields))).await;
        assert_eq!(client.response(3).await.text(), "POST shop.example / None []");
        client.send(get(5, "/a?b=c")).await;
        assert_eq!(client.response(5).await.text(), "GET shop.example /a Some(\"b=c\") []");
    });
}

/// Clients in use take a reset for a failure, even one that says that there was none.
#[test]
fn an_early_answer_ends_after_the_request_did() {
    run(async |rig| {
        let mut client = rig.greeted().await;
        for (stream, path, answer) in [(1, "/", "POST shop.example / None []"), (3, "/panic", "")] {
            let mut fields = POST;
            fields[3].1 = path;
            client.send(frame(HEADERS, EH, stream, &block(&fields))).await;
            let head = client.next().await.expect("a head");
            assert!(head.kind == HEADERS && !head.ends(), "{head:?}");
            let body = client.next().await.expect("a body");
            assert!(body.kind == DATA && !body.ends(), "{body:?}");
            assert!(answer.is_empty() || body.content == answer.as_bytes());
            // It is told before the request is whole.
            settle().await;
            assert_eq!(rig.told.done.borrow().len(), stream as usize / 2 + 1);
            client.send(frame(DATA, ES, stream, b"{}")).await;
            let end = loop {
                let came = client.next().await.expect("the end");
                if came.stream == stream && came.kind != WINDOW_UPDATE {
                    break came;
                }
            };
            assert!(end.kind == DATA && end.ends(), "{end:?}");
        }
        client.send(get(5, "/a")).await;
        assert_eq!(client.response(5).await.status, 200);
    });
}

#[test]
fn an_early_answer_waits_no_longer_than_it_must() {
    run(async |rig| {
        let mut client = rig.greeted().await;
        let mut fields = POST;
        fields[3].1 = "/";
        let ended = async |client: &mut Client, stream: u32| loop {
            let came = client.next().await.expect("the end");
            if came.stream == stream && (came.ends() || came.kind == RST_STREAM) {
                break came.kind;
            }
        };
        // The rest never comes.
        let begun = Instant::now();
        client.send(frame(HEADERS, EH, 1, &block(&fields))).await;
        assert_eq!(ended(&mut client, 1).await, DATA);
        assert_eq!(begun.elapsed().as_millis() / 10, 25);
        // The rest is not awaited: the client waits for a 100, or has far too much.
        for (stream, more) in [(3, ("expect", "100-continue")), (5, ("content-length", "65537"))] {
            let begun = Instant::now();
            let fields = [&fields[..], &[more]].concat();
            client.send(frame(HEADERS, EH, stream, &block(&fields))).await;
            assert_eq!(ended(&mut client, stream).await, DATA);
            assert_eq!(begun.elapsed().as_millis(), 0);
        }
    });
}

#[test]
fn head_has_no_body_and_says_its_length() {
    run(async |rig| {
        let mut client = rig.greeted().await;
        let mut fields = GET;
        fields[0].1 = "HEAD";
        client.send(frame(HEADERS, ES | EH, 1, &block(&fields))).await;
        let head = client.next().await.expect("a head");
        assert!(head.ends() && head.status() == 200, "{head:?}");
    });
}

#[test]
fn large_answers_share_one_body() {
    run(async |rig| {
        let mut client = rig.greeted().await;
        let streams: Vec<u32> = (0..10).map(|n| 1 + 2 * n).collect();
        for stream in &streams {
            client.send(get(*stream, "/big")).await;
        }
        let responses = client.responses(&streams).await;
        assert!(responses.values().all(|response| response.body.len() == BIG));
        let done = rig.told.done.borrow();
        assert_eq!(done.len(), 10);
        assert!(done.iter().all(|done| done.complete && done.bytes == BIG as u64));
    });
}

#[test]
fn a_panic_costs_one_request() {
    run(async |rig| {
        let mut client = rig.greeted().await;
        client.send([get(1, "/panic"), get(3, "/")].concat()).await;
        let responses = client.responses(&[1, 3]).await;
        assert_eq!((responses[&1].status, responses[&3].status), (500, 200));
        assert_eq!(rig.counted(Counter::Panics), 1);
    });
}

#[test]
fn a_request_ends_with_its_client() {
    run(async |rig| {
        let mut client = rig.greeted().await;
        client.send([get(1, "/wait"), get(3, "/wait")].concat()).await;
        settle().await;
        assert_eq!((rig.told.worked.get(), rig.told.dropped.get()), (2, 0));
        client.send(frame(RST_STREAM, 0, 1, &8u32.to_be_bytes())).await;
        settle().await;
        assert_eq!(rig.told.dropped.get(), 1);
        assert_eq!(client.close().await, CloseReason::ClientAborted);
        settle().await;
        assert_eq!(rig.told.dropped.get(), 2);
        assert!(rig.told.done.borrow().iter().all(|done| !done.complete));
        assert_eq!(rig.told.done.borrow().len(), 2);
    });
}
