//! `make bench-pieces`: what the pieces of a hot answer cost, one by one.
//!
//! What is private is measured through the nearest public door: the rate limit is the better part of
//! the refusal of a user who is over it.

#[path = "common/node.rs"]
mod node;
#[path = "common/request.rs"]
mod request;

use std::hint::black_box;
use std::rc::Rc;

use criterion::{Criterion, criterion_group, criterion_main};
use penstock::answer::imf_fixdate;
use penstock::edge::Entrance;
use penstock::http::reader::read_head;
use penstock::http::{Exchange, Head, Limits, Ready, Service, Step};
use penstock::ident::{RequestId, UserKey};
use penstock::metrics::Counter;
use tokio::runtime::Runtime;
use tokio::task::LocalSet;

use node::{Node, Outcome};

const PAGE: &str = "GET /activity/8848?city=bj HTTP/1.1";
const POLL: &str = "GET /activity/8848/availability HTTP/1.1";

/// One worker, with the page in its cache.
struct Worker {
    node: Node,
    entrance: Rc<Entrance>,
    runtime: Runtime,
}

impl Worker {
    fn start() -> Outcome<Worker> {
        let node = Node::start()?;
        let (entrance, _) = node.worker()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let worker = Worker { node, entrance, runtime };
        worker.decide(&request::get(PAGE))?;
        Ok(worker)
    }

    /// The answer to `text`, once it is ready-made.
    fn decide(&self, text: &str) -> Outcome<Ready> {
        LocalSet::new().block_on(&self.runtime, self.node.prime(&self.entrance, text))?;
        let decide = |head: &Head<'_>, exchange: &dyn Fn() -> Exchange| {
            self.entrance.decide(head, &exchange())
        };
        match request::with_head(text, &self.node.clock, decide)? {
            Step::Answer(ready) | Step::Refuse(ready) => Ok(ready),
            Step::Work(_) => Err("it is not ready-made any more".into()),
        }
    }

    /// Measures deciding about `text`.
    fn bench(&self, c: &mut Criterion, name: &str, text: &str) {
        let ready = self.decide(text).expect("decided at once");
        let told = ready.answer.status();
        let name = format!("decide/{name} {}", told.as_u16());
        let bench = |head: &Head<'_>, exchange: &dyn Fn() -> Exchange| {
            let exchange = exchange();
            c.bench_function(&name, |b| {
                b.iter(|| self.entrance.decide(head, black_box(&exchange)))
            });
        };
        request::with_head(text, &self.node.clock, bench).expect("a head");
    }
}

fn decisions(c: &mut Criterion) {
    let worker = Worker::start().expect("a worker");
    worker.bench(c, "page", &request::get(PAGE));
    worker.bench(c, "page", &request::get(&format!("{PAGE}\r\nIf-None-Match: *")));
    worker.bench(c, "availability", &request::get(POLL));
    worker.bench(c, "availability", &request::get(&format!("{POLL}\r\nIf-None-Match: *")));
    // The shop takes the first orders of this user, then the limit is reached.
    worker.bench(c, "rate limit", &request::purchase_without_body());
    worker.node.sell_out().expect("sold out");
    worker.bench(c, "sold out", &request::of_user(&request::purchase(), 1));
}

fn messages(c: &mut Criterion) {
    let worker = Worker::start().expect("a worker");
    let (limits, mut fields) = (Limits::default(), Vec::new());
    let page = request::get(PAGE);
    c.bench_function("read head", |b| {
        b.iter(|| {
            fields.clear();
            read_head(black_box(page.as_bytes()), &limits, &mut fields).map(|r| r.is_some())
        });
    });
    let (mut out, answers) = (Vec::new(), [("page", PAGE), ("availability", POLL)]);
    for (name, first) in answers {
        let ready = worker.decide(&request::get(first)).expect("ready-made");
        c.bench_function(&format!("write/{name}, {} bytes", ready.answer.body_len()), |b| {
            b.iter(|| {
                out.clear();
                ready.answer.write_h1(black_box(&ready.fill), false, false, &mut out);
            });
        });
    }
}

fn parts(c: &mut Criterion) {
    let worker = Worker::start().expect("a worker");
    let (clock, book) = (&worker.node.clock, worker.node.book());
    let sale = book.get("shop", "8848").expect("the sale");
    let salt = sale.state.salt.clone();
    c.bench_function("user key", |b| {
        b.iter(|| UserKey::of_identity(&salt, black_box(b"u00000001")))
    });
    c.bench_function("snapshot", |b| b.iter(|| book.get(black_box("shop"), black_box("8848"))));
    let now = clock.now();
    c.bench_function("view of a sale", |b| b.iter(|| sale.at(black_box(&now))));
    c.bench_function("clocks", |b| b.iter(|| clock.now()));
    c.bench_function("request id", |b| b.iter(RequestId::next));
    c.bench_function("date", |b| b.iter(|| imf_fixdate(black_box(now.wall))));
    let sink = worker.node.registry.sink();
    c.bench_function("count", |b| b.iter(|| sink.inc(Counter::CacheHits)));
}

criterion_group!(pieces, decisions, messages, parts);
criterion_main!(pieces);
