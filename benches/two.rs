//! `make bench-two`: two workers that decide about the same page, sale and pool, as fast as they can.
//!
//! A decision that writes to memory which the other worker reads costs both of them: the cache line
//! moves from core to core. So the CPU time of a decision beside another worker is compared with that
//! of one alone; on a path that writes nothing shared they are equal. It needs two cores.

#[path = "common/node.rs"]
mod node;
#[path = "common/request.rs"]
mod request;

use std::hint::black_box;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Barrier;

use penstock::edge::Entrance;
use penstock::http::{Done, Service, Step};
use tokio::task::LocalSet;

use node::{Node, Outcome};

const ROUNDS: usize = 9;
/// Buyers who take turns, and decisions about each.
const USERS: usize = 64;
const DECISIONS_EACH: u32 = 4_000;
/// What a decision may cost beside another worker, as a share of its cost alone. The rest is noise:
/// cores share a memory bus and, in a virtual machine, more than that.
const RATIO_MAX: f64 = 1.10;

fn main() -> ExitCode {
    // `cargo test --benches` calls without it; there is nothing to measure then.
    if !std::env::args().any(|arg| arg == "--bench") {
        return ExitCode::SUCCESS;
    }
    match compare() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(5),
        Err(error) => {
            eprintln!("two: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Prints a line for each kind of decision; whether all are within the ratio.
fn compare() -> Outcome<bool> {
    let (open, sold_out) = (Node::start()?, Node::start()?);
    sold_out.sell_out()?;
    let kinds = [
        ("page hit", &open, request::get("GET /activity/8848?city=bj HTTP/1.1")),
        ("availability", &open, request::get("GET /activity/8848/availability HTTP/1.1")),
        ("refusal", &sold_out, request::purchase()),
    ];
    println!("{:<14}{:>10}{:>14}{:>9}", "decision", "alone", "beside another", "ratio");
    let mut is_within = true;
    for (name, node, text) in kinds {
        let (mut alone, mut beside, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let (one, two) = (decide(node, &text, 1)?, decide(node, &text, 2)?);
            alone.push(one);
            beside.push(two);
            ratios.push(two / one);
        }
        let (alone, beside, ratio) = (median(alone), median(beside), median(ratios));
        let above = if ratio > RATIO_MAX { "  above target" } else { "" };
        is_within &= above.is_empty();
        println!("{name:<14}{alone:>7.0} ns{beside:>11.0} ns{ratio:>9.2}{above}");
    }
    Ok(is_within)
}

/// CPU time of a decision in nanoseconds, when so many workers decide at once.
fn decide(node: &Node, text: &str, workers: usize) -> Outcome<f64> {
    let barrier = Barrier::new(workers);
    let times = std::thread::scope(|scope| {
        let work = |index| work(node, text, index, &barrier).map_err(|e| e.to_string());
        let threads: Vec<_> = (0..workers).map(|i| scope.spawn(move || work(i))).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
            thread.join().unwrap_or_else(|_| Err("a worker panicked".to_owned()))
        };
        threads.into_iter().map(join).collect::<Result<Vec<_>, _>>()
    })?;
    Ok(times.iter().sum::<f64>() / times.len() as f64)
}

/// One worker: decides about requests of its own users, and counts and logs each.
fn work(node: &Node, text: &str, index: usize, barrier: &Barrier) -> Outcome<f64> {
    let texts: Vec<_> =
        (0..USERS).map(|n| request::of_user(text, (index * USERS + n) as u64)).collect();
    let decide_all = |entrance: &Entrance, times: u32| {
        texts.iter().try_for_each(|text| decide_often(node, entrance, text, times))
    };
    let entrance =
        primed(node, text).and_then(|entrance| decide_all(&entrance, 100).map(|()| entrance));
    // Whether or not all is well: the other worker waits.
    barrier.wait();
    let (entrance, before) = (entrance?, cpu_ns()?);
    decide_all(&entrance, DECISIONS_EACH)?;
    let decisions = f64::from(DECISIONS_EACH) * texts.len() as f64;
    Ok((cpu_ns()? - before) as f64 / decisions)
}

/// A worker that has what `text` asks for.
fn primed(node: &Node, text: &str) -> Outcome<Rc<Entrance>> {
    let (entrance, _) = node.worker()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, node.prime(&entrance, text))?;
    Ok(entrance)
}

fn decide_often(node: &Node, entrance: &Entrance, text: &str, times: u32) -> Outcome<()> {
    request::with_head(text, &node.clock, |head, exchange| {
        for _ in 0..times {
            let exchange = exchange();
            let Step::Answer(ready) = entrance.decide(head, &exchange) else {
                return Err("a decision was not answered at once".into());
            };
            let done = Done {
                status: ready.answer.status().as_u16(),
                bytes: ready.answer.body_len() as u64,
                took_ms: 0,
                complete: true,
                reason: ready.reason,
                cache: None,
            };
            entrance.finished(&exchange, &done);
            black_box(ready);
        }
        Ok(())
    })?
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// CPU time of this thread, in nanoseconds.
fn cpu_ns() -> Outcome<u64> {
    // The kernel brings the figure up to date when a thread yields.
    std::thread::yield_now();
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(text.split(' ').next().unwrap_or_default().parse()?)
}
