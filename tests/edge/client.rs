//! A client that keeps its connection and reads whole answers, over TCP or a Unix socket.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// Longest that a test waits for anything: far more than it takes, so that only a hang fails.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Looks until it is so.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

trait Stream: Read + Write {
    fn copy(&self) -> Box<dyn Stream + Send>;
    fn shut(&self);
    /// Whether bytes, or the end, are there to be read within a moment.
    fn has_more(&self) -> Option<usize>;
}

impl Stream for TcpStream {
    fn copy(&self) -> Box<dyn Stream + Send> {
        Box::new(self.try_clone().expect("a copy"))
    }

    fn shut(&self) {
        self.shutdown(std::net::Shutdown::Write).expect("an end");
    }

    fn has_more(&self) -> Option<usize> {
        self.set_nonblocking(true).expect("set");
        let peeked = self.peek(&mut [0]);
        self.set_nonblocking(false).expect("set");
        peeked.ok()
    }
}

impl Stream for UnixStream {
    fn copy(&self) -> Box<dyn Stream + Send> {
        Box::new(self.try_clone().expect("a copy"))
    }

    fn shut(&self) {
        self.shutdown(std::net::Shutdown::Write).expect("an end");
    }

    fn has_more(&self) -> Option<usize> {
        None
    }
}

/// A connection.
pub struct Client {
    stream: Box<dyn Stream + Send>,
    came: Vec<u8>,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    fields: Vec<(String, String)>,
    pub body: String,
}

impl Answer {
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }

    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.fields.iter().filter(move |(field, _)| field == name).map(|(_, value)| value.as_str())
    }

    pub fn reason(&self) -> &str {
        self.field("penstock-reason").unwrap_or("none")
    }

    pub fn closes(&self) -> bool {
        self.field("connection") == Some("close")
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body))
    }
}

impl Client {
    pub fn tcp(to: SocketAddr) -> Client {
        let stream = TcpStream::connect(to).expect("connect");
        stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
        Client { stream: Box::new(stream), came: Vec::new() }
    }

    pub fn of(stream: TcpStream) -> Client {
        stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
        Client { stream: Box::new(stream), came: Vec::new() }
    }

    pub fn unix(path: &Path) -> Client {
        let stream = UnixStream::connect(path).expect("connect");
        stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
        Client { stream: Box::new(stream), came: Vec::new() }
    }

    /// Sends bytes; a peer that has closed already shows when its answer is read.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(bytes.as_ref());
    }

    /// The next whole answer; `None` if the connection ended before one.
    pub fn answer(&mut self) -> Option<Answer> {
        self.answer_to(false)
    }

    pub fn answer_to(&mut self, is_head: bool) -> Option<Answer> {
        let end = loop {
            if let Some(at) = self.came.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break at + 4;
            }
            self.more()?;
        };
        let head = String::from_utf8(self.came.drain(..end).collect()).expect("a head is text");
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next()?.split(' ').nth(1)?.parse().expect("a status");
        let field = |line: &str| {
            let (name, value) = line.split_once(':').expect("a field");
            (name.to_ascii_lowercase(), value.trim().to_owned())
        };
        let mut answer = Answer { status, fields: lines.map(field).collect(), body: String::new() };
        let bodiless = is_head || matches!(status, 204 | 304);
        let body = match answer.field("content-length") {
            _ if bodiless => Vec::new(),
            Some(length) => self.take(length.parse().expect("a length"))?,
            None if answer.field("transfer-encoding") == Some("chunked") => self.chunks()?,
            None => {
                while self.more().is_some() {}
                std::mem::take(&mut self.came)
            }
        };
        answer.body = String::from_utf8(body).expect("a body is text");
        Some(answer)
    }

    /// Sends, and reads one answer.
    pub fn ask(&mut self, bytes: impl AsRef<[u8]>) -> Answer {
        let bytes = bytes.as_ref();
        self.send(bytes);
        let answer = self.answer_to(bytes.starts_with(b"HEAD "));
        answer.unwrap_or_else(|| panic!("no answer to {}", String::from_utf8_lossy(bytes)))
    }

    /// So many bytes as they come; `None` if the end comes first.
    pub fn raw(&mut self, count: usize) -> Option<Vec<u8>> {
        self.take(count)
    }

    /// A second handle of the connection, to send by.
    pub fn copy(&self) -> Client {
        Client { stream: self.stream.copy(), came: Vec::new() }
    }

    /// Says that nothing more is sent.
    pub fn shut(&self) {
        self.stream.shut();
    }

    /// Whether the server has closed already; does not wait for it. (TCP)
    pub fn is_at_end(&self) -> bool {
        self.came.is_empty() && self.stream.has_more() == Some(0)
    }

    /// Whether the server has closed, with nothing more to say.
    pub fn is_closed(&mut self) -> bool {
        self.came.is_empty() && self.more().is_none()
    }

    fn chunks(&mut self) -> Option<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let end = loop {
                match self.came.windows(2).position(|bytes| bytes == b"\r\n") {
                    Some(at) => break at,
                    None => self.more()?,
                }
            };
            let line = String::from_utf8(self.take(end + 2)?).expect("text");
            let size = usize::from_str_radix(line.trim(), 16).expect("a chunk size");
            let chunk = self.take(size + 2)?;
            if size == 0 {
                return Some(body);
            }
            body.extend_from_slice(&chunk[..size]);
        }
    }

    fn take(&mut self, length: usize) -> Option<Vec<u8>> {
        while self.came.len() < length {
            self.more()?;
        }
        Some(self.came.drain(..length).collect())
    }

    fn more(&mut self) -> Option<()> {
        let mut bytes = [0; 4096];
        let read = self.stream.read(&mut bytes).ok().filter(|read| *read > 0)?;
        self.came.extend_from_slice(&bytes[..read]);
        Some(())
    }
}

/// A request without a body.
pub fn request(method: &str, path: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: shop.example\r\n\r\n")
}

pub fn get(path: &str) -> String {
    request("GET", path)
}

/// A purchase by `user`.
pub fn purchase(user: &str) -> String {
    format!(
        "POST /activity/8848/orders HTTP/1.1\r\nHost: shop.example\r\nCookie: uid={user}\r\n\
         Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{{}}"
    )
}
