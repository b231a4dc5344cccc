//! Content codings: which one a client gets, and how each is made once, at fill.

use std::cell::RefCell;
use std::io::{Read, Write};

use bytes::Bytes;

use crate::http::Head;
use crate::http::recent::Recent;

/// A coding that we make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(usize)]
pub enum Coding {
    /// As the shop sent it.
    Identity,
    /// gzip.
    Gzip,
    /// Brotli.
    Brotli,
    /// Zstandard.
    Zstd,
}

/// All codings; among equally welcome ones the last that exists is taken.
pub const CODINGS: [Coding; 4] = [Coding::Identity, Coding::Gzip, Coding::Zstd, Coding::Brotli];

impl Coding {
    /// The coding called `name`, which an old client may call `x-gzip` (RFC 9110 8.4.1.3).
    fn of(name: &[u8]) -> Option<Coding> {
        let coding = match name.len() {
            2 => Coding::Brotli,
            4 if matches!(name[0], b'g' | b'G') => Coding::Gzip,
            4 => Coding::Zstd,
            6 if name.eq_ignore_ascii_case(b"x-gzip") => return Some(Coding::Gzip),
            8 => Coding::Identity,
            _ => return None,
        };
        name.eq_ignore_ascii_case(coding.label().as_bytes()).then_some(coding)
    }

    /// Its name in `Accept-Encoding` and `Content-Encoding`.
    pub fn label(self) -> &'static str {
        match self {
            Coding::Identity => "identity",
            Coding::Gzip => "gzip",
            Coding::Brotli => "br",
            Coding::Zstd => "zstd",
        }
    }
}

/// How welcome each coding is to one client, in thousandths; 0: not at all. By [`Coding`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accept([u16; 4]);

impl Accept {
    /// Reads `Accept-Encoding` (RFC 9110 12.5.3). Without the field only identity is taken: old
    /// clients that cannot decode do not say so.
    pub fn of(head: &Head<'_>) -> Accept {
        let mut lines = head.field_all("accept-encoding");
        match (lines.next(), lines.next()) {
            (None, _) => Accept::read([].into_iter()),
            (Some(line), None) => Accept::remembered(line),
            (Some(_), Some(_)) => Accept::read(head.field_all("accept-encoding")),
        }
    }

    /// Reads one line, or remembers what it came to.
    fn remembered(line: &[u8]) -> Accept {
        thread_local! {
            static RECENT: RefCell<Recent<Accept>> = const { RefCell::new(Recent::new()) };
        }
        RECENT.with_borrow_mut(|recent| recent.get(line, |line| Accept::read([line].into_iter())))
    }

    fn read<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Accept {
        let (mut named, mut rest): ([Option<u16>; 4], _) = ([None; 4], None);
        for line in lines {
            // Neither a coding nor a weight is ever quoted.
            for member in line.split(|b| *b == b',') {
                let (name, weight) = weighted(member);
                if name == b"*" {
                    rest = Some(weight);
                } else if let Some(coding) = Coding::of(name) {
                    named[coding as usize] = Some(weight);
                }
            }
        }
        let mut accept = named.map(|weight| weight.or(rest).unwrap_or(0));
        // Identity is acceptable unless it is refused, but less welcome than what is named.
        if named[Coding::Identity as usize].is_none() && rest != Some(0) {
            accept[Coding::Identity as usize] = 1;
        }
        Accept(accept)
    }

    /// The most welcome coding out of those that `exists`. Identity where none is welcome: a page
    /// that cannot be read everywhere is better than none.
    pub fn pick(&self, exists: impl Fn(Coding) -> bool) -> Coding {
        let welcome = |c: &Coding| self.0[*c as usize] > 0 && exists(*c);
        CODINGS
            .into_iter()
            .filter(welcome)
            .max_by_key(|c| self.0[*c as usize])
            .unwrap_or(Coding::Identity)
    }
}

