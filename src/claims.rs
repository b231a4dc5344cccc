//! From a decision to an outcome: claims go to the store in batches, an admission is written to the
//! journal before it is sent, and every permit ends in an outcome.
//!
//! ```text
//! gate ─ claim(Ask) ─→ batch ─→ store ─→ journal ─→ Permit ─ begin_send ─→ Sent ─ resolve ─→ outcome
//!                                                     └ dropped: F           └ dropped: X
//! ```
//!
//! Everything here runs on the control runtime; callers may be on any thread. `batch` claims,
//! `resolve` delivers outcomes, `reap` sends what nobody resolved to limbo, `recover` finishes
//! what an earlier run of this node began, [`declare`] applies the config's sales, [`limbo`] settles
//! what nobody knows, `learn` tells a ledger that forgot what this node knows (`facts`), `breaker`
//! refuses at once while the store is down, `pace` bounds the calls of a fleet, `memory` is what this node
//! remembers of its claims and `forget` what it need not.

mod batch;
mod breaker;
pub mod declare;
mod desk;
mod facts;
mod forget;
mod learn;
pub mod limbo;
mod memory;
mod pace;
mod permit;
mod reap;
mod recover;
mod refusals;
mod resolve;
mod shared;

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::clock::{Clock, MonoMs};
use crate::config::Settings;
use crate::ident::{AttemptId, ClaimId, Name, NodeId, RequestId, SaleId, UserKey};
use crate::journal::Journal;
use crate::ledger::{Claimed, Op, Record, RecordKind, Reply};
use crate::metrics::Sink;
use crate::outcome::Verdict;
use crate::sale::{Declaration, SaleBook, SaleSnapshot};
use crate::store::{Store, StoreError};

pub use memory::History;
pub use permit::{Permit, Sent};
use shared::Shared;

/// What a purchase asks for.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The sale.
    pub sale: SaleId,
    /// What the client repeats.
    pub attempt: AttemptId,
    /// The buyer.
    pub user: UserKey,
    /// The pool.
    pub pool: Name,
    /// Units.
    pub units: u32,
    /// The request, for logs.
    pub request: RequestId,
}

/// What a claim came to.
#[derive(Debug)]
pub enum Claim {
    /// Admitted, and in the journal.
    Admitted(Permit),
    /// Refused by the ledger.
    Refused(Claimed),
    /// The store or the journal is down: nothing was admitted, or it is undone.
    Unavailable,
    /// The queue of claims is full.
    Overloaded,
}

/// What the shop's answer to an admitted purchase came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The verdict.
    pub verdict: Verdict,
    /// The shop's status, if it answered.
    pub status: Option<u16>,
    /// The shop's code, if a rule read one.
    pub code: Option<String>,
    /// The order's number, if a rule read it.
    pub order: Option<String>,
}

/// What this node knows of a user in a sale without asking the ledger. A hint for those who ask
/// again, never a right: the ledger decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// What the newest record says.
    pub kind: RecordKind,
    /// Its claim.
    pub claim: ClaimId,
    /// Its attempt.
    pub attempt: AttemptId,
    /// The order's number, if it was heard.
    pub order: Option<String>,
}

/// Bounds and times of claims, from the settings.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Claims in one batch.
    pub batch_max: usize,
    /// Claims of one sale that wait for a batch.
    pub queue_max: usize,
    /// From sending a batch to giving up on its answer.
    pub claim_deadline: Duration,
    /// How long a record may stay A.
    pub claim_ttl_ms: u64,
    /// How long a record may stay P.
    pub pay_ttl_ms: u64,
    /// How long nobody is admitted after the ledger may have forgotten something.
    pub learn_ms: u64,
}

impl Limits {
    /// What the settings say.
    pub fn of(settings: &Settings) -> Limits {
        let (store, gate) = (&settings.store, &settings.gate);
        let wait = match store.wait_replicas {
            0 => Duration::ZERO,
            _ => store.wait_timeout.duration(),
        };
        let number = |n: u32| usize::try_from(n).unwrap_or(usize::MAX).max(1);
        Limits {
            batch_max: number(store.batch_max),
            queue_max: number(store.queue_max),
            claim_deadline: store.claim_deadline().duration() + wait,
            claim_ttl_ms: gate.claim_ttl.ms,
            pay_ttl_ms: gate.pay_ttl.ms,
            learn_ms: store.learn.ms,
        }
    }
}

/// What claims are made of.
#[derive(Debug)]
pub struct Parts {
    /// The ledger.
    pub store: Arc<dyn Store>,
    /// The journal, open.
    pub journal: Journal,
    /// What stood in the journal when it was opened.
    pub history: History,
    /// Where the rest of the edge finds sales.
    pub book: Arc<SaleBook>,
    /// The clocks.
    pub clock: Clock,
    /// This run of this node.
    pub node: NodeId,
    /// Bounds and times.
    pub limits: Limits,
    /// The process from which this one takes over, while it still finishes what it began.
    pub predecessor: Option<Predecessor>,
    /// Where the sales are remembered; `None`: nowhere.
    pub sales_file: Option<PathBuf>,
    /// The config's sales, see [`declare::of_config`].
    pub declarations: Vec<(SaleId, Declaration)>,
    /// Counters.
    pub sink: Sink,
    /// The control runtime.
    pub runtime: Handle,
}

/// A process whose work this one takes over.
pub struct Predecessor {
    /// Its run: claims of it are its own until it has ended.
    pub node: NodeId,
    /// Ready when it has ended, with what stands in the journal then.
    pub ended: Pin<Box<dyn Future<Output = History> + Send>>,
}

