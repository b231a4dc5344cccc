use std::sync::atomic::Ordering;
use std::task::Poll;

use rig::{Network, Rig, Setup, ask, block_on, declaration, outcome, sale, wait_for, wait_until};

use super::*;
use crate::ident::{NodeId, Salt};
use crate::journal::{Event, Line};
use crate::ledger::{Control, Controlled, Declare, Declared, OpResult, Reassert, Resolution};
use crate::metrics::Counter;

pub(super) mod rig;

#[test]
fn an_admission_is_in_the_journal_before_it_is_handed_out() {
    let rig = Setup::new(2).start();
    let permit = rig.admitted(1);
    assert_eq!(rig.events(1), [Event::Admitted]);
    let known = || rig.claims.known(&sale(), &ask(1).user);
    assert_eq!(known().unwrap().kind, RecordKind::Admitted);
    let sent = permit.begin_send();
    sent.resolve(Outcome { order: Some("S1".to_owned()), ..outcome(Verdict::Confirmed) });
    rig.drained();
    assert_eq!(rig.store.kinds(), [RecordKind::Confirmed]);
    assert_eq!(rig.events(1), [Event::Admitted, Event::Confirmed]);
    let known = known().unwrap();
    assert_eq!((known.kind, known.order.as_deref()), (RecordKind::Confirmed, Some("S1")));
    assert_eq!(rig.sink.get(Counter::OutcomeConfirmed), 1);
    assert!(matches!(rig.claim(1), Claim::Refused(Claimed::Confirmed { .. })));
}

#[test]
fn a_permit_that_is_lost_is_f_before_the_send_and_x_after_it() {
    let rig = Setup::new(3).start();
    drop(rig.admitted(1));
    drop(rig.admitted(2).begin_send());
    rig.drained();
    assert_eq!(rig.store.kinds(), [RecordKind::Limbo]);
    assert_eq!(rig.events(1), [Event::Admitted, Event::Failed]);
    assert_eq!(rig.events(2), [Event::Admitted, Event::Unknown]);
    assert!(rig.claims.known(&sale(), &ask(1).user).is_none());
    // The unit of the first is free again, its user may try again.
    drop(rig.admitted(1));
}

#[test]
fn an_admission_that_nobody_waits_for_is_undone() {
    let rig = Setup::new(1).start();
    rig.store.set(Network::Slow);
    block_on(async {
        let mut claim = Box::pin(rig.claims.claim(ask(1)));
        let first = std::future::poll_fn(|cx| Poll::Ready(claim.as_mut().poll(cx)));
        assert!(first.await.is_pending());
        wait_until("the batch to fly", || rig.sink.get(Counter::ClaimBatches) == 1);
        // The client goes away here.
    });
    rig.store.set(Network::Well);
    wait_until("the undoing", || rig.events(1) == [Event::Admitted, Event::Failed]);
    rig.drained();
    assert_eq!(rig.store.kinds(), []);
}

#[test]
fn claims_that_wait_are_bounded_and_fly_together() {
    let mut setup = Setup::new(10);
    setup.limits.queue_max = 2;
    let rig = setup.start();
    rig.store.set(Network::Slow);
    block_on(async {
        type Claiming<'a> = std::pin::Pin<Box<dyn Future<Output = Claim> + 'a>>;
        let claim = |n| -> Claiming<'_> { Box::pin(rig.claims.claim(ask(n))) };
        let mut claims: Vec<Claiming<'_>> = (1..=4).map(claim).collect();
        let (first, rest) = claims.split_at_mut(1);
        let poll = |claim: &mut Claiming<'_>| {
            claim.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop()))
        };
        assert!(poll(&mut first[0]).is_pending());
        wait_until("the first batch to fly", || rig.sink.get(Counter::ClaimBatches) == 1);
        assert!(poll(&mut rest[0]).is_pending());
        assert!(poll(&mut rest[1]).is_pending());
        assert!(matches!(poll(&mut rest[2]), Poll::Ready(Claim::Overloaded)));
        rig.store.set(Network::Well);
        claims.truncate(3);
        for claim in claims {
            assert!(matches!(claim.await, Claim::Admitted(_)));
        }
    });
    assert_eq!(rig.sink.get(Counter::ClaimBatches), 2, "the second batch took both that waited");
}

