//! The catch-all is no bypass of the gate (DESIGN section 3, point 6): whether some server, however
//! lenient, would read a target as a purchase.
//!
//! Servers decode, clean up and cut in all sorts of orders, and one that leaves a step out may find a
//! purchase where the others find none. So the readings are not one normal form but all that the
//! steps give in any order, each as often as it likes, with at most two decodings.

use std::borrow::Cow;
use std::collections::HashSet;

use http::Method;

use crate::http::Head;

/// Whether `head` can only read, whatever the shop makes of its query: method overrides in fields are
/// never forwarded, one in the query is.
pub(super) fn only_reads(head: &Head<'_>) -> bool {
    matches!(head.method, Method::GET | Method::HEAD | Method::OPTIONS)
        && !head.query.is_some_and(overrides_method)
}

/// Whether any reading of the target is one that `is_purchase` takes. It is asked with decoded paths
/// and must not mind the case of letters.
pub(super) fn reads_as(
    path: &str,
    query: Option<&str>,
    is_purchase: impl Fn(&str) -> bool,
) -> bool {
    let mut work = WORK_BYTES_MAX;
    any_reading(path, &is_purchase, &mut work)
        || query.is_some_and(|query| {
            routed_paths(query).any(|path| any_reading(&path, &is_purchase, &mut work))
        })
}

/// Walks through the readings of one path. A path that has more than there is work for is taken for
/// a purchase: nobody writes such a thing in good faith.
fn any_reading(path: &str, is_purchase: &impl Fn(&str) -> bool, work: &mut usize) -> bool {
    if is_purchase(path) {
        return true;
    }
    if !is_odd(path) {
        return false;
    }
    let mut level: HashSet<Vec<u8>> = HashSet::from([path.as_bytes().to_vec()]);
    for decodings_left in (0..=DECODINGS).rev() {
        let mut found: Vec<Vec<u8>> = level.iter().cloned().collect();
        while let Some(reading) = found.pop() {
            if matches(&reading, is_purchase) {
                return true;
            }
            for step in STEPS {
                let Some(left) = work.checked_sub(reading.len()) else { return true };
                *work = left;
                let next = step(&reading);
                if !level.contains(&next) {
                    level.insert(next.clone());
                    found.push(next);
                }
            }
        }
        if decodings_left > 0 {
            level = level.iter().flat_map(|reading| [decode(reading), decode_u(reading)]).collect();
        }
    }
    false
}

/// Whether any step would change `path`.
fn is_odd(path: &str) -> bool {
    path.contains(['%', ';', '\\', '.']) || path.contains("//")
}

fn matches(reading: &[u8], is_purchase: &impl Fn(&str) -> bool) -> bool {
    let text = String::from_utf8_lossy(reading);
    // Some letters beyond ASCII fold into it.
    is_purchase(&text) || !text.is_ascii() && is_purchase(&text.to_lowercase().to_uppercase())
}

/// One thing that some servers do to a path.
type Step = fn(&[u8]) -> Vec<u8>;

/// What servers do to a path, beside decoding it.
const STEPS: [Step; 10] = [
    backslashes,
    merge_slashes,
    remove_dots,
    cut_parameters,
    cut_end,
    trim_segments,
    trim_slashes,
    drop_script,
    drop_extension,
    overlong,
];

/// `%41`.
fn decode(path: &[u8]) -> Vec<u8> {
    unescape(path, |rest| Some((hex(rest.get(1..3)?)?.to_be_bytes()[3], 3)))
}

/// `%u0041` beside `%41`.
fn decode_u(path: &[u8]) -> Vec<u8> {
    unescape(path, |rest| match rest.get(1)? {
        b'u' | b'U' => {
            let code = hex(rest.get(2..6)?)?;
            // The full-width forms of ASCII are taken for it by some.
            let code = if (0xff01..=0xff5e).contains(&code) { code - 0xfee0 } else { code };
            Some((u8::try_from(code).ok()?, 6))
        }
        _ => Some((hex(rest.get(1..3)?)?.to_be_bytes()[3], 3)),
    })
}

/// Replaces what `read` understands at a `%`: the byte, and how long its escape is.
fn unescape(path: &[u8], read: impl Fn(&[u8]) -> Option<(u8, usize)>) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some(first) = rest.first() {
        let read = if *first == b'%' { read(rest) } else { None };
        let (byte, length) = read.unwrap_or((*first, 1));
        out.push(byte);
        rest = rest.get(length..).unwrap_or_default();
    }
    out
}

fn hex(digits: &[u8]) -> Option<u32> {
    let is_hex = digits.iter().all(u8::is_ascii_hexdigit);
    let text = std::str::from_utf8(digits).ok()?;
    is_hex.then(|| u32::from_str_radix(text, 16).ok()).flatten()
}

