//! Where a name, a target or a value ends, found sixteen bytes at a time: the hottest loops of the
//! reader.
//!
//! Each looks at a block for bytes that are surely allowed; only the others are looked up one by one.

use wide::u8x16;

use super::reader::{is_target, is_token, is_value};

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

/// Position of the first byte that may not stand in a field value.
pub(super) fn value_end(bytes: &[u8]) -> Option<usize> {
    // All of them but the tab, which is looked up.
    end(bytes, |block| between(block, 0, 0x1f) | is(block, 0x7f), is_value)
}

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
            assert_eq!(value_end(bytes), bytes.iter().position(|b| !is_value(*b)), "{bytes:?}");
            assert_eq!(position(bytes, 7), bytes.iter().position(|b| *b == 7), "{bytes:?}");
        });
    }
}
