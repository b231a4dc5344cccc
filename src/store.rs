//! Where the ledger lives: one interface, several stores.
//!
//! A store applies an [`Op`] atomically and tells the sale as it is afterwards; the caller pushes that
//! into the book. A store also pushes by itself what others changed (the mirror).

pub mod embedded;
pub mod redis;
pub mod sim;

use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, UnixMs};
use crate::ident::{SaleId, UserKey};
use crate::ledger::{Op, Record, Reply};
use crate::sale::SaleBook;

/// Why a store call failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Provably not applied: the store was not reached.
    #[error("the store cannot be reached: {0}")]
    NotSent(String),
    /// It may have been applied: no answer in time.
    #[error("the store did not answer in time")]
    MaybeApplied,
    /// It was applied, and may be lost all the same: too few copies of it were made in time.
    #[error("too few replicas have it: it may be lost")]
    NotDurable,
    /// The store refused it as a whole; the text says what to do.
    #[error("the store refused: {0}")]
    Refused(String),
}

/// A store. Cheap to call from any thread.
pub trait Store: Send + Sync + std::fmt::Debug {
    /// Applies `op` to `sale` and waits at most `deadline`.
    fn call<'a>(
        &'a self,
        sale: &'a SaleId,
        op: Op,
        deadline: Duration,
    ) -> BoxFuture<'a, Result<Reply, StoreError>>;

    /// The sales that the store knows.
    fn sales(&self) -> BoxFuture<'_, Result<Vec<SaleId>, StoreError>>;

    /// Records of a sale: those of `user`, or whole users in the order of their keys, from the one
    /// behind `after` on. A page ends before the user who would make it longer than `max`, but has one
    /// user at least; an empty page is the end.
    fn records<'a>(
        &'a self,
        sale: &'a SaleId,
        user: Option<UserKey>,
        after: Option<UserKey>,
        max: usize,
    ) -> BoxFuture<'a, Result<Vec<Record>, StoreError>>;

    /// Keeps `book` in step with the store for as long as it is polled: every sale is told once, then
    /// the book is in sync; afterwards each change, and each time the store was heard. Tells `clock`
    /// what the store's clock shows.
    fn mirror(self: Arc<Self>, book: Arc<SaleBook>, clock: Clock) -> BoxFuture<'static, ()>;

    /// Tells every other node `words`, which may be told twice where the answer is lost. A store of one
    /// node has nobody to tell.
    fn tell<'a>(
        &'a self,
        words: &'a str,
        deadline: Duration,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        let _ = (words, deadline);
        Box::pin(std::future::ready(Ok(())))
    }

    /// Says that the node `me` is there and something about it, and hears what each node that is there
    /// said last, this one too. `now` is the ledger's time. A store of one node knows no other.
    fn meet<'a>(
        &'a self,
        me: u64,
        said: &'a str,
        now: UnixMs,
    ) -> BoxFuture<'a, Result<Vec<String>, StoreError>> {
        let _ = (me, now);
        Box::pin(std::future::ready(Ok(vec![said.to_owned()])))
    }

    /// From now on, while the mirror is kept, `ear` hears what nodes tell: this one too. It is called
    /// between two reads of the store and must not wait.
    fn listen(&self, ear: Ear) {
        let _ = ear;
    }

    /// Whether what is told by [`Store::tell`] reaches other nodes, and this one after a restart.
    fn carries_notices(&self) -> bool {
        false
    }

    /// How far this node has heard what nodes tell; `None`: not at all since it started.
    fn notices_place(&self) -> Option<String> {
        None
    }

    /// From now on what was told behind `place`, which another process had heard, is heard. Before the
    /// mirror is kept.
    fn resume_notices(&self, place: &str) {
        let _ = place;
    }

    /// Whether the store may lose what it acknowledged, such as a server that fails over. What it knows
    /// is re-asserted then.
    fn forgets(&self) -> bool {
        true
    }

    /// Whether the store can be used now; the text says what is wrong.
    fn health(&self) -> Result<(), String>;
}

/// What a node hears of the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// What one of them told, in an order that is the same for all.
    Said(String),
    /// Something may have been told that this node did not hear: before it listened, or while it was
    /// cut off for longer than notices are kept.
    Missed,
}

/// Hears notices.
pub type Ear = Box<dyn Fn(Notice) + Send + Sync>;

/// A boxed future that may move between threads.
pub type BoxFuture<'a, T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'a>>;