/// Splits `gzip;q=0.5` into its name and 500. A weight that is none counts as 1.
fn weighted(member: &[u8]) -> (&[u8], u16) {
    let Some(end) = member.iter().position(|b| *b == b';') else {
        return (member.trim_ascii(), 1000);
    };
    let mut parameters = member[end + 1..].split(|b| *b == b';').map(<[u8]>::trim_ascii);
    let weight = parameters.find_map(|p| p.strip_prefix(b"q=").or_else(|| p.strip_prefix(b"Q=")));
    (member[..end].trim_ascii(), weight.map_or(1000, thousandths))
}

/// A weight in thousandths; one that is none counts as 1.
pub fn thousandths(weight: &[u8]) -> u16 {
    let (whole, fraction) = match weight.iter().position(|b| *b == b'.') {
        Some(at) => (&weight[..at], &weight[at + 1..]),
        None => (weight, &[][..]),
    };
    if whole != b"0" || !fraction.iter().all(u8::is_ascii_digit) {
        return 1000;
    }
    let digit = |at: usize| fraction.get(at).map_or(0, |b| u16::from(b - b'0'));
    digit(0) * 100 + digit(1) * 10 + digit(2)
}

/// The bodies of one page, by [`Coding`]; those are absent that would not be smaller.
pub type Bodies = [Option<Bytes>; 4];

/// Makes every coding of `body` that is smaller than it, as long as they fit into `budget` bytes
/// together. Takes milliseconds: never on a worker.
pub fn encode_all(body: &Bytes, budget: usize) -> Bodies {
    let mut bodies: Bodies = [Some(body.clone()), None, None, None];
    let mut left = budget;
    // The smallest is the most useful; it is the first to get a place.
    for coding in CODINGS.into_iter().rev() {
        let encoded = match coding {
            Coding::Identity => continue,
            Coding::Gzip => gzip(body),
            Coding::Brotli => brotli(body),
            Coding::Zstd => zstd::bulk::compress(body, ZSTD_LEVEL).ok(),
        };
        if let Some(encoded) = encoded.filter(|e| e.len() < body.len() && e.len() <= left) {
            left -= encoded.len();
            // A copy of its true size: a vector may hold twice as much.
            bodies[coding as usize] = Some(Bytes::from(encoded.into_boxed_slice()));
        }
    }
    bodies
}

/// The page that a coding of it is, if it is one of at most `bytes_max` bytes.
pub fn decode(coding: Coding, coded: &[u8], bytes_max: usize) -> Option<Vec<u8>> {
    let bound = bytes_max as u64 + 1;
    let mut page = Vec::new();
    match coding {
        Coding::Identity => page.extend_from_slice(coded),
        Coding::Gzip => {
            flate2::read::GzDecoder::new(coded).take(bound).read_to_end(&mut page).ok()?;
        }
        Coding::Brotli => {
            let decoder = brotli::Decompressor::new(coded, BUFFER_BYTES);
            decoder.take(bound).read_to_end(&mut page).ok()?;
        }
        Coding::Zstd => page = zstd::bulk::decompress(coded, bytes_max).ok()?,
    }
    (page.len() <= bytes_max).then_some(page)
}

/// Whether a body of this type shrinks.
pub fn is_compressible(content_type: &[u8]) -> bool {
    let essence = content_type.split(|b| *b == b';').next().unwrap_or_default();
    let essence = essence.trim_ascii().to_ascii_lowercase();
    let is_one_of = |list: &[&str]| list.iter().any(|t| essence == t.as_bytes());
    essence.starts_with(b"text/")
        || essence.ends_with(b"+json")
        || essence.ends_with(b"+xml")
        || is_one_of(&[
            "application/json",
            "application/javascript",
            "application/x-javascript",
            "application/xml",
            "application/wasm",
            "application/manifest+json",
            "image/svg+xml",
        ])
}

fn gzip(body: &[u8]) -> Option<Vec<u8>> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(GZIP_LEVEL));
    out.write_all(body).ok()?;
    out.finish().ok()
}

