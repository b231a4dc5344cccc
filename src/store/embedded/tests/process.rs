//! Processes of their own: killed with SIGKILL, and several on one file.

use std::collections::HashSet;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};

use super::*;
use crate::ledger::Controlled;
use crate::sale::SaleState;

/// Tells the child which file to use.
const FILE: &str = "PENSTOCK_TEST_LEDGER";

/// Starts this test binary as a buyer process.
fn spawn(path: &Path) -> (Child, BufReader<ChildStdout>) {
    let mut child = Command::new(std::env::current_exe().expect("this binary"))
        .args(["--exact", "store::embedded::tests::process::child", "--ignored", "--nocapture"])
        .env(FILE, path)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("a process");
    let out = BufReader::new(child.stdout.take().expect("its output"));
    (child, out)
}

/// What the child acknowledged, until `max` or its end. A line that was cut by the kill counts only if
/// it is whole.
fn acknowledged(out: &mut BufReader<ChildStdout>, max: usize) -> Vec<UserKey> {
    let mut users = Vec::new();
    let mut line = String::new();
    while users.len() < max && out.read_line(&mut line).is_ok_and(|n| n > 0) {
        if let Some(user) = line.strip_suffix('\n').and_then(|l| l.strip_prefix("admitted ")) {
            users.push(user.parse().expect("a user"));
        }
        line.clear();
    }
    users
}

/// Buys from eight tasks until the sale is sold out, and prints each admission once it is acknowledged.
#[test]
#[ignore = "started by the other tests as a process of its own"]
fn child() {
    let Some(path) = std::env::var_os(FILE) else { return };
    let store = open(Path::new(&path)).expect("the store opens");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async move {
        let buyers = (0..8).map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                loop {
                    let user = user();
                    match claim(&store, user).await {
                        Claimed::Admitted { .. } => println!("admitted {user}"),
                        Claimed::Busy => tokio::time::sleep(Duration::from_millis(2)).await,
                        Claimed::SoldOut => return,
                        other => panic!("{other:?}"),
                    }
                }
            })
        });
        for buyer in buyers.collect::<Vec<_>>() {
            buyer.await.expect("a buyer");
        }
    });
}

async fn state(store: &Embedded) -> SaleState {
    let reply = store.call(&sale_id(), Op::Read, PATIENT).await.expect("the store answers");
    reply.state.expect("a sale")
}

/// Every acknowledged user has a record, and the counters are what the records say.
async fn nothing_is_lost(store: &Embedded, acknowledged: &[UserKey]) {
    let records = all(store).await;
    let users: HashSet<UserKey> = records.iter().map(|r| r.user).collect();
    assert_eq!(users.len(), records.len(), "one record for each user");
    for user in acknowledged {
        assert!(users.contains(user), "{user} was acknowledged and is lost");
    }
    let state = state(store).await;
    assert_eq!(state.pool("a").expect("a pool").held, records.len() as u64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_process_acknowledged_is_in_the_file() {
    let place = Place::new();
    let store = place.open();
    open_sale(&store, &sale_id(), 1_000_000).await;
    drop(store);
    let mut all_acknowledged = Vec::new();
    for _ in 0..3 {
        let (mut child, mut out) = spawn(&place.path());
        let mut users = acknowledged(&mut out, 100);
        assert_eq!(users.len(), 100);
        child.kill().expect("killed");
        child.wait().expect("ended");
        users.extend(acknowledged(&mut out, usize::MAX));
        all_acknowledged.extend(users);
        let store = place.open();
        nothing_is_lost(&store, &all_acknowledged).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_on_one_file_sell_the_stock_once() {
    let place = Place::new();
    let store = place.open();
    open_sale(&store, &sale_id(), 200).await;
    let (mut killed, mut killed_out) = spawn(&place.path());
    let (mut other, mut other_out) = spawn(&place.path());
    // Three processes write; one dies in the middle, perhaps within a transaction.
    let mut users = buy_until_busy(&store).await;
    add_stock(&store, 200).await;
    killed.kill().expect("killed");
    killed.wait().expect("ended");
    users.extend(buy_until_busy(&store).await);
    users.extend(acknowledged(&mut killed_out, usize::MAX));
    // What comes now is for the process that lives.
    add_stock(&store, 200).await;
    until("all is held", async || state(&store).await.pool("a").is_some_and(|p| p.held == 600))
        .await;
    call(&store, Op::Control(Control::SoldOut)).await;
    let others = acknowledged(&mut other_out, usize::MAX);
    assert!(other.wait().expect("ended").success());
    assert!(others.len() >= 200, "{}", others.len());
    users.extend(others);
    nothing_is_lost(&store, &users).await;
}

async fn buy_until_busy(store: &Embedded) -> Vec<UserKey> {
    let mut users = Vec::new();
    loop {
        let user = user();
        match claim(store, user).await {
            Claimed::Admitted { .. } => users.push(user),
            Claimed::Busy => return users,
            other => panic!("{other:?}"),
        }
    }
}

async fn add_stock(store: &Embedded, units: u64) {
    let id = ClaimId::random().to_string();
    let added = call(store, Op::Control(Control::AddStock { pool: pool(), units, id })).await;
    assert_eq!(added, OpResult::Controlled(Controlled::Applied));
}
