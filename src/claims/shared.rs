//! What all tasks of the claims share: the store, the journal, the clocks, and one way to call.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use super::breaker::{Breaker, Whose};
use super::declare::OfConfig;
use super::desk::{Desk, Due};
use super::facts::{Facts, Remembered};
use super::memory::{History, Memory, Past};
use super::pace::Pace;
use super::{Limits, Outcome, Parts};
use crate::clock::{Clock, UnixMs};
use crate::ident::{ClaimId, NodeId, SaleId, UserKey};
use crate::journal::{Event, Journal, Line};
use crate::ledger::{Op, Record, Reply, Resolved};
use crate::metrics::{Counter, Sink};
use crate::outcome::Verdict;
use crate::sale::book::Update;
use crate::sale::{Mark, SaleBook};
use crate::store::{Store, StoreError};

/// Longest wait for an answer to anything but a claim.
pub(super) const CALL_DEADLINE: Duration = Duration::from_secs(2);
/// Records read with one call.
const PAGE: usize = 1_000;
/// Earlier runs for which a node speaks: more have not been heard of lately.
const RUNS_MAX: usize = 64;
/// A store keeps its deadline by itself; one that does not is given up on after this much more.
const CALL_GRACE: Duration = Duration::from_millis(100);
/// The shop's texts in the journal are clipped to so many characters.
const TEXT_CHARS_MAX: usize = 200;

#[derive(Debug)]
pub(super) struct Shared {
    store: Arc<dyn Store>,
    pub(super) journal: Journal,
    pub(super) book: Arc<SaleBook>,
    pub(super) clock: Clock,
    pub(super) node: NodeId,
    /// This run and the earlier ones that the journal knows.
    runs: Mutex<HashSet<NodeId>>,
    pub(super) limits: ArcSwap<Limits>,
    pub(super) sink: Sink,
    pub(super) runtime: Handle,
    pub(super) breaker: Breaker,
    pub(super) pace: Pace,
    pub(super) memory: Memory,
    pub(super) facts: Facts,
    pub(super) busy: Busy,
    desks: Mutex<HashMap<SaleId, Arc<Desk>>>,
    /// Whether each of the config's declarations was tried once.
    pub(super) declared: watch::Sender<bool>,
    pub(super) of_config: Mutex<OfConfig>,
    /// What keeps a sale from being as declared, or from being recovered, in words.
    troubles: Mutex<BTreeMap<(Concern, SaleId), String>>,
    /// The first task that panicked.
    died: watch::Sender<Option<&'static str>>,
}

/// What a trouble with a sale is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Concern {
    Declaration,
    Recovery,
    Outcomes,
}

impl Shared {
    /// Also returns what the watch over the store hears.
    pub(super) fn new(
        parts: Parts,
        history: &History,
        remembered: Vec<Remembered>,
    ) -> (Arc<Shared>, mpsc::UnboundedReceiver<Whose>) {
        let Parts { store, journal, book, clock, node, limits, sink, runtime, .. } = parts;
        let mut runs = history.runs().clone();
        runs.insert(node);
        let (breaker, opened) = Breaker::new(store.health());
        let shared = Shared {
            store,
            journal,
            book,
            clock,
            node,
            runs: Mutex::new(runs),
            limits: ArcSwap::from_pointee(limits),
            sink,
            runtime,
            breaker,
            pace: Pace::default(),
            memory: Memory::of(history),
            facts: Facts::of(history, remembered, &limits),
            busy: Busy::default(),
            desks: Mutex::default(),
            declared: watch::Sender::new(false),
            of_config: Mutex::default(),
            troubles: Mutex::default(),
            died: watch::Sender::new(None),
        };
        (Arc::new(shared), opened)
    }

    /// Runs a task that lives as long as the node. If it panics, [`Shared::death`] says so: a sale
    /// whose claims or outcomes nobody handles any more must not go unnoticed.
    pub(super) fn task(&self, what: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let witness = Witness { died: self.died.clone(), what };
        self.runtime.spawn(async move {
            let _witness = witness;
            task.await;
        });
    }