fn backslashes(path: &[u8]) -> Vec<u8> {
    path.iter().map(|byte| if *byte == b'\\' { b'/' } else { *byte }).collect()
}

fn merge_slashes(path: &[u8]) -> Vec<u8> {
    let mut out = path.to_vec();
    out.dedup_by(|after, before| *after == b'/' && *before == b'/');
    out
}

/// RFC 3986 5.2.4.
fn remove_dots(path: &[u8]) -> Vec<u8> {
    let mut kept: Vec<&[u8]> = Vec::new();
    let mut ends_open = false;
    for segment in segments(path) {
        ends_open = matches!(segment, b"." | b"..");
        match segment {
            b"." => {}
            b".." => {
                kept.pop();
            }
            _ => kept.push(segment),
        }
    }
    if ends_open {
        kept.push(b"");
    }
    join(kept)
}

/// `;x=y` in any segment.
fn cut_parameters(path: &[u8]) -> Vec<u8> {
    join(segments(path).map(|segment| segment.split(|b| *b == b';').next().unwrap_or_default()))
}

/// What a second parser takes for a query or a fragment, and what one in C never sees.
fn cut_end(path: &[u8]) -> Vec<u8> {
    path.split(|byte| matches!(byte, b'?' | b'#' | 0)).next().unwrap_or_default().to_vec()
}

/// White space and dots at the ends of names, which some file systems ignore.
fn trim_segments(path: &[u8]) -> Vec<u8> {
    join(segments(path).map(|segment| {
        let is_dots = matches!(segment, b"." | b"..");
        let trimmed = segment.trim_ascii();
        let end = trimmed.iter().rposition(|b| !matches!(b, b'.' | b' ')).map_or(0, |at| at + 1);
        if is_dots { segment } else { trimmed.get(..end).unwrap_or_default() }
    }))
}

fn trim_slashes(path: &[u8]) -> Vec<u8> {
    let end = path.iter().rposition(|byte| *byte != b'/').map_or(1, |at| at + 1);
    path.get(..end).unwrap_or_default().to_vec()
}

/// `/index.php/path`: a front controller with the path behind it.
fn drop_script(path: &[u8]) -> Vec<u8> {
    let script = segments(path).position(|segment| segment.to_ascii_lowercase().ends_with(b".php"));
    match script {
        Some(at) => join(segments(path).skip(at + 1)),
        None => path.to_vec(),
    }
}

/// `/path.json`: a format that a router takes for a wish.
fn drop_extension(path: &[u8]) -> Vec<u8> {
    let last = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
    match path.iter().rposition(|byte| *byte == b'.') {
        Some(dot) if dot > last + 1 => path.get(..dot).unwrap_or_default().to_vec(),
        _ => path.to_vec(),
    }
}

/// ASCII in more bytes of UTF-8 than it needs.
fn overlong(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some(first) = rest.first() {
        let (byte, length) = match *rest {
            [lead @ (0xc0 | 0xc1), last @ 0x80..=0xbf, ..] => ((lead & 1) << 6 | last & 0x3f, 2),
            [0xe0, 0x80 | 0x81, last @ 0x80..=0xbf, ..] => ((rest[1] & 1) << 6 | last & 0x3f, 3),
            _ => (*first, 1),
        };
        out.push(byte);
        rest = rest.get(length..).unwrap_or_default();
    }
    out
}

/// The segments behind the first slash.
fn segments(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.strip_prefix(b"/").unwrap_or(path).split(|byte| *byte == b'/')
}

fn join<'a>(segments: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut out = Vec::new();
    for segment in segments {
        out.push(b'/');
        out.extend_from_slice(segment);
    }
    if out.is_empty() { b"/".to_vec() } else { out }
}

/// Paths in the query by which front controllers route: `?s=/path`, `?/path`.
fn routed_paths(query: &str) -> impl Iterator<Item = Cow<'_, str>> {
    query.split('&').filter_map(|piece| {
        let (name, value) = piece.split_once('=').unwrap_or(("", piece));
        if !ROUTED_BY.iter().any(|known| name.eq_ignore_ascii_case(known)) {
            return None;
        }
        let has_slash = value.starts_with('/');
        Some(if has_slash { Cow::Borrowed(value) } else { Cow::Owned(format!("/{value}")) })
    })
}

fn overrides_method(query: &str) -> bool {
    let mut names = query.split('&').map(|piece| piece.split('=').next().unwrap_or_default());
    names.any(|name| decode(name.as_bytes()).eq_ignore_ascii_case(b"_method"))
}

const DECODINGS: usize = 2;
/// Bytes that the steps may go through for one request: about a millisecond.
const WORK_BYTES_MAX: usize = 512 * 1024;
/// Parameters that hold a path in well-known frameworks; the empty one is a query that is a path.
const ROUTED_BY: [&str; 5] = ["", "s", "r", "q", "_url"];

#[cfg(test)]
mod tests;
