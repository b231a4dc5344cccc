//! `make instructions`: how many instructions the edge needs for one request, counted by callgrind.
//!
//! Unlike times they depend on neither the load nor the speed of a machine, so a test run can hold
//! them to a ceiling. Counted is the whole edge, built as the demo is: the driver with its timers, the
//! decision, counters, the sampled access log and its thread. The stream is in memory, so what is missing
//! is the kernel and tokio's registration of a socket. A release needs less: `cargo bench --bench
//! instructions` counts it.
//!
//! A run serves a number of requests; two runs of different numbers are compared, so that start-up and
//! the first requests cancel. Arguments: none for the table of all kinds, or the names of some;
//! `profile KIND` for the functions of one kind; `serve KIND COUNT` is what callgrind runs.

#[path = "common/client.rs"]
mod client;
#[path = "common/http2.rs"]
mod http2;
#[path = "common/node.rs"]
mod node;
#[path = "common/request.rs"]
mod request;

use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::rc::Rc;

use penstock::config::schema;
use penstock::edge::Entrance;
use penstock::http::{Door, Drainer, Limits, Peer, serve, serve_h2};
use penstock::metrics::Sink;
use penstock::outcome::CloseReason;
use tokio::runtime::Builder;
use tokio::task::spawn_local;

use client::Client;
use node::{Node, Outcome};

/// One kind of request.
struct Kind {
    name: &'static str,
    request: fn() -> String,
    status: u16,
    /// Whether the sale is sold out.
    sold_out: bool,
    /// Whether the answer is ready-made.
    is_hot: bool,
    /// Whether it is asked by HTTP/2, ten requests at a time.
    is_http2: bool,
    /// Instructions that one request may need, on x86-64. It stands some 5 % above what was counted
    /// when it was set, and is lowered when the edge gets faster.
    ceiling: u64,
}

const KINDS: &[Kind] = &[
    kind("hit", || request::get("GET /activity/8848?city=bj HTTP/1.1"), 200, 8_900),
    kind("hit_plain", || request::get_plain("GET /activity/8848?city=bj HTTP/1.1"), 200, 9_200),
    kind("hit_100k", || request::get_plain("GET /activity/large?city=bj HTTP/1.1"), 200, 9_750),
    kind("hit_head", || request::get("HEAD /activity/8848?city=bj HTTP/1.1"), 200, 8_800),
    Kind {
        is_http2: true,
        ..kind("hit_h2", || request::get("GET /activity/8848?city=bj HTTP/1.1"), 200, 44_700)
    },
    kind("hit_304", || request::get(PAGE_KNOWN), 304, 9_500),
    kind("poll", || request::get("GET /activity/8848/availability HTTP/1.1"), 200, 7_850),
    kind("poll_304", || request::get(POLL_KNOWN), 304, 8_400),
    Kind { sold_out: true, ..kind("refusal", request::purchase, 409, 11_200) },
    Kind {
        is_hot: false,
        ..kind("cold", || request::get("GET /product/1001 HTTP/1.1"), 200, 103_600)
    },
];

const PAGE_KNOWN: &str = "GET /activity/8848?city=bj HTTP/1.1\r\nIf-None-Match: *";
const POLL_KNOWN: &str = "GET /activity/8848/availability HTTP/1.1\r\nIf-None-Match: *";

const fn kind(name: &'static str, request: fn() -> String, status: u16, ceiling: u64) -> Kind {
    Kind { name, request, status, sold_out: false, is_hot: true, is_http2: false, ceiling }
}

/// Requests of the shorter run; the longer serves twice as many.
const COUNT: u64 = 2_000;

fn main() -> ExitCode {
    // `cargo bench` adds `--bench`; `cargo test --benches` does not, and there is nothing to do then.
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let words: Vec<_> = arguments.iter().map(String::as_str).filter(|a| *a != "--bench").collect();
    let done = match words[..] {
        ["serve", kind, count] => serve_some(kind, count).map(|()| ExitCode::SUCCESS),
        ["profile", kind] => profile(kind).map(|()| ExitCode::SUCCESS),
        _ if arguments.len() == words.len() => Ok(ExitCode::SUCCESS),
        _ => table(&words),
    };
    done.unwrap_or_else(|error| {
        eprintln!("instructions: {error}");
        ExitCode::FAILURE
    })
}

