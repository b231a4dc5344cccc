//! The ledger's file: opening, checking, closing after a fault, reading.

use std::fmt;
use std::fs::TryLockError;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redb::{
    Builder, ConcurrencyMode, Database, ReadTransaction, ReadableDatabase, ReadableTable,
    TableError,
};

use crate::ident::{SaleId, UserKey};
use crate::ledger::Record;
use crate::sale::SaleState;
use crate::store::StoreError;

use super::OpenError;
use super::tables::{self, FORMAT, Fault, META, RECORDS, SALES};

/// Memory that redb may use for pages of the file, in bytes: the records of a few hundred thousand
/// buyers; beyond it the system's own cache serves.
const CACHE_BYTES: usize = 64 << 20;

/// A process that starts checks the whole file and lets no other in meanwhile; another one waits so
/// often and so long for it.
const LOCK_TRIES: u32 = 100;
const LOCK_WAIT: Duration = Duration::from_millis(20);

/// How the database is opened; tests put a faulty disk here.
pub(super) type Opener = Box<dyn Fn(&Path) -> Result<Database, OpenError> + Send + Sync>;

/// The file, open or to be opened again.
pub(super) struct File {
    path: PathBuf,
    opener: Opener,
    database: Mutex<Option<Arc<Database>>>,
    /// Who waits to write holds this, so that a busy process lets another one in between.
    turnstile: Option<std::fs::File>,
    /// Why nothing can be written or read.
    trouble: Mutex<Option<String>>,
    /// A sale whose state cannot be read; the others go on.
    damage: Mutex<Option<String>>,
    stopping: AtomicBool,
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("File").field("path", &self.path).finish_non_exhaustive()
    }
}

impl File {
    /// Opens the file, made if it is not there, and checks it whole where nobody else has it open.
    pub(super) fn open(path: &Path) -> Result<File, OpenError> {
        check(path)?;
        File::with(path, Box::new(share))
    }

    pub(super) fn with(path: &Path, opener: Opener) -> Result<File, OpenError> {
        let database = opener(path)?;
        prepare(path, &database)?;
        Ok(File {
            path: path.to_owned(),
            opener,
            database: Mutex::new(Some(Arc::new(database))),
            turnstile: turnstile(path),
            trouble: Mutex::default(),
            damage: Mutex::default(),
            stopping: AtomicBool::new(false),
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The open database, opened again after a fault.
    pub(super) fn database(&self) -> Result<Arc<Database>, String> {
        let mut database = self.database.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(database) = &*database {
            return Ok(database.clone());
        }
        let opened = (self.opener)(&self.path)
            .and_then(|opened| prepare(&self.path, &opened).map(|()| Arc::new(opened)))
            .map_err(|e| e.to_string())?;
        *database = Some(opened.clone());
        Ok(opened)
    }

    /// The words for a fault. One value that cannot be read concerns nobody else; anything else is
    /// the whole file's.
    pub(super) fn blame(&self, database: &Arc<Database>, fault: &Fault) -> String {
        match fault {
            Fault::Value(_) => self.words(fault),
            _ => self.fail(Some(database), fault),
        }
    }

    fn words(&self, fault: &dyn fmt::Display) -> String {
        format!("{}: {fault}", self.path.display())
    }

    /// A fault of the file: it is said in `health`, and `database`, which redb will not use any more,
    /// is closed. Returns the words.
    pub(super) fn fail(
        &self,
        database: Option<&Arc<Database>>,
        fault: &dyn fmt::Display,
    ) -> String {
        let words = format!(
            "{}; nobody is admitted until it can be written again, which is tried each second",
            self.words(fault)
        );
        if let Some(failed) = database {
            let mut database = self.database.lock().unwrap_or_else(PoisonError::into_inner);
            database.take_if(|d| Arc::ptr_eq(d, failed));
        }
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if trouble.is_none() {
            tracing::error!("{words}");
        }
        *trouble = Some(words.clone());
        words
    }

    /// The file was written.
    pub(super) fn recovered(&self) {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if trouble.take().is_some() {
            tracing::info!("{}: can be written again", self.path.display());
        }
    }

    pub(super) fn health(&self) -> Result<(), String> {
        let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let damage = || self.damage.lock().unwrap_or_else(PoisonError::into_inner).clone();
        trouble.or_else(damage).map_or(Ok(()), Err)
    }

    /// The place behind whoever writes now; `None` while another process has it. It is only manners:
    /// where the system offers no such lock, everybody has it.
    pub(super) fn queue_up(&self) -> Option<Place<'_>> {
        match self.turnstile.as_ref().map(std::fs::File::try_lock) {
            Some(Err(TryLockError::WouldBlock)) => None,
            _ => Some(Place(self.turnstile.as_ref())),
        }
    }

    /// Lets the writer end although another process holds the file.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Every sale that can be read, in the order of their ids.
    pub(super) fn states(&self) -> Result<Vec<SaleState>, StoreError> {
        let (states, damaged) = self.read(|tx| {
            let sales = tx.open_table(SALES)?;
            let (mut states, mut damaged) = (Vec::new(), None);
            for entry in sales.range::<&str>(..)? {
                let (key, value) = entry?;
                match tables::state(key.value(), value.value()) {
                    Ok(state) => states.push(state),
                    Err(fault) => damaged = Some(self.words(&fault)),
                }
            }
            Ok((states, damaged))
        })?;
        let mut damage = self.damage.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(words), None) = (&damaged, &*damage) {
            tracing::error!("{words}");
        }
        *damage = damaged;
        Ok(states)
    }

    /// As [`crate::store::Store::records`].
    pub(super) fn records(
        &self,
        sale: &SaleId,
        user: Option<UserKey>,
        after: Option<UserKey>,
        max: usize,
    ) -> Result<Vec<Record>, StoreError> {
        let sale = sale.to_string();
        self.read(|tx| {
            let table = tx.open_table(RECORDS)?;
            let mut page = Vec::new();
            let (first, last) = (user.unwrap_or_default().0, user.map_or([0xff; 16], |u| u.0));
            let from = match &after {
                Some(after) => Bound::Excluded((sale.as_str(), &after.0)),
                None => Bound::Included((sale.as_str(), &first)),
            };
            let to = Bound::Included((sale.as_str(), &last));
            for entry in table.range::<(&str, &[u8; 16])>((from, to))? {
                let (key, value) = entry?;
                let records = tables::records(&sale, UserKey(*key.value().1), value.value())?;
                if !page.is_empty() && page.len() + records.len() > max {
                    break;
                }
                page.extend(records);
            }
            Ok(page)
        })
    }

    fn read<T>(
        &self,
        read: impl FnOnce(&ReadTransaction) -> Result<T, Fault>,
    ) -> Result<T, StoreError> {
        let database = self.database().map_err(|why| StoreError::Refused(self.fail(None, &why)))?;
        let result = guard(|| read(&database.begin_read()?));
        result.map_err(|fault| StoreError::Refused(self.blame(&database, &fault)))
    }
}

/// The right to write next, given up when dropped.
pub(super) struct Place<'a>(Option<&'a std::fs::File>);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(turnstile) = self.0 {
            // The only failure is a lock that is not there.
            let _ = turnstile.unlock();
        }
    }
}

