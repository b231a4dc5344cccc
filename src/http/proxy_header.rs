//! The PROXY header, versions 1 and 2: what a balancer of layer 4 says about a connection before its
//! first byte (the specification is HAProxy's `proxy-protocol.txt`, 2020).
//!
//! The reader is a pure function over the bytes that have come so far, stricter than the
//! specification wherever that leaves a choice: one spelling of each address and port, no unknown
//! families, extensions (TLVs) that fit exactly. They are skipped.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::forwarded::{BadProxy, Trust};
use crate::clock::MonoMs;
use crate::config::schema;

/// Longest header of version 1, its line end included.
pub const V1_BYTES_MAX: usize = 107;
/// Longest header of version 2 with its extensions: what the specification lets a sender write at once.
pub const V2_BYTES_MAX: usize = 536;

/// What the bytes so far are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// The beginning of a header.
    Part,
    /// A header of so many bytes, and the client that it names. `None`: the sender speaks for itself
    /// (`LOCAL`, `UNKNOWN`, a family without addresses).
    Header(usize, Option<SocketAddr>),
    /// Something else from the first byte on.
    Absent,
}

/// Why bytes that begin like a header are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// More than either version allows.
    #[error("the PROXY header is too long")]
    TooLong,
    /// A line that is not one of version 1.
    #[error("the line is no PROXY header of version 1")]
    Line,
    /// Version, command, family or length of version 2.
    #[error("the PROXY header of version 2 has an unknown version, command, family or length")]
    Fixed,
    /// An extension that does not fit.
    #[error("an extension of the PROXY header does not fit")]
    Extension,
}

/// Reads a header from the beginning of `bytes`. The verdict does not depend on how they were cut into
/// reads.
pub fn read(bytes: &[u8]) -> Result<Seen, Malformed> {
    match bytes.first() {
        None => Ok(Seen::Part),
        Some(b'P') => v1(bytes),
        Some(b'\r') => v2(bytes),
        Some(_) => Ok(Seen::Absent),
    }
}

fn v1(bytes: &[u8]) -> Result<Seen, Malformed> {
    if !bytes.iter().zip(V1_WORD).all(|(byte, word)| byte == word) {
        return Err(Malformed::Line);
    }
    let most = bytes.get(..V1_BYTES_MAX).unwrap_or(bytes);
    let Some(at) = most.iter().position(|byte| matches!(byte, b'\r' | b'\n' | 0 | 0x80..)) else {
        return if most.len() < V1_BYTES_MAX { Ok(Seen::Part) } else { Err(Malformed::TooLong) };
    };
    match (most[at], most.get(at + 1)) {
        (b'\r', Some(b'\n')) => {}
        (b'\r', None) if most.len() < V1_BYTES_MAX => return Ok(Seen::Part),
        (b'\r', None) => return Err(Malformed::TooLong),
        _ => return Err(Malformed::Line),
    }
    let line = most.get(V1_WORD.len()..at).and_then(|line| std::str::from_utf8(line).ok());
    let client = v1_client(line.ok_or(Malformed::Line)?)?;
    Ok(Seen::Header(at + 2, client))
}

/// What stands between `PROXY ` and the line end.
fn v1_client(line: &str) -> Result<Option<SocketAddr>, Malformed> {
    let mut words = line.split(' ');
    let family = words.next().unwrap_or_default();
    if family == "UNKNOWN" {
        // Whatever follows is to be ignored.
        return Ok(None);
    }
    let (Some(from), Some(to), Some(from_port), Some(to_port), None) =
        (words.next(), words.next(), words.next(), words.next(), words.next())
    else {
        return Err(Malformed::Line);
    };
    let ip = |text: &str| match family {
        "TCP4" => text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        "TCP6" => text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        _ => None,
    };
    let (from, _) = ip(from).zip(ip(to)).ok_or(Malformed::Line)?;
    let (port, _) = port(from_port).zip(port(to_port)).ok_or(Malformed::Line)?;
    Ok(Some(SocketAddr::new(from.to_canonical(), port)))
}

/// A port in its one spelling.
fn port(text: &str) -> Option<u16> {
    let is_plain = text == "0" || !text.starts_with('0');
    let is_digits = text.len() <= 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_plain && is_digits)
}

