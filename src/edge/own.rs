//! Paths that the edge answers for itself and never forwards: `/_penstock/…`, and the listener's own
//! path for health checks.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, StatusCode};

use super::refuse::{Refusal, Refusals};
use crate::answer::{Answer, AnswerBuilder, Fill, Local, SlotKind};
use crate::http::{Exchange, Head, Ready, Step};
use crate::outcome::Reason;

/// The edge's own answers, ready made.
#[derive(Debug)]
pub(super) struct Own {
    healthy: Arc<Answer>,
    draining: Arc<Answer>,
    time: Arc<Answer>,
    server: Arc<Answer>,
}

impl Own {
    pub(super) fn new() -> Own {
        let begin = |status| AnswerBuilder::new(status).field("cache-control", "no-store");
        let health = |status, said: &'static str| {
            let text = begin(status).field("content-type", "text/plain; charset=utf-8");
            text.body(Bytes::from_static(said.as_bytes())).build()
        };
        Own {
            healthy: health(StatusCode::OK, "ok\n"),
            draining: health(StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
            time: begin(StatusCode::NO_CONTENT).slot("penstock-time", SlotKind::ServerTime).build(),
            server: begin(StatusCode::NO_CONTENT).field("allow", EVERY_METHOD).build(),
        }
    }

    /// Whether the edge answers `head` for itself.
    pub(super) fn is_own(&self, head: &Head<'_>, health: Option<&str>) -> bool {
        // `*` is the server itself (RFC 9110 9.3.7), which is us and not the shop.
        head.path.starts_with(PREFIX) || health == Some(head.path) || head.path == "*"
    }

    /// Whether `head` asks for the health of this listener.
    pub(super) fn is_health(head: &Head<'_>, health: Option<&str>) -> bool {
        head.path == HEALTH || health == Some(head.path)
    }

    /// The answer to a head that [`Own::is_own`].
    pub(super) fn answer(
        &self,
        head: &Head<'_>,
        exchange: &Exchange,
        health: Option<&str>,
        is_draining: bool,
        refusals: &Refusals,
    ) -> Step {
        let answer = match head.path {
            "*" => &self.server,
            path if health == Some(path) || path == HEALTH => {
                if is_draining {
                    &self.draining
                } else {
                    &self.healthy
                }
            }
            TIME => &self.time,
            _ => return refusals.answer(head, exchange, Refusal::of(Reason::NotFound)),
        };
        // Some balancers ask with OPTIONS; an answer without an effect is harmless to all three.
        if !matches!(head.method, Method::GET | Method::HEAD | Method::OPTIONS) {
            return refusals.answer(head, exchange, Refusal::method(READING));
        }
        let fill = Fill { now: exchange.now, request: exchange.id, ..Fill::default() };
        Step::Answer(Ready { answer: Local::of(answer), fill, reason: None })
    }
}

const PREFIX: &str = "/_penstock/";
const HEALTH: &str = "/_penstock/health";
const TIME: &str = "/_penstock/time";
const READING: &str = "GET, HEAD, OPTIONS";
const EVERY_METHOD: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";
