//! A worker's pages, and requests to them at any time of the test's choice.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method, Version};
use http_body::Body;
use penstock::answers::Answers;
use penstock::clock::{MonoMs, Now, UnixMs};
use penstock::config::Settings;
use penstock::http::head::BodyKind;
use penstock::http::{
    Done, Exchange, Field, Head, Interim, Note, Peer, RequestBody, ResponseBody, Route, Service,
    Step, Trust,
};
use penstock::ident::{Name, RequestId};
use penstock::metrics::{Counter, Sink};
use penstock::page::{Ask, Cache, OrdinaryAsk, Pages};
use penstock::proxy::Proxy;
use penstock::sale::SaleBook;
use penstock::upstream::{Shared, Upstreams};
use tokio::task::LocalSet;
use tokio_util::task::TaskTracker;

/// A test that hangs fails after this time; nothing else depends on it.
const HANG: Duration = Duration::from_secs(60);

/// Runs a test as a worker runs: on one thread, inside a `LocalSet`.
pub fn run<F: Future<Output = ()>>(test: F) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
    LocalSet::new().block_on(&runtime, async move {
        tokio::time::timeout(HANG, test).await.expect("the test hangs");
    });
}

/// Lets everything that can run, run, until `condition` holds.
pub async fn until(mut condition: impl FnMut() -> bool) {
    while !condition() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Settings for a shop at `address`: `page` is the page route, `more` more TOML.
pub fn settings(address: SocketAddr, page: &str, more: &str) -> Settings {
    let text = format!(
        r#"
        [upstream.shop]
        servers = ["{address}"]
        [site.shop]
        hosts = ["shop.example"]
        upstream = "shop"
        [site.shop.activity]
        page = {{ path = "/activity/{{activity}}", {page} }}
        city = ["query:city"]
        {more}
        "#
    );
    toml::from_str(&text).expect("valid settings")
}

/// One worker.
pub struct Worker {
    pub pages: Pages,
    proxy: Proxy,
    pub cache: Arc<Cache>,
    pub sink: Sink,
    pub tasks: TaskTracker,
    /// The sales.
    pub book: Arc<SaleBook>,
    site: Name,
}

/// What a client got.
#[derive(Debug)]
pub struct Got {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: String,
    pub whole: bool,
}

impl Worker {
    pub fn new(settings: &Settings) -> Rc<Worker> {
        Worker::beside(settings, Cache::new(settings))
    }

    /// A worker that shares `cache` with others.
    pub fn beside(settings: &Settings, cache: Arc<Cache>) -> Rc<Worker> {
        let sink = Sink::detached();
        let answers = Arc::new(Answers::new(&settings.answers).expect("valid"));
        let upstreams = Rc::new(Upstreams::new(&Shared::new(&settings.upstream), sink.clone()));
        let (tasks, book) = (TaskTracker::new(), Arc::new(SaleBook::new()));
        let trust = Arc::new(Trust::default());
        let proxy = Proxy::new(
            settings,
            answers.clone(),
            trust,
            upstreams.clone(),
            &Default::default(),
            sink.clone(),
        );
        let pages = Pages::new(
            settings,
            cache.clone(),
            answers,
            upstreams,
            tasks.clone(),
            sink.clone(),
            &book,
        );
        Rc::new(Worker {
            pages,
            proxy,
            cache,
            sink,
            tasks,
            book,
            site: Name::new("shop").expect("valid"),
        })
    }

    pub fn counted(&self, counter: Counter) -> u64 {
        self.sink.get(counter)
    }

    /// No fill is under way any more.
    pub async fn quiet(&self) {
        until(|| self.tasks.is_empty()).await;
    }

    /// A GET without fields at `ms` milliseconds.
    pub async fn get(&self, target: &str, ms: u64) -> Got {
        self.ask(Method::GET, target, &[], ms).await
    }

    /// A request at `ms` milliseconds. The decision is made at once, the rest when it is polled.
    pub fn ask(
        &self,
        method: Method,
        target: &str,
        fields: &[(&str, &str)],
        ms: u64,
    ) -> impl Future<Output = Got> + 'static {
        self.ask_slowly(method, target, fields, ms, 0)
    }

    /// The same by a client that lets others run so many times before each piece of the body.
    pub fn ask_slowly(
        &self,
        method: Method,
        target: &str,
        fields: &[(&str, &str)],
        ms: u64,
        pauses: usize,
    ) -> impl Future<Output = Got> + 'static {
        let fields: Vec<_> = fields
            .iter()
            .map(|(name, value)| Field { name: name.as_bytes(), value: value.as_bytes() })
            .collect();
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        };
        let head = Head {
            method,
            version: Version::HTTP_11,
            path,
            query,
            host: "shop.example".into(),
            fields: &fields,
            body: BodyKind::None,
        };
        let now = Now {
            mono: MonoMs(ms),
            wall: UnixMs(784_111_777_000 + ms),
            ledger: UnixMs(ms),
            ledger_err_ms: 0,
        };
        let exchange = Exchange {
            now,
            id: RequestId::next(),
            peer: Peer::Unix,
            is_tls: false,
            terms: None,
            note: Note::default(),
        };
        let step = self.decide(&head, &exchange);
        async move {
            match step {
                Step::Answer(ready) | Step::Refuse(ready) => {
                    let response = ready.answer.response(&ready.fill).map(ResponseBody::Full);
                    read(response, pauses).await
                }
                Step::Work(work) => {
                    read(work(RequestBody::Empty, Interim::default()).await, pauses).await
                }
            }
        }
    }

    /// As the edge routes: the pages of activities, and everything else.
    fn decide(&self, head: &Head<'_>, exchange: &Exchange) -> Step {
        if !head.path.starts_with("/activity/") {
            return self.elsewhere(head, exchange);
        }
        let activity = head.path.rsplit('/').next().unwrap_or_default();
        self.pages.decide(Ask {
            site: &self.site,
            host: "shop.example",
            activity,
            city: head.query_param("city"),
            head,
            exchange,
        })
    }
}

