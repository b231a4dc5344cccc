//! A node's store, a sale, and words for what tests do with them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use penstock::clock::{Clock, UnixMs};
use penstock::config::schema::{self, PerUser, Pool, Restock};
use penstock::config::units::{Span, Time};
use penstock::ident::{AttemptId, ClaimId, Name, NodeId, SaleId, Salt, UserKey};
use penstock::ledger::{
    ClaimBatch, Claimed, Declare, Declared, Fence, Op, OpResult, Reassert, Record, RecordKind,
    Reply, Resolution, Try,
};
use penstock::metrics::Sink;
use penstock::outcome::Verdict;
use penstock::sale::{Declaration, Mark, SaleBook, SaleState};
use penstock::store::redis::Redis;
use penstock::store::{Store, StoreError};

use crate::server::Server;

/// Generous: the machine of the tests may be busy.
pub const DEADLINE: Duration = Duration::from_secs(5);

/// One node's way to the ledger.
pub struct Node {
    pub store: Arc<Redis>,
    pub clock: Clock,
    pub id: NodeId,
    pub book: Arc<SaleBook>,
    /// The generation of each ledger's memory that this node met last: it has nothing to re-assert.
    marks: Mutex<BTreeMap<SaleId, Mark>>,
    mirror: Option<tokio::task::JoinHandle<()>>,
}

impl Node {
    /// A node that may not be connected yet.
    pub fn open(settings: &schema::Store) -> Node {
        // Shown with a test that fails: what an operator would have read.
        let _ = tracing_subscriber::fmt().with_test_writer().without_time().try_init();
        let clock = Clock::system();
        let store = Redis::open(settings, clock.clone(), Sink::detached()).expect("good settings");
        let book = Arc::new(SaleBook::new());
        Node { store, clock, id: NodeId::random(), book, marks: Mutex::default(), mirror: None }
    }

    /// A connected node.
    pub async fn connected(server: &Server) -> Node {
        let node = Node::open(&server.settings());
        until("the node is healthy", async || node.store.health().is_ok()).await;
        node
    }

    /// A connected node whose book is in sync.
    pub async fn mirroring(server: &Server) -> Node {
        let mut node = Node::connected(server).await;
        node.mirror();
        until("the book is in sync", async || node.book.is_synced()).await;
        node
    }

    /// Begins to mirror.
    pub fn mirror(&mut self) {
        let mirror = self.store.clone().mirror(self.book.clone(), self.clock.clone());
        self.mirror = Some(tokio::spawn(mirror));
    }

    /// Calls the ledger of a sale, and remembers which generation of its memory answered.
    pub async fn tell(
        &self,
        sale: &SaleId,
        op: Op,
        deadline: Duration,
    ) -> Result<Reply, StoreError> {
        let reply = self.store.call(sale, op, deadline).await;
        if let Ok(Reply { state: Some(state), .. }) = &reply {
            self.marks.lock().expect("marks").insert(sale.clone(), state.mark());
        }
        reply
    }

    pub async fn try_call(&self, op: Op) -> Result<Reply, StoreError> {
        self.tell(&sale(), op, DEADLINE).await
    }

    pub async fn call(&self, op: Op) -> Reply {
        self.try_call(op).await.expect("a reply")
    }

    pub async fn declare(&self, declaration: Declaration) -> Declared {
        match self.call(declare(declaration)).await.result {
            OpResult::Declared(declared) => declared,
            other => panic!("{other:?}"),
        }
    }

    pub async fn claim(&self, tries: Vec<Try>) -> Vec<Claimed> {
        match self.call(Op::Claim(self.batch(tries))).await.result {
            OpResult::Claimed(claimed) => claimed,
            other => panic!("{other:?}"),
        }
    }

    pub fn batch(&self, tries: Vec<Try>) -> ClaimBatch {
        self.batch_of(&sale(), tries)
    }

    /// Claims of a sale.
    pub fn batch_of(&self, sale: &SaleId, tries: Vec<Try>) -> ClaimBatch {
        let not_after = UnixMs(u64::MAX);
        ClaimBatch {
            node: self.id,
            not_after,
            claim_ttl_ms: 3_600_000,
            reported: self.reported(sale),
            fence: Fence { learn_ms: 2_000, seen: 0 },
            tries,
        }
    }

