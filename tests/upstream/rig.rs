//! The stage: a runtime like a worker's, and groups of servers on it.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method};
use http_body::{Body as _, Frame};
use penstock::config::schema;
use penstock::http::body::BodyError;
use penstock::http::{RequestBody, ResponseBody};
use penstock::ident::Name;
use penstock::metrics::Sink;
use penstock::upstream::{
    Body, Group, Request, Response, Shared, Timeouts, UpstreamError, Upstreams,
};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::LocalSet;

/// A test that hangs fails after this time; nothing else depends on it.
const HANG: Duration = Duration::from_secs(120);
const HANG_LONG: Duration = Duration::from_secs(1_200);

/// Whether the long versions are wanted.
pub fn is_long() -> bool {
    std::env::var_os("PENSTOCK_TEST_LONG").is_some()
}

/// Longer than a test.
pub const LONG: Duration = Duration::from_secs(300);
/// What a test waits for that wants to see a timeout.
pub const SHORT: Duration = Duration::from_millis(80);

pub const PATIENT: Timeouts = Timeouts { first_byte: LONG, idle: LONG, until: None };

pub const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// Runs a test on a current-thread runtime inside a `LocalSet`, as a worker does.
pub fn run<F: Future<Output = ()>>(test: impl FnOnce() -> F) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
    LocalSet::new().block_on(&runtime, async move {
        let hang = if is_long() { HANG_LONG } else { HANG };
        tokio::time::timeout(hang, test()).await.expect("the test hangs");
    });
}

/// One group on one worker.
pub struct Stage {
    pub group: Rc<Group>,
    pub sink: Sink,
    pub shared: Arc<Shared>,
}

pub fn name() -> Name {
    Name::new("shop").expect("a name")
}

/// Limits of a group, as `[upstream.shop]` with these lines.
pub fn shared(servers: &[String], lines: &str) -> Arc<Shared> {
    let mut settings: schema::Upstream = toml::from_str(lines).expect("settings");
    settings.servers = servers.to_vec();
    Shared::new(&[(name(), settings)].into())
}

/// A worker's view of them.
pub fn worker(shared: &Arc<Shared>) -> Stage {
    let sink = Sink::detached();
    let upstreams = Upstreams::new(shared, sink.clone());
    let group = upstreams.group(&name()).expect("the group").clone();
    Stage { group, sink, shared: shared.clone() }
}

pub fn stage(servers: &[String], lines: &str) -> Stage {
    worker(&shared(servers, lines))
}

/// One server, the default settings.
pub fn to(address: impl ToString) -> Stage {
    stage(&[address.to_string()], "")
}

impl Stage {
    pub async fn get(&self) -> Result<Response, UpstreamError> {
        self.group.send(request(Method::GET, Body::Empty), PATIENT).await
    }

    pub async fn post(&self, body: &'static str) -> Result<Response, UpstreamError> {
        let body = Body::Full(Bytes::from_static(body.as_bytes()));
        self.group.send(request(Method::POST, body), PATIENT).await
    }

    /// GETs and reads the whole answer.
    pub async fn get_text(&self) -> String {
        text(self.get().await.expect("an answer").body).await
    }
}

pub fn request(method: Method, body: Body) -> Request {
    let (target, host) = ("/x?y".to_owned(), "shop.example".to_owned());
    Request { method, target, host, headers: HeaderMap::new(), body, interim: None }
}

/// The error of a request that must have one.
pub fn failed(result: Result<Response, UpstreamError>) -> UpstreamError {
    match result {
        Ok(response) => panic!("an answer: {}", response.status),
        Err(error) => error,
    }
}

pub async fn next(body: &mut ResponseBody) -> Option<Result<Bytes, BodyError>> {
    let frame = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await?;
    Some(frame.map(|frame| frame.into_data().expect("trailers are dropped")))
}

/// The whole body, or what came before its error.
pub async fn read(mut body: ResponseBody) -> (Vec<u8>, Option<BodyError>) {
    let mut all = Vec::new();
    while let Some(frame) = next(&mut body).await {
        match frame {
            Ok(data) => all.extend_from_slice(&data),
            Err(error) => return (all, Some(error)),
        }
    }
    (all, None)
}

pub async fn text(body: ResponseBody) -> String {
    let (bytes, error) = read(body).await;
    assert!(error.is_none(), "{error:?}");
    String::from_utf8(bytes).expect("text")
}

/// Lets everything that can run, run, until `condition` holds.
pub async fn until(mut condition: impl FnMut() -> bool) {
    while !condition() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

type Frames = Result<Bytes, BodyError>;

/// A request body whose frames the test sends as it likes, with or without a length.
pub fn stream(length: Option<u64>) -> (Sender<Frames>, Body) {
    let (sender, receiver) = channel(1);
    (sender, Body::Stream(RequestBody::Stream(Box::pin(Channel { receiver, length }))))
}

struct Channel {
    receiver: Receiver<Frames>,
    length: Option<u64>,
}

impl http_body::Body for Channel {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.receiver.poll_recv(cx).map(|item| item.map(|item| item.map(Frame::data)))
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.length.map_or_else(http_body::SizeHint::default, http_body::SizeHint::with_exact)
    }
}