impl Worker {
    fn elsewhere(&self, head: &Head<'_>, exchange: &Exchange) -> Step {
        if self.pages.caches(&self.site, head) {
            let forward = || self.proxy.forward(&self.site, head, exchange);
            let (site, host) = (&self.site, "shop.example");
            let ask = OrdinaryAsk { site, head, exchange, host, forward: &forward };
            if let Some(step) = self.pages.ordinary(&ask) {
                return step;
            }
        }
        let step = self.proxy.decide(&self.site, Route::Proxy, None, head, exchange);
        self.pages.watch(&self.site, "shop.example", head, exchange, step)
    }
}

async fn read(response: http::Response<ResponseBody>, pauses: usize) -> Got {
    let (parts, mut body) = response.into_parts();
    let (mut bytes, mut whole) = (Vec::new(), true);
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        for _ in 0..pauses {
            tokio::task::yield_now().await;
        }
        match frame {
            Ok(frame) => bytes.extend_from_slice(&frame.into_data().expect("data")),
            Err(_) => {
                whole = false;
                break;
            }
        }
    }
    let body = String::from_utf8_lossy(&bytes).into_owned();
    Got { status: parts.status.as_u16(), headers: parts.headers, body, whole }
}

impl Got {
    pub fn field(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().expect("text"))
    }
}

/// A worker as the driver sees it.
pub struct Door {
    pub worker: Rc<Worker>,
    pub done: RefCell<Vec<Done>>,
}

impl Service for Door {
    fn decide(&self, head: &Head<'_>, exchange: &Exchange) -> Step {
        self.worker.decide(head, exchange)
    }

    fn finished(&self, _: &Exchange, done: &Done) {
        self.done.borrow_mut().push(done.clone());
    }
}

impl Worker {
    /// A GET at the start of time that nobody borrows.
    pub fn get_owned(&self, target: &str) -> impl Future<Output = Got> + 'static {
        self.ask(Method::GET, target, &[], 0)
    }
}
