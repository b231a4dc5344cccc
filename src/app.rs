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

mod boot;
mod certificates;
mod context;
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
use std::sync::Arc;

use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use self::boot::Begin;
use self::certificates::Certificates;
use self::drain::Leaves;
use self::handover::{Heritage, Successor};
pub use self::kit::{Kit, fronts};
use self::ledger::Ledger;
use self::notify::Notifier;
use self::operator::{Desk, Served};
use self::signals::{Signals, Word};
use self::upgrade::Upgrade;
use self::workers::Workers;
use crate::admin::{self, Order};
use crate::config::{Settings, schema};
use crate::listener::{Caps, Inherited, Phase};

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
    /// What the memory guard goes by.
    memory: watch::Sender<schema::Memory>,
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

impl App {
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

const CONTROL_THREADS: usize = 2;
const LAST_OUTCOMES_LONGEST: std::time::Duration = std::time::Duration::from_millis(500);
const CONTROL_LONGEST: std::time::Duration = std::time::Duration::from_secs(1);
const BLOCKING_THREADS_MAX: usize = 32;
