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

mod certificates;
mod crew;
mod drain;
mod handover;
mod kit;
mod ledger;
mod memory;
mod notify;
mod operator;
mod reload;
mod signals;
mod snapshot;
mod state_dir;
mod upgrade;
mod workers;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use tokio::runtime::Runtime;
use tokio::sync::{RwLock, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::certificates::Certificates;
use self::drain::Leaves;
use self::handover::{Heritage, Successor};
pub use self::kit::{Kit, fronts};
use self::ledger::{Before, Ledger};
use self::notify::Notifier;
use self::operator::{Desk, Operator, Served};
use self::signals::{Signals, Word};
use self::upgrade::Upgrade;
use self::workers::{Plan, Start, Workers};
use crate::admin::{self, ConfigState, Locate, Located, Order, Standing, View};
use crate::clock::Clock;
use crate::config::Settings;
use crate::edge;
use crate::listener::{Caps, Inherited, Phase, files};
use crate::log::AccessLog;
use crate::metrics::Registry;
use crate::page::{self, Url};
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
    operator: Served,
    /// What the operator says of the process.
    orders: mpsc::Receiver<Order>,
    notifier: Notifier,
    /// What takes over from this process.
    binary: PathBuf,
    upgrade: Option<Upgrade>,
    /// It took over: the channel to it closes with this process.
    successor: Option<Successor>,
}

/// What a drain moves and looks at.
struct Node {
    /// The config's file.
    file: PathBuf,
    settings: Arc<Settings>,
    kit: Kit,
    certificates: Certificates,
    caps: Arc<Caps>,
    ledger: Ledger,
    context: Arc<admin::Context>,
    phase: watch::Sender<Phase>,
}

