//! The Prometheus text format (version 0.0.4), from the tables of counters. Labels are our own words
//! and the names of sales and pools: as many as the ledger has, whatever clients send.

use std::fmt::{Display, Write};

use super::Context;
use super::memory::Memory;
use super::reply::Reply;
use crate::clock::{MonoMs, UnixMs};
use crate::metrics::{BUCKETS_MS, COUNTERS, TIMINGS};
use crate::outcome::{CLOSES, REASONS};
use crate::sale::rosters::UserSet;
use crate::sale::{Availability, Follow, SaleSnapshot};
use crate::upstream::GroupReport;

/// `/metrics`.
pub(super) fn answer(context: &Context) -> Reply {
    Reply::text("text/plain; version=0.0.4; charset=utf-8", exposition(context))
}

fn exposition(context: &Context) -> String {
    let mut page = Page::default();
    counters(context, &mut page);
    timings(context, &mut page);
    gauges(context, &mut page);
    upstreams(context, &mut page);
    sales(context, &mut page);
    page.text
}

fn counters(context: &Context, page: &mut Page) {
    let registry = &context.registry;
    // Rows that share a name stand together in the table.
    let mut last = "";
    for row in COUNTERS {
        let name = format!("{}_total", row.name);
        if row.name != last {
            page.family(&name, "counter", row.help);
            last = row.name;
        }
        let labels: Vec<(&str, &str)> = row.label.into_iter().collect();
        page.sample(&name, &labels, registry.total(row.counter));
    }
    page.family("answers_total", "counter", "Answers of the edge's own, by reason.");
    for row in REASONS {
        page.sample("answers_total", &[("reason", row.label)], registry.reason(row.reason));
    }
    page.family("closes_total", "counter", "Client connections that ended, by why.");
    for row in CLOSES {
        page.sample("closes_total", &[("reason", row.label)], registry.close(row.reason));
    }
}

/// Histograms, in seconds as Prometheus has them.
fn timings(context: &Context, page: &mut Page) {
    let mut last = "";
    for row in TIMINGS {
        let name = format!("{}_seconds", row.name);
        if row.name != last {
            page.family(&name, "histogram", row.help);
            last = row.name;
        }
        let times = context.registry.times(row.timing);
        let label: Vec<(&str, &str)> = row.label.into_iter().collect();
        let bounds = BUCKETS_MS.iter().map(|ms| seconds(u64::from(*ms)));
        let mut sum = 0;
        for (count, bound) in times.counts.iter().zip(bounds.chain(["+Inf".to_owned()])) {
            sum += count;
            let labels: Vec<_> = label.iter().copied().chain([("le", bound.as_str())]).collect();
            page.sample(&format!("{name}_bucket"), &labels, sum);
        }
        page.sample(&format!("{name}_sum"), &label, seconds(times.sum_ms));
        page.sample(&format!("{name}_count"), &label, sum);
    }
}

fn seconds(ms: u64) -> String {
    (ms as f64 / 1_000.0).to_string()
}

