//! The mock shop: a stand-alone HTTP server with pages and an order backend that has a stock of its
//! own, a limited speed and an error model. It knows nothing of the gate.
//!
//! It exists to be stood in front of: the demo, drills and tests count what reached it. By default it
//! checks the stock and decrements it later, on purpose, as many small shops do, so that a crowd
//! oversells it.

pub mod admin;
pub mod dice;
pub mod log;
pub mod order;
pub mod page;
pub mod service;
pub mod stats;
pub mod stock;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::oneshot;

pub use dice::Dice;
pub use order::Backend;
pub use stats::Stats;
pub use stock::StockCheck;

/// How the mock shop behaves.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Units of each pool. Orders that name no pool take the first.
    pub stock: BTreeMap<String, u64>,
    /// How an order is checked against the stock.
    pub stock_check: StockCheck,
    /// How answers to orders look.
    pub style: Style,
    /// Orders a second that all workers together get through.
    pub orders_per_s: u32,
    /// Orders that are worked on at once.
    pub workers: u32,
    /// Orders that may wait for a worker; more are answered 503.
    pub queue_max: u32,
    /// Milliseconds that every order takes besides its worker's time.
    pub latency_ms: u32,
    /// Milliseconds between the check of the stock and the order: the time of a payment or risk call.
    pub gap_ms: u32,
    /// Milliseconds to render a page.
    pub page_ms: u32,
    /// Size of a page.
    pub page_bytes: usize,
    /// Definite failures, of 1,000 orders.
    pub fail_permille: u32,
    /// Answers 500, of 1,000 orders: half before the order was made, half after.
    pub error_permille: u32,
    /// Connections closed without an answer, of 1,000 orders: half before, half after.
    pub drop_permille: u32,
    /// Whether a repeated `Idempotency-Key` gets the first order again. Most shops cannot.
    pub idempotent: bool,
    /// JSON pointer of the pool in an order's body.
    pub pool_at: String,
    /// JSON pointer of the number of units.
    pub units_at: String,
    /// File that gets one JSON line for each order and cancellation.
    pub log: Option<PathBuf>,
    /// Seed of latencies and errors.
    pub seed: u64,
    /// Connections at once; more wait to be accepted.
    pub connections_max: usize,
    /// Orders kept in memory; more are answered 503.
    pub orders_max: usize,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            listen: SocketAddr::from(([127, 0, 0, 1], 9000)),
            stock: BTreeMap::from([("default".to_owned(), 100)]),
            stock_check: StockCheck::Naive,
            style: Style::Status,
            orders_per_s: 60,
            workers: 6,
            queue_max: 400,
            latency_ms: 5,
            gap_ms: 400,
            page_ms: 15,
            page_bytes: 16 * 1024,
            fail_permille: 0,
            error_permille: 0,
            drop_permille: 0,
            idempotent: false,
            pool_at: "/pool".to_owned(),
            units_at: "/units".to_owned(),
            log: None,
            seed: 1,
            connections_max: 10_000,
            orders_max: 1_000_000,
        }
    }
}

/// How answers to orders look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Style {
    /// The status tells: 201, 409, 500.
    #[default]
    Status,
    /// Always 200, a `code` in the JSON body tells.
    Code,
}

/// Why the shop could not start.
#[derive(Debug, thiserror::Error)]
pub enum ShopError {
    /// The address could not be bound.
    #[error("cannot listen on {at}: {cause}")]
    Listen {
        /// The address.
        at: SocketAddr,
        /// The system's answer.
        cause: std::io::Error,
    },
    /// The order log could not be opened.
    #[error("cannot open the order log {path}: {cause}")]
    Log {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        cause: std::io::Error,
    },
    /// A setting makes no sense.
    #[error("{0}")]
    Setting(&'static str),
    /// The runtime or its thread could not be started.
    #[error("cannot start: {0}")]
    Start(std::io::Error),
}

/// A shop that runs on a thread of its own, until it is dropped.
pub struct Running {
    address: SocketAddr,
    backend: Arc<Backend>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    /// Starts a shop and returns when it listens.
    pub fn start(settings: Settings) -> Result<Running, ShopError> {
        let at = settings.listen;
        let backend = Arc::new(Backend::new(settings)?);
        let listener =
            std::net::TcpListener::bind(at).map_err(|cause| ShopError::Listen { at, cause })?;
        listener.set_nonblocking(true).map_err(ShopError::Start)?;
        let address = listener.local_addr().map_err(ShopError::Start)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(ShopError::Start)?;
        let (stop, stopped) = oneshot::channel::<()>();
        let served = backend.clone();
        let thread = std::thread::Builder::new()
            .name("shop".to_owned())
            .spawn(move || {
                let local = tokio::task::LocalSet::new();
                local.block_on(&runtime, service::serve(listener, served, stopped));
            })
            .map_err(ShopError::Start)?;
        Ok(Running { address, backend, stop: Some(stop), thread: Some(thread) })
    }

    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it has counted so far.
    pub fn stats(&self) -> Stats {
        self.backend.stats()
    }

    /// The order backend itself.
    pub fn backend(&self) -> &Backend {
        &self.backend
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // The thread may have ended already; then there is nobody to tell.
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            // A panic there was reported by its own thread; there is nothing to add here.
            let _ = thread.join();
        }
    }
}
