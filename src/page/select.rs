//! What selects one variant of a URL: the fields that `Vary` names (RFC 9111 4.1), and those headers
//! and cookies that the route counts whatever the response says.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use http::{HeaderMap, HeaderName};

use super::key::{self, Key};
use super::policy::vary;
use crate::http::{Head, hop};

/// Stored under a URL: the fields whose values are part of the keys of its pages.
#[derive(Debug)]
pub struct Selector {
    /// Their names in lower case, sorted; a cookie's begins with [`COOKIE`].
    names: Vec<Box<str>>,
    /// Part of the keys of its pages, so that none outlives it.
    generation: u64,
    /// Keys of its pages, the oldest first.
    variants: Mutex<VecDeque<Arc<Key>>>,
}

/// What one request says in fields that may select.
#[derive(Clone, Debug, Default)]
pub struct Said {
    /// The values of what the route counts.
    counted: Vec<(Box<str>, Option<Vec<u8>>)>,
    /// The fields as the shop gets them.
    headers: HeaderMap,
}

impl Selector {
    /// For pages of `generation`.
    pub fn new(names: Vec<Box<str>>, generation: u64) -> Selector {
        Selector { names, generation, variants: Mutex::default() }
    }

    /// The names.
    pub fn names(&self) -> &[Box<str>] {
        &self.names
    }

    /// Part of the keys of its pages.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The keys of its pages, the oldest first.
    pub fn variants(&self) -> Vec<Arc<Key>> {
        let variants = self.variants.lock().unwrap_or_else(PoisonError::into_inner);
        variants.iter().cloned().collect()
    }

    /// Whether it looks at everything that `names` does.
    pub fn covers(&self, names: &[Box<str>]) -> bool {
        names.iter().all(|name| self.names.binary_search(name).is_ok())
    }

    /// The key of the page of `url` for a request that says `value` in each field.
    pub fn key(&self, url: &[u8], value: impl Fn(&str) -> Option<Vec<u8>>) -> Vec<u8> {
        let values: Vec<Option<Vec<u8>>> = self.names.iter().map(|name| value(name)).collect();
        key::variant(url, self.generation, values.iter().map(|v| v.as_deref()))
    }

    /// The key under which a page in `language` is found by who likes that most, whatever else they
    /// like: it says the same in all other fields.
    pub fn key_in(
        &self,
        url: &[u8],
        language: &[u8],
        value: impl Fn(&str) -> Option<Vec<u8>>,
    ) -> Option<Vec<u8>> {
        self.names.iter().any(|name| **name == *LANGUAGE).then(|| {
            // No value of a request begins so.
            let only = || Some([b",=", language].concat());
            self.key(url, |name| if name == LANGUAGE { only() } else { value(name) })
        })
    }

    /// Notes a page. Where there are more than `variants_max`, that is the oldest's key.
    pub fn note(&self, key: &Arc<Key>, variants_max: usize) -> Option<Arc<Key>> {
        let mut variants = self.variants.lock().unwrap_or_else(PoisonError::into_inner);
        if variants.contains(key) {
            return None;
        }
        variants.push_back(key.clone());
        if variants.len() > variants_max { variants.pop_front() } else { None }
    }

    /// Bytes on the heap, the keys of its pages as pointers: the pages count them.
    pub fn weight(&self) -> usize {
        let names: usize = self.names.iter().map(|name| name.len() + size_of::<Box<str>>()).sum();
        names + VARIANTS_BYTES
    }
}

impl Said {
    /// What `head` says, whose fields the shop gets as `headers`.
    pub fn of(head: &Head<'_>, counted: &[Box<str>], headers: HeaderMap) -> Said {
        let counted = counted.iter().map(|name| (name.clone(), in_head(head, name)));
        Said { counted: counted.collect(), headers }
    }

    /// What it says in `name`.
    pub fn value(&self, name: &str) -> Option<Vec<u8>> {
        if let Some((_, value)) = self.counted.iter().find(|(counted, _)| **counted == *name) {
            return value.clone();
        }
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        let lines = self.headers.get_all(&name).into_iter().map(|line| line.as_bytes());
        vary::normalised(name.as_str(), lines)
    }

    /// Whether both say the same in all of `names`.
    pub fn agrees(&self, other: &Said, names: &[Box<str>]) -> bool {
        names.iter().all(|name| self.value(name) == other.value(name))
    }
}

/// What a request says in `name`, of that which the shop gets of it.
pub fn in_head(head: &Head<'_>, name: &str) -> Option<Vec<u8>> {
    if let Some(cookie) = name.strip_prefix(COOKIE) {
        return head.cookie(cookie).map(<[u8]>::to_vec);
    }
    let is_it = |field: &crate::http::Field<'_>| field.name.eq_ignore_ascii_case(name.as_bytes());
    vary::normalised(name, hop::forwardable(head).filter(is_it).map(|field| field.value))
}

/// Whether the head of the request alone tells what the shop gets in `name`: we write these.
pub fn is_in_head(name: &str) -> bool {
    !name.starts_with("x-forwarded-") && name != "via"
}

/// The field that languages are chosen by.
pub const LANGUAGE: &str = "accept-language";

/// What the name of a cookie begins with; no header has a colon.
pub const COOKIE: &str = "cookie:";

/// What the list of variants may take, in bytes.
const VARIANTS_BYTES: usize = 256;
