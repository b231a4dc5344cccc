//! The strict HTTP/1.x head reader: bytes to one validated [`Head`], or a [`Refusal`].
//!
//! It is a pure function over the bytes that have come so far. Its verdict does not depend on how
//! they were cut into reads: bytes are judged strictly in their order, so that a refusal on a part
//! is the refusal on the whole. What other servers read differently is refused, since the peer in
//! front of us may be one of them.

mod fields;
mod target;

use std::cell::RefCell;
use std::rc::Rc;

use http::{Method, Version};

use super::head::{BodyKind, Field, Fields, Head};
use super::limits::Limits;
use super::recent::Recent;
use super::refusal::Refusal;
use super::scan;

pub use fields::{is_token, is_value};
pub(super) use target::allows as is_target;

/// Longest method in bytes; longer tokens are not implemented by anybody.
pub const METHOD_BYTES_MAX: usize = 32;
/// Empty lines that are skipped before a request line (RFC 9112 2.2).
const BLANK_LINES_MAX: usize = 2;

/// A complete, valid head and what it says about its connection.
#[derive(Debug)]
pub struct Request<'a> {
    /// The head.
    pub head: Head<'a>,
    /// Bytes of the head in the buffer, with its ending and any empty lines before it.
    pub bytes: usize,
    /// Whether the client wants the connection kept (RFC 9112 9.3).
    pub persistent: bool,
    /// Whether the client waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
}

/// Reads one head from the beginning of `bytes`. `None`: it is not complete yet. `fields` is only
/// storage, its contents before the call do not matter.
pub fn read_head<'b: 'f, 'f>(
    bytes: &'b [u8],
    limits: &Limits,
    fields: &'f mut Vec<Field<'b>>,
) -> Result<Option<Request<'f>>, Refusal> {
    let mut cursor = Cursor { bytes: &bytes[..bytes.len().min(limits.head_bytes_max)], at: 0 };
    fields.clear();
    let Some((line, special)) = cursor.head(limits, fields)? else {
        let full = bytes.len() >= limits.head_bytes_max;
        return if full { Err(Refusal::HeadTooLarge) } else { Ok(None) };
    };
    let bytes = cursor.at;
    let host = special.host(line.version)?;
    let target = target::split(line.method == Method::OPTIONS, line.target)?;
    if let Some(authority) = target.authority {
        // RFC 9112 3.2.2: the target wins over Host; we refuse unless both say the same.
        match super::authority::normalise(authority.as_bytes()) {
            Some(named) if *named == *host => {}
            _ => return Err(Refusal::HostMismatch),
        }
    }
    let body = special.framing(line.version)?;
    let expects_continue = special.expectation(line.version, &line.method, body)?;
    let persistent = special.persistent(line.version);
    let head = Head {
        method: line.method,
        version: line.version,
        path: target.path,
        query: target.query,
        host,
        fields: Fields::marked(fields, special.names),
        body,
    };
    Ok(Some(Request { head, bytes, persistent, expects_continue }))
}

/// The three parts of a request line.
struct Line<'b> {
    method: Method,
    target: &'b str,
    version: Version,
}

/// Moves forward over the bytes of a head. Every method returns `None` where the bytes end.
struct Cursor<'b> {
    bytes: &'b [u8],
    at: usize,
}

/// A part of a head, `None` if the bytes end within it, or why it is refused.
type Part<T> = Result<Option<T>, Refusal>;

