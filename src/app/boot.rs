//! From settings to a node that serves.
//!
//! ```text
//! lay      settings → parts → state directory → sockets       what can be wrong is wrong here
//! open     journal, ledger → what the operator sees → the cache of the process before
//! keep     tasks of the control runtime → the admin interface → the memory guard
//! employ   workers → listeners → the process before hears that this one serves
//! ```

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use super::certificates::Certificates;
use super::context::{context, purger};
use super::handover::Heritage;
use super::kit::Kit;
use super::ledger::{Before, Ledger};
use super::notify::{self, Notifier};
use super::operator::{Desk, Operator, Served};
use super::workers::{self, Plan, Start, Workers};
use super::{App, AppError, Node, boot, crew, memory, reload, snapshot, state_dir};
use crate::admin::{self, Order};
use crate::clock::Clock;
use crate::config::Settings;
use crate::listener::{Caps, Inherited, Phase, Pressure, files};
use crate::log::AccessLog;
use crate::metrics::Registry;
use crate::sale::SaleBook;

/// What a process begins with.
pub(super) struct Begin {
    pub settings: Settings,
    pub file: PathBuf,
    pub binary: PathBuf,
    pub inherited: Inherited,
    pub heritage: Option<Heritage>,
}

/// What everything else is told of.
pub(super) struct Roots {
    pub clock: Clock,
    pub registry: Registry,
    pub book: Arc<SaleBook>,
}

/// What there is before anything runs.
struct Ground {
    settings: Arc<Settings>,
    roots: Roots,
    kit: Kit,
    /// How many workers there will be.
    workers: usize,
    plan: Plan,
    operator: Operator,
}

/// A node that knows its sales and serves nobody yet.
struct Opened {
    node: Node,
    orders: mpsc::Receiver<Order>,
    /// What the guard sees is shown.
    memory: memory::Guard,
    /// Whether the cache has what the process before this one left.
    is_warm: bool,
}

impl App {
    /// Boots. When this returns, the node serves.
    pub(super) async fn start(begin: Begin) -> Result<App, AppError> {
        let Begin { settings, file, binary, mut inherited, mut heritage } = begin;
        let notifier = Notifier::from_env();
        let (tells, ended) = oneshot::channel();
        let before = heritage.as_mut().map(|heritage| {
            inherited = std::mem::take(&mut heritage.inherited);
            Before { node: heritage.node, lock: heritage.lock.take(), ended }
        });
        let Ground { settings, roots, kit, workers, plan, operator } =
            Ground::lay(settings, inherited, heritage.is_some())?;
        let said = listening(&plan, &operator);
        let ledger =
            Ledger::open(&settings, &roots.book, &roots.clock, &roots.registry, before).await?;
        let opened = Node::open(file, settings, kit, ledger, &roots, workers).await;
        let Opened { node, orders, memory, is_warm } = opened;
        let mut tasks = JoinSet::new();
        node.keep(&roots, &mut tasks);
        let desk = Desk::open().map_err(boot("the admin interface"))?;
        let operator = operator.serve(&node.context, &desk, &mut tasks);
        let operator = operator.map_err(boot("the admin interface"))?;
        let pressure = memory.start(&mut tasks);
        node.ledger.settle(&roots.book).await;
        snapshot::confirm(is_warm, &node.kit.cache, &node.ledger.store, &node.context.sink);
        let workers = node.employ(roots, workers, pressure, plan).await?;
        tracing::info!("listening on {said}");
        take_over(heritage, tells, &operator, &workers).map_err(boot("the old process"))?;
        notifier.ready("serving");
        if let Some(watchdog) = notify::watchdog() {
            tasks.spawn(workers.pulse().tell(Notifier::from_env(), watchdog));
        }
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
}

impl Ground {
    /// Makes the parts and binds the sockets, some of which may be there already.
    fn lay(
        settings: Settings,
        mut inherited: Inherited,
        is_successor: bool,
    ) -> Result<Ground, AppError> {
        let settings = Arc::new(settings);
        let (clock, registry, book) = (Clock::system(), Registry::default(), Arc::default());
        let roots = Roots { clock, registry, book };
        let log = AccessLog::start(&settings.log, roots.registry.sink())
            .map_err(|cause| AppError::Boot(format!("log.access: cannot be written: {cause}")))?;
        let kit = Kit::new(&settings, &roots.book, log).map_err(AppError::Config)?;
        state_dir::make(&settings.state_dir()).map_err(AppError::Boot)?;
        let workers = workers::count(&settings);
        let plan = workers::bind(&settings, workers, &mut inherited)?;
        let operator = Operator::bind(&settings, &mut inherited)?;
        // A process before this one closes its own.
        if !is_successor {
            warn_of_unused(&inherited);
        }
        check_files(&settings);
        Ok(Ground { settings, roots, kit, workers, plan, operator })
    }
}

impl Node {
    /// What the operator sees and moves, and the cache of the process before, if it left one.
    async fn open(
        file: PathBuf,
        settings: Arc<Settings>,
        kit: Kit,
        ledger: Ledger,
        roots: &Roots,
        workers: usize,
    ) -> Opened {
        let caps = Caps::new(&settings.limits, kit.trust.clone(), roots.clock.clone(), workers);
        let (order, orders) = mpsc::channel(ORDERS_MAX);
        let config = reload::first(&settings, &file);
        let seen = Arc::default();
        let context = context(roots, &kit, &ledger, (&caps, &seen), config, order);
        // Before the mirror reads anything: what is told first is heard.
        admin::obey(&context);
        kit.edge.purge_by(purger(&context));
        let (cache, store, sink) = (&kit.cache, &ledger.store, &context.sink);
        let is_warm = snapshot::load(&settings, cache, store, &roots.clock, sink).await;
        let certificates = Certificates::new(kit.watched(), roots.registry.sink());
        let phase = watch::Sender::new(Phase::Serving);
        let (memory, guarded) = watch::channel(settings.memory.clone());
        let reach = memory::Reach::new(caps.clone(), cache.clone(), roots.registry.sink());
        let guard = memory::Guard::new(guarded, reach, seen);
        let node = Node { file, settings, kit, certificates, caps, ledger, context, phase, memory };
        Opened { node, orders, memory: guard, is_warm }
    }

    /// What goes on beside the workers for as long as the node lives.
    fn keep(&self, roots: &Roots, tasks: &mut JoinSet<String>) {
        self.ledger.keep(&roots.book, &roots.clock, roots.registry.sink(), tasks);
        tasks.spawn(self.certificates.clone().watch());
    }

    /// Starts the workers, and opens the listeners of `plan`.
    async fn employ(
        &self,
        roots: Roots,
        count: usize,
        pressure: watch::Receiver<Pressure>,
        plan: Plan,
    ) -> Result<Workers, AppError> {
        let Roots { clock, registry, .. } = roots;
        let (caps, phase) = (self.caps.clone(), self.phase.subscribe());
        let start = Start { workers: count, caps, clock, registry, phase, pressure };
        let mut workers = Workers::start(start).map_err(boot("cannot start the workers"))?;
        let opened = workers.apply(plan, &self.kit, &self.ledger.claims).await;
        opened.map_err(boot("cannot open the listeners"))?;
        let crew = crew::Workbench::new(workers.orders(), self.context.clock.clone());
        // It is set once, here.
        let _ = self.context.crew.set(Box::new(crew));
        Ok(workers)
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
/// Runtimes, journal, ledger, logs, the admin interface.
const FILES_OF_OUR_OWN: u64 = 256;
