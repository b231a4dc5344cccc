//! `penstock drill`: an open-loop crowd against any URL.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::Exit;
use crate::clock::{Clock, UnixMs};
use crate::config::units::{Span, Time};
use crate::drill::{self, Arrival, DrillError, Expectations, Opens, Progress, Report, Settings};
use crate::drill::{Target, report};
use crate::shop;

/// Sends an open-loop crowd to a URL: pages, polls, a purchase at T0, retries, double taps, bots.
/// Latencies are measured from the moment a request was due.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The activity page, such as http://127.0.0.1:8080/activity/8848.
    #[arg(required_unless_present = "target")]
    url: Option<Target>,
    /// The same as a flag.
    #[arg(long, conflicts_with = "url")]
    target: Option<Target>,
    #[command(flatten)]
    crowd: Crowd,
    #[command(flatten)]
    look: Look,
    #[command(flatten)]
    bounds: Bounds,
    #[command(flatten)]
    out: Out,
    #[command(flatten)]
    expect: Expect,
    #[command(flatten)]
    mock: Mock,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "The crowd")]
struct Crowd {
    /// People.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(..=1_000_000))]
    people: u32,
    /// Bots, which begin before T0 and never wait.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=100_000))]
    bots: u32,
    /// How people arrive.
    #[arg(long, value_enum, default_value = "spike")]
    arrival: Arrival,
    /// Over which time they arrive; absent: until T0.
    #[arg(long)]
    over: Option<Span>,
    /// Within which time after T0 they act.
    #[arg(long, default_value = "2s")]
    spread: Span,
    /// When the sale opens: a time with its offset, Unix milliseconds, or +10s. Absent: as the
    /// availability flag says, else +5s.
    #[arg(long, value_parser = parse_opens)]
    opens_at: Option<At>,
    /// How often each one loads the page again before T0.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=1_000))]
    reloads: u32,
    /// Of 1,000 people, how many tap twice.
    #[arg(long, default_value_t = 30)]
    double_tap_permille: u32,
    /// Of 1,000 who find it sold out, how many keep watching.
    #[arg(long, default_value_t = 20)]
    watch_permille: u32,
    /// Longest pause between the polls of those who watch.
    #[arg(long, default_value = "60s")]
    poll_max: Span,
    /// How often a purchase is tried again.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(..=1_000))]
    retries: u32,
    /// First wait before a retry where the answer names none.
    #[arg(long, default_value = "1s")]
    backoff: Span,
    /// How long before T0 bots begin.
    #[arg(long, default_value = "3s")]
    bot_lead: Span,
    /// Between two tries of a bot.
    #[arg(long, default_value = "250ms")]
    bot_every: Span,
    /// Seed: the same one repeats the same crowd.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Requests")]
struct Look {
    /// Path of the availability flag; `none` for a target without one. Absent: URL/availability.
    #[arg(long)]
    availability: Option<String>,
    /// Path of the purchase; `none` to only look. Absent: URL/orders.
    #[arg(long)]
    purchase: Option<String>,
    /// Host field.
    #[arg(long)]
    host: Option<String>,
    /// Cookie that names the user.
    #[arg(long, default_value = "uid")]
    user_cookie: String,
    /// What user names begin with.
    #[arg(long, default_value = "u")]
    user_prefix: String,
    /// Another field, `Name: value`; {user} stands for the user.
    #[arg(long = "header", value_parser = parse_header)]
    headers: Vec<(String, String)>,
    /// Cities that people are spread over.
    #[arg(long, value_delimiter = ',')]
    cities: Vec<String>,
    /// Pools that orders are spread over.
    #[arg(long, value_delimiter = ',')]
    pools: Vec<String>,
    /// Body of an order; {user}, {pool} and {key} are replaced.
    #[arg(long)]
    body: Option<String>,
    /// Send no Idempotency-Key.
    #[arg(long)]
    no_keys: bool,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Bounds")]
struct Bounds {
    /// Connections at once.
    #[arg(long, default_value_t = 4_000)]
    connections: usize,
    /// Everyone from one address, also on loopback.
    #[arg(long)]
    one_address: bool,
    /// After which a request is given up.
    #[arg(long, default_value = "10s")]
    timeout: Span,
    /// After which the drill ends, whatever is under way.
    #[arg(long, default_value = "120s")]
    duration: Span,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Output")]
struct Out {
    /// What is printed while it runs.
    #[arg(long, value_enum, default_value = "text")]
    progress: ProgressStyle,
    /// Between two progress lines.
    #[arg(long, default_value = "1s")]
    progress_every: Span,
    /// File that gets the report as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// What is printed while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum ProgressStyle {
    /// One line each time, then the report.
    Text,
    /// JSON lines: {"progress": …}, at the end {"report": …}.
    Json,
    /// The report only.
    None,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Expectations: exit code 5 if one fails")]
struct Expect {
    /// Orders, exactly.
    #[arg(long)]
    expect_sold: Option<u64>,
    /// Failed requests, at most.
    #[arg(long)]
    expect_errors: Option<u64>,
    /// Users with two orders, at most.
    #[arg(long)]
    expect_twice: Option<u64>,
    /// Wins before T0, at most.
    #[arg(long)]
    expect_early: Option<u64>,
    /// Milliseconds that 99 of 100 refusals stay below.
    #[arg(long)]
    expect_loser_p99_ms: Option<f64>,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "A shop to stand behind the target")]
struct Mock {
    /// Run the mock shop too, so that an edge's upstream can point at it instead of the real one.
    #[arg(long)]
    mock_orders: bool,
    /// Where that shop listens.
    #[arg(long, default_value = "127.0.0.1:9000", requires = "mock_orders")]
    shop_listen: SocketAddr,
    /// Its units: `100`, or `1001=60,1002=40`.
    #[arg(long, default_value = "100", value_parser = super::shop::parse_stock, requires = "mock_orders")]
    shop_stock: super::shop::Stock,
    /// How it checks them.
    #[arg(long, value_enum, default_value = "atomic", requires = "mock_orders")]
    shop_stock_check: shop::StockCheck,
    /// How its answers look.
    #[arg(long, value_enum, default_value = "status", requires = "mock_orders")]
    shop_style: shop::Style,
    /// Orders a second that it gets through.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..), requires = "mock_orders")]
    shop_orders_per_s: u32,
}

/// When the sale opens, as typed.
#[derive(Clone, Copy, Debug)]
enum At {
    Unix(UnixMs),
    In(u64),
}

/// Runs the verb.
pub fn run(args: Args) -> Exit {
    let mock = match args.mock.mock_orders.then(|| shop::Running::start(args.mock.settings())) {
        None => None,
        Some(Ok(shop)) => Some(shop),
        Some(Err(error)) => {
            eprintln!("penstock drill: the mock shop: {error}");
            return Exit::Failure;
        }
    };
    let expectations = args.expect.expectations();
    let (style, json) = (args.out.progress, args.out.json.clone());
    let settings = match args.settings() {
        Ok(settings) => settings,
        Err(error) => {
            eprintln!("penstock drill: {error}");
            return Exit::Usage;
        }
    };
    let mut report = match drill::run(settings, |progress| show(style, progress)) {
        Ok(report) => report,
        Err(error) => {
            eprintln!("penstock drill: {error}");
            let unreachable = matches!(error, DrillError::Unreachable { .. });
            return if unreachable { Exit::Unreachable } else { Exit::Failure };
        }
    };
    report.shop = mock.map(|shop| shop.stats());
    report.expected = expectations.check(&report);
    if let Err(error) = publish(style, json, &report) {
        eprintln!("penstock drill: the report cannot be written: {error}");
        return Exit::Failure;
    }
    if report.expected.iter().all(|checked| checked.holds) { Exit::Ok } else { Exit::Assertion }
}

fn show(style: ProgressStyle, progress: &Progress) {
    match style {
        ProgressStyle::Text => println!("{}", progress.line()),
        ProgressStyle::Json => println!("{}", serde_json::json!({ "progress": progress })),
        ProgressStyle::None => {}
    }
}

fn publish(style: ProgressStyle, json: Option<PathBuf>, report: &Report) -> anyhow::Result<()> {
    if let Some(path) = json {
        std::fs::write(&path, serde_json::to_vec_pretty(report)?)?;
    }
    match style {
        ProgressStyle::Json => println!("{}", serde_json::json!({ "report": report })),
        _ => print!("{}", report.text()),
    }
    debug_assert!(report.text().lines().count() <= report::LINES_MAX);
    Ok(())
}

impl Args {
    fn settings(self) -> Result<Settings, &'static str> {
        // clap has seen to it that one of the two is there.
        let target = self.url.or(self.target).ok_or("name the URL of the activity page")?;
        let mut settings = Settings::new(target);
        settings.opens = match self.crowd.opens_at {
            None => Opens::Asked { or_in_ms: 5_000 },
            Some(At::Unix(at)) => Opens::At(at),
            Some(At::In(ms)) => Opens::At(Clock::system().now().wall.plus(ms)),
        };
        self.look.apply(&mut settings)?;
        self.crowd.apply(&mut settings);
        settings.connections_max = self.bounds.connections.max(1);
        settings.own_addresses = !self.bounds.one_address;
        settings.timeout_ms = self.bounds.timeout.ms.max(1);
        settings.duration_max_ms = self.bounds.duration.ms;
        settings.progress_ms = self.out.progress_every.ms;
        Ok(settings)
    }
}

impl Crowd {
    fn apply(self, settings: &mut Settings) {
        settings.shape = drill::Shape {
            people: self.people,
            bots: self.bots,
            arrival: self.arrival,
            over_ms: self.over.map(|over| over.ms),
            spread_ms: self.spread.ms,
            reloads: self.reloads,
            double_tap_permille: self.double_tap_permille,
            watch_permille: self.watch_permille,
            seed: self.seed,
        };
        settings.manners.retries_max = self.retries;
        settings.manners.backoff_ms = self.backoff.ms.max(1);
        settings.manners.poll_max_ms = self.poll_max.ms.max(1);
        settings.manners.bot_lead_ms = self.bot_lead.ms;
        settings.manners.bot_every_ms = self.bot_every.ms.max(1);
    }
}

impl Look {
    fn apply(self, settings: &mut Settings) -> Result<(), &'static str> {
        let path = |given: Option<String>, usual: Option<String>| match given.as_deref() {
            None => Ok(usual),
            Some("none") => Ok(None),
            Some(path) if path.starts_with('/') && path.bytes().all(|b| b.is_ascii_graphic()) => {
                Ok(given)
            }
            Some(_) => Err("a path begins with / and has no blanks; write `none` for none"),
        };
        let paths = &mut settings.paths;
        paths.availability = path(self.availability, paths.availability.take())?;
        paths.purchase = path(self.purchase, paths.purchase.take())?;
        let words = [&self.user_cookie, &self.user_prefix];
        let all = words.into_iter().chain(&self.host).chain(&self.cities).chain(&self.pools);
        if !all.flat_map(|word| word.bytes()).all(|b| b.is_ascii_graphic()) {
            return Err("hosts, names, cities and pools are plain characters without blanks");
        }
        let dress = &mut settings.dress;
        let usual = if self.pools.is_empty() { "{}" } else { r#"{"pool":"{pool}"}"# };
        dress.body = self.body.unwrap_or_else(|| usual.to_owned());
        dress.host = self.host;
        dress.user_cookie = self.user_cookie;
        dress.user_prefix = self.user_prefix;
        dress.headers = self.headers;
        dress.cities = self.cities;
        dress.pools = self.pools;
        dress.keys = !self.no_keys;
        Ok(())
    }
}

impl Expect {
    fn expectations(&self) -> Expectations {
        Expectations {
            sold: self.expect_sold,
            errors_max: self.expect_errors,
            twice_max: self.expect_twice,
            early_max: self.expect_early,
            loser_p99_ms_max: self.expect_loser_p99_ms,
        }
    }
}

impl Mock {
    fn settings(&self) -> shop::Settings {
        shop::Settings {
            listen: self.shop_listen,
            stock: self.shop_stock.clone().into(),
            stock_check: self.shop_stock_check,
            style: self.shop_style,
            orders_per_s: self.shop_orders_per_s,
            ..shop::Settings::default()
        }
    }
}

fn parse_opens(text: &str) -> Result<At, String> {
    if let Some(span) = text.strip_prefix('+') {
        return span.parse::<Span>().map(|span| At::In(span.ms)).map_err(|e| e.to_string());
    }
    match text.parse::<u64>() {
        Ok(ms) => Ok(At::Unix(UnixMs(ms))),
        Err(_) => text.parse::<Time>().map(|t| At::Unix(t.at)).map_err(|e| e.to_string()),
    }
}

fn parse_header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("write `Name: value`")?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_".contains(&b);
    if name.is_empty() || !name.bytes().all(plain) || value.bytes().any(|b| b < b' ') {
        return Err("not a header field: write `Name: value`".to_owned());
    }
    Ok((name.to_owned(), value.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opening_times_are_read_in_three_forms() {
        assert!(matches!(parse_opens("+10s"), Ok(At::In(10_000))));
        assert!(matches!(parse_opens("1796126400000"), Ok(At::Unix(UnixMs(1_796_126_400_000)))));
        let time = parse_opens("2026-12-01T20:00:00+08:00");
        assert!(matches!(time, Ok(At::Unix(UnixMs(1_796_126_400_000)))));
        assert!(parse_opens("tomorrow").is_err() && parse_opens("+x").is_err());
    }

    #[test]
    fn headers_cannot_smuggle() {
        assert_eq!(parse_header("X-User: {user}").unwrap().1, "{user}");
        assert!(parse_header("no colon").is_err());
        assert!(parse_header("A: b\r\nC: d").is_err());
        assert!(parse_header("A b: c").is_err());
    }
}
