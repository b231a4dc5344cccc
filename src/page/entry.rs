//! A stored page: its bodies, and the ready-made answers for each of its codings.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use super::coding::{Accept, Bodies, Coding, encode_all, is_compressible};
use super::packed::Packed;
use super::parts;
use super::policy::clip::{Bound, clipped};
use super::policy::directives::{Directives, date_s};
use super::policy::range::{self, Span};
use super::policy::tags::Tags;

pub use super::parts::Part;
use crate::answer::{Answer, AnswerBuilder, Local, SlotKind, heap};
use crate::clock::UnixMs;
use crate::http::{Head, lists_tag};

/// What a client said that decides about the form of its answer.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    /// The codings it takes.
    accept: Accept,
    /// `If-None-Match`, all lines.
    none_match: Option<Cow<'a, [u8]>>,
    /// `If-Modified-Since`.
    modified_since: Option<Cow<'a, [u8]>>,
    /// `Range` and `If-Range`, where the route serves parts.
    pub range: Option<Cow<'a, [u8]>>,
    /// `If-Range`.
    pub if_range: Option<Cow<'a, [u8]>>,
    /// Whether it asked by HEAD.
    pub is_head: bool,
}

impl<'a> Wanted<'a> {
    /// Reads it from a request.
    pub fn of(head: &Head<'a>) -> Wanted<'a> {
        let mut none_match: Option<Cow<'a, [u8]>> = None;
        for line in head.field_all("if-none-match") {
            match &mut none_match {
                None => none_match = Some(line.into()),
                Some(all) => {
                    let all = all.to_mut();
                    all.push(b',');
                    all.extend_from_slice(line);
                }
            }
        }
        Wanted {
            accept: Accept::of(head),
            none_match,
            modified_since: head.field("if-modified-since").map(Cow::Borrowed),
            range: None,
            if_range: None,
            is_head: head.method == http::Method::HEAD,
        }
    }

    /// Reads it from a request on a route that serves parts.
    pub fn with_range(head: &Head<'a>) -> Wanted<'a> {
        let mut wanted = Wanted::of(head);
        if !wanted.is_head {
            wanted.range = head.field("range").map(Cow::Borrowed);
            wanted.if_range =
                wanted.range.as_ref().and_then(|_| head.field("if-range")).map(Cow::Borrowed);
        }
        wanted
    }

    /// A copy to keep while the client waits.
    pub fn into_owned(self) -> Wanted<'static> {
        let own = |value: Cow<'a, [u8]>| Cow::Owned(value.into_owned());
        Wanted {
            accept: self.accept,
            none_match: self.none_match.map(own),
            modified_since: self.modified_since.map(own),
            range: self.range.map(own),
            if_range: self.if_range.map(own),
            is_head: self.is_head,
        }
    }

    /// Whether the client's copy is as good as the page with these validators. `If-None-Match` goes
    /// before `If-Modified-Since` (RFC 9110 13.2.2).
    pub fn has_copy_of(&self, etag: Option<&[u8]>, modified_s: Option<u64>) -> bool {
        if let Some(tags) = &self.none_match {
            return lists_tag(tags, etag);
        }
        let since = self.modified_since.as_deref().and_then(date_s);
        since.is_some_and(|since| modified_s.is_some_and(|modified| modified <= since))
    }
}

/// A stored page. There may be millions of them: nothing is in it that can be made when it is needed.
#[derive(Debug)]
pub struct Entry {
    status: StatusCode,
    /// Fields of the shop's answer that are kept.
    headers: Packed,
    /// The answer in each coding that there is, by [`Coding`], with the body.
    answers: [Option<Arc<Answer>>; 4],
    modified_s: Option<u64>,
    /// The tag is ours: the shop does not know it.
    has_our_tag: bool,
    /// What part of the whole the body is, and the length of the whole; `None`: it is the whole.
    part: Option<(Span, u64)>,
    /// How long it may be kept outside, where that is not for the shop to say.
    bound: Option<Bound>,
    /// What the shop calls it by in purges.
    tags: Tags,
}

/// What a page is made of, to be kept elsewhere.
#[derive(Clone, Debug)]
pub struct Parts {
    /// The status.
    pub status: StatusCode,
    /// The fields that are kept.
    pub headers: HeaderMap,
    /// The bodies.
    pub bodies: Bodies,
    /// Whether the tag is ours.
    pub has_our_tag: bool,
    /// The part of the whole that the body is, if it is one.
    pub part: Option<(Span, u64)>,
    /// How long it may be kept outside.
    pub bound: Option<Bound>,
    /// What the shop calls it by in purges.
    pub tags: Tags,
}

/// What an entry is made of.
#[derive(Debug)]
pub struct Source {
    /// The status.
    pub status: StatusCode,
    /// The fields that are kept, by [`kept_headers`].
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// Whether it is stored as it came: no tag of ours, and the part that `Content-Range` says.
    pub is_faithful: bool,
    /// What the shop calls it by in purges.
    pub tags: Tags,
}

impl Source {
    /// Whether making the entry costs enough to leave the worker for it.
    pub fn is_expensive(&self, compress_bytes_min: usize) -> bool {
        self.is_compressed(compress_bytes_min) || self.body.len() > HASH_ON_WORKER_BYTES_MAX
    }

