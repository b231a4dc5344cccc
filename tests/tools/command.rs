//! The verbs as commands: what they print, how they end.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use penstock::drill::{Progress, Report};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::client::{get, quick, start, until};

fn penstock(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_penstock"));
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Ends the process when a test fails half-way.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_shop_says_where_it_listens_and_ends_on_term() {
    let args = ["shop", "--listen", "127.0.0.1:0", "--stock", "1001=3,1002=4"];
    let mut shop = Ended(penstock(&args).spawn().unwrap());
    let mut line = String::new();
    BufReader::new(shop.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim().strip_prefix("shop listening on http://").unwrap();
    let stats: Value =
        serde_json::from_str(&get(address.parse().unwrap(), "/_shop/stats").body).unwrap();
    assert_eq!(stats["stock"]["1002"]["left"], 4);
    let id = Pid::from_child(&shop.0);
    kill_process(id, Signal::TERM).unwrap();
    until("it ends", || shop.0.try_wait().unwrap().is_some());
    assert!(shop.0.wait().unwrap().success());
}

#[test]
fn a_shop_that_cannot_listen_says_so() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = penstock(&["shop", "--listen", &address]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains(&address));
}

#[test]
fn a_drill_ends_by_its_expectations() {
    let shop = start(quick());
    let url = format!("http://{}/activity/8848", shop.address());
    let dir = tempfile::tempdir().unwrap();
    let json = dir.path().join("report.json");
    let drill = |sold: &str| {
        penstock(&["drill", &url, "--people", "30", "--opens-at", "+200ms", "--spread", "100ms"])
            .args(["--availability", "none", "--double-tap-permille", "0", "--expect-sold", sold])
            .args(["--expect-errors", "0", "--expect-twice", "0", "--expect-early", "0", "--json"])
            .arg(&json)
            .output()
            .unwrap()
    };
    let good = drill("30");
    assert_eq!(good.status.code(), Some(0), "{}", String::from_utf8_lossy(&good.stdout));
    let report: Report = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    assert_eq!((report.sold, report.expected.len()), (30, 4));
    let bad = drill("31");
    assert_eq!(bad.status.code(), Some(5));
    assert!(String::from_utf8(bad.stdout).unwrap().contains("FAILED    sold = 31: saw 30"));
}

#[test]
fn a_drill_of_nobody_and_of_nonsense() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let output = penstock(&["drill", &format!("http://{gone}/activity/1")]).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    for args in
        [&["drill"][..], &["drill", "https://shop/"], &["drill", "http://a/", "--people", "x"]]
    {
        assert_eq!(penstock(args).output().unwrap().status.code(), Some(2), "{args:?}");
    }
}

#[test]
fn json_lines_tell_the_progress_and_end_with_the_report() {
    let url_of = |port: u16| format!("http://127.0.0.1:{port}/activity/8848");
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let listen = free.to_string();
    let output =
        penstock(&["drill", &url_of(free.port()), "--mock-orders", "--shop-listen", &listen])
            .args(["--shop-stock", "7", "--shop-orders-per-s", "100000", "--people", "20"])
            .args(["--opens-at", "+300ms", "--spread", "100ms", "--availability", "none"])
            .args(["--watch-permille", "0", "--progress", "json", "--progress-every", "100ms"])
            .args(["--expect-sold", "7"])
            .output()
            .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (last, before) = lines.split_last().unwrap();
    let report: Report = serde_json::from_value(last["report"].clone()).unwrap();
    assert_eq!(report.shop.map(|shop| (shop.orders, shop.oversold())), Some((7, 0)));
    assert!(!before.is_empty());
    for line in before {
        let _: Progress = serde_json::from_value(line["progress"].clone()).unwrap();
    }
}
