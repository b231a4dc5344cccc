//! What is counted and logged of each exchange: one in so many of its kind, and every admission.

use std::cell::Cell;
use std::sync::Arc;

use crate::clock::UnixMs;
use crate::config::schema;
use crate::gate::{Hook, Report};
use crate::http::{Asked, ClientAddr, Done, Due, Exchange, Head, Route, Step, Trust};
use crate::ident::RequestId;
use crate::log::{AccessLog, Line, Sampler, Text};
use crate::metrics::{Counter, Sink, Timing};

/// One worker's samplers.
#[derive(Debug)]
pub(super) struct Notes {
    log: AccessLog,
    trust: Arc<Trust>,
    pages: Sampler,
    availability: Sampler,
    refusals: Sampler,
    proxied: Sampler,
}

impl Notes {
    pub(super) fn new(settings: &schema::Log, log: AccessLog, trust: Arc<Trust>) -> Notes {
        Notes {
            log,
            trust,
            pages: Sampler::new(settings.sample_pages),
            availability: Sampler::new(settings.sample_availability),
            refusals: Sampler::new(settings.sample_refusals),
            proxied: Sampler::new(settings.sample_proxied),
        }
    }

    /// Keeps what the line of a purchase shows that is not answered at once: if it is admitted, its
    /// line is written when it is over, perhaps long after the client has left.
    pub(super) fn purchase(&self, head: &Head<'_>, exchange: &Exchange) {
        if self.log.is_on() {
            exchange.note.keep(self.asked(head, exchange));
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
        if !self.log.is_on() {
            return;
        }
        let (refused, waits) = match step {
            Step::Answer(ready) | Step::Refuse(ready) => (ready.reason.is_some(), false),
            Step::Work(_) => (false, true),
        };
        let asked = exchange.note.asked();
        let due = match route {
            Route::Purchase if waits && asked.is_some() => Due::Known,
            _ if refused => due(&self.refusals),
            Route::Page => due(&self.pages),
            Route::Availability => due(&self.availability),
            Route::Purchase | Route::Proxy => due(&self.proxied),
            Route::Own => Due::Never,
        };
        match asked {
            Some(asked) => asked.due.set(due),
            None if due == Due::Never => {}
            None => {
                let asked = self.asked(head, exchange);
                asked.is_hit.set(!refused && !waits);
                exchange.note.keep(asked);
            }
        }
    }

    /// Counts the end, and writes the line if it is wanted.
    pub(super) fn finished(&self, exchange: &Exchange, done: &Done, sink: &Sink) {
        if let Some(reason) = done.reason {
            sink.reason(reason);
        }
        let Some(route) = exchange.note.route() else { return };
        sink.took(timing(route), done.took_ms);
        let Some(asked) = exchange.note.asked() else { return };
        let due = match asked.due.get() {
            // It waited and was refused in the end.
            Due::Known if done.reason.is_some() => due(&self.refusals),
            due => due,
        };
        if due == Due::Never {
            return;
        }
        // Of a proxied answer it is what caches behind us say.
        let is_ours =
            done.cache.as_ref().is_some_and(|said| said.as_bytes().starts_with(b"penstock;"));
        let is_cached = done.reason.is_none()
            && match route {
                Route::Page => true,
                Route::Proxy => is_ours || asked.is_hit.get(),
                _ => false,
            };
        let cache = is_cached.then(|| done.cache.as_ref().map_or(Text::new("hit"), Text::new));
        self.log.write(Line {
            route: route.label(),
            status: done.status,
            bytes: done.bytes,
            took_ms: done.took_ms,
            cut: !done.complete,
            reason: done.reason.map(|reason| reason.label()),
            cache,
            ..line(asked, exchange.id, exchange.now.wall)
        });
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
            is_hit: Cell::new(false),
            due: Cell::new(Due::Finished),
        }
    }
}

/// Writes the line of every admission, when it is over, whether or not its client waited for it.
pub(super) fn admissions(log: AccessLog) -> Hook {
    Hook::new(move |report| {
        if let Some(asked) = report.note.asked() {
            asked.due.set(Due::Never);
            log.write(admission(asked, report));
        }
    })
}

fn admission(asked: &Asked, report: &Report) -> Line {
    Line {
        route: Route::Purchase.label(),
        status: report.status.unwrap_or(0),
        bytes: report.bytes,
        took_ms: report.took_ms,
        reason: Some("admitted"),
        sale: Some(Text::new(report.sale.to_string())),
        outcome: Some(report.verdict.label()),
        claim: Some(Text::new(report.claim.to_string())),
        ..line(asked, report.request, report.at)
    }
}

fn timing(route: Route) -> Timing {
    match route {
        Route::Page => Timing::RequestPage,
        Route::Availability => Timing::RequestAvailability,
        Route::Purchase => Timing::RequestPurchase,
        Route::Proxy => Timing::RequestProxy,
        Route::Own => Timing::RequestOwn,
    }
}

fn due(sampler: &Sampler) -> Due {
    if sampler.is_due() { Due::Finished } else { Due::Never }
}

/// What every line shows.
fn line(asked: &Asked, request: RequestId, t: UnixMs) -> Line {
    let client = match asked.client {
        ClientAddr::Ip(address) => Text::new(address.to_string()),
        ClientAddr::Unix => Text::new("unix"),
    };
    Line {
        t,
        request,
        client,
        method: Text::new(asked.method.as_str()),
        host: Text::new(&asked.host),
        path: Text::new(&asked.target),
        route: "",
        status: 0,
        bytes: 0,
        took_ms: 0,
        cut: false,
        reason: None,
        cache: None,
        sale: None,
        outcome: None,
        claim: None,
        user_agent: asked.user_agent.as_ref().map(Text::new),
        referer: asked.referer.as_ref().map(Text::new),
    }
}