fn gauges(context: &Context, page: &mut Page) {
    page.family("build_info", "gauge", "The version; always 1.");
    page.sample("build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
    let config = &context.view().config;
    page.family("config_info", "gauge", "The config that runs, by its hash; always 1.");
    page.sample("config_info", &[("hash", &config.hash)], 1);
    let help = "How many configs this process has run; 1 is the one it started with.";
    page.gauge("config_generation", help, config.generation);
    let help = "Settings of the file that wait for an upgrade or a restart.";
    page.gauge("config_waiting", help, config.waiting.len());
    page.gauge("up_seconds", "Since the process started.", context.clock.mono().0 / 1000);
    let ready = u64::from(super::ready::wrong(context).is_empty());
    page.gauge("ready", "Whether /readyz says 200.", ready);
    let alarms = context.live.alarms();
    page.gauge("alarms", "Things that only a person can mend: the dashboard's red strip.", alarms);
    let connections = (context.connections)();
    page.gauge("connections_open", "Client connections that are open.", connections);
    let under_way = context.claims.under_way();
    page.gauge("purchases_under_way", "Admitted purchases whose outcome is open.", under_way);
    let clock = context.clock.now();
    let offset = i128::from(clock.ledger.0) - i128::from(clock.wall.0);
    page.gauge("ledger_clock_offset_milliseconds", "The ledger's clock less ours.", offset);
    page.gauge(
        "ledger_clock_error_milliseconds",
        "How far the ledger's clock may be ahead of what this node takes it for.",
        clock.ledger_err_ms,
    );
    page.family(
        "upstream_circuit_open",
        "gauge",
        "Whether nothing is claimed for this upstream because the shop does not answer.",
    );
    for (group, is_open) in context.view().upstream.circuits() {
        let labels = [("upstream", group.as_str())];
        page.sample("upstream_circuit_open", &labels, u64::from(is_open));
    }
    let cache = context.cache.report();
    page.gauge("cache_entries", "Entries of the page cache.", cache.entries);
    page.gauge("cache_bytes", "What they take, index and tags included.", cache.bytes);
    page.gauge("cache_fill_bytes", "Bodies of fills under way.", cache.fill_bytes);
    page.gauge("cache_bytes_max", "What both may take.", cache.bytes_max);
    page.gauge("cache_tags", "Tags that pages have.", cache.tags);
    let (pinned, bytes) = context.cache.pinned();
    page.gauge("cache_pinned_entries", "Pages that are pinned until their sale ends.", pinned);
    page.gauge("cache_pinned_bytes", "What they take; at most half of cache_bytes_max.", bytes);
    page.gauge("cache_fills_under_way", "Fills under way.", cache.fills);
    for gauge in &context.gauges {
        page.gauge(gauge.name, gauge.help, (gauge.read)());
    }
    let memory = Memory::now();
    if let Some(bytes) = memory.bytes {
        page.gauge("memory_bytes", "Resident memory of the process.", bytes);
    }
    if let Some(bytes) = memory.bytes_max {
        page.gauge(
            "memory_bytes_max",
            "What it may be: the control group's limit, or the machine.",
            bytes,
        );
    }
    page.gauge(
        "connections_max",
        "The most client connections there may be.",
        context.view().connections_max,
    );
}

fn upstreams(context: &Context, page: &mut Page) {
    let groups = context.view().upstream.groups();
    let mut family = |name: &str, help: &str, of: &dyn Fn(&GroupReport) -> u64| {
        page.family(name, "gauge", help);
        for group in &groups {
            page.sample(name, &[("upstream", group.group.as_str())], of(group));
        }
    };
    family("upstream_in_flight", "Exchanges under way.", &|g| g.in_flight.into());
    family("upstream_waiting", "Requests that wait for a connection.", &|g| g.waiting.into());
    family("upstream_purchases", "Purchases on their way to the shop.", &|g| g.purchases.into());
    family("upstream_purchases_max", "The most there may be.", &|g| g.purchases_max.into());
    family("upstream_purchases_waiting", "Purchases that wait for a place.", &|g| {
        g.purchases_waiting.into()
    });
    family("upstream_servers", "Servers of the group.", &|g| g.servers as u64);
    family(
        "upstream_servers_held",
        "Servers passed over because they could not be reached.",
        &|g| g.held as u64,
    );
}

fn sales(context: &Context, page: &mut Page) {
    let now = context.clock.now();
    let sales = context.book.all();
    let mut family = |name: &str, help: &str, of: &dyn Fn(&SaleSnapshot) -> u64| {
        page.family(name, "gauge", help);
        for sale in &sales {
            page.sample(name, &[("sale", &sale.state.id.to_string())], of(sale));
        }
    };
    family("sale_epoch", "Generation; a restock begins a new one.", &|s| s.state.epoch.into());
    family("sale_version", "Rises with every change that readers see.", &|s| s.state.version);
    family("sale_paused", "Whether the operator paused purchases.", &|s| s.state.paused.into());
    family(
        "sale_learning",
        "Whether nobody is admitted because nodes re-assert what they know.",
        &|s| s.state.is_learning_at(now.ledger).into(),
    );
    family(
        "sale_fences",
        "How often claims were frozen because the ledger may have forgotten.",
        &|s| s.state.fences,
    );
    family("sale_buyable", "Whether a purchase may be tried now.", &|s| s.at(&now).buyable.into());
    family(
        "sale_claims_open",
        "Whether purchases can be claimed now: the ledger answers, the journal can be written.",
        &|s| context.claims.is_open(&s.state.id).into(),
    );
    family("sale_nodes", "Nodes that live, as the ledger says.", &|s| {
        context.claims.nodes(&s.state.id) as u64
    });
    family("sale_mirror_age_milliseconds", "Since the store was heard.", &|s| s.at(&now).age_ms);
    page.family("sale_state", "gauge", "1 for the state that the public is told.");
    for sale in &sales {
        let id = sale.state.id.to_string();
        let is = sale.at(&now).availability;
        for state in STATES {
            let labels = [("sale", id.as_str()), ("state", state.label())];
            page.sample("sale_state", &labels, u64::from(state == is));
        }
    }
    pools(&sales, page);
    shops(&sales, now.ledger, page);
    sets(&sales, now.mono, page);
}

/// The shop's sets of users.
fn sets(sales: &[std::sync::Arc<SaleSnapshot>], now: MonoMs, page: &mut Page) {
    type Count = fn(&UserSet, MonoMs) -> u64;
    let families: [(&str, &str, Count); 2] = [
        ("sale_set_members", "Members of a set of users of the shop's.", |set, _| {
            set.members.as_ref().map_or(0, |members| members.members() as u64)
        }),
        ("sale_set_age_milliseconds", "Since it was read.", |set, now| now.since(set.read_at)),
    ];
    for (name, help, of) in families {
        page.family(name, "gauge", help);
        for sale in sales {
            let id = sale.state.id.to_string();
            let sets = sale.rosters().sets();
            let read = sets.iter().flat_map(|sets| &sets.sets).filter(|set| set.members.is_some());
            for set in read {
                let pool = set.pool.as_ref().map_or("", |pool| pool.as_str());
                let labels = [("sale", id.as_str()), ("set", set.kind.label()), ("pool", pool)];
                page.sample(name, &labels, of(set, now));
            }
        }
    }
}

/// Pools whose stock is the shop's own number.
fn shops(sales: &[std::sync::Arc<SaleSnapshot>], now: UnixMs, page: &mut Page) {
    type Count = fn(&Follow, UnixMs) -> u64;
    let families: [(&str, &str, Count); 2] = [
        ("sale_shop_stock_known", "Whether the shop's own stock number is known.", |f, now| {
            f.is_known_at(now).into()
        }),
        ("sale_shop_stock_age_milliseconds", "Since it was read.", |f, now| now.since(f.read_at)),
    ];
    for (name, help, of) in families {
        page.family(name, "gauge", help);
        for sale in sales {
            let id = sale.state.id.to_string();
            for pool in &sale.state.pools {
                let Some(follow) = &pool.follow else { continue };
                if name.contains("age") && follow.read_at == UnixMs(0) {
                    continue;
                }
                let labels = [("sale", id.as_str()), ("pool", pool.name.as_str())];
                page.sample(name, &labels, of(follow, now));
            }
        }
    }
}

fn pools(sales: &[std::sync::Arc<SaleSnapshot>], page: &mut Page) {
    type Count = fn(&SaleSnapshot, usize) -> i128;
    let families: [(&str, &str, Count); 5] = [
        ("sale_stock_units", "Units for sale.", |s, p| s.state.pools[p].stock.into()),
        ("sale_confirmed_units", "Units sold.", |s, p| s.state.pools[p].confirmed.into()),
        ("sale_held_units", "Units with an order under way.", |s, p| s.state.pools[p].held.into()),
        ("sale_limbo_units", "Units whose outcome is unknown.", |s, p| {
            s.state.pools[p].limbo.into()
        }),
        ("sale_room_units", "Units that may be admitted now.", |s, p| {
            s.state.pools[p].room(s.state.overshoot_permille).into()
        }),
    ];
    for (name, help, of) in families {
        page.family(name, "gauge", help);
        for sale in sales {
            let id = sale.state.id.to_string();
            for (at, pool) in sale.state.pools.iter().enumerate() {
                page.sample(name, &[("sale", &id), ("pool", pool.name.as_str())], of(sale, at));
            }
        }
    }
}

/// The text as it grows. Writing to a string cannot fail.
#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.text, "# HELP penstock_{name} {help}");
        let _ = writeln!(self.text, "# TYPE penstock_{name} {kind}");
    }

    /// Names of sales and pools and our own words need no escaping.
    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let _ = write!(self.text, "penstock_{name}");
        for (at, (label, said)) in labels.iter().enumerate() {
            let _ = write!(self.text, "{}{label}=\"{said}\"", if at == 0 { '{' } else { ',' });
        }
        let close = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.text, "{close} {value}");
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, "gauge", help);
        self.sample(name, &[], value);
    }
}

const STATES: [Availability; 4] =
    [Availability::NotStarted, Availability::Available, Availability::SoldOut, Availability::Ended];