/// Runs a node until it is told to end. `file` is where `settings` were read, and are read again.
pub fn run(settings: Settings, file: &Path) -> Result<(), AppError> {
    // Before there is a second thread: it takes variables out of the environment.
    let inherited = Inherited::of_systemd().map_err(boot("sockets of systemd"))?;
    // While it is the one that runs: another may be put in its place.
    let binary = std::env::current_exe().map_err(boot("cannot find the binary"))?;
    let heritage = Heritage::receive().map_err(boot("what the old process hands over"))?;
    let start = Begin { settings, file: file.to_owned(), binary, inherited, heritage };
    let control = control()?;
    let ended = control.block_on(async {
        let mut signals = Signals::new().map_err(boot("cannot listen to signals"))?;
        let mut app = App::start(start).await?;
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

/// What a process begins with.
struct Begin {
    settings: Settings,
    file: PathBuf,
    binary: PathBuf,
    inherited: Inherited,
    heritage: Option<Heritage>,
}

impl App {
    async fn start(begin: Begin) -> Result<App, AppError> {
        let Begin { settings, file, binary, mut inherited, mut heritage } = begin;
        let notifier = Notifier::from_env();
        let (tells, ended) = oneshot::channel();
        let mut before = None;
        if let Some(heritage) = &mut heritage {
            inherited = std::mem::take(&mut heritage.inherited);
            before = Some(Before { node: heritage.node, lock: heritage.lock.take(), ended });
        }
        let settings = Arc::new(settings);
        let (clock, registry) = (Clock::system(), Registry::default());
        let book = Arc::new(SaleBook::new());
        let log = AccessLog::start(&settings.log, registry.sink())
            .map_err(|cause| AppError::Boot(format!("log.access: cannot be written: {cause}")))?;
        let kit = Kit::new(&settings, &book, log).map_err(AppError::Config)?;
        state_dir::make(&settings.state_dir()).map_err(AppError::Boot)?;
        let count = workers::count(&settings);
        let plan = workers::bind(&settings, count, &mut inherited)?;
        let operator = Operator::bind(&settings, &mut inherited)?;
        if heritage.is_none() {
            warn_of_unused(&inherited);
        }
        drop(inherited);
        check_files(&settings);
        let said = listening(&plan, &operator);
        let ledger = Ledger::open(&settings, &book, &clock, &registry, before).await?;
        let caps = Caps::new(&settings.limits, kit.trust.clone(), clock.clone(), count);
        let memory = Arc::<memory::Seen>::default();
        let (order, orders) = mpsc::channel(ORDERS_MAX);
        let config = reload::first(&settings, &file);
        let roots = (&clock, &registry, &book);
        let context = context(roots, &kit, &ledger, (&caps, &memory), config, order);
        // Before the mirror reads anything: what is told first is heard.
        admin::obey(&context);
        kit.edge.purge_by(purger(&context));
        let (cache, store, sink) = (&kit.cache, &ledger.store, &context.sink);
        let is_warm = snapshot::load(&settings, cache, store, &clock, sink).await;
        let mut tasks = JoinSet::new();
        ledger.keep(&book, &clock, registry.sink(), &mut tasks);
        let certificates = Certificates::keep(kit.watched(), registry.sink(), &mut tasks);
        let desk = Desk::open().map_err(boot("the admin interface"))?;
        let operator = operator.serve(&context, &desk, &mut tasks);
        let operator = operator.map_err(boot("the admin interface"))?;
        let (to, cache, sink) = (caps.clone(), kit.cache.clone(), registry.sink());
        let (reach, pressure) = memory::Reach::new(to, cache, sink);
        tasks.spawn(memory::guard(settings.memory.clone(), reach, memory));
        ledger.settle(&book).await;
        snapshot::confirm(is_warm, &kit.cache, &ledger.store, &context.sink);
        let (phase, watched) = watch::channel(Phase::Serving);
        let to = caps.clone();
        let start = Start { workers: count, caps: to, clock, registry, phase: watched, pressure };
        let mut workers = Workers::start(start).map_err(boot("cannot start the workers"))?;
        let opened = workers.apply(plan, &kit, &ledger.claims).await;
        opened.map_err(boot("cannot open the listeners"))?;
        let crew = crew::Workbench::new(workers.orders(), context.clock.clone());
        // It is set once, here.
        let _ = context.crew.set(Box::new(crew));
        tracing::info!("listening on {said}");
        take_over(heritage, tells, &operator, &workers).map_err(boot("the old process"))?;
        notifier.ready("serving");
        if let Some(watchdog) = notify::watchdog() {
            tasks.spawn(workers.pulse().tell(Notifier::from_env(), watchdog));
        }
        let node = Node { file, settings, kit, certificates, caps, ledger, context, phase };
        let (upgrade, successor) = (None, None);
        Ok(App {
            node,
            workers,
            tasks,
            _desk: desk,
            operator,
            orders,
            notifier,
            binary,
            upgrade,
            successor,
        })
    }

    /// Until the operator's word, or a death.
    async fn until_end(&mut self, signals: &mut Signals) -> Result<(), AppError> {
        loop {
            tokio::select! {
                word = signals.next() => match word {
                    Word::End => break,
                    Word::ReopenLogs => self.node.kit.log.reopen(),
                    // What comes of it is in the log.
                    Word::Reload => drop(self.reload().await),
                    Word::Upgrade => self.begin_upgrade(None).await,
                },
                Some(order) = self.orders.recv() => match order {
                    // Who asked may have gone.
                    Order::Reload(told) => drop(told.send(self.reload().await)),
                    Order::Upgrade(told) => self.begin_upgrade(Some(told)).await,
                },
                ready = App::upgraded(&mut self.upgrade) => if self.end_upgrade(ready).await {
                    break;
                },
                died = self.workers.death() => return Err(AppError::Died(died)),
                died = death_of(&mut self.tasks) => return Err(AppError::Died(died)),
            }
        }
        self.stop_successor();
        let leaves = if self.successor.is_some() { Leaves::Work } else { Leaves::Node };
        if leaves == Leaves::Node {
            self.notifier.stopping();
        }
        tokio::select! {
            () = self.node.drain(&mut self.workers, leaves) => {}
            () = told_again(signals, leaves) => tracing::warn!(
                connections = self.node.caps.open(),
                purchases = self.node.kit.purchases.len(),
                "told to end again: ending at once; outcomes that are open are delivered by the next start"
            ),
        }
        Ok(())
    }
}

/// Tells the old process, if there is one, that this one serves.
fn take_over(
    heritage: Option<Heritage>,
    tells: oneshot::Sender<()>,
    operator: &Served,
    workers: &Workers,
) -> std::io::Result<()> {
    let Some(heritage) = heritage else { return Ok(()) };
    heritage.ready(tells)?;
    operator.keep_file();
    workers.keep_files(true);
    Ok(())
}

/// Ends when the operator wants no drain. A stop of the service reaches the old process of an upgrade,
/// too, which is draining: that is its first word.
async fn told_again(signals: &mut Signals, leaves: Leaves) {
    if leaves == Leaves::Work {
        signals.end_again().await;
    }
    signals.end_again().await;
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

/// Finds what is stored by the routes of the edge.
fn locate(edge: Arc<edge::Shared>, settings: Arc<Settings>) -> Locate {
    Box::new(move |url| {
        let named = edge.named(url)?;
        let edge::Named { site, host, canonical, path, query, is_page, city } = named;
        let url = Url { site: site.as_str(), host: &host, path: &path, query: query.as_deref() };
        let key = || page::url_key(&settings, &url);
        let what = match is_page {
            true => Standing::Page(city),
            false => key().map_or(Standing::Nothing, Standing::Stored),
        };
        Ok(Located { host, canonical, path, what })
    })
}

/// Does what clients of the edge say that may purge, on the control runtime, where the way to the other
/// nodes is.
fn purger(context: &Arc<admin::Context>) -> edge::Purger {
    let (weak, control) = (Arc::downgrade(context), tokio::runtime::Handle::current());
    Box::new(move |purging| {
        let (weak, control) = (weak.clone(), control.clone());
        Box::pin(async move {
            let purge = async move {
                let context = weak.upgrade()?;
                let edge::Purging { site, url, tags, soft, who } = purging;
                // The snapshot that the next process reads is written already.
                let have_ended = context.purges_end.read().await;
                if *have_ended {
                    return None;
                }
                Some(admin::purge_for(&who, site, url, tags, soft, &context).await)
            };
            match control.spawn(purge).await {
                Ok(Some(purged)) => (purged.status, purged.body.to_string()),
                _ => (
                    http::StatusCode::SERVICE_UNAVAILABLE,
                    "{\"error\":\"the node is ending: purge again in a moment\"}".to_owned(),
                ),
            }
        })
    })
}

/// What the operator sees and moves.
fn context(
    (clock, registry, book): (&Clock, &Registry, &Arc<SaleBook>),
    kit: &Kit,
    ledger: &Ledger,
    (caps, memory): (&Arc<Caps>, &Arc<memory::Seen>),
    config: ConfigState,
    orders: mpsc::Sender<Order>,
) -> Arc<admin::Context> {
    let open = caps.clone();
    Arc::new(admin::Context {
        registry: registry.clone(),
        sink: registry.sink(),
        clock: clock.clone(),
        book: book.clone(),
        claims: ledger.claims.clone(),
        fleet: admin::Fleet::new(ledger.store.clone()),
        cache: kit.cache.clone(),
        crew: OnceLock::new(),
        purges_end: RwLock::new(false),
        view: ArcSwap::from_pointee(view(&kit.settings, kit, config)),
        orders,
        connections: Box::new(move || open.open()),
        gauges: gauges(memory),
        live: admin::Live::default(),
        draining: false.into(),
        closing: CancellationToken::new(),
        operators: TaskTracker::new(),
    })
}

/// What the operator sees of a config.
fn view(settings: &Settings, kit: &Kit, config: ConfigState) -> View {
    View {
        config,
        upstream: kit.upstream.clone(),
        sites: settings.site.keys().cloned().collect(),
        locate: locate(kit.edge.clone(), kit.settings.clone()),
        connections_max: settings.limits.connections_max.into(),
    }
}

/// A socket that nobody accepts from keeps its clients waiting for ever; an old process closes its own.
fn warn_of_unused(inherited: &Inherited) {
    if !inherited.is_empty() {
        tracing::error!(
            "no listener has the address of these inherited sockets, whose clients wait in vain: \
             {inherited}; give ListenStream= and [listen] the same addresses"
        );
    }
}

fn listening(plan: &Plan, operator: &Operator) -> String {
    let clients = plan.addresses();
    clients.chain(operator.addresses()).collect::<Vec<_>>().join(" ")
}

/// Words about the process that wait for the one before.
const ORDERS_MAX: usize = 8;
const CONTROL_THREADS: usize = 2;
const LAST_OUTCOMES_LONGEST: std::time::Duration = std::time::Duration::from_millis(500);
const CONTROL_LONGEST: std::time::Duration = std::time::Duration::from_secs(1);
const BLOCKING_THREADS_MAX: usize = 32;
/// Runtimes, journal, ledger, logs, the admin interface.
const FILES_OF_OUR_OWN: u64 = 256;
