//! HTTP/1.1 as a client needs it: a request to bytes, bytes to a reply. Pure; reading is
//! [`super::client`]'s.

use crate::outcome::{REASONS, Reason};

/// Most bytes of a reply's head.
pub const HEAD_BYTES_MAX: usize = 32 * 1024;
/// Bytes of a body that are kept; the rest is counted and dropped.
pub const BODY_BYTES_KEPT: usize = 8 * 1024;

/// A complete reply.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// Status.
    pub status: u16,
    /// `Penstock-Reason`, if it was there and is one.
    pub reason: Option<Reason>,
    /// `Retry-After` in milliseconds, if it was there in seconds.
    pub retry_after_ms: Option<u64>,
    /// The first [`BODY_BYTES_KEPT`] bytes of the body.
    pub body: Vec<u8>,
    /// Bytes of the whole body.
    pub body_bytes: u64,
}

/// A reply's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// What it says, with an empty body.
    pub reply: Reply,
    /// How the body ends.
    pub framing: Framing,
    /// Whether the connection may carry another request afterwards.
    pub keep_alive: bool,
    /// Bytes of the head itself.
    pub bytes: usize,
}

/// How a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// After so many bytes.
    Length(u64),
    /// After the last chunk.
    Chunked,
    /// When the connection is closed.
    UntilClose,
}

/// What came is not HTTP/1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the answer is not valid HTTP/1.1")]
pub struct Malformed;

