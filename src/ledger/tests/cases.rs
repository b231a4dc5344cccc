//! Claims, outcomes and the latch, one story each.

use super::*;

const ADMITTED: Claimed = Claimed::Admitted { deadline: UnixMs(T0 + 10_000) };
const OTHER_NODE: NodeId = NodeId([2; 8]);

#[test]
fn the_last_unit_is_sold_once() {
    let mut case = Case::open(1, |_| {});
    assert_eq!(case.claim(1, 1, 1), ADMITTED);
    assert_eq!(case.claim(2, 2, 1), Claimed::Busy);
    assert_eq!(case.resolve(1, 1, Verdict::Confirmed), Resolved::Applied);
    assert_eq!(case.claim(2, 2, 1), Claimed::SoldOut);
    assert_eq!(case.pool("a"), (1, 0, 0, true));
}

#[test]
fn a_sale_is_never_early_and_ends_on_time() {
    let mut case = Case::open(1, |d| d.ends_at = Some(Time { at: UnixMs(T0 + 5) }));
    case.now = T0 - 1;
    assert_eq!(case.claim(1, 1, 1), Claimed::NotStarted);
    case.now = T0 + 5;
    assert_eq!(case.claim(1, 1, 1), Claimed::Ended);
    case.now = T0 + 4;
    assert!(matches!(case.claim(1, 1, 1), Claimed::Admitted { .. }));
}

#[test]
fn the_order_of_refusals_is_ended_sold_out_time_paused() {
    let mut case = Case::pools(&[("a", 1), ("b", 1)], |_| {});
    case.now = T0 - 1;
    case.control(Control::Pause);
    assert_eq!(case.claim(1, 1, 1), Claimed::NotStarted);
    assert_eq!(case.claim_in("z", 1, 1, 1, 1), Claimed::UnknownPool);
    case.now = T0;
    assert_eq!(case.claim(1, 1, 1), Claimed::Paused);
    case.now = T0 - 1;
    case.control(Control::SoldOut);
    assert_eq!(case.claim(1, 1, 1), Claimed::SoldOut);
    assert_eq!(case.claim_in("z", 1, 1, 1, 1), Claimed::SoldOut);
    case.control(Control::End);
    assert_eq!(case.claim(1, 1, 1), Claimed::Ended);
}

#[test]
fn pools_latch_one_by_one_and_the_sale_with_the_last() {
    let mut case = Case::pools(&[("a", 1), ("b", 1)], |_| {});
    case.buy(1, 1, Verdict::Confirmed);
    let version = case.state().version;
    assert_eq!((case.pool("a").3, case.pool("b").3, case.state().sold_out), (true, false, false));
    assert_eq!(case.claim(2, 2, 1), Claimed::SoldOut);
    assert_eq!(case.claim_in("b", 2, 2, 2, 1), ADMITTED);
    assert_eq!(case.state().version, version, "counters are no news");
    case.resolve(2, 2, Verdict::Confirmed);
    assert_eq!((case.pool("b").3, case.state().sold_out), (true, true));
    assert_eq!(case.state().version, version + 1);
}

#[test]
fn a_winner_who_asks_again_after_sell_out_gets_the_win() {
    let mut case = Case::open(1, |_| {});
    case.buy(1, 1, Verdict::Confirmed);
    let won = Claimed::Confirmed { claim: claim_id(1) };
    assert_eq!(case.claim_in("a", 1, 9, 1, 1), won);
    assert_eq!(case.claim(1, 9, 1), Claimed::Already, "another attempt of a winner");
    assert_eq!(case.claim(2, 9, 1), Claimed::SoldOut, "somebody else");
    case.control(Control::End);
    assert_eq!(case.claim_in("a", 1, 9, 1, 1), won, "records come before the end, too");
}

#[test]
fn the_same_attempt_joins_on_its_node_only() {
    let mut case = Case::open(2, |_| {});
    case.claim(1, 1, 1);
    let claim = claim_id(1);
    let joined = Claimed::InProgress { claim, same: true };
    let other = Claimed::InProgress { claim, same: false };
    assert_eq!(case.claim_in("a", 1, 9, 1, 1), joined);
    assert_eq!(case.claim_at(OTHER_NODE, "a", 1, 9, 1, 1), other);
    assert_eq!(case.claim(1, 9, 1), other);
    assert_eq!(case.pool("a"), (0, 1, 0, false), "nothing more was held");
}

