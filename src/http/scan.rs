//! Where a name, a target or a value ends, found sixteen bytes at a time: the hottest loops of the
//! reader.
//!
//! Each looks at a block for bytes that are surely allowed; only the others are looked up one by one.

use wide::u8x16;

use super::reader::{is_target, is_token};

/// Position of the first byte that may not stand in a method or field name, and whether a `_` stands
/// before it.
pub(super) fn token_end(bytes: &[u8]) -> (Option<usize>, bool) {
    let mut underscore = false;
    let sure = |block| letters(block) | between(block, b'0', b'9') | is(block, b'-');
    let end = end(
        bytes,
        |block| !sure(block),
        |byte| {
            underscore |= byte == b'_';
            is_token(byte)
        },
    );
    (end, underscore)
}

/// Position of the first byte that may not stand in a request target.
pub(super) fn target_end(bytes: &[u8]) -> Option<usize> {
    let visible = |block| between(block, 0x21, 0x7e);
    let refused = |block| {
        is(block, b'"')
            | is(block, b'#')
            | is(block, b'<')
            | is(block, b'>')
            | is(block, b'\\')
            | is(block, b'`')
    };
    end(bytes, |block| refused(block) | !visible(block), is_target)
}

/// The controls of a text one after the other: all bytes that may not stand in a field value, and the
/// tab. Each block is looked at once, however many lines end in it.
#[derive(Debug)]
pub(super) struct Controls<'b> {
    bytes: &'b [u8],
    /// Where the block begins whose controls are in `found`, and where the next one does.
    at: usize,
    next: usize,
    found: u64,
}

impl<'b> Controls<'b> {
    /// Those from `at` on.
    pub(super) fn behind(bytes: &'b [u8], at: usize) -> Controls<'b> {
        Controls { bytes, at, next: at, found: 0 }
    }

    /// Position of the next one.
    #[inline]
    pub(super) fn next(&mut self) -> Option<usize> {
        while self.found == 0 {
            let rest = &self.bytes[self.next..];
            (self.at, self.next) = (self.next, self.next + rest.len().min(64));
            self.found = match rest.first_chunk::<64>() {
                Some(block) => controls(block),
                None if rest.is_empty() => return None,
                None => {
                    let mut block = [b' '; 64];
                    block[..rest.len()].copy_from_slice(rest);
                    controls(&block)
                }
            };
        }
        let found = self.at + self.found.trailing_zeros() as usize;
        self.found &= self.found - 1;
        Some(found)
    }
}

/// A bit for each control in a block.
fn controls(block: &[u8; 64]) -> u64 {
    let (pieces, _) = block.as_chunks::<16>();
    pieces.iter().rev().fold(0, |found, piece| {
        let piece = u8x16::new(*piece);
        let is_control = between(piece, 0, 0x1f) | is(piece, 0x7f);
        found << 16 | u64::from(is_control.to_bitmask())
    })
}

/// Whether two names are the same but for the case of their letters.
#[inline]
pub(super) fn same(one: &[u8], other: &[u8]) -> bool {
    if one.len() != other.len() {
        return false;
    }
    let (ones, rest) = one.as_chunks::<8>();
    let (others, other_rest) = other.as_chunks::<8>();
    let is_same = |(one, other): (&[u8; 8], &[u8; 8])| {
        let one = u64::from_le_bytes(*one);
        let apart = one ^ u64::from_le_bytes(*other);
        // One bit tells the cases of a letter apart; nothing else may differ, and only in letters.
        apart == 0 || apart & !(ONES * 0x20) == 0 && (apart << 2) & !letters_of(one) == 0
    };
    ones.iter().zip(others).all(is_same)
        && rest.iter().zip(other_rest).all(|(one, other)| one.eq_ignore_ascii_case(other))
}

/// The highest bit of each byte that is a letter.
fn letters_of(word: u64) -> u64 {
    let lower = word | (ONES * 0x20);
    let at_least = |byte: u8| (lower & !HIGH) + ONES * u64::from(0x80 - byte);
    at_least(b'a') & !at_least(b'z' + 1) & !word & HIGH
}

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

/// Position of the first `byte`.
pub(super) fn position(bytes: &[u8], byte: u8) -> Option<usize> {
    end(bytes, |block| is(block, byte), |other| other != byte)
}

/// Position of the first byte that `allows` refuses. `doubtful` has all bits set in each byte that is
/// not surely allowed.
#[inline(always)]
fn end(
    bytes: &[u8],
    doubtful: impl Fn(u8x16) -> u8x16,
    mut allows: impl FnMut(u8) -> bool,
) -> Option<usize> {
    let mut at = 0;
    while let Some(block) = bytes[at..].first_chunk::<16>() {
        let doubt = doubtful(u8x16::new(*block)).to_bitmask();
        if doubt == 0 {
            at += 16;
            continue;
        }
        let first = doubt.trailing_zeros() as usize;
        at += first;
        if !allows(block[first % 16]) {
            return Some(at);
        }
        at += 1;
    }
    bytes[at..].iter().position(|byte| !allows(*byte)).map(|found| at + found)
}

fn letters(block: u8x16) -> u8x16 {
    // The bit that tells lower case from upper makes no other byte a letter.
    between(block | u8x16::splat(0x20), b'a', b'z')
}

fn between(block: u8x16, low: u8, high: u8) -> u8x16 {
    let above = block - u8x16::splat(low);
    above.min(u8x16::splat(high - low)).simd_eq(above)
}

fn is(block: u8x16, byte: u8) -> u8x16 {
    block.simd_eq(u8x16::splat(byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::reader::is_value;

    /// Every byte at every place of a word, among others that are allowed.
    fn everywhere(check: impl Fn(&[u8])) {
        for around in *b"aZ9-" {
            for byte in 0..=255u8 {
                for at in 0..37 {
                    let mut bytes = [around; 37];
                    bytes[at] = byte;
                    check(&bytes);
                    // Another that is not allowed behind it must not hide it, nor one before.
                    bytes[36 - at] = 0xff - byte;
                    check(&bytes);
                }
            }
        }
    }

    #[test]
    fn all_find_what_a_look_at_each_byte_finds() {
        everywhere(|bytes| {
            let (end, underscore) = token_end(bytes);
            assert_eq!(end, bytes.iter().position(|b| !is_token(*b)), "{bytes:?}");
            let token = &bytes[..end.unwrap_or(bytes.len())];
            assert_eq!(underscore, token.contains(&b'_'), "{bytes:?}");
            let slow = bytes.iter().position(|b| !is_target(*b));
            assert_eq!(target_end(bytes), slow, "{bytes:?}");
            let mut controls = Controls::behind(bytes, 3);
            let slow = (3..bytes.len()).filter(|at| bytes[*at] == b'\t' || !is_value(bytes[*at]));
            let slow = slow.map(Some).chain([None]);
            assert!(slow.into_iter().all(|at| controls.next() == at), "{bytes:?}");
            assert_eq!(position(bytes, 7), bytes.iter().position(|b| *b == 7), "{bytes:?}");
        });
    }

    #[test]
    fn names_are_the_same_in_any_case() {
        for text in ["a", "host", "accept-encoding", "If-None-Match", "x-forwarded-for-somebody"] {
            for at in 0..text.len() {
                for byte in 0..=255u8 {
                    let mut other = text.as_bytes().to_vec();
                    other[at] = byte;
                    let is_same = text.as_bytes().eq_ignore_ascii_case(&other);
                    assert_eq!(same(text.as_bytes(), &other), is_same, "{text} {other:?}");
                }
            }
            assert!(!same(text.as_bytes(), &text.as_bytes()[1..]));
        }
    }
}