/// One request, as bytes. Fields are given whole, each with its line end.
pub fn request(method: &str, path: &str, host: &str, fields: &str, body: Option<&str>) -> Vec<u8> {
    let mut out = Vec::with_capacity(128 + path.len() + fields.len() + body.map_or(0, str::len));
    for part in [method, " ", path, " HTTP/1.1\r\nHost: ", host, "\r\n", fields] {
        out.extend_from_slice(part.as_bytes());
    }
    if let Some(body) = body {
        let length = format!(
            "Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        out.extend_from_slice(length.as_bytes());
    } else {
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// Reads a head from the start of `bytes`; None if it is not complete yet. Interim responses are
/// skipped.
pub fn head(bytes: &[u8]) -> Result<Option<Head>, Malformed> {
    let mut from = 0;
    loop {
        let rest = &bytes[from..];
        let Some(end) = rest.windows(4).position(|w| w == b"\r\n\r\n") else {
            return if rest.len() > HEAD_BYTES_MAX { Err(Malformed) } else { Ok(None) };
        };
        let mut head = lines(&rest[..end])?;
        from += end + 4;
        if (100..200).contains(&head.reply.status) {
            continue;
        }
        head.bytes = from;
        return Ok(Some(head));
    }
}

fn lines(block: &[u8]) -> Result<Head, Malformed> {
    let text = std::str::from_utf8(block).map_err(|_| Malformed)?;
    let mut lines = text.split("\r\n");
    let (status, http_1_0) = status_line(lines.next().unwrap_or_default())?;
    let reply = Reply { status, ..Reply::default() };
    let mut head = Head { reply, framing: Framing::UntilClose, keep_alive: !http_1_0, bytes: 0 };
    let mut length = None;
    let mut chunked = false;
    for line in lines {
        let (name, value) = line.split_once(':').ok_or(Malformed)?;
        let value = value.trim();
        match name.len() {
            10 if name.eq_ignore_ascii_case("connection") => {
                if value.eq_ignore_ascii_case("close") {
                    head.keep_alive = false;
                } else if value.eq_ignore_ascii_case("keep-alive") {
                    head.keep_alive = true;
                }
            }
            11 if name.eq_ignore_ascii_case("retry-after") => {
                head.reply.retry_after_ms = value.parse::<u64>().ok().map(|s| s * 1_000);
            }
            14 if name.eq_ignore_ascii_case("content-length") => {
                length = Some(value.parse::<u64>().map_err(|_| Malformed)?);
            }
            15 if name.eq_ignore_ascii_case("penstock-reason") => {
                head.reply.reason = reason(value);
            }
            17 if name.eq_ignore_ascii_case("transfer-encoding") => {
                chunked = value.eq_ignore_ascii_case("chunked");
            }
            _ => {}
        }
    }
    head.framing = match (status, chunked, length) {
        (204 | 304, _, _) => Framing::Length(0),
        (_, true, _) => Framing::Chunked,
        (_, false, Some(bytes)) => Framing::Length(bytes),
        (_, false, None) => {
            head.keep_alive = false;
            Framing::UntilClose
        }
    };
    Ok(head)
}

fn status_line(line: &str) -> Result<(u16, bool), Malformed> {
    let (version, rest) = line.split_once(' ').ok_or(Malformed)?;
    let http_1_0 = match version {
        "HTTP/1.1" => false,
        "HTTP/1.0" => true,
        _ => return Err(Malformed),
    };
    let status = rest.get(..3).and_then(|status| status.parse().ok()).ok_or(Malformed)?;
    if (100..600).contains(&status) { Ok((status, http_1_0)) } else { Err(Malformed) }
}

fn reason(label: &str) -> Option<Reason> {
    REASONS.iter().find(|row| row.label == label).map(|row| row.reason)
}

/// Takes a body apart as it comes.
#[derive(Clone, Debug)]
pub struct Body {
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Length(u64),
    UntilClose,
    ChunkSize,
    Chunk(u64),
    ChunkEnd,
    Trailer,
    Done,
}

impl Body {
    /// The body that follows a head with this framing.
    pub fn new(framing: Framing) -> Body {
        Body {
            state: match framing {
                Framing::Length(0) => State::Done,
                Framing::Length(bytes) => State::Length(bytes),
                Framing::Chunked => State::ChunkSize,
                Framing::UntilClose => State::UntilClose,
            },
        }
    }

    /// Whether it is complete.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Whether the end of the connection is its end.
    pub fn ends_with_close(&self) -> bool {
        self.state == State::UntilClose
    }

    /// Takes what it can of `bytes` into `reply`; returns how many it took.
    pub fn feed(&mut self, bytes: &[u8], reply: &mut Reply) -> Result<usize, Malformed> {
        let mut at = 0;
        while at < bytes.len() && self.state != State::Done {
            let rest = &bytes[at..];
            match self.state {
                State::Length(left) | State::Chunk(left) => {
                    let n = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                    keep(reply, &rest[..n]);
                    at += n;
                    self.state = self.after_data(left - n as u64);
                }
                State::UntilClose => {
                    keep(reply, rest);
                    at = bytes.len();
                }
                State::ChunkSize | State::ChunkEnd | State::Trailer => {
                    let Some(line) = rest.windows(2).position(|w| w == b"\r\n") else {
                        return if rest.len() > HEAD_BYTES_MAX { Err(Malformed) } else { Ok(at) };
                    };
                    self.state = self.after_line(&rest[..line])?;
                    at += line + 2;
                }
                State::Done => {}
            }
        }
        Ok(at)
    }

    fn after_data(&self, left: u64) -> State {
        match (self.state, left) {
            (State::Length(_), 0) => State::Done,
            (State::Length(_), left) => State::Length(left),
            (_, 0) => State::ChunkEnd,
            (_, left) => State::Chunk(left),
        }
    }

    fn after_line(&self, line: &[u8]) -> Result<State, Malformed> {
        match self.state {
            State::ChunkEnd if line.is_empty() => Ok(State::ChunkSize),
            State::ChunkEnd => Err(Malformed),
            State::Trailer if line.is_empty() => Ok(State::Done),
            State::Trailer => Ok(State::Trailer),
            _ => {
                let size = line.split(|b| *b == b';').next().unwrap_or_default();
                let size = std::str::from_utf8(size).map_err(|_| Malformed)?;
                match u64::from_str_radix(size.trim(), 16).map_err(|_| Malformed)? {
                    0 => Ok(State::Trailer),
                    bytes => Ok(State::Chunk(bytes)),
                }
            }
        }
    }
}

fn keep(reply: &mut Reply, bytes: &[u8]) {
    reply.body_bytes += bytes.len() as u64;
    let room = BODY_BYTES_KEPT.saturating_sub(reply.body.len());
    reply.body.extend_from_slice(&bytes[..room.min(bytes.len())]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Reads a whole reply that arrives in pieces of `step` bytes.
    fn read(bytes: &[u8], step: usize) -> Result<Reply, Malformed> {
        let mut buf = Vec::new();
        let mut pieces = bytes.chunks(step);
        let head = loop {
            if let Some(head) = head(&buf)? {
                break head;
            }
            buf.extend_from_slice(pieces.next().ok_or(Malformed)?);
        };
        let mut reply = head.reply.clone();
        let mut body = Body::new(head.framing);
        buf.drain(..head.bytes);
        loop {
            let took = body.feed(&buf, &mut reply)?;
            buf.drain(..took);
            if body.is_done() {
                return Ok(reply);
            }
            match pieces.next() {
                Some(piece) => buf.extend_from_slice(piece),
                None if body.ends_with_close() => return Ok(reply),
                None => return Err(Malformed),
            }
        }
    }

    const CHUNKED: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=1\r\nhello\r\n1\r\n!\r\n0\r\nA: b\r\n\r\n";
    const SOLD_OUT: &[u8] = b"HTTP/1.1 409 Conflict\r\npenstock-reason: sold_out\r\nRetry-After: 3         \r\nContent-Length: 2\r\n\r\n{}";

    proptest! {
        #[test]
        fn pieces_of_any_size_give_the_same_reply(step in 1usize..60) {
            prop_assert_eq!(read(CHUNKED, step)?.body, b"hello!");
            let reply = read(SOLD_OUT, step)?;
            prop_assert_eq!(reply.reason, Some(Reason::SoldOut));
            prop_assert_eq!(reply.retry_after_ms, Some(3_000));
            prop_assert_eq!(reply.body, b"{}");
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes, 7);
            let mut after_head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
            after_head.extend(&bytes);
            let _ = read(&after_head, 7);
        }
    }

    #[test]
    fn other_endings() {
        let closed = read(b"HTTP/1.0 200 OK\r\n\r\nabc", 4).unwrap();
        assert_eq!((closed.body.as_slice(), closed.body_bytes), (&b"abc"[..], 3));
        let none = read(b"HTTP/1.1 204 No Content\r\n\r\n", 9).unwrap();
        assert_eq!(none.body_bytes, 0);
        let interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx";
        assert_eq!(read(interim, 5).unwrap().status, 200);
        assert_eq!(read(b"SSH-2.0\r\n\r\n", 9), Err(Malformed));
        assert_eq!(read(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort", 9), Err(Malformed));
    }

    #[test]
    fn a_request_is_framed() {
        let post = request("POST", "/a", "h", "X: y\r\n", Some("{}"));
        let want = "POST /a HTTP/1.1\r\nHost: h\r\nX: y\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";
        assert_eq!(String::from_utf8(post).unwrap(), want);
        let get = request("GET", "/a", "h", "", None);
        assert_eq!(get, b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n");
    }
}
