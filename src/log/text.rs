//! Text from outside as it may stand in a log: short, and harmless on a terminal.

use serde::{Serialize, Serializer};

/// At most 256 bytes of somebody's text. JSON escapes what is special to it; other
/// controls, which terminals obey, are replaced here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Text(Box<str>);

impl Text {
    /// Takes as much of `bytes` as there is room for; a cut text ends in `…`.
    pub fn new(bytes: impl AsRef<[u8]>) -> Text {
        let bytes = bytes.as_ref();
        let start = bytes.get(..TEXT_BYTES_MAX).unwrap_or(bytes);
        // What is plain is taken as it is.
        if start.len() == bytes.len()
            && start.iter().fold(true, |all, byte| all & (0x20..0x7f).contains(byte))
            && let Ok(text) = std::str::from_utf8(start)
        {
            return Text(text.into());
        }
        let mut text = String::with_capacity(start.len());
        for c in String::from_utf8_lossy(start).chars() {
            let is_harmful = c.is_control() && !c.is_ascii() || c == '\x7f' || is_reordering(c);
            let c = if is_harmful { char::REPLACEMENT_CHARACTER } else { c };
            if text.len() + c.len_utf8() > TEXT_BYTES_MAX {
                break;
            }
            text.push(c);
        }
        if start.len() < bytes.len() {
            while text.len() + ELLIPSIS.len() > TEXT_BYTES_MAX {
                text.pop();
            }
            text.push_str(ELLIPSIS);
        }
        Text(text.into_boxed_str())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// Characters that change the order in which others are shown, or end lines.
fn is_reordering(c: char) -> bool {
    matches!(c, '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Longest text of one field.
const TEXT_BYTES_MAX: usize = 256;
const ELLIPSIS: &str = "…";
