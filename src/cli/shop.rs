//! `penstock shop`: the mock shop, until INT or TERM.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::Exit;
use crate::shop::{Running, Settings, StockCheck, Style};

/// Runs a mock shop: pages and an order backend with a stock, a speed and an error model of its own.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:9000")]
    listen: SocketAddr,
    /// Units: `100`, or `1001=60,1002=40` for several pools.
    #[arg(long, default_value = "100", value_parser = parse_stock)]
    stock: Stock,
    /// How an order is checked against the stock; naive oversells under load, on purpose.
    #[arg(long, value_enum, default_value = "naive")]
    stock_check: StockCheck,
    /// How answers to orders look: by status, or 200 with a JSON code.
    #[arg(long, value_enum, default_value = "status")]
    style: Style,
    /// Orders a second that the shop gets through.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
    orders_per_s: u32,
    /// Orders worked on at once.
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..))]
    workers: u32,
    /// Orders that may wait for a worker; more are answered 503.
    #[arg(long, default_value_t = 400)]
    queue_max: u32,
    /// Milliseconds that every order takes besides.
    #[arg(long, default_value_t = 5)]
    latency_ms: u32,
    /// Milliseconds between the check of the stock and the order.
    #[arg(long, default_value_t = 400)]
    gap_ms: u32,
    /// Milliseconds to render a page.
    #[arg(long, default_value_t = 15)]
    page_ms: u32,
    /// Size of a page in bytes.
    #[arg(long, default_value_t = 16 * 1024)]
    page_bytes: usize,
    /// Definite failures, of 1,000 orders.
    #[arg(long, default_value_t = 0)]
    fail_permille: u32,
    /// Answers 500, of 1,000 orders; half come after the order was made.
    #[arg(long, default_value_t = 0)]
    error_permille: u32,
    /// Connections closed without an answer, of 1,000 orders; half after the order was made.
    #[arg(long, default_value_t = 0)]
    drop_permille: u32,
    /// Give a repeated Idempotency-Key the first order again.
    #[arg(long)]
    idempotent: bool,
    /// JSON pointer of the pool in an order.
    #[arg(long, default_value = "/pool")]
    pool_at: String,
    /// JSON pointer of the number of units in an order.
    #[arg(long, default_value = "/units")]
    units_at: String,
    /// File that gets one JSON line for each order.
    #[arg(long)]
    log: Option<PathBuf>,
    /// Seed of latencies and errors.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Units by pool. A type of its own, because a map would be read as a repeated flag.
#[derive(Clone, Debug)]
pub struct Stock(BTreeMap<String, u64>);

impl From<Stock> for BTreeMap<String, u64> {
    fn from(stock: Stock) -> BTreeMap<String, u64> {
        stock.0
    }
}

/// Parses `100` or `1001=60,1002=40`.
pub fn parse_stock(text: &str) -> Result<Stock, String> {
    let number =
        |n: &str| n.trim().parse::<u64>().map_err(|_| format!("`{n}` is not a number of units"));
    if !text.contains('=') {
        return Ok(Stock(BTreeMap::from([("default".to_owned(), number(text)?)])));
    }
    let pools = text.split(',').map(|pool| {
        let (id, units) = pool.split_once('=').ok_or("write POOL=UNITS,POOL=UNITS")?;
        Ok((id.trim().to_owned(), number(units)?))
    });
    pools.collect::<Result<_, String>>().map(Stock)
}

/// Runs the verb.
pub fn run(args: Args) -> Exit {
    let shop = match Running::start(args.settings()) {
        Ok(shop) => shop,
        Err(error) => {
            eprintln!("penstock shop: {error}");
            return Exit::Failure;
        }
    };
    println!("shop listening on http://{}", shop.address());
    match super::wait_for_stop() {
        Ok(()) => Exit::Ok,
        Err(cause) => {
            eprintln!("penstock shop: cannot wait for signals: {cause}");
            Exit::Failure
        }
    }
}

impl Args {
    fn settings(self) -> Settings {
        Settings {
            listen: self.listen,
            stock: self.stock.into(),
            stock_check: self.stock_check,
            style: self.style,
            orders_per_s: self.orders_per_s,
            workers: self.workers,
            queue_max: self.queue_max,
            latency_ms: self.latency_ms,
            gap_ms: self.gap_ms,
            page_ms: self.page_ms,
            page_bytes: self.page_bytes.min(8 << 20),
            fail_permille: self.fail_permille,
            error_permille: self.error_permille,
            drop_permille: self.drop_permille,
            idempotent: self.idempotent,
            pool_at: self.pool_at,
            units_at: self.units_at,
            log: self.log,
            seed: self.seed,
            ..Settings::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stock_is_one_number_or_pools() {
        assert_eq!(parse_stock("7").unwrap().0["default"], 7);
        let pools = parse_stock("1001=60, 1002=40").unwrap().0;
        assert_eq!((pools["1001"], pools["1002"]), (60, 40));
        assert!(parse_stock("x").is_err() && parse_stock("a=1,b").is_err());
    }
}
