//! Surrogate keys: the tags by which the shop calls together the pages that one of its things is on.
//! `Surrogate-Key` lists them with spaces (Fastly, xkey), `Cache-Tag` with commas (Cloudflare, Akamai).

use std::sync::Arc;

use http::HeaderMap;

use crate::config::schema;

/// The tags of one page, sorted, each once.
pub type Tags = Arc<[Box<str>]>;

/// How many tags a page may have, and how long they may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Tags of one page.
    pub tags_max: usize,
    /// Bytes of one tag.
    pub tag_bytes_max: usize,
}

impl Bounds {
    /// By `[cache]`.
    pub fn of(cache: &schema::Cache) -> Bounds {
        let tags_max = usize::try_from(cache.tags_max).unwrap_or(usize::MAX);
        Bounds { tags_max, tag_bytes_max: cache.tag_bytes_max.in_memory() }
    }
}

/// The tags of a response; `None` where there are more than may be, or where one is too long or no
/// text: a page that cannot be purged by all its tags is not to be stored.
pub fn of(headers: &HeaderMap, bounds: Bounds) -> Option<Tags> {
    let mut tags: Vec<Box<str>> = Vec::new();
    for (name, ends) in [(SURROGATE_KEY, is_space as fn(char) -> bool), (CACHE_TAG, is_comma)] {
        for line in headers.get_all(name) {
            let line = std::str::from_utf8(line.as_bytes()).ok()?;
            for tag in line.split(ends).map(str::trim).filter(|tag| !tag.is_empty()) {
                if tag.len() > bounds.tag_bytes_max {
                    return None;
                }
                if let Err(at) = tags.binary_search_by(|known| (**known).cmp(tag)) {
                    tags.insert(at, tag.into());
                }
                if tags.len() > bounds.tags_max {
                    return None;
                }
            }
        }
    }
    Some(tags.into())
}

/// Whether a response says anything about tags.
pub fn are_said(headers: &HeaderMap) -> bool {
    FIELDS.iter().any(|name| headers.contains_key(*name))
}

/// Copies the fields that say tags.
pub fn copy(from: &HeaderMap, to: &mut HeaderMap) {
    for name in FIELDS {
        for value in from.get_all(name) {
            to.append(name, value.clone());
        }
    }
}

/// Takes the tags out: they are between the shop and us.
pub fn strip(headers: &mut HeaderMap) {
    FIELDS.iter().for_each(|name| drop(headers.remove(*name)));
}

fn is_space(c: char) -> bool {
    c.is_ascii_whitespace()
}

fn is_comma(c: char) -> bool {
    c == ','
}

const SURROGATE_KEY: &str = "surrogate-key";
const CACHE_TAG: &str = "cache-tag";
/// The fields that say tags.
pub const FIELDS: [&str; 2] = [SURROGATE_KEY, CACHE_TAG];

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const BOUNDS: Bounds = Bounds { tags_max: 3, tag_bytes_max: 4 };

    fn read(lines: &[(&'static str, &'static str)]) -> Option<Vec<String>> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        Some(of(&headers, BOUNDS)?.iter().map(|tag| tag.to_string()).collect())
    }

    #[test]
    fn tags_are_read_from_both_fields_each_once() {
        let tags = read(&[("surrogate-key", "b  a\tb"), ("cache-tag", " c , a,"), ("x", "y")]);
        assert_eq!(tags.as_deref(), Some(&["a", "b", "c"].map(String::from)[..]));
        assert_eq!(read(&[("cache-tag", "a b")]).as_deref(), Some(&["a b".to_owned()][..]));
        assert_eq!(read(&[]).as_deref(), Some(&[][..]));
    }

    #[test]
    fn what_cannot_be_purged_by_all_its_tags_is_refused() {
        assert_eq!(read(&[("surrogate-key", "a b"), ("cache-tag", "c,d")]), None, "too many");
        assert_eq!(read(&[("surrogate-key", "abcde")]), None, "too long");
        let mut headers = HeaderMap::new();
        headers.insert("cache-tag", HeaderValue::from_bytes(b"\xff").expect("opaque"));
        assert!(of(&headers, BOUNDS).is_none(), "no text");
        strip(&mut headers);
        assert!(headers.is_empty() && !are_said(&headers));
    }
}