    /// Waits until a task panicked; says which.
    pub(super) async fn death(&self) -> &'static str {
        let mut died = self.died.subscribe();
        let died = died.wait_for(Option::is_some).await.ok().and_then(|died| *died);
        match died {
            Some(what) => what,
            None => std::future::pending().await,
        }
    }

    pub(super) fn is_open(&self, sale: &SaleId) -> bool {
        self.breaker.is_closed(sale) && self.journal.is_writable()
    }

    /// The desk of a sale, opened the first time. There are as many as sales that somebody named, and
    /// requests name only those of the book.
    pub(super) fn desk(self: &Arc<Shared>, sale: &SaleId) -> Arc<Desk> {
        let mut desks = self.desks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(desk) = desks.get(sale) {
            return desk.clone();
        }
        let desk = Desk::open(self, sale.clone());
        desks.insert(sale.clone(), desk.clone());
        desk
    }

    /// Calls the store; tells the book and the breaker what came of it.
    pub(super) async fn call(
        &self,
        sale: &SaleId,
        op: Op,
        deadline: Duration,
    ) -> Result<Reply, StoreError> {
        self.sink.inc(Counter::StoreCalls);
        let heard = self.clock.mono();
        let called = timeout(deadline + CALL_GRACE, self.store.call(sale, op, deadline)).await;
        let result = called.unwrap_or(Err(StoreError::MaybeApplied));
        match &result {
            Ok(reply) => {
                self.breaker.mend(Some(sale));
                if let Some(state) = &reply.state {
                    self.facts.hear(state, reply.now);
                    if self.store_forgets() && self.facts.reported(sale) != Some(state.mark()) {
                        self.facts.wake.notify_one();
                    }
                    self.book.apply(Update { state: state.clone(), heard });
                }
            }
            Err(error) => {
                self.sink.inc(Counter::StoreErrors);
                if !matches!(error, StoreError::Refused(_) | StoreError::NotDurable) {
                    self.breaker.trip(sale, error);
                }
            }
        }
        result
    }

    /// Waits until this node may call the store for `sale` again. Where nobody else uses the store there
    /// is nothing to share.
    pub(super) async fn turn(&self, sale: &SaleId) {
        if self.store_forgets() {
            self.pace.turn(self.facts.nodes(sale)).await;
        }
    }

    /// The sales that the store knows.
    pub(super) async fn sales(&self) -> Result<Vec<SaleId>, StoreError> {
        let late = || StoreError::NotSent("no answer in time".to_owned());
        timeout(CALL_DEADLINE, self.store.sales()).await.unwrap_or_else(|_| Err(late()))
    }

    pub(super) async fn records(
        &self,
        sale: &SaleId,
        user: Option<UserKey>,
        after: Option<UserKey>,
        max: usize,
    ) -> Result<Vec<Record>, StoreError> {
        let late = || StoreError::NotSent("no answer in time".to_owned());
        let asked = self.store.records(sale, user, after, max);
        timeout(CALL_DEADLINE, asked).await.unwrap_or_else(|_| Err(late()))
    }

    /// Every record of a sale; as many as the ledger holds.
    pub(super) async fn all_records(&self, sale: &SaleId) -> Result<Vec<Record>, StoreError> {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let page = self.records(sale, None, after, PAGE).await?;
            // A page ends with a whole user; a store that repeats itself must not keep us here.
            let last = page.iter().map(|record| record.user).max();
            if last.is_none() || last <= after {
                return Ok(all);
            }
            after = last;
            all.extend(page);
        }
    }

    /// Whether the store may lose what it acknowledged.
    pub(super) fn store_forgets(&self) -> bool {
        self.store.forgets()
    }

    /// Earlier runs of this node, whose journal it has.
    pub(super) fn earlier_runs(&self) -> Vec<NodeId> {
        self.runs().iter().filter(|run| **run != self.node).take(RUNS_MAX).copied().collect()
    }

    /// What this node has re-asserted everything to.
    pub(super) fn reported(&self, sale: &SaleId) -> Option<Mark> {
        match self.store_forgets() {
            true => self.facts.reported(sale),
            // Where nothing is forgotten there is nothing to re-assert.
            false => Some(self.book.sale(sale).map(|sale| sale.state.mark()).unwrap_or_default()),
        }
    }

    /// Whether nobody is admitted to `sale` now, because its ledger is told what it may have forgotten.
    pub(super) fn is_learning(&self, sale: &SaleId) -> bool {
        let now = self.clock.now().ledger;
        self.store_forgets()
            && self.book.sale(sale).is_some_and(|known| {
                known.state.is_learning_at(now)
                    || self.facts.reported(sale) != Some(known.state.mark())
                    || !self.facts.has_joined(sale, self.clock.mono())
            })
    }

    /// Whether this node made the claim, in this run or an earlier one.
    pub(super) fn is_ours(&self, record: &Record) -> bool {
        self.is_our_run(&record.node)
    }

    pub(super) fn is_our_run(&self, node: &NodeId) -> bool {
        self.runs().contains(node)
    }

    /// A run of this node has ended: what it left is ours.
    pub(super) fn add_runs(&self, ended: &HashSet<NodeId>) {
        self.runs().extend(ended);
    }

    fn runs(&self) -> MutexGuard<'_, HashSet<NodeId>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the outcome of a claim: it is remembered, journalled, and delivered to the ledger until
    /// it has it. `told` hears what the ledger made of it.
    pub(super) fn settle(
        &self,
        desk: &Desk,
        claim: ClaimId,
        past: &Past,
        outcome: Outcome,
        token: Token,
        told: Option<oneshot::Sender<Resolved>>,
    ) {
        let Outcome { verdict, status, code, order } = outcome;
        self.sink.inc(match verdict {
            Verdict::Confirmed => Counter::OutcomeConfirmed,
            Verdict::Void => Counter::OutcomeVoid,
            Verdict::Failed => Counter::OutcomeFailed,
            Verdict::Unknown => Counter::OutcomeUnknown,
            Verdict::Pending => Counter::OutcomePending,
        });
        let past = Past {
            event: event_of(verdict),
            status,
            code: code.map(clipped),
            order: order.map(clipped),
            ..past.clone()
        };
        let now = self.clock.now();
        self.memory.note(claim, &past, now.mono);
        let line = past.line(claim, now.ledger);
        let hold_until =
            (verdict == Verdict::Pending).then(|| now.ledger.plus(self.limits.load().pay_ttl_ms));
        self.facts.note(claim, &past, hold_until, now.mono);
        let resolution = past.resolution(claim, verdict, hold_until);
        desk.due(Due { resolution, line: Some(line), not_after: None, told, _token: token });
    }

    /// Undoes an admission that is not handed out, and may not even have been applied yet: with
    /// `not_after`, until the ledger's clock is past it. `line` stands in the journal where the
    /// admission may stand there too.
    pub(super) fn undo(
        &self,
        desk: &Desk,
        claim: ClaimId,
        past: &Past,
        not_after: Option<UnixMs>,
        line: Option<Line>,
    ) {
        let past = Past { event: Event::Failed, ..past.clone() };
        self.facts.note(claim, &past, None, self.clock.mono());
        let resolution = past.resolution(claim, Verdict::Failed, None);
        let token = self.busy.token();
        desk.due(Due { resolution, line, not_after, told: None, _token: token });
    }

    pub(super) fn set_trouble(&self, concern: Concern, sale: &SaleId, text: Option<String>) {
        let mut troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (concern, sale.clone());
        let old = match text.clone() {
            Some(text) => troubles.insert(key, text),
            None => troubles.remove(&key),
        };
        // Recovery begins with its trouble: that is no event.
        if let Some(text) = text.filter(|t| concern != Concern::Recovery && old.as_ref() != Some(t))
        {
            tracing::error!("{text}");
        }
    }

    pub(super) fn has_trouble(&self, concern: Concern, sale: &SaleId) -> bool {
        let troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        troubles.contains_key(&(concern, sale.clone()))
    }

    pub(super) fn troubles(&self, of: impl Fn(Concern) -> bool) -> Vec<String> {
        let troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        troubles.iter().filter(|((c, _), _)| of(*c)).map(|(_, text)| text.clone()).collect()
    }

    pub(super) fn health(&self) -> Vec<String> {
        // The store may be there and admit nobody, such as a Redis that evicts: calls do not fail then.
        let store = self.breaker.trouble().or_else(|| self.store.health().err());
        let store = store.map(|text| format!("store: {text}"));
        let journal = self.journal.trouble().map(|text| format!("journal: {text}"));
        let others = self.troubles(|concern| concern != Concern::Declaration);
        store.into_iter().chain(journal).chain(others).collect()
    }
}

