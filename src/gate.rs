//! The gate: who may reach the order backend, and how many.
//!
//! ```text
//! judge    state → identity → this user before → limits        local, ready-made answers
//! work     body → attempt → limits                             the same, for an order in a body
//! forward  upstream room → claim → send → classify → resolve   a task of its own
//! ```
//!
//! What can be decided from the head is answered at once. An order's body is read whole before
//! anything is claimed, also where nothing in it is looked for: one that stalls must not hold a unit.

mod alarm;
mod body;
mod cors;
mod fields;
mod forward;
mod identity;
mod json;
mod judge;
mod jwt;
mod order;
pub mod outcome;
mod pass;
mod rate;
mod repeat;
pub mod report;
mod say;
mod site;
mod work;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::task::TaskTracker;

use self::alarm::Alarm;
use self::body::BodyMemory;
use self::judge::Limits;
use self::pass::PassKey;
use self::repeat::Repeats;
pub use self::report::{Hook, Report};
use self::say::{Listener, Voice};
use self::site::SiteGate;
use crate::answers::{Answers, Facts};
use crate::claims::Claims;
use crate::config::Settings;
use crate::http::{Exchange, Head, Ready, Step, Trust};
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
    trust: Arc<Trust>,
    sites: BTreeMap<Name, Arc<SiteGate>>,
    limits: Limits,
    repeats: Arc<Repeats>,
    bodies: Arc<BodyMemory>,
    pass: Option<PassKey>,
    alarm: Arc<Alarm>,
    join_timeout: Duration,
    body_timeout: Duration,
    answer_bytes_max: usize,
}

impl Shared {
    /// Reads the settings and the key files they name. An error says which setting is wrong.
    pub fn new(
        settings: &Settings,
        answers: Arc<Answers>,
        trust: Arc<Trust>,
    ) -> Result<Arc<Shared>, String> {
        Shared::after(None, settings, answers, trust)
    }

    /// The same with other settings and the key files as they are now. What is counted and remembered
    /// goes on: rates, answers for repeats, the memory of bodies.
    pub fn next(
        &self,
        settings: &Settings,
        answers: Arc<Answers>,
        trust: Arc<Trust>,
    ) -> Result<Arc<Shared>, String> {
        Shared::after(Some(self), settings, answers, trust)
    }

    fn after(
        old: Option<&Shared>,
        settings: &Settings,
        answers: Arc<Answers>,
        trust: Arc<Trust>,
    ) -> Result<Arc<Shared>, String> {
        let gate = &settings.gate;
        let pass = gate.pass_key_file.as_deref().map(PassKey::read).transpose();
        let entries = usize::try_from(gate.replay_entries_max).unwrap_or(usize::MAX);
        let repeats = || Arc::new(Repeats::new(entries, gate.replay_bytes_max.in_memory()));
        let bodies = || BodyMemory::new(gate.body_memory_max.in_memory());
        Ok(Arc::new(Shared {
            answers,
            trust,
            sites: SiteGate::all(settings)?,
            limits: Limits::new(&settings.limits, old.map(|old| &old.limits)),
            repeats: old.map_or_else(repeats, |old| old.repeats.clone()),
            bodies: old.map_or_else(bodies, |old| old.bodies.clone()),
            pass: pass.map_err(|e| format!("gate.pass_key_file: {e}"))?,
            alarm: old.map(|old| old.alarm.clone()).unwrap_or_default(),
            join_timeout: gate.join_timeout.duration(),
            body_timeout: settings.http.body_timeout.duration(),
            answer_bytes_max: gate.answer_bytes_max.in_memory(),
        }))
    }
}

/// One worker's gate.
#[derive(Debug)]
pub struct Gate {
    inner: Rc<Inner>,
}

/// What purchases under way on one worker need.
#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    upstreams: Rc<Upstreams>,
    claims: Claims,
    tasks: TaskTracker,
    sink: Sink,
    hook: Hook,
}

/// A purchase to decide about: a POST on the purchase path of an activity that has a sale.
pub struct Purchase<'a> {
    /// The site.
    pub site: &'a Name,
    /// The request.
    pub head: &'a Head<'a>,
    /// The exchange.
    pub exchange: &'a Exchange,
    /// The sale, loaded once for this request.
    pub sale: &'a Arc<SaleSnapshot>,
    /// Called where the purchase is not answered at once, before its exchange is kept: the head will
    /// be gone when it is over.
    pub remember: &'a dyn Fn(),
}

impl Gate {
    /// One worker's gate. `tasks` tracks purchases under way, so that a drain awaits them; they run on
    /// the worker's `LocalSet`.
    pub fn new(
        shared: Arc<Shared>,
        upstreams: Rc<Upstreams>,
        claims: Claims,
        tasks: TaskTracker,
        sink: Sink,
    ) -> Gate {
        let hook = Hook::default();
        Gate { inner: Rc::new(Inner { shared, upstreams, claims, tasks, sink, hook }) }
    }

    /// The same gate; `hook` hears of every admission when it is over. Called before the gate is used.
    pub fn with_hook(mut self, hook: Hook) -> Gate {
        if let Some(inner) = Rc::get_mut(&mut self.inner) {
            inner.hook = hook;
        }
        self
    }

    /// Decides about a purchase: answers at once what can be decided here, claims and forwards the
    /// rest.
    pub fn decide(&self, ask: Purchase<'_>) -> Step {
        let shared = &*self.inner.shared;
        let Some(site) = shared.sites.get(ask.site) else {
            return Step::Answer(self.plain(Reason::Internal, ask.head, ask.exchange));
        };
        let judged = judge::judge(&self.inner, site, &ask);
        if judged.is_ok() {
            (ask.remember)();
        }
        let listener = Listener {
            form: shared.answers.form(ask.head),
            origin: site.cors.origin(ask.head),
            exchange: Cow::Borrowed(ask.exchange),
        };
        match judged {
            Ok(open) => Step::Work(work::start(self.inner.clone(), open, listener.into_owned())),
            Err(said) => {
                let voice = Voice { answers: &shared.answers, cors: &site.cors, sale: ask.sale };
                Step::Answer(voice.ready(&said, &listener))
            }
        }
    }

    /// The answer to `OPTIONS` on a purchase path of `site`: a preflight where CORS is set, else 405.
    pub fn preflight(&self, site: &Name, head: &Head<'_>, exchange: &Exchange) -> Step {
        let shared = &*self.inner.shared;
        let cors = shared.sites.get(site).map(|site| &site.cors).filter(|cors| cors.is_set());
        let Some(cors) = cors else {
            let facts = Facts { allow: Some(ALLOW_WITHOUT_CORS), ..Facts::default() };
            let answer = shared.answers.make(shared.answers.form(head), Reason::Method, &facts);
            return Step::Answer(shared.answers.ready(answer, Reason::Method, exchange));
        };
        let fill = crate::answer::Fill {
            now: exchange.now,
            request: exchange.id,
            ..crate::answer::Fill::default()
        };
        Step::Answer(Ready { answer: cors.preflight(head).into(), fill, reason: None })
    }

    fn plain(&self, reason: Reason, head: &Head<'_>, exchange: &Exchange) -> Ready {
        let answers = &self.inner.shared.answers;
        answers.ready(answers.plain(answers.form(head), reason), reason, exchange)
    }
}

/// Methods of a purchase path where no other origin may buy.
const ALLOW_WITHOUT_CORS: &str = "GET, HEAD, POST";