#[test]
fn a_batch_that_nobody_answered_is_undone_even_when_it_arrives_later() {
    let rig = Setup::new(1).start();
    rig.store.set(Network::LateClaims);
    assert!(matches!(rig.claim(1), Claim::Unavailable));
    wait_until("the store to answer", || rig.claims.is_open(&sale()));
    // Its F was heard already; the claim arrives after it, and the F comes again.
    let heard = rig.store.calls.load(Ordering::Relaxed);
    wait_until("the F", || rig.store.calls.load(Ordering::Relaxed) > heard);
    rig.store.arrive();
    assert_eq!(rig.store.kinds(), [RecordKind::Admitted]);
    wait_until("the undoing", || rig.store.kinds().is_empty());
    assert_eq!(rig.claims.under_way(), 1, "it may arrive once more until its time is past");
    rig.clock.set_ledger_offset(5_000, 0);
    rig.drained();
    assert_eq!(rig.events(1), [], "it was handed to nobody");
    rig.store.set(Network::Well);
    drop(rig.admitted(1));
}

#[test]
fn while_the_store_is_down_claims_are_refused_without_it() {
    let rig = Setup::new(1).start();
    rig.store.set(Network::Down);
    assert!(matches!(rig.claim(1), Claim::Unavailable));
    assert!(!rig.claims.is_open(&sale()));
    assert!(rig.claims.health()[0].contains("connection refused"), "{:?}", rig.claims.health());
    let batches = rig.sink.get(Counter::ClaimBatches);
    for _ in 0..100 {
        assert!(matches!(rig.claim(1), Claim::Unavailable));
    }
    assert_eq!(rig.sink.get(Counter::ClaimBatches), batches);
    rig.store.set(Network::Well);
    wait_until("the breaker to close", || rig.claims.is_open(&sale()));
    assert_eq!(rig.claims.health(), [""; 0]);
    drop(rig.admitted(1));
}

#[test]
fn outcomes_wait_for_the_store_and_stand_in_the_journal_meanwhile() {
    let rig = Setup::new(2).start();
    let (one, two) = (rig.admitted(1).begin_send(), rig.admitted(2));
    rig.store.set(Network::Down);
    one.resolve(outcome(Verdict::Confirmed));
    drop(two);
    wait_until("the journal", || rig.lines().len() == 4);
    assert_eq!(rig.claims.under_way(), 2);
    assert_eq!(rig.store.kinds(), [RecordKind::Admitted; 2]);
    rig.store.set(Network::Well);
    rig.drained();
    assert_eq!(rig.store.kinds(), [RecordKind::Confirmed]);
}

#[test]
fn a_disk_that_fails_admits_nobody_and_what_the_ledger_admitted_is_undone() {
    let rig = Setup::new(2).start();
    let open = rig.admitted(1).begin_send();
    rig.journal.fail_disk(true);
    assert!(matches!(rig.claim(2), Claim::Unavailable));
    assert!(!rig.claims.is_open(&sale()));
    assert_eq!(rig.sink.get(Counter::AdmissionsUndone), 1);
    // An outcome has happened, whatever the disk does.
    open.resolve(outcome(Verdict::Confirmed));
    wait_until("the ledger", || rig.store.kinds() == [RecordKind::Confirmed]);
    rig.journal.fail_disk(false);
    wait_until("the disk", || rig.claims.is_open(&sale()));
    rig.drained();
    assert_eq!(rig.events(1), [Event::Admitted, Event::Confirmed]);
    assert_eq!(rig.events(2), [Event::Failed]);
    drop(rig.admitted(2));
}

