//! One node: the edge as a worker runs it, claims on a runtime of their own, a client.

use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use penstock::answers::Answers;
use penstock::claims::{self, Claims, History};
use penstock::clock::Clock;
use penstock::config::Settings;
use penstock::config::schema::JournalSync;
use penstock::edge::{self, Edge, Entrance, Ways};
use penstock::gate::report::{Hook, Report};
use penstock::gate::{self, Gate};
use penstock::http::{Door, Drainer, Limits, Peer, Trust, serve};
use penstock::ident::{NodeId, SaleId};
use penstock::journal::Journal;
use penstock::ledger::{Control, Op, RecordKind};
use penstock::log::AccessLog;
use penstock::metrics::{Counter, Sink};
use penstock::page::{Cache, Pages};
use penstock::proxy::Proxy;
use penstock::sale::{SaleBook, SaleState};
use penstock::store::Store;
use penstock::store::sim::Sim;
use penstock::upstream::{self, Upstreams};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::task::{LocalSet, spawn_local};
use tokio_util::task::TaskTracker;

use crate::shop::Shop;

/// A test that hangs fails after this time; nothing else depends on it.
const HANG: Duration = Duration::from_secs(60);

/// How far T0 lies ahead when a node starts.
const BEFORE_T0_MS: u64 = 3_600_000;

/// One node, its shop, and what it reported.
pub struct Node {
    pub shop: Shop,
    pub store: Sim,
    pub book: Arc<SaleBook>,
    pub clock: Clock,
    pub sink: Sink,
    pub purchases: TaskTracker,
    pub reports: Rc<RefCell<Vec<Report>>>,
    address: std::net::SocketAddr,
    _dir: tempfile::TempDir,
}

/// The settings of most tests: one unit of stock, anybody's cookie. `UPSTREAM`, `GATE`, `ACTIVITY`,
/// `SALE` and `ROOT` are replaced by a test's own lines.
const CONFIG: &str = r#"
    ROOT
    [upstream.shop]
    servers = ["SHOP"]
    UPSTREAM
    [gate]
    GATE
    [site.shop]
    hosts = ["shop.example", "www.shop.example"]
    upstream = "shop"
    [site.shop.activity]
    purchase = "/activity/{activity}/orders"
    user = ["cookie:uid"]
    ACTIVITY
    [sale.drop]
    activity = "8848"
    opens_at = "OPENS_AT"
    SALE
"#;

/// What a test changes of the settings.
#[derive(Clone, Copy, Default)]
pub struct Lines {
    pub root: &'static str,
    pub upstream: &'static str,
    pub gate: &'static str,
    pub activity: &'static str,
    pub sale: &'static str,
}

/// Runs a test in front of a node whose sale has opened.
pub fn open<F: Future<Output = ()>>(lines: Lines, test: impl FnOnce(Node) -> F) {
    closed(lines, |node| async move {
        node.pass_t0();
        test(node).await;
    });
}

/// Runs a test in front of a node whose sale opens in an hour.
pub fn closed<F: Future<Output = ()>>(lines: Lines, test: impl FnOnce(Node) -> F) {
    let control =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let control = control.expect("runtime");
    let worker = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let worker = worker.expect("runtime");
    LocalSet::new().block_on(&worker, async {
        let run = async { test(Node::start(lines, &control).await).await };
        tokio::time::timeout(HANG, run).await.expect("the test hangs");
    });
    control.shutdown_background();
}

impl Node {
    async fn start(lines: Lines, control: &Runtime) -> Node {
        let shop = Shop::start().await;
        let clock = Clock::system();
        let (dir, sink) = (tempfile::tempdir().expect("directory"), Sink::detached());
        let settings = settings(lines, &shop, &clock);
        let store = Sim::new(clock.clone());
        let book = Arc::new(SaleBook::new());
        let claims = claims(&settings, &store, &book, &clock, &dir, &sink, control);
        control.spawn(Arc::new(store.clone()).mirror(book.clone(), clock.clone()));
        let (purchases, reports) = (TaskTracker::new(), Rc::default());
        let edge = edge(&settings, &book, claims, &purchases, &reports, &sink);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("address");
        spawn_local(accept(listener, edge, clock.clone(), sink.clone()));
        let node = Node { shop, store, book, clock, sink, purchases, reports, address, _dir: dir };
        node.until("the sale", |node| node.book.is_synced() && node.state().is_some()).await;
        node
    }

