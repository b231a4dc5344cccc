//! What the edge itself refuses, in the words that the shop chose.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use crate::answers::{Answers, Facts};
use crate::http::{Exchange, Head, Step};
use crate::metrics::{Counter, Sink};
use crate::outcome::Reason;
use crate::sale::Memo;

/// Why a request goes no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) reason: Reason,
    /// What was wrong, for the client's developer.
    pub(super) detail: Option<&'static str>,
    /// `Allow` of a 405.
    allow: Option<&'static str>,
    /// Whether the connection closes: client and edge may not agree on where its messages end.
    closes: bool,
    /// Whether it is counted as malformed.
    is_malformed: bool,
}

impl Refusal {
    /// Only a reason.
    pub(super) fn of(reason: Reason) -> Refusal {
        Refusal { reason, detail: None, allow: None, closes: false, is_malformed: false }
    }

    /// 405 on a route that knows `allow`.
    pub(super) fn method(allow: &'static str) -> Refusal {
        Refusal { allow: Some(allow), ..Refusal::of(Reason::Method) }
    }

    /// 421 for a request that came by a connection that is not for it.
    pub(super) fn misdirected(detail: &'static str) -> Refusal {
        Refusal { detail: Some(detail), ..Refusal::of(Reason::UnknownHost) }
    }

    /// 400 for a request that its developer has to change.
    pub(super) fn bad(detail: &'static str) -> Refusal {
        Refusal { detail: Some(detail), ..Refusal::of(Reason::BadRequest) }
    }

    /// 400 and the end of the connection.
    pub(super) fn malformed(detail: &'static str) -> Refusal {
        Refusal { closes: true, is_malformed: true, ..Refusal::bad(detail) }
    }

    /// The same for a request that is well-formed.
    pub(super) fn closing(detail: &'static str) -> Refusal {
        Refusal { closes: true, ..Refusal::bad(detail) }
    }
}

/// The answers to refusals: each made once.
#[derive(Debug)]
pub(super) struct Refusals {
    answers: Arc<Answers>,
    made: Memo,
}

impl Refusals {
    pub(super) fn new(answers: Arc<Answers>) -> Refusals {
        Refusals { answers, made: Memo::default() }
    }

    /// The step for a refusal; a malformed request is counted.
    pub(super) fn step(
        &self,
        head: &Head<'_>,
        exchange: &Exchange,
        refusal: Refusal,
        sink: &Sink,
    ) -> Step {
        if refusal.is_malformed {
            sink.inc(Counter::Malformed);
        }
        self.answer(head, exchange, refusal)
    }

    /// The same, for what is not counted as malformed.
    pub(super) fn answer(&self, head: &Head<'_>, exchange: &Exchange, refusal: Refusal) -> Step {
        let Refusal { reason, detail, allow, closes, .. } = refusal;
        let form = self.answers.form(head);
        let answer = if detail.is_none() && allow.is_none() {
            self.answers.plain(form, reason)
        } else {
            let facts = Facts { detail, allow, ..Facts::default() };
            let mut hasher = DefaultHasher::new();
            (form, reason, detail, allow).hash(&mut hasher);
            let key = hasher.finish();
            self.made.get(key, || self.answers.make(form, reason, &facts))
        };
        let ready = self.answers.ready(answer, reason, exchange);
        if closes { Step::Refuse(ready) } else { Step::Answer(ready) }
    }
}