#[test]
fn a_disk_that_hangs_admits_nobody_and_keeps_nobody_waiting() {
    let rig = Setup::new(2).start();
    let open = rig.admitted(1).begin_send();
    rig.journal.hang_disk(true);
    assert!(matches!(rig.claim(2), Claim::Unavailable));
    open.resolve(outcome(Verdict::Confirmed));
    wait_until("the ledger", || rig.store.kinds() == [RecordKind::Confirmed]);
    rig.journal.hang_disk(false);
    rig.drained();
    assert_eq!(rig.events(1), [Event::Admitted, Event::Confirmed]);
    assert_eq!(rig.events(2), [Event::Admitted, Event::Failed]);
    drop(rig.admitted(2));
}

#[test]
fn an_outcome_that_the_store_refuses_keeps_no_other_from_it() {
    let rig = Setup::new(9).start();
    let sent: Vec<_> = (1..=9).map(|n| rig.admitted(n).begin_send()).collect();
    rig.store.set(Network::RefusingOne);
    sent.into_iter().for_each(|sent| sent.resolve(outcome(Verdict::Confirmed)));
    wait_until("the others", || rig.claims.under_way() == 1);
    assert_eq!(rig.store.kinds().iter().filter(|k| **k == RecordKind::Confirmed).count(), 8);
    assert!(!rig.claims.health().is_empty());
    rig.store.set(Network::Well);
    rig.drained();
    assert_eq!(rig.store.kinds(), [RecordKind::Confirmed; 9]);
}

#[test]
fn a_refusal_is_an_answer() {
    let rig = Setup::new(1).start();
    rig.store.set(Network::Down);
    assert!(matches!(rig.claim(1), Claim::Unavailable));
    assert!(!rig.claims.is_open(&sale()));
    // What was asked about is broken for good: other sales are not.
    rig.store.set(Network::Refusing);
    wait_until("the breaker", || rig.claims.is_open(&sale()));
}

#[test]
fn a_task_that_panics_is_not_silent() {
    let rig = Setup::new(1).start();
    rig.store.set(Network::Panicking);
    assert!(matches!(rig.claim(1), Claim::Unavailable));
    let said = block_on(rig.claims.death());
    // The batches, or the recovery that had not ended yet.
    assert!(said.contains("a task of the claims died"), "{said}");
}

#[test]
fn after_a_kill_what_was_open_is_in_limbo_and_no_outcome_is_lost() {
    let rig = Setup::new(5).start();
    let sold = rig.admitted(1).begin_send();
    let sent = rig.admitted(2).begin_send();
    let unsent = rig.admitted(3);
    drop(rig.admitted(4));
    wait_until("the F", || rig.claims.under_way() == 3);
    rig.store.set(Network::Down);
    sold.resolve(Outcome { order: Some("S1".to_owned()), ..outcome(Verdict::Confirmed) });
    wait_until("the journal", || rig.events(1) == [Event::Admitted, Event::Confirmed]);

    let rig = rig.restart((sent, unsent));
    wait_until("the recovery", || {
        rig.store.kinds() == [RecordKind::Confirmed, RecordKind::Limbo, RecordKind::Limbo]
    });
    rig.drained();
    wait_until("health", || rig.claims.health().is_empty());
    assert_eq!(rig.events(2), [Event::Admitted, Event::Unknown]);
    assert_eq!(rig.events(3), [Event::Admitted, Event::Unknown]);
    assert_eq!(rig.events(4), [Event::Admitted, Event::Failed]);
    let known = rig.claims.known(&sale(), &ask(1).user).unwrap();
    assert_eq!((known.kind, known.order.as_deref()), (RecordKind::Confirmed, Some("S1")));

    // A second kill finds nothing left to do.
    let lines = rig.lines().len();
    let rig = rig.restart(());
    wait_until("the recovery", || rig.claims.health().is_empty());
    rig.drained();
    assert_eq!(rig.lines().len(), lines);
}

#[test]
fn an_outcome_is_not_lost_behind_the_line_of_a_reaper_that_was_slow() {
    let rig = Setup::new(1).start();
    let sold = rig.admitted(1).begin_send();
    rig.store.set(Network::Down);
    sold.resolve(outcome(Verdict::Confirmed));
    wait_until("the journal", || rig.events(1) == [Event::Admitted, Event::Confirmed]);
    let reaped = Line { event: Event::Unknown, ..rig.lines()[0].clone() };
    block_on(rig.journal.keep(vec![reaped])).unwrap();
    let rig = rig.restart(());
    wait_until("the recovery", || rig.store.kinds() == [RecordKind::Confirmed]);
}