fn v2(bytes: &[u8]) -> Result<Seen, Malformed> {
    if !bytes.iter().zip(V2_SIGNATURE).all(|(byte, sign)| byte == sign) {
        return Err(Malformed::Fixed);
    }
    let fixed = bytes.get(V2_SIGNATURE.len()..).unwrap_or_default();
    let command = match fixed.first() {
        None => return Ok(Seen::Part),
        Some(0x20) => Command::Local,
        Some(0x21) => Command::Proxy,
        Some(_) => return Err(Malformed::Fixed),
    };
    let family = match (command, fixed.get(1)) {
        (_, None) => return Ok(Seen::Part),
        // The sender speaks for itself: the family means nothing.
        (Command::Local, _) | (_, Some(0x00)) => Family::Unspecified,
        (_, Some(0x11)) => Family::V4,
        (_, Some(0x21)) => Family::V6,
        (_, Some(0x31)) => Family::Unix,
        // Datagrams did not come here by TCP.
        _ => return Err(Malformed::Fixed),
    };
    let Some(length) = fixed.get(2..4) else { return Ok(Seen::Part) };
    let whole = V2_FIXED_BYTES + (usize::from(length[0]) << 8 | usize::from(length[1]));
    if whole > V2_BYTES_MAX {
        return Err(Malformed::TooLong);
    }
    if whole < V2_FIXED_BYTES + family.bytes() {
        return Err(Malformed::Fixed);
    }
    let Some(body) = bytes.get(V2_FIXED_BYTES..whole) else { return Ok(Seen::Part) };
    let (addresses, extensions) = body.split_at(family.bytes());
    // Without a family everything that follows is to be ignored.
    if !matches!(family, Family::Unspecified) {
        skip(extensions)?;
    }
    Ok(Seen::Header(whole, family.client(addresses)))
}

#[derive(Clone, Copy)]
enum Command {
    Local,
    Proxy,
}

/// Whose addresses follow: both addresses, then both ports.
#[derive(Clone, Copy)]
enum Family {
    Unspecified,
    V4,
    V6,
    Unix,
}

impl Family {
    fn bytes(self) -> usize {
        match self {
            Family::Unspecified => 0,
            Family::V4 => 12,
            Family::V6 => 36,
            Family::Unix => 216,
        }
    }

    fn client(self, bytes: &[u8]) -> Option<SocketAddr> {
        let (ip, port) = match self {
            // A path is no address of a client.
            Family::Unspecified | Family::Unix => return None,
            Family::V4 => {
                let ip: [u8; 4] = bytes.get(..4)?.try_into().ok()?;
                (IpAddr::from(ip), bytes.get(8..10)?)
            }
            Family::V6 => {
                let ip: [u8; 16] = bytes.get(..16)?.try_into().ok()?;
                (IpAddr::from(ip), bytes.get(32..34)?)
            }
        };
        let port = u16::from_be_bytes(port.try_into().ok()?);
        Some(SocketAddr::new(ip.to_canonical(), port))
    }
}

/// Walks over extensions: a type, a length of two bytes, so many bytes.
fn skip(mut extensions: &[u8]) -> Result<(), Malformed> {
    while let [_, high, low, rest @ ..] = extensions {
        let length = usize::from(*high) << 8 | usize::from(*low);
        extensions = rest.get(length..).ok_or(Malformed::Extension)?;
    }
    if extensions.is_empty() { Ok(()) } else { Err(Malformed::Extension) }
}

/// What one listener expects of those who connect.
#[derive(Debug)]
pub struct ProxyHeader {
    from: Trust,
    /// Whether those listed may ask for health without a header.
    pub health_without: bool,
    /// From accept to the end of the header.
    pub timeout: Duration,
    /// When a refusal was told last; 0: never.
    told_ms: AtomicU64,
}

impl ProxyHeader {
    /// For `listen.X.proxy_protocol`.
    pub fn new(settings: &schema::ProxyProtocol) -> Result<ProxyHeader, BadProxy> {
        Ok(ProxyHeader {
            from: Trust::new(&settings.from)?,
            health_without: settings.health_without,
            timeout: settings.timeout.duration(),
            told_ms: AtomicU64::new(0),
        })
    }

    /// Whether `peer`, as its socket says, may name clients.
    pub fn is_listed(&self, peer: &super::Peer) -> bool {
        self.from.is_trusted(peer)
    }

    /// Whether a refusal is to be told now: not each of a flood.
    pub fn is_worth_telling(&self, now: MonoMs) -> bool {
        let told = self.told_ms.load(Ordering::Relaxed);
        let is_due = told == 0 || now.0.saturating_sub(told) >= TELL_EVERY_MS;
        let (now, order) = (now.0.max(1), Ordering::Relaxed);
        is_due && self.told_ms.compare_exchange(told, now, order, order).is_ok()
    }
}

const V1_WORD: &[u8] = b"PROXY ";
const V2_SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family, length.
const V2_FIXED_BYTES: usize = 16;
const TELL_EVERY_MS: u64 = 10_000;

#[cfg(test)]
mod tests;