fn event_of(verdict: Verdict) -> Event {
    match verdict {
        Verdict::Confirmed => Event::Confirmed,
        Verdict::Failed => Event::Failed,
        Verdict::Unknown => Event::Unknown,
        Verdict::Pending => Event::Pending,
        Verdict::Void => Event::Void,
    }
}

fn clipped(text: String) -> String {
    match text.char_indices().nth(TEXT_CHARS_MAX) {
        Some((at, _)) => text.get(..at).unwrap_or_default().to_owned(),
        None => text,
    }
}

/// Is dropped with its task, and sees whether that is by a panic.
struct Witness {
    died: watch::Sender<Option<&'static str>>,
    what: &'static str,
}

impl Drop for Witness {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.died.send_replace(Some(self.what));
        }
    }
}

/// Counts permits and outcomes that are under way.
#[derive(Clone, Debug, Default)]
pub(super) struct Busy(Arc<watch::Sender<usize>>);

/// One permit or outcome; dropped when the ledger has it.
#[derive(Debug)]
pub(super) struct Token(Busy);

impl Busy {
    pub(super) fn token(&self) -> Token {
        self.0.send_modify(|n| *n += 1);
        Token(self.clone())
    }

    pub(super) fn count(&self) -> usize {
        *self.0.borrow()
    }

    /// Waits until none is left, at most `longest`; returns how many are.
    pub(super) async fn idle(&self, longest: Duration) -> usize {
        let mut count = self.0.subscribe();
        match timeout(longest, count.wait_for(|n| *n == 0)).await {
            Ok(_) => 0,
            Err(_) => self.count(),
        }
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        self.0.0.send_modify(|n| *n = n.saturating_sub(1));
    }
}
