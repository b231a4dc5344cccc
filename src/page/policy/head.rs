//! What an answer to HEAD says about the stored answer to GET (RFC 9111 4.3.5).

use http::{HeaderMap, StatusCode, header};

/// What becomes of the stored response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Its fields are updated.
    Update,
    /// It is no longer what GET would bring: stale.
    Invalidate,
    /// Nothing is known.
    None,
}

/// The effect of an answer to HEAD on a stored answer to GET with `length` bytes.
pub fn effect(stored: &HeaderMap, length: u64, status: StatusCode, said: &HeaderMap) -> Effect {
    if status != StatusCode::OK {
        return Effect::None;
    }
    let agrees = |name| match (stored.get(&name), said.get(&name)) {
        (_, None) => true,
        (old, new) => old == new,
    };
    let same_length = said.get(header::CONTENT_LENGTH).is_none_or(|said| {
        said.to_str().ok().and_then(|text| text.parse::<u64>().ok()) == Some(length)
    });
    match agrees(header::ETAG) && agrees(header::LAST_MODIFIED) && same_length {
        true => Effect::Update,
        false => Effect::Invalidate,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_to_head_updates_or_invalidates() {
        let headers = |lines: &[(&'static str, &str)]| -> HeaderMap {
            lines
                .iter()
                .map(|(n, v)| (n.parse().expect("name"), v.parse().expect("value")))
                .collect()
        };
        let stored: HeaderMap = headers(&[("etag", "\"a\"")]);
        let of = |status, lines: &[(&'static str, &str)]| {
            effect(&stored, 7, StatusCode::from_u16(status).expect("valid"), &headers(lines))
        };
        assert_eq!(of(200, &[]), Effect::Update);
        assert_eq!(of(200, &[("etag", "\"a\""), ("content-length", "7")]), Effect::Update);
        assert_eq!(of(200, &[("etag", "\"b\"")]), Effect::Invalidate);
        assert_eq!(of(200, &[("content-length", "8")]), Effect::Invalidate);
        assert_eq!(of(200, &[("last-modified", "x")]), Effect::Invalidate);
        assert_eq!(of(404, &[("etag", "\"b\"")]), Effect::None);
    }
}