impl<'b> Cursor<'b> {
    fn head(
        &mut self,
        limits: &Limits,
        fields: &mut Vec<Field<'b>>,
    ) -> Part<(Line<'b>, fields::Special<'b>)> {
        if self.blank_lines()?.is_none() {
            return Ok(None);
        }
        let Some(line) = self.request_line(limits)? else { return Ok(None) };
        let Some(special) = self.fields(limits, fields)? else { return Ok(None) };
        Ok(Some((line, special)))
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    /// Skips the empty lines that RFC 9112 2.2 asks us to tolerate, but not many.
    fn blank_lines(&mut self) -> Part<()> {
        for seen in 0.. {
            match self.peek() {
                None => return Ok(None),
                Some(b'\r') if seen == BLANK_LINES_MAX => return Err(Refusal::BlankLines),
                Some(b'\r') => {
                    self.at += 1;
                    if self.line_feed()?.is_none() {
                        return Ok(None);
                    }
                }
                Some(b'\n') => return Err(Refusal::BareLf),
                Some(_) => break,
            }
        }
        Ok(Some(()))
    }

    /// The LF after a CR.
    fn line_feed(&mut self) -> Part<()> {
        match self.peek() {
            None => Ok(None),
            Some(b'\n') => {
                self.at += 1;
                Ok(Some(()))
            }
            Some(_) => Err(Refusal::BareCr),
        }
    }

    fn request_line(&mut self, limits: &Limits) -> Part<Line<'b>> {
        let Some(method) = self.method()? else { return Ok(None) };
        let Some(target) = self.target(limits)? else { return Ok(None) };
        let Some(version) = self.version()? else { return Ok(None) };
        Ok(Some(Line { method, target, version }))
    }

    fn method(&mut self) -> Part<Method> {
        let rest = &self.bytes[self.at..];
        // What nearly every request is.
        for (text, method) in [(&b"GET "[..], Method::GET), (b"POST ", Method::POST)] {
            if rest.starts_with(text) {
                self.at += text.len();
                return Ok(Some(method));
            }
        }
        let Some(end) = rest.iter().take(METHOD_BYTES_MAX + 1).position(|b| !is_token(*b)) else {
            let long = rest.len() > METHOD_BYTES_MAX;
            return if long { Err(Refusal::MethodTooLong) } else { Ok(None) };
        };
        if rest[end] != b' ' || end == 0 {
            return Err(Refusal::Method);
        }
        self.at += end + 1;
        // A tunnel and an echo of the sender's secrets: nobody behind us gets to see either.
        match Method::from_bytes(&rest[..end]).map_err(|_| Refusal::Method)? {
            Method::CONNECT | Method::TRACE => Err(Refusal::MethodRefused),
            method => Ok(Some(method)),
        }
    }

    fn target(&mut self, limits: &Limits) -> Part<&'b str> {
        let rest = &self.bytes[self.at..];
        let most = &rest[..rest.len().min(limits.target_bytes_max + 1)];
        let Some(end) = scan::target_end(most) else {
            let long = rest.len() > limits.target_bytes_max;
            return if long { Err(Refusal::TargetTooLong) } else { Ok(None) };
        };
        if rest[end] != b' ' || end == 0 {
            return Err(Refusal::Target);
        }
        self.at += end + 1;
        Ok(Some(text(&rest[..end], Refusal::Target)?))
    }

    /// `HTTP/x.y` and the end of the line.
    fn version(&mut self) -> Part<Version> {
        const SHAPE: &[u8] = b"HTTP/0.0\r\n";
        let rest = &self.bytes[self.at..];
        if rest.starts_with(b"HTTP/1.1\r\n") {
            self.at += SHAPE.len();
            return Ok(Some(Version::HTTP_11));
        }
        for (byte, shape) in rest.iter().zip(SHAPE) {
            let fits = if *shape == b'0' { byte.is_ascii_digit() } else { byte == shape };
            if !fits {
                return Err(match (byte, shape) {
                    (b'\n', b'\r') => Refusal::BareLf,
                    (_, b'\n') => Refusal::BareCr,
                    _ => Refusal::Version,
                });
            }
        }
        let Some(line) = rest.get(..SHAPE.len()) else { return Ok(None) };
        self.at += SHAPE.len();
        match (line[5], line[7]) {
            (b'1', b'1') => Ok(Some(Version::HTTP_11)),
            (b'1', b'0') => Ok(Some(Version::HTTP_10)),
            _ => Err(Refusal::VersionUnknown),
        }
    }
}

