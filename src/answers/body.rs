//! JSON bodies with slots: members in a fixed order, numbers that each request patches in.

use serde::Serialize;

use super::Facts;
use super::words::Words;
use crate::answer::{Slot, SlotKind};
use crate::outcome::Reason;

/// JSON text under construction, and where its slots stand.
#[derive(Clone, Debug, Default)]
pub struct Json {
    bytes: Vec<u8>,
    slots: Vec<Slot>,
}

impl Json {
    /// Appends `text` as it is.
    pub fn raw(&mut self, text: &str) {
        self.bytes.extend_from_slice(text.as_bytes());
    }

    /// Appends `value`, encoded.
    pub fn value(&mut self, value: &impl Serialize) {
        // Only strings, numbers and booleans come here: they always encode.
        let encoded = serde_json::to_vec(value).unwrap_or_else(|_| b"null".to_vec());
        self.bytes.extend_from_slice(&encoded);
    }

    /// Appends a slot, blank until it is filled.
    pub fn slot(&mut self, kind: SlotKind) {
        self.slots.push(Slot { kind, at: self.bytes.len() });
        self.bytes.extend(std::iter::repeat_n(b' ', kind.width()));
    }

    /// Appends the request's id, a string.
    pub fn request_id(&mut self) {
        self.raw("\"");
        self.slot(SlotKind::RequestId);
        self.raw("\"");
    }

    /// Appends `other`, slots and all.
    pub fn append(&mut self, other: &Json) {
        let base = self.bytes.len();
        self.bytes.extend_from_slice(&other.bytes);
        self.slots.extend(other.slots.iter().map(|s| Slot { kind: s.kind, at: base + s.at }));
    }

    /// Text and slots.
    pub fn into_parts(self) -> (Vec<u8>, Vec<Slot>) {
        (self.bytes, self.slots)
    }

    /// Appends `,"name":value`.
    fn member(&mut self, name: &str, value: &impl Serialize) {
        self.raw(",\"");
        self.raw(name);
        self.raw("\":");
        self.value(value);
    }
}

/// The body of RFC 9457: its members, ours, and the request's id.
pub fn problem(type_base: &str, words: &Words, facts: &Facts<'_>) -> Json {
    let mut json = Json::default();
    json.raw("{\"type\":");
    json.value(&format!("{type_base}{}", words.reason.label()));
    json.member("title", &words.title);
    json.member("status", &words.status.as_u16());
    json.raw(",");
    members(&mut json, words, facts);
    json.raw(",\"request_id\":");
    json.request_id();
    json.raw("}");
    json
}

/// The `data` of an envelope.
pub fn data(json: &mut Json, words: &Words, facts: &Facts<'_>) {
    json.raw("{");
    members(json, words, facts);
    json.raw("}");
}

/// What both styles say: apps read bodies, not headers.
fn members(json: &mut Json, words: &Words, facts: &Facts<'_>) {
    let is_retryable = words.is_retryable(facts);
    // `insufficient` may succeed with fewer units; it is not worth a wait.
    let may_succeed = is_retryable || words.reason == Reason::Insufficient;
    json.raw("\"reason\":");
    json.value(&words.reason.label());
    json.member("retryable", &may_succeed);
    if is_retryable {
        json.raw(",\"retry_after_ms\":");
        json.slot(SlotKind::RetryAfterMs);
    }
    if let Some(opens_at) = facts.opens_at {
        json.member("opens_at_ms", &opens_at.0);
    }
    if let Some(is_final) = facts.is_final {
        json.member("final", &is_final);
    }
    if let Some(max_units) = facts.max_units {
        json.member("max_units", &max_units);
    }
    if let Some(pool) = facts.pool {
        json.member("pool", &pool);
    }
    if let Some(order) = facts.order {
        json.member("order", &order);
    }
    if let Some(detail) = facts.detail {
        json.member("detail", &detail);
    }
}
