//! What only a person can mend: the red strip of the dashboard. Each says what is wrong and, where
//! there is one, the command that helps.

use serde::Serialize;

use super::Context;
use super::live::{MINUTE, Window};
use super::memory::Memory;
use crate::log::events_after;
use crate::metrics::Counter;
use crate::sale::{Availability, STALE_AFTER_MS, SaleSnapshot};
use crate::upstream::GroupReport;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Alarm {
    /// A word for it.
    pub what: &'static str,
    /// What is wrong.
    pub said: String,
    /// A command that helps.
    pub command: Option<String>,
}

/// All that is wrong now; `wrong` is what keeps the node from being ready.
pub(super) fn of(
    context: &Context,
    window: &Window,
    wrong: &[(&'static str, String)],
    memory: Memory,
) -> Vec<Alarm> {
    let ready = wrong.iter().map(|(what, said)| alarm(what, said.clone()));
    let mut alarms: Vec<Alarm> = ready.collect();
    alarms.extend(answers(window));
    let now = context.clock.now();
    for sale in context.book.all() {
        let view = sale.at(&now);
        if view.availability != Availability::Ended {
            alarms.extend(of_sale(&sale, view.age_ms, sale.state.is_learning_at(now.ledger)));
        }
        alarms.extend(limbo(&sale, window));
        alarms.extend(over(&sale));
    }
    alarms.extend(upstreams(context));
    alarms.extend(clock(&now));
    alarms.extend(configs(context));
    alarms.extend(forwarders(window));
    alarms.extend(node(window, memory));
    alarms
}

fn alarm(what: &'static str, said: String) -> Alarm {
    Alarm { what, said, command: None }
}

/// Answers of the shop that nobody understands, or that contradict the ledger.
fn answers(window: &Window) -> Vec<Alarm> {
    let mut alarms = Vec::new();
    // The event has the command with the shop's own code.
    let event = |begins: &str| {
        let events = events_after(0).into_iter().rev();
        events.map(|event| event.text).find(|text| text.starts_with(begins))
    };
    let limbo: u64 = window.now().limbo.values().sum();
    let n = window.now().counter(Counter::OutcomeUnclassified);
    if window.in_minute(Counter::OutcomeUnclassified) > 0 || n > 0 && limbo > 0 {
        let said = format!("{n} answers of the shop that no rule reads are in limbo");
        alarms.push(alarm("unclassified", event("unclassified:").unwrap_or(said)));
    }
    if window.in_minute(Counter::SoldOutEvidence) > 0 {
        let said = "the shop says sold out while the ledger has units".to_owned();
        alarms.push(alarm("sold_out_evidence", event("the shop says sold out").unwrap_or(said)));
    }
    let odd = window.in_minute(Counter::OutcomeConflicts)
        + window.in_minute(Counter::OutcomeLate)
        + window.in_minute(Counter::ReassertedLate);
    if odd > 0 {
        let said = format!("{odd} outcomes in the last minute do not fit what the ledger holds");
        let command = Some("penstock audit SALE".to_owned());
        alarms.push(Alarm { command, ..alarm("conflict", said) });
    }
    alarms
}

fn of_sale(sale: &SaleSnapshot, age_ms: u64, is_learning: bool) -> Option<Alarm> {
    let id = &sale.state.id;
    if is_learning {
        let said = format!(
            "{id}: the ledger may have forgotten something: nobody is admitted until the nodes have \
             said what they know"
        );
        return Some(alarm("learning", said));
    }
    (age_ms > STALE_AFTER_MS).then(|| {
        let secs = age_ms / 1_000;
        alarm("stale", format!("{id}: the store was last heard {secs} s ago: the flag is stale"))
    })
}

fn limbo(sale: &SaleSnapshot, window: &Window) -> Option<Alarm> {
    let id = &sale.state.id;
    let of = |secs| window.before(secs).limbo.get(id).copied().unwrap_or(0);
    let (now, then) = (of(0), of(MINUTE));
    (now > then).then(|| Alarm {
        command: Some(format!("penstock limbo list {id}")),
        ..alarm("limbo", format!("{id}: limbo grew from {then} to {now} units within a minute"))
    })
}

fn over(sale: &SaleSnapshot) -> Option<Alarm> {
    let (id, permille) = (&sale.state.id, sale.state.overshoot_permille);
    let over: i64 = sale.state.pools.iter().map(|pool| pool.room(permille).min(0)).sum();
    (over < 0).then(|| Alarm {
        command: Some(format!("penstock audit {id}")),
        ..alarm(
            "over",
            format!(
                "{id}: {} more units are out than the sale allows, or its stock was lowered",
                -over
            ),
        )
    })
}

fn upstreams(context: &Context) -> Vec<Alarm> {
    let groups = context.view().upstream.groups().into_iter();
    let is_down = |group: &GroupReport| {
        group.circuit_open || group.servers > 0 && group.held == group.servers
    };
    let down = groups.filter(is_down);
    let said = |group: GroupReport| Alarm {
        command: Some("penstock ctl upstreams".to_owned()),
        ..alarm(
            "upstream",
            format!(
                "upstream.{}: the shop does not answer: nothing is claimed for it",
                group.group
            ),
        )
    };
    down.map(said).collect()
}

fn clock(now: &crate::clock::Now) -> Option<Alarm> {
    let offset = now.ledger.0.abs_diff(now.wall.0);
    (offset > OFFSET_MS_MAX).then(|| {
        let said = format!("the clocks of the ledger and of this machine differ by {offset} ms");
        alarm("clock", said)
    })
}

/// Nodes that sell by different rules.
fn configs(context: &Context) -> Option<Alarm> {
    let all = context.fleet.configs();
    (all.len() > 1).then(|| {
        let ours = &context.view().config.hash;
        let counted: Vec<String> = all.iter().map(|(hash, n)| format!("{n} × {hash}")).collect();
        let said = format!(
            "the nodes of the fleet run different configs: {}; this one runs {ours}",
            counted.join(", ")
        );
        Alarm { command: Some("penstock reload --wait".to_owned()), ..alarm("two_configs", said) }
    })
}

/// A proxy in front that is not trusted: everybody has its address.
fn forwarders(window: &Window) -> Option<Alarm> {
    let routes = [
        Counter::RequestsPage,
        Counter::RequestsAvailability,
        Counter::RequestsPurchase,
        Counter::RequestsProxy,
        Counter::RequestsOwn,
    ];
    let all: u64 = routes.into_iter().map(|route| window.in_minute(route)).sum();
    let forwarded = window.in_minute(Counter::UntrustedForwarded);
    (forwarded >= FORWARDED_MIN && forwarded * 5 >= all).then(|| Alarm {
        command: Some("[trust] proxies = [\"…\"]".to_owned()),
        ..alarm(
            "untrusted_forwarder",
            format!("{forwarded} of {all} requests of the last minute came by a proxy that is not trusted"),
        )
    })
}

fn node(window: &Window, memory: Memory) -> Vec<Alarm> {
    let mut alarms = Vec::new();
    if window.in_minute(Counter::Panics) > 0 {
        let said = "a handler panicked within the last minute: report it, with the log".to_owned();
        alarms.push(alarm("panic", said));
    }
    if let Some(permille) = memory.permille().filter(|permille| *permille >= MEMORY_PERMILLE) {
        let said = format!("memory: {} % of what it may have are taken", permille / 10);
        alarms.push(alarm("memory", said));
    }
    alarms
}

/// Sales open by the ledger's clock: more than this is worth a look.
const OFFSET_MS_MAX: u64 = 1_000;
/// Fewer than this are somebody's joke.
const FORWARDED_MIN: u64 = 10;
const MEMORY_PERMILLE: u64 = 900;
