//! The ledger in one file of this machine, for one node and no other process.
//!
//! ```text
//! call ─→ bounded queue ─→ writer thread: one write transaction for all that waits
//!  ↑                          reads the sale, applies, commits (synced) ─┐
//!  └──────────────────────── reply ←─────────────────────────────────────┘
//! mirror, records, sales: read transactions
//! ```
//!
//! The file is opened in redb's multi-writer mode, so that an old and a new process may overlap during
//! an upgrade: the core reads its state inside each write transaction, and keeps none between them.
//! While another process writes, operations wait in the queue, where they can still be taken back.
//!
//! A file that fails (disk full, IO error) is closed and opened again; meanwhile every operation is
//! refused with the reason, and nobody is admitted.

mod file;
mod form;
mod tables;
mod writer;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::clock::Clock;
use crate::config::schema::Store as Settings;
use crate::ident::{SaleId, UserKey};
use crate::ledger::{Op, Record, Reply};
use crate::metrics::{Counter, Sink};
use crate::sale::SaleBook;
use crate::sale::book::Update;
use crate::store::{BoxFuture, Store, StoreError};

use file::File;
use writer::{Job, Ticket};

/// How often the mirror reads the file, at least: so that another process's changes are seen, and the
/// book is never older than [`crate::sale::snapshot::STALE_AFTER_MS`].
const POLL_MAX: Duration = Duration::from_millis(100);

/// Why the ledger's file cannot be used at start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Another process has it, in a way that allows no second one.
    #[error(
        "{0}: another program has the ledger open and shares it with nobody; stop it, or give this \
         node a state_dir of its own"
    )]
    Locked(PathBuf),
    /// Not a ledger.
    #[error("{0}: is not a ledger of Penstock; move it away, or choose another state_dir")]
    NotALedger(PathBuf),
    /// Written by a newer version.
    #[error("{path}: has format {found}, this version knows up to {known}; run the newer version")]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u64,
        /// The newest format that this version knows.
        known: u64,
    },
    /// Damaged.
    #[error(
        "{path}: is damaged ({why}); restore it, or move it away and declare the sales again: they \
         start paused, and the journal knows what was admitted"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        why: String,
    },
    /// It cannot be read or written.
    #[error("{path}: {why}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's words.
        why: String,
    },
}

/// The embedded store. Dropped, it finishes what was queued and closes the file.
#[derive(Debug)]
pub struct Embedded {
    file: Arc<File>,
    poll: Duration,
    queue: Option<SyncSender<Job>>,
    writer: Option<JoinHandle<()>>,
    sink: Sink,
}

impl Embedded {
    /// Opens the ledger at `path`, made if it is not there, and starts its writer thread. A file that
    /// no other process has open is checked as a whole first.
    pub fn open(
        path: &Path,
        clock: Clock,
        settings: &Settings,
        sink: Sink,
    ) -> Result<Arc<Embedded>, OpenError> {
        Embedded::start(File::open(path)?, clock, settings, sink)
    }

    fn start(
        file: File,
        clock: Clock,
        settings: &Settings,
        sink: Sink,
    ) -> Result<Arc<Embedded>, OpenError> {
        let file = Arc::new(file);
        let (queue, jobs) = sync_channel(settings.queue_max.max(1) as usize);
        let thread = std::thread::Builder::new().name("ledger".to_owned());
        let writer = thread
            .spawn({
                let file = file.clone();
                move || writer::run(&file, &clock, &jobs)
            })
            .map_err(|e| OpenError::Io { path: file.path().to_owned(), why: e.to_string() })?;
        Ok(Arc::new(Embedded {
            file,
            poll: settings.poll.duration().min(POLL_MAX),
            queue: Some(queue),
            writer: Some(writer),
            sink,
        }))
    }

    async fn ask(&self, sale: &SaleId, op: Op, deadline: Duration) -> Result<Reply, StoreError> {
        let (reply, mut answer) = oneshot::channel();
        let ticket = Ticket::default();
        let job = Job { sale: sale.clone(), op, reply, ticket: ticket.clone() };
        let queue = self.queue.as_ref().ok_or_else(closed)?;
        queue.try_send(job).map_err(|e| match e {
            TrySendError::Full(_) => StoreError::NotSent("its queue is full".to_owned()),
            TrySendError::Disconnected(_) => closed(),
        })?;
        match tokio::time::timeout(deadline, &mut answer).await {
            Ok(Ok(result)) => result,
            // The writer is gone: it panicked outside of what it guards, or the process is ending.
            Ok(Err(_)) => Err(StoreError::MaybeApplied),
            Err(_) if ticket.take() => {
                Err(StoreError::NotSent("it is busy or its file is locked".to_owned()))
            }
            Err(_) => answer.try_recv().unwrap_or(Err(StoreError::MaybeApplied)),
        }
    }

    /// Runs a read on a thread that may block.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&File) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let file = self.file.clone();
        let result = tokio::task::spawn_blocking(move || read(&file)).await;
        let result = result.unwrap_or_else(|e| Err(StoreError::Refused(e.to_string())));
        self.count_error(result)
    }

    fn count_error<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        if result.is_err() {
            self.sink.inc(Counter::StoreErrors);
        }
        result
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.queue = None;
        self.file.stop();
        if let Some(writer) = self.writer.take() {
            // A panic of the writer was printed where it happened.
            let _ = writer.join();
        }
    }
}

impl Store for Embedded {
    fn call<'a>(
        &'a self,
        sale: &'a SaleId,
        op: Op,
        deadline: Duration,
    ) -> BoxFuture<'a, Result<Reply, StoreError>> {
        self.sink.inc(Counter::StoreCalls);
        Box::pin(async move { self.count_error(self.ask(sale, op, deadline).await) })
    }

    fn sales(&self) -> BoxFuture<'_, Result<Vec<SaleId>, StoreError>> {
        Box::pin(async {
            let states = self.read(File::states).await?;
            Ok(states.into_iter().map(|s| s.id).collect())
        })
    }

    fn records<'a>(
        &'a self,
        sale: &'a SaleId,
        user: Option<UserKey>,
        after: Option<UserKey>,
        max: usize,
    ) -> BoxFuture<'a, Result<Vec<Record>, StoreError>> {
        let sale = sale.clone();
        Box::pin(self.read(move |file| file.records(&sale, user, after, max)))
    }

    fn mirror(self: Arc<Self>, book: Arc<SaleBook>, clock: Clock) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let mut tick = tokio::time::interval(self.poll);
            tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                tick.tick().await;
                let heard = clock.mono();
                // What failed is in `health`; meanwhile the book grows stale, and says so.
                let Ok(states) = self.read(File::states).await else { continue };
                for state in states {
                    book.apply(Update { state, heard });
                }
                book.set_synced();
            }
        })
    }

    /// What is committed is on the disk.
    fn forgets(&self) -> bool {
        false
    }

    fn health(&self) -> Result<(), String> {
        match self.writer.as_ref().is_some_and(|w| !w.is_finished()) {
            true => self.file.health(),
            false => Err("the ledger's writer thread has died; restart Penstock".to_owned()),
        }
    }
}

fn closed() -> StoreError {
    StoreError::NotSent("it is closed".to_owned())
}
