//! The core in memory behind a network that delays and loses, for tests of what stands above a store.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::{Clock, UnixMs};
use crate::ident::{SaleId, UserKey};
use crate::ledger::declare::rival;
use crate::ledger::{Declared, Memory, Op, OpResult, Record, Reply};
use crate::sale::book::Update;
use crate::sale::{SaleBook, SaleState};
use crate::store::{BoxFuture, Store, StoreError};

/// What happens to a call on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is applied so much later; where that is beyond the caller's deadline, the caller does not
    /// hear of it.
    Delay(Duration),
    /// It cannot be sent.
    Down,
    /// It is lost before it is applied; the caller waits until its deadline.
    LostBefore,
    /// It is applied, and its answer lost.
    LostAfter,
}

/// A simulated store. Clones share their ledger, as nodes do.
#[derive(Clone, Debug)]
pub struct Sim {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    clock: Clock,
    ledger: Mutex<Ledger>,
}

#[derive(Debug, Default)]
struct Ledger {
    sales: BTreeMap<SaleId, Memory>,
    /// For the next calls, one each.
    faults: VecDeque<Fault>,
    /// For every call, once `faults` is used up.
    always: Option<Fault>,
    now: UnixMs,
    calls: u64,
}

impl Sim {
    /// A store without sales and without faults; its time is `clock`'s ledger time.
    pub fn new(clock: Clock) -> Sim {
        Sim { shared: Arc::new(Shared { clock, ledger: Mutex::default() }) }
    }

    /// The next calls meet these faults, one each, after those given before.
    pub fn next(&self, faults: impl IntoIterator<Item = Fault>) {
        self.lock().faults.extend(faults);
    }

    /// Every call meets `fault` from now on, until `None`.
    pub fn always(&self, fault: Option<Fault>) {
        self.lock().always = fault;
    }

    /// Operations that callers began so far.
    pub fn calls(&self) -> u64 {
        self.lock().calls
    }

    /// The sale as it is, past all faults.
    pub fn state(&self, sale: &SaleId) -> Option<SaleState> {
        self.lock().sales.get(sale)?.state().cloned()
    }

    /// Loses everything, as a store that fails over without its data.
    pub fn forget(&self) {
        self.lock().sales.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.shared.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fault(&self) -> Option<Fault> {
        let mut ledger = self.lock();
        ledger.faults.pop_front().or(ledger.always)
    }

    fn apply(&self, sale: &SaleId, op: &Op) -> Reply {
        let mut ledger = self.lock();
        let now = ledger.now.max(self.shared.clock.now().ledger);
        ledger.now = now;
        if let Op::Declare(declare) = op {
            let states: Vec<_> = ledger.sales.values().filter_map(|m| m.state().cloned()).collect();
            if let Some(why) = rival(sale, &declare.declaration, &states, now) {
                let state = states.into_iter().find(|s| s.id == *sale);
                return Reply { state, now, result: OpResult::Declared(Declared::Refused(why)) };
            }
        }
        let memory = ledger.sales.entry(sale.clone()).or_insert_with(|| Memory::new(sale.clone()));
        memory.apply(op, now)
    }

    async fn ask(&self, sale: &SaleId, op: Op, deadline: Duration) -> Result<Reply, StoreError> {
        self.lock().calls += 1;
        match self.fault() {
            None => Ok(self.apply(sale, &op)),
            Some(Fault::Down) => Err(StoreError::NotSent("the simulated store is down".to_owned())),
            Some(Fault::LostBefore) => {
                tokio::time::sleep(deadline).await;
                Err(StoreError::MaybeApplied)
            }
            Some(Fault::LostAfter) => {
                self.apply(sale, &op);
                tokio::time::sleep(deadline).await;
                Err(StoreError::MaybeApplied)
            }
            Some(Fault::Delay(delay)) => {
                let (sim, sale) = (self.clone(), sale.clone());
                // A task of its own: it comes to the ledger although the caller has given up.
                let applied = tokio::spawn(async move {
                    tokio::time::sleep(delay).await;
                    sim.apply(&sale, &op)
                });
                match tokio::time::timeout(deadline, applied).await {
                    Ok(Ok(reply)) => Ok(reply),
                    _ => Err(StoreError::MaybeApplied),
                }
            }
        }
    }
}

impl Store for Sim {
    fn call<'a>(
        &'a self,
        sale: &'a SaleId,
        op: Op,
        deadline: Duration,
    ) -> BoxFuture<'a, Result<Reply, StoreError>> {
        Box::pin(self.ask(sale, op, deadline))
    }

    fn sales(&self) -> BoxFuture<'_, Result<Vec<SaleId>, StoreError>> {
        let ledger = self.lock();
        let sales = ledger.sales.values().filter_map(|m| Some(m.state()?.id.clone())).collect();
        Box::pin(std::future::ready(Ok(sales)))
    }

    fn records<'a>(
        &'a self,
        sale: &'a SaleId,
        user: Option<UserKey>,
        after: Option<UserKey>,
        max: usize,
    ) -> BoxFuture<'a, Result<Vec<Record>, StoreError>> {
        let page = self.lock().sales.get(sale).map(|m| m.page(user, after, max));
        Box::pin(std::future::ready(Ok(page.unwrap_or_default())))
    }

    fn mirror(self: Arc<Self>, book: Arc<SaleBook>, clock: Clock) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let mut tick = tokio::time::interval(Duration::from_millis(20));
            loop {
                tick.tick().await;
                if self.lock().always == Some(Fault::Down) {
                    continue;
                }
                let heard = clock.mono();
                let states: Vec<_> =
                    self.lock().sales.values().filter_map(|m| m.state().cloned()).collect();
                for state in states {
                    book.apply(Update { state, heard });
                }
                book.set_synced();
            }
        })
    }

    fn health(&self) -> Result<(), String> {
        match self.lock().always {
            Some(Fault::Down) => Err("the simulated store is down".to_owned()),
            _ => Ok(()),
        }
    }
}
