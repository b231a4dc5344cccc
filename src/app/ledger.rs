//! The ledger's side of a node: journal, store, claims, and the mirror that keeps the book in step.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::AppError;
use crate::claims::{self, Claims, History, Predecessor};
use crate::clock::Clock;
use crate::config::Settings;
use crate::config::schema::{self, StoreKind};
use crate::follow::Follower;
use crate::follow::lists::{self, Lists};
use crate::ident::NodeId;
use crate::journal::{self, Journal};
use crate::metrics::{Counter, Registry, Sink};
use crate::sale::SaleBook;
use crate::store::Store;
use crate::store::embedded::Embedded;
use crate::store::redis::reader::Reader;
use crate::store::redis::{BadStore, Redis};

/// What holds the ledger, and the way to it.
pub(super) struct Ledger {
    pub store: Arc<dyn Store>,
    pub claims: Claims,
    /// The shop's own numbers.
    follower: Arc<Follower>,
    /// Lists of users.
    pub lists: Arc<Lists>,
    pub journal: Journal,
    /// This run.
    pub node: NodeId,
}

/// The process whose ledger this one takes over.
pub(super) struct Before {
    pub node: NodeId,
    pub lock: Option<OwnedFd>,
    /// Ends when it has ended.
    pub ended: oneshot::Receiver<()>,
}

impl Ledger {
    /// Opens the journal and the store and starts claiming. A store in another process need not
    /// answer: the node starts all the same.
    pub(super) async fn open(
        settings: &Settings,
        book: &Arc<SaleBook>,
        clock: &Clock,
        registry: &Registry,
        before: Option<Before>,
    ) -> Result<Ledger, AppError> {
        let declarations = claims::declare::of_config(settings).map_err(AppError::Config)?;
        book.expect_sets(lists::named(settings).into_keys().collect());
        let dir = settings.state_dir();
        let mut history = History::default();
        let sync = settings.journal_sync;
        let lines = |line| history.note(line);
        let (before, lock) = match before {
            Some(Before { node, lock, ended }) => (Some((node, ended)), lock),
            None => (None, None),
        };
        let opened = Journal::open_shared(&dir, lock, sync, clock.clone(), registry.sink(), lines);
        let (journal, _) = opened.map_err(|error| AppError::Boot(error.to_string()))?;
        let predecessor = before.map(|(node, ended)| predecessor(node, ended, &dir));
        let node = NodeId::random();
        let (store, shop) = store(settings, clock, registry).await?;
        let claims = Claims::start(claims::Parts {
            store: store.clone(),
            journal: journal.clone(),
            history,
            book: book.clone(),
            clock: clock.clone(),
            node,
            predecessor,
            limits: claims::Limits::of(settings),
            sales_file: Some(dir.join("sales.json")),
            declarations,
            sink: registry.sink(),
            runtime: Handle::current(),
        });
        let (shop, to) = (Arc::new(shop), claims.clone());
        let (of, now, sink) = (book.clone(), clock.clone(), registry.sink());
        let lists = Lists::new(settings, shop.clone(), to, of, now, sink);
        let (to, of, now, sink) = (claims.clone(), book.clone(), clock.clone(), registry.sink());
        let follower = Follower::new(&settings.shop, shop, to, of, now, sink);
        let (follower, lists) = (Arc::new(follower), Arc::new(lists));
        Ok(Ledger { store, claims, follower, lists, journal, node })
    }

    /// Keeps the book in step, reads what is the shop's, and sees to it that a dead task of the claims ends the process.
    pub(super) fn keep(
        &self,
        book: &Arc<SaleBook>,
        clock: &Clock,
        sink: Sink,
        tasks: &mut JoinSet<String>,
    ) {
        tasks.spawn(keep_mirror(self.store.clone(), book.clone(), clock.clone(), sink));
        let claims = self.claims.clone();
        tasks.spawn(async move { claims.death().await });
        tasks.spawn(self.follow());
    }

    /// Reads what is the shop's for as long as it is polled.
    fn follow(&self) -> impl Future<Output = String> + Send + use<> {
        let (follower, lists) = (self.follower.clone(), self.lists.clone());
        async move {
            tokio::join!(follower.run(), lists.run());
            "the reader of the shop's numbers ended".to_owned()
        }
    }

