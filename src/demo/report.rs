//! The report: at most 34 lines, sums that add up, and after each figure who counted it.

use std::collections::BTreeMap;

use super::facts::Facts;
use crate::drill::report::sum_text;

/// Most lines of the report.
pub const LINES_MAX: usize = 34;
/// Reasons that are shown by name; the rest is added up.
const REASONS_MAX: usize = 5;

/// Whether the demo showed what it promises.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// What was broken; empty: nothing.
    pub broken: Vec<String>,
}

impl Verdict {
    /// Holds the facts against every promise.
    pub fn of(facts: &Facts) -> Verdict {
        let (shop, journal, ledger) = (&facts.with.shop, &facts.journal, &facts.ledger);
        let ended = journal.sold + journal.failed + journal.unknown + journal.open;
        let limit = facts.stock + facts.returned;
        let mut broken = Vec::new();
        let mut promise = |holds: bool, what: String| {
            if !holds {
                broken.push(what);
            }
        };
        promise(
            shop.units <= limit,
            format!("the shop made orders for {} units of {limit}", shop.units),
        );
        promise(shop.oversold() == 0, format!("{} units oversold", shop.oversold()));
        promise(shop.users_twice == 0, format!("{} users have two orders", shop.users_twice));
        let early = shop.first_post_ms != 0 && shop.first_post_ms < facts.t0_ms;
        promise(!early, "an order request reached the shop before T0".to_owned());
        promise(
            journal.admitted == ended,
            format!("{} admitted, but {ended} accounted for", journal.admitted),
        );
        promise(
            journal.open == 0,
            format!("{} admissions without any outcome in the journal", journal.open),
        );
        promise(
            ledger.confirmed + ledger.held + ledger.limbo <= ledger.stock,
            "the ledger holds more than its stock".to_owned(),
        );
        promise(
            ledger.limbo > 0 || ledger.confirmed == shop.units,
            format!("the ledger says {} sold, the shop {}", ledger.confirmed, shop.units),
        );
        promise(facts.audit.holds, "penstock audit says so".to_owned());
        let named = facts.audit.checks.iter().filter(|check| !check.holds);
        broken.extend(named.map(|check| format!("{}: {}", check.name, check.said)));
        Verdict { broken }
    }

    /// Whether every promise was kept.
    pub fn holds(&self) -> bool {
        self.broken.is_empty()
    }
}

/// The report's lines.
pub fn lines(facts: &Facts, verdict: &Verdict) -> Vec<String> {
    let mut lines = comparison(facts);
    lines.extend(sale(facts));
    lines.extend(crowd(facts));
    lines.extend(moments(facts));
    lines.extend(latencies(facts));
    lines.extend(ending(facts, verdict));
    lines.extend(summary(facts));
    lines
}

/// The same shop without and with: ten lines.
fn comparison(facts: &Facts) -> Vec<String> {
    let (a, b) = (&facts.without, &facts.with);
    let row = |name: &str, without: String, with: String, source: &str| {
        format!("{name:<32} {without:>12} {with:>14}   {source}")
    };
    let count = |name: &str, without: u64, with: u64, source: &str| {
        row(name, without.to_string(), with.to_string(), source)
    };
    let ms = |ms: f64| if ms < 10.0 { format!("{ms:.1} ms") } else { format!("{ms:.0} ms") };
    let failed = |side: &super::facts::Side| {
        format!("{:.1} %", percent(side.client.errors(), side.client.requests()))
    };
    let loser = |side: &super::facts::Side| {
        side.client.latency_ms.get("loser").map_or("-".to_owned(), |q| ms(q.p99))
    };
    let limit = format!("{} + {}", facts.stock, facts.returned);
    vec![
        row("", "without".to_owned(), "with Penstock".to_owned(), "counted by"),
        row("tickets + returned", facts.stock.to_string(), limit, "shop"),
        count("orders made", a.shop.orders, b.shop.orders, "shop"),
        count("oversold", a.shop.oversold(), b.shop.oversold(), "shop"),
        count("users with two orders", a.shop.users_twice, b.shop.users_twice, "shop"),
        count("order requests it saw", a.shop.posts, b.shop.posts, "shop"),
        count("pages it rendered", a.shop.pages, b.shop.pages, "shop"),
        count("most orders at once", a.shop.in_flight_max, b.shop.in_flight_max, "shop"),
        row("p99 of an order", ms(a.shop.latency_ms.p99), ms(b.shop.latency_ms.p99), "shop"),
        row("p99 of a refusal", loser(a), loser(b), "client"),
        row("requests that failed", failed(a), failed(b), "client"),
    ]
}

