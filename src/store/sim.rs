//! The core in memory behind a network that delays and loses, for tests of what stands above a store.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::{Clock, UnixMs};
use crate::ident::{SaleId, ServerId, UserKey};
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
    /// Which server answers.
    server: ServerId,
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

    /// The ledgers as they are, to go back to with [`Sim::fail_over`].
    pub fn copy(&self) -> BTreeMap<SaleId, Memory> {
        self.lock().sales.clone()
    }

    /// Another server takes over with `sales`, which may lack the last writes.
    pub fn fail_over(&self, server: ServerId, sales: BTreeMap<SaleId, Memory>) {
        let mut ledger = self.lock();
        (ledger.server, ledger.sales) = (server, sales);
        ledger.sales.values_mut().for_each(|sale| sale.moved_to(server));
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
        let server = ledger.server;
        let memory = ledger.sales.entry(sale.clone()).or_insert_with(|| {
            let mut memory = Memory::new(sale.clone());
            memory.moved_to(server);
            memory
        });
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

    /// The first server forgets nothing; those that take over may.
    fn forgets(&self) -> bool {
        self.lock().server != ServerId::default()
    }

    fn health(&self) -> Result<(), String> {
        match self.lock().always {
            Some(Fault::Down) => Err("the simulated store is down".to_owned()),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::UnixMs;
    use crate::ident::{AttemptId, ClaimId, NodeId};
    use crate::ledger::tests::{declaration, declare, name, sale_id, user};
    use crate::ledger::{ClaimBatch, Claimed, Control, Fence, Try};
    use crate::sale::Mark;

    const DEADLINE: Duration = Duration::from_millis(20);

    async fn sale_on(sim: &Sim) {
        for op in [declare(declaration(&[("a", 9)])), Op::Control(Control::Resume)] {
            sim.call(&sale_id(), op, DEADLINE).await.expect("no fault yet");
        }
    }

    fn claim(n: u8, not_after: UnixMs) -> Op {
        Op::Claim(ClaimBatch {
            node: NodeId([1; 8]),
            not_after,
            claim_ttl_ms: 60_000,
            reported: Some(Mark::default()),
            fence: Fence::default(),
            tries: vec![Try {
                claim: ClaimId([n; 12]),
                attempt: AttemptId([n; 16]),
                user: user(n),
                pool: name("a"),
                units: 1,
            }],
        })
    }

    fn held(sim: &Sim) -> u64 {
        sim.state(&sale_id()).and_then(|s| s.pool("a").map(|p| p.held)).unwrap_or_default()
    }

    #[tokio::test(start_paused = true)]
    async fn each_fault_does_what_it_says() {
        let sim = Sim::new(Clock::system());
        sale_on(&sim).await;
        let any_time = UnixMs(u64::MAX);
        sim.next([Fault::Down, Fault::LostBefore, Fault::LostAfter]);
        let down = sim.call(&sale_id(), claim(1, any_time), DEADLINE).await;
        assert!(matches!(down, Err(StoreError::NotSent(_))), "{down:?}");
        let lost = sim.call(&sale_id(), claim(1, any_time), DEADLINE).await;
        assert_eq!((lost.err(), held(&sim)), (Some(StoreError::MaybeApplied), 0));
        let lost = sim.call(&sale_id(), claim(1, any_time), DEADLINE).await;
        assert_eq!((lost.err(), held(&sim)), (Some(StoreError::MaybeApplied), 1));
        let reply = sim.call(&sale_id(), claim(2, any_time), DEADLINE).await.expect("no fault");
        assert!(matches!(reply.result, OpResult::Claimed(c) if c.len() == 1));
        assert_eq!((held(&sim), sim.calls()), (2, 6));
    }

    #[tokio::test(start_paused = true)]
    async fn another_server_admits_nobody_before_it_was_told() {
        let sim = Sim::new(Clock::system());
        sale_on(&sim).await;
        let before = sim.copy();
        sim.call(&sale_id(), claim(1, UnixMs(u64::MAX)), DEADLINE).await.expect("no fault");
        sim.fail_over(ServerId([1; 16]), before);
        let reply = sim.call(&sale_id(), claim(2, UnixMs(u64::MAX)), DEADLINE).await;
        let reply = reply.expect("no fault");
        assert_eq!(reply.result, OpResult::Claimed(vec![Claimed::Learning]));
        assert_eq!((held(&sim), reply.state.expect("a sale").fences), (0, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_delayed_operation_comes_although_nobody_waits() {
        let sim = Sim::new(Clock::system());
        sale_on(&sim).await;
        let long = Duration::from_secs(2);
        sim.next([Fault::Delay(long), Fault::Delay(Duration::from_millis(5))]);
        let late = sim.call(&sale_id(), claim(1, UnixMs(u64::MAX)), DEADLINE).await;
        assert_eq!((late.err(), held(&sim)), (Some(StoreError::MaybeApplied), 0));
        let early = sim.call(&sale_id(), claim(2, UnixMs(0)), DEADLINE).await.expect("in time");
        assert_eq!(early.result, OpResult::Claimed(vec![Claimed::TooLate]));
        tokio::time::sleep(long).await;
        assert_eq!(held(&sim), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn the_mirror_is_deaf_while_the_store_is_down() {
        let sim = Arc::new(Sim::new(Clock::system()));
        let book = Arc::new(SaleBook::new());
        sim.always(Some(Fault::Down));
        assert!(sim.health().is_err());
        let mirror = tokio::spawn(sim.clone().mirror(book.clone(), Clock::system()));
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!book.is_synced());
        sim.always(None);
        sale_on(&sim).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(book.is_synced() && book.sale(&sale_id()).is_some());
        assert_eq!(sim.sales().await, Ok(vec![sale_id()]));
        sim.forget();
        assert_eq!(sim.sales().await, Ok(Vec::new()));
        mirror.abort();
    }
}
