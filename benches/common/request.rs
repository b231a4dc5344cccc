//! The requests that are measured, as a phone sends them.

#![allow(dead_code)] // Each bench uses its part.

use penstock::clock::Clock;
use penstock::http::reader::read_head;
use penstock::http::{Exchange, Head, Limits, Note, Peer};
use penstock::ident::RequestId;

use super::node::Outcome;

/// A GET or HEAD; `first` is the request line and whatever fields only this request has.
pub fn get(first: &str) -> String {
    format!("{first}\r\n{FIELDS}Accept-Encoding: gzip, deflate, br\r\n\r\n")
}

/// The same from a client that takes no coding.
pub fn get_plain(first: &str) -> String {
    format!("{first}\r\n{FIELDS}Accept-Encoding: identity\r\n\r\n")
}

/// A purchase.
pub fn purchase() -> String {
    let length = ORDER.len();
    format!(
        "POST /activity/8848/orders HTTP/1.1\r\n{FIELDS}Accept-Encoding: gzip, deflate, br\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{ORDER}"
    )
}

/// A purchase that says everything in its head: it is decided at once, whatever its sale's state.
pub fn purchase_without_body() -> String {
    format!("POST /activity/8848/orders HTTP/1.1\r\n{FIELDS}Content-Length: 0\r\n\r\n")
}

/// The digits behind `uid=u` become those of `user`.
pub fn of_user(request: &str, user: u64) -> String {
    request.replace("uid=u00000000", &format!("uid=u{user:08}"))
}

/// Reads the head of `request` and hands it over with an exchange of now, as the driver does.
pub fn with_head<R>(
    request: &str,
    clock: &Clock,
    f: impl FnOnce(&Head<'_>, &dyn Fn() -> Exchange) -> R,
) -> Outcome<R> {
    let (limits, mut storage) = (Limits::default(), Vec::new());
    let read = read_head(request.as_bytes(), &limits, &mut storage);
    let request = read.map_err(|refusal| refusal.row().detail)?.ok_or("the head has no end")?;
    let peer = Peer::Tcp("203.0.113.7:4711".parse()?);
    let exchange = || Exchange {
        now: clock.now(),
        id: RequestId::next(),
        peer: peer.clone(),
        is_tls: false,
        terms: None,
        note: Note::default(),
    };
    Ok(f(&request.head, &exchange))
}

const FIELDS: &str = "Host: shop.example\r\n\
    User-Agent: Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 \
    (KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n\
    Accept-Language: zh-CN,zh-Hans;q=0.9\r\n\
    Cookie: sid=3f9a1c07d2b84e6591aa; uid=u00000000; theme=dark\r\n";

const ORDER: &str =
    r#"{"sku":"1001","quantity":1,"address_id":"5f2c9d","note":"","channel":"app","coupon":null}"#;
