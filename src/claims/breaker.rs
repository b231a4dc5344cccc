//! While the store does not answer, nobody waits for it: claims are refused at once, and one task asks
//! it again and again.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::shared::{CALL_DEADLINE, Shared};
use crate::ident::SaleId;
use crate::ledger::Op;
use crate::store::StoreError;

/// The breaker between the claims and the store.
#[derive(Debug)]
pub(super) struct Breaker {
    tripped: AtomicBool,
    failed: Mutex<Failed>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Failed {
    text: String,
    /// The sale to ask about; `None`: any.
    sale: Option<SaleId>,
}

impl Breaker {
    /// Closed where the store is said to be in health.
    pub(super) fn new(health: Result<(), String>) -> Breaker {
        let breaker = Breaker {
            tripped: AtomicBool::new(false),
            failed: Mutex::default(),
            wake: Notify::new(),
        };
        if let Err(text) = health {
            breaker.open(Failed { text, sale: None });
        }
        breaker
    }

    /// Whether calls may be made.
    pub(super) fn is_closed(&self) -> bool {
        !self.tripped.load(Ordering::Acquire)
    }

    /// What is wrong, if anything is.
    pub(super) fn trouble(&self) -> Option<String> {
        (!self.is_closed()).then(|| self.lock().text.clone())
    }

    /// A call failed.
    pub(super) fn trip(&self, sale: &SaleId, error: &StoreError) {
        self.open(Failed { text: error.to_string(), sale: Some(sale.clone()) });
    }

    /// A call was answered.
    pub(super) fn mend(&self) {
        if self.tripped.load(Ordering::Acquire) && self.tripped.swap(false, Ordering::AcqRel) {
            tracing::warn!("the store answers again: purchases are possible");
        }
    }

    fn open(&self, failed: Failed) {
        let text = failed.text.clone();
        *self.lock() = failed;
        if !self.tripped.swap(true, Ordering::AcqRel) {
            tracing::error!("purchases are refused until the store answers: {text}");
            self.wake.notify_one();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Failed> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks a store that failed until it answers.
pub(super) async fn watch(shared: Arc<Shared>) {
    loop {
        shared.breaker.wake.notified().await;
        let mut wait = PROBE_FIRST;
        while !shared.breaker.is_closed() {
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(PROBE_LAST);
            probe(&shared).await;
        }
    }
}

async fn probe(shared: &Shared) {
    let failed = shared.breaker.lock().sale.clone();
    match failed.or_else(|| shared.book.all().first().map(|sale| sale.state.id.clone())) {
        // An answer mends the breaker. A refusal is one too: what is wrong with one sale must not
        // close all others.
        Some(sale) => {
            let answer = shared.call(&sale, Op::Read, CALL_DEADLINE).await;
            if matches!(answer, Err(StoreError::Refused(_))) {
                shared.breaker.mend();
            }
        }
        None => {
            if shared.sales().await.is_ok() {
                shared.breaker.mend();
            }
        }
    }
}

const PROBE_FIRST: Duration = Duration::from_millis(100);
const PROBE_LAST: Duration = Duration::from_secs(1);
