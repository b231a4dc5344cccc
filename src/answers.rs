//! What clients are told where the edge decides: for every reason one ready-made answer in each form
//! that the shop chose (`problem` or `envelope`, JSON or a page).

use std::sync::Arc;

use crate::answer::{Answer, AnswerBuilder, Fill, SlotKind};
use crate::clock::UnixMs;
use crate::config::schema;
use crate::http::{Exchange, Head, Ready};
use crate::outcome::Reason;

/// The form in which one client is answered: style, language, JSON or HTML. Small, so that it can be
/// part of a memo's key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Form(pub u8);

/// What an answer says beside its reason.
#[derive(Clone, Debug, Default)]
pub struct Facts<'a> {
    /// What was wrong, for the client's developer.
    pub detail: Option<&'a str>,
    /// Whether the state will never change again.
    pub is_final: Option<bool>,
    /// The pool.
    pub pool: Option<&'a str>,
    /// Units that the user may still buy, or that are left.
    pub max_units: Option<u32>,
    /// T0.
    pub opens_at: Option<UnixMs>,
    /// The order's number.
    pub order: Option<&'a str>,
    /// `Allow` of a 405.
    pub allow: Option<&'a str>,
    /// `Access-Control-Allow-Origin`, where CORS is set for the route.
    pub allow_origin: Option<&'a str>,
}

/// The answers of one configuration.
#[derive(Debug)]
pub struct Answers {}

impl Answers {
    /// Reads `[answers]`; an error says which setting is wrong.
    pub fn new(_settings: &schema::Answers) -> Result<Answers, String> {
        Ok(Answers {})
    }

    /// The form for the client of `head`.
    pub fn form(&self, _head: &Head<'_>) -> Form {
        Form::default()
    }

    /// The answer for a reason without any facts, made at start.
    pub fn plain(&self, form: Form, reason: Reason) -> Arc<Answer> {
        self.make(form, reason, &Facts::default())
    }

    /// Makes the answer for a reason with its facts. Costs an allocation: keep it in a memo where the
    /// same is said often.
    pub fn make(&self, _form: Form, reason: Reason, _facts: &Facts<'_>) -> Arc<Answer> {
        let status = http::StatusCode::from_u16(reason.row().status).unwrap_or_default();
        AnswerBuilder::new(status)
            .field("cache-control", "no-store")
            .field("penstock-reason", reason.label())
            .slot("penstock-request", SlotKind::RequestId)
            .build()
    }

    /// `answer` for this exchange: its slots filled, a jittered wait among them.
    pub fn ready(&self, answer: Arc<Answer>, reason: Reason, exchange: &Exchange) -> Ready {
        let fill = Fill {
            now: exchange.now,
            request: exchange.id,
            retry_after_ms: reason.row().retry_after_ms,
            ..Fill::default()
        };
        Ready { answer, fill, reason: Some(reason) }
    }
}
