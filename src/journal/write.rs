//! Writing the journal: one thread, many lines with one write, one sync for many writes.
//!
//! Lines of an admission are refused when they cannot be written, since then nobody is admitted.
//! Lines of an outcome are kept and written later, since it has happened. How many are kept is bounded
//! by the admissions that were open when the disk failed.
//!
//! During an upgrade two processes write the same journal: each takes its turn by a lock on a file of its
//! own, and reads first what the other one wrote, so that numbers and chain go on.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::Line;
use super::chain::{Key, Link, seal};
use super::disk::{cut, is_same, open_new, open_to_append};
use super::read::{Found, LastFile, file_name, read};
use crate::clock::{Clock, MonoMs};
use crate::config::schema::JournalSync;
use crate::fault::{self, Point};
use crate::metrics::{Counter, Sink};

/// Why the journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// A file or directory cannot be made, read or written.
    #[error("the journal {path}: {cause}")]
    File {
        /// Which one.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// The key is not the one that was made.
    #[error(
        "the journal's key {path}: {cause}; restore it, or move it and the directory `journal` away"
    )]
    Key {
        /// The key's file.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// Another process has it.
    #[error("another process writes the journal in {0}: each node needs a state_dir of its own")]
    InUse(PathBuf),
    /// It cannot be written at present.
    #[error("the journal cannot be written: {0}")]
    Unwritable(String),
}

/// The journal of this process. Cheap to clone; usable from any thread. The file is synced and closed
/// when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct Journal {
    jobs: SyncSender<Job>,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    /// Held while the process lives, and by the one that takes over from it.
    lock: File,
    /// Whether another process writes, too.
    is_shared: AtomicBool,
    writable: AtomicBool,
    trouble: Mutex<String>,
    /// Stands for a disk that fails.
    #[cfg(test)]
    disk_fails: AtomicBool,
    /// Stands for a disk that does not answer.
    #[cfg(test)]
    disk_hangs: AtomicBool,
}

#[derive(Debug)]
struct Job {
    lines: Vec<Line>,
    /// Whether lines that cannot be written now are kept and written later.
    keep: bool,
    /// Whether to sync at once.
    sync: bool,
    done: oneshot::Sender<Result<(), JournalError>>,
}

impl Journal {
    /// Opens the journal in `state_dir`, makes it at the first start, hands every line that is in it
    /// to `each`, and goes on after the last whole one. What follows that is cut off with a warning
    /// and put into a file `.torn` beside it.
    pub fn open(
        state_dir: &Path,
        sync: JournalSync,
        clock: Clock,
        sink: Sink,
        each: impl FnMut(Line),
    ) -> Result<(Journal, Found), JournalError> {
        Journal::open_shared(state_dir, None, sync, clock, sink, each)
    }

    /// The same with the lock of a process that still writes, if it is that of `state_dir`.
    pub fn open_shared(
        state_dir: &Path,
        lock: Option<OwnedFd>,
        sync: JournalSync,
        clock: Clock,
        sink: Sink,
        each: impl FnMut(Line),
    ) -> Result<(Journal, Found), JournalError> {
        let (writer, found) = Writer::open(state_dir, lock, sync, clock, sink, each)?;
        let state = writer.state.clone();
        let (jobs, work) = sync_channel(JOBS_WAITING_MAX);
        let thread = std::thread::Builder::new().name("journal".to_owned());
        let run = move || writer.run(&work);
        let failed = |cause| JournalError::File { path: state_dir.to_owned(), cause };
        thread.spawn(run).map_err(failed)?;
        Ok((Journal { jobs, state }, found))
    }

    /// Writes the lines of admissions: whether each may be sent. After an error none may be: a line may
    /// stand there all the same, and is followed by one that undoes it.
    pub async fn admit(&self, lines: Vec<Line>) -> Result<(), JournalError> {
        self.job(lines, false, false).await
    }