/// A Host in its one spelling, shared with the requests that said it just so; `None`: it is not valid.
pub(super) fn host_of(authority: &[u8]) -> Option<Rc<str>> {
    thread_local! {
        static RECENT: RefCell<Recent<Option<Rc<str>>>> = const { RefCell::new(Recent::new()) };
    }
    let read = |authority: &[u8]| Some(super::authority::normalise(authority)?.into());
    RECENT.with_borrow_mut(|recent| recent.get(authority, read))
}

/// Bytes that were checked to be ASCII, as text.
fn text(bytes: &[u8], otherwise: Refusal) -> Result<&str, Refusal> {
    std::str::from_utf8(bytes).map_err(|_| otherwise)
}

impl<'b> fields::Special<'b> {
    /// Exactly one valid Host; HTTP/1.0 may come without.
    fn host(&self, version: Version) -> Result<Rc<str>, Refusal> {
        match (self.hosts, self.host) {
            (0, _) if version == Version::HTTP_10 => Ok("".into()),
            (1, Some(host)) => host_of(host).ok_or(Refusal::Host),
            (0 | 1, _) => Err(Refusal::HostMissing),
            _ => Err(Refusal::HostRepeated),
        }
    }

    /// RFC 9112 6.3, without any of its leniency.
    fn framing(&self, version: Version) -> Result<BodyKind, Refusal> {
        match (self.lengths, self.codings) {
            (0, 0) => Ok(BodyKind::None),
            (1, 0) => match self.length.and_then(decimal) {
                Some(0) => Ok(BodyKind::None),
                Some(length) => Ok(BodyKind::Sized(length)),
                None => Err(Refusal::ContentLength),
            },
            (_, 0) => Err(Refusal::ContentLengthRepeated),
            (0, 1) if version == Version::HTTP_10 => Err(Refusal::TransferEncodingOld),
            (0, 1) => chunked(self.coding.unwrap_or_default()),
            (0, _) => Err(Refusal::TransferEncoding),
            _ => Err(Refusal::LengthAndCoding),
        }
    }

    /// RFC 9110 10.1.1; an HTTP/1.0 client cannot mean it, one without a body neither.
    fn expectation(
        &self,
        version: Version,
        method: &Method,
        body: BodyKind,
    ) -> Result<bool, Refusal> {
        match (self.expects, self.expect) {
            (0, _) => Ok(false),
            _ if version == Version::HTTP_10 => Ok(false),
            (1, Some(value)) if value.eq_ignore_ascii_case(b"100-continue") => {
                if matches!(*method, Method::GET | Method::HEAD) {
                    return Err(Refusal::Expect);
                }
                Ok(body != BodyKind::None)
            }
            _ => Err(Refusal::Expect),
        }
    }

    fn persistent(&self, version: Version) -> bool {
        !self.close && (version == Version::HTTP_11 || self.keep_alive)
    }
}

/// Digits only; leading zeros are harmless because we write our own number.
pub(super) fn decimal(digits: &[u8]) -> Option<u64> {
    if !(1..=20).contains(&digits.len()) {
        return None;
    }
    digits.iter().try_fold(0_u64, |sum, digit| {
        let digit = u64::from(digit.wrapping_sub(b'0'));
        if digit > 9 { None } else { sum.checked_mul(10)?.checked_add(digit) }
    })
}

/// `chunked` alone. Other codings we could name are not implemented, anything else is malformed.
fn chunked(value: &[u8]) -> Result<BodyKind, Refusal> {
    if value.eq_ignore_ascii_case(b"chunked") {
        return Ok(BodyKind::Chunked);
    }
    const OTHERS: [&[u8]; 6] =
        [b"gzip", b"deflate", b"compress", b"x-gzip", b"x-compress", b"identity"];
    let mut codings = value.split(|b| *b == b',').map(<[u8]>::trim_ascii).peekable();
    while let Some(coding) = codings.next() {
        let last = codings.peek().is_none();
        let known = OTHERS.iter().any(|other| coding.eq_ignore_ascii_case(other))
            || last && coding.eq_ignore_ascii_case(b"chunked");
        if !known {
            return Err(Refusal::TransferEncoding);
        }
    }
    Err(Refusal::CodingUnknown)
}

#[cfg(test)]
mod tests;
