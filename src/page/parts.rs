//! Answers that are parts of a stored page: one, several, or none that is there (RFC 9110 14, 15.3.7,
//! 15.5.17). They are made for the client that asks: who asks for parts does not ask in crowds.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};

use super::entry::{Entry, with_status};
use super::policy::range::{Resolved, Span, Spec, content_range, resolve};
use crate::answer::{Answer, AnswerBuilder};

/// What a client gets that may ask for ranges.
pub enum Part {
    /// The page as it is.
    Whole,
    /// A part of it, or the word that there is no such part.
    Made(Arc<Answer>),
}

/// The part of the whole that a 206 with these fields has.
pub fn of(headers: &HeaderMap) -> Option<(Span, u64)> {
    content_range(headers.get(header::CONTENT_RANGE)?.as_bytes())
}

/// The parts of `entry` that `specs` ask for; `None` where they are not stored, or where the whole is
/// wanted of which only a part is.
pub fn answer(entry: &Entry, specs: Option<&[Spec]>) -> Option<Part> {
    let body = entry.body();
    let (held, total) = match entry.part() {
        Some(part) => part,
        None if body.is_empty() => return Some(Part::Whole),
        None => (Span { first: 0, last: body.len() as u64 - 1 }, body.len() as u64),
    };
    let is_whole = entry.part().is_none();
    let Some(specs) = specs else { return is_whole.then_some(Part::Whole) };
    let spans = match resolve(specs, total) {
        Resolved::Whole => return is_whole.then_some(Part::Whole),
        Resolved::Unsatisfiable => {
            let builder = begin(entry, StatusCode::RANGE_NOT_SATISFIABLE, &[]);
            let range = format!("bytes */{total}");
            return Some(Part::Made(builder.field("content-range", range).build()));
        }
        Resolved::Parts(spans) => spans,
    };
    let slices: Option<Vec<Bytes>> = spans.iter().map(|span| slice(&body, held, *span)).collect();
    let slices = slices?;
    let partial = StatusCode::PARTIAL_CONTENT;
    Some(Part::Made(match (spans.as_slice(), slices.as_slice()) {
        ([span], [slice]) => begin(entry, partial, &[])
            .field("content-range", range_text(*span, total))
            .body(slice.clone())
            .build(),
        _ => several(entry, &spans, &slices, total),
    }))
}

/// The bytes of `span` out of a body that holds `held`.
fn slice(body: &Bytes, held: Span, span: Span) -> Option<Bytes> {
    let is_there = held.first <= span.first && span.last <= held.last;
    let first = usize::try_from(span.first.checked_sub(held.first)?).ok()?;
    let end = first.checked_add(usize::try_from(span.length()).ok()?)?;
    (is_there && end <= body.len()).then(|| body.slice(first..end))
}

/// RFC 9110 14.6.
fn several(entry: &Entry, spans: &[Span], slices: &[Bytes], total: u64) -> Arc<Answer> {
    // A boundary that nobody can have put into the page: it is made of the page.
    let boundary = blake3::hash(&entry.body()).to_hex();
    let boundary = &boundary[..32];
    let kind = entry.field(&header::CONTENT_TYPE);
    let mut body = Vec::with_capacity(slices.iter().map(|s| s.len() + PART_BYTES).sum());
    for (span, slice) in spans.iter().zip(slices) {
        body.extend_from_slice(format!("\r\n--{boundary}\r\n").as_bytes());
        if let Some(kind) = &kind {
            body.extend_from_slice(&[b"content-type: ", kind.as_bytes(), b"\r\n"].concat());
        }
        let range = range_text(*span, total);
        body.extend_from_slice(format!("content-range: {range}\r\n\r\n").as_bytes());
        body.extend_from_slice(slice);
    }
    body.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    let kind = format!("multipart/byteranges; boundary={boundary}");
    begin(entry, StatusCode::PARTIAL_CONTENT, &["content-type"])
        .field("content-type", kind)
        .body(body.into())
        .build()
}

fn range_text(span: Span, total: u64) -> String {
    format!("bytes {}-{}/{total}", span.first, span.last)
}

/// The head of an answer with the stored fields but `without`.
fn begin(entry: &Entry, status: StatusCode, without: &[&str]) -> AnswerBuilder {
    let fields = entry.sent();
    let mut builder = match fields.get(header::DATE) {
        Some(date) => AnswerBuilder::dated(status, date.as_bytes()),
        None => AnswerBuilder::new(status),
    };
    let is_error = status == StatusCode::RANGE_NOT_SATISFIABLE;
    if is_error {
        // Or a cache in front, to which all ranges are one URL, keeps it for everybody.
        builder = builder.field("cache-control", "no-store");
    }
    for (name, value) in &fields {
        let name = name.as_str();
        let is_ours = ["date", "age", "content-range"].contains(&name) || without.contains(&name);
        // An error says nothing about a representation.
        let is_left_out =
            is_error && (name.starts_with("content-") || OF_A_REPRESENTATION.contains(&name));
        if !is_ours && !is_left_out {
            builder = builder.field(name, value.as_bytes());
        }
    }
    with_status(builder)
}

/// What is said of a page and of no error.
const OF_A_REPRESENTATION: [&str; 6] =
    ["cache-control", "cdn-cache-control", "etag", "expires", "last-modified", "pragma"];

/// What the head of one of several parts takes at most.
const PART_BYTES: usize = 160;
