//! The service of the tests: the path says what happens, and everything is written down.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body::{Body, Frame};
use penstock::answer::{Answer, AnswerBuilder, Fill};
use penstock::http::body::BodyError;
use penstock::http::{Done, Exchange, Head, Ready, RequestBody, ResponseBody, Service, Step, Work};
use penstock::outcome::Reason;
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::spawn_local;

pub const BIG_BYTES: usize = 10 << 20;

/// What the tests see and steer.
#[derive(Default)]
pub struct Script {
    /// Method, target and host of every decision.
    pub seen: RefCell<Vec<String>>,
    pub done: RefCell<Vec<Done>>,
    /// Handlers that were begun, and those that ran to their end.
    pub begun: Rc<Cell<usize>>,
    pub ended: Rc<Cell<usize>>,
    /// Lets a `/slow` handler go on.
    pub go: Rc<Notify>,
    /// Frames of the next `/drip`; dropping the sender ends it.
    drip: Rc<RefCell<Option<Frames>>>,
    /// Body bytes that `/detach` has read in a task of its own, and how that ended.
    pub detached: Rc<Cell<usize>>,
    pub detached_end: Rc<Cell<Option<bool>>>,
}

type Item = Result<Bytes, BodyError>;
type Frames = UnboundedReceiver<Item>;

impl Script {
    /// The frames of the next `/drip`.
    pub fn drip(&self) -> UnboundedSender<Item> {
        let (sender, receiver) = unbounded_channel();
        *self.drip.borrow_mut() = Some(receiver);
        sender
    }

    pub fn saw(&self, path: &str) -> bool {
        self.seen.borrow().iter().any(|line| line.split(' ').nth(1) == Some(path))
    }

    fn step(&self, head: &Head<'_>) -> Step {
        let (begun, ended) = (self.begun.clone(), self.ended.clone());
        let counted = move |work: Work| -> Step {
            Step::Work(Box::new(move |body, interim| {
                begun.set(begun.get() + 1);
                let future = work(body, interim);
                Box::pin(async move {
                    let response = future.await;
                    ended.set(ended.get() + 1);
                    response
                })
            }))
        };
        match head.path {
            "/hot-large" => ready(StatusCode::OK, vec![b'x'; 1 << 20].into()),
            "/deny" => ready(StatusCode::TOO_MANY_REQUESTS, "deny".into()),
            "/hot-304" => ready(StatusCode::NOT_MODIFIED, Bytes::new()),
            "/panic-decide" => panic!("a decision that panics, on purpose"),
            "/p" | "/echo" => counted(work(echo)),
            "/cold" => counted(work(async |_| full(200, "cold"))),
            "/ignore" => counted(work(async |_| full(413, "too large"))),
            "/slow" => {
                let go = self.go.clone();
                counted(work(async move |_| {
                    go.notified().await;
                    full(200, "slow")
                }))
            }
            "/slow-ignore" => {
                let go = self.go.clone();
                counted(work(async move |body| {
                    drop(body);
                    go.notified().await;
                    full(200, "slow")
                }))
            }
            "/drip" => {
                let frames = self.drip.borrow_mut().take().expect("drip was prepared");
                counted(work(async move |_| Response::new(stream(frames))))
            }
            "/drip-sized" => {
                let frames = self.drip.borrow_mut().take().expect("drip was prepared");
                counted(work(async move |_| with("content-length", "6", stream(frames))))
            }
            "/duplex" => counted(work(duplex)),
            "/detach" => counted(self.detach()),
            "/big" => counted(work(async |_| {
                Response::new(ResponseBody::Full(vec![b'b'; BIG_BYTES].into()))
            })),
            "/big-chunked" => counted(work(async |_| Response::new(big_chunked()))),
            "/none" => counted(work(async |_| status(204, ResponseBody::Full("no".into())))),
            "/unmodified" => counted(work(async |_| status(304, ResponseBody::Empty))),
            "/unknown" => counted(work(async |_| Response::new(one_frame("unknown")))),
            "/stated" => counted(work(async |_| with("content-length", "4", ResponseBody::Empty))),
            "/wrong" => counted(work(async |_| {
                with("content-length", "9", ResponseBody::Full("right".into()))
            })),
            "/copied" => counted(work(async |_| copied())),
            "/closes" => counted(work(async |_| {
                with("connection", "close", ResponseBody::Full("closes".into()))
            })),
            "/switch" => counted(work(async |_| status(101, ResponseBody::Empty))),
            "/panic" => counted(work(async |_| panic!("a handler that panics, on purpose"))),
            "/panic-start" => Step::Work(Box::new(|_, _| panic!("work that panics, on purpose"))),
            "/panic-body" => {
                counted(work(async |_| Response::new(ResponseBody::Stream(Box::pin(Panics)))))
            }
            _ => ready(StatusCode::OK, "hot".into()),
        }
    }

