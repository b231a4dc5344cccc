//! Answers that are refused before anything of them is stored or relayed: F06, F07, F10.

use penstock::metrics::Counter;
use penstock::upstream::{Stage, Written};

use crate::origin::Origin;
use crate::rig::{failed, run, text, to};

/// Answers once with `bytes`, whole or byte by byte, and stays.
async fn answers(bytes: String, split: bool) -> Origin {
    Origin::new(move |mut server| {
        let bytes = bytes.clone();
        async move {
            server.request().await;
            if split {
                for byte in bytes.as_bytes() {
                    server.send([*byte]).await;
                    tokio::task::yield_now().await;
                }
            } else {
                server.send(&bytes).await;
            }
            server.gone().await;
        }
    })
    .await
}

#[test]
fn answers_with_doubtful_framing_are_refused() {
    let fields = "A: b\r\n".repeat(200);
    let large = format!("A: {}\r\n", "b".repeat(1 << 20));
    for head in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3",
        "HTTP/1.1 200 OK\r\nContent-Length: 2, 2",
        "HTTP/1.1 200 OK\r\nContent-Length: +2",
        "HTTP/1.1 200 OK\r\nContent-Length: ",
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, identity",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked",
        "HTTP/1.1 200 OK\r\nA: b\r\n c",
        "HTTP/1.1 200 OK\r\nA: b\0c",
        "HTTP/1.1 200 OK\r\nA : b",
        "HTTP/1.1 099 Low",
        "HTTP/1.1 600 High",
        "HTTP/1.1 999 High",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade",
        "HTTP/1.1 200 OK\nContent-Length: 2",
        "HTTP/1.1 200 \x01",
        "HTTP/0.9 200 OK",
        "<html>an answer of HTTP/0.9</html>",
        "\x15\x03\x03\x00\x02\x02\x28",
        &format!("HTTP/1.1 200 OK\r\n{fields}"),
        &format!("HTTP/1.1 200 OK\r\n{large}"),
    ] {
        for split in [false, true] {
            if split && head.len() > 10_000 {
                continue;
            }
            let bytes = format!("{}\r\n\r\nok", head.trim_end_matches("\r\n"));
            run(|| async move {
                let origin = answers(bytes, split).await;
                let stage = to(origin.address);
                let error = failed(stage.post("order").await);
                let shown = head.get(..head.len().min(80)).unwrap_or_default();
                let said = (error.at, error.written, error.timed_out);
                assert_eq!(said, (Stage::Invalid, Written::Maybe, false), "{shown:?}: {error}");
                assert_eq!(stage.sink.get(Counter::UpstreamInvalid), 1, "{shown:?}");
                assert_eq!((stage.shared.report()[0].open, origin.requests()), (0, 1), "{shown:?}");
            });
        }
    }
}

#[test]
fn interim_answers_are_dropped_within_bounds() {
    for (count, is_valid) in [(0, true), (1, true), (16, true), (17, false), (60, false)] {
        let interim = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".repeat(count);
        run(|| async move {
            let bytes = format!("{interim}HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
            let origin = answers(bytes, false).await;
            let stage = to(origin.address);
            match stage.get().await {
                Ok(answer) => {
                    assert!(is_valid, "{count}");
                    assert_eq!(answer.headers.get("link"), None);
                    assert_eq!(text(answer.body).await, "ok");
                }
                Err(error) => assert_eq!((is_valid, error.at), (false, Stage::Invalid), "{count}"),
            }
        });
    }
}

#[test]
fn heads_are_as_large_as_the_setting_says() {
    for (bytes, is_valid) in [(16 * 1024, true), (16 * 1024 + 1, false)] {
        run(|| async move {
            let start = "HTTP/1.1 204 None\r\nA: ";
            let pad = "b".repeat(bytes - start.len() - 4);
            let origin = answers(format!("{start}{pad}\r\n\r\n"), false).await;
            let stage = to(origin.address);
            assert_eq!(stage.get().await.is_ok(), is_valid, "{bytes}");
        });
    }
}

#[test]
fn reason_phrases_are_not_needed() {
    run(|| async {
        let origin = answers("HTTP/1.1 299\r\nContent-Length: 2\r\n\r\nok".to_owned(), false).await;
        let answer = to(origin.address).get().await.expect("an answer");
        assert_eq!(answer.status.as_u16(), 299);
        assert_eq!(text(answer.body).await, "ok");
    });
}

/// F10: what stands behind an answer is nobody's answer.
#[test]
fn bytes_behind_an_answer_close_the_connection() {
    run(|| async {
        let origin = Origin::new(|mut server| async move {
            let number = server.number;
            server.request().await;
            let right = format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{number}");
            server.send(format!("{right}HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong")).await;
            server.gone().await;
        })
        .await;
        let stage = to(origin.address);
        for number in 0..3 {
            assert_eq!(stage.get_text().await, number.to_string());
        }
        assert_eq!(origin.accepted.get(), 3);
    });
}