/// A file beside the ledger, only to be locked.
fn turnstile(path: &Path) -> Option<std::fs::File> {
    let mut name = path.as_os_str().to_owned();
    name.push(".turn");
    std::fs::OpenOptions::new().write(true).create(true).truncate(false).open(name).ok()
}

/// Runs what touches the file; a panic of the storage, which a damaged file can cause, is a fault.
pub(super) fn guard<T>(run: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let words = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied());
        Err(Fault::Panic(words.unwrap_or("without words").to_owned()))
    })
}

/// Checks every page of an existing file, where no other process has it open.
fn check(path: &Path) -> Result<(), OpenError> {
    if !std::fs::metadata(path).is_ok_and(|m| m.len() > 0) {
        return Ok(());
    }
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
    match guard(|| Ok(builder.open(path)?)) {
        Ok(_) => Ok(()),
        // Somebody uses it: their own start has checked it.
        Err(Fault::File(e)) if matches!(*e, redb::Error::DatabaseAlreadyOpen) => Ok(()),
        Err(fault) => Err(open_error(path, fault)),
    }
}

/// Opens the file so that other processes may, too.
fn share(path: &Path) -> Result<Database, OpenError> {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES).set_concurrency_mode(ConcurrencyMode::MultiWriter);
    for _ in 0..LOCK_TRIES {
        match guard(|| Ok(builder.create(path)?)) {
            Ok(database) => return Ok(database),
            Err(Fault::File(e)) if matches!(*e, redb::Error::DatabaseAlreadyOpen) => {
                std::thread::sleep(LOCK_WAIT);
            }
            Err(fault) => return Err(open_error(path, fault)),
        }
    }
    Err(OpenError::Locked(path.to_owned()))
}

/// Writes the format into a new file, refuses one of another.
fn prepare(path: &Path, database: &Database) -> Result<(), OpenError> {
    let prepared = guard(|| {
        let tx = database.begin_read()?;
        match tx.open_table(META) {
            Ok(meta) => return Ok(meta.get("format")?.map(|v| v.value())),
            Err(TableError::TableDoesNotExist(_)) => {}
            Err(e) => return Err(e.into()),
        }
        if tx.list_tables()?.next().is_some() {
            return Ok(None);
        }
        tx.close()?;
        let tx = database.begin_write()?;
        {
            let mut meta = tx.open_table(META)?;
            // Another process may have been here meanwhile.
            if meta.get("format")?.is_none() {
                meta.insert("format", FORMAT)?;
            }
            tx.open_table(SALES)?;
            tx.open_table(RECORDS)?;
        }
        tx.commit()?;
        Ok(Some(FORMAT))
    });
    match prepared {
        Ok(Some(FORMAT)) => Ok(()),
        Ok(Some(found)) if found > FORMAT => {
            Err(OpenError::Newer { path: path.to_owned(), found, known: FORMAT })
        }
        Ok(_) => Err(OpenError::NotALedger(path.to_owned())),
        Err(fault) => Err(open_error(path, fault)),
    }
}

fn open_error(path: &Path, fault: Fault) -> OpenError {
    let path = path.to_owned();
    let why = fault.to_string();
    let Fault::File(error) = fault else {
        return OpenError::Damaged { path, why };
    };
    match *error {
        redb::Error::Io(e) if e.kind() == std::io::ErrorKind::InvalidData => {
            OpenError::NotALedger(path)
        }
        redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch => {
            OpenError::Locked(path)
        }
        redb::Error::UpgradeRequired(_)
        | redb::Error::TableTypeMismatch { .. }
        | redb::Error::TableIsMultimap(_) => OpenError::NotALedger(path),
        redb::Error::Corrupted(_) | redb::Error::RepairAborted => OpenError::Damaged { path, why },
        _ => OpenError::Io { path, why },
    }
}
