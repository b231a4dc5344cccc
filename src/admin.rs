//! The operator's door: what is, and what shall be, as JSON over HTTP. A Unix socket that only the
//! process's own user can open, and by choice a TCP address with a token.
//!
//! It runs on a thread of its own, so that a saturated edge still obeys. `/livez`, `/readyz` and
//! `/metrics` follow the usual conventions, `/` is the dashboard; everything else stands under `/v1/`.

mod alarms;
mod dashboard;
mod edges;
mod explain;
mod fleet;
mod guard;
mod limbo;
mod live;
mod memory;
mod metrics;
mod purge;
mod ready;
mod reply;
mod route;
mod sales;
mod server;
mod stats;
mod steer;
mod stream;
mod warm;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use tokio::sync::{RwLock, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::claims::Claims;
use crate::clock::Clock;
use crate::ident::Name;
use crate::metrics::Registry;
use crate::page::Cache;
use crate::sale::SaleBook;
use crate::{metrics as counters, upstream};

pub use explain::Question;
pub use fleet::{Fleet, obey};
pub use guard::Token;
pub use live::{Live, keep_live};
pub use purge::{Purged, purge_for};
pub use server::{serve_tcp, serve_unix};
pub use steer::{ConfigState, Order, Refused, Reloaded, Upgraded};
pub use warm::{Crew, Trouble, Warm, Wish};

/// What the operator sees and moves.
pub struct Context {
    /// All counters.
    pub registry: Registry,
    /// Where refusals and errors of this interface are counted.
    pub sink: counters::Sink,
    /// The clocks.
    pub clock: Clock,
    /// The sales.
    pub book: Arc<SaleBook>,
    /// The way to the ledger.
    pub claims: Claims,
    /// The other nodes.
    pub fleet: Fleet,
    /// The page cache.
    pub cache: Arc<Cache>,
    /// What only the workers can do, once there are some.
    pub crew: OnceLock<Box<dyn Crew>>,
    /// Whether purges have ended: the cache was written for the next process, and nobody would tell it
    /// of them. A purge holds it while it is done.
    pub purges_end: RwLock<bool>,
    /// What a reload exchanges.
    pub view: ArcSwap<View>,
    /// Where the operator's words about the process go.
    pub orders: mpsc::Sender<Order>,
    /// Client connections that are open.
    pub connections: Box<dyn Fn() -> usize + Send + Sync>,
    /// Further numbers of the process, for `/metrics`.
    pub gauges: Vec<Gauge>,
    /// What the dashboard shows.
    pub live: Live,
    /// Whether the process is shutting down.
    pub draining: AtomicBool,
    /// Cancelled when another process has the sockets: nobody new is taken, answers under way end.
    pub closing: CancellationToken,
    /// Counts connections of operators.
    pub operators: TaskTracker,
}

/// What the operator sees of the config that runs.
pub struct View {
    /// The config.
    pub config: ConfigState,
    /// The shop's servers.
    pub upstream: Arc<upstream::Shared>,
    /// The sites there are.
    pub sites: Vec<Name>,
    /// How pages are found by their URLs.
    pub locate: Locate,
    /// The most client connections that there may be.
    pub connections_max: u64,
}

/// A number that is read when it is asked for.
pub struct Gauge {
    /// Its name, without the `penstock_` prefix.
    pub name: &'static str,
    /// Help text.
    pub help: &'static str,
    /// Reads it.
    pub read: Box<dyn Fn() -> u64 + Send + Sync>,
}

/// Finds what a URL names; an error says why it names nothing here.
pub type Locate = Box<dyn Fn(&str) -> Result<Located, String> + Send + Sync>;

/// What a URL names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// The host.
    pub host: String,
    /// The host of the sale pages of its site.
    pub canonical: String,
    /// Path.
    pub path: String,
    /// What stands there.
    pub what: Standing,
}

/// What stands under a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The page of a sale; the city, if the URL names one.
    Page(Option<String>),
    /// An ordinary route that is cached; what its keys begin with.
    Stored(Vec<u8>),
    /// Nothing that is cached.
    Nothing,
}

impl Context {
    /// From now on the node is not ready.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// What the config that runs now says.
    pub fn view(&self) -> Arc<View> {
        self.view.load_full()
    }

    fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }
}

impl std::fmt::Debug for Gauge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gauge").field("name", &self.name).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").finish_non_exhaustive()
    }
}
