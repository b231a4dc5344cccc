//! A disk that fails and comes back.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::backends::FileBackend;
use redb::{Builder, Database, StorageBackend};

use super::*;

/// A file on a disk that can be full, or lose its syncs.
#[derive(Debug)]
struct Disk {
    file: FileBackend,
    faults: Arc<Faults>,
}

#[derive(Debug, Default)]
struct Faults {
    is_full: AtomicBool,
    fails_sync: AtomicBool,
}

impl Faults {
    fn check(&self, fault: &AtomicBool) -> io::Result<()> {
        match fault.load(Ordering::Relaxed) {
            true => Err(io::Error::from(io::ErrorKind::StorageFull)),
            false => Ok(()),
        }
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.faults.check(&self.faults.is_full)?;
        self.file.set_len(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.faults.check(&self.faults.fails_sync)?;
        self.file.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.faults.check(&self.faults.is_full)?;
        self.file.write(offset, data)
    }
    fn close(&self) -> io::Result<()> {
        self.file.close()
    }
}

fn store_on(path: &Path) -> (Arc<Embedded>, Arc<Faults>) {
    let faults = Arc::new(Faults::default());
    let opener = {
        let faults = faults.clone();
        move |path: &Path| -> Result<Database, OpenError> {
            let mut options = std::fs::OpenOptions::new();
            let file = options.read(true).write(true).create(true).truncate(false).open(path);
            let file = FileBackend::new(file.expect("a file")).expect("a backend");
            let disk = Disk { file, faults: faults.clone() };
            let opened = Builder::new().create_with_backend(disk);
            opened.map_err(|e| OpenError::Io { path: path.to_owned(), why: e.to_string() })
        }
    };
    let file = File::with(path, Box::new(opener)).expect("the file opens");
    let store = Embedded::start(file, Clock::system(), &Settings::default(), Sink::detached());
    (store.expect("a store"), faults)
}

async fn fails_and_recovers(break_it: fn(&Faults, bool)) {
    let place = Place::new();
    let (store, faults) = store_on(&place.path());
    open_sale(&store, &sale_id(), 1000).await;
    let mut admitted = Vec::new();
    for round in 0..3 {
        break_it(&faults, true);
        for _ in 0..3 {
            let answer = store.call(&sale_id(), claim_of(user()), PATIENT).await;
            match answer {
                Err(StoreError::Refused(_) | StoreError::MaybeApplied) => {}
                other => panic!("{other:?}"),
            }
        }
        let why = store.health().expect_err("it is broken");
        assert!(why.contains("nobody is admitted"), "{why}");
        break_it(&faults, false);
        // By itself in the first round, by the next call in the others.
        if round == 0 {
            until("health again", async || store.health().is_ok()).await;
        }
        let buyer = user();
        until("admitted", async || {
            let answer = store.call(&sale_id(), claim_of(buyer), PATIENT).await;
            matches!(answer, Ok(Reply { result: OpResult::Claimed(c), .. }) if is_admitted(&c[0]))
        })
        .await;
        admitted.push(buyer);
        assert_eq!(store.health(), Ok(()));
    }
    drop(store);
    let store = place.open();
    let records = all(&store).await;
    for buyer in admitted {
        assert!(records.iter().any(|r| r.user == buyer), "acknowledged and lost");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_says_so_and_recovers() {
    fails_and_recovers(|faults, on| faults.is_full.store(on, Ordering::Relaxed)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sync_that_fails_is_never_acknowledged() {
    fails_and_recovers(|faults, on| faults.fails_sync.store(on, Ordering::Relaxed)).await;
}
