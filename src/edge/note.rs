//! What is counted and logged of each exchange: one in so many of its kind.

use std::cell::Cell;
use std::sync::Arc;

use crate::config::schema;
use crate::http::{Asked, ClientAddr, Done, Exchange, Head, Route, Step, Trust};
use crate::metrics::{Counter, Sink};

/// One worker's samplers.
#[derive(Debug)]
pub(super) struct Notes {
    trust: Arc<Trust>,
    logs: bool,
    pages: Sampler,
    availability: Sampler,
    refusals: Sampler,
    proxied: Sampler,
}

/// One in `every`; 0: none.
#[derive(Debug)]
struct Sampler {
    every: u32,
    left: Cell<u32>,
}

impl Sampler {
    fn new(every: u32) -> Sampler {
        Sampler { every, left: Cell::new(0) }
    }

    fn is_due(&self) -> bool {
        if self.every == 0 {
            return false;
        }
        match self.left.get() {
            0 => {
                self.left.set(self.every - 1);
                true
            }
            left => {
                self.left.set(left - 1);
                false
            }
        }
    }
}

impl Notes {
    pub(super) fn new(log: &schema::Log, trust: Arc<Trust>) -> Notes {
        let sampler = |every| Sampler::new(if log.access.is_some() { every } else { 0 });
        Notes {
            trust,
            logs: log.access.is_some(),
            pages: sampler(log.sample_pages),
            availability: sampler(log.sample_availability),
            refusals: sampler(log.sample_refusals),
            proxied: sampler(log.sample_proxied),
        }
    }

    /// Counts a decision, and keeps what the log will show if its line is wanted.
    pub(super) fn begun(
        &self,
        route: Route,
        step: &Step,
        head: &Head<'_>,
        exchange: &Exchange,
        sink: &Sink,
    ) {
        sink.inc(match route {
            Route::Page => Counter::RequestsPage,
            Route::Availability => Counter::RequestsAvailability,
            Route::Purchase => Counter::RequestsPurchase,
            Route::Proxy => Counter::RequestsProxy,
            Route::Own => Counter::RequestsOwn,
        });
        exchange.note.set_route(route);
        if self.is_wanted(route, step) {
            exchange.note.keep(self.asked(head, exchange));
        }
    }

    /// Counts the end.
    pub(super) fn finished(&self, _exchange: &Exchange, done: &Done, sink: &Sink) {
        if let Some(reason) = done.reason {
            sink.reason(reason);
        }
    }

    fn is_wanted(&self, route: Route, step: &Step) -> bool {
        let refused = match step {
            Step::Answer(ready) | Step::Refuse(ready) => ready.reason.is_some(),
            Step::Work(_) => false,
        };
        match route {
            _ if refused => self.refusals.is_due(),
            Route::Page => self.pages.is_due(),
            Route::Availability => self.availability.is_due(),
            // It may be admitted: every admission has its line.
            Route::Purchase => self.logs,
            Route::Proxy => self.proxied.is_due(),
            Route::Own => false,
        }
    }

    fn asked(&self, head: &Head<'_>, exchange: &Exchange) -> Asked {
        let mut target = head.path.to_owned();
        if let Some(query) = head.query {
            target.push('?');
            target.push_str(query);
        }
        Asked {
            method: head.method.clone(),
            host: head.host.to_string(),
            target,
            client: ClientAddr::of(head, &exchange.peer, &self.trust),
            user_agent: head.field("user-agent").map(<[u8]>::to_vec),
            referer: head.field("referer").map(<[u8]>::to_vec),
        }
    }
}