impl std::fmt::Debug for Predecessor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Predecessor").field("node", &self.node).finish_non_exhaustive()
    }
}

/// The way to the ledger. Cheap to clone; usable from any thread.
#[derive(Clone, Debug)]
pub struct Claims {
    shared: Arc<Shared>,
}

impl Claims {
    /// Starts claiming. In the background it finishes what an earlier run began, applies the
    /// declarations, reaps, and watches the store; it needs no store that answers.
    pub fn start(mut parts: Parts) -> Claims {
        let mut history = std::mem::take(&mut parts.history);
        let predecessor = parts.predecessor.take();
        if let Some(predecessor) = &predecessor {
            history.without(predecessor.node);
        }
        let declarations = std::mem::take(&mut parts.declarations);
        let file = parts.sales_file.take();
        let remembered = file.as_deref().map(learn::remembered).unwrap_or_default();
        let (shared, opened) = Shared::new(parts, &history, remembered);
        shared.task("the watch over the store", breaker::watch(shared.clone(), opened));
        shared.task("the reaper", reap::run(shared.clone()));
        shared.task("forgetting what others settled", forget::run(shared.clone()));
        recover::start(&shared, history);
        if let Some(predecessor) = predecessor {
            shared.task("the taking over", recover::take_over(shared.clone(), predecessor));
        }
        shared.task("the re-assertion", learn::run(shared.clone(), file));
        declare::start(&shared, declarations);
        Claims { shared }
    }

    /// Claims what `ask` says. It may be dropped at any time: an admission that nobody waits for is
    /// undone.
    pub async fn claim(&self, ask: Ask) -> Claim {
        if !self.is_open(&ask.sale) {
            return Claim::Unavailable;
        }
        let desk = self.shared.desk(&ask.sale);
        let (told, claim) = oneshot::channel();
        if let Some(refused) = desk.claim(batch::Waiting { ask, told }) {
            return refused;
        }
        claim.await.unwrap_or(Claim::Unavailable)
    }

    /// Other bounds and times for claims that come from now on. Queues are as long as they were.
    pub fn set_limits(&self, limits: Limits) {
        self.shared.limits.store(Arc::new(limits));
    }

    /// Whether claims of `sale` can be tried now: its ledger answers and the journal can be written.
    pub fn is_open(&self, sale: &SaleId) -> bool {
        self.shared.is_open(sale)
    }

    /// Whether every sale that this node knows, and that is not over, would admit a purchase now as far as
    /// the memory of its ledger goes: this node has re-asserted what it knows, and the others know that it
    /// is there. A ledger that does not answer is not waited for.
    pub fn are_told(&self) -> bool {
        let now = self.shared.clock.now().ledger;
        let is_told = |sale: &Arc<SaleSnapshot>| {
            let id = &sale.state.id;
            sale.state.is_ended_at(now)
                || !self.shared.breaker.is_closed(id)
                || !self.shared.is_learning(id)
        };
        self.shared.book.all().iter().all(is_told)
    }

    /// How many nodes claim for `sale`, as its ledger says, this one among them.
    pub fn nodes(&self, sale: &SaleId) -> usize {
        self.shared.facts.nodes(sale)
    }

    /// Whether other nodes may claim from the same ledger.
    pub fn is_shared(&self) -> bool {
        // A store of this machine alone, which forgets nothing, is one node's.
        self.shared.store_forgets()
    }

    /// What this node knows of `user` in `sale`. Never waits.
    pub fn known(&self, sale: &SaleId, user: &UserKey) -> Option<Known> {
        self.shared.memory.known(sale, user, || self.shared.clock.mono())
    }

    /// Milliseconds since `then`, rounded up: nothing is younger than this says.
    pub fn age_ms(&self, then: MonoMs) -> u64 {
        self.shared.clock.mono().since(then) + 1
    }

    /// Applies an operation for an operator; the book hears of it at once. Sales are declared with
    /// [`Claims::declare`].
    pub async fn call(&self, sale: &SaleId, op: Op) -> Result<Reply, StoreError> {
        self.shared.call(sale, op, shared::CALL_DEADLINE).await
    }

    /// Records of a sale, those of one user or all: whole users, from the one behind `after` on.
    pub async fn records(
        &self,
        sale: &SaleId,
        user: Option<UserKey>,
        after: Option<UserKey>,
        max: usize,
    ) -> Result<Vec<Record>, StoreError> {
        self.shared.records(sale, user, after, max).await
    }

    /// What is wrong, in words; nothing when claims can be made.
    pub fn health(&self) -> Vec<String> {
        self.shared.health()
    }

    /// Waits until every outcome is with the ledger, at most `longest`. Returns how many are not; they
    /// stand in the journal, and the next start delivers them.
    pub async fn drain(&self, longest: Duration) -> usize {
        let left = self.shared.busy.idle(longest).await;
        if let Err(cause) = self.shared.journal.sync().await {
            tracing::error!("at the end: {cause}");
        }
        left
    }

    /// Waits until a task of the claims panicked, and says which: the process should end then, the next
    /// start finishes what was under way.
    pub async fn death(&self) -> String {
        format!("a task of the claims died: {}", self.shared.death().await)
    }

    /// Permits and outcomes that are under way.
    pub fn under_way(&self) -> usize {
        self.shared.busy.count()
    }
}

#[cfg(test)]
mod tests;