    /// Says to the ledger that this node lives and has nothing more to re-assert.
    pub async fn report(&self) {
        self.report_of(&sale()).await.expect("a reply");
    }

    /// The same to the ledger of a sale, as nodes do whose claims are told that it learns.
    pub async fn report_of(&self, sale: &SaleId) -> Result<(), StoreError> {
        for _ in 0..2 {
            let fence = Fence { learn_ms: 2_000, seen: 0 };
            let reported = self.reported(sale);
            let said = Reassert { node: self.id, fence, reported, ..Reassert::default() };
            self.tell(sale, Op::Reassert(Box::new(said)), DEADLINE).await?;
        }
        Ok(())
    }

    fn reported(&self, sale: &SaleId) -> Option<Mark> {
        self.marks.lock().expect("marks").get(sale).copied()
    }

    pub async fn state(&self) -> SaleState {
        self.call(Op::Read).await.state.expect("a sale")
    }

    pub async fn records(&self) -> Vec<Record> {
        self.store.records(&sale(), None, None, usize::MAX).await.expect("records")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mirror) = &self.mirror {
            mirror.abort();
        }
    }
}

/// Polls until `is` holds.
pub async fn until(what: &str, is: impl AsyncFn() -> bool) {
    let polling = async {
        while !is().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let limit = Duration::from_secs(20);
    assert!(tokio::time::timeout(limit, polling).await.is_ok(), "{what}: not within {limit:?}");
}

pub fn sale() -> SaleId {
    "shop/drop".parse().expect("a sale id")
}

/// A key of the sale.
pub fn key(part: &str) -> String {
    format!("ps:{{shop/drop}}:{part}")
}

pub fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

/// A sale that opened a minute ago: one order of one unit each.
pub fn declaration(now: UnixMs, stock: u64) -> Declaration {
    Declaration {
        activity: name("8848"),
        opens_at: Time { at: UnixMs(now.0 - 60_000) },
        ends_at: None,
        per_user: PerUser::default(),
        overshoot: 1.0,
        pools: [(name("default"), Pool::of(stock))].into(),
        restock: Restock::Manual,
        restock_batch: 1,
        restock_debounce: Span::from_secs(30),
        revision: None,
    }
}

/// Declares a sale of `stock` units and opens it.
pub async fn opened(node: &Node, stock: u64) {
    let declared = node.declare(declaration(node.clock.now().wall, stock)).await;
    assert_eq!(declared, Declared::CreatedPaused);
    node.call(Op::Control(penstock::ledger::Control::Resume)).await;
}

pub fn declare(declaration: Declaration) -> Op {
    Op::Declare(Box::new(Declare { declaration, salt: Salt([7; 16]) }))
}

pub fn user(n: u32) -> UserKey {
    let mut key = [0; 16];
    key[..4].copy_from_slice(&n.to_be_bytes());
    UserKey(key)
}

/// A fresh claim of user `n` for one unit.
pub fn one(n: u32) -> Try {
    Try {
        claim: ClaimId::random(),
        attempt: AttemptId::random(),
        user: user(n),
        pool: name("default"),
        units: 1,
    }
}

pub fn outcome(of: &Try, verdict: Verdict) -> Resolution {
    Resolution {
        user: of.user,
        claim: of.claim,
        attempt: of.attempt,
        pool: of.pool.clone(),
        units: of.units,
        verdict,
        hold_until: None,
    }
}

/// I1 and I2: the counters are what the records say, and within the budget.
pub fn check(state: &SaleState, records: &[Record], late: u64) {
    for pool in &state.pools {
        let sum = |kinds: &[RecordKind]| -> u64 {
            let of_pool = records.iter().filter(|r| r.pool == pool.name);
            of_pool.filter(|r| kinds.contains(&r.kind)).map(|r| u64::from(r.units)).sum()
        };
        assert_eq!(pool.held, sum(&[RecordKind::Admitted, RecordKind::Pending]), "{pool:?}");
        assert_eq!(pool.limbo, sum(&[RecordKind::Limbo]), "{pool:?}");
        assert_eq!(pool.confirmed, sum(&[RecordKind::Confirmed]), "{pool:?}");
        let open = pool.confirmed + pool.held + pool.limbo;
        assert!(open <= pool.stock + late, "over budget: {pool:?}");
    }
}
