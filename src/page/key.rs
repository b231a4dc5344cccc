//! The key of a page: length-prefixed fields, hashed. The hash finds an entry, the whole key is
//! compared: two keys with one hash are two pages.

use std::hash::{Hash, Hasher};

use quick_cache::Equivalent;

use crate::answer::heap;

/// What a page is, and so what its fill is built from: nothing else of a request reaches the shop.
///
/// The path is part of it although activity and city are: a pattern may have a free segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fields<'a> {
    /// The site.
    pub site: &'a str,
    /// Host of the fill.
    pub host: &'a str,
    /// Path of the fill, raw.
    pub path: &'a str,
    /// The activity.
    pub activity: &'a str,
    /// The city, if there is one.
    pub city: Option<&'a str>,
    /// The public state of its sale, where there is a page for each.
    pub state: Option<&'a str>,
}

/// A URL on an ordinary route. All that is stored for it has a key that begins with this one's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Url<'a> {
    /// The site.
    pub site: &'a str,
    /// The Host that the shop is asked for.
    pub host: &'a str,
    /// The path, raw.
    pub path: &'a str,
    /// What counts of the query; absent is not the same as empty.
    pub query: Option<&'a str>,
}

impl Url<'_> {
    /// The key without its hash, written into `buffer`, which is cleared.
    pub fn bytes<'b>(&self, buffer: &'b mut Vec<u8>) -> &'b [u8] {
        buffer.clear();
        // No activity is empty, so that no page has this key.
        for field in [self.site, self.host, self.path, ""] {
            put(buffer, field);
        }
        match self.query {
            Some(query) => put(buffer, query),
            None => buffer.extend_from_slice(&ABSENT),
        }
        buffer
    }
}

/// Makes the key of a variant out of that of its URL: `generation` is the selector's, `values` are
/// what the request says in each of the fields that select.
pub fn variant<'v>(
    url: &[u8],
    generation: u64,
    values: impl Iterator<Item = Option<&'v [u8]>>,
) -> Vec<u8> {
    let mut bytes = url.to_vec();
    bytes.extend_from_slice(&generation.to_le_bytes());
    for value in values {
        match value {
            Some(value) => {
                let length = u32::try_from(value.len()).unwrap_or(u32::MAX - 1);
                bytes.extend_from_slice(&length.to_le_bytes());
                bytes.extend_from_slice(value);
            }
            None => bytes.extend_from_slice(&ABSENT),
        }
    }
    bytes
}

/// A length that no field has.
const ABSENT: [u8; 4] = u32::MAX.to_le_bytes();

/// A key that is kept.
#[derive(Debug)]
pub struct Key {
    hash: u64,
    bytes: Box<[u8]>,
}

/// A key that is looked up, in a buffer that is used again.
#[derive(Clone, Copy, Debug)]
pub struct KeyRef<'a> {
    hash: u64,
    bytes: &'a [u8],
}

impl Fields<'_> {
    /// The key, written into `buffer`.
    pub fn key<'b>(&self, buffer: &'b mut Vec<u8>) -> KeyRef<'b> {
        KeyRef::of(self.bytes(buffer))
    }

    /// The key without its hash, written into `buffer`, which is cleared.
    pub fn bytes<'b>(&self, buffer: &'b mut Vec<u8>) -> &'b [u8] {
        buffer.clear();
        for field in [self.site, self.host, self.path, self.activity] {
            put(buffer, field);
        }
        // Absent is not the same as empty.
        match (self.city, self.state) {
            (Some(city), _) => put(buffer, city),
            (None, Some(_)) => buffer.extend_from_slice(&ABSENT),
            (None, None) => {}
        }
        if let Some(state) = self.state {
            put(buffer, state);
        }
        buffer
    }
}

impl<'a> KeyRef<'a> {
    /// The key that these bytes are.
    pub fn of(bytes: &'a [u8]) -> KeyRef<'a> {
        KeyRef { hash: hash(bytes), bytes }
    }

    /// The hash.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// A copy to keep.
    pub fn to_key(self) -> Key {
        Key { hash: self.hash, bytes: self.bytes.into() }
    }

    /// The same key under another hash, to prove that whole keys are compared.
    #[cfg(test)]
    pub fn with_hash(self, hash: u64) -> Self {
        KeyRef { hash, ..self }
    }
}

impl Key {
    /// The fields it was made of.
    pub fn fields(&self) -> Fields<'_> {
        let mut rest = &*self.bytes;
        let [site, host, path, activity] = [(); 4].map(|()| take(&mut rest).unwrap_or(""));
        let city = match rest.strip_prefix(&ABSENT) {
            Some(tail) => {
                rest = tail;
                None
            }
            None => take(&mut rest),
        };
        Fields { site, host, path, activity, city, state: take(&mut rest) }
    }

