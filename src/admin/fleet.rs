//! What nodes tell each other by the store: a purge on one is a purge on all.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::MissedTickBehavior;

use super::Context;
use super::purge::{self, Said};
use crate::clock::UnixMs;
use crate::metrics::Counter;
use crate::page::{Ban, Mode, Purge};
use crate::store::{Notice, Store, StoreError};

/// The way to the other nodes.
#[derive(Debug)]
pub struct Fleet {
    store: Arc<dyn Store>,
    /// By which a node knows its own words again.
    me: u64,
    /// The config of each node that is there, this one among them, as it was heard last.
    configs: Mutex<Vec<String>>,
}

/// What is told.
#[derive(Debug, Deserialize, Serialize)]
struct Told {
    from: u64,
    purge: Said,
}

impl Fleet {
    /// The nodes over `store`.
    pub fn new(store: Arc<dyn Store>) -> Fleet {
        Fleet { store, me: rand::random(), configs: Mutex::default() }
    }

    /// How many nodes run which config, by its hash. Empty: nothing was heard yet.
    pub(super) fn configs(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for config in &*self.configs.lock().unwrap_or_else(PoisonError::into_inner) {
            *counts.entry(config.clone()).or_default() += 1;
        }
        counts
    }

    async fn meet(&self, config: &str, now: UnixMs) {
        match self.store.meet(self.me, config, now).await {
            Ok(all) => *self.configs.lock().unwrap_or_else(PoisonError::into_inner) = all,
            Err(error) => tracing::debug!(%error, "the other nodes were not met"),
        }
    }

    /// Tells all others to purge.
    pub(super) async fn purge(&self, said: &Said) -> Result<(), StoreError> {
        let told = Told { from: self.me, purge: said.clone() };
        // Names and texts: it can always be written.
        let words = serde_json::to_string(&told).unwrap_or_default();
        self.store.tell(&words, TELL_LONGEST).await
    }
}

/// Says which config this node runs and hears of the others', for as long as it is polled.
pub(super) async fn keep_meeting(context: &Context) {
    let mut every = tokio::time::interval(MEET_EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        let config = context.view().config.hash.clone();
        context.fleet.meet(&config, context.clock.now().ledger).await;
    }
}

/// From now on `context` does what other nodes tell, for as long as it is there.
pub fn obey(context: &Arc<Context>) {
    let weak: Weak<Context> = Arc::downgrade(context);
    context.fleet.store.listen(Box::new(move |notice| {
        if let Some(context) = weak.upgrade() {
            hear(&context, &notice);
        }
    }));
}

fn hear(context: &Arc<Context>, notice: &Notice) {
    let words = match notice {
        Notice::Said(words) => words,
        Notice::Missed => {
            if context.cache.report().entries > 0 {
                context.sink.inc(Counter::NoticesMissed);
                tracing::warn!(
                    "a purge may have gone unheard: every page is removed, to be true for certain"
                );
            }
            return everything(context);
        }
    };
    let told: Told = match serde_json::from_str(words) {
        Ok(told) => told,
        Err(error) => return unread(context, &error),
    };
    if told.from == context.fleet.me {
        return;
    }
    context.sink.inc(Counter::NoticesHeard);
    match purge::begin(&told.purge, context) {
        Ok(bans) => sweep(context, bans),
        // It knows sites that this one does not: nothing of them is stored here.
        Err(refused) => tracing::debug!(status = %refused.status, "a purge of another node"),
    }
}

/// A newer version's words, or a stranger's. What they ask for is not known: to go on with pages that
/// may be purged would be a lie.
fn unread(context: &Arc<Context>, error: &serde_json::Error) {
    context.sink.inc(Counter::NoticesMissed);
    tracing::warn!(
        %error,
        "what another node told was not understood (an older version here?): every page is removed"
    );
    everything(context);
}

fn everything(context: &Arc<Context>) {
    sweep(context, vec![context.cache.ban(&Purge::All, Mode::Hard)]);
}

/// The bans hold; what they mean is removed on a thread of its own.
fn sweep(context: &Arc<Context>, bans: Vec<Arc<Ban>>) {
    let context = context.clone();
    tokio::spawn(async move {
        let purged = purge::sweep(bans, &context).await;
        tracing::info!(purged, "purged, as another node said");
    });
}

/// Between two signatures.
const MEET_EVERY: Duration = Duration::from_secs(5);

/// A purge that cannot be told in this time is said to have been done here alone.
const TELL_LONGEST: Duration = Duration::from_secs(2);
