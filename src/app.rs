//! One node, from its settings to its end.
//!
//! ```text
//! boot     state directory → journal → listeners → parts → control runtime → workers
//! run      signals; a thread that dies takes the process with it
//! drain    health red → listeners close → connections, purchases, outcomes → end
//! ```
//!
//! The control runtime has threads of its own for the store, claims, the mirror and logs, the admin
//! interface has one for itself: a saturated edge still obeys.

mod drain;
mod kit;
mod ledger;
mod memory;
mod operator;
mod signals;
mod state_dir;
mod workers;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinSet;

pub use self::kit::Kit;
use self::ledger::Ledger;
use self::operator::{Desk, Operator};
use self::signals::{Signals, Word};
use self::workers::{Start, Workers};
use crate::admin::{self, Locate, Located};
use crate::clock::Clock;
use crate::config::Settings;
use crate::edge;
use crate::listener::{Bound, Caps, Phase, UnixSocket, files};
use crate::log::AccessLog;
use crate::metrics::Registry;
use crate::sale::SaleBook;

/// Why a node did not start, or did not end by itself.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// A setting cannot be used, although the file was in order: a key file, a pattern.
    #[error("{0}")]
    Config(String),
    /// The system did not give what is needed: a port, a directory, a thread.
    #[error("{0}")]
    Boot(String),
    /// A thread died.
    #[error("{0}; the process ends, so that it is started anew")]
    Died(String),
}

/// A node that runs.
struct App {
    node: Node,
    workers: Workers,
    /// Tasks of the control runtime that end only with the process.
    tasks: JoinSet<String>,
    /// The admin interface's thread.
    _desk: Desk,
    /// The admin socket's file goes when this does.
    _operator: UnixSocket,
}

/// What a drain moves and looks at.
struct Node {
    settings: Arc<Settings>,
    kit: Kit,
    caps: Arc<Caps>,
    ledger: Ledger,
    context: Arc<admin::Context>,
    phase: watch::Sender<Phase>,
}

/// Runs a node until it is told to end.
pub fn run(settings: Settings) -> Result<(), AppError> {
    let control = control()?;
    let ended = control.block_on(async {
        let mut signals = Signals::new().map_err(boot("cannot listen to signals"))?;
        let mut app = App::start(settings).await?;
        let ended = app.until_end(&mut signals).await;
        app.node.phase.send_replace(Phase::Stopped);
        app.workers.join().await;
        // What the workers let go of just now should stand in the journal at least.
        app.node.ledger.claims.drain(LAST_OUTCOMES_LONGEST).await;
        app.node.kit.log.finish();
        ended
    });
    control.shutdown_timeout(CONTROL_LONGEST);
    ended
}

impl App {
    async fn start(settings: Settings) -> Result<App, AppError> {
        let settings = Arc::new(settings);
        let (clock, registry) = (Clock::system(), Registry::default());
        let book = Arc::new(SaleBook::new());
        let log = AccessLog::start(&settings.log, registry.sink())
            .map_err(|cause| AppError::Boot(format!("log.access: cannot be written: {cause}")))?;
        let kit = Kit::new(&settings, &book, log).map_err(AppError::Config)?;
        state_dir::make(&settings.state_dir()).map_err(AppError::Boot)?;
        let count = workers::count(&settings);
        let bound = workers::bind(&settings, count)?;
        let operator = Operator::bind(&settings)?;
        check_files(&settings);
        let said = listening(&bound, &operator);
        let ledger = Ledger::open(&settings, &book, &clock, &registry).await?;
        let caps = Caps::new(&settings.limits, kit.trust.clone(), clock.clone(), count);
        let open = caps.clone();
        let memory = Arc::<memory::Seen>::default();
        let context = Arc::new(admin::Context {
            registry: registry.clone(),
            sink: registry.sink(),
            clock: clock.clone(),
            book: book.clone(),
            claims: ledger.claims.clone(),
            fleet: admin::Fleet::new(ledger.store.clone()),
            cache: kit.cache.clone(),
            upstream: kit.upstream.clone(),
            sites: settings.site.keys().cloned().collect(),
            locate: locate(kit.edge.clone()),
            connections: Box::new(move || open.open()),
            gauges: gauges(&memory),
            connections_max: settings.limits.connections_max.into(),
            config: settings.fleet_hash(),
            live: admin::Live::default(),
            draining: false.into(),
        });
        // Before the mirror reads anything: what is told first is heard.
        admin::obey(&context);
        let mut tasks = JoinSet::new();
        tasks.spawn(ledger::keep_mirror(
            ledger.store.clone(),
            book.clone(),
            clock.clone(),
            registry.sink(),
        ));
        let claims = ledger.claims.clone();
        tasks.spawn(async move { claims.death().await });
        let desk = Desk::open().map_err(boot("the admin interface"))?;
        let socket = operator.serve(&context, &desk, &mut tasks);
        let socket = socket.map_err(boot("the admin interface"))?;
        let (to, cache, sink) = (caps.clone(), kit.cache.clone(), registry.sink());
        let (reach, pressed) = memory::Reach::new(to, cache, sink);
        tasks.spawn(memory::guard(settings.memory.clone(), reach, memory));
        ledger.settle(&book).await;
        let (phase, watched) = watch::channel(Phase::Serving);
        let workers = Workers::start(Start {
            bound,
            workers: count,
            kit: kit.clone(),
            claims: ledger.claims.clone(),
            caps: caps.clone(),
            clock,
            registry,
            phase: watched,
            pressure: pressed,
        });
        let workers = workers.map_err(boot("cannot start the workers"))?;
        tracing::info!("listening on {said}");
        let node = Node { settings, kit, caps, ledger, context, phase };
        Ok(App { node, workers, tasks, _desk: desk, _operator: socket })
    }

