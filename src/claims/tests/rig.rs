//! A node's claims on a store with faults: the ledger's own rules in memory, behind a network that
//! loses what it is told to lose.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::super::{Ask, Claim, Claims, History, Limits, Outcome, Parts, Permit};
use crate::clock::{Clock, UnixMs};
use crate::config::Settings;
use crate::config::schema::{JournalSync, PerUser, Pool, Restock};
use crate::config::units::{Span, Time};
use crate::ident::{AttemptId, Name, NodeId, RequestId, SaleId, Salt, UserKey};
use crate::journal::{self, Journal, JournalError, Line};
use crate::ledger::{Declare, Memory, Op, Record, RecordKind, Reply};
use crate::metrics::Sink;
use crate::outcome::Verdict;
use crate::sale::{Declaration, SaleBook, SaleState};
use crate::store::{BoxFuture, Store, StoreError};

/// What the network does to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    Well,
    /// Nothing gets through.
    Down,
    /// Nothing of [`sale`] gets through; other sales are well.
    OneDown,
    /// Claims arrive, but not before [`Faulty::arrive`]; their sender hears nothing. The rest is well.
    LateClaims,
    /// Calls wait for [`Faulty::go`].
    Slow,
    /// Every call is refused.
    Refusing,
    /// Outcomes of user 1 are refused, and what comes with them.
    RefusingOne,
    /// A bug of ours.
    Panicking,
}

#[derive(Debug)]
pub struct Faulty {
    clock: Clock,
    sales: Mutex<HashMap<SaleId, Memory>>,
    late: Mutex<Vec<(SaleId, Op)>>,
    network: Mutex<Network>,
    pub go: Notify,
    pub calls: AtomicUsize,
    /// Whether it says that it may forget.
    pub forgets: AtomicBool,
}

impl Faulty {
    pub fn new(clock: Clock) -> Arc<Faulty> {
        Arc::new(Faulty {
            clock,
            sales: Mutex::default(),
            late: Mutex::default(),
            network: Mutex::new(Network::Well),
            go: Notify::new(),
            calls: AtomicUsize::new(0),
            forgets: AtomicBool::new(false),
        })
    }

    pub fn set(&self, network: Network) {
        *self.network.lock().unwrap() = network;
        self.go.notify_waiters();
    }

    /// What was under way arrives.
    pub fn arrive(&self) {
        for (sale, op) in std::mem::take(&mut *self.late.lock().unwrap()) {
            self.apply(&sale, &op);
        }
    }

    pub fn apply(&self, sale: &SaleId, op: &Op) -> Reply {
        let mut sales = self.sales.lock().unwrap_or_else(PoisonError::into_inner);
        let memory = sales.entry(sale.clone()).or_insert_with(|| Memory::new(sale.clone()));
        memory.apply(op, self.clock.now().ledger)
    }

    /// Loses everything.
    pub fn forget(&self) {
        self.sales.lock().unwrap().clear();
    }

    pub fn all(&self) -> Vec<Record> {
        self.sales.lock().unwrap()[&sale()].page(None, None, usize::MAX)
    }

    pub fn kinds(&self) -> Vec<RecordKind> {
        self.all().iter().map(|record| record.kind).collect()
    }

    pub fn state(&self, sale: &SaleId) -> Option<SaleState> {
        self.sales.lock().unwrap().get(sale)?.state().cloned()
    }
}

