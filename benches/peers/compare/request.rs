//! The requests of the load: rendered once, with a realistic head of about 430 bytes; only a number in
//! them changes.

use super::wire;

/// One kind of request.
#[derive(Clone)]
pub struct Ask {
    bytes: Vec<u8>,
    /// Where the digits of the changing number stand.
    number_at: Option<usize>,
}

impl Ask {
    /// The page of an activity of which everybody asks for the same city.
    pub fn page(activity: &str) -> Ask {
        Ask::new("GET", &format!("/activity/{activity}?city=c{}", digits(0)), "", None)
    }

    /// The page of an activity, each request for another city.
    pub fn page_of_any_city(activity: &str) -> Ask {
        let target = format!("/activity/{activity}?city=c{}", digits(0));
        Ask::new("GET", &target, "", Some("?city=c"))
    }

    /// The availability of the activity on sale.
    pub fn availability() -> Ask {
        Ask::new("GET", "/activity/8848/availability", "", None)
    }

    /// A purchase, each of another user.
    pub fn purchase() -> Ask {
        Ask::purchase_at("/activity/8848/orders")
    }

    /// A purchase at another path, for a peer's other way to refuse it.
    pub fn purchase_at(path: &str) -> Ask {
        Ask::new("POST", path, ORDER, Some("uid=u"))
    }

    /// A page that nobody may store.
    pub fn personal() -> Ask {
        Ask::new("GET", "/personal/cart", "", None)
    }

    /// The request with `number` in its place.
    pub fn numbered(&mut self, number: u64) -> &[u8] {
        if let Some(at) = self.number_at {
            self.bytes[at..at + DIGITS].copy_from_slice(digits(number).as_bytes());
        }
        &self.bytes
    }

    /// What `address` answers to it now.
    pub fn probe(
        &mut self,
        address: std::net::SocketAddr,
        number: u64,
    ) -> super::Outcome<wire::Reply> {
        wire::ask(address, self.numbered(number))
    }

    fn new(method: &str, target: &str, body: &str, number_after: Option<&str>) -> Ask {
        let body_fields = match body.len() {
            0 => String::new(),
            bytes => format!("Content-Type: application/json\r\nContent-Length: {bytes}\r\n"),
        };
        let text = format!(
            "{method} {target} HTTP/1.1\r\nHost: shop.example\r\n{body_fields}\
             User-Agent: Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 \
             (KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1\r\n\
             Accept: text/html,application/xhtml+xml,application/json;q=0.9,*/*;q=0.8\r\n\
             Accept-Language: en-GB,en;q=0.9\r\nAccept-Encoding: gzip, deflate, br\r\n\
             Cookie: uid=u{}; theme=dark; first_visit=2026-11-02\r\n\r\n{body}",
            digits(0)
        );
        let number_at = number_after.and_then(|after| Some(text.find(after)? + after.len()));
        Ask { bytes: text.into_bytes(), number_at }
    }
}

fn digits(number: u64) -> String {
    format!("{number:0DIGITS$}")
}

const DIGITS: usize = 12;

/// What a shop's page sends when somebody presses "buy": 197 bytes.
const ORDER: &str = concat!(
    r#"{"requestId":"5f0c3a1e-7d42-4b9e-9a57-2f6d1c8e4b30","skuId":"1001","quantity":1,"#,
    r#""addressId":"a-20931","couponId":null,"deliver":"home","client":"web/5.2.1","#,
    r#""note":"please ring the bell twice"}"#
);