#[test]
fn an_open_outcome_is_pending_for_every_attempt() {
    let mut case = Case::open(5, |d| d.per_user = PerUser { orders: 2, units: 4 });
    case.claim(1, 1, 1);
    case.resolve(1, 1, Verdict::Unknown);
    let pending = Claimed::Pending { claim: claim_id(1) };
    assert_eq!(case.claim_in("a", 1, 9, 1, 1), pending);
    assert_eq!(case.claim(1, 9, 1), pending);
    case.claim(2, 2, 1);
    case.resolve_as("a", 2, 2, 1, Verdict::Pending, Some(T0 + 50));
    assert_eq!(case.claim(2, 9, 1), Claimed::Pending { claim: claim_id(2) });
}

#[test]
fn an_attempt_after_a_definite_failure_is_a_new_claim() {
    let mut case = Case::open(1, |_| {});
    case.buy(1, 1, Verdict::Failed);
    assert_eq!(case.pool("a"), (0, 0, 0, false));
    assert_eq!(case.claim_in("a", 1, 2, 1, 1), ADMITTED);
    assert_eq!(case.resolve(1, 1, Verdict::Failed), Resolved::Unknown, "the first claim's F again");
    assert_eq!(case.pool("a"), (0, 1, 0, false), "it did not touch the second claim");
}

#[test]
fn orders_and_units_are_counted_over_all_pools() {
    let mut case =
        Case::pools(&[("a", 9), ("b", 9)], |d| d.per_user = PerUser { orders: 2, units: 3 });
    assert_eq!(case.claim(1, 1, 4), Claimed::Limit { max_units: 3 });
    assert_eq!(case.claim(1, 1, 0), Claimed::Limit { max_units: 3 }, "no order of nothing");
    assert_eq!(case.claim(1, 1, 2), ADMITTED);
    case.resolve(1, 1, Verdict::Confirmed);
    assert_eq!(case.claim_in("b", 1, 2, 2, 2), Claimed::Limit { max_units: 1 });
    assert_eq!(case.claim_in("b", 1, 2, 2, 1), ADMITTED);
    case.resolve_as("b", 1, 2, 1, Verdict::Confirmed, None);
    assert_eq!(case.claim(1, 3, 1), Claimed::Limit { max_units: 0 });
    assert_eq!(case.pool("a").0 + case.pool("b").0, 3);
}

#[test]
fn a_quantity_that_does_not_fit_does_not_block_the_next() {
    let mut case = Case::open(3, |d| d.per_user = PerUser { orders: 1, units: 3 });
    let batch = ClaimBatch {
        node: NODE,
        not_after: UnixMs(T0),
        claim_ttl_ms: 10_000,
        reported: Some(Mark::default()),
        fence: Fence::default(),
        tries: vec![
            try_of("a", 1, 1, 1, 2),
            try_of("a", 2, 2, 2, 2),
            try_of("a", 3, 3, 3, 1),
            try_of("a", 4, 4, 4, 2),
        ],
    };
    assert_eq!(
        case.run(Op::Claim(batch)),
        OpResult::Claimed(vec![
            ADMITTED,
            Claimed::Insufficient { max_units: 1 },
            ADMITTED,
            Claimed::Busy
        ])
    );
}

#[test]
fn a_batch_that_comes_too_late_does_nothing() {
    let mut case = Case::open(3, |_| {});
    let tries = vec![try_of("a", 1, 1, 1, 1), try_of("a", 2, 2, 2, 1)];
    let batch = |not_after| ClaimBatch {
        node: NODE,
        not_after: UnixMs(not_after),
        claim_ttl_ms: 10_000,
        reported: Some(Mark::default()),
        fence: Fence::default(),
        tries: tries.clone(),
    };
    assert_eq!(
        case.run(Op::Claim(batch(T0 - 1))),
        OpResult::Claimed(vec![Claimed::TooLate, Claimed::TooLate])
    );
    assert_eq!(case.pool("a"), (0, 0, 0, false));
    assert_eq!(case.run(Op::Claim(batch(T0))), OpResult::Claimed(vec![ADMITTED, ADMITTED]));
}

#[test]
fn limbo_counts_as_sold_for_the_latch_and_what_fails_of_it_is_a_restock() {
    let mut case = Case::open(2, |_| {});
    case.buy(1, 1, Verdict::Confirmed);
    case.buy(2, 2, Verdict::Unknown);
    assert_eq!(case.pool("a"), (1, 0, 1, true));
    assert_eq!(case.resolve(2, 2, Verdict::Failed), Resolved::Applied);
    assert_eq!(case.pool("a"), (1, 0, 0, true), "the latch stays");
    assert_eq!(case.claim(3, 3, 1), Claimed::SoldOut);
    let (epoch, version) = (case.state().epoch, case.state().version);
    assert_eq!(case.restock("a", 0), Controlled::Applied);
    assert_eq!((case.state().epoch, case.state().version), (epoch + 1, version + 1));
    assert_eq!(case.claim(1, 9, 1), Claimed::Already, "records outlive the epoch");
    assert_eq!(case.claim(3, 3, 1), ADMITTED);
}

