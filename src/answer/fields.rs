//! The fields of an answer as hyper takes them, taken out of its head once: a request copies them and
//! fills in what changes.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::{Fill, Slot, append};

/// Fields, those with slots apart.
#[derive(Debug, Default)]
pub(super) struct Fields {
    map: HeaderMap,
    /// In `map` they have a value that is replaced.
    filled: Vec<Filled>,
}

/// A field whose value has slots.
#[derive(Debug)]
struct Filled {
    name: HeaderName,
    value: Vec<u8>,
    /// Their places in the value.
    slots: Vec<Slot>,
    /// Whether another field of that name stands before it.
    is_another: bool,
}

impl Fields {
    /// Takes a head apart that [`super::AnswerBuilder`] wrote.
    pub(super) fn of(head: &[u8], slots: &[Slot]) -> Fields {
        let mut fields = Fields::default();
        let mut at = 0;
        for line in head.split_inclusive(|byte| *byte == b'\n') {
            let (begin, text) = (at, line.strip_suffix(b"\r\n").unwrap_or(line));
            at += line.len();
            // The status line has none.
            let Some(colon) = text.iter().position(|byte| *byte == b':') else { continue };
            let Ok(name) = HeaderName::from_bytes(&text[..colon]) else { continue };
            let value = &text[colon + 1..];
            let starts = begin + colon + 1;
            let within = slots.iter().filter(|slot| (starts..at).contains(&slot.at));
            let slots: Vec<Slot> =
                within.map(|slot| Slot { kind: slot.kind, at: slot.at - starts }).collect();
            let Ok(written) = HeaderValue::from_bytes(value.trim_ascii()) else { continue };
            if slots.is_empty() {
                fields.map.append(name, written);
                continue;
            }
            let is_another = fields.map.contains_key(&name);
            if !is_another {
                fields.map.append(name.clone(), written);
            }
            fields.filled.push(Filled { name, value: value.to_vec(), slots, is_another });
        }
        fields
    }

    /// All of them for one request.
    pub(super) fn fill(&self, fill: &Fill) -> HeaderMap {
        let mut map = self.map.clone();
        let mut text = Vec::with_capacity(64);
        for Filled { name, value, slots, is_another } in &self.filled {
            text.clear();
            append(value, slots, fill, &mut text);
            if let Ok(value) = HeaderValue::from_bytes(text.trim_ascii()) {
                if *is_another {
                    map.append(name, value);
                } else {
                    map.insert(name, value);
                }
            }
        }
        map
    }
}
