//! The field section of a head (RFC 9112 5), and the few fields that the reader itself obeys.

use super::{Cursor, Part};
use crate::http::head::Field;
use crate::http::hop;
use crate::http::limits::Limits;
use crate::http::refusal::Refusal;

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
            let Some(field) = self.field(limits)? else { return Ok(None) };
            if !field.name.contains(&b'_') {
                special.note(&field)?;
                out.push(field);
            }
        }
        Ok(None)
    }

    fn field(&mut self, limits: &Limits) -> Part<Field<'b>> {
        let rest = &self.bytes[self.at..];
        let line = &rest[..rest.len().min(limits.field_bytes_max + 1)];
        let too_long = line.len() > limits.field_bytes_max;
        let cut = || if too_long { Err(Refusal::FieldTooLong) } else { Ok(None) };
        let Some(colon) = line.iter().position(|b| !is_token(*b)) else { return cut() };
        if line[colon] != b':' || colon == 0 {
            return Err(Refusal::FieldName);
        }
        let value = &line[colon + 1..];
        let Some(end) = value_end(value) else { return cut() };
        match value[end] {
            b'\r' => {}
            b'\n' => return Err(Refusal::BareLf),
            _ => return Err(Refusal::FieldValue),
        }
        self.at += colon + 1 + end + 1;
        if self.line_feed()?.is_none() {
            return Ok(None);
        }
        Ok(Some(Field { name: &line[..colon], value: trim(&value[..end]) }))
    }
}

impl<'b> Special<'b> {
    fn note(&mut self, field: &Field<'b>) -> Result<(), Refusal> {
        let is = |name: &str| field.name.eq_ignore_ascii_case(name.as_bytes());
        let (count, value) = match field.name.len() {
            4 if is("host") => (&mut self.hosts, &mut self.host),
            6 if is("expect") => (&mut self.expects, &mut self.expect),
            10 if is("connection") => return self.connection(field.value),
            14 if is("content-length") => (&mut self.lengths, &mut self.length),
            17 if is("transfer-encoding") => (&mut self.codings, &mut self.coding),
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

/// Position of the first byte that may not stand in a value. Eight bytes at a time: heads are mostly
/// values, and this is the hottest loop of the reader.
fn value_end(value: &[u8]) -> Option<usize> {
    let mut at = 0;
    for chunk in value.chunks_exact(8) {
        // The conversion cannot fail: chunks are 8 bytes long.
        let word = u64::from_le_bytes(chunk.try_into().unwrap_or_default());
        if has_control(word)
            && let Some(found) = chunk.iter().position(|b| !is_value(*b))
        {
            return Some(at + found);
        }
        at += 8;
    }
    value[at..].iter().position(|b| !is_value(*b)).map(|found| at + found)
}

/// Whether any byte of `word` is below 0x20 or is 0x7f.
fn has_control(word: u64) -> bool {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let below_space = word.wrapping_sub(ONES * 0x20) & !word & HIGH;
    let delete = word ^ (ONES * 0x7f);
    let is_delete = delete.wrapping_sub(ONES) & !delete & HIGH;
    (below_space | is_delete) != 0
}

/// Takes optional white space off: SP and HTAB only.
fn trim(mut value: &[u8]) -> &[u8] {
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
    fn eight_at_a_time_finds_what_one_at_a_time_finds() {
        for at in 0..24 {
            for byte in 0..=255u8 {
                let mut value = [b'a'; 24];
                value[at] = byte;
                let slow = value.iter().position(|b| !is_value(*b));
                assert_eq!(value_end(&value), slow, "{byte:#x} at {at}");
            }
        }
    }

    #[test]
    fn tokens_are_those_of_the_standard() {
        let others = b"!#$%&'*+-.^_`|~";
        for byte in 0..=255u8 {
            let token = byte.is_ascii_alphanumeric() || others.contains(&byte);
            assert_eq!(is_token(byte), token, "{byte:#x}");
        }
    }
}