#[test]
fn the_latch_waits_for_what_is_held() {
    let mut case = Case::open(2, |_| {});
    case.buy(1, 1, Verdict::Confirmed);
    case.claim(2, 2, 1);
    assert!(!case.state().sold_out, "one may still fail");
    assert_eq!(case.claim(3, 3, 1), Claimed::Busy);
    case.resolve(2, 2, Verdict::Failed);
    assert_eq!(case.claim(3, 3, 1), ADMITTED, "and did");
}

#[test]
fn above_overshoot_one_it_closes_although_room_is_left() {
    let mut case = Case::open(2, |d| d.overshoot = 2.0);
    for n in 1..=4 {
        assert_eq!(case.claim(n, n, 1), ADMITTED);
    }
    assert_eq!(case.claim(5, 5, 1), Claimed::Busy);
    case.resolve(1, 1, Verdict::Unknown);
    case.resolve(2, 2, Verdict::Unknown);
    assert!(!case.state().sold_out, "two are held");
    case.resolve(3, 3, Verdict::Failed);
    case.resolve(4, 4, Verdict::Failed);
    let pool = case.state().pool("a").expect("a pool");
    assert_eq!((pool.room(2000), pool.sold_out), (2, true));
    assert_eq!(case.claim(5, 5, 1), Claimed::SoldOut);
}

#[test]
fn a_c_that_comes_again_does_not_bring_a_cancelled_order_back() {
    let mut case = Case::open(2, |_| {});
    case.buy(1, 1, Verdict::Confirmed);
    assert_eq!(case.resolve(1, 1, Verdict::Void), Resolved::Applied);
    assert_eq!(case.resolve(1, 1, Verdict::Confirmed), Resolved::Repeated);
    assert_eq!(case.pool("a"), (0, 0, 0, false));
    // Another claim of the same user is another order.
    case.buy(1, 2, Verdict::Confirmed);
    assert_eq!(case.pool("a"), (1, 0, 0, false));
}

#[test]
fn an_f_then_a_c_is_counted_and_said() {
    let mut case = Case::open(2, |_| {});
    case.buy(1, 1, Verdict::Failed);
    assert_eq!(case.resolve(1, 1, Verdict::Confirmed), Resolved::Late);
    assert_eq!(case.pool("a"), (1, 0, 0, false));
    assert_eq!(case.resolve(1, 1, Verdict::Confirmed), Resolved::Repeated);
    assert_eq!(case.resolve(1, 1, Verdict::Failed), Resolved::Conflict);
    assert_eq!(case.pool("a"), (1, 0, 0, false));
    assert_eq!(case.claim(1, 9, 1), Claimed::Already);
    assert_eq!(
        case.resolve_as("z", 1, 8, 1, Verdict::Confirmed, None),
        Resolved::Conflict,
        "an order of a pool that is not there"
    );
}

#[test]
fn a_late_order_is_counted_beyond_the_stock() {
    let mut case = Case::open(1, |_| {});
    case.buy(1, 1, Verdict::Failed);
    case.buy(2, 2, Verdict::Confirmed);
    assert_eq!(case.resolve(1, 1, Verdict::Confirmed), Resolved::Late);
    assert_eq!(case.pool("a"), (2, 0, 0, true));
    assert!(refused_word(case.restock("a", 0)).contains("nothing to sell"));
    assert!(refused_word(case.restock("a", 1)).contains("nothing to sell"));
    assert_eq!(case.restock("a", 2), Controlled::Applied);
    assert_eq!(case.claim(3, 3, 1), ADMITTED);
    assert_eq!(case.claim(4, 4, 1), Claimed::Busy);
}

#[test]
fn the_reaper_between_x_and_c() {
    let mut case = Case::open(2, |_| {});
    case.claim(1, 1, 1);
    case.resolve(1, 1, Verdict::Unknown);
    case.now += 20_000;
    assert_eq!(case.reap(), [], "X took it to limbo already");
    assert_eq!(case.resolve(1, 1, Verdict::Confirmed), Resolved::Applied);
    assert_eq!(case.pool("a"), (1, 0, 0, false));
    assert_eq!(case.ledger.deadlines().count(), 0);
}

#[test]
fn what_nobody_resolves_goes_to_limbo_at_its_deadline_in_order() {
    let mut case = Case::open(9, |_| {});
    case.claim(2, 2, 1);
    case.now += 1;
    case.claim(1, 1, 1);
    case.now = T0 + 9_999;
    assert_eq!(case.reap(), []);
    case.now = T0 + 10_001;
    assert_eq!(case.run(Op::Reap { max: 0 }), OpResult::Reaped(Vec::new()));
    assert_eq!(case.reap(), [claim_id(2), claim_id(1)]);
    assert_eq!(case.pool("a"), (0, 0, 2, false));
    assert_eq!(case.resolve(1, 1, Verdict::Unknown), Resolved::Repeated);
    assert_eq!(case.resolve(1, 1, Verdict::Failed), Resolved::Applied);
}

