//! The fields of a stored page in one piece: as a map they take several times the room, and nobody
//! looks at them on a hit.

use http::header::{AsHeaderName, HeaderName};
use http::{HeaderMap, HeaderValue};

use crate::answer::heap;

/// Fields in their order, each a line as HTTP/1.1 writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packed(Box<[u8]>);

impl Packed {
    /// Packs `fields`.
    pub fn of(fields: &HeaderMap) -> Packed {
        let bytes = fields.iter().map(|(name, value)| name.as_str().len() + value.len() + 3).sum();
        let mut lines = Vec::with_capacity(bytes);
        for (name, value) in fields {
            lines.extend_from_slice(name.as_str().as_bytes());
            lines.push(b':');
            lines.extend_from_slice(value.as_bytes());
            lines.extend_from_slice(b"\r\n");
        }
        Packed(lines.into())
    }

    /// All of them.
    pub fn map(&self) -> HeaderMap {
        let mut fields = HeaderMap::new();
        for (name, value) in self.lines() {
            let pair = HeaderName::from_bytes(name).ok().zip(HeaderValue::from_bytes(value).ok());
            if let Some((name, value)) = pair {
                fields.append(name, value);
            }
        }
        fields
    }

    /// The first line of a field.
    pub fn get(&self, name: impl AsHeaderName + AsRef<str>) -> Option<HeaderValue> {
        let name = name.as_ref().as_bytes();
        let (_, value) = self.lines().find(|(said, _)| *said == name)?;
        HeaderValue::from_bytes(value).ok()
    }

    /// Bytes on the heap.
    pub fn weight(&self) -> usize {
        heap::block(self.0.len())
    }

    /// Names and values. No value has the end of a line in it.
    fn lines(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let lines = self.0.split_inclusive(|byte| *byte == b'\n');
        lines.filter_map(|line| {
            let line = line.strip_suffix(b"\r\n")?;
            let colon = line.iter().position(|byte| *byte == b':')?;
            Some((&line[..colon], &line[colon + 1..]))
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever a field says, it comes back in its place.
        #[test]
        fn what_is_packed_is_unpacked(
            lines in proptest::collection::vec(("[a-z][a-z0-9-]{0,8}", any::<Vec<u8>>()), 0..8)
        ) {
            let mut fields = HeaderMap::new();
            for (name, value) in &lines {
                if let Ok(value) = HeaderValue::from_bytes(value) {
                    fields.append(name.parse::<HeaderName>().unwrap(), value);
                }
            }
            let packed = Packed::of(&fields);
            prop_assert_eq!(packed.map(), fields.clone());
            for name in fields.keys() {
                prop_assert_eq!(packed.get(name), fields.get(name).cloned());
            }
        }
    }
}