    /// Writes the lines of outcomes. An error says that they could not be written yet: they are kept.
    pub async fn keep(&self, lines: Vec<Line>) -> Result<(), JournalError> {
        self.job(lines, true, false).await
    }

    /// Waits until everything written before is on the disk.
    pub async fn sync(&self) -> Result<(), JournalError> {
        self.job(Vec::new(), true, true).await
    }

    /// The lock, for the process that takes over.
    pub fn lock(&self) -> io::Result<OwnedFd> {
        self.state.lock.as_fd().try_clone_to_owned()
    }

    /// From now on another process may write, too. It stays so: what that one wrote last is read before
    /// the next line, whenever that is, and looking costs a few microseconds.
    pub fn share(&self) {
        self.state.is_shared.store(true, Ordering::Release);
    }

    /// Whether lines can be written: nobody is admitted otherwise.
    pub fn is_writable(&self) -> bool {
        self.state.writable.load(Ordering::Acquire)
    }

    /// Why not.
    pub fn trouble(&self) -> Option<String> {
        let text = || self.state.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone();
        (!self.is_writable()).then(text)
    }

    async fn job(&self, lines: Vec<Line>, keep: bool, sync: bool) -> Result<(), JournalError> {
        let (done, written) = oneshot::channel();
        let gone = || {
            let text = "its thread has died; restart Penstock";
            self.state.stop(text.to_owned());
            JournalError::Unwritable(text.to_owned())
        };
        let mut job = Job { lines, keep, sync, done };
        while let Err(refused) = self.jobs.try_send(job) {
            match refused {
                TrySendError::Full(back) => job = back,
                TrySendError::Disconnected(_) => return Err(gone()),
            }
            // Each sale has one job at a time: only thousands of sales at once come here.
            tokio::time::sleep(JOBS_FULL_WAIT).await;
        }
        match tokio::time::timeout(ANSWER_LONGEST, written).await {
            Ok(told) => told.unwrap_or_else(|_| Err(gone())),
            // The job keeps its place: what follows is written behind it.
            Err(_) => {
                tracing::error!("the journal's disk has not answered for {ANSWER_LONGEST:?}");
                Err(JournalError::Unwritable("its disk does not answer".to_owned()))
            }
        }
    }
}

impl State {
    fn stop(&self, why: String) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = why;
        self.writable.store(false, Ordering::Release);
    }
}

#[cfg(test)]
impl Journal {
    /// From now on the disk fails, or works again.
    pub(crate) fn fail_disk(&self, fails: bool) {
        self.state.disk_fails.store(fails, Ordering::Release);
    }

    /// From now on the disk does not answer, or does again.
    pub(crate) fn hang_disk(&self, hangs: bool) {
        self.state.disk_hangs.store(hangs, Ordering::Release);
    }
}

#[cfg(test)]
impl State {
    fn check_disk(&self) -> io::Result<()> {
        while self.disk_hangs.load(Ordering::Acquire) {
            std::thread::sleep(Duration::from_millis(1));
        }
        match self.disk_fails.load(Ordering::Acquire) {
            true => Err(io::Error::new(io::ErrorKind::StorageFull, "no space left on device")),
            false => Ok(()),
        }
    }
}

/// The thread's own.
struct Writer {
    dir: PathBuf,
    key: Key,
    sync: JournalSync,
    clock: Clock,
    sink: Sink,
    state: Arc<State>,
    /// Whoever writes while two do holds this.
    turn: File,
    file: File,
    tail: Tail,
    file_bytes_max: u64,
    /// Since when something written is not synced.
    dirty_since: Option<MonoMs>,
    /// Lines of outcomes that could not be written.
    kept: Vec<Line>,
    /// When a disk that failed is tried again.
    retry_at: Option<MonoMs>,
    /// After a failed sync nobody knows what is on the disk: it goes on in a new file.
    sync_failed: bool,
}

/// Where the next line goes.
#[derive(Clone, Copy, Debug)]
struct Tail {
    file: u64,
    bytes: u64,
    seq: u64,
    link: Link,
}

