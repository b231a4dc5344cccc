//! Ranges (RFC 9110 14) and what of a stored response satisfies them (RFC 9111 3.3, 3.4).

use http::HeaderValue;

use super::directives::date_s;

/// Bytes `first` to `last`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first byte.
    pub first: u64,
    /// The last byte.
    pub last: u64,
}

/// One range as it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spec {
    /// `first-last`.
    Between(u64, u64),
    /// `first-`.
    From(u64),
    /// `-length`.
    Last(u64),
}

/// What ranges come to in a body of known length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolved {
    /// These parts, in the order they were asked for.
    Parts(Vec<Span>),
    /// Nothing of it is there: 416.
    Unsatisfiable,
    /// Better the whole: parts that overlap, or that are longer together than the whole
    /// (RFC 9110 14.2).
    Whole,
}

impl Span {
    /// Its length in bytes.
    pub fn length(&self) -> u64 {
        self.last - self.first + 1
    }
}

/// Reads `Range`. Another unit, a malformed one, or more ranges than anybody needs count as none
/// (RFC 9110 14.2).
pub fn parse(value: &[u8]) -> Option<Vec<Spec>> {
    let at = value.iter().position(|b| *b == b'=')?;
    if !value[..at].trim_ascii().eq_ignore_ascii_case(b"bytes") {
        return None;
    }
    let mut specs = Vec::new();
    for member in value[at + 1..].split(|b| *b == b',').map(<[u8]>::trim_ascii) {
        if member.is_empty() {
            continue;
        }
        let dash = member.iter().position(|b| *b == b'-')?;
        let (first, last) = (&member[..dash], &member[dash + 1..]);
        specs.push(match (first.is_empty(), last.is_empty()) {
            (true, false) => Spec::Last(number(last)?),
            (false, true) => Spec::From(number(first)?),
            (false, false) => {
                let (first, last) = (number(first)?, number(last)?);
                if last < first {
                    return None;
                }
                Spec::Between(first, last)
            }
            (true, true) => return None,
        });
        if specs.len() > RANGES_MAX {
            return None;
        }
    }
    (!specs.is_empty()).then_some(specs)
}

/// What `specs` come to in a body of `total` bytes.
pub fn resolve(specs: &[Spec], total: u64) -> Resolved {
    let parts: Vec<Span> = specs.iter().filter_map(|spec| span(*spec, total)).collect();
    if parts.is_empty() {
        return Resolved::Unsatisfiable;
    }
    let mut sorted = parts.clone();
    sorted.sort_unstable_by_key(|part| part.first);
    let overlap = sorted.windows(2).any(|pair| pair[1].first <= pair[0].last);
    if overlap { Resolved::Whole } else { Resolved::Parts(parts) }
}

fn span(spec: Spec, total: u64) -> Option<Span> {
    let end = total.checked_sub(1)?;
    let (first, last) = match spec {
        Spec::Between(first, last) => (first, last.min(end)),
        Spec::From(first) => (first, end),
        Spec::Last(0) => return None,
        Spec::Last(length) => (total.saturating_sub(length), end),
    };
    (first <= end).then_some(Span { first, last })
}

/// Reads `Content-Range: bytes 0-4/10`; the length of the whole is needed to serve from it.
pub fn content_range(value: &[u8]) -> Option<(Span, u64)> {
    let text = std::str::from_utf8(value).ok()?;
    let (unit, rest) = text.split_once(' ')?;
    let (range, total) = rest.trim().split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let digits = |text: &str| number(text.as_bytes());
    let (first, last, total) = (digits(first)?, digits(last)?, digits(total)?);
    let is_sound = unit.eq_ignore_ascii_case("bytes") && first <= last && last < total;
    is_sound.then_some((Span { first, last }, total))
}

/// Whether `If-Range` says that the client's parts are of the representation with these validators:
/// the strong comparison, or exactly its date where that is a strong validator (RFC 9110 13.1.5,
/// 8.8.2.2).
pub fn if_range_holds(
    value: &[u8],
    etag: Option<&HeaderValue>,
    modified_s: Option<u64>,
    date_of_s: Option<u64>,
) -> bool {
    let value = value.trim_ascii();
    if value.starts_with(b"\"") || value.starts_with(b"W/") {
        return etag.is_some_and(|etag| is_strong(etag) && etag.as_bytes() == value);
    }
    let asked = date_s(value);
    // A second is the finest that a date tells: it is strong once the representation had not changed
    // for one.
    let is_settled = matches!((modified_s, date_of_s), (Some(m), Some(d)) if d > m);
    asked.is_some() && asked == modified_s && is_settled
}

