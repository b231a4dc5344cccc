//! The stage: a runtime like a worker's, a service that tells what it was asked, and connections.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::BodyExt;
use penstock::answer::{Answer, AnswerBuilder, Fill};
use penstock::clock::Clock;
use penstock::http::{
    Done, Door, Drainer, Exchange, Head, Limits, Peer, Ready, ResponseBody, Service, Step, serve_h2,
};
use penstock::metrics::{Counter, Sink};
use tokio::sync::Notify;
use tokio::task::{LocalSet, spawn_local};

use super::client::Client;

/// Tells what it was asked.
///
/// ```text
/// /          ready: method, host, path, query, cookies
/// /big       ready: 1 MiB that all share
/// /kilobyte  ready: 1,000 bytes
/// /read      reads the body, tells its length
/// /wait      waits for ever, until it is dropped
/// /panic     panics
/// ```
pub struct Told {
    pub big: Arc<Answer>,
    pub asked: Cell<usize>,
    pub worked: Cell<usize>,
    pub dropped: Cell<usize>,
    pub done: RefCell<Vec<Done>>,
    pub go: Notify,
}

pub const BIG: usize = 1 << 20;

impl Service for Told {
    fn decide(&self, head: &Head<'_>, exchange: &Exchange) -> Step {
        self.asked.set(self.asked.get() + 1);
        let fill = Fill { now: exchange.now, request: exchange.id, ..Fill::default() };
        let ready =
            |answer: Arc<Answer>| Step::Answer(Ready { answer: answer.into(), fill, reason: None });
        match head.path {
            "/big" => ready(self.big.clone()),
            "/kilobyte" => {
                ready(AnswerBuilder::new(StatusCode::OK).body(vec![b'x'; 1_000].into()).build())
            }
            "/panic" => panic!("on purpose"),
            "/read" => Step::Work(Box::new(|body, _| {
                Box::pin(async move {
                    let text = match body.collect().await {
                        Ok(read) => read.to_bytes().len().to_string(),
                        Err(error) => error.to_string(),
                    };
                    Response::new(ResponseBody::Full(text.into()))
                })
            })),
            "/wait" => {
                self.worked.set(self.worked.get() + 1);
                let gone = Gone(THIS.with_borrow(|this| this.clone()).expect("a service"));
                Step::Work(Box::new(move |_, _| {
                    Box::pin(async move {
                        gone.0.go.notified().await;
                        Response::new(ResponseBody::Full("went on".into()))
                    })
                }))
            }
            path => {
                let cookies: Vec<_> =
                    head.field_all("cookie").map(String::from_utf8_lossy).collect();
                let told =
                    format!("{} {} {path} {:?} {cookies:?}", head.method, head.host, head.query);
                ready(AnswerBuilder::new(StatusCode::OK).body(Bytes::from(told)).build())
            }
        }
    }

    fn finished(&self, _: &Exchange, done: &Done) {
        self.done.borrow_mut().push(done.clone());
    }
}

struct Gone(Rc<Told>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.dropped.set(self.0.dropped.get() + 1);
    }
}

thread_local! {
    static THIS: RefCell<Option<Rc<Told>>> = const { RefCell::new(None) };
}

/// One worker's worth of driver.
pub struct Rig {
    pub told: Rc<Told>,
    pub limits: Limits,
    pub sink: Sink,
    pub drainer: Drainer,
}

/// Runs a test on a clock that jumps to the next timer whenever everything waits.
pub fn run<F: Future<Output = ()>>(test: impl FnOnce(Rig) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("runtime");
    LocalSet::new().block_on(&runtime, async move { test(Rig::new()).await });
}

impl Rig {
    fn new() -> Rig {
        let drainer = Drainer::new();
        spawn_local(drainer.keep_time());
        let big = AnswerBuilder::new(StatusCode::OK).body(Bytes::from(vec![b'x'; BIG])).build();
        let told = Rc::new(Told {
            big,
            asked: Cell::new(0),
            worked: Cell::new(0),
            dropped: Cell::new(0),
            done: RefCell::default(),
            go: Notify::new(),
        });
        THIS.set(Some(told.clone()));
        Rig { told, limits: Limits::default(), sink: Sink::detached(), drainer }
    }

    /// A connection over a pipe that holds `bytes` in each direction.
    pub fn pipe(&self, bytes: usize) -> Client {
        let (near, far) = tokio::io::duplex(bytes);
        let peer = Peer::Tcp(([127, 0, 0, 1], 4000).into());
        let door = Door::new(
            self.told.clone(),
            Rc::new(self.limits.clone()),
            Clock::system(),
            self.sink.clone(),
            self.drainer.signal(),
        );
        Client::new(near, spawn_local(serve_h2(Box::new(far), peer, door, ())))
    }

    /// A connection that has begun.
    pub async fn greeted(&self) -> Client {
        let mut client = self.pipe(256 * 1024);
        client.greet(&[]).await;
        client
    }

    pub fn counted(&self, counter: Counter) -> u64 {
        self.sink.get(counter)
    }
}

/// Lets everything that can run, run.
pub async fn settle() {
    tokio::time::sleep(Duration::from_millis(5)).await;
}