impl Writer {
    fn open(
        state_dir: &Path,
        lock: Option<OwnedFd>,
        sync: JournalSync,
        clock: Clock,
        sink: Sink,
        mut each: impl FnMut(Line),
    ) -> Result<(Writer, Found), JournalError> {
        let dir = state_dir.join("journal");
        let at = |path: &Path| {
            let path = path.to_owned();
            move |cause| JournalError::File { path, cause }
        };
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true).mode(0o700).create(&dir).map_err(at(&dir))?;
        let (lock, is_shared) = take_lock(state_dir, &dir.join("lock"), lock)?;
        let turn_path = dir.join("turn");
        let turn = open_to_append(&turn_path).map_err(at(&turn_path))?;
        let key_path = state_dir.join("journal.key");
        let key = Key::load_or_make(&key_path)
            .map_err(|cause| JournalError::Key { path: key_path, cause })?;
        let found = read(&dir, Some(&key), &mut each).map_err(at(&dir))?;
        let last = match &found.last {
            Some(last) => last.clone(),
            None => LastFile { number: 1, good_bytes: 0, torn_bytes: 0 },
        };
        let path = dir.join(file_name(last.number));
        if !is_shared {
            cut(&path, &last).map_err(at(&path))?;
        }
        let file = open_to_append(&path).map_err(at(&path))?;
        let mut writer = Writer {
            dir,
            key,
            sync,
            clock,
            sink,
            state: Arc::new(State {
                lock,
                is_shared: is_shared.into(),
                writable: AtomicBool::new(true),
                trouble: Mutex::default(),
                #[cfg(test)]
                disk_fails: AtomicBool::new(false),
                #[cfg(test)]
                disk_hangs: AtomicBool::new(false),
            }),
            turn,
            file,
            tail: Tail {
                file: last.number,
                bytes: last.good_bytes,
                seq: found.seq,
                link: found.link,
            },
            file_bytes_max: FILE_BYTES_MAX,
            dirty_since: None,
            kept: Vec::new(),
            retry_at: None,
            sync_failed: false,
        };
        // What the other one wrote since it was read.
        let dir = writer.dir.clone();
        writer.in_turn(&mut each, |_| Ok(())).map_err(at(&dir))?;
        Ok((writer, found))
    }

    fn run(mut self, work: &Receiver<Job>) {
        loop {
            let job = match self.next_wake_ms() {
                Some(ms) => work.recv_timeout(Duration::from_millis(ms)),
                None => work.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match job {
                Ok(first) => {
                    let mut jobs = vec![first];
                    jobs.extend(work.try_iter().take(GROUP_JOBS_MAX - 1));
                    self.commit(jobs);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    self.finish();
                    return;
                }
            }
            self.tick();
        }
    }

    /// Milliseconds until [`Writer::tick`] has something to do.
    fn next_wake_ms(&self) -> Option<u64> {
        let sync_at = self.dirty_since.map(|since| since.plus(SYNC_WITHIN_MS));
        let next = [sync_at, self.retry_at].into_iter().flatten().min()?;
        Some(next.since(self.clock.mono()))
    }

    /// Syncs and tries again what is due.
    fn tick(&mut self) {
        let now = self.clock.mono();
        if self.retry_at.is_some_and(|at| now >= at) {
            match self.retry() {
                Ok(()) => self.recovered(),
                Err(cause) => self.failed(&cause),
            }
        }
        let is_due = self.dirty_since.is_some_and(|since| now >= since.plus(SYNC_WITHIN_MS));
        if is_due && let Err(cause) = self.sync_now() {
            self.failed(&cause);
        }
    }

    /// Writes what came together, with one write.
    fn commit(&mut self, jobs: Vec<Job>) {
        let sync = self.sync == JournalSync::Always || jobs.iter().any(|job| job.sync);
        let mut result = match self.retry_at {
            Some(_) => Err(None),
            None => {
                let lines = jobs.iter().flat_map(|job| &job.lines);
                self.in_turn(&mut |_| {}, |writer| writer.write(lines)).map_err(Some)
            }
        };
        // After a failed sync the lines stand in the file all the same. Who asked undoes its
        // admissions with lines of their own, and outcomes stand there twice, which readers allow.
        if result.is_ok() && sync {
            result = self.sync_now().map_err(Some);
        }
        if let Err(Some(cause)) = &result {
            self.failed(cause);
        }
        for job in jobs {
            let told = match &result {
                Ok(()) => Ok(()),
                Err(_) => {
                    if job.keep {
                        self.kept.extend(job.lines);
                    }
                    Err(JournalError::Unwritable(self.trouble()))
                }
            };
            // Who asked may be gone; the lines stand.
            let _ = job.done.send(told);
        }
    }

    /// Does something when it is this process's turn, behind what the other one wrote, if there is one.
    fn in_turn<T>(
        &mut self,
        each: &mut impl FnMut(Line),
        run: impl FnOnce(&mut Writer) -> io::Result<T>,
    ) -> io::Result<T> {
        if !self.state.is_shared.load(Ordering::Acquire) {
            return run(self);
        }
        self.turn.lock()?;
        let done = self.catch_up(each).and_then(|()| run(self));
        self.turn.unlock()?;
        done
    }

    /// Goes on after the last line of the other process. What it left of a line when it was killed is
    /// cut off.
    fn catch_up(&mut self, each: &mut impl FnMut(Line)) -> io::Result<()> {
        loop {
            let Tail { file: number, bytes, seq, link } = self.tail;
            if self.file.metadata()?.len() != bytes {
                let mut found = Found::up_to(seq, link);
                let path = self.dir.join(file_name(number));
                found.read_file(number, &path, bytes, Some(&self.key), each)?;
                let good_bytes = found.last.as_ref().map_or(bytes, |last| last.good_bytes);
                self.file.set_len(good_bytes)?;
                self.tail =
                    Tail { bytes: good_bytes, seq: found.seq, link: found.link, ..self.tail };
            }
            let next = self.dir.join(file_name(number + 1));
            if !next.exists() {
                return Ok(());
            }
            self.sync_now()?;
            self.file = open_to_append(&next)?;
            self.tail = Tail { file: number + 1, bytes: 0, ..self.tail };
        }
    }

    /// Writes lines behind the last one, or none of them.
    fn write<'a>(&mut self, lines: impl Iterator<Item = &'a Line>) -> io::Result<()> {
        let (mut out, mut n) = (Vec::new(), 0);
        let (mut seq, mut link) = (self.tail.seq, self.tail.link);
        for line in lines {
            seq += 1;
            let body = serde_json::to_vec(&Line { seq, chain: String::new(), ..line.clone() })?;
            link = self.key.link(link, &body);
            seal(&body, link, &mut out);
            n += 1;
        }
        if n == 0 {
            return Ok(());
        }
        if self.tail.bytes > 0 && self.tail.bytes + out.len() as u64 > self.file_bytes_max {
            self.rotate()?;
        }
        #[cfg(test)]
        self.state.check_disk()?;
        fault::pass(Point::Journal);
        self.file.write_all(&out)?;
        fault::pass(Point::Journalled);
        self.tail = Tail { bytes: self.tail.bytes + out.len() as u64, seq, link, ..self.tail };
        self.sink.add(Counter::JournalLines, n);
        let now = self.clock.mono();
        self.dirty_since.get_or_insert(now);
        Ok(())
    }

    fn sync_now(&mut self) -> io::Result<()> {
        if self.dirty_since.is_some() {
            self.file.sync_data().inspect_err(|_| self.sync_failed = true)?;
            self.dirty_since = None;
        }
        Ok(())
    }

    /// Goes on in the next file.
    fn rotate(&mut self) -> io::Result<()> {
        if !self.sync_failed {
            self.sync_now()?;
        }
        let number = self.tail.file + 1;
        let file = open_new(&self.dir.join(file_name(number)))?;
        // The name must be on the disk too before lines in it count.
        File::open(&self.dir)?.sync_all()?;
        self.file = file;
        self.tail = Tail { file: number, bytes: 0, ..self.tail };
        self.sync_failed = false;
        Ok(())
    }

    /// Tries whether the disk takes lines again, and writes those that were kept.
    fn retry(&mut self) -> io::Result<()> {
        self.in_turn(&mut |_| {}, Writer::try_again)
    }

    fn try_again(&mut self) -> io::Result<()> {
        if self.sync_failed {
            self.rotate()?;
        }
        // What a failed write left behind.
        #[cfg(test)]
        self.state.check_disk()?;
        self.file.set_len(self.tail.bytes)?;
        self.file.write_all(&[b' '; PROBE_BYTES])?;
        self.file.set_len(self.tail.bytes)?;
        let kept = std::mem::take(&mut self.kept);
        let written = self.write(kept.iter());
        if written.is_err() {
            self.kept = kept;
        }
        written
    }

    fn failed(&mut self, cause: &io::Error) {
        self.sink.inc(Counter::JournalErrors);
        // Nobody is admitted for as long as this lasts: said once each second.
        tracing::error!(
            "the journal in {} cannot be written, so nobody is admitted: {cause}; make room on the \
             disk or repair it, it is tried again each second",
            self.dir.display()
        );
        self.state.stop(cause.to_string());
        // What was written before a write failed still has to be synced; after a failed sync nobody
        // can say of what.
        if self.sync_failed {
            self.dirty_since = None;
        }
        self.retry_at = Some(self.clock.mono().plus(RETRY_MS));
    }

    fn recovered(&mut self) {
        tracing::warn!("the journal in {} can be written again", self.dir.display());
        self.retry_at = None;
        self.state.writable.store(true, Ordering::Release);
    }

    fn trouble(&self) -> String {
        self.state.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The last clone is gone: writes and syncs what is left.
    fn finish(&mut self) {
        let done = if self.retry_at.is_some() { self.retry() } else { Ok(()) };
        if let Err(cause) = done.and_then(|()| self.sync_now()) {
            let (dir, lost) = (self.dir.display(), self.kept.len());
            tracing::error!("the journal in {dir} ends without {lost} lines of outcomes: {cause}");
        }
    }
}

