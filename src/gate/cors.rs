//! CORS of purchases: which other origins may buy from scripts, and the preflight's answer.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use super::fields::{Single, single};
use crate::answer::{Answer, AnswerBuilder, SlotKind};
use crate::answers::EXPOSE;
use crate::http::Head;

/// The origins of one site.
#[derive(Clone, Debug, Default)]
pub struct Cors {
    origins: Vec<HeaderValue>,
}

/// One of the listed origins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin(u16);

impl Cors {
    /// Reads `cors_origins`; an error says which entry is wrong.
    pub fn new(origins: &[String]) -> Result<Cors, String> {
        if origins.len() > ORIGINS_MAX {
            return Err(format!("cors_origins: at most {ORIGINS_MAX}, here are {}", origins.len()));
        }
        let origin = |text: &String| match HeaderValue::from_str(text) {
            Ok(value) if is_origin(text) => Ok(value),
            _ => Err(format!(
                "cors_origins: `{text}` is not an origin like https://m.shop.example, or `*`"
            )),
        };
        Ok(Cors { origins: origins.iter().map(origin).collect::<Result<_, _>>()? })
    }

    /// Whether CORS is set at all.
    pub fn is_set(&self) -> bool {
        !self.origins.is_empty()
    }

    /// The origin of `head`, if it may buy: a listed one by its own name, else any by `*`.
    pub fn origin(&self, head: &Head<'_>) -> Option<Origin> {
        let Single::One(sent) = single(head.field_all("origin")) else { return None };
        let listed = self.origins.iter().position(|o| o.as_bytes() == sent);
        let index = listed.or_else(|| self.origins.iter().position(|o| o.as_bytes() == b"*"))?;
        u16::try_from(index).ok().map(Origin)
    }

    /// The value of `Access-Control-Allow-Origin`.
    pub fn name(&self, origin: Origin) -> Option<&str> {
        self.origins.get(usize::from(origin.0))?.to_str().ok()
    }

    /// Adds the fields to an answer of the shop. Where CORS is set here, it is said here: two
    /// `Access-Control-Allow-Origin` are worth none.
    pub fn add(&self, origin: Option<Origin>, headers: &mut HeaderMap) {
        if !self.is_set() {
            return;
        }
        headers.remove(header::ACCESS_CONTROL_ALLOW_ORIGIN);
        headers.remove(header::ACCESS_CONTROL_ALLOW_CREDENTIALS);
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
        let Some(value) = origin.and_then(|o| self.origins.get(usize::from(o.0))) else { return };
        if value != "*" {
            let yes = HeaderValue::from_static("true");
            headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, yes);
        }
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, value.clone());
        let expose = HeaderValue::from_static(EXPOSE);
        headers.append(header::ACCESS_CONTROL_EXPOSE_HEADERS, expose);
    }

    /// The answer to `OPTIONS`: a preflight's, with nothing in it for an origin that may not buy.
    pub fn preflight(&self, head: &Head<'_>) -> Arc<Answer> {
        let mut answer = AnswerBuilder::new(StatusCode::NO_CONTENT)
            .field("allow", ALLOW)
            .field("cache-control", "no-store")
            .field("vary", "Origin, Access-Control-Request-Headers")
            .slot("penstock-request", SlotKind::RequestId);
        let Some(origin) = self.origin(head).and_then(|origin| self.name(origin)) else {
            return answer.build();
        };
        answer = answer
            .field("access-control-allow-origin", origin)
            .field("access-control-allow-methods", "POST")
            .field("access-control-max-age", MAX_AGE_S);
        if origin != "*" {
            answer = answer.field("access-control-allow-credentials", "true");
        }
        let asked = single(head.field_all("access-control-request-headers"));
        if let Single::One(names) = asked
            && names
                .split(|b| *b == b',')
                .all(|name| HeaderName::from_bytes(name.trim_ascii()).is_ok())
        {
            answer = answer.field("access-control-allow-headers", names);
        }
        answer.build()
    }
}

