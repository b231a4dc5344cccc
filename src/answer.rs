//! A ready-made answer: bytes prepared once, a few fixed-width slots patched in for each request.
//!
//! Slots have a fixed width and stand in the head or the body; numbers are padded with spaces on the
//! right, never with zeros, so that the length of an answer never changes (DESIGN section 3). An
//! optional field that appears is another ready variant, not a slot. The `ETag` ignores the slots.
//!
//! There is one type and there are two writers: [`Answer::write_h1`] for the HTTP/1.1 driver's hot
//! path and [`Answer::response`] for hyper.

mod fields;
pub mod heap;
mod local;

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, StatusCode};

use crate::clock::{Now, UnixMs};
use crate::ident::RequestId;

use fields::Fields;

pub use local::Local;

/// What a slot shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotKind {
    /// IMF-fixdate of the wall clock, 29 bytes.
    Date,
    /// Seconds, [`Fill::age_s`], 10 bytes.
    Age,
    /// Seconds, [`Fill::max_age_s`], 11 bytes: the rest of a page's freshness. A `-` goes before it
    /// where the page is stale.
    Ttl,
    /// Seconds, [`Fill::retry_after_ms`] rounded up, 10 bytes.
    RetryAfter,
    /// Milliseconds, [`Fill::retry_after_ms`], 10 bytes.
    RetryAfterMs,
    /// Unix milliseconds of the ledger's clock, 13 bytes.
    ServerTime,
    /// Milliseconds, [`Fill::age_ms`], 10 bytes.
    AgeMs,
    /// The request id, 16 hexadecimal digits.
    RequestId,
}

impl SlotKind {
    /// Bytes that the slot occupies.
    pub const fn width(self) -> usize {
        match self {
            SlotKind::Date => 29,
            SlotKind::ServerTime => 13,
            SlotKind::RequestId => 16,
            SlotKind::Ttl => 11,
            _ => 10,
        }
    }
}

/// Where a slot stands: an offset into the head or into the body.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    /// What it shows.
    pub kind: SlotKind,
    /// Byte offset of its first byte.
    pub at: usize,
}

/// What one request fills the slots with.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fill {
    /// The request's reading of the clocks.
    pub now: Now,
    /// `Age`.
    pub age_s: u32,
    /// How far the end of a page's freshness is.
    pub max_age_s: u32,
    /// Whether that end is past.
    pub is_stale: bool,
    /// The advised wait.
    pub retry_after_ms: u32,
    /// Time since the store was last heard.
    pub age_ms: u32,
    /// The request's id.
    pub request: RequestId,
}

/// A ready-made answer. Build one with [`AnswerBuilder`].
#[derive(Debug)]
pub struct Answer {
    status: StatusCode,
    /// The whole head as HTTP/1.1 writes it, status line and empty line included; holds
    /// `content-length`, never `connection`.
    head: Box<[u8]>,
    head_slots: Box<[Slot]>,
    body: Bytes,
    body_slots: Box<[Slot]>,
    /// Where the entity tag stands in the head.
    etag: Option<Range<u32>>,
}

impl Answer {
    /// The status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The entity tag, which ignores the slots.
    pub fn etag(&self) -> Option<&[u8]> {
        let Range { start, end } = self.etag.as_ref()?;
        self.head.get(*start as usize..*end as usize)
    }

    /// Length of the body in bytes.
    pub fn body_len(&self) -> usize {
        self.body.len()
    }

    /// Bytes that it takes on the heap, itself and its body included.
    pub fn weight(&self) -> usize {
        let slots = |slots: &[Slot]| heap::block(size_of_val(slots));
        heap::shared(size_of::<Answer>())
            + heap::block(self.head.len())
            + slots(&self.head_slots)
            + slots(&self.body_slots)
            + heap::bytes(self.body.len())
    }

    /// Appends the HTTP/1.1 message to `out`: status line, fields, `connection: close` if `close`,
    /// and the body unless `head_only`.
    pub fn write_h1(&self, fill: &Fill, head_only: bool, close: bool, out: &mut Vec<u8>) {
        self.write_h1_head(fill, close, out);
        if !head_only {
            self.write_body(fill, out);
        }
    }

    /// Appends status line and fields, with the empty line that ends them.
    pub fn write_h1_head(&self, fill: &Fill, close: bool, out: &mut Vec<u8>) {
        append(&self.head, &self.head_slots, fill, out);
        if close {
            // In front of the empty line that ends the head.
            out.truncate(out.len() - 2);
            out.extend_from_slice(b"connection: close\r\n\r\n");
        }
    }

    /// Appends the body with its slots filled.
    pub fn write_body(&self, fill: &Fill, out: &mut Vec<u8>) {
        append(&self.body, &self.body_slots, fill, out);
    }