#[test]
fn the_reaper_writes_no_line_of_a_claim_that_has_its_outcome() {
    let rig = Setup::new(1).start();
    let sent = rig.admitted(1).begin_send();
    rig.store.set(Network::RefusingOne);
    sent.resolve(outcome(Verdict::Confirmed));
    rig.clock.set_ledger_offset(700_000, 0);
    wait_until("the reaper", || rig.store.kinds() == [RecordKind::Limbo]);
    rig.store.set(Network::Well);
    rig.drained();
    assert_eq!(rig.store.kinds(), [RecordKind::Confirmed]);
    assert_eq!(rig.events(1), [Event::Admitted, Event::Confirmed]);
    assert_eq!(rig.claims.known(&sale(), &ask(1).user).unwrap().kind, RecordKind::Confirmed);
}

#[test]
fn a_store_that_is_down_at_the_start_is_told_when_it_comes() {
    let rig = Setup::new(2).start();
    let sent = rig.admitted(1).begin_send();
    let rig = rig.restart_on(Network::Down, sent);
    assert!(!rig.claims.is_open(&sale()));
    assert!(!rig.claims.health().is_empty());
    rig.store.set(Network::Well);
    wait_until("the recovery", || rig.store.kinds() == [RecordKind::Limbo]);
    wait_until("health", || rig.claims.health().is_empty());
}

#[test]
fn the_reaper_sends_what_nobody_resolved_to_limbo_and_a_late_outcome_still_counts() {
    let rig = Setup::new(2).start();
    let sent = rig.admitted(1).begin_send();
    rig.clock.set_ledger_offset(700_000, 0);
    wait_until("the reaper", || rig.store.kinds() == [RecordKind::Limbo]);
    wait_until("the journal", || rig.events(1) == [Event::Admitted, Event::Unknown]);
    sent.resolve(outcome(Verdict::Confirmed));
    rig.drained();
    assert_eq!(rig.store.kinds(), [RecordKind::Confirmed]);
    assert_eq!(rig.events(1), [Event::Admitted, Event::Unknown, Event::Confirmed]);
}

#[test]
fn a_pending_order_is_held_for_its_time_and_then_in_limbo() {
    let rig = Setup::new(1).start();
    rig.admitted(1).begin_send().resolve(outcome(Verdict::Pending));
    rig.drained();
    assert_eq!(rig.store.kinds(), [RecordKind::Pending]);
    assert!(matches!(rig.claim(1), Claim::Refused(Claimed::Pending { .. })));
    assert_eq!(rig.claims.known(&sale(), &ask(1).user).unwrap().kind, RecordKind::Pending);
    // Beyond pay_ttl, 15 minutes.
    rig.clock.set_ledger_offset(16 * 60_000, 0);
    wait_until("the reaper", || rig.store.kinds() == [RecordKind::Limbo]);
}

#[test]
fn an_admission_is_not_handed_out_after_its_deadline() {
    let mut setup = Setup::new(1);
    setup.limits.claim_ttl_ms = 0;
    let rig = setup.start();
    assert!(matches!(rig.claim(1), Claim::Unavailable));
    rig.drained();
    assert_eq!(rig.store.kinds(), []);
    // The reaper may have been there; it takes nothing back.
    let after = |before, event: Event| Some(event.after(before));
    assert_eq!(rig.events(1).into_iter().fold(None, after), Some(Event::Failed));
}

#[test]
fn a_contradiction_is_counted_and_changes_nothing() {
    let rig = Setup::new(1).start();
    let permit = rig.admitted(1);
    let claim = permit.claim();
    let sent = permit.begin_send();
    let record = rig.store.all()[0].clone();
    let by_hand = crate::ledger::Resolution {
        user: record.user,
        claim,
        attempt: record.attempt,
        pool: record.pool,
        units: 1,
        verdict: Verdict::Confirmed,
        hold_until: None,
    };
    rig.store.apply(&sale(), &Op::Resolve(vec![by_hand]));
    sent.resolve(outcome(Verdict::Failed));
    rig.drained();
    assert_eq!(rig.sink.get(Counter::OutcomeConflicts), 1);
    assert_eq!(rig.store.kinds(), [RecordKind::Confirmed]);
}

