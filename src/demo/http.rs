//! One request, one answer: enough HTTP to ask a local process how it is.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::drill::wire;

const TIMEOUT: Duration = Duration::from_secs(2);
/// No answer that the demo asks for is larger.
const BYTES_MAX: u64 = 64 << 20;

/// Status and body of one answer.
pub fn ask(to: SocketAddr, method: &str, path: &str) -> std::io::Result<(u16, Vec<u8>)> {
    let mut stream = TcpStream::connect_timeout(&to, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let body = (method == "POST").then_some("");
    let host = to.to_string();
    stream.write_all(&wire::request(method, path, &host, "Connection: close\r\n", body))?;
    let mut answer = Vec::new();
    stream.take(BYTES_MAX).read_to_end(&mut answer)?;
    let invalid = || std::io::Error::new(std::io::ErrorKind::InvalidData, "not a whole answer");
    let head = wire::head(&answer).ok().flatten().ok_or_else(invalid)?;
    let body = answer.split_off(head.bytes);
    match head.framing {
        wire::Framing::Length(bytes) if bytes != body.len() as u64 => Err(invalid()),
        wire::Framing::Chunked => Err(invalid()),
        _ => Ok((head.reply.status, body)),
    }
}