    fn is_compressed(&self, compress_bytes_min: usize) -> bool {
        let kind = self.headers.get(header::CONTENT_TYPE).map_or(&b""[..], |v| v.as_bytes());
        self.body.len() >= compress_bytes_min
            && !self.headers.contains_key(header::CONTENT_ENCODING)
            && !Directives::of(&self.headers).no_transform
            && is_compressible(kind)
    }

    /// The part that the body is, if it is one. One shorter than `Content-Range` says was cut by its
    /// sender, and what there is of it begins where it says (RFC 9111 3.3); one that is longer is
    /// nothing we know.
    fn part(&self) -> Option<(Span, u64)> {
        let (said, total) = parts::of(&self.headers)?;
        let length = self.body.len() as u64;
        let last = said.first + length.checked_sub(1)?;
        (length <= said.length()).then_some((Span { first: said.first, last }, total))
    }

    /// Whether it can be stored: a part has to be one.
    pub fn is_consistent(&self) -> bool {
        self.status != StatusCode::PARTIAL_CONTENT || self.part().is_some()
    }

    /// Makes the entry: all codings, tags and answers.
    pub fn into_entry(mut self, compress_bytes_min: usize) -> Entry {
        // All codings together take at most what the page takes, so that an allowed body is an
        // allowed entry.
        let bodies = match self.is_compressed(compress_bytes_min) {
            true => encode_all(&self.body, self.body.len()),
            false => [Some(self.body.clone()), None, None, None],
        };
        let has_our_tag = !self.is_faithful
            && self.status == StatusCode::OK
            && !self.headers.contains_key(header::ETAG);
        if has_our_tag {
            let hash = blake3::hash(&self.body).to_hex();
            if let Ok(tag) = HeaderValue::from_str(&format!("\"{}\"", &hash[..16])) {
                self.headers.insert(header::ETAG, tag);
            }
        }
        let part = match self.status {
            StatusCode::PARTIAL_CONTENT => self.part(),
            _ => None,
        };
        let Source { status, headers, tags, .. } = self;
        Entry::of_parts(Parts { status, headers, bodies, has_our_tag, part, bound: None, tags })
    }
}

impl Entry {
    /// The page that is made of these; the body as the shop sent it is among them.
    pub fn of_parts(parts: Parts) -> Entry {
        let made = |coding: Coding| {
            let body = parts.bodies[coding as usize].as_ref()?;
            Some(parts.answer(coding, Form::Whole(body)))
        };
        let answers = [Coding::Identity, Coding::Gzip, Coding::Brotli, Coding::Zstd].map(made);
        let Parts { status, headers, has_our_tag, part, bound, tags, .. } = parts;
        let modified = headers.get(header::LAST_MODIFIED).or(headers.get(header::DATE));
        let modified_s = modified.and_then(|v| date_s(v.as_bytes()));
        let headers = Packed::of(&headers);
        Entry { status, headers, answers, modified_s, has_our_tag, part, bound, tags }
    }