    /// The body without copying it, where it has no slots.
    pub fn shared_body(&self) -> Option<&Bytes> {
        self.body_slots.is_empty().then_some(&self.body)
    }

    /// The same answer as a message for hyper, body included (hyper drops it for HEAD).
    pub fn response(&self, fill: &Fill) -> http::Response<Bytes> {
        self.response_with(&self.fields(), fill)
    }

    fn fields(&self) -> Fields {
        Fields::of(&self.head, &self.head_slots)
    }

    fn response_with(&self, fields: &Fields, fill: &Fill) -> http::Response<Bytes> {
        let mut response = http::Response::new(match self.shared_body() {
            Some(body) => body.clone(),
            None => {
                let mut body = Vec::with_capacity(self.body.len());
                self.write_body(fill, &mut body);
                body.into()
            }
        });
        *response.status_mut() = self.status;
        *response.headers_mut() = fields.fill(fill);
        response
    }
}

/// Puts an [`Answer`] together. Every answer gets `date` and, where the status allows a body,
/// `content-length`.
#[derive(Debug)]
pub struct AnswerBuilder {
    status: StatusCode,
    head: Vec<u8>,
    head_slots: Vec<Slot>,
    body: Bytes,
    body_slots: Vec<Slot>,
    etag: Option<Range<u32>>,
    length: Option<usize>,
}

impl AnswerBuilder {
    /// An answer of `status`, with its `date`.
    pub fn new(status: StatusCode) -> AnswerBuilder {
        AnswerBuilder::undated(status).slot("date", SlotKind::Date)
    }

    /// An answer of `status` made by someone else, with the `date` at which it was made: a cache
    /// never changes it (RFC 9110 6.6.1).
    pub fn dated(status: StatusCode, date: impl AsRef<[u8]>) -> AnswerBuilder {
        AnswerBuilder::undated(status).field("date", date)
    }

    fn undated(status: StatusCode) -> AnswerBuilder {
        let mut head = Vec::with_capacity(256);
        head.extend_from_slice(b"HTTP/1.1 ");
        head.extend_from_slice(status.as_str().as_bytes());
        head.push(b' ');
        head.extend_from_slice(status.canonical_reason().unwrap_or("Unknown").as_bytes());
        head.extend_from_slice(b"\r\n");
        AnswerBuilder {
            status,
            head,
            head_slots: Vec::new(),
            body: Bytes::new(),
            body_slots: Vec::new(),
            etag: None,
            length: None,
        }
    }

    /// Adds a field. Names are written in lower case; a value that could split the head is refused
    /// by leaving the field out.
    pub fn field(mut self, name: &str, value: impl AsRef<[u8]>) -> AnswerBuilder {
        let value = value.as_ref();
        if HeaderValue::from_bytes(value).is_ok() {
            self.name(name);
            self.head.extend_from_slice(value);
            self.head.extend_from_slice(b"\r\n");
        }
        self
    }

    /// Adds a field whose value is one slot.
    pub fn slot(self, name: &str, kind: SlotKind) -> AnswerBuilder {
        self.slot_in(name, b"", kind, b"")
    }

    /// Adds a field whose value has one slot between two fixed parts.
    pub fn slot_in(mut self, name: &str, before: &[u8], kind: SlotKind, after: &[u8]) -> Self {
        self.name(name);
        self.head.extend_from_slice(before);
        self.head_slots.push(Slot { kind, at: self.head.len() });
        self.head.extend(std::iter::repeat_n(b' ', kind.width()));
        self.head.extend_from_slice(after);
        self.head.extend_from_slice(b"\r\n");
        self
    }

    /// Adds an `etag` field and remembers it for conditional requests.
    pub fn etag(self, etag: HeaderValue) -> AnswerBuilder {
        let mut this = self.field("etag", etag.as_bytes());
        let end = this.head.len() - "\r\n".len();
        let place = |at: usize| u32::try_from(at).ok();
        this.etag = place(end - etag.len()).zip(place(end)).map(|(start, end)| start..end);
        this
    }

    /// Sets a body without slots.
    pub fn body(mut self, body: Bytes) -> AnswerBuilder {
        self.body = body;
        self.body_slots.clear();
        self
    }

    /// Sets a body with slots; each slot's bytes are overwritten when it is filled.
    pub fn body_with_slots(mut self, body: Vec<u8>, slots: Vec<Slot>) -> AnswerBuilder {
        debug_assert!(slots.iter().all(|s| s.at + s.kind.width() <= body.len()));
        self.body = body.into();
        self.body_slots = slots;
        self
    }

