//! The faithful proxy for everything that is not a sale.

use std::rc::Rc;
use std::sync::Arc;

use crate::answers::Answers;
use crate::config::Settings;
use crate::http::{Exchange, Head, Step, Trust};
use crate::ident::Name;
use crate::metrics::Sink;
use crate::outcome::Reason;
use crate::upstream::Upstreams;

/// One worker's proxy.
#[derive(Debug)]
pub struct Proxy {
    answers: Arc<Answers>,
}

impl Proxy {
    /// One worker's proxy.
    pub fn new(
        _settings: &Settings,
        answers: Arc<Answers>,
        _trust: Arc<Trust>,
        _upstreams: Rc<Upstreams>,
        _sink: Sink,
    ) -> Proxy {
        Proxy { answers }
    }

    /// Sends the request of `head` to the upstream of `site` and relays the answer.
    pub fn decide(&self, _site: &Name, head: &Head<'_>, exchange: &Exchange) -> Step {
        let answer = self.answers.plain(self.answers.form(head), Reason::BadGateway);
        Step::Answer(self.answers.ready(answer, Reason::BadGateway, exchange))
    }
}