    /// Waits until the book knows the store's sales and the config's, so that the first client is not
    /// told that a sale is unknown. A store that does not answer is not waited for.
    pub(super) async fn settle(&self, book: &SaleBook) {
        let synced = async {
            self.claims.declared().await;
            while !book.is_synced() {
                tokio::time::sleep(SETTLE_LOOK).await;
            }
        };
        if tokio::time::timeout(SETTLE_LONGEST, synced).await.is_err() {
            tracing::warn!("the store has not told its sales yet: starting without");
        }
    }

    /// Waits until this node may claim, while the process before it still serves: the ledgers have heard
    /// what it knows, and the other nodes that it is there. Else an upgrade would cost the purchases of
    /// that time.
    pub(super) async fn be_told(&self) {
        let told = async {
            while !self.claims.are_told() {
                tokio::time::sleep(SETTLE_LOOK).await;
            }
        };
        if tokio::time::timeout(TOLD_LONGEST, told).await.is_err() {
            tracing::warn!(
                "a ledger has not heard yet what this process knows: taking over without"
            );
        }
    }
}

fn predecessor(node: NodeId, ended: oneshot::Receiver<()>, state_dir: &Path) -> Predecessor {
    let dir = state_dir.join("journal");
    let ended = async move {
        // A sender that is dropped belongs to a start that failed.
        let _ = ended.await;
        let read = move || {
            let mut history = History::default();
            let read = journal::read(&dir, None, |line| history.note(line));
            (history, read)
        };
        match tokio::task::spawn_blocking(read).await {
            Ok((history, Ok(_))) => history,
            Ok((history, Err(cause))) => {
                tracing::error!("what the process before this one left cannot be read: {cause}");
                history
            }
            Err(panic) => {
                tracing::error!("what the process before this one left cannot be read: {panic}");
                History::default()
            }
        }
    };
    Predecessor { node, ended: Box::pin(ended) }
}

async fn store(
    settings: &Settings,
    clock: &Clock,
    registry: &Registry,
) -> Result<(Arc<dyn Store>, Option<Reader>), AppError> {
    let sink = registry.sink();
    let other = other_redis(settings)?;
    match settings.store.kind {
        StoreKind::Embedded => {
            let path = settings.state_dir().join("ledger.redb");
            let store = Embedded::open(&path, clock.clone(), &settings.store, sink);
            Ok((store.map_err(|error| AppError::Boot(error.to_string()))?, other))
        }
        StoreKind::Redis => {
            let store = Redis::open(&settings.store, clock.clone(), sink);
            let store = store.map_err(|error| AppError::Config(error.to_string()))?;
            // What it finds is in its health; one that hangs is not waited for.
            let _ = tokio::time::timeout(SETTLE_LONGEST, store.tried()).await;
            let shop = other.unwrap_or_else(|| Reader::of_store(store.clone()));
            Ok((store, Some(shop)))
        }
    }
}

/// The shop's Redis, where it is another one than the store's.
fn other_redis(settings: &Settings) -> Result<Option<Reader>, AppError> {
    let shop = &settings.shop;
    let Some(url) = &shop.redis_url else { return Ok(None) };
    let place = schema::Store {
        url: Some(url.clone()),
        username: shop.redis_username.clone(),
        password_file: shop.redis_password_file.clone(),
        connect_timeout: settings.store.connect_timeout,
        tls: settings.store.tls.clone(),
        ..schema::Store::default()
    };
    let named = |bad: BadStore| AppError::Config(bad.to_string().replace("store.", "shop.redis_"));
    Reader::of_other(&place).map(Some).map_err(named)
}

/// Keeps the mirror: it ends only by a bug, which must not take pages down with it. Meanwhile the book
/// ages, and says so.
async fn keep_mirror(
    store: Arc<dyn Store>,
    book: Arc<SaleBook>,
    clock: Clock,
    sink: Sink,
) -> String {
    loop {
        // A task of its own, so that a panic in it ends here.
        let mut mirror = JoinSet::new();
        mirror.spawn(store.clone().mirror(book.clone(), clock.clone()));
        if let Some(Err(panic)) = mirror.join_next().await {
            sink.inc(Counter::Panics);
            tracing::error!("the mirror of the store died and is started again: {panic}");
        }
        tokio::time::sleep(MIRROR_PAUSE).await;
    }
}

/// Longest wait for the store before clients are let in.
const SETTLE_LONGEST: Duration = Duration::from_secs(2);
/// Longest wait to be known to the ledgers before taking over: a report, the beats in which the others hear
/// of it, and a learning that is under way.
const TOLD_LONGEST: Duration = Duration::from_secs(12);
const SETTLE_LOOK: Duration = Duration::from_millis(5);
const MIRROR_PAUSE: Duration = Duration::from_secs(1);