/// Counts the kinds that are named, or all.
fn table(names: &[&str]) -> Outcome<ExitCode> {
    let unknown = names.iter().find(|name| KINDS.iter().all(|kind| kind.name != **name));
    if let Some(name) = unknown {
        return Err(format!("there is no kind `{name}`").into());
    }
    println!("{:<12}{:>16}{:>12}", "kind", "instructions", "ceiling");
    let mut is_above = false;
    if cfg!(not(target_os = "linux")) {
        println!("nothing is counted: callgrind is for Linux");
        return Ok(ExitCode::SUCCESS);
    }
    for kind in KINDS.iter().filter(|kind| names.is_empty() || names.contains(&kind.name)) {
        let count = instructions(kind)?;
        let above = cfg!(target_arch = "x86_64") && count > kind.ceiling;
        is_above |= above;
        let said = if above { "  above its ceiling" } else { "" };
        println!("{:<12}{count:>16}{:>12}{said}", kind.name, kind.ceiling);
    }
    Ok(if is_above { ExitCode::from(5) } else { ExitCode::SUCCESS })
}

/// Instructions of one request of a kind.
fn instructions(kind: &Kind) -> Outcome<u64> {
    let dir = tempfile::tempdir()?;
    let (few, many) = (dir.path().join("few"), dir.path().join("many"));
    let runs = [(COUNT, &few), (2 * COUNT, &many)];
    let runs = runs.map(|(count, out)| callgrind(kind, count, out));
    for run in runs {
        let output = run?.wait_with_output()?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into());
        }
    }
    let (few, many) = (total(&few)?, total(&many)?);
    Ok((many.saturating_sub(few) + COUNT / 2) / COUNT)
}

fn callgrind(kind: &Kind, count: u64, out: &Path) -> Outcome<Child> {
    let mut command = Command::new("valgrind");
    command
        .args(["--tool=callgrind", "--fair-sched=try"])
        .arg(format!("--callgrind-out-file={}", out.display()));
    command.arg(std::env::current_exe()?).args(["serve", kind.name, &count.to_string()]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let started = command.spawn();
    Ok(started.map_err(|e| format!("cannot run valgrind: {e}; install the package `valgrind`"))?)
}

/// What callgrind says that it counted.
fn total(out: &Path) -> Outcome<u64> {
    let text = std::fs::read_to_string(out)?;
    let totals = text.lines().rev().find_map(|line| line.strip_prefix("totals: "));
    Ok(totals.ok_or("callgrind wrote no totals")?.trim().parse()?)
}

/// Prints in which functions the instructions of a kind are spent.
fn profile(name: &str) -> Outcome<()> {
    let kind = KINDS.iter().find(|kind| kind.name == name).ok_or("there is no such kind")?;
    let dir = tempfile::tempdir()?;
    let out = dir.path().join("out");
    let output = callgrind(kind, 20 * COUNT, &out)?.wait_with_output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    println!("{} requests, start-up included", 20 * COUNT);
    Command::new("callgrind_annotate").arg("--auto=no").arg(&out).status()?;
    Ok(())
}

/// Serves so many requests of a kind on one connection, as a worker does.
fn serve_some(name: &str, count: &str) -> Outcome<()> {
    let kind = KINDS.iter().find(|kind| kind.name == name).ok_or("there is no such kind")?;
    let count = count.parse()?;
    let node = Node::start()?;
    if kind.sold_out {
        node.sell_out()?;
    }
    let worker = Builder::new_current_thread().enable_all().build_local(Default::default())?;
    worker.block_on(async {
        let (entrance, sink) = node.worker()?;
        if kind.is_hot {
            node.prime(&entrance, &(kind.request)()).await?;
        }
        let ((door, _drainer), request) = (door(&node, entrance, sink), (kind.request)());
        let peer = Peer::Tcp("203.0.113.7:4711".parse()?);
        // A task of its own, since that is what a worker makes of a connection.
        let (answered, served) = if kind.is_http2 {
            let client = http2::Client::new(&request, count);
            (client.answered(), spawn_local(serve_h2(Box::new(client), peer, door, ())))
        } else {
            let client = Client::new(&request, kind.status, count);
            (client.answered(), spawn_local(serve(client, peer, door, ())))
        };
        let close = served.await?;
        if close != CloseReason::ClientClosed || answered.get() != count {
            return Err(format!("{close:?} after {} of {count} answers", answered.get()).into());
        }
        Ok(())
    })
}

/// Where clients come in, as a worker has it, and what keeps its time.
fn door(node: &Node, entrance: Rc<Entrance>, sink: Sink) -> (Rc<Door<Entrance>>, Drainer) {
    let limits = Rc::new(Limits::from(&schema::Http::default()));
    let drainer = Drainer::new();
    spawn_local(drainer.keep_time());
    (Door::new(entrance, limits, node.clock.clone(), sink, drainer.signal()), drainer)
}
