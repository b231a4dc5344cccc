//! The demo's shop: the mock in a process of its own, asked through its back door.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::DemoError;
use super::http::ask;
use super::place::{Place, STOCK, this_binary};
use super::process::Process;
use super::stop::Stop;
use crate::shop::Stats;
use crate::shop::log::Line;

/// Orders a second that the shop gets through.
pub const ORDERS_PER_S: u32 = 60;
/// Of 1,000 orders, how many end in an answer 500.
pub const ERROR_PERMILLE: u32 = 20;
const START_LONGEST: Duration = Duration::from_secs(10);

/// The running shop.
#[derive(Debug)]
pub struct Shop {
    process: Process,
    address: SocketAddr,
    orders_csv: PathBuf,
}

impl Shop {
    /// Starts it and waits until it answers.
    pub fn start(place: &Place, faults: bool, seed: u64, stop: &Stop) -> Result<Shop, DemoError> {
        let mut command = this_binary()?;
        let errors = if faults { ERROR_PERMILLE } else { 0 };
        command
            .args(["shop", "--stock-check", "naive", "--gap-ms", "500"])
            .args(["--listen", &place.shop.to_string()])
            .args(["--stock", &STOCK.to_string()])
            .args(["--orders-per-s", &ORDERS_PER_S.to_string()])
            .args(["--error-permille", &errors.to_string()])
            .args(["--seed", &seed.to_string()])
            .arg("--log")
            .arg(place.dir.join("shop-orders.jsonl"));
        let process = Process::start("shop", command, place.log("shop"), false)?;
        let orders_csv = place.dir.join("orders.csv");
        let mut shop = Shop { process, address: place.shop, orders_csv };
        let log = shop.process.log();
        let late =
            || DemoError::Late { what: "the shop's start".to_owned(), after_ms: 10_000, log };
        stop.wait_for(START_LONGEST, late, || {
            shop.process.check()?;
            Ok(shop.stats().ok())
        })?;
        Ok(shop)
    }

    /// What it has counted.
    pub fn stats(&self) -> Result<Stats, DemoError> {
        let body = self.ask("GET", "stats")?;
        serde_json::from_slice(&body).map_err(|cause| unreadable("stats", &cause))
    }

    /// Full stock, no orders, no counts.
    pub fn reset(&self) -> Result<(), DemoError> {
        self.ask("POST", "reset").map(drop)
    }

    /// Cancels the `n` newest orders; returns them.
    pub fn cancel(&self, n: u64) -> Result<Vec<Line>, DemoError> {
        let body = self.ask("POST", &format!("cancel?n={n}"))?;
        let lines = body.split(|b| *b == b'\n').filter(|line| !line.is_empty());
        lines
            .map(|line| serde_json::from_slice(line).map_err(|cause| unreadable("orders", &cause)))
            .collect()
    }

    /// Writes the list of its orders, as its own export would, and returns the file.
    pub fn export_orders(&self) -> Result<PathBuf, DemoError> {
        let body = self.ask("GET", "orders.csv")?;
        let path = &self.orders_csv;
        std::fs::write(path, body).map_err(DemoError::system(format!("{}", path.display())))?;
        Ok(path.clone())
    }

    fn ask(&self, method: &str, what: &str) -> Result<Vec<u8>, DemoError> {
        let path = format!("/_shop/{what}");
        let asked = ask(self.address, method, &path);
        match asked.map_err(DemoError::system(format!("the shop's {path}")))? {
            (200, body) => Ok(body),
            (status, body) => Err(DemoError::Unreadable {
                what: format!("the shop's {path}: status {status}"),
                said: String::from_utf8_lossy(&body).into_owned(),
            }),
        }
    }
}

fn unreadable(what: &str, cause: &serde_json::Error) -> DemoError {
    DemoError::Unreadable { what: format!("the shop's {what}"), said: cause.to_string() }
}