    /// States a `content-length` that is not the body's, as a 304 may.
    pub fn stated_length(mut self, length: usize) -> AnswerBuilder {
        self.length = Some(length);
        self
    }

    /// The finished answer.
    pub fn build(mut self) -> Arc<Answer> {
        let bodiless = self.status == StatusCode::NO_CONTENT
            || self.status == StatusCode::NOT_MODIFIED
            || self.status.is_informational();
        let length = if bodiless { self.length } else { Some(self.body.len()) };
        if let Some(length) = length {
            self = self.field("content-length", length.to_string());
        }
        self.head.extend_from_slice(b"\r\n");
        Arc::new(Answer {
            status: self.status,
            head: self.head.into(),
            head_slots: self.head_slots.into(),
            body: if bodiless { Bytes::new() } else { self.body },
            body_slots: if bodiless { Box::default() } else { self.body_slots.into() },
            etag: self.etag,
        })
    }

    fn name(&mut self, name: &str) {
        self.head.extend(name.bytes().map(|b| b.to_ascii_lowercase()));
        self.head.extend_from_slice(b": ");
    }
}

/// Copies `bytes` to `out` and fills its slots.
fn append(bytes: &[u8], slots: &[Slot], fill: &Fill, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(bytes);
    for slot in slots {
        let at = start + slot.at;
        patch(slot.kind, fill, &mut out[at..at + slot.kind.width()]);
    }
}

// Not inlined: the compiler would move the work of every kind of slot in front of the loop, and do it
// for each answer whatever slots it has.
#[inline(never)]
fn patch(kind: SlotKind, fill: &Fill, out: &mut [u8]) {
    match kind {
        SlotKind::Date => out.copy_from_slice(&imf_fixdate(fill.now.wall)),
        SlotKind::Age => number(fill.age_s.into(), out),
        SlotKind::Ttl => {
            let (sign, digits) = out.split_at_mut(fill.is_stale.into());
            sign.fill(b'-');
            number(fill.max_age_s.into(), digits);
        }
        SlotKind::RetryAfter => number(fill.retry_after_ms.div_ceil(1000).into(), out),
        SlotKind::RetryAfterMs => number(fill.retry_after_ms.into(), out),
        SlotKind::ServerTime => out.copy_from_slice(&server_time(fill.now.ledger)),
        SlotKind::AgeMs => number(fill.age_ms.into(), out),
        SlotKind::RequestId => {
            for (pair, byte) in out.chunks_exact_mut(2).zip(fill.request.0) {
                pair[0] = HEX[usize::from(byte >> 4)];
                pair[1] = HEX[usize::from(byte & 15)];
            }
        }
    }
}

/// Writes `value` left-aligned, padded with spaces; a value too wide for the slot shows as nines.
fn number(value: u64, out: &mut [u8]) {
    let width = value.checked_ilog10().unwrap_or(0) as usize + 1;
    if width > out.len() {
        out.fill(b'9');
        return;
    }
    out.copy_from_slice(&[b' '; 32][..out.len()]);
    let digits = &mut out[..width];
    let mut rest = value;
    // Two digits for one division.
    let mut pairs = digits.rchunks_exact_mut(2);
    for pair in &mut pairs {
        let two = (rest % 100) as u8;
        rest /= 100;
        (pair[0], pair[1]) = (b'0' + two / 10, b'0' + two % 10);
    }
    if let [first] = pairs.into_remainder() {
        *first = b'0' + rest as u8;
    }
}

/// The ledger's clock, formatted once per millisecond and thread.
fn server_time(ledger: UnixMs) -> [u8; 13] {
    thread_local! {
        static LAST: std::cell::Cell<(u64, [u8; 13])> = const { std::cell::Cell::new((u64::MAX, [b' '; 13])) };
    }
    let (ms, mut text) = LAST.get();
    if ms != ledger.0 {
        number(ledger.0, &mut text);
        LAST.set((ledger.0, text));
    }
    text
}

/// The wall clock as RFC 9110 section 5.6.7 writes it, formatted once per second and thread.
pub fn imf_fixdate(wall: UnixMs) -> [u8; 29] {
    thread_local! {
        static LAST: std::cell::Cell<(u64, [u8; 29])> = const { std::cell::Cell::new((u64::MAX, [b' '; 29])) };
    }
    let (secs, text) = LAST.get();
    if secs == wall.secs() {
        return text;
    }
    let formatted = httpdate::fmt_http_date(wall.system());
    let mut text = [b' '; 29];
    text.copy_from_slice(&formatted.as_bytes()[..29]);
    LAST.set((wall.secs(), text));
    text
}

const HEX: &[u8; 16] = b"0123456789abcdef";

#[cfg(test)]
pub(crate) mod tests;
