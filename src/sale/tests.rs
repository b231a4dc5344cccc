use proptest::prelude::*;

use super::book::Update;
use super::snapshot::{BUSY_AFTER_MS, STALE_AFTER_MS};
use super::*;
use crate::clock::{MonoMs, Now, UnixMs};
use crate::config::schema::Restock;
use crate::ident::{Name, SaleId};
use crate::outcome::Reason;

const OPENS: u64 = 1_000_000;
const ENDS: u64 = 2_000_000;

fn name(text: &str) -> Name {
    Name::new(text).expect("valid")
}

pub(super) fn state(sale: &str, epoch: u32, version: u64) -> SaleState {
    SaleState {
        epoch,
        version,
        opens_at: UnixMs(OPENS),
        ends_at: Some(UnixMs(ENDS)),
        pools: vec![PoolState::new(name("default"), 10)],
        ..SaleState::new(SaleId { site: name("shop"), sale: name(sale) }, name("8848"))
    }
}

fn full(mut state: SaleState) -> SaleState {
    state.pools[0].held = state.pools[0].stock;
    state
}

/// The clocks at `ledger` and `mono`; the wall clock shows something else.
fn at(ledger: u64, mono: u64) -> Now {
    Now { mono: MonoMs(mono), wall: UnixMs(7), ledger: UnixMs(ledger), ledger_err_ms: 0 }
}

fn heard(state: SaleState, at: u64) -> Update {
    Update { state, heard: MonoMs(at) }
}

fn snapshot(state: SaleState) -> SaleSnapshot {
    let snapshot = SaleSnapshot::new(state);
    snapshot.heard().note(MonoMs(0), true);
    snapshot
}

#[test]
fn time_edges_are_those_of_the_ledgers_clock() {
    let sale = snapshot(state("drop", 1, 1));
    for (ledger, availability, next_edge) in [
        (0, Availability::NotStarted, Some(OPENS)),
        (OPENS - 1, Availability::NotStarted, Some(OPENS)),
        (OPENS, Availability::Available, Some(ENDS)),
        (ENDS - 1, Availability::Available, Some(ENDS)),
        (ENDS, Availability::Ended, None),
        (u64::MAX, Availability::Ended, None),
    ] {
        let view = sale.at(&at(ledger, 0));
        assert_eq!((view.availability, view.next_edge), (availability, next_edge.map(UnixMs)));
        assert_eq!(view.buyable, availability == Availability::Available);
        assert_eq!(view.is_final, availability == Availability::Ended);
    }
}

/// Operator's word, then the end, then sold out, then time; paused only shows where it is open.
#[test]
fn the_order_of_precedence() {
    let cases = [
        (true, true, OPENS, Availability::Ended, Some(Reason::Ended)),
        (false, true, OPENS - 1, Availability::SoldOut, Some(Reason::SoldOut)),
        (false, true, ENDS, Availability::Ended, Some(Reason::Ended)),
        (true, false, OPENS - 1, Availability::Ended, Some(Reason::Ended)),
        (false, false, OPENS - 1, Availability::NotStarted, Some(Reason::NotStarted)),
        (false, false, OPENS, Availability::Available, None),
    ];
    for (ended, sold_out, ledger, availability, refusal) in cases {
        let sale = snapshot(SaleState { ended, sold_out, ..state("drop", 1, 1) });
        let view = sale.at(&at(ledger, 0));
        assert_eq!((view.availability, view.refusal), (availability, refusal));
        let paused = snapshot(SaleState { paused: true, ..sale.state.clone() });
        let view = paused.at(&at(ledger, 0));
        assert_eq!(view.availability, availability, "paused never changes the state");
        assert!(!view.buyable);
        let is_open = availability == Availability::Available;
        assert_eq!(view.hint, is_open.then_some(Hint::Paused));
        assert_eq!(view.refusal, if is_open { Some(Reason::Paused) } else { refusal });
    }
}

#[test]
fn busy_shows_after_a_while_without_room_and_drops_with_the_first_room() {
    let book = SaleBook::new();
    let hint = |mono| book.get("shop", "8848").expect("known").at(&at(OPENS, mono)).hint;
    assert!(book.apply(heard(state("drop", 1, 1), 1_000)));
    assert!(book.apply(heard(full(state("drop", 1, 1)), 2_000)));
    // Hearing the same again does not start the wait anew.
    let last = 2_000 + BUSY_AFTER_MS - 1;
    assert!(!book.apply(heard(full(state("drop", 1, 1)), last)));
    assert_eq!(hint(last), None);
    assert_eq!(hint(last + 1), Some(Hint::Busy));
    let view = book.get("shop", "8848").expect("known").at(&at(OPENS, last + 1));
    assert!(!view.buyable && view.availability == Availability::Available);
    assert!(book.apply(heard(state("drop", 1, 1), last + 2)));
    assert_eq!(hint(last + 2), None);
    assert!(book.apply(heard(full(state("drop", 1, 1)), last + 3)));
    assert_eq!(hint(last + 3), None, "the wait begins anew");
}

