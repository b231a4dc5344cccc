//! The writer thread: one transaction for everything that waits, synced once, then all are answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use redb::{Database, ReadableTable, TransactionError, WriteTransaction};
use tokio::sync::oneshot;

use crate::clock::{Clock, UnixMs};
use crate::ident::SaleId;
use crate::ledger::declare::rival;
use crate::ledger::{Declared, Op, OpResult, Reply, Shard, apply};
use crate::sale::Declaration;
use crate::store::StoreError;

use super::file::{File, guard};
use super::tables::{self, FORMAT, Fault, FileShard, META, Tables};

/// Most operations in one transaction. One takes microseconds, the sync that they share much longer.
const COMMIT_OPS_MAX: usize = 256;

/// A file in trouble is tried again so often.
const PROBE: Duration = Duration::from_secs(1);

/// While another process writes: how often to look, and after how long to say so, in milliseconds.
const LOOK: Duration = Duration::from_millis(1);
const PATIENCE_MS: u64 = 1000;

/// Who has an operation: the queue, or the one who took it from there. Either the writer takes it and
/// applies it, or the caller, whose time is over.
#[derive(Clone, Debug, Default)]
pub(super) struct Ticket(Arc<AtomicBool>);

impl Ticket {
    /// Takes the operation; true for the first only.
    pub(super) fn take(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }
}

/// One operation in the queue.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) sale: SaleId,
    pub(super) op: Op,
    pub(super) reply: oneshot::Sender<Result<Reply, StoreError>>,
    pub(super) ticket: Ticket,
}

impl Job {
    fn answer(self, result: Result<Reply, StoreError>) {
        // A caller that is gone has its reasons.
        let _ = self.reply.send(result);
    }
}

/// Works until the queue is closed and empty.
pub(super) fn run(file: &File, clock: &Clock, jobs: &Receiver<Job>) {
    loop {
        let first = match jobs.recv_timeout(PROBE) {
            Ok(job) => Some(job),
            Err(RecvTimeoutError::Timeout) if file.health().is_err() => None,
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let Some(turn) = Turn::begin(file, clock) else {
            refuse(file, first.into_iter().chain(jobs.try_iter()));
            continue;
        };
        // Only now are they taken from the queue: while the file was locked, callers could still go.
        let taken: Vec<Job> = first
            .into_iter()
            .chain(jobs.try_iter().take(COMMIT_OPS_MAX))
            .filter(|job| job.ticket.take())
            .collect();
        turn.run(taken, clock.latch_ledger());
    }
}

/// Nothing can be written: the words of `health` are the answer.
fn refuse(file: &File, jobs: impl Iterator<Item = Job>) {
    let words = file.health().err().unwrap_or_else(|| "it is closing".to_owned());
    for job in jobs.filter(|job| job.ticket.take()) {
        job.answer(Err(StoreError::Refused(words.clone())));
    }
}

/// A write transaction.
struct Turn<'a> {
    file: &'a File,
    clock: &'a Clock,
    database: Arc<Database>,
    tx: WriteTransaction,
}

impl<'a> Turn<'a> {
    /// Waits for the file; `None`: it cannot be written, as `health` says, or the store is closing.
    fn begin(file: &'a File, clock: &'a Clock) -> Option<Turn<'a>> {
        let database = match file.database() {
            Ok(database) => database,
            Err(why) => {
                file.fail(None, &why);
                return None;
            }
        };
        let began = clock.mono();
        let mut place = None;
        loop {
            place = place.or_else(|| file.queue_up());
            let begun = guard(|| match place.as_ref().map(|_| database.try_begin_write()) {
                Some(Ok(tx)) => Ok(Some(tx)),
                None | Some(Err(TransactionError::WouldBlock)) => Ok(None),
                Some(Err(e)) => Err(e.into()),
            });
            match begun {
                Ok(Some(tx)) => return Some(Turn { file, clock, database, tx }),
                Ok(None) if file.is_stopping() => return None,
                Ok(None) if clock.mono().since(began) > PATIENCE_MS => {
                    file.fail(None, &"another process has been writing to it for a second");
                    return None;
                }
                Ok(None) => std::thread::sleep(LOOK),
                Err(fault) => {
                    file.fail(Some(&database), &fault);
                    return None;
                }
            }
        }
    }

    /// Applies all in this transaction. Where one of them fails, each gets a transaction of its own,
    /// so that a damaged value of one sale or user stops nobody else.
    fn run(self, jobs: Vec<Job>, now: UnixMs) {
        let Turn { file, clock, database, tx } = self;
        let applied = guard(|| {
            let mut tables = Tables::open(&tx)?;
            jobs.iter().map(|job| apply_one(&mut tables, job, now)).collect::<Result<Vec<_>, _>>()
        });
        match applied {
            Ok(replies) => commit(file, &database, tx, jobs, replies),
            Err(fault) => {
                drop(tx);
                if jobs.len() <= 1 {
                    let words = file.blame(&database, &fault);
                    for job in jobs {
                        job.answer(Err(StoreError::Refused(words.clone())));
                    }
                    return;
                }
                drop(database);
                for job in jobs {
                    match Turn::begin(file, clock) {
                        Some(turn) => turn.run(vec![job], now),
                        None => {
                            let words = file.health().err().unwrap_or_default();
                            job.answer(Err(StoreError::Refused(words)));
                        }
                    }
                }
            }
        }
    }
}

/// Commits and answers. A commit that fails may be on the disk or not.
fn commit(
    file: &File,
    database: &Arc<Database>,
    tx: WriteTransaction,
    jobs: Vec<Job>,
    replies: Vec<Reply>,
) {
    let committed = guard(|| {
        if jobs.is_empty() {
            // Only to see whether it can be written.
            tx.open_table(META)?.insert("format", FORMAT)?;
        }
        Ok(tx.commit()?)
    });
    match committed {
        Ok(()) => {
            file.recovered();
            jobs.into_iter().zip(replies).for_each(|(job, reply)| job.answer(Ok(reply)));
        }
        Err(fault) => {
            file.fail(Some(database), &fault);
            jobs.into_iter().for_each(|job| job.answer(Err(StoreError::MaybeApplied)));
        }
    }
}

fn apply_one(tables: &mut Tables<'_>, job: &Job, now: UnixMs) -> Result<Reply, Fault> {
    if let Op::Declare(declare) = &job.op
        && let Some(why) = rival_in(tables, &job.sale, &declare.declaration, now)?
    {
        let state = FileShard::new(tables, &job.sale).sale()?;
        return Ok(Reply { state, now, result: OpResult::Declared(Declared::Refused(why)) });
    }
    apply(&mut FileShard::new(tables, &job.sale), &job.op, now)
}

fn rival_in(
    tables: &Tables<'_>,
    sale: &SaleId,
    said: &Declaration,
    now: UnixMs,
) -> Result<Option<String>, Fault> {
    let mut states = Vec::new();
    for entry in tables.sales.range::<&str>(..)? {
        let (key, value) = entry?;
        states.push(tables::state(key.value(), value.value())?);
    }
    Ok(rival(sale, said, &states, now))
}