    /// What it is made of.
    pub fn parts(&self) -> Parts {
        let Entry { status, has_our_tag, part, bound, .. } = *self;
        let (headers, tags) = (self.headers(), self.tags.clone());
        let bodies = [Coding::Identity, Coding::Gzip, Coding::Brotli, Coding::Zstd]
            .map(|coding| self.coded(coding).cloned());
        Parts { status, headers, bodies, has_our_tag, part, bound, tags }
    }

    /// The same page with the fields of a 304 (RFC 9111 3.2). Its bodies are shared.
    pub fn refreshed(&self, mut not_modified: HeaderMap) -> Entry {
        // These describe the body, which is the stored one.
        for name in [header::CONTENT_ENCODING, header::CONTENT_TYPE, header::CONTENT_RANGE] {
            not_modified.remove(name);
        }
        // Our own member of Vary alone: the shop's answer said nothing about it.
        if not_modified.get_all(header::VARY).iter().count() == 1 {
            not_modified.remove(header::VARY);
        }
        let mut parts = Parts { bound: None, ..self.parts() };
        parts.has_our_tag &= !not_modified.contains_key(header::ETAG);
        parts.headers.remove(header::AGE);
        for name in not_modified.keys() {
            parts.headers.remove(name);
        }
        for (name, value) in not_modified.iter() {
            parts.headers.append(name, value.clone());
        }
        Entry::of_parts(parts)
    }

    /// The same bodies with these fields.
    pub fn with_headers(&self, headers: HeaderMap) -> Entry {
        Entry::of_parts(Parts { headers, ..self.parts() })
    }

    /// The same page, kept outside for no longer than `bound`.
    pub fn bounded(self, bound: Option<Bound>) -> Entry {
        if self.bound == bound {
            return self;
        }
        Entry::of_parts(Parts { bound, ..self.parts() })
    }

    /// The same with other tags, where there are any.
    pub fn with_tags(self, tags: Option<Tags>) -> Entry {
        let tags = tags.unwrap_or_else(|| self.tags.clone());
        Entry { tags, ..self }
    }

    /// What the shop calls it by in purges.
    pub fn tags(&self) -> &Tags {
        &self.tags
    }

    /// The body as the shop sent it.
    pub fn body(&self) -> Bytes {
        self.coded(Coding::Identity).cloned().unwrap_or_default()
    }

    /// The body in one coding, if it is stored in that.
    pub fn coded(&self, coding: Coding) -> Option<&Bytes> {
        self.answers[coding as usize].as_ref()?.shared_body()
    }

    /// What part of the whole it is, and the length of the whole; `None`: it is the whole.
    pub fn part(&self) -> Option<(Span, u64)> {
        self.part
    }

