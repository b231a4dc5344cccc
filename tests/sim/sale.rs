//! The sale that is simulated: one pool, one order of one unit for each user.

use penstock::clock::UnixMs;
use penstock::config::schema::{PerUser, Pool, Restock};
use penstock::config::units::{Span, Time};
use penstock::ident::{AttemptId, ClaimId, Name, NodeId, SaleId, Salt, UserKey};
use penstock::ledger::{Declare, Memory, Op, OpResult, Record, RecordKind};
use penstock::sale::{Declaration, SaleState};

/// T0, in milliseconds of the ledger's clock.
pub const T0: u64 = 1_000_000;

/// Site and sale.
pub fn sale_id() -> SaleId {
    "shop/drop".parse().expect("a sale id")
}

/// The pool.
pub fn pool() -> Name {
    Name::new("a").expect("a name")
}

/// User `n`.
pub fn user(n: usize) -> UserKey {
    UserKey(bytes(n))
}

/// Claim `n`, counted over the whole fleet.
pub fn claim_id(n: usize) -> ClaimId {
    ClaimId(bytes(n))
}

/// The attempt of claim `n`: nobody repeats one here, each try is an attempt of its own.
pub fn attempt(n: usize) -> AttemptId {
    AttemptId(bytes(n))
}

/// Run `run` of node `n`.
pub fn node_id(n: usize, run: usize) -> NodeId {
    let mut id = [0; 8];
    (id[0], id[7]) = (n as u8 + 1, run as u8);
    NodeId(id)
}

/// What an operator declares.
pub fn declare(stock: u64) -> Op {
    let declaration = Declaration {
        activity: Name::new("8848").expect("a name"),
        opens_at: Time { at: UnixMs(T0) },
        ends_at: None,
        per_user: PerUser { orders: 1, units: 1 },
        overshoot: 1.0,
        pools: [(pool(), Pool::of(stock))].into(),
        restock: Restock::Manual,
        restock_batch: 1,
        restock_debounce: Span::from_secs(30),
        revision: None,
    };
    Op::Declare(Box::new(Declare { declaration, salt: Salt([7; 16]) }))
}

/// A ledger to which the sale was declared before T0.
pub fn ledger(stock: u64) -> Memory {
    let mut ledger = Memory::new(sale_id());
    let reply = ledger.apply(&declare(stock), UnixMs(T0 - 10_000));
    assert!(matches!(reply.result, OpResult::Declared(_)) && reply.state.is_some());
    ledger
}

/// All records of a ledger.
pub fn records(ledger: &Memory) -> Vec<Record> {
    ledger.page(None, None, usize::MAX)
}

/// The ledger's record of claim `n`.
pub fn kind_of(ledger: &Memory, who: usize, claim: usize) -> Option<RecordKind> {
    let records = ledger.page(Some(user(who)), None, usize::MAX);
    records.iter().find(|r| r.claim == claim_id(claim)).map(|r| r.kind)
}

/// What makes one state of the sale newer than another.
pub fn order(state: &SaleState) -> (u32, u64) {
    (state.epoch, state.version)
}

fn bytes<const N: usize>(n: usize) -> [u8; N] {
    let mut bytes = [0; N];
    let number = (n as u64 + 1).to_be_bytes();
    bytes[N - 8..].copy_from_slice(&number);
    bytes
}
