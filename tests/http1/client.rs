//! A raw client: sends bytes as they are, reads responses by their framing and nothing else.

use std::cell::Cell;
use std::rc::Rc;

use penstock::outcome::CloseReason;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::{JoinHandle, spawn_local};

trait Io: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Io for T {}

/// One connection, seen from the client.
pub struct Client {
    reads: ReadHalf<Box<dyn Io>>,
    /// To the task that writes, so that a full pipe does not stop us from reading.
    writes: Option<UnboundedSender<Vec<u8>>>,
    writer: JoinHandle<()>,
    unsent: Rc<Cell<usize>>,
    received: Vec<u8>,
    server: JoinHandle<CloseReason>,
}

/// One response.
#[derive(Debug, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Response {
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    pub fn closes(&self) -> bool {
        self.field("connection") == Some("close")
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }
}

impl Client {
    pub fn new(
        io: impl AsyncRead + AsyncWrite + Unpin + 'static,
        server: JoinHandle<CloseReason>,
    ) -> Client {
        let (reads, mut sink) = tokio::io::split(Box::new(io) as Box<dyn Io>);
        let (writes, mut queue) = unbounded_channel::<Vec<u8>>();
        let unsent = Rc::new(Cell::new(0));
        let left = unsent.clone();
        let writer = spawn_local(async move {
            while let Some(bytes) = queue.recv().await {
                // The server may close first; the test says whether it should have.
                if sink.write_all(&bytes).await.is_err() || sink.flush().await.is_err() {
                    return;
                }
                left.set(left.get() - 1);
            }
            let _ = sink.shutdown().await;
        });
        Client { reads, writes: Some(writes), writer, unsent, received: Vec::new(), server }
    }

    pub fn send(&self, bytes: impl AsRef<[u8]>) {
        if let Some(writes) = &self.writes {
            self.unsent.set(self.unsent.get() + 1);
            let _ = writes.send(bytes.as_ref().to_vec());
        }
    }

    /// Whether the task that writes has nothing left.
    pub fn all_sent(&self) -> bool {
        self.unsent.get() == 0
    }

    /// Says that nothing more is sent, when all was.
    pub fn finish(&mut self) {
        self.writes = None;
    }

    pub async fn get(&mut self, path: &str) -> Response {
        self.send(get(path));
        self.response().await
    }

    /// Proves that the connection lives, for both paths.
    pub async fn lives(&mut self) {
        assert_eq!(self.get("/hot").await.text(), "hot");
        assert_eq!(self.get("/cold").await.text(), "cold");
        assert_eq!(self.get("/hot").await.text(), "hot");
    }

    /// The next final response to anything but HEAD.
    pub async fn response(&mut self) -> Response {
        self.next_response(false).await.expect("a response")
    }

    pub async fn response_to_head(&mut self) -> Response {
        self.next_response(true).await.expect("a response")
    }

    /// The next response, `None` if the server closed instead.
    pub async fn next_response(&mut self, to_head: bool) -> Option<Response> {
        let end = self.head_end().await?;
        let head: Vec<u8> = self.received.drain(..end).collect();
        let text = String::from_utf8(head).expect("ASCII head");
        let mut lines = text.trim_end().split("\r\n");
        let status = lines.next().and_then(|line| line.get(9..12)).expect("status line");
        let fields: Vec<(String, String)> = lines
            .map(|line| line.split_once(": ").expect("field"))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let mut response =
            Response { status: status.parse().expect("status"), fields, body: Vec::new() };
        let bodiless = to_head || matches!(response.status, 100..=199 | 204 | 304);
        if !bodiless {
            response.body = self.body(&response).await;
        }
        Some(response)
    }

    async fn body(&mut self, response: &Response) -> Vec<u8> {
        if let Some(length) = response.field("content-length") {
            assert_eq!(response.field("transfer-encoding"), None);
            return self.take(length.parse().expect("length")).await;
        }
        let mut body = Vec::new();
        if response.field("transfer-encoding").is_none() {
            assert!(response.closes(), "a body without length must end by close: {response:?}");
            while self.read_more().await {}
            return std::mem::take(&mut self.received);
        }
        loop {
            let line = self.line().await;
            let size = usize::from_str_radix(&line, 16).expect("chunk size");
            body.extend(self.take(size).await);
            assert_eq!(self.line().await, "");
            if size == 0 {
                return body;
            }
        }
    }

    async fn line(&mut self) -> String {
        loop {
            if let Some(end) = self.received.windows(2).position(|two| two == b"\r\n") {
                let line: Vec<u8> = self.received.drain(..end + 2).collect();
                return String::from_utf8(line[..end].to_vec()).expect("text");
            }
            assert!(self.read_more().await, "the response is cut");
        }
    }

    /// Exactly `count` bytes.
    pub async fn take(&mut self, count: usize) -> Vec<u8> {
        while self.received.len() < count {
            assert!(self.read_more().await, "the response is cut");
        }
        self.received.drain(..count).collect()
    }

    /// The next head alone, as text.
    pub async fn head(&mut self) -> String {
        let end = self.head_end().await.expect("a head");
        String::from_utf8(self.received.drain(..end).collect()).expect("text")
    }

    async fn head_end(&mut self) -> Option<usize> {
        loop {
            if let Some(end) = self.received.windows(4).position(|four| four == b"\r\n\r\n") {
                return Some(end + 4);
            }
            if !self.read_more().await {
                let cut = String::from_utf8_lossy(&self.received);
                assert!(self.received.is_empty(), "a head is cut: {cut}");
                return None;
            }
        }
    }

    /// Reads once; false at the end, a reset included.
    pub async fn read_more(&mut self) -> bool {
        let mut buffer = [0; 16 * 1024];
        match self.reads.read(&mut buffer).await {
            Ok(0) | Err(_) => false,
            Ok(read) => {
                self.received.extend_from_slice(&buffer[..read]);
                true
            }
        }
    }

    /// Forgets what came; says how much it was.
    #[allow(dead_code)] // The tests of upstreams share this client.
    pub fn discard(&mut self) -> usize {
        std::mem::take(&mut self.received).len()
    }

    /// Everything until the end.
    pub async fn rest(&mut self) -> Vec<u8> {
        while self.read_more().await {}
        std::mem::take(&mut self.received)
    }

    /// Waits for the server to close, which must have nothing more to say.
    pub async fn closed(mut self) -> CloseReason {
        while self.read_more().await {}
        // As a client does that has seen the end; the server lingers for it.
        self.finish();
        let rest = String::from_utf8_lossy(&self.received);
        assert!(rest.is_empty(), "something behind the last response: {rest}");
        self.server.await.expect("the driver")
    }

    /// How the driver ended, whatever it said before.
    pub async fn ended(self) -> CloseReason {
        self.server.await.expect("the driver")
    }

    /// Leaves at once.
    pub async fn leave(self) -> CloseReason {
        let Client { reads, writes, writer, server, .. } = self;
        drop(writes);
        writer.abort();
        let _ = writer.await;
        drop(reads);
        server.await.expect("the driver")
    }
}

/// A request without anything special.
pub fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")
}

/// A request with a sized body.
pub fn post(path: &str, body: &str) -> String {
    let length = body.len();
    format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}")
}

/// A request with a chunked body.
pub fn post_chunked(path: &str, chunks: &[&str]) -> String {
    let mut text = format!("POST {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    for chunk in chunks {
        text += &format!("{:x}\r\n{chunk}\r\n", chunk.len());
    }
    text + "0\r\n\r\n"
}
