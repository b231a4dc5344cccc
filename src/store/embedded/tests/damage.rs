//! Files that are not a ledger, are damaged, newer, or held by a program that shares nothing.

use redb::{Builder, Database, TableDefinition};

use super::*;
use crate::store::embedded::tables::{META, RECORDS, SALES};

#[test]
fn other_files_are_refused_and_left_alone() {
    let place = Place::new();
    std::fs::write(place.path(), "Dear diary,").expect("a file");
    assert_eq!(open(&place.path()).err(), Some(OpenError::NotALedger(place.path())));
    assert_eq!(std::fs::read(place.path()).expect("the file"), b"Dear diary,");

    std::fs::remove_file(place.path()).expect("gone");
    let database = Database::create(place.path()).expect("a database");
    let tx = database.begin_write().expect("a transaction");
    tx.open_table(TableDefinition::<u8, u8>::new("their own")).expect("a table");
    tx.commit().expect("a commit");
    drop(database);
    assert_eq!(open(&place.path()).err(), Some(OpenError::NotALedger(place.path())));
}

#[test]
fn a_directory_that_is_not_there_is_said() {
    let place = Place::new();
    let path = place.dir.path().join("none").join("ledger");
    match open(&path).err() {
        Some(OpenError::Io { why, .. }) => assert!(why.contains("No such file"), "{why}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_newer_format_is_refused_at_start_and_while_running() {
    let place = Place::new();
    let store = place.open();
    open_sale(&store, &sale_id(), 1).await;
    let mut builder = Builder::new();
    builder.set_concurrency_mode(redb::ConcurrencyMode::MultiWriter);
    let newer = builder.create(place.path()).expect("a handle");
    let tx = newer.begin_write().expect("a transaction");
    tx.open_table(META).expect("a table").insert("format", 2).expect("written");
    tx.commit().expect("a commit");
    match store.call(&sale_id(), claim_of(user()), PATIENT).await {
        Err(StoreError::Refused(why)) => assert!(why.contains("format 2"), "{why}"),
        other => panic!("{other:?}"),
    }
    drop((store, newer));
    let expected = OpenError::Newer { path: place.path(), found: 2, known: 1 };
    assert_eq!(open(&place.path()).err(), Some(expected));
}

#[tokio::test]
async fn a_damaged_page_is_found_at_start() {
    let place = Place::new();
    let store = place.open();
    open_sale(&store, &sale_id(), 1000).await;
    let mut winners = Vec::new();
    for _ in 0..50 {
        winners.push(user());
        claim(&store, winners[winners.len() - 1]).await;
    }
    drop(store);
    let mut bytes = std::fs::read(place.path()).expect("the file");
    // One bit of one record, everywhere where a copy of it lies.
    let spots: Vec<usize> =
        bytes.windows(16).enumerate().filter(|(_, w)| *w == winners[7].0).map(|(i, _)| i).collect();
    assert!(!spots.is_empty());
    spots.iter().for_each(|at| bytes[at + 3] ^= 1);
    std::fs::write(place.path(), &bytes).expect("written");
    match open(&place.path()) {
        Err(OpenError::Damaged { .. }) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_program_that_shares_nothing_is_said() {
    let place = Place::new();
    drop(place.open());
    let alone = Database::open(place.path()).expect("a handle");
    assert_eq!(open(&place.path()).err(), Some(OpenError::Locked(place.path())));
    drop(alone);
    place.open();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_that_cannot_be_read_stops_nobody_else() {
    let place = Place::new();
    let store = place.open();
    open_sale(&store, &sale_id(), 100).await;
    let (bad, other): (_, SaleId) = (user(), "shop/other".parse().expect("an id"));
    open_sale(&store, &other, 10).await;
    let mut builder = Builder::new();
    builder.set_concurrency_mode(redb::ConcurrencyMode::MultiWriter);
    let hand = builder.create(place.path()).expect("a handle");
    let tx = hand.begin_write().expect("a transaction");
    {
        let mut records = tx.open_table(RECORDS).expect("a table");
        records.insert(("shop/drop", &bad.0), b"?".as_slice()).expect("written");
        tx.open_table(SALES)
            .expect("a table")
            .insert("shop/torn", b"{".as_slice())
            .expect("written");
    }
    // The claims wait for this commit, so that they share a transaction.
    let calls: Vec<_> = (0..20)
        .map(|n| {
            let (store, user) = (store.clone(), if n == 9 { bad } else { user() });
            tokio::spawn(async move { store.call(&sale_id(), claim_of(user), PATIENT).await })
        })
        .collect();
    tokio::task::yield_now().await;
    tx.commit().expect("a commit");
    let mut admitted = 0;
    for (n, call) in calls.into_iter().enumerate() {
        match call.await.expect("a call") {
            Ok(_) => admitted += 1,
            Err(StoreError::Refused(why)) => assert!(n == 9 && why.contains("records of"), "{why}"),
            Err(other) => panic!("{other:?}"),
        }
    }
    assert_eq!(admitted, 19);
    assert_eq!(store.health(), Ok(()), "one value is not the file");
    assert_eq!(store.sales().await, Ok(vec![sale_id(), other]), "without the torn one");
    assert!(store.health().is_err_and(|why| why.contains("shop/torn")));
    assert!(is_admitted(&claim(&store, user()).await));
}
