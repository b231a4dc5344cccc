//! The head reader: no panic, what it accepts is in its one spelling, and its verdict on a part is
//! never taken back by the rest.

use penstock::http::Limits;
use penstock::http::head::BodyKind;
use penstock::http::reader::read_head;

/// Reads `data` as a head.
pub fn check(data: &[u8]) {
    let limits = Limits::default();
    let mut fields = Vec::new();
    let Ok(Some(request)) = read_head(data, &limits, &mut fields) else { return };
    assert!(request.bytes <= data.len() && request.bytes <= limits.head_bytes_max);
    assert!(data[..request.bytes].ends_with(b"\r\n\r\n"));
    let head = &request.head;
    assert!(head.path.starts_with('/') || head.path == "*");
    assert!(head.fields.len() <= limits.fields_max);
    assert_eq!(*head.host, head.host.to_ascii_lowercase());
    for field in head.fields.iter() {
        assert!(!field.name.is_empty());
        assert!(!field.value.iter().any(|b| matches!(b, b'\r' | b'\n' | 0)));
    }
    // RFC 9112 6.3: one framing, never two.
    let coded = head.field("transfer-encoding").is_some();
    assert_eq!(coded, head.body == BodyKind::Chunked);
    assert!(!(coded && head.field("content-length").is_some()));
}