    /// What a client that may ask for ranges gets; `None` where that is not stored.
    pub fn part_for(&self, wanted: &Wanted<'_>) -> Option<Part> {
        let is_whole = self.part.is_none();
        let range = wanted.range.as_deref();
        if is_whole && (range.is_none() || self.status != StatusCode::OK) {
            return Some(Part::Whole);
        }
        let etag = self.headers.get(header::ETAG);
        // A condition that fails goes before the range (RFC 9110 13.2.2).
        if is_whole && wanted.has_copy_of(etag.as_ref().map(|v| v.as_bytes()), self.modified_s) {
            return Some(Part::Whole);
        }
        let date = |name| self.headers.get(name).and_then(|v: HeaderValue| date_s(v.as_bytes()));
        let is_theirs = wanted.if_range.as_deref().is_none_or(|value| {
            let modified = date(header::LAST_MODIFIED);
            range::if_range_holds(value, etag.as_ref(), modified, date(header::DATE))
        });
        let specs = range.filter(|_| is_theirs).and_then(range::parse);
        parts::answer(self, specs.as_deref())
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The fields that are kept.
    pub fn headers(&self) -> HeaderMap {
        self.headers.map()
    }

    /// The fields as they are sent.
    pub fn sent(&self) -> HeaderMap {
        match self.bound {
            Some(bound) => clipped(&self.headers(), bound),
            None => self.headers(),
        }
    }

    /// The first line of a field that is kept.
    pub fn field(&self, name: &HeaderName) -> Option<HeaderValue> {
        self.headers.get(name)
    }

    /// The coding that a client gets.
    #[inline]
    pub fn coding_for(&self, wanted: &Wanted<'_>) -> Coding {
        wanted.accept.pick(|c| self.answers[c as usize].is_some())
    }

    /// The answer for a client.
    pub fn answer_for(&self, wanted: &Wanted<'_>) -> Local {
        let coding = self.coding_for(wanted);
        let whole = Local::of(self.answers[coding as usize].as_ref().unwrap_or_else(|| none()));
        let has_copy =
            self.status == StatusCode::OK && wanted.has_copy_of(whole.etag(), self.modified_s);
        match has_copy {
            true => whole.unmodified(|| self.parts().answer(coding, Form::Unmodified)),
            false => whole,
        }
    }

    /// The validators to ask the shop with whether the page has changed: its own, never ours.
    pub fn validators(&self) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
        let etag = self.headers.get(header::ETAG).filter(|_| !self.has_our_tag);
        let etag = etag.map(|v| (header::IF_NONE_MATCH, v));
        let modified = self.headers.get(header::LAST_MODIFIED);
        etag.into_iter().chain(modified.map(|v| (header::IF_MODIFIED_SINCE, v)))
    }

    /// Bytes on the heap.
    pub fn weight(&self) -> usize {
        let answers: usize = self.answers.iter().flatten().map(|answer| answer.weight()).sum();
        let tags: usize = self.tags.iter().map(|tag| heap::block(tag.len()) + TAG_BYTES).sum();
        heap::block(size_of::<Entry>()) + self.headers.weight() + answers + tags
    }
}

impl Parts {
    fn answer(&self, coding: Coding, form: Form<'_>) -> Arc<Answer> {
        let is_unmodified = matches!(form, Form::Unmodified);
        let status = if is_unmodified { StatusCode::NOT_MODIFIED } else { self.status };
        let mut answer = match self.headers.get(header::DATE) {
            Some(date) => AnswerBuilder::dated(status, date.as_bytes()),
            None => AnswerBuilder::new(status),
        };
        let headers = match self.bound {
            Some(bound) => Cow::Owned(clipped(&self.headers, bound)),
            None => Cow::Borrowed(&self.headers),
        };
        for (name, value) in &*headers {
            let is_ours = *name == header::DATE || *name == header::ETAG || *name == header::AGE;
            let is_left_out = is_unmodified && !in_unmodified(name);
            if !is_ours && !is_left_out {
                answer = answer.field(name.as_str(), value.as_bytes());
            }
        }
        if coding != Coding::Identity && !is_unmodified {
            answer = answer.field("content-encoding", coding.label());
        }
        if let Some(etag) = self.headers.get(header::ETAG).and_then(|tag| tag_for(tag, coding)) {
            answer = answer.etag(etag);
        }
        answer = with_status(answer);
        match form {
            Form::Whole(body) => answer.body(body.clone()).build(),
            Form::Unmodified => answer.build(),
        }
    }
}

/// Adds what every answer from the cache has: how old it is, and the distance to the end of its
/// freshness (RFC 9211).
pub(super) fn with_status(answer: AnswerBuilder) -> AnswerBuilder {
    let answer = answer.slot("age", SlotKind::Age);
    answer.slot_in("cache-status", b"penstock; hit; ttl=", SlotKind::Ttl, b"")
}

/// Identity always exists: a page is only made with it.
fn none() -> &'static Arc<Answer> {
    static NONE: OnceLock<Arc<Answer>> = OnceLock::new();
    NONE.get_or_init(|| AnswerBuilder::new(StatusCode::INTERNAL_SERVER_ERROR).build())
}