#[test]
fn the_configs_sales_are_applied_when_the_store_comes() {
    let mut setup = Setup::bare();
    let second: SaleId = "shop/second".parse().unwrap();
    setup.declarations = vec![(sale(), declaration(5)), (second.clone(), declaration(9))];
    setup.store.set(Network::Down);
    let rig = setup.start();
    wait_until("the trouble", || rig.claims.declaration_troubles().len() == 2);
    rig.store.set(Network::Well);
    let troubles = wait_for("the declaration", || {
        let troubles = rig.claims.declaration_troubles();
        (troubles.len() == 1).then_some(troubles)
    });
    assert!(troubles[0].contains("penstock sale end shop/drop"), "{troubles:?}");
    assert!(rig.store.state(&second).is_none());
    assert!(rig.store.state(&sale()).unwrap().paused, "its opens_at is past");
    assert!(matches!(rig.claim(1), Claim::Refused(Claimed::Paused)));

    let reply = block_on(rig.claims.call(&sale(), Op::Control(Control::Resume))).unwrap();
    assert_eq!(reply.result, OpResult::Controlled(Controlled::Applied));
    drop(rig.admitted(1));
    // The same again is nothing; another sale of the activity once the first is over.
    let again = block_on(rig.claims.declare(&sale(), declaration(5))).unwrap();
    assert_eq!(again, Declared::Unchanged);
    block_on(rig.claims.call(&sale(), Op::Control(Control::End))).unwrap();
    let next = block_on(rig.claims.declare(&second, declaration(9))).unwrap();
    assert_eq!(next, Declared::CreatedPaused);
}

#[test]
fn a_crowd_of_losses_ends_where_the_ledger_says() {
    let rig = Setup::new(20).start();
    std::thread::scope(|scope| {
        for part in 0..4_u8 {
            let rig: &Rig = &rig;
            scope.spawn(move || {
                for n in 0..20_u8 {
                    let Claim::Admitted(permit) = rig.claim(part * 50 + n) else { continue };
                    match n % 4 {
                        0 => drop(permit),
                        1 => drop(permit.begin_send()),
                        2 => permit.begin_send().resolve(outcome(Verdict::Failed)),
                        _ => permit.begin_send().resolve(outcome(Verdict::Confirmed)),
                    }
                }
            });
        }
    });
    rig.drained();
    let state = rig.store.state(&sale()).unwrap();
    let pool = &state.pools[0];
    let sum = |counter| rig.sink.get(counter);
    assert_eq!(pool.held, 0);
    assert!(pool.confirmed + pool.limbo <= pool.stock);
    assert_eq!(pool.confirmed, sum(Counter::OutcomeConfirmed));
    assert_eq!(pool.limbo, sum(Counter::OutcomeUnknown));
    let outcomes = [Counter::OutcomeConfirmed, Counter::OutcomeFailed, Counter::OutcomeUnknown];
    assert_eq!(sum(Counter::Admitted), outcomes.into_iter().map(sum).sum::<u64>());
    assert_eq!(rig.lines().len() as u64, 2 * sum(Counter::Admitted));
}