/// Takes the journal for this process, or keeps it with the one that handed its lock over; whether that
/// is so.
fn take_lock(
    state_dir: &Path,
    path: &Path,
    theirs: Option<OwnedFd>,
) -> Result<(File, bool), JournalError> {
    let failed = |cause| JournalError::File { path: path.to_owned(), cause };
    let own = open_to_append(path).map_err(failed)?;
    let theirs = theirs.map(File::from).filter(|theirs| is_same(theirs, &own));
    let is_shared = theirs.is_some();
    let lock = theirs.unwrap_or(own);
    // Locked already where it is theirs.
    lock.try_lock().map_err(|cause| match cause {
        std::fs::TryLockError::WouldBlock => JournalError::InUse(state_dir.to_owned()),
        std::fs::TryLockError::Error(cause) => failed(cause),
    })?;
    Ok((lock, is_shared))
}

/// A file is not made longer than this.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// What is written is synced within this time.
const SYNC_WITHIN_MS: u64 = 100;
/// How often a disk that failed is tried.
const RETRY_MS: u64 = 1_000;
/// Jobs that wait for the thread.
const JOBS_WAITING_MAX: usize = 4_096;
/// Longest wait for the thread: nobody waits for a disk that hangs.
const ANSWER_LONGEST: Duration = Duration::from_secs(2);
const JOBS_FULL_WAIT: Duration = Duration::from_millis(1);
/// Jobs that share one write.
const GROUP_JOBS_MAX: usize = 256;
/// More than any line: a disk that takes it takes the next line.
const PROBE_BYTES: usize = 16 << 10;

#[cfg(test)]
mod tests;
