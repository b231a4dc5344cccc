//! What the viewer sees: a screen of 80 × 24 that is redrawn where there is a terminal, plain lines
//! otherwise.

use std::collections::VecDeque;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use super::edge::Sale;
use crate::drill::Progress;
use crate::shop::Stats;

const WIDTH: usize = 80;
const SAID_MAX: usize = 12;
const PLAIN_EVERY: Duration = Duration::from_secs(2);

/// The screen.
#[derive(Debug)]
pub struct Screen {
    is_terminal: bool,
    said: VecDeque<String>,
    live: Vec<String>,
    plain_next: Option<Instant>,
}

/// What is live.
#[derive(Clone, Debug, Default)]
pub struct Live {
    /// Which act.
    pub title: String,
    /// Units for sale.
    pub stock: u64,
    /// The crowd.
    pub crowd: Progress,
    /// The shop.
    pub shop: Stats,
    /// The ledger, where there is an edge that answers.
    pub sale: Option<Sale>,
}

impl Screen {
    /// A screen on standard output.
    pub fn new() -> Screen {
        let is_terminal = std::io::stdout().is_terminal();
        Screen { is_terminal, said: VecDeque::new(), live: Vec::new(), plain_next: None }
    }

    /// Says something that stays.
    pub fn say(&mut self, line: impl Into<String>) {
        let line = line.into();
        if !self.is_terminal {
            println!("{line}");
            return;
        }
        if self.said.len() == SAID_MAX {
            self.said.pop_front();
        }
        self.said.push_back(line);
        self.draw();
    }

    /// Shows how it stands.
    pub fn show(&mut self, live: &Live) {
        if self.is_terminal {
            self.live = live.lines();
            self.draw();
        } else if self.plain_next.is_none_or(|next| Instant::now() >= next) {
            self.plain_next = Some(Instant::now() + PLAIN_EVERY);
            println!("{}", live.plain());
        }
    }

    /// Ends an act: what was live is cleared.
    pub fn next_act(&mut self) {
        self.live.clear();
        self.plain_next = None;
    }

    /// Leaves the screen to whoever writes next.
    pub fn close(&mut self) {
        if self.is_terminal {
            print!("\x1b[H\x1b[J");
            // A terminal that is gone takes no more.
            let _ = std::io::stdout().flush();
        }
        self.is_terminal = false;
    }

    fn draw(&self) {
        let mut out = String::from("\x1b[H");
        for line in self.said.iter().chain(&self.live) {
            out.extend(line.chars().take(WIDTH));
            out.push_str("\x1b[K\n");
        }
        out.push_str("\x1b[J");
        let mut stdout = std::io::stdout();
        // A terminal that is gone takes no more.
        let _ = stdout.write_all(out.as_bytes()).and_then(|()| stdout.flush());
    }
}

impl Default for Screen {
    fn default() -> Screen {
        Screen::new()
    }
}

impl Live {
    /// At most eleven lines of at most 80 characters.
    fn lines(&self) -> Vec<String> {
        let (crowd, shop) = (&self.crowd, &self.shop);
        let mut lines = vec![
            String::new(),
            format!("{}   {}", clock(crowd.since_t0_ms), self.title),
            self.bar(),
            format!(
                "crowd   pages {}  polls {}  purchases {}  in flight {}",
                crowd.pages, crowd.polls, crowd.purchases, crowd.in_flight
            ),
            format!("heard   {}", largest(&crowd.heard, 4)),
        ];
        if !crowd.no_answer.is_empty() {
            lines.push(format!("lost    {}", largest(&crowd.no_answer, 3)));
        }
        lines.push(format!(
            "shop    pages {}  orders asked {}  made {}  under way {} (most {})",
            shop.pages, shop.posts, shop.orders, shop.in_flight, shop.in_flight_max
        ));
        lines.push(format!(
            "p99 ms  page {:.1}  refusal {:.1}  winner {:.0}  order at the shop {:.0}",
            crowd.p99_page_ms, crowd.p99_loser_ms, crowd.p99_winner_ms, shop.latency_ms.p99
        ));
        lines
    }