    /// Answers at once and reads the body in a task of its own.
    fn detach(&self) -> Work {
        let (count, end) = (self.detached.clone(), self.detached_end.clone());
        work(async move |mut body| {
            spawn_local(async move {
                while let Some(frame) = next(&mut body).await {
                    match frame {
                        Ok(data) => count.set(count.get() + data.len()),
                        Err(_) => return end.set(Some(false)),
                    }
                }
                end.set(Some(true));
            });
            full(200, "detached")
        })
    }
}

impl Service for Script {
    fn decide(&self, head: &Head<'_>, _: &Exchange) -> Step {
        let query = head.query.map(|q| format!("?{q}")).unwrap_or_default();
        let line = format!("{} {}{query} {}", head.method, head.path, head.host);
        self.seen.borrow_mut().push(line);
        self.step(head)
    }

    fn finished(&self, _: &Exchange, done: &Done) {
        self.done.borrow_mut().push(done.clone());
    }
}

fn ready(status: StatusCode, body: Bytes) -> Step {
    let answer: Arc<Answer> = AnswerBuilder::new(status).body(body).build();
    let reason = (status == StatusCode::TOO_MANY_REQUESTS).then_some(Reason::RateLimited);
    Step::Answer(Ready { answer: answer.into(), fill: Fill::default(), reason })
}

fn work(handler: impl AsyncFnOnce(RequestBody) -> Response<ResponseBody> + 'static) -> Work {
    Box::new(move |body, _| Box::pin(async move { handler(body).await }))
}

fn status(status: u16, body: ResponseBody) -> Response<ResponseBody> {
    Response::builder().status(status).body(body).expect("valid")
}

fn full(code: u16, body: &'static str) -> Response<ResponseBody> {
    status(code, ResponseBody::Full(body.into()))
}

fn with(name: &'static str, value: &'static str, body: ResponseBody) -> Response<ResponseBody> {
    Response::builder().header(name, value).body(body).expect("valid")
}

/// A head as a careless proxy would copy it.
fn copied() -> Response<ResponseBody> {
    Response::builder()
        .header("transfer-encoding", "chunked")
        .header("content-length", "3")
        .header("content-length", "7")
        .header("keep-alive", "timeout=5")
        .header("connection", "x-hop")
        .header("x-hop", "1")
        .header("upgrade", "h2c")
        .header("trailer", "x")
        .body(ResponseBody::Full("copied".into()))
        .expect("valid")
}

/// Reads the whole body and sends it back.
async fn echo(mut body: RequestBody) -> Response<ResponseBody> {
    let mut all = Vec::new();
    while let Some(frame) = next(&mut body).await {
        match frame {
            Ok(data) => all.extend_from_slice(&data),
            Err(error) => return full(code_of(&error), "body error"),
        }
    }
    Response::new(ResponseBody::Full(all.into()))
}

pub fn code_of(error: &BodyError) -> u16 {
    match error {
        BodyError::Malformed | BodyError::Cut => 400,
        BodyError::TimedOut => 408,
        BodyError::TooLarge => 413,
    }
}

pub async fn next(body: &mut RequestBody) -> Option<Result<Bytes, BodyError>> {
    let frame = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await?;
    Some(frame.map(|frame| frame.into_data().expect("trailers are dropped")))
}

/// Sends every frame back as it comes.
async fn duplex(body: RequestBody) -> Response<ResponseBody> {
    Response::new(ResponseBody::Stream(Box::pin(body)))
}

fn stream(frames: Frames) -> ResponseBody {
    ResponseBody::Stream(Box::pin(Channel(frames)))
}

fn one_frame(text: &'static str) -> ResponseBody {
    let (sender, receiver) = unbounded_channel();
    sender.send(Ok(Bytes::from(text))).expect("open");
    stream(receiver)
}

fn big_chunked() -> ResponseBody {
    let (sender, receiver) = unbounded_channel();
    for _ in 0..BIG_BYTES >> 16 {
        sender.send(Ok(Bytes::from(vec![b'b'; 1 << 16]))).expect("open");
    }
    stream(receiver)
}

struct Channel(Frames);

impl Body for Channel {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.0.poll_recv(cx).map(|item| item.map(|item| item.map(Frame::data)))
    }
}

struct Panics;

impl Body for Panics {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        panic!("a body that panics, on purpose")
    }
}