    /// Time goes on until the sale is open.
    pub fn pass_t0(&self) {
        self.clock.set_ledger_offset(i64::try_from(BEFORE_T0_MS).unwrap() + 1_000, 0);
    }

    pub fn state(&self) -> Option<SaleState> {
        self.store.state(&sale())
    }

    /// The records of all users, by their letter.
    pub async fn records(&self) -> Vec<RecordKind> {
        let records = self.store.records(&sale(), None, None, 100).await.expect("records");
        records.iter().map(|record| record.kind).collect()
    }

    /// An operator's word, and until the edge has heard it.
    pub async fn control(&self, control: Control) {
        let op = Op::Control(control);
        let reply = self.store.call(&sale(), op, Duration::from_secs(5)).await.expect("applied");
        let version = reply.state.expect("a sale").version;
        self.until("the edge hears", |node| {
            node.book.sale(&sale()).is_some_and(|sale| sale.state.version >= version)
        })
        .await;
    }

    pub async fn until(&self, what: &str, condition: impl Fn(&Node) -> bool) {
        let wait = async {
            while !condition(self) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(HANG / 2, wait).await.unwrap_or_else(|_| panic!("{what}"));
    }

    /// Until the ledger's records are these.
    pub async fn until_records(&self, kinds: &[RecordKind]) {
        let wait = async {
            while self.records().await != kinds {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let late = tokio::time::timeout(HANG / 2, wait).await.is_err();
        assert!(!late, "{:?}", self.records().await);
    }

    pub fn counted(&self, counter: Counter) -> u64 {
        self.sink.get(counter)
    }

    /// A connection to the edge.
    pub async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("connect")
    }

    /// Sends these bytes on a connection of their own and reads the answer.
    pub async fn send(&self, request: &str) -> Told {
        let mut stream = self.connect().await;
        stream.write_all(request.as_bytes()).await.expect("sent");
        Told::read(&mut stream).await
    }

    /// Buys as `user`, with these fields and this body.
    pub async fn buy(&self, user: &str, fields: &str, body: &str) -> Told {
        self.send(&purchase(user, fields, body)).await
    }
}

/// A purchase with a body of JSON, where there is one.
pub fn purchase(user: &str, fields: &str, body: &str) -> String {
    let kind = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
    format!(
        "POST /activity/8848/orders?from=a%20b HTTP/1.1\r\nHost: shop.example\r\n\
         Cookie: uid={user}\r\n{kind}Content-Length: {}\r\n{fields}Connection: close\r\n\r\n{body}",
        body.len()
    )
}

pub fn sale() -> SaleId {
    "shop/drop".parse().expect("id")
}

/// An answer of the edge.
#[derive(Clone, Debug)]
pub struct Told {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Told {
    pub async fn read(stream: &mut TcpStream) -> Told {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.expect("read");
        let text = String::from_utf8(bytes).expect("UTF-8");
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{text:?}"));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        Told { status: status.expect("status"), head: head.to_owned(), body: body.to_owned() }
    }

    /// The one value of a field.
    pub fn field(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        let mut values = lines.filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.trim());
        let first = values.next();
        assert_eq!(values.next(), None, "{name} comes twice: {}", self.head);
        first
    }

    /// `Penstock-Reason`.
    pub fn reason(&self) -> &str {
        self.field("penstock-reason").unwrap_or_default()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("{:?}", self.body))
    }
}

fn settings(lines: Lines, shop: &Shop, clock: &Clock) -> Settings {
    let opens_at = penstock::config::units::Time { at: clock.now().wall.plus(BEFORE_T0_MS) };
    let or = |own: &'static str, usual: &'static str| if own.is_empty() { usual } else { own };
    let toml = CONFIG
        .replace("ROOT", or(lines.root, "limits.user = 'off'"))
        .replace("UPSTREAM", or(lines.upstream, "outcome = 'status'"))
        .replace("GATE", lines.gate)
        .replace("ACTIVITY", lines.activity)
        .replace("SALE", or(lines.sale, "stock = 1"))
        .replace("OPENS_AT", &opens_at.to_string())
        .replace("SHOP", &shop.address.to_string());
    let mut settings: Settings = toml::from_str(&toml).unwrap_or_else(|e| panic!("{e}\n{toml}"));
    // The control runtime may be slow on a busy machine; no test here is about that.
    settings.store.claim_deadline = Some("10s".parse().expect("span"));
    settings
}

fn claims(
    settings: &Settings,
    store: &Sim,
    book: &Arc<SaleBook>,
    clock: &Clock,
    dir: &tempfile::TempDir,
    sink: &Sink,
    control: &Runtime,
) -> Claims {
    let sync = JournalSync::Batch;
    let (journal, _) =
        Journal::open(dir.path(), sync, clock.clone(), sink.clone(), |_| {}).expect("a journal");
    Claims::start(claims::Parts {
        store: Arc::new(store.clone()),
        journal,
        history: History::default(),
        book: book.clone(),
        clock: clock.clone(),
        node: NodeId::random(),
        limits: claims::Limits::of(settings),
        predecessor: None,
        sales_file: None,
        declarations: claims::declare::of_config(settings).expect("declarations"),
        sink: sink.clone(),
        runtime: control.handle().clone(),
    })
}

fn edge(
    settings: &Settings,
    book: &Arc<SaleBook>,
    claims: Claims,
    purchases: &TaskTracker,
    reports: &Rc<RefCell<Vec<Report>>>,
    sink: &Sink,
) -> Rc<Entrance> {
    let trust = Arc::new(Trust::new(&settings.trust.proxies).expect("trust"));
    let answers = Arc::new(Answers::new(&settings.answers).expect("answers"));
    let upstreams =
        Rc::new(Upstreams::new(&upstream::Shared::new(&settings.upstream), sink.clone()));
    let shared = gate::Shared::new(settings, answers.clone(), trust.clone()).expect("gate");
    let heard = reports.clone();
    let hook = Hook::new(move |report| heard.borrow_mut().push(report.clone()));
    let to = upstreams.clone();
    let gate = Gate::new(shared, to, claims, purchases.clone(), sink.clone()).with_hook(hook);
    let (cache, fills) = (Cache::new(settings), TaskTracker::new());
    let to = upstreams.clone();
    let pages = Pages::new(settings, cache, answers.clone(), to, fills, sink.clone(), book);
    let proxy = Proxy::new(
        settings,
        answers.clone(),
        trust.clone(),
        upstreams,
        &Default::default(),
        sink.clone(),
    );
    let shared = edge::Shared::new(settings, book.clone(), answers, trust).expect("edge");
    let log = AccessLog::start(&settings.log, sink.clone()).expect("no log");
    let ways = Ways { pages, gate, proxy };
    let edge = Edge::new(shared, &settings.log, log, ways, sink.clone());
    Entrance::new(edge, Default::default())
}

async fn accept(listener: TcpListener, edge: Rc<Entrance>, clock: Clock, sink: Sink) {
    let (drainer, limits) = (Drainer::new(), Rc::new(Limits::default()));
    spawn_local(drainer.keep_time());
    let door = Door::new(edge, limits, clock, sink, drainer.signal());
    while let Ok((stream, peer)) = listener.accept().await {
        spawn_local(serve(stream, Peer::Tcp(peer), door.clone(), ()));
    }
}
