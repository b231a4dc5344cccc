//! The two writers of an [`Answer`], compared: for the tests of everybody who makes answers.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::answer::{Answer, Fill};

/// The answer as hyper is given it, after the HTTP/1.1 writer was seen to say the same: status, fields
/// and body, in every framing.
pub(crate) fn response(answer: &Answer, fill: &Fill) -> http::Response<Bytes> {
    let response = answer.response(fill);
    for (head_only, close) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut out = Vec::new();
        answer.write_h1(fill, head_only, close, &mut out);
        let (status, mut fields, body) = message(&out);
        let closes = fields.remove("connection").is_some_and(|value| value == "close");
        assert_eq!(closes, close);
        assert_eq!(status, response.status().as_u16());
        assert_eq!(&fields, response.headers());
        assert_eq!(body, if head_only { &b""[..] } else { response.body() });
        if let Some(length) = fields.get("content-length") {
            let is_of_another = status == 304;
            assert!(is_of_another || length == &response.body().len().to_string());
        }
    }
    if let Some(body) = answer.shared_body() {
        assert_eq!(body, response.body());
    }
    assert_eq!(answer.body_len(), response.body().len());
    response
}

/// An HTTP/1.1 message taken apart by the letter: nothing in it is overlooked or made good.
fn message(bytes: &[u8]) -> (u16, HeaderMap, &[u8]) {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a whole head");
    let head = std::str::from_utf8(&bytes[..end]).expect("text");
    let mut lines = head.split("\r\n");
    let status = lines.next().expect("a status line").strip_prefix("HTTP/1.1 ").expect("HTTP/1.1");
    let (code, phrase) = status.split_once(' ').expect("a reason phrase");
    assert!(!phrase.is_empty());
    let mut fields = HeaderMap::new();
    for line in lines {
        let (name, value) = line.split_once(": ").expect("a field");
        assert_eq!(name, name.to_ascii_lowercase());
        let value = HeaderValue::from_str(value.trim_end_matches(' ')).expect("a value");
        fields.append(HeaderName::from_bytes(name.as_bytes()).expect("a name"), value);
    }
    (code.parse().expect("a status"), fields, &bytes[end + 4..])
}