/// Admissions, ledger, shop: three lines.
fn sale(facts: &Facts) -> Vec<String> {
    let (journal, ledger, shop) = (&facts.journal, &facts.ledger, &facts.with.shop);
    let open = match journal.open {
        0 => String::new(),
        n => format!(" + OPEN {n}"),
    };
    let stranded = ledger.stock.saturating_sub(ledger.confirmed + ledger.held + ledger.limbo);
    let agree = if ledger.confirmed == shop.units { "they agree" } else { "THEY DIFFER" };
    vec![
        format!(
            "ADMITTED {} = SOLD {} + FAILED {} + UNKNOWN {}{open} (limit {} + {} returned) [journal]",
            journal.admitted,
            journal.sold,
            journal.failed,
            journal.unknown,
            facts.stock,
            facts.returned
        ),
        format!(
            "ledger   {} sold + {} held + {} unknown + {stranded} stranded = {}; epoch {} [ledger]",
            ledger.confirmed, ledger.held, ledger.limbo, ledger.stock, ledger.epoch
        ),
        format!(
            "shop     {} units in {} orders, {} cancelled; the ledger sold {}: {agree} [shop, ledger]",
            shop.units, shop.orders, shop.cancelled, ledger.confirmed
        ),
    ]
}

/// Who came, what they asked, what they heard: at most six lines.
fn crowd(facts: &Facts) -> Vec<String> {
    let (client, shop) = (&facts.with.client, &facts.with.shop);
    let mut heard = client.heard.clone();
    for (label, n) in &client.heard_by_bots {
        *heard.entry(label.clone()).or_default() += n;
    }
    let fates: BTreeMap<&String, u64> =
        client.people_fates.iter().filter(|(_, n)| **n > 0).map(|(k, n)| (k, *n)).collect();
    let mut lines = vec![
        format!("people   {} [client; and {} bots]", sum_text(&fates), client.bots),
        format!(
            "requests {} pages + {} polls + {} purchases = {} [client]",
            client.page.sent,
            client.poll.sent,
            client.purchase.sent,
            client.requests()
        ),
        format!("heard    {} purchases answered [client]", sum_text(&top(&heard))),
    ];
    if !client.no_answer.is_empty() {
        lines.push(format!("silence  {} [client]", sum_text(&client.no_answer)));
    }
    let seen = shop.pages + shop.posts + shop.assets + shop.others;
    let pages = counter(facts, r#"penstock_requests_total{route="page"}"#);
    let hits = counter(facts, r#"penstock_cache_total{result="hit"}"#);
    lines.push(format!(
        "reached  the shop saw 1 in {} requests [client, shop]; page hits {:.1} % [edge]",
        client.requests() / seen.max(1),
        percent(hits, pages)
    ));
    lines
}

/// T0, the end, the faults: at most three lines.
fn moments(facts: &Facts) -> Vec<String> {
    let after_t0 = |ms: u64| i128::from(ms) - i128::from(facts.t0_ms);
    let client = &facts.with.client;
    let early = client.heard_by_bots.get("not_started").copied().unwrap_or(0)
        + client.heard.get("not_started").copied().unwrap_or(0);
    let sold_out =
        client.first_sold_out_ms.map_or("never".to_owned(), |ms| format!("T0{ms:+.0} ms"));
    let mut lines = vec![format!(
        "T0       first admission T0{:+} ms [journal]; told too early {early}, won too early {} [client]",
        after_t0(facts.journal.first_ms),
        client.early
    )];
    lines.push(format!(
        "sold out first heard at {sold_out} [client]; last order request at T0{:+} ms [shop]",
        after_t0(facts.with.shop.last_post_ms)
    ));
    if let Some(kill) = &facts.kill {
        lines.push(format!(
            "kill -9  at T0+{} ms with {} sold, away for {} ms [edge]",
            kill.after_t0_ms, kill.sold_before, kill.down_ms
        ));
    }
    let matched = &facts.matched;
    if matched.unknown > 0 {
        lines.push(format!(
            "limbo    {} sold + {} not sold + {} unknown = {} held against the shop's orders [ledger]",
            matched.sold,
            matched.not_sold,
            matched.unknown.saturating_sub(matched.sold + matched.not_sold),
            matched.unknown
        ));
    }
    lines
}

/// Five lines.
fn latencies(facts: &Facts) -> Vec<String> {
    let kinds = ["page", "poll", "winner", "loser"];
    let mut lines = vec![
        "latency in ms, from the due moment      p50       p99       max   [client]".to_owned(),
    ];
    for kind in kinds {
        let q = facts.with.client.latency_ms.get(kind).copied().unwrap_or_default();
        let name = format!("{kind} ({})", q.count);
        lines.push(format!("  {name:<30} {:>10.1} {:>9.1} {:>9.1}", q.p50, q.p99, q.max));
    }
    lines
}

/// The whole in two lines: what a newcomer reads first.
fn summary(facts: &Facts) -> Vec<String> {
    let (a, b) = (&facts.without, &facts.with);
    let seconds = |ms: f64| format!("{:.1} s", ms / 1000.0);
    let lost = b.shop.units.abs_diff(facts.ledger.confirmed) + facts.journal.open;
    let seen = b.shop.pages + b.shop.posts + b.shop.assets + b.shop.others;
    vec![
        format!(
            "without  {} tickets → {} sold · shop p99 {} · errors {:.0} % [shop, client]",
            facts.stock,
            a.shop.units,
            seconds(a.shop.latency_ms.p99),
            percent(a.client.errors(), a.client.requests())
        ),
        format!(
            "with     {} + {} returned → {} sold · {} twice · {lost} lost · shop p99 {} · 1 in {} requests reached it",
            facts.stock,
            facts.returned,
            b.shop.units,
            b.shop.users_twice,
            seconds(b.shop.latency_ms.p99),
            b.client.requests() / seen.max(1)
        ) + " [shop, journal]",
    ]
}

/// The verdict and what to do next: three lines.
fn ending(facts: &Facts, verdict: &Verdict) -> Vec<String> {
    let held = facts.audit.checks.iter().filter(|check| check.holds).count();
    let audit = format!("audit    {held} of {} invariants hold", facts.audit.checks.len());
    let verdict = match verdict.broken.as_slice() {
        [] => format!("{audit}, and every promise of this demo [journal, ledger, shop]"),
        [one] => format!("{audit}. BROKEN: {one}"),
        [one, more @ ..] => format!("{audit}. BROKEN: {one}, and {} more", more.len()),
    };
    vec![
        verdict,
        format!(
            "again    {} (penstock {}, {} processors)",
            facts.command, facts.version, facts.cores
        ),
        "next     penstock init --upstream http://your-shop:8080".to_owned(),
    ]
}

fn top(counts: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let mut largest: Vec<(&String, &u64)> = counts.iter().collect();
    largest.sort_by(|a, b| b.1.cmp(a.1));
    let mut out: BTreeMap<String, u64> =
        largest.iter().take(REASONS_MAX).map(|(k, n)| ((*k).clone(), **n)).collect();
    let others: u64 = largest.iter().skip(REASONS_MAX).map(|(_, n)| **n).sum();
    if others > 0 {
        out.insert("others".to_owned(), others);
    }
    out
}

fn counter(facts: &Facts, name: &str) -> u64 {
    // Counters are whole numbers far below 2^53.
    facts.edge.get(name).map_or(0, |n| *n as u64)
}

fn percent(part: u64, whole: u64) -> f64 {
    100.0 * part as f64 / whole.max(1) as f64
}

#[cfg(test)]
mod tests;