/// The variants of an answer that are fixed text, as opposed to slots.
#[derive(Clone, Copy)]
enum Form<'a> {
    Whole(&'a Bytes),
    Unmodified,
}

/// The tag of one coding of a page. Only the bytes of the shop deserve its strong tag.
fn tag_for(tag: &HeaderValue, coding: Coding) -> Option<HeaderValue> {
    if coding == Coding::Identity {
        return Some(tag.clone());
    }
    let opaque = tag.as_bytes().strip_prefix(b"W/").unwrap_or(tag.as_bytes());
    let inner = opaque.strip_suffix(b"\"")?;
    let tag = [b"W/", inner, b"-", coding.label().as_bytes(), b"\""].concat();
    HeaderValue::from_bytes(&tag).ok()
}

/// The fields of a shop's answer that are kept and relayed: those that describe the content, its
/// freshness and how a browser may use it. `vary` gets what decides between our codings and cities;
/// where the shop sent no `date`, the time of its arrival. Values are copies: those of the shop's
/// answer are pieces of the buffer that it was read into.
pub fn kept_headers(headers: &HeaderMap, vary: &str, wall: UnixMs) -> HeaderMap {
    let mut kept = HeaderMap::with_capacity(headers.len());
    for (name, value) in headers {
        let text = name.as_str();
        let is_kept = KEPT.contains(&text) || KEPT_PREFIXES.iter().any(|p| text.starts_with(p));
        let is_ours = *name == header::CONTENT_LENGTH || *name == header::CONTENT_RANGE;
        if is_kept
            && !is_ours
            && let Ok(copy) = HeaderValue::from_bytes(value.as_bytes())
        {
            kept.append(name, copy);
        }
    }
    if !kept.contains_key(header::DATE) {
        let date = crate::answer::imf_fixdate(wall);
        if let Ok(date) = HeaderValue::from_bytes(&date) {
            kept.insert(header::DATE, date);
        }
    }
    if headers.get(header::CONTENT_ENCODING).is_some_and(|v| v == "identity") {
        kept.remove(header::CONTENT_ENCODING);
    }
    if let Ok(vary) = HeaderValue::from_str(vary) {
        kept.append(header::VARY, vary);
    }
    kept
}

/// Fields that a 304 repeats (RFC 9110 15.4.5).
pub fn in_unmodified(name: &HeaderName) -> bool {
    [header::CACHE_CONTROL, header::CONTENT_LOCATION, header::EXPIRES, header::VARY].contains(name)
        || *name == "cdn-cache-control"
}

const KEPT: &[&str] = &[
    "accept-ranges",
    "age",
    "alt-svc",
    "cache-control",
    "cdn-cache-control",
    "date",
    "etag",
    "expires",
    "last-modified",
    "link",
    "location",
    "origin-agent-cluster",
    "permissions-policy",
    "pragma",
    "referrer-policy",
    "retry-after",
    "server",
    "strict-transport-security",
    "timing-allow-origin",
    "vary",
    "x-content-type-options",
    "x-dns-prefetch-control",
    "x-frame-options",
    "x-robots-tag",
    "x-ua-compatible",
    "x-xss-protection",
];
const KEPT_PREFIXES: &[&str] = &["access-control-", "content-", "cross-origin-"];

/// What a tag costs beside its text, in bytes: the pointers of the page and of the index to it, and a
/// place in the index of its own.
const TAG_BYTES: usize = 128;

/// Bodies up to this size are hashed on the worker: about 20 µs.
const HASH_ON_WORKER_BYTES_MAX: usize = 16 * 1024;

#[cfg(test)]
mod tests;
