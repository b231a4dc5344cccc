//! A second handle on the same file, as a second process has it.

use redb::{Builder, ConcurrencyMode, Database};

use super::*;

fn other(path: &Path) -> Database {
    let mut builder = Builder::new();
    builder.set_concurrency_mode(ConcurrencyMode::MultiWriter);
    builder.create(path).expect("a second handle")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_another_process_writes_an_operation_can_be_taken_back() {
    let place = Place::new();
    let store = place.open();
    open_sale(&store, &sale_id(), 5).await;
    let other = other(&place.path());
    let lock = other.begin_write().expect("the lock");
    let buyer = user();
    let late = store.call(&sale_id(), claim_of(buyer), Duration::from_millis(30)).await;
    assert!(matches!(late, Err(StoreError::NotSent(_))), "{late:?}");
    lock.abort().expect("unlocked");
    assert!(is_admitted(&claim(&store, user()).await));
    assert_eq!(all(&store).await.len(), 1, "the first was never applied");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_stays_locked_is_said_and_recovers() {
    let place = Place::new();
    let store = place.open();
    open_sale(&store, &sale_id(), 5).await;
    let other = other(&place.path());
    let lock = other.begin_write().expect("the lock");
    match store.call(&sale_id(), Op::Read, PATIENT).await {
        Err(StoreError::Refused(why)) => assert!(why.contains("another process"), "{why}"),
        answer => panic!("{answer:?}"),
    }
    assert!(store.health().is_err());
    lock.abort().expect("unlocked");
    // No call: the store looks by itself.
    until("health again", async || store.health().is_ok()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_queue_is_bounded() {
    let place = Place::new();
    let settings = Settings { queue_max: 2, ..Settings::default() };
    let store = Embedded::open(&place.path(), Clock::system(), &settings, Sink::detached())
        .expect("the store opens");
    open_sale(&store, &sale_id(), 50).await;
    let other = other(&place.path());
    let lock = other.begin_write().expect("the lock");
    let deadline = Duration::from_millis(200);
    let calls: Vec<_> = (0..8)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move { store.call(&sale_id(), claim_of(user()), deadline).await })
        })
        .collect();
    let mut full = 0;
    for call in calls {
        match call.await.expect("a call") {
            Err(StoreError::NotSent(why)) => full += usize::from(why.contains("full")),
            answer => panic!("{answer:?}"),
        }
    }
    // One may be in the writer's hands, two wait.
    assert!((5..=6).contains(&full), "{full}");
    lock.abort().expect("unlocked");
    until("a queue with places", async || store.call(&sale_id(), Op::Read, PATIENT).await.is_ok())
        .await;
    assert_eq!(all(&store).await.len(), 0, "those who were refused did nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_mirror_sees_what_another_process_does() {
    let place = Place::new();
    let (old, new) = (place.open(), place.open());
    let book = Arc::new(SaleBook::new());
    let mirror = tokio::spawn(new.clone().mirror(book.clone(), Clock::system()));
    until("in sync", async || book.is_synced()).await;
    assert_eq!(book.all().len(), 0);
    open_sale(&old, &sale_id(), 1).await;
    until("the sale", async || book.sale(&sale_id()).is_some_and(|s| !s.state.paused)).await;
    assert!(is_admitted(&claim(&old, user()).await));
    assert_eq!(claim(&new, user()).await, Claimed::Busy);
    call(&new, Op::Control(Control::SoldOut)).await;
    assert_eq!(claim(&old, user()).await, Claimed::SoldOut);
    until("sold out", async || book.sale(&sale_id()).is_some_and(|s| s.state.sold_out)).await;
    mirror.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_closes_does_not_wait_for_the_lock() {
    let place = Place::new();
    let store = place.open();
    let other = other(&place.path());
    let lock = other.begin_write().expect("the lock");
    let asked = tokio::spawn({
        let store = store.clone();
        async move { store.call(&sale_id(), Op::Read, Duration::from_millis(20)).await }
    });
    assert!(matches!(asked.await.expect("a call"), Err(StoreError::NotSent(_))));
    tokio::task::spawn_blocking(move || drop(store)).await.expect("closed");
    drop(lock);
}
