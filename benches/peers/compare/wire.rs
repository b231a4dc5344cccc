//! One question and its answer on a blocking connection, for everything that is not measured.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use memchr::memmem;

use super::Outcome;
use super::eventloop::content_length;

/// A whole answer.
pub struct Reply {
    /// Its status.
    pub status: u16,
    /// Its head with the empty line.
    pub head: Vec<u8>,
    /// Its body.
    pub body: Vec<u8>,
}

/// Asks on a connection of its own.
pub fn ask(address: SocketAddr, request: &[u8]) -> Outcome<Reply> {
    exchange(&mut connect(address)?, request)
}

/// A connection that does not wait forever.
pub fn connect(address: SocketAddr) -> Outcome<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Asks once on `stream`, and reads exactly one answer.
pub fn exchange(stream: &mut TcpStream, request: &[u8]) -> Outcome<Reply> {
    stream.write_all(request)?;
    let (mut bytes, mut buffer) = (Vec::new(), [0; 16 * 1024]);
    loop {
        let read = stream.read(&mut buffer)?;
        if read == 0 {
            return Err("the server closed within an answer".into());
        }
        bytes.extend_from_slice(&buffer[..read]);
        let Some(head) = memmem::find(&bytes, b"\r\n\r\n") else { continue };
        let length = content_length(&bytes[..head + 4]).ok_or("an answer without its length")?;
        if bytes.len() > head + 4 + length {
            return Err("more than an answer".into());
        }
        if bytes.len() == head + 4 + length {
            let status = status(&bytes).ok_or("an answer without a status")?;
            let body = bytes.split_off(head + 4);
            return Ok(Reply { status, head: bytes, body });
        }
    }
}

/// The status in a head.
pub fn status(head: &[u8]) -> Option<u16> {
    std::str::from_utf8(head.get(9..12)?).ok()?.parse().ok()
}

const PATIENCE: Duration = Duration::from_secs(10);