#[test]
fn a_pending_order_holds_its_units_until_pay_ttl() {
    let mut case = Case::open(1, |_| {});
    let until = Some(T0 + 60_000);
    case.claim(1, 1, 1);
    assert_eq!(case.resolve_as("a", 1, 1, 1, Verdict::Pending, until), Resolved::Applied);
    assert_eq!(case.resolve_as("a", 1, 1, 1, Verdict::Pending, until), Resolved::Repeated);
    assert_eq!(case.resolve(1, 1, Verdict::Unknown), Resolved::Repeated, "P knows more");
    case.now = T0 + 30_000;
    assert_eq!(case.reap(), [], "the claim's own deadline does not count any more");
    assert_eq!(case.pool("a"), (0, 1, 0, false));
    case.now = T0 + 60_000;
    assert_eq!(case.resolve(1, 1, Verdict::Unknown), Resolved::Applied, "its time is over");
    assert_eq!(case.pool("a"), (0, 0, 1, true));
    assert_eq!(case.resolve_as("a", 1, 1, 1, Verdict::Pending, until), Resolved::Repeated);
}

#[test]
fn a_pending_word_after_the_reaper_holds_again() {
    let mut case = Case::open(2, |_| {});
    case.claim(1, 1, 1);
    case.now = T0 + 10_000;
    assert_eq!(case.reap(), [claim_id(1)]);
    let until = Some(T0 + 60_000);
    assert_eq!(case.resolve_as("a", 1, 1, 1, Verdict::Pending, None), Resolved::Repeated);
    assert_eq!(case.resolve_as("a", 1, 1, 1, Verdict::Pending, until), Resolved::Applied);
    assert_eq!(case.pool("a"), (0, 1, 0, false));
    case.now = T0 + 60_000;
    assert_eq!(case.reap(), [claim_id(1)]);
}

#[test]
fn a_cancelled_order_after_an_epoch_gives_its_unit_back() {
    let mut case = Case::open(1, |_| {});
    case.buy(1, 1, Verdict::Confirmed);
    assert_eq!(case.restock("a", 1), Controlled::Applied);
    case.buy(2, 2, Verdict::Confirmed);
    assert_eq!(case.pool("a"), (2, 0, 0, true));
    assert_eq!(case.resolve(1, 1, Verdict::Void), Resolved::Applied, "an order of epoch 1");
    assert_eq!(case.resolve(1, 1, Verdict::Void), Resolved::Unknown);
    assert_eq!(case.pool("a"), (1, 0, 0, true));
    assert_eq!(case.claim(1, 9, 1), Claimed::SoldOut, "the user may buy again, the pool may not");
    assert_eq!(case.restock("a", 0), Controlled::Applied);
    assert_eq!(case.claim(1, 9, 1), ADMITTED);
}

#[test]
fn a_cancelled_order_before_the_latch_is_sold_in_its_epoch() {
    let mut case = Case::open(2, |_| {});
    case.buy(1, 1, Verdict::Confirmed);
    case.claim(2, 2, 1);
    assert_eq!(case.claim(3, 3, 1), Claimed::Busy);
    case.resolve(1, 1, Verdict::Void);
    assert_eq!(case.claim(3, 3, 1), ADMITTED);
    assert_eq!(case.state().epoch, 1);
}

#[test]
fn outcomes_are_matched_by_claim_and_take_the_records_units() {
    let mut case = Case::open(9, |d| d.per_user = PerUser { orders: 2, units: 8 });
    case.claim(1, 1, 3);
    for verdict in [Verdict::Failed, Verdict::Unknown, Verdict::Pending, Verdict::Void] {
        assert_eq!(case.resolve(1, 2, verdict), Resolved::Unknown);
    }
    assert_eq!(case.pool("a"), (0, 3, 0, false));
    assert_eq!(case.resolve_as("a", 1, 1, 7, Verdict::Confirmed, None), Resolved::Applied);
    assert_eq!(case.pool("a"), (3, 0, 0, false));
}

#[test]
fn nothing_is_done_to_a_sale_that_is_not_there() {
    let mut ledger = Memory::new(sale_id());
    for op in [Op::Read, Op::Reap { max: 1 }, Op::Control(Control::End), Op::Resolve(Vec::new())] {
        let reply = ledger.apply(&op, UnixMs(T0));
        assert_eq!((reply.state, reply.result), (None, OpResult::NoSale));
    }
}