#[test]
fn a_ledger_that_is_gone_is_made_again_also_by_the_next_run() {
    let setup = Setup::new(3);
    setup.store.forgets.store(true, Ordering::Relaxed);
    let rig = setup.start();
    let buy = |rig: &Rig, n| {
        wait_until("an admission", || match rig.claim(n) {
            Claim::Admitted(permit) => {
                permit.begin_send().resolve(outcome(Verdict::Confirmed));
                true
            }
            // Until the node has said that it is there, and again after the loss.
            Claim::Refused(Claimed::Learning) | Claim::Unavailable => false,
            other => panic!("{other:?}"),
        });
    };
    buy(&rig, 1);
    rig.drained();
    let before = rig.store.state(&sale()).unwrap();
    rig.store.forget();
    wait_until("the sale again", || rig.store.state(&sale()).is_some());
    buy(&rig, 2);
    rig.drained();
    assert_eq!(rig.store.kinds(), [RecordKind::Confirmed; 2]);
    let state = rig.store.state(&sale()).unwrap();
    assert!(state.version > before.version && state.salt == before.salt, "{state:?}");
    assert!(rig.sink.get(Counter::Reasserted) >= 1);
    // It is lost again while nobody runs: the journal and what was remembered are enough.
    let store = rig.store.clone();
    store.set(Network::Down);
    store.forget();
    let rig = rig.restart(());
    rig.store.set(Network::Well);
    buy(&rig, 3);
    rig.drained();
    assert_eq!(rig.store.kinds(), [RecordKind::Confirmed; 3]);
}

#[test]
fn a_ledger_that_does_not_answer_closes_its_own_sale_only() {
    let setup = Setup::new(5);
    let other: SaleId = "shop/other".parse().unwrap();
    let declare = Declare { declaration: declaration(5), salt: Salt([8; 16]) };
    setup.store.apply(&other, &Op::Declare(Box::new(declare)));
    setup.store.apply(&other, &Op::Control(Control::Resume));
    let rig = setup.start();
    rig.store.set(Network::OneDown);
    assert!(matches!(rig.claim(1), Claim::Unavailable));
    assert!(!rig.claims.is_open(&sale()) && rig.claims.is_open(&other));
    let health = rig.claims.health();
    assert!(health[0].contains("sale shop/drop"), "{health:?}");
    for n in 1..=5 {
        let claim = block_on(rig.claims.claim(Ask { sale: other.clone(), ..ask(n) }));
        assert!(matches!(claim, Claim::Admitted(_)), "{claim:?}");
        assert!(!rig.claims.is_open(&sale()), "what the other hears says nothing about this one");
    }
    rig.store.set(Network::Well);
    wait_until("the breaker to close", || rig.claims.is_open(&sale()));
    wait_until("what was undone to be told", || rig.claims.health().is_empty());
}

#[test]
fn a_crowd_that_finds_no_room_costs_the_store_next_to_nothing() {
    let rig = Setup::new(1).start();
    let permit = rig.admitted(1);
    let began = std::time::Instant::now();
    for n in 0..200 {
        let claim = rig.claim(2 + n);
        assert!(matches!(claim, Claim::Refused(Claimed::Busy)), "{claim:?}");
    }
    let turns = u64::try_from(began.elapsed().as_millis()).unwrap() / 50 + 1;
    let batches = rig.sink.get(Counter::ClaimBatches);
    assert!((2..=1 + turns).contains(&batches), "{batches} calls in {turns} turns");
    // The unit comes back: this node hears of it in the answer to its own outcome.
    drop(permit);
    rig.drained();
    drop(rig.admitted(2));
}

#[test]
fn room_that_others_made_is_found() {
    let rig = Setup::new(1).start();
    let sent = rig.admitted(1).begin_send();
    let claim = sent.claim();
    // Nobody tells this node.
    let record = rig.store.all().remove(0);
    let failed = resolution(&record, Verdict::Failed);
    assert_eq!(failed.claim, claim);
    rig.store.apply(&sale(), &Op::Resolve(vec![failed]));
    wait_until("a claim that asks", || matches!(rig.claim(2), Claim::Admitted(_)));
    drop(sent);
}