    /// The hash, to forge another key with.
    #[cfg(test)]
    pub fn hash_for_tests(&self) -> u64 {
        self.hash
    }

    /// The same to look up with.
    pub fn to_ref(&self) -> KeyRef<'_> {
        KeyRef { hash: self.hash, bytes: &self.bytes }
    }

    /// The key without its hash.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Bytes on the heap.
    pub fn weight(&self) -> usize {
        heap::block(self.bytes.len()) + heap::shared(size_of::<Key>())
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Key) -> bool {
        self.hash == other.hash && self.bytes == other.bytes
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl Hash for KeyRef<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl Equivalent<std::sync::Arc<Key>> for KeyRef<'_> {
    fn equivalent(&self, key: &std::sync::Arc<Key>) -> bool {
        self.hash == key.hash && *self.bytes == *key.bytes
    }
}

fn put(buffer: &mut Vec<u8>, field: &str) {
    // A head is at most a few MiB long by any configuration.
    let length = u32::try_from(field.len()).unwrap_or(u32::MAX);
    buffer.extend_from_slice(&length.to_le_bytes());
    buffer.extend_from_slice(field.as_bytes());
}

fn take<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    let (length, tail) = rest.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let (field, tail) = tail.split_at_checked(length)?;
    *rest = tail;
    std::str::from_utf8(field).ok()
}

fn hash(bytes: &[u8]) -> u64 {
    let mut out = [0; 8];
    out.copy_from_slice(&blake3::hash(bytes).as_bytes()[..8]);
    u64::from_le_bytes(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Owned = (String, String, String, String, Option<String>, Option<String>);

    fn fields((site, host, path, activity, city, state): &Owned) -> Fields<'_> {
        let (city, state) = (city.as_deref(), state.as_deref());
        Fields { site, host, path, activity, city, state }
    }

    proptest! {
        /// Two keys are equal only if every field is, whatever delimiters the fields contain.
        #[test]
        fn keys_differ_where_a_field_does(
            a in any::<Owned>(),
            b in any::<Owned>(),
        ) {
            let (mut one, mut two) = (Vec::new(), Vec::new());
            let (x, y) = (fields(&a).key(&mut one), fields(&b).key(&mut two));
            prop_assert_eq!(x.bytes == y.bytes, a == b);
            let kept = x.to_key();
            prop_assert_eq!(kept.fields(), fields(&a));
        }
    }

    /// Nothing that a client says moves from one field into another, nor from one URL to another.
    #[test]
    fn variants_differ_where_a_value_does() {
        let url = |query| Url { site: "s", host: "h", path: "/1", query };
        let mut buffer = Vec::new();
        let keys: Vec<Vec<u8>> =
            [None, Some(""), Some("a")].map(|q| url(q).bytes(&mut buffer).to_vec()).to_vec();
        assert!(keys[0] != keys[1] && keys[1] != keys[2]);
        let page =
            Fields { site: "s", host: "h", path: "/1", activity: "", city: Some("a"), state: None };
        assert_eq!(page.bytes(&mut buffer), keys[2], "a page without an activity is none");
        let of = |values: &[Option<&'static str>]| {
            variant(&keys[0], 1, values.iter().map(|v| v.map(str::as_bytes)))
        };
        let all = [
            of(&[Some("a"), Some("b")]),
            of(&[Some("ab"), Some("")]),
            of(&[Some("ab"), None]),
            of(&[None, Some("ab")]),
            of(&[Some(""), Some("ab")]),
            of(&[]),
        ];
        for (at, key) in all.iter().enumerate() {
            assert!(key.starts_with(&keys[0]) && !all[..at].contains(key));
        }
    }

    #[test]
    fn moving_a_byte_between_fields_makes_another_key() {
        let base = Fields {
            site: "s",
            host: "h",
            path: "/1",
            activity: "1",
            city: Some("2"),
            state: None,
        };
        let others = [
            Fields { activity: "12", city: Some(""), ..base },
            Fields { activity: "12", city: None, ..base },
            Fields { host: "h/", path: "1", ..base },
            Fields { city: None, ..base },
            Fields { city: None, state: Some("2"), ..base },
            Fields { state: Some("2"), ..base },
        ];
        let (mut one, mut two) = (Vec::new(), Vec::new());
        let key = base.key(&mut one);
        for other in others {
            assert_ne!(key.bytes, other.key(&mut two).bytes, "{other:?}");
        }
    }
}