impl Origin {
    /// A small number for keys of memos.
    pub fn index(self) -> u16 {
        self.0
    }
}

/// `scheme://host[:port]` as browsers write it, without a path; or `*`.
fn is_origin(text: &str) -> bool {
    let Some((scheme, host)) = text.split_once("://") else { return text == "*" };
    let scheme_ok = !scheme.is_empty() && scheme.bytes().all(|b| b.is_ascii_lowercase());
    let host_ok = !host.is_empty()
        && host
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._:[]".contains(&b));
    scheme_ok && host_ok
}

/// Methods of a purchase path.
pub const ALLOW: &str = "GET, HEAD, POST, OPTIONS";
/// How long a browser may keep a preflight's answer; Chromium keeps no longer than this.
const MAX_AGE_S: &str = "7200";
const ORIGINS_MAX: usize = 1_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::Fill;
    use crate::answer::tests::agree;
    use crate::http::Limits;
    use crate::http::reader::read_head;

    fn cors(origins: &[&str]) -> Cors {
        let origins: Vec<_> = origins.iter().map(|&o| o.to_owned()).collect();
        Cors::new(&origins).expect("valid")
    }

    fn preflight(cors: &Cors, fields: &str) -> HeaderMap {
        let bytes = format!("OPTIONS / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        let mut storage = Vec::new();
        let request = read_head(bytes.as_bytes(), &Limits::default(), &mut storage);
        let head = request.expect("valid").expect("complete").head;
        agree::response(&cors.preflight(&head), &Fill::default()).headers().clone()
    }

    #[test]
    fn a_preflight_names_the_origin_that_asks() {
        let cors = cors(&["https://m.shop.example", "http://localhost:3000"]);
        let asks = "Origin: https://m.shop.example\r\nAccess-Control-Request-Method: POST\r\n\
            Access-Control-Request-Headers: authorization, content-type\r\n";
        let told = preflight(&cors, asks);
        assert_eq!(told["access-control-allow-origin"], "https://m.shop.example");
        assert_eq!(told["access-control-allow-credentials"], "true");
        assert_eq!(told["access-control-allow-methods"], "POST");
        assert_eq!(told["access-control-allow-headers"], "authorization, content-type");
        assert_eq!(told["access-control-max-age"], "7200");
        for stranger in ["Origin: https://evil.example\r\n", "Origin: null\r\n", ""] {
            let told = preflight(&cors, stranger);
            assert!(!told.contains_key("access-control-allow-origin"), "{stranger}");
            assert!(told["vary"].as_bytes().starts_with(b"Origin"));
        }
    }

    #[test]
    fn any_origin_comes_without_credentials() {
        let told = preflight(&cors(&["*"]), "Origin: https://a.example\r\n");
        assert_eq!(told["access-control-allow-origin"], "*");
        assert!(!told.contains_key("access-control-allow-credentials"));
    }

    #[test]
    fn the_shops_own_word_is_replaced() {
        let cors = cors(&["https://m.shop.example"]);
        let mut headers = HeaderMap::new();
        headers.insert("access-control-allow-origin", HeaderValue::from_static("*"));
        cors.add(Some(Origin(0)), &mut headers);
        let all: Vec<_> = headers.get_all("access-control-allow-origin").iter().collect();
        assert_eq!(all, ["https://m.shop.example"]);
        cors.add(None, &mut headers);
        assert!(!headers.contains_key("access-control-allow-origin"));
        let mut untouched = HeaderMap::new();
        untouched.insert("access-control-allow-origin", HeaderValue::from_static("*"));
        Cors::default().add(None, &mut untouched);
        assert_eq!(untouched.len(), 1);
    }

    #[test]
    fn what_is_no_origin_is_refused() {
        for text in ["m.shop.example", "https://a/", "https://A.example", "https://", "null"] {
            assert!(Cors::new(&[text.to_owned()]).expect_err("invalid").contains(text));
        }
    }
}