impl Store for Faulty {
    fn call<'a>(
        &'a self,
        sale: &'a SaleId,
        op: Op,
        deadline: Duration,
    ) -> BoxFuture<'a, Result<Reply, StoreError>> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            let waiting = self.go.notified();
            let network = *self.network.lock().unwrap();
            match network {
                Network::Down => return Err(StoreError::NotSent("connection refused".to_owned())),
                Network::OneDown if *sale == self::sale() => {
                    return Err(StoreError::MaybeApplied);
                }
                Network::LateClaims if matches!(op, Op::Claim(_)) => {
                    self.late.lock().unwrap().push((sale.clone(), op));
                    return Err(StoreError::MaybeApplied);
                }
                Network::Slow => {
                    if tokio::time::timeout(deadline, waiting).await.is_err() {
                        return Err(StoreError::MaybeApplied);
                    }
                }
                Network::Refusing => return Err(StoreError::Refused("CORRUPT".to_owned())),
                Network::RefusingOne if is_of_user_1(&op) => {
                    return Err(StoreError::Refused("CORRUPT".to_owned()));
                }
                Network::Panicking => panic!("a bug, as the test wants it"),
                Network::Well | Network::OneDown | Network::LateClaims | Network::RefusingOne => {}
            }
            Ok(self.apply(sale, &op))
        })
    }

    fn sales(&self) -> BoxFuture<'_, Result<Vec<SaleId>, StoreError>> {
        Box::pin(async {
            if *self.network.lock().unwrap() == Network::Down {
                return Err(StoreError::NotSent("connection refused".to_owned()));
            }
            let sales = self.sales.lock().unwrap();
            Ok(sales.values().filter_map(|m| m.state()).map(|s| s.id.clone()).collect())
        })
    }

    fn records<'a>(
        &'a self,
        sale: &'a SaleId,
        user: Option<UserKey>,
        after: Option<UserKey>,
        max: usize,
    ) -> BoxFuture<'a, Result<Vec<Record>, StoreError>> {
        let sales = self.sales.lock().unwrap();
        let page = sales.get(sale).map(|memory| memory.page(user, after, max));
        Box::pin(async { Ok(page.unwrap_or_default()) })
    }

    fn mirror(self: Arc<Self>, _: Arc<SaleBook>, _: Clock) -> BoxFuture<'static, ()> {
        Box::pin(async {})
    }

    fn forgets(&self) -> bool {
        self.forgets.load(Ordering::Relaxed)
    }

    fn health(&self) -> Result<(), String> {
        match *self.network.lock().unwrap() {
            Network::Down => Err("connection refused".to_owned()),
            _ => Ok(()),
        }
    }
}

fn is_of_user_1(op: &Op) -> bool {
    matches!(op, Op::Resolve(all) if all.iter().any(|one| one.user == ask(1).user))
}

pub fn sale() -> SaleId {
    "shop/drop".parse().unwrap()
}

pub fn declaration(stock: u64) -> Declaration {
    Declaration {
        activity: Name::new("8848").unwrap(),
        opens_at: Time { at: UnixMs(1_000) },
        ends_at: None,
        per_user: PerUser::default(),
        overshoot: 1.0,
        pools: [(Name::new("default").unwrap(), Pool::of(stock))].into(),
        restock: Restock::default(),
        restock_batch: 1,
        restock_debounce: Span::from_secs(30),
        revision: None,
    }
}

/// One run of a node.
pub struct Rig {
    pub store: Arc<Faulty>,
    pub claims: Claims,
    pub journal: Journal,
    pub clock: Clock,
    pub sink: Sink,
    runtime: tokio::runtime::Runtime,
    dir: Arc<tempfile::TempDir>,
}

pub struct Setup {
    pub store: Arc<Faulty>,
    pub clock: Clock,
    pub dir: Arc<tempfile::TempDir>,
    pub limits: Limits,
    pub declarations: Vec<(SaleId, Declaration)>,
}

impl Setup {
    /// A ledger that has the sale, open.
    pub fn new(stock: u64) -> Setup {
        let setup = Setup::bare();
        let declare = Declare { declaration: declaration(stock), salt: Salt([7; 16]) };
        setup.store.apply(&sale(), &Op::Declare(Box::new(declare)));
        setup.store.apply(&sale(), &Op::Control(crate::ledger::Control::Resume));
        setup
    }