#[test]
fn what_somebody_else_settled_is_forgotten() {
    let rig = Setup::new(3).start();
    let claims = [1, 2, 3].map(|n| {
        let sent = rig.admitted(n).begin_send();
        let claim = sent.claim();
        // The third is still with the shop.
        (claim, (n == 3).then_some(sent))
    });
    wait_until("limbo", || {
        rig.store.kinds().iter().filter(|kind| **kind == RecordKind::Limbo).count() == 2
    });
    let remembered = |at: usize| rig.claims.shared.memory.open(&claims[at].0).is_some();
    let look = || {
        block_on(rig.claims.call(&sale(), Op::Read)).expect("an answer");
        let state = rig.claims.shared.book.sale(&sale()).expect("the sale");
        block_on(forget::look(&rig.claims.shared, &state));
        [0, 1, 2].map(remembered)
    };
    assert_eq!(look(), [true; 3]);
    let records = rig.store.all();
    let one = records.iter().find(|record| record.claim == claims[0].0).expect("a record");
    rig.store.apply(&sale(), &Op::Resolve(vec![resolution(one, Verdict::Confirmed)]));
    // Units of others are held as well: it may take until those are fewer.
    let three = records.iter().find(|record| record.claim == claims[2].0).expect("a record");
    rig.store.apply(&sale(), &Op::Resolve(vec![resolution(three, Verdict::Failed)]));
    assert_eq!(look(), [false, true, true], "of the third an outcome is to come");
}

fn resolution(record: &Record, verdict: Verdict) -> Resolution {
    Resolution {
        user: record.user,
        claim: record.claim,
        attempt: record.attempt,
        pool: record.pool.clone(),
        units: record.units,
        verdict,
        hold_until: None,
    }
}

#[test]
fn who_was_there_is_known_to_the_next_run_and_waited_for() {
    let setup = Setup::new(3);
    setup.store.forgets.store(true, Ordering::Relaxed);
    let rig = setup.start();
    let other = NodeId([7; 8]);
    let lives = |store: &rig::Faulty| {
        let reported = store.state(&sale()).map(|state| state.mark());
        let said = Reassert { node: other, reported, ..Reassert::default() };
        store.apply(&sale(), &Op::Reassert(Box::new(said)));
    };
    lives(&rig.store);
    wait_until("the file", || {
        let known = learn::remembered(&rig.sales_file());
        known.iter().any(|sale| sale.peers.contains(&other))
    });
    // The ledger is lost while this node does not run, and the other one is away.
    let store = rig.store.clone();
    store.set(Network::Down);
    store.forget();
    let rig = rig.restart(());
    rig.store.set(Network::Well);
    wait_until("the report", || rig.sink.get(Counter::Reports) > 0);
    let state = rig.store.state(&sale()).expect("the sale");
    assert!(state.is_learning_at(rig.clock.now().ledger), "it waits for the other: {state:?}");
    assert!(!matches!(rig.claim(1), Claim::Admitted(_)));
    lives(&rig.store);
    wait_until("an admission", || matches!(rig.claim(1), Claim::Admitted(_)));
}

#[test]
fn units_that_were_seen_are_seen_with_the_id_that_added_them() {
    let setup = Setup::new(3);
    setup.store.forgets.store(true, Ordering::Relaxed);
    let rig = setup.start();
    let id = "monday".to_owned();
    let pool = ask(1).pool;
    let add = Op::Control(Control::AddStock { pool, units: 7, id });
    // It arrives, and its answer does not: what was added is heard by the way.
    rig.store.apply(&sale(), &add);
    let stock = |rig: &Rig| rig.store.state(&sale()).map(|state| state.pools[0].stock);
    let heard =
        |rig: &Rig| rig.claims.shared.book.sale(&sale()).is_some_and(|s| s.state.ids.len() == 1);
    wait_until("the news", || heard(&rig));
    rig.store.forget();
    wait_until("the sale again", || stock(&rig) == Some(10));
    let again = block_on(rig.claims.call(&sale(), add.clone())).expect("an answer");
    assert_eq!(again.result, OpResult::Controlled(Controlled::Unchanged));
    // The next run knows it from the disk.
    let store = rig.store.clone();
    store.set(Network::Down);
    store.forget();
    let rig = rig.restart(());
    rig.store.set(Network::Well);
    wait_until("the sale again", || stock(&rig) == Some(10));
    let again = block_on(rig.claims.call(&sale(), add)).expect("an answer");
    assert_eq!(again.result, OpResult::Controlled(Controlled::Unchanged));
    assert_eq!(stock(&rig), Some(10));
}