/// Whether a tag is a strong validator.
pub fn is_strong(etag: &HeaderValue) -> bool {
    etag.as_bytes().starts_with(b"\"")
}

/// A number that fits; one that does not is beyond any body.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let add = |sum: u64, b: &u8| sum.saturating_mul(10).saturating_add(u64::from(b - b'0'));
    Some(digits.iter().fold(0, add))
}

/// Ranges in one request.
pub const RANGES_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parts(range: &str, total: u64) -> Resolved {
        resolve(&parse(range.as_bytes()).expect("valid"), total)
    }

    fn one(first: u64, last: u64) -> Resolved {
        Resolved::Parts(vec![Span { first, last }])
    }

    /// RFC 9110 14.1.2, 14.2.
    #[test]
    fn every_form_of_a_range() {
        assert_eq!(parts("bytes=0-1", 11), one(0, 1));
        assert_eq!(parts("bytes=1-", 11), one(1, 10));
        assert_eq!(parts("bytes=-1", 11), one(10, 10));
        assert_eq!(parts("bytes=-99", 11), one(0, 10));
        assert_eq!(parts("BYTES=5-99", 11), one(5, 10));
        assert_eq!(parts("bytes=11-", 11), Resolved::Unsatisfiable);
        assert_eq!(parts("bytes=-0", 11), Resolved::Unsatisfiable);
        assert_eq!(parts("bytes=0-", 0), Resolved::Unsatisfiable);
        assert_eq!(
            parts("bytes=0-1, 99-, -2", 11),
            Resolved::Parts(vec![Span { first: 0, last: 1 }, Span { first: 9, last: 10 }])
        );
        assert_eq!(parts("bytes=0-5, 5-6", 11), Resolved::Whole);
        for none in
            ["bytes=5-4", "bytes=", "bytes=-", "bytes=a-b", "items=0-1", "bytes 0-1", "bytes=1"]
        {
            assert_eq!(parse(none.as_bytes()), None, "{none}");
        }
        let many = format!("bytes={}", "0-0,".repeat(RANGES_MAX + 1));
        assert_eq!(parse(many.as_bytes()), None);
    }

    /// RFC 9110 14.4.
    #[test]
    fn a_content_range_is_sound_or_none() {
        assert_eq!(content_range(b"bytes 0-4/10"), Some((Span { first: 0, last: 4 }, 10)));
        for none in
            ["bytes 0-4/*", "bytes */10", "bytes 4-0/10", "bytes 0-10/10", "items 0-1/2", ""]
        {
            assert_eq!(content_range(none.as_bytes()), None, "{none}");
        }
    }

    /// RFC 9110 13.1.5.
    #[test]
    fn if_range_is_compared_strongly() {
        let (strong, weak) =
            (HeaderValue::from_static("\"a\""), HeaderValue::from_static("W/\"a\""));
        assert!(if_range_holds(b"\"a\"", Some(&strong), None, None));
        assert!(!if_range_holds(b"\"b\"", Some(&strong), None, None));
        assert!(!if_range_holds(b"W/\"a\"", Some(&weak), None, None));
        let date = b"Sun, 06 Nov 1994 08:49:37 GMT";
        assert!(if_range_holds(date, None, Some(784_111_777), Some(784_111_779)));
        assert!(!if_range_holds(date, None, Some(784_111_777), Some(784_111_777)));
        assert!(!if_range_holds(date, None, Some(784_111_776), Some(784_111_779)));
    }

    proptest! {
        /// Whatever is asked, what comes of it lies inside the body and does not overlap.
        #[test]
        fn parts_lie_inside(range in "bytes=[0-9,-]{0,24}", total in 0u64..200) {
            if let Some(specs) = parse(range.as_bytes())
                && let Resolved::Parts(parts) = resolve(&specs, total)
            {
                prop_assert!(parts.iter().all(|p| p.first <= p.last && p.last < total));
                prop_assert!(parts.iter().map(Span::length).sum::<u64>() <= total);
            }
        }
    }
}