    /// One line.
    fn plain(&self) -> String {
        let (crowd, shop) = (&self.crowd, &self.shop);
        let lost: u64 = crowd.no_answer.values().sum();
        let ledger = match &self.sale {
            Some(sale) => format!(
                "{} sold {} held {} limbo {} of {}  ",
                sale.state, sale.confirmed, sale.held, sale.limbo, sale.stock
            ),
            None => String::new(),
        };
        format!(
            "{}  {ledger}pages {} polls {} purchases {} no answer {lost} | shop: pages {} orders {} of {} asked",
            clock(crowd.since_t0_ms),
            crowd.pages,
            crowd.polls,
            crowd.purchases,
            shop.pages,
            shop.orders,
            shop.posts
        )
    }

    /// Sold, held and limbo in different shades; what is beyond the stock in a shade of its own.
    fn bar(&self) -> String {
        const CELLS: u64 = 50;
        let (sold, held, limbo) = match &self.sale {
            Some(sale) => (sale.confirmed, sale.held, sale.limbo),
            None => (self.shop.orders - self.shop.cancelled, 0, 0),
        };
        let stock = self.sale.as_ref().map_or(self.stock, |sale| sale.stock).max(1);
        let cells = |n: u64| usize::try_from(n * CELLS / stock).unwrap_or(0).min(75);
        let (a, b, c) = (cells(sold), cells(sold + held), cells(sold + held + limbo));
        let mut bar = String::new();
        for cell in 0..c.max(usize::try_from(CELLS).unwrap_or(0)) {
            bar.push(match cell {
                n if n as u64 >= CELLS => '!',
                n if n < a => '█',
                n if n < b => '▓',
                n if n < c => '▒',
                _ => '·',
            });
        }
        format!("{bar} {sold} of {stock} sold")
    }
}

fn clock(since_t0_ms: i64) -> String {
    let sign = if since_t0_ms < 0 { '-' } else { '+' };
    let ms = since_t0_ms.unsigned_abs();
    format!("T{sign}{:02}.{}", ms / 1_000, ms % 1_000 / 100)
}

fn largest(counts: &std::collections::BTreeMap<String, u64>, n: usize) -> String {
    let mut all: Vec<_> = counts.iter().collect();
    all.sort_by(|a, b| b.1.cmp(a.1));
    let shown: Vec<String> = all.iter().take(n).map(|(name, n)| format!("{name} {n}")).collect();
    shown.join("  ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_screen_fits_80_by_24() {
        let big = 9_999_999;
        let counts = |names: &[&str]| names.iter().map(|n| ((*n).to_owned(), big)).collect();
        let live = Live {
            title: "Act 2: the same shop behind Penstock".to_owned(),
            stock: 100,
            crowd: Progress {
                heard: counts(&["sold_out", "busy", "not_started", "in_progress", "more"]),
                no_answer: counts(&["connection_refused", "closed_without_answer"]),
                ..Progress::default()
            },
            shop: Stats { orders: 400, ..Stats::default() },
            sale: None,
        };
        let lines = live.lines();
        assert!(lines.len() + SAID_MAX < 24);
        assert!(lines.iter().all(|line| line.chars().count() <= 100), "{lines:#?}");
    }

    #[test]
    fn the_bar_shows_what_is_sold_held_unknown_and_too_much() {
        let sale = Sale { stock: 100, confirmed: 50, held: 20, limbo: 10, ..Sale::default() };
        let bar = Live { sale: Some(sale), ..Live::default() }.bar();
        let cells = |shade| bar.chars().filter(|c| *c == shade).count();
        assert_eq!((cells('█'), cells('▓'), cells('▒'), cells('·')), (25, 10, 5, 10));
        let shop = Stats { orders: 130, ..Stats::default() };
        let bar = Live { stock: 100, shop, ..Live::default() }.bar();
        assert_eq!(bar.chars().filter(|c| *c == '!').count(), 15);
    }

    #[test]
    fn the_clock_counts_to_t0_and_from_it() {
        assert_eq!(clock(-4_100), "T-04.1");
        assert_eq!(clock(12_345), "T+12.3");
    }
}
