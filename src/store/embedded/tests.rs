//! The embedded store on real files: against the core in memory, beside other processes, killed, and
//! on disks that fail.

mod damage;
mod disk;
mod process;
mod same;
mod shared;

use super::*;
use crate::clock::UnixMs;
use crate::ident::{AttemptId, ClaimId, Name, NodeId};
use crate::ledger::tests::{declaration, declare, name, sale_id};
use crate::ledger::{ClaimBatch, Claimed, Control, Declared, Fence, OpResult, Try};
use crate::sale::Mark;

/// Long enough for a slow disk; a test that waits so long fails.
const PATIENT: Duration = Duration::from_secs(20);

struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        Place { dir: tempfile::tempdir().expect("a directory") }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("ledger")
    }

    fn open(&self) -> Arc<Embedded> {
        open(&self.path()).expect("the store opens")
    }
}

fn open(path: &Path) -> Result<Arc<Embedded>, OpenError> {
    Embedded::open(path, Clock::system(), &Settings::default(), Sink::detached())
}

async fn call(store: &Embedded, op: Op) -> OpResult {
    call_of(store, &sale_id(), op).await
}

async fn call_of(store: &Embedded, sale: &SaleId, op: Op) -> OpResult {
    store.call(sale, op, PATIENT).await.expect("the store answers").result
}

/// A sale of the pool `a` that is open now: one whose T0 is past starts paused.
async fn open_sale(store: &Embedded, sale: &SaleId, stock: u64) {
    let mut said = declaration(&[("a", stock)]);
    said.activity = sale.sale.clone();
    let declared = call_of(store, sale, declare(said)).await;
    assert_eq!(declared, OpResult::Declared(Declared::CreatedPaused));
    call_of(store, sale, Op::Control(Control::Resume)).await;
}

/// A claim of one unit for a user of its own.
fn claim_of(user: UserKey) -> Op {
    Op::Claim(ClaimBatch {
        node: NodeId([1; 8]),
        not_after: UnixMs(u64::MAX),
        claim_ttl_ms: 600_000,
        reported: Some(Mark::default()),
        fence: Fence::default(),
        tries: vec![Try {
            claim: ClaimId::random(),
            attempt: AttemptId::random(),
            user,
            pool: pool(),
            units: 1,
        }],
    })
}

fn pool() -> Name {
    name("a")
}

fn user() -> UserKey {
    UserKey(rand::random())
}

async fn claim(store: &Embedded, user: UserKey) -> Claimed {
    match call(store, claim_of(user)).await {
        OpResult::Claimed(mut claimed) => claimed.remove(0),
        other => panic!("{other:?}"),
    }
}

fn is_admitted(claimed: &Claimed) -> bool {
    matches!(claimed, Claimed::Admitted { .. })
}

async fn all(store: &Embedded) -> Vec<Record> {
    store.records(&sale_id(), None, None, usize::MAX).await.expect("the records")
}

/// Waits until `done`, at most [`PATIENT`].
async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENT;
    while !done().await {
        assert!(tokio::time::Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn what_is_claimed_is_there_after_a_restart() {
    let place = Place::new();
    let store = place.open();
    open_sale(&store, &sale_id(), 3).await;
    let winner = user();
    assert!(is_admitted(&claim(&store, winner).await));
    drop(store);
    let store = place.open();
    let records = store.records(&sale_id(), Some(winner), None, 10).await.expect("the records");
    assert_eq!(records.len(), 1);
    assert!(matches!(claim(&store, winner).await, Claimed::InProgress { .. }));
    assert_eq!(store.sales().await, Ok(vec![sale_id()]));
    assert_eq!(store.health(), Ok(()));
}

#[tokio::test]
async fn operations_of_many_sales_are_answered_together() {
    let place = Place::new();
    let store = place.open();
    let sales: Vec<SaleId> =
        (0..4).map(|n| format!("shop/drop-{n}").parse().expect("an id")).collect();
    for sale in &sales {
        open_sale(&store, sale, 10).await;
    }
    let claims = (0..80).map(|n| {
        let (store, sale) = (store.clone(), sales[n % 4].clone());
        tokio::spawn(async move { call_of(&store, &sale, claim_of(user())).await })
    });
    let mut admitted = 0;
    for claim in claims.collect::<Vec<_>>() {
        match claim.await.expect("a claim") {
            OpResult::Claimed(claimed) => admitted += usize::from(is_admitted(&claimed[0])),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(admitted, 40);
}

#[tokio::test]
async fn records_come_in_pages_of_whole_users() {
    let place = Place::new();
    let store = place.open();
    open_sale(&store, &sale_id(), 100).await;
    open_sale(&store, &"shop/dros".parse().expect("an id"), 100).await;
    let mut users: Vec<UserKey> = (0..7).map(|_| user()).collect();
    users.extend([UserKey([0; 16]), UserKey([0xff; 16])]);
    for user in &users {
        assert!(is_admitted(&claim(&store, *user).await));
    }
    users.sort();
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = store.records(&sale_id(), None, after, 2).await.expect("a page");
        let Some(last) = page.last() else { break };
        assert!(page.len() <= 2);
        after = Some(last.user);
        seen.extend(page.into_iter().map(|r| r.user));
    }
    assert_eq!(seen, users);
    let none = store.records(&sale_id(), Some(UserKey([3; 16])), None, 2).await;
    assert_eq!(none, Ok(Vec::new()));
}

#[tokio::test]
async fn an_activity_is_sold_once_at_a_time() {
    let place = Place::new();
    let store = place.open();
    open_sale(&store, &sale_id(), 1).await;
    let second: SaleId = "shop/second".parse().expect("an id");
    let mut said = declaration(&[("a", 1)]);
    said.activity = sale_id().sale;
    match call_of(&store, &second, declare(said.clone())).await {
        OpResult::Declared(Declared::Refused(why)) => assert!(why.contains("shop/drop"), "{why}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(store.sales().await, Ok(vec![sale_id()]));
    call(&store, Op::Control(Control::End)).await;
    let declared = call_of(&store, &second, declare(said)).await;
    assert_eq!(declared, OpResult::Declared(Declared::CreatedPaused));
}

#[tokio::test]
async fn a_machines_clock_that_is_set_back_stops_nobody_and_opens_nothing_early() {
    let (place, clock) = (Place::new(), Clock::system());
    let settings = Settings::default();
    let store = Embedded::open(&place.path(), clock.clone(), &settings, Sink::detached());
    let store = store.expect("the store opens");
    open_sale(&store, &sale_id(), 2).await;
    clock.set_ledger_offset(3_600_000, 0);
    let ahead = store.call(&sale_id(), Op::Read, PATIENT).await.expect("an answer").now;
    clock.set_ledger_offset(0, 0);
    // What the node thinks the ledger's clock shows is what it shows: the batch is not too late.
    assert!(clock.now().ledger >= ahead);
    let Op::Claim(batch) = claim_of(UserKey([1; 16])) else { panic!("a claim") };
    let op = Op::Claim(ClaimBatch { not_after: clock.now().ledger.plus(1_000), ..batch });
    let OpResult::Claimed(claimed) = call(&store, op).await else { panic!("claims") };
    assert!(matches!(claimed[..], [Claimed::Admitted { .. }]), "{claimed:?}");
    let now = store.call(&sale_id(), Op::Read, PATIENT).await.expect("an answer").now;
    assert_eq!(now, ahead, "it stands still until the machine's clock is there again");
}
