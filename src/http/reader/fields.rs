//! The field section of a head (RFC 9112 5), and the few fields that the reader itself obeys.

use super::{Cursor, Part};
use crate::http::head::{Field, mark};
use crate::http::hop;
use crate::http::limits::Limits;
use crate::http::refusal::Refusal;
use crate::http::scan::{Controls, same, token_end};

/// What was seen of the fields that say where a message ends and whom it is for.
#[derive(Debug, Default)]
pub(super) struct Special<'b> {
    pub hosts: usize,
    pub host: Option<&'b [u8]>,
    pub lengths: usize,
    pub length: Option<&'b [u8]>,
    pub codings: usize,
    pub coding: Option<&'b [u8]>,
    pub expects: usize,
    pub expect: Option<&'b [u8]>,
    pub close: bool,
    pub keep_alive: bool,
    /// The marks of all names.
    pub names: u64,
}

impl<'b> Cursor<'b> {
    /// All field lines with the empty line that ends them. Lines whose name has an underscore count
    /// and are checked like all, and are then left out: too many servers take `_` for `-`.
    pub(super) fn fields(
        &mut self,
        limits: &Limits,
        out: &mut Vec<Field<'b>>,
    ) -> Part<Special<'b>> {
        let mut special = Special::default();
        let mut controls = Controls::behind(self.bytes, self.at);
        for seen in 0.. {
            match self.peek() {
                None => return Ok(None),
                Some(b'\r') => {
                    self.at += 1;
                    return Ok(self.line_feed()?.map(|()| special));
                }
                Some(b'\n') => return Err(Refusal::BareLf),
                Some(b' ' | b'\t') => return Err(Refusal::Folded),
                Some(_) if seen == limits.fields_max => return Err(Refusal::TooManyFields),
                Some(_) => {}
            }
            let Some((field, underscore)) = self.field(limits, &mut controls)? else {
                return Ok(None);
            };
            if !underscore {
                special.note(&field)?;
                out.push(field);
            }
        }
        Ok(None)
    }

    /// A field line, and whether a `_` stands in its name. No control stands in a name, so that the next
    /// of `controls` is behind it.
    fn field(&mut self, limits: &Limits, controls: &mut Controls<'b>) -> Part<(Field<'b>, bool)> {
        let rest = &self.bytes[self.at..];
        let line = &rest[..rest.len().min(limits.field_bytes_max + 1)];
        let too_long = line.len() > limits.field_bytes_max;
        let cut = || if too_long { Err(Refusal::FieldTooLong) } else { Ok(None) };
        let (Some(colon), underscore) = token_end(line) else { return cut() };
        if line[colon] != b':' || colon == 0 {
            return Err(Refusal::FieldName);
        }
        let end = loop {
            match controls.next().map(|at| at - self.at) {
                Some(end) if end < line.len() => match line[end] {
                    b'\t' => {}
                    b'\r' => break end,
                    b'\n' => return Err(Refusal::BareLf),
                    _ => return Err(Refusal::FieldValue),
                },
                _ => return cut(),
            }
        };
        self.at += end + 1;
        if self.line_feed()?.is_none() {
            return Ok(None);
        }
        // The line feed.
        controls.next();
        Ok(Some((Field { name: &line[..colon], value: trim(&line[colon + 1..end]) }, underscore)))
    }
}

impl<'b> Special<'b> {
    fn note(&mut self, field: &Field<'b>) -> Result<(), Refusal> {
        self.names |= mark(field.name);
        let is = |name: &str| same(field.name, name.as_bytes());
        let first = field.name.first().map_or(0, u8::to_ascii_lowercase);
        let (count, value) = match (field.name.len(), first) {
            (4, b'h') if is("host") => (&mut self.hosts, &mut self.host),
            (6, b'e') if is("expect") => (&mut self.expects, &mut self.expect),
            (10, b'c') if is("connection") => return self.connection(field.value),
            (14, b'c') if is("content-length") => (&mut self.lengths, &mut self.length),
            (17, b't') if is("transfer-encoding") => (&mut self.codings, &mut self.coding),
            _ => return Ok(()),
        };
        *count += 1;
        *value = Some(field.value);
        Ok(())
    }

    /// A name in Connection makes a field hop-by-hop; a client that names an end-to-end field would
    /// have a proxy delete it, `X-Forwarded-For` for example.
    fn connection(&mut self, value: &[u8]) -> Result<(), Refusal> {
        for option in value.split(|b| *b == b',').map(<[u8]>::trim_ascii) {
            if option.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if option.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else if hop::is_end_to_end(option) {
                return Err(Refusal::ConnectionNames);
            }
        }
        Ok(())
    }
}

/// Takes optional white space off: SP and HTAB only.
fn trim(mut value: &[u8]) -> &[u8] {
    // What nearly every line has: one space in front.
    if let [b' ', rest @ ..] = value
        && let ([first, ..], [.., last]) = (rest, rest)
        && *first > b' '
        && *last > b' '
    {
        return rest;
    }
    while let [b' ' | b'\t', rest @ ..] = value {
        value = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// Whether `byte` may stand in a method or field name (RFC 9110 5.6.2).
pub fn is_token(byte: u8) -> bool {
    TOKEN[usize::from(byte)]
}

/// Whether `byte` may stand in a field value: visible, space, tab, or above ASCII.
pub fn is_value(byte: u8) -> bool {
    byte == b'\t' || (byte >= 0x20 && byte != 0x7f)
}

const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0x21u8;
    while byte < 0x7f {
        let separator = matches!(
            byte,
            b'(' | b')'
                | b'<'
                | b'>'
                | b'@'
                | b','
                | b';'
                | b':'
                | b'\\'
                | b'"'
                | b'/'
                | b'['
                | b']'
                | b'?'
                | b'='
                | b'{'
                | b'}'
        );
        table[byte as usize] = !separator;
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_those_of_the_standard() {
        let others = b"!#$%&'*+-.^_`|~";
        for byte in 0..=255u8 {
            let token = byte.is_ascii_alphanumeric() || others.contains(&byte);
            assert_eq!(is_token(byte), token, "{byte:#x}");
        }
    }
}