    /// A ledger without any sale.
    pub fn bare() -> Setup {
        let clock = Clock::system();
        let mut settings = Settings::default();
        settings.store.claim_deadline = Some(Span::from_secs(5));
        // No test waits for the reaper by accident: it comes when the ledger's clock is moved.
        settings.gate.claim_ttl = Span::from_secs(600);
        Setup {
            store: Faulty::new(clock.clone()),
            clock,
            dir: Arc::new(tempfile::tempdir().unwrap()),
            limits: Limits::of(&settings),
            declarations: Vec::new(),
        }
    }

    pub fn start(self) -> Rig {
        let Setup { store, clock, dir, limits, declarations } = self;
        let sink = Sink::detached();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let (journal, history) = open(&dir, &clock, &sink);
        let claims = Claims::start(Parts {
            store: store.clone(),
            journal: journal.clone(),
            history,
            book: Arc::new(SaleBook::new()),
            clock: clock.clone(),
            node: NodeId::random(),
            limits,
            predecessor: None,
            sales_file: Some(dir.path().join("sales.json")),
            declarations,
            sink: sink.clone(),
            runtime: runtime.handle().clone(),
        });
        Rig { store, claims, journal, clock, sink, runtime, dir }
    }
}

/// The thread of an earlier run may still be closing its file.
fn open(dir: &tempfile::TempDir, clock: &Clock, sink: &Sink) -> (Journal, History) {
    wait_for("the journal's lock", || {
        let mut history = History::default();
        let each = |line| history.note(line);
        let sync = JournalSync::Batch;
        match Journal::open(dir.path(), sync, clock.clone(), sink.clone(), each) {
            Ok((journal, _)) => Some((journal, history)),
            Err(JournalError::InUse(_)) => None,
            Err(error) => panic!("{error}"),
        }
    })
}

impl Rig {
    /// The process dies, with whatever is `open`, and starts again.
    pub fn restart(self, open: impl Sized) -> Rig {
        self.restart_on(Network::Well, open)
    }

    pub fn restart_on(self, network: Network, open: impl Sized) -> Rig {
        let Rig { store, claims, journal, clock, runtime, dir, .. } = self;
        drop(runtime);
        drop((open, claims, journal));
        store.set(network);
        Setup { store, clock, dir, ..Setup::bare() }.start()
    }

    /// A claim of user `n`, from a thread with a runtime of its own.
    pub fn claim(&self, n: u8) -> Claim {
        block_on(self.claims.claim(ask(n)))
    }

    pub fn admitted(&self, n: u8) -> Permit {
        match self.claim(n) {
            Claim::Admitted(permit) => permit,
            other => panic!("{other:?}"),
        }
    }

    /// Where what is known of the sales is kept.
    pub fn sales_file(&self) -> std::path::PathBuf {
        self.dir.path().join("sales.json")
    }

    pub fn drained(&self) {
        assert_eq!(block_on(self.claims.drain(Duration::from_secs(10))), 0);
    }

    /// The events of user `n` in the journal, in order.
    pub fn events(&self, n: u8) -> Vec<journal::Event> {
        let user = ask(n).user;
        self.lines().iter().filter(|line| line.user == user).map(|line| line.event).collect()
    }

    pub fn lines(&self) -> Vec<Line> {
        let mut lines = Vec::new();
        let key = journal::Key::load(&self.dir.path().join("journal.key")).unwrap();
        let dir = self.dir.path().join("journal");
        let found = journal::read(&dir, Some(&key), |line| lines.push(line)).unwrap();
        assert_eq!(found.chain, journal::Chain::Verified);
        lines
    }
}

pub fn ask(n: u8) -> Ask {
    Ask {
        sale: sale(),
        attempt: AttemptId([n; 16]),
        user: UserKey([n; 16]),
        pool: Name::new("default").unwrap(),
        units: 1,
        request: RequestId([n; 8]),
    }
}

pub fn outcome(verdict: Verdict) -> Outcome {
    Outcome { verdict, status: Some(500), code: Some("5000".to_owned()), order: None }
}

pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(future)
}

pub fn wait_for<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub fn wait_until(what: &str, mut check: impl FnMut() -> bool) {
    wait_for(what, || check().then_some(()));
}