#[test]
fn stale_shows_when_the_store_is_not_heard_but_sold_out_stays() {
    let open = snapshot(state("drop", 1, 1));
    assert_eq!(open.at(&at(OPENS, STALE_AFTER_MS)).hint, None);
    let view = open.at(&at(OPENS, STALE_AFTER_MS + 1));
    assert_eq!((view.hint, view.buyable, view.age_ms), (Some(Hint::Stale), true, 501));
    assert_eq!(open.at(&at(OPENS - 1, 60_000)).hint, Some(Hint::Stale));
    assert_eq!(open.at(&at(ENDS, 60_000)).hint, None);
    let sold_out = snapshot(SaleState { sold_out: true, ..state("drop", 1, 2) });
    let view = sold_out.at(&at(OPENS, 60_000));
    assert_eq!((view.availability, view.hint), (Availability::SoldOut, None));
}

#[test]
fn sold_out_is_final_only_without_restock_and_without_limbo() {
    for (restock, limbo, is_final) in
        [(Restock::Never, 0, true), (Restock::Never, 1, false), (Restock::Manual, 0, false)]
    {
        let mut state = SaleState { sold_out: true, restock, ..state("drop", 1, 1) };
        state.pools[0].limbo = limbo;
        assert_eq!(snapshot(state).at(&at(OPENS, 0)).is_final, is_final);
    }
}

/// A claim's reply and a read of the mirror cross: the ledger's own count says which is newer.
#[test]
fn counters_follow_the_ledger_whichever_word_comes_first() {
    let book = SaleBook::new();
    let with = |seq: u64, confirmed: u64| {
        let mut state = SaleState { seq, ..state("drop", 1, 1) };
        state.pools[0].confirmed = confirmed;
        state
    };
    let shown = || book.get("shop", "8848").expect("known").state.pools[0].confirmed;
    assert!(book.apply(heard(with(5, 5), 100)));
    assert!(!book.apply(heard(with(4, 4), 200)), "asked later, answered by an older ledger");
    assert!(book.apply(heard(with(6, 6), 50)), "asked earlier, and newer all the same");
    assert_eq!(shown(), 6);
    // A ledger that forgot counts anew: what it says is news.
    assert!(book.apply(heard(SaleState { fences: 1, ..with(2, 2) }, 300)));
    assert!(!book.apply(heard(with(7, 7), 250)), "the last word of the ledger before it");
    assert_eq!(shown(), 2);
}

#[test]
fn an_activity_shows_its_running_sale_else_the_newest() {
    let book = SaleBook::new();
    let shown = || book.get("shop", "8848").expect("known").state.id.sale.to_string();
    let ended =
        |sale, opens_at| SaleState { ended: true, opens_at: UnixMs(opens_at), ..state(sale, 1, 1) };
    book.apply(heard(ended("first", 10), 0));
    book.apply(heard(ended("second", 20), 0));
    assert_eq!(shown(), "second");
    book.apply(heard(SaleState { opens_at: UnixMs(5), ..state("running", 1, 1) }, 0));
    assert_eq!(shown(), "running");
    book.apply(heard(SaleState { version: 2, ..ended("running", 5) }, 0));
    assert_eq!(shown(), "second");
    book.remove(&state("second", 1, 1).id);
    assert_eq!(shown(), "first");
    assert!(book.get("shop", "1").is_none() && book.get("other", "8848").is_none());
}

#[test]
fn ready_made_answers_live_as_long_as_what_they_say() {
    let book = SaleBook::new();
    let get = || book.get("shop", "8848").expect("known");
    book.apply(heard(state("drop", 1, 1), 0));
    let make = || crate::answer::AnswerBuilder::new(http::StatusCode::OK).build();
    let first = get().memo().get(1, make);
    book.apply(heard(full(state("drop", 1, 1)), 1));
    assert!(first.is_same(&get().memo().get(1, make)), "only a counter moved");
    book.apply(heard(state("drop", 1, 2), 2));
    assert!(!first.is_same(&get().memo().get(1, make)));
}

proptest! {
    /// Whatever order updates arrive in, what readers see never goes back, and in the end it is the
    /// newest.
    #[test]
    fn the_book_is_monotone_under_permuted_updates(
        updates in proptest::collection::vec((1u32..4, 1u64..6, 0u64..10), 1..40),
    ) {
        let book = SaleBook::new();
        let mut newest = (0, 0, 0);
        let mut seen = (0, 0);
        for (epoch, version, confirmed) in updates {
            // Within a version counters only grow; the time of hearing follows them.
            let mut state = state("drop", epoch, version);
            state.pools[0].confirmed = confirmed;
            let replaced = book.apply(heard(state, u64::from(epoch) * 1_000 + version * 100 + confirmed));
            let shown = book.get("shop", "8848").expect("known");
            let now = (shown.state.epoch, shown.state.version);
            prop_assert!(now >= seen, "{now:?} after {seen:?}");
            seen = now;
            let is_newer = (epoch, version, confirmed) > newest;
            prop_assert_eq!(replaced, is_newer);
            newest = newest.max((epoch, version, confirmed));
            let shown = (shown.state.epoch, shown.state.version, shown.state.pools[0].confirmed);
            prop_assert_eq!(shown, newest);
        }
    }
}
