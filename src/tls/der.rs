//! When a certificate is valid: the one thing that is read of it here and not by rustls
//! (RFC 5280 4.1, DER).

use crate::clock::UnixMs;

/// From when until when a certificate is valid; `None` where it cannot be read.
pub(super) fn validity(certificate: &[u8]) -> Option<(UnixMs, UnixMs)> {
    let (certificate, _) = element(certificate, SEQUENCE)?;
    let (mut body, _) = element(certificate, SEQUENCE)?;
    if body.first() == Some(&VERSION) {
        body = element(body, VERSION)?.1;
    }
    body = element(body, INTEGER)?.1; // serial number
    body = element(body, SEQUENCE)?.1; // algorithm
    body = element(body, SEQUENCE)?.1; // issuer
    let (validity, _) = element(body, SEQUENCE)?;
    let (from, rest) = time(validity)?;
    let (until, _) = time(rest)?;
    Some((from, until))
}

/// The content of the element at the front, which must have `tag`, and what follows it.
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&first, rest) = bytes.split_first()?;
    let (&length, rest) = rest.split_first()?;
    let (length, rest) = match length {
        0..=0x7f => (usize::from(length), rest),
        0x81..=0x84 => {
            let (long, rest) = rest.split_at_checked(usize::from(length - 0x80))?;
            (long.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    (first == tag).then(|| rest.split_at_checked(length)).flatten()
}

/// `YYMMDDhhmmssZ` or `YYYYMMDDhhmmssZ`.
fn time(bytes: &[u8]) -> Option<(UnixMs, &[u8])> {
    let is_short = bytes.first() == Some(&UTC_TIME);
    let (text, rest) = element(bytes, if is_short { UTC_TIME } else { GENERALIZED_TIME })?;
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (year, rest_of) = text.split_at_checked(if is_short { 2 } else { 4 })?;
    let year: i16 = year.parse().ok()?;
    let year = match (is_short, year) {
        (true, 50..) => 1900 + year,
        (true, _) => 2000 + year,
        (false, _) => year,
    };
    let part = |at: usize| rest_of.get(at..at + 2)?.parse::<i8>().ok();
    let civil =
        jiff::civil::DateTime::new(year, part(0)?, part(2)?, part(4)?, part(6)?, part(8)?, 0);
    let at = jiff::tz::Offset::UTC.to_timestamp(civil.ok()?).ok()?.as_millisecond();
    Some((UnixMs(u64::try_from(at).unwrap_or(0)), rest))
}

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// `[0]`, which holds the version.
const VERSION: u8 = 0xa0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_the_standard_says() {
        let utc = |text: &str| [&[UTC_TIME, 13], text.as_bytes()].concat();
        let ms = |bytes: &[u8]| time(bytes).map(|(at, _)| at.0);
        assert_eq!(ms(&utc("700101000001Z")), Some(1_000));
        assert_eq!(ms(&utc("260101000000Z")), Some(1_767_225_600_000));
        assert_eq!(ms(&utc("491231235959Z")), Some(2_524_607_999_000));
        assert_eq!(
            ms(&[&[GENERALIZED_TIME, 15], &b"20500101000000Z"[..]].concat()),
            Some(2_524_608_000_000)
        );
        for bad in ["700101000001+", "701301000001Z", "70010100000 Z"] {
            assert_eq!(ms(&utc(bad)), None, "{bad}");
        }
        assert_eq!(ms(&[UTC_TIME, 99]), None);
        assert_eq!(validity(&[SEQUENCE, 0x84, 0xff, 0xff, 0xff, 0xff]), None);
    }
}