fn brotli(body: &[u8]) -> Option<Vec<u8>> {
    let params = brotli::enc::BrotliEncoderParams {
        quality: BROTLI_QUALITY,
        size_hint: body.len(),
        ..Default::default()
    };
    let mut out = Vec::new();
    brotli::BrotliCompress(&mut &*body, &mut out, &params).ok()?;
    Some(out)
}

/// What brotli reads at once.
const BUFFER_BYTES: usize = 4096;

/// Levels where a page of a few KiB takes about a millisecond in all, and 8 MiB less than a second.
const GZIP_LEVEL: u32 = 6;
const BROTLI_QUALITY: i32 = 5;
const ZSTD_LEVEL: i32 = 9;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Field;
    use crate::http::head::BodyKind;

    fn accept(value: Option<&str>) -> Accept {
        let field = value.map(|v| Field { name: b"Accept-Encoding", value: v.as_bytes() });
        Accept::of(&Head {
            method: http::Method::GET,
            version: http::Version::HTTP_11,
            path: "/",
            query: None,
            host: "a".into(),
            fields: field.as_slice().into(),
            body: BodyKind::None,
        })
    }

    #[test]
    fn a_client_gets_the_coding_it_likes_most() {
        let all = |_| true;
        for (value, expected) in [
            ("gzip, deflate, br, zstd", Coding::Brotli),
            ("gzip, deflate", Coding::Gzip),
            ("br;q=0.5, gzip", Coding::Gzip),
            ("GZIP;Q=0.8", Coding::Gzip),
            ("x-gzip", Coding::Gzip),
            ("*", Coding::Brotli),
            ("br;q=0, *", Coding::Zstd),
            ("gzip;q=0", Coding::Identity),
            ("identity, gzip;q=0.5", Coding::Identity),
            ("identity;q=0, gzip;q=0.001", Coding::Gzip),
            ("*;q=0", Coding::Identity),
            ("", Coding::Identity),
            ("deflate, \x7f=;;q", Coding::Identity),
            ("gzip;q=banana", Coding::Gzip),
        ] {
            assert_eq!(accept(Some(value)).pick(all), expected, "{value}");
        }
        assert_eq!(accept(None).pick(all), Coding::Identity);
        assert_eq!(accept(Some("br, gzip")).pick(|c| c == Coding::Identity), Coding::Identity);
    }

    #[test]
    fn every_coding_decodes_to_the_page() {
        let page = Bytes::from("<p>activity 8848</p>".repeat(200));
        let [identity, gzip, brotli, zstd] =
            encode_all(&page, page.len()).map(|b| b.expect("fits"));
        assert_eq!(identity, page);
        let mut out = Vec::new();
        flate2::read::GzDecoder::new(&*gzip).read_to_end(&mut out).expect("gzip");
        assert_eq!(out, page);
        let mut out = Vec::new();
        brotli::BrotliDecompress(&mut &*brotli, &mut out).expect("brotli");
        assert_eq!(out, page);
        assert_eq!(zstd::bulk::decompress(&zstd, page.len()).expect("zstd"), page);
    }

    #[test]
    fn a_coding_that_is_not_smaller_or_does_not_fit_is_left_out() {
        let noise: Vec<u8> = (0..2_000u32)
            .flat_map(|i| blake3::hash(&i.to_le_bytes()).as_bytes()[..8].to_vec())
            .collect();
        assert_eq!(encode_all(&noise.into(), usize::MAX)[1..], [None, None, None]);
        let page = Bytes::from("<p>activity 8848</p>".repeat(200));
        assert_eq!(encode_all(&page, 0)[1..], [None, None, None]);
    }

    #[test]
    fn only_text_is_compressed() {
        for (kind, expected) in [
            ("text/html; charset=utf-8", true),
            ("Application/JSON", true),
            ("application/problem+json", true),
            ("image/svg+xml", true),
            ("image/png", false),
            ("application/octet-stream", false),
            ("", false),
        ] {
            assert_eq!(is_compressible(kind.as_bytes()), expected, "{kind}");
        }
    }
}
