pub(crate) mod agree;

use super::*;

fn fill() -> Fill {
    Fill {
        now: Now {
            wall: UnixMs(784_111_777_000),
            ledger: UnixMs(1_796_126_400_871),
            ..Now::default()
        },
        age_s: 7,
        retry_after_ms: 1_001,
        request: RequestId([0x9f, 0x2c, 0x41, 0xd0, 0, 1, 2, 3]),
        ..Fill::default()
    }
}

#[test]
fn slots_are_filled_in_head_and_body() {
    let body = b"{\"t\":             }".to_vec();
    let answer = AnswerBuilder::new(StatusCode::OK)
        .slot("age", SlotKind::Age)
        .slot("retry-after", SlotKind::RetryAfter)
        .slot("penstock-request", SlotKind::RequestId)
        .body_with_slots(body, vec![Slot { kind: SlotKind::ServerTime, at: 5 }])
        .build();
    let mut out = Vec::new();
    answer.write_h1(&fill(), false, true, &mut out);
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "HTTP/1.1 200 OK\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\nage: 7         \r\n\
         retry-after: 2         \r\npenstock-request: 9f2c41d000010203\r\n\
         content-length: 19\r\nconnection: close\r\n\r\n{\"t\":1796126400871}"
    );
}

#[test]
fn both_writers_say_the_same() {
    let answer = AnswerBuilder::new(StatusCode::CONFLICT)
        .field("Cache-Control", "no-store")
        .slot("age", SlotKind::Age)
        .body(Bytes::from_static(b"gone"))
        .build();
    let response = agree::response(&answer, &fill());
    assert_eq!(response.status(), 409);
    assert_eq!(response.headers()["age"], "7");
    assert_eq!(response.headers()["cache-control"], "no-store");
    assert_eq!(response.headers()["content-length"], "4");
    assert_eq!(response.body(), "gone");
}

#[test]
fn a_value_cannot_split_the_head() {
    let answer = AnswerBuilder::new(StatusCode::OK).field("x", "a\r\nb: c").build();
    let mut out = Vec::new();
    answer.write_h1(&fill(), false, false, &mut out);
    assert!(!String::from_utf8(out).unwrap().contains("b: c"));
}

#[test]
fn a_number_stands_at_the_left_of_its_slot() {
    let powers = (0..20).map(|power| 10u64.pow(power));
    let values = powers.flat_map(|power| [power - 1, power, power + 7]).chain([u64::MAX]);
    for value in values {
        let written = [
            &number::<1>(value)[..],
            &number::<10>(value),
            &number::<13>(value),
            &number::<16>(value),
        ];
        for out in written {
            let (text, width) = (value.to_string(), out.len());
            let shown = match text.len() > width {
                true => "9".repeat(width),
                false => format!("{text:<width$}"),
            };
            assert_eq!(String::from_utf8_lossy(out), shown);
        }
    }
}
