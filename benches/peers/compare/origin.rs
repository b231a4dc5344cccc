//! The origin behind every server: cacheable pages of three sizes, one page that nobody may store, and
//! orders that are confirmed. It counts what it is asked, so that a cache can be proved to be one.

use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;

use super::Outcome;
use super::eventloop::{Responder, serve};
use super::wire;

/// Asked for the number of requests so far, this one not counted.
pub const COUNT_PATH: &str = "/count";

/// `origin ADDRESS`.
pub fn run(args: &[String]) -> Outcome<()> {
    let [address] = args else { return Err("origin: one argument".into()) };
    let page = |kind: &str, bytes: usize| {
        let kept = "Cache-Control: public, max-age=3600\r\n";
        Rc::from(answer(kept, kind, &noise(bytes)))
    };
    serve(
        TcpListener::bind(address)?,
        Origin {
            asked: 0,
            small: page("text/html; charset=utf-8", 1024),
            medium: page("text/html; charset=utf-8", 16 * 1024),
            large: page("text/html; charset=utf-8", 100 * 1024),
            picture: page("image/jpeg", 1024),
            personal: answer("Cache-Control: no-store\r\n", "text/html", &noise(1024)).into(),
            order: answer("", "application/json", br#"{"order":"1"}"#).into(),
        },
    )
}

/// How many requests the origin at `address` has seen.
pub fn asked(address: SocketAddr) -> Outcome<u64> {
    let reply = wire::ask(address, format!("GET {COUNT_PATH} HTTP/1.1\r\n\r\n").as_bytes())?;
    Ok(std::str::from_utf8(&reply.body)?.parse()?)
}

struct Origin {
    asked: u64,
    small: Rc<[u8]>,
    medium: Rc<[u8]>,
    large: Rc<[u8]>,
    picture: Rc<[u8]>,
    personal: Rc<[u8]>,
    order: Rc<[u8]>,
}

impl Responder for Origin {
    fn answer(&mut self, request: &[u8]) -> Rc<[u8]> {
        let target = request.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
        if target == COUNT_PATH.as_bytes() {
            return answer("", "text/plain", self.asked.to_string().as_bytes()).into();
        }
        self.asked += 1;
        match request.starts_with(b"POST ") {
            true => self.order.clone(),
            false if target.starts_with(b"/personal") => self.personal.clone(),
            false if target.starts_with(b"/activity/picture") => self.picture.clone(),
            false if target.starts_with(b"/activity/page16") => self.medium.clone(),
            false if target.starts_with(b"/activity/page100") => self.large.clone(),
            false => self.small.clone(),
        }
    }
}

fn answer(fields: &str, kind: &str, body: &[u8]) -> Vec<u8> {
    let mut answer = format!(
        "HTTP/1.1 200 OK\r\nServer: origin\r\n{fields}Content-Type: {kind}\r\n\
         Content-Language: en\r\nX-Content-Type-Options: nosniff\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    answer.extend_from_slice(body);
    answer
}

/// Bytes that no coding makes smaller, so that every server sends the same body.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..bytes).map(next).collect()
}
