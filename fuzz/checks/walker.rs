//! The body walker: it never goes past the end it found, and what it calls a body has the length that
//! its framing says.

use penstock::http::head::BodyKind;
use penstock::http::walker::BodyWalker;

/// Walks over `data` as a chunked body.
pub fn check(data: &[u8]) {
    let mut walker = BodyWalker::new(BodyKind::Chunked);
    let Ok(used) = walker.advance(data) else {
        assert!(walker.advance(b"0\r\n\r\n").is_err(), "a refusal is final");
        return;
    };
    assert!(used <= data.len());
    assert!(walker.data_bytes() <= used as u64);
    if walker.is_done() {
        assert!(data[..used].ends_with(b"\r\n"));
        assert_eq!(walker.advance(b"GET / HTTP/1.1\r\n\r\n"), Ok(0));
        assert_eq!(decoded(&data[..used]).len() as u64, walker.data_bytes());
    } else {
        assert_eq!(used, data.len());
    }
}

/// A second reading of a whole chunked body, written for nothing but being obvious.
fn decoded(mut body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let line = body.windows(2).position(|w| w == b"\r\n").expect("a size line ends");
        let size = std::str::from_utf8(&body[..line]).expect("a size is ASCII");
        let size = usize::from_str_radix(size, 16).expect("a size is hexadecimal");
        body = &body[line + 2..];
        if size == 0 {
            return out;
        }
        out.extend_from_slice(&body[..size]);
        body = &body[size + 2..];
    }
}
