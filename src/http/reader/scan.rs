//! Where a name, a target or a value ends, found eight bytes at a time: the hottest loops of the
//! reader.
//!
//! Each looks at a word for bytes that are surely allowed; only the others are looked up one by one.
//! (H. S. Warren, *Hacker's Delight*, chapter 6: searching words.)

use super::fields::{is_token, is_value};
use super::target;

/// Position of the first byte that may not stand in a method or field name, and whether a `_` stands
/// before it.
pub(super) fn token_end(bytes: &[u8]) -> (Option<usize>, bool) {
    let mut underscore = false;
    let sure = |word| letters(word) | between(word, b'0', b'9') | between(word, b'-', b'-');
    let end = end(bytes, sure, |byte| {
        underscore |= byte == b'_';
        is_token(byte)
    });
    (end, underscore)
}

/// Position of the first byte that may not stand in a request target.
pub(super) fn target_end(bytes: &[u8]) -> Option<usize> {
    // Between `-` and `;` are `.`, `/`, the digits and `:`.
    end(bytes, |word| letters(word) | between(word, b'-', b';'), target::allows)
}

/// Position of the first byte that may not stand in a field value.
pub(super) fn value_end(bytes: &[u8]) -> Option<usize> {
    let sure = |word: u64| {
        let below_space = word.wrapping_sub(ONES * 0x20) & !word;
        let delete = word ^ (ONES * 0x7f);
        let is_delete = delete.wrapping_sub(ONES) & !delete;
        !(below_space | is_delete)
    };
    // Values are long: most of one is looked through in blocks that the processor compares at once.
    let mut at = 0;
    while let Some(block) = bytes[at..].first_chunk::<16>() {
        let is_sure = |byte: &u8| *byte >= 0x20 && *byte != 0x7f;
        if !block.iter().fold(true, |all, byte| all & is_sure(byte)) {
            break;
        }
        at += 16;
    }
    end(&bytes[at..], sure, is_value).map(|found| at + found)
}

/// Position of the first byte that `allows` refuses. `sure` sets the highest bit of each byte that is
/// allowed for sure; it has to be right up to the first byte that it is not sure of.
fn end(
    bytes: &[u8],
    sure: impl Fn(u64) -> u64,
    mut allows: impl FnMut(u8) -> bool,
) -> Option<usize> {
    let mut at = 0;
    while let Some(chunk) = bytes[at..].first_chunk::<8>() {
        let doubt = !sure(u64::from_le_bytes(*chunk)) & HIGH;
        if doubt == 0 {
            at += 8;
            continue;
        }
        let doubtful = doubt.trailing_zeros() as usize / 8;
        at += doubtful;
        if !allows(chunk[doubtful]) {
            return Some(at);
        }
        at += 1;
    }
    bytes[at..].iter().position(|byte| !allows(*byte)).map(|found| at + found)
}

fn letters(word: u64) -> u64 {
    // The bit that tells lower case from upper makes no other byte a letter.
    between(word | (ONES * 0x20), b'a', b'z') & !word
}

/// The bytes from `low` to `high`, up to the first that is not ASCII.
fn between(word: u64, low: u8, high: u8) -> u64 {
    let at_least = |byte: u8| word.wrapping_add(ONES * u64::from(0x80 - byte));
    at_least(low) & !at_least(high + 1) & !word
}

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

#[cfg(test)]
mod tests {
    use super::*;

    /// Every byte at every place of a word, among others that are allowed.
    fn everywhere(check: impl Fn(&[u8])) {
        for around in *b"aZ9-" {
            for byte in 0..=255u8 {
                for at in 0..19 {
                    let mut bytes = [around; 19];
                    bytes[at] = byte;
                    check(&bytes);
                    // Another that is not allowed behind it must not hide it, nor one before.
                    bytes[18 - at] = 0xff - byte;
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
            let slow = bytes.iter().position(|b| !target::allows(*b));
            assert_eq!(target_end(bytes), slow, "{bytes:?}");
            assert_eq!(value_end(bytes), bytes.iter().position(|b| !is_value(*b)), "{bytes:?}");
        });
    }
}
