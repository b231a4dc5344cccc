//! Lists in field values (RFC 9110 5.6.1).

/// Splits a list at the commas outside quotes.
pub fn split_unquoted(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let (mut quoted, mut escaped) = (false, false);
    line.split(move |b| {
        match b {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b',' if !quoted => return true,
            _ => {}
        }
        false
    })
    .map(<[u8]>::trim_ascii)
}

/// Whether `list`, the value of `If-None-Match`, has `etag` by the weak comparison (RFC 9110 8.8.3.2), or
/// is `*`, which is whatever there is.
pub fn lists_tag(list: &[u8], etag: Option<&[u8]>) -> bool {
    let opaque = |tag: &[u8]| if tag.starts_with(b"W/") { 2 } else { 0 };
    let is_it = |tag: &[u8], etag: &[u8]| tag[opaque(tag)..] == etag[opaque(etag)..];
    split_unquoted(list).any(|tag| tag == b"*" || etag.is_some_and(|etag| is_it(tag, etag)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comma_in_quotes_is_no_end() {
        let items: Vec<&[u8]> = split_unquoted(b"a, \"b,\\\",c\" ,,d").collect();
        assert_eq!(items, [&b"a"[..], b"\"b,\\\",c\"", b"", b"d"]);
    }

    #[test]
    fn tags_are_compared_weakly_and_whole() {
        let etag = Some(&b"W/\"1,2\""[..]);
        for list in [&b"W/\"1,2\""[..], b"\"1,2\"", b"\"0\", W/\"1,2\"", b"*"] {
            assert!(lists_tag(list, etag), "{}", String::from_utf8_lossy(list));
        }
        for list in [&b""[..], b"\"1\"", b"1,2", b"W/", b"\"1,2\"x"] {
            assert!(!lists_tag(list, etag), "{}", String::from_utf8_lossy(list));
        }
        assert!(lists_tag(b"*", None) && !lists_tag(b"\"1\"", None));
    }
}
