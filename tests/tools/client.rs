//! A client that reads one whole answer, and waits that are bounded.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use penstock::shop::{Running, Settings};

/// Longest that a test waits for anything: far more than it takes, so that only a hang fails.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

/// Sends bytes and reads until the server closes. None: it closed without an answer.
pub fn send(to: SocketAddr, bytes: &str) -> Option<Answer> {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(bytes.as_bytes()).unwrap();
    let mut text = Vec::new();
    // A reset after the answer, or instead of one, is an end too.
    let _ = stream.read_to_end(&mut text);
    let text = String::from_utf8(text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Some(Answer { status, head: head.to_ascii_lowercase(), body: body.to_owned() })
}

pub fn get(to: SocketAddr, path: &str) -> Answer {
    send(to, &format!("GET {path} HTTP/1.1\r\nHost: s\r\nConnection: close\r\n\r\n")).unwrap()
}

pub fn post(to: SocketAddr, path: &str) -> Answer {
    let head = "Host: s\r\nConnection: close\r\nContent-Length: 0";
    send(to, &format!("POST {path} HTTP/1.1\r\n{head}\r\n\r\n")).unwrap()
}

/// The bytes of an order.
pub fn order_bytes(user: &str, key: &str, body: &str) -> String {
    format!(
        "POST /activity/8848/orders HTTP/1.1\r\nHost: s\r\nConnection: close\r\nCookie: a=b; uid={user}\r\n\
         Idempotency-Key: {key}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

pub fn order(to: SocketAddr, user: &str, key: &str, body: &str) -> Option<Answer> {
    send(to, &order_bytes(user, key, body))
}

/// Looks until it is so.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A shop without any wait, on a free port.
pub fn quick() -> Settings {
    Settings {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        orders_per_s: 100_000,
        workers: 100,
        latency_ms: 0,
        gap_ms: 0,
        page_ms: 0,
        page_bytes: 2_000,
        ..Settings::default()
    }
}

pub fn start(settings: Settings) -> Running {
    Running::start(settings).unwrap()
}
