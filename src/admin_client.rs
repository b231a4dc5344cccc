//! Asks a node over its admin socket: one request, one answer, blocking. For the verbs.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

/// The way to one node.
#[derive(Clone, Debug)]
pub struct AdminClient {
    socket: PathBuf,
}

/// Why there is no answer of the node.
#[derive(Debug, thiserror::Error)]
#[error("no node answers at {}: {cause}{}", socket.display(), hint(cause))]
pub struct Unreachable {
    socket: PathBuf,
    cause: io::Error,
}

fn hint(cause: &io::Error) -> &'static str {
    match cause.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            "; is it running, and with this config? (-c FILE, or --socket PATH)"
        }
        io::ErrorKind::PermissionDenied => "; only the node's own user may ask it",
        _ => "",
    }
}

impl AdminClient {
    /// For the node that has its socket at `path`. Connects once to see whether somebody is there.
    pub fn connect(path: &Path) -> Result<AdminClient, Unreachable> {
        let client = AdminClient { socket: path.to_owned() };
        client.stream().map_err(|cause| client.unreachable(cause))?;
        Ok(client)
    }

    /// Status and body of the answer to one request.
    pub fn request(
        &self,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> Result<(u16, Vec<u8>), Unreachable> {
        self.ask(method, path, body).map_err(|cause| self.unreachable(cause))
    }

    fn ask(&self, method: &str, path: &str, body: Option<Value>) -> io::Result<(u16, Vec<u8>)> {
        let mut stream = self.stream()?;
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes())?;
        stream.write_all(body.as_bytes())?;
        let mut answer = Vec::new();
        stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
        split(&answer)
            .ok_or_else(|| io::Error::new(io::ErrorKind::UnexpectedEof, "the answer is not whole"))
    }

    fn stream(&self) -> io::Result<UnixStream> {
        let stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(ANSWER_LONGEST))?;
        stream.set_write_timeout(Some(ANSWER_LONGEST))?;
        Ok(stream)
    }

    fn unreachable(&self, cause: io::Error) -> Unreachable {
        Unreachable { socket: self.socket.clone(), cause }
    }
}

/// Status and body of an answer with a length, as the admin interface gives it to those who close.
fn split(answer: &[u8]) -> Option<(u16, Vec<u8>)> {
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n")?;
    let head = std::str::from_utf8(answer.get(..end)?).ok()?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let length = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok()).flatten()
    });
    let body = answer.get(end + 4..)?;
    let length: usize = length?;
    (body.len() == length).then(|| (status, body.to_vec()))
}

/// Settling limbo waits for the ledger.
const ANSWER_LONGEST: Duration = Duration::from_secs(60);
/// No answer is larger: lists come in pages.
const ANSWER_BYTES_MAX: u64 = 256 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_or_none() {
        let whole = b"HTTP/1.1 409 Conflict\r\nContent-Length: 2\r\nx: y\r\n\r\n{}";
        assert_eq!(split(whole), Some((409, b"{}".to_vec())));
        assert_eq!(split(&whole[..whole.len() - 1]), None);
        assert_eq!(split(b"HTTP/1.1 200 OK\r\n"), None);
    }

    #[test]
    fn nobody_there_is_said_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.sock");
        let said = AdminClient::connect(&path).unwrap_err().to_string();
        assert!(said.contains("admin.sock") && said.contains("--socket"), "{said}");
    }
}
