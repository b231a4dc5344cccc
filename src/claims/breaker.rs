//! While a sale's ledger does not answer, nobody waits for it: claims are refused at once, and a task
//! asks it again and again. Each sale has a breaker of its own, since its ledger may stand in a server
//! that is away while those of others are well. The whole store is closed only where it is not there at
//! the start, until the first answer.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;

use super::shared::{CALL_DEADLINE, Shared};
use crate::ident::SaleId;
use crate::ledger::Op;
use crate::store::StoreError;

/// Whose ledger does not answer: a sale's, or `None`: the store's as a whole.
pub(super) type Whose = Option<SaleId>;

/// The breakers between the claims and the store.
#[derive(Debug)]
pub(super) struct Breaker {
    /// How many are open, so that calls that succeed take no lock.
    count: AtomicUsize,
    /// Those that are open, and why.
    open: Mutex<BTreeMap<Whose, String>>,
    /// Tells the watch what opened; as many as there are sales.
    opened: mpsc::UnboundedSender<Whose>,
}

impl Breaker {
    /// Closed where the store is said to be in health. The watch hears from the receiver what opens.
    pub(super) fn new(health: Result<(), String>) -> (Breaker, mpsc::UnboundedReceiver<Whose>) {
        let (opened, told) = mpsc::unbounded_channel();
        let (count, open) = Default::default();
        let breaker = Breaker { count, open, opened };
        if let Err(text) = health {
            breaker.open(None, text);
        }
        (breaker, told)
    }

    /// Whether calls for `sale` may be made.
    pub(super) fn is_closed(&self, sale: &SaleId) -> bool {
        self.count.load(Ordering::Acquire) == 0 || {
            let open = self.lock();
            !open.contains_key(&None) && !open.contains_key(&Some(sale.clone()))
        }
    }

    /// What is wrong, if anything is: with the whole store, else with the first of the sales.
    pub(super) fn trouble(&self) -> Option<String> {
        let open = self.lock();
        let (whose, text) = open.first_key_value()?;
        Some(match whose {
            None => text.clone(),
            Some(sale) => format!("sale {sale}: {text}"),
        })
    }

    /// A call for `sale` failed.
    pub(super) fn trip(&self, sale: &SaleId, error: &StoreError) {
        self.open(Some(sale.clone()), error.to_string());
    }

    /// A call for `sale` was answered, or with `None` one for no sale: the store is there.
    pub(super) fn mend(&self, sale: Option<&SaleId>) {
        if self.count.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut open = self.lock();
        let was_gone = open.remove(&None).is_some();
        let mended = sale.filter(|sale| open.remove(&Some((*sale).clone())).is_some());
        self.count.store(open.len(), Ordering::Release);
        drop(open);
        if was_gone {
            tracing::warn!("the store answers: purchases are possible");
        }
        if let Some(sale) = mended {
            tracing::warn!("{sale}: the store answers again: purchases are possible");
        }
    }

    fn open(&self, whose: Whose, text: String) {
        let mut open = self.lock();
        let is_news = open.insert(whose.clone(), text.clone()).is_none();
        self.count.store(open.len(), Ordering::Release);
        drop(open);
        if is_news {
            let of = whose.as_ref().map(|sale| format!("{sale}: ")).unwrap_or_default();
            tracing::error!("{of}purchases are refused until the store answers: {text}");
            // Without a watch the process is ending.
            let _ = self.opened.send(whose);
        }
    }

    fn is_open(&self, whose: &Whose) -> bool {
        self.count.load(Ordering::Acquire) != 0 && self.lock().contains_key(whose)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Whose, String>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks for each ledger that failed until it answers. One that hangs does not hold up the others.
pub(super) async fn watch(shared: Arc<Shared>, mut opened: mpsc::UnboundedReceiver<Whose>) {
    while let Some(whose) = opened.recv().await {
        shared.task("the watch over a ledger", ask(shared.clone(), whose));
    }
}

async fn ask(shared: Arc<Shared>, whose: Whose) {
    let mut wait = PROBE_FIRST;
    for turn in 0.. {
        tokio::time::sleep(wait).await;
        if !shared.breaker.is_open(&whose) {
            return;
        }
        wait = (wait * 2).min(PROBE_LAST);
        probe(&shared, &whose, turn).await;
    }
}

/// An answer mends the breaker. A refusal is one too: what is wrong with a sale is said by its claims.
async fn probe(shared: &Shared, whose: &Whose, turn: usize) {
    let any = || {
        let all = shared.book.all();
        let at = turn.checked_rem(all.len())?;
        all.get(at).map(|sale| sale.state.id.clone())
    };
    match whose.clone().or_else(any) {
        Some(sale) => {
            let answer = shared.call(&sale, Op::Read, CALL_DEADLINE).await;
            if matches!(answer, Err(StoreError::Refused(_))) {
                shared.breaker.mend(Some(&sale));
            }
        }
        None => {
            if shared.sales().await.is_ok() {
                shared.breaker.mend(None);
            }
        }
    }
}

const PROBE_FIRST: Duration = Duration::from_millis(100);
const PROBE_LAST: Duration = Duration::from_millis(250);