    /// Until the operator's word, or a death.
    async fn until_end(&mut self, signals: &mut Signals) -> Result<(), AppError> {
        loop {
            tokio::select! {
                word = signals.next() => match word {
                    Word::End => break,
                    Word::ReopenLogs => self.node.kit.log.reopen(),
                    Word::Unknown(name) => tracing::warn!(
                        "signal {name}: this version changes nothing while it runs; \
                         restart it to use a changed config"
                    ),
                },
                died = self.workers.death() => return Err(AppError::Died(died)),
                died = death_of(&mut self.tasks) => return Err(AppError::Died(died)),
            }
        }
        tokio::select! {
            () = self.node.drain() => {}
            () = signals.end_again() => tracing::warn!(
                connections = self.node.caps.open(),
                purchases = self.node.kit.purchases.len(),
                "told to end again: ending at once; outcomes that are open are delivered by the next start"
            ),
            died = self.workers.death() => return Err(AppError::Died(died)),
        }
        Ok(())
    }
}

/// Ends only when a task that should not end did.
async fn death_of(tasks: &mut JoinSet<String>) -> String {
    match tasks.join_next().await {
        Some(Ok(said)) => said,
        Some(Err(panic)) => format!("a control task died: {panic}"),
        None => std::future::pending().await,
    }
}

/// The runtime of everything that is no client's request.
fn control() -> Result<Runtime, AppError> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(CONTROL_THREADS).thread_name("control").enable_all();
    builder.max_blocking_threads(BLOCKING_THREADS_MAX);
    builder.build().map_err(boot("cannot start the control runtime"))
}

fn boot(what: &'static str) -> impl Fn(std::io::Error) -> AppError {
    move |cause| AppError::Boot(format!("{what}: {cause}"))
}

/// Descriptors: as many as there may be, and a word if the caps promise more.
fn check_files(settings: &Settings) {
    let upstream: u64 = settings.upstream.values().fold(0, |sum, group| {
        let servers = u64::try_from(group.servers.len()).unwrap_or(0);
        sum.saturating_add(servers.saturating_mul(group.connections_max.into()))
    });
    let needed = u64::from(settings.limits.connections_max) + upstream + FILES_OF_OUR_OWN;
    if let Some(limit) = files::raise().filter(|limit| *limit < needed) {
        tracing::warn!(
            "limits.connections_max and the upstreams may need {needed} file descriptors and the \
             limit is {limit}: raise it (ulimit -n, LimitNOFILE=), or lower the caps"
        );
    }
}

/// What the memory guard saw, for `/metrics`.
fn gauges(memory: &Arc<memory::Seen>) -> Vec<admin::Gauge> {
    let gauge = |name, help, read: fn(&memory::Seen) -> &AtomicU64| {
        let memory = memory.clone();
        let read = Box::new(move || read(&memory).load(Ordering::Relaxed));
        admin::Gauge { name, help, read }
    };
    vec![
        gauge("memory_guard_bytes", "Memory taken, as the guard counts it.", |seen| &seen.bytes),
        gauge("memory_guard_limit_bytes", "What may be taken; 0: no limit.", |seen| &seen.limit),
        gauge(
            "memory_level",
            "0 calm, 1 shedding idle connections, 2 shrinking the cache, 3 refusing new connections.",
            |seen| &seen.level,
        ),
    ]
}

/// Finds pages by the routes of the edge.
fn locate(edge: Arc<edge::Shared>) -> Locate {
    Box::new(move |url| {
        let edge::Page { host, path, city } = edge.page(url)?;
        Ok(Located { host, path, city })
    })
}

fn listening(bound: &[Bound], operator: &Operator) -> String {
    let clients = bound.iter().map(|bound| format!("{}={}", bound.name, bound.address));
    clients.chain(operator.addresses()).collect::<Vec<_>>().join(" ")
}

const CONTROL_THREADS: usize = 2;
const LAST_OUTCOMES_LONGEST: std::time::Duration = std::time::Duration::from_millis(500);
const CONTROL_LONGEST: std::time::Duration = std::time::Duration::from_secs(1);
const BLOCKING_THREADS_MAX: usize = 32;
/// Runtimes, journal, ledger, logs, the admin interface.
const FILES_OF_OUR_OWN: u64 = 256;
