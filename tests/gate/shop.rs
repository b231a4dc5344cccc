//! A scripted shop: it remembers what it received and answers as it is told.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// What the shop does with a request that it has read whole.
#[derive(Clone, Debug)]
pub enum Reply {
    /// These bytes; the connection stays open.
    Bytes(String),
    /// These bytes, and the connection closes.
    Cut(String),
    /// Nothing at all, for as long as the client waits.
    Silence,
    /// These bytes once [`Shop::release`] is called.
    Held(String),
}

/// What the shop received.
#[derive(Clone, Debug)]
pub struct Received {
    /// Request line and fields.
    pub head: String,
    pub body: String,
}

impl Received {
    /// The values of a field, in their order.
    pub fn field(&self, name: &str) -> Vec<&str> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines.filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
    }
}

#[derive(Debug, Default)]
struct Book {
    received: Vec<Received>,
    replies: VecDeque<Reply>,
}

#[derive(Clone, Debug)]
pub struct Shop {
    pub address: SocketAddr,
    book: Arc<Mutex<Book>>,
    go: Arc<Notify>,
}

impl Shop {
    /// Starts on the current runtime.
    pub async fn start() -> Shop {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let shop = Shop {
            address: listener.local_addr().expect("address"),
            book: Arc::default(),
            go: Arc::default(),
        };
        let accepting = shop.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(accepting.clone().serve(stream));
            }
        });
        shop
    }

    /// The next requests are answered so, one each; then `201` with an order.
    pub fn next(&self, replies: impl IntoIterator<Item = Reply>) {
        self.book.lock().expect("book").replies.extend(replies);
    }

    pub fn received(&self) -> Vec<Received> {
        self.book.lock().expect("book").received.clone()
    }

    /// Lets the held answers go.
    pub fn release(&self) {
        self.go.notify_waiters();
    }

    async fn serve(self, mut stream: TcpStream) {
        let mut buffer = Vec::new();
        while let Some(received) = read(&mut stream, &mut buffer).await {
            let going = self.go.notified();
            let reply = {
                let mut book = self.book.lock().expect("book");
                book.received.push(received);
                book.replies.pop_front().unwrap_or_else(|| Reply::Bytes(made("S1")))
            };
            let (bytes, closes) = match reply {
                Reply::Bytes(bytes) => (bytes, false),
                Reply::Cut(bytes) => (bytes, true),
                Reply::Silence => return drop(stream.read(&mut [0; 1]).await),
                Reply::Held(bytes) => {
                    going.await;
                    (bytes, false)
                }
            };
            if stream.write_all(bytes.as_bytes()).await.is_err() || closes {
                return;
            }
        }
    }
}

/// `201` with an order's number.
pub fn made(order: &str) -> String {
    answer("201 Created", &format!("{{\"order\":\"{order}\"}}"))
}

/// An answer with a body of JSON.
pub fn answer(status: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nX-Shop: yes\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Reads one request with a `Content-Length`; `None` at the end of the connection.
async fn read(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Received> {
    loop {
        if let Some(end) = buffer.windows(4).position(|w| w == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
            let received = Received { head, body: String::new() };
            let length = received.field("content-length").first().map_or(0, |n| n.parse().unwrap());
            if buffer.len() >= end + 4 + length {
                let body = buffer[end + 4..end + 4 + length].to_vec();
                buffer.drain(..end + 4 + length);
                return Some(Received { body: String::from_utf8(body).unwrap(), ..received });
            }
        }
        let mut chunk = [0; 4096];
        match stream.read(&mut chunk).await {
            Ok(0) | Err(_) => return None,
            Ok(n) => buffer.extend_from_slice(&chunk[..n]),
        }
    }
}
