//! The core: cases by name, and generated sequences against a naive model.

mod cases;
mod declared;
mod fleet;
mod follow;
pub(crate) mod generate;
mod model;
mod random;
mod words;

use super::*;
use crate::config::schema::{PerUser, Pool, Restock};
use crate::config::stock::{Source, Stock};
use crate::config::units::{Span, Time};
use crate::ident::{SaleId, ServerId};
use crate::outcome::Verdict;
use crate::sale::{Follow, PoolState};

/// T0 of the tests' sale.
pub(crate) const T0: u64 = 1_000_000;

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

pub(crate) fn sale_id() -> SaleId {
    "shop/drop".parse().expect("a sale id")
}

/// A declaration from T0 on: one order of one unit each, overshoot 1.0.
pub(crate) fn declaration(pools: &[(&str, u64)]) -> Declaration {
    Declaration {
        activity: name("8848"),
        opens_at: Time { at: UnixMs(T0) },
        ends_at: None,
        per_user: PerUser::default(),
        overshoot: 1.0,
        pools: pools.iter().map(|(n, stock)| (name(n), Pool::of(*stock))).collect(),
        restock: Restock::Manual,
        restock_batch: 1,
        restock_debounce: Span::from_secs(30),
        revision: None,
    }
}

pub(crate) fn declare(declaration: Declaration) -> Op {
    Op::Declare(Box::new(Declare { declaration, salt: Salt([7; 16]) }))
}

pub(crate) fn user(n: u8) -> UserKey {
    UserKey([n; 16])
}

pub(crate) fn attempt(n: u8) -> AttemptId {
    AttemptId([n; 16])
}

pub(crate) fn claim_id(n: u8) -> ClaimId {
    ClaimId([n; 12])
}

pub(crate) const NODE: NodeId = NodeId([1; 8]);

/// One sale under test, in words that read like the story of a case.
struct Case {
    ledger: Memory,
    now: u64,
    ids: u32,
}

impl Case {
    /// A sale with `stock` units in the pool `a`, just opened; `change` alters the declaration.
    fn open(stock: u64, change: impl FnOnce(&mut Declaration)) -> Case {
        Case::pools(&[("a", stock)], change)
    }

    fn pools(pools: &[(&str, u64)], change: impl FnOnce(&mut Declaration)) -> Case {
        let mut declaration = declaration(pools);
        change(&mut declaration);
        let mut case = Case { ledger: Memory::new(sale_id()), now: T0 - 1, ids: 0 };
        assert_eq!(case.declare(declaration), Declared::Applied);
        case.now = T0;
        case
    }

    fn run(&mut self, op: Op) -> OpResult {
        self.ledger.apply(&op, UnixMs(self.now)).result
    }

    fn state(&self) -> &SaleState {
        self.ledger.state().expect("a sale")
    }

    /// (confirmed, held, limbo, latch) of a pool.
    fn pool(&self, name: &str) -> (u64, u64, u64, bool) {
        let pool = self.state().pool(name).expect("a pool");
        (pool.confirmed, pool.held, pool.limbo, pool.sold_out)
    }

    fn declare(&mut self, declaration: Declaration) -> Declared {
        match self.run(declare(declaration)) {
            OpResult::Declared(declared) => declared,
            other => panic!("{other:?}"),
        }
    }

    /// Claims with an attempt of the same number as the claim.
    fn claim(&mut self, user: u8, claim: u8, units: u32) -> Claimed {
        self.claim_in("a", user, claim, claim, units)
    }

    fn claim_in(&mut self, pool: &str, user: u8, claim: u8, attempt: u8, units: u32) -> Claimed {
        self.claim_at(NODE, pool, user, claim, attempt, units)
    }

    fn claim_at(
        &mut self,
        node: NodeId,
        pool: &str,
        user: u8,
        claim: u8,
        attempt: u8,
        units: u32,
    ) -> Claimed {
        let one = self::try_of(pool, user, claim, attempt, units);
        let batch = ClaimBatch {
            node,
            not_after: UnixMs(self.now + 1000),
            claim_ttl_ms: 10_000,
            reported: self.ledger.state().map(SaleState::mark),
            fence: Fence { learn_ms: 100, seen: 0 },
            tries: vec![one],
        };
        match self.run(Op::Claim(batch)) {
            OpResult::Claimed(mut claimed) => claimed.remove(0),
            other => panic!("{other:?}"),
        }
    }

    fn resolve(&mut self, user: u8, claim: u8, verdict: Verdict) -> Resolved {
        self.resolve_as("a", user, claim, 1, verdict, None)
    }

    fn resolve_as(
        &mut self,
        pool: &str,
        user: u8,
        claim: u8,
        units: u32,
        verdict: Verdict,
        hold_until: Option<u64>,
    ) -> Resolved {
        let outcome = Resolution {
            user: self::user(user),
            claim: claim_id(claim),
            attempt: attempt(claim),
            pool: name(pool),
            units,
            verdict,
            hold_until: hold_until.map(UnixMs),
        };
        match self.run(Op::Resolve(vec![outcome])) {
            OpResult::Resolved(mut resolved) => resolved.remove(0),
            other => panic!("{other:?}"),
        }
    }

    /// Claims and resolves, for the parts of a story that are not its point.
    fn buy(&mut self, user: u8, claim: u8, verdict: Verdict) {
        assert!(matches!(self.claim(user, claim, 1), Claimed::Admitted { .. }));
        assert_eq!(self.resolve(user, claim, verdict), Resolved::Applied);
    }

    fn reap(&mut self) -> Vec<ClaimId> {
        match self.run(Op::Reap { max: 64 }) {
            OpResult::Reaped(records) => records.into_iter().map(|r| r.claim).collect(),
            other => panic!("{other:?}"),
        }
    }

    fn control(&mut self, control: Control) -> Controlled {
        match self.run(Op::Control(control)) {
            OpResult::Controlled(controlled) => controlled,
            other => panic!("{other:?}"),
        }
    }

    fn restock(&mut self, pool: &str, units: u64) -> Controlled {
        self.ids += 1;
        let id = format!("restock-{}", self.ids);
        self.control(Control::Restock { pool: name(pool), units, id })
    }

    fn add_stock(&mut self, pool: &str, units: u64) -> Controlled {
        self.ids += 1;
        let id = format!("add-{}", self.ids);
        self.control(Control::AddStock { pool: name(pool), units, id })
    }
}

fn try_of(pool: &str, user: u8, claim: u8, attempt: u8, units: u32) -> Try {
    Try {
        claim: claim_id(claim),
        attempt: self::attempt(attempt),
        user: self::user(user),
        pool: name(pool),
        units,
    }
}

/// The text of a refusal.
fn refused(declared: Declared) -> String {
    match declared {
        Declared::Refused(why) => why,
        other => panic!("not refused: {other:?}"),
    }
}

fn refused_word(controlled: Controlled) -> String {
    match controlled {
        Controlled::Refused(why) => why,
        other => panic!("not refused: {other:?}"),
    }
}
