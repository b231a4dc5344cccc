//! The table, line by line as rows are done, and whether every target is kept.

use super::measure::Measured;
use super::memory::After;
use super::row::{Against, Entrant, Row, Work};

/// What was printed, as far as the end needs it.
#[derive(Default)]
pub struct Table {
    above: Vec<String>,
}

impl Table {
    /// The heading of the requests.
    pub fn begin(&self) {
        println!(
            "{:<16} {:>7} {:>6} {:>7} {:>7} {:>8} {:>13}",
            "", "µs/req", "user", "× floor", "× best", "req/s", "p50/p99 µs"
        );
    }

    /// One row: a line for each entrant, and below ours the targets.
    pub fn row(&mut self, row: &Row, measured: &Measured) {
        println!("{}", title(row));
        let floor = measured.place(Entrant::Floor);
        let best = measured.best_peer();
        for (place, entrant) in measured.entrants.iter().enumerate() {
            let ratio = |to: Option<usize>| match to {
                Some(to) => format!("{:.2}", measured.ratio(place, to)),
                None => "-".to_owned(),
            };
            let p50 = measured.median(place, |sample| sample.p50_us);
            let p99 = measured.median(place, |sample| sample.p99_us);
            println!(
                "  {:<14} {:>7.2} {:>6.2} {:>7} {:>7} {:>8.0} {:>13}",
                name(*entrant, row.work),
                measured.median(place, |sample| sample.cpu_us),
                measured.user_us(place),
                ratio(floor),
                ratio(best),
                measured.median(place, |sample| sample.rate),
                format!("{p50:.0}/{p99:.0}"),
            );
            if entrant.is_ours() {
                self.targets(row, measured, place);
            }
        }
    }

    /// The heading of the idle connections.
    pub fn begin_memory(&self, connections: usize) {
        println!(
            "\nidle connection, KiB of resident memory, {connections} of them after one request each"
        );
        println!("{:<16} {:>7} {:>7}", "", "hot", "cold");
    }

    /// One server's idle connections.
    pub fn memory(&mut self, entrant: Entrant, kib: &[(After, f64)]) {
        let figure = |after| kib.iter().find(|(of, _)| *of == after).map(|(_, kib)| *kib);
        let text = |after| figure(after).map_or("-".to_owned(), |kib| format!("{kib:.2}"));
        let mut targets = String::new();
        if entrant.is_ours() {
            targets = format!("must ≤ {IDLE_KIB_MUST:.2}, goal {IDLE_KIB_GOAL:.2}");
            if kib.iter().any(|(_, kib)| is_above(*kib, IDLE_KIB_MUST)) {
                targets.push_str("  above target");
                self.above.push("idle connection".to_owned());
            }
        }
        let name = name(entrant, Work::Hit(1));
        println!("  {name:<14} {:>7} {:>7}  {targets}", text(After::Hot), text(After::Cold));
    }

    /// What misses its target, the last word.
    pub fn end(self) -> bool {
        if self.above.is_empty() {
            println!("\nevery target of these rows is kept");
        } else {
            println!("\nabove target:\n  {}", self.above.join("\n  "));
        }
        self.above.is_empty()
    }

    /// A line for each target of ours.
    fn targets(&mut self, row: &Row, measured: &Measured, ours: usize) {
        for bound in row.bounds {
            let Some(figure) = figure(bound.against, measured, ours) else { continue };
            let against = against(bound.against);
            let goal = bound.goal.map_or(String::new(), |goal| format!(", goal {goal:.2}"));
            let mut verdict = "";
            if is_above(figure, bound.must) {
                verdict = "   above target";
                self.above.push(format!("{}, {against}", title(row)));
            }
            println!("    {against:<13} {figure:>5.2}  must ≤ {:.2}{goal}{verdict}", bound.must);
        }
    }
}

/// Nothing where the row has nobody to compare with: `make bench-quick` leaves some out.
fn figure(against: Against, measured: &Measured, ours: usize) -> Option<f64> {
    let to = match against {
        Against::Floor => measured.place(Entrant::Floor),
        Against::BestPeer => measured.best_peer(),
        Against::Varnish => measured.place(Entrant::Varnish),
        Against::Haproxy => measured.place(Entrant::Haproxy),
        Against::Hyper => measured.place(Entrant::Hyper),
        Against::UserTime => return Some(measured.user_us(ours)),
    };
    Some(measured.ratio(ours, to?))
}

/// The noise of a median of nine rounds is about 5 %.
fn is_above(figure: f64, must: f64) -> bool {
    figure > must * 1.05
}

fn against(against: Against) -> &'static str {
    match against {
        Against::Floor => "× floor",
        Against::BestPeer => "× best peer",
        Against::Varnish => "× Varnish",
        Against::Haproxy => "× HAProxy",
        Against::Hyper => "× plain hyper",
        Against::UserTime => "user µs",
    }
}

/// What a row is called.
pub fn title(row: &Row) -> String {
    let work = match row.work {
        Work::Hit(kb) => format!("hit {kb} KB"),
        Work::TlsHit(kb) => format!("hit {kb} KB, TLS 1.3"),
        Work::Http2Hit(kb) => format!("hit {kb} KB, TLS 1.3, HTTP/2"),
        Work::Availability => "availability".to_owned(),
        Work::Refusal => "refused purchase".to_owned(),
        Work::Mixed => "pages/polls/purchases 90/9/1, pages of 1 KB".to_owned(),
        Work::Fill => "miss and fill, picture of 1 KB".to_owned(),
        Work::FillHtml => "miss and fill, HTML of 1 KB (Penstock compresses it)".to_owned(),
        Work::Proxied => "proxied page of 1 KB, not stored".to_owned(),
        Work::Cold => "small answer of a handler behind hyper".to_owned(),
    };
    format!("{work}, {} connections", row.connections)
}

fn name(entrant: Entrant, work: Work) -> &'static str {
    match (entrant, work) {
        (Entrant::Nginx, Work::Refusal) => "nginx limit",
        (Entrant::Haproxy, Work::Refusal) => "HAProxy table",
        (Entrant::Floor, _) => "floor",
        (Entrant::Nginx, _) => "nginx",
        (Entrant::NginxConstant, _) => "nginx return",
        (Entrant::Haproxy, _) => "HAProxy",
        (Entrant::HaproxyConstant, _) => "HAProxy return",
        (Entrant::Varnish, _) => "Varnish",
        (Entrant::Penstock, _) => "Penstock",
        (Entrant::Hyper, _) => "plain hyper",
        (Entrant::Cold, _) => "Penstock cold",
    }
}

const IDLE_KIB_MUST: f64 = 2.0;
const IDLE_KIB_GOAL: f64 = 1.2;
