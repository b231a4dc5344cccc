//! The PROXY header: one verdict however the bytes are cut, and none of it from bytes behind the header.

use penstock::http::proxy_header::{Seen, V2_BYTES_MAX, read};

/// Reads `data` in every cut.
pub fn check(data: &[u8]) {
    let whole = read(data);
    let mut first = None;
    for end in 0..=data.len().min(V2_BYTES_MAX + 1) {
        let verdict = read(&data[..end]);
        match first {
            None if verdict == Ok(Seen::Part) => {}
            None => first = Some(verdict),
            Some(before) => assert_eq!(verdict, before, "at {end}"),
        }
    }
    let expected = first.unwrap_or(Ok(Seen::Part));
    assert_eq!(whole, expected);
    if let Ok(Seen::Header(used, client)) = whole {
        assert!(used <= V2_BYTES_MAX && used <= data.len());
        // What follows has no part in it.
        assert_eq!(read(&data[..used]), whole);
        assert!(client.is_none_or(|client| client.ip() == client.ip().to_canonical()));
    }
    if data.len() > V2_BYTES_MAX {
        assert_ne!(whole, Ok(Seen::Part), "bounded");
    }
}
