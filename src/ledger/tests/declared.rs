//! Declarations: what they may change when, and what comes again.

use super::*;

fn pool(stock: u64) -> Pool {
    Pool::of(stock)
}

#[test]
fn an_old_file_reverts_nothing() {
    let file = declaration(&[("a", 10)]);
    let mut case = Case::open(10, |_| {});
    case.now = T0 - 10;
    let mut json = file.clone();
    json.revision = Some(1);
    json.pools.insert(name("a"), pool(20));
    assert_eq!(case.declare(json.clone()), Declared::Applied);
    assert_eq!(case.declare(file.clone()), Declared::Unchanged, "the config at the next start");
    assert_eq!(case.state().pool("a").expect("a pool").stock, 20);
    assert_eq!(case.declare(json), Declared::Unchanged);
    assert_eq!((case.state().revision, case.state().version), (1, 2));
}

#[test]
fn json_must_raise_its_revision() {
    let mut case = Case::open(10, |d| d.revision = Some(5));
    case.now = T0 - 10;
    let mut json = declaration(&[("a", 11)]);
    for (revision, why) in [(4, "is old, 5 was applied"), (5, "applied with another content")] {
        json.revision = Some(revision);
        let text = refused(case.declare(json.clone()));
        assert!(text.contains(why) && text.contains("write 6"), "{text}");
    }
    json.revision = Some(6);
    assert_eq!(case.declare(json.clone()), Declared::Applied);
    json.revision = Some(7);
    let version = case.state().version;
    assert_eq!(case.declare(json), Declared::Applied, "the same again, with a new revision");
    assert_eq!((case.state().revision, case.state().version), (7, version), "is no news");
}

#[test]
fn sixteen_declarations_are_remembered() {
    let mut case = Case::open(1, |_| {});
    case.now = T0 - 10;
    for stock in 2..=16 {
        assert_eq!(case.declare(declaration(&[("a", stock)])), Declared::Applied);
    }
    assert_eq!(case.declare(declaration(&[("a", 1)])), Declared::Unchanged);
    assert_eq!(case.declare(declaration(&[("a", 17)])), Declared::Applied);
    assert_eq!(case.declare(declaration(&[("a", 1)])), Declared::Applied, "forgotten");
    assert_eq!(case.state().applied.len(), crate::ledger::declare::APPLIED_MAX);
}

#[test]
fn a_declaration_that_comes_again_takes_one_place_of_the_sixteen() {
    let mut case = Case::open(1, |_| {});
    case.now = T0 - 10;
    let mut json = declaration(&[("a", 2)]);
    for revision in 1..=20 {
        json.revision = Some(revision);
        assert_eq!(case.declare(json.clone()), Declared::Applied);
    }
    assert_eq!(case.declare(declaration(&[("a", 1)])), Declared::Unchanged, "the old file");
    assert_eq!(case.state().applied.len(), 2);
}

#[test]
fn before_t0_everything_is_replaced_but_the_salt_and_the_operators_words() {
    let mut case = Case::open(1, |_| {});
    case.now = T0 - 10;
    case.control(Control::Pause);
    let mut other = declaration(&[("b", 3), ("c", 4)]);
    other.activity = name("other");
    other.opens_at = Time { at: UnixMs(T0 + 100) };
    other.ends_at = Some(Time { at: UnixMs(T0 + 200) });
    other.per_user = PerUser { orders: 2, units: 4 };
    other.overshoot = 1.25;
    other.restock = Restock::Never;
    let op = Declare { declaration: other, salt: Salt([9; 16]) };
    assert_eq!(case.run(Op::Declare(Box::new(op))), OpResult::Declared(Declared::Applied));
    let state = case.state();
    assert_eq!(state.salt, Salt([7; 16]));
    assert_eq!((state.opens_at.0, state.ends_at), (T0 + 100, Some(UnixMs(T0 + 200))));
    assert_eq!((state.overshoot_permille, state.per_user.units), (1250, 4));
    assert_eq!(state.pools.iter().map(|p| p.stock).collect::<Vec<_>>(), [3, 4]);
    assert!(state.paused && state.restock == Restock::Never);
    case.control(Control::SoldOut);
    assert_eq!(case.declare(declaration(&[("d", 3)])), Declared::Applied);
    assert!(case.state().sold_out, "sold out stays within the epoch");
}

#[test]
fn before_t0_a_pool_with_orders_stays() {
    let mut case = Case::pools(&[("a", 1), ("b", 1)], |_| {});
    case.now = T0 - 10;
    assert_eq!(case.resolve(1, 1, Verdict::Confirmed), Resolved::Late);
    let text = refused(case.declare(declaration(&[("b", 2)])));
    assert!(text.contains("pools.a"), "{text}");
    assert_eq!(case.declare(declaration(&[("a", 7)])), Declared::Applied);
    assert_eq!(case.pool("a"), (1, 0, 0, true), "the latch stays within the epoch");
}

#[test]
fn after_t0_only_what_is_tighter_and_the_end_are_taken() {
    let wide = |d: &mut Declaration| {
        d.per_user = PerUser { orders: 2, units: 4 };
        d.overshoot = 1.5;
    };
    let mut case = Case::open(10, wide);
    let mut base = declaration(&[("a", 10)]);
    wide(&mut base);
    type Change = fn(&mut Declaration);
    let refusals: [(&str, Change); 9] = [
        ("activity", |d| d.activity = name("other")),
        ("opens_at", |d| d.opens_at = Time { at: UnixMs(T0 + 1) }),
        ("overshoot", |d| d.overshoot = 1.6),
        ("per_user", |d| d.per_user.units = 5),
        ("per_user", |d| d.per_user.orders = 3),
        ("penstock sale add-stock", |d| _ = d.pools.insert(name("a"), pool(11))),
        ("penstock sale add-stock", |d| _ = d.pools.insert(name("a"), pool(9))),
        ("added", |d| _ = d.pools.insert(name("b"), pool(1))),
        ("removed", |d| d.pools = [(name("b"), pool(1))].into()),
    ];
    let before = case.state().clone();
    for (why, change) in refusals {
        let mut bad = base.clone();
        // A part that would be taken alone: a refusal is whole.
        bad.ends_at = Some(Time { at: UnixMs(T0 + 900) });
        change(&mut bad);
        let text = refused(case.declare(bad));
        assert!(text.contains(why) || why == "removed" && text.contains("added"), "{why}: {text}");
        assert_eq!(case.state(), &before);
    }
    let mut tight = base.clone();
    tight.per_user = PerUser { orders: 1, units: 2 };
    tight.overshoot = 1.0;
    tight.restock = Restock::Never;
    tight.ends_at = Some(Time { at: UnixMs(T0 + 900) });
    assert_eq!(case.declare(tight.clone()), Declared::Applied);
    assert_eq!(case.state().version, before.version + 1);
    assert_eq!((case.state().per_user.units, case.state().overshoot_permille), (2, 1000));
    tight.restock = Restock::Manual;
    assert!(refused(case.declare(tight.clone())).contains("restock"));
    tight.restock = Restock::Never;
    tight.ends_at = None;
    assert_eq!(case.declare(tight), Declared::Applied);
    assert_eq!(case.state().ends_at, None);
}

#[test]
fn a_tightened_limit_holds_for_those_who_have_more() {
    let mut case = Case::open(10, |d| d.per_user = PerUser { orders: 2, units: 4 });
    case.claim(1, 1, 3);
    case.resolve(1, 1, Verdict::Confirmed);
    let mut tight = declaration(&[("a", 10)]);
    tight.per_user = PerUser { orders: 2, units: 2 };
    assert_eq!(case.declare(tight), Declared::Applied);
    assert_eq!(case.claim(1, 2, 1), Claimed::Limit { max_units: 0 });
}

#[test]
fn a_lost_ledger_cannot_resell() {
    let mut case = Case { ledger: Memory::new(sale_id()), now: T0, ids: 0 };
    let mut past = declaration(&[("a", 2)]);
    past.ends_at = Some(Time { at: UnixMs(T0 + 100) });
    case.now = T0 + 100;
    assert!(refused(case.declare(past.clone())).contains("ends_at"));
    assert_eq!(case.ledger.state(), None, "never created");
    case.now = T0;
    assert_eq!(case.declare(past), Declared::CreatedPaused);
    assert_eq!(case.claim(1, 1, 1), Claimed::Paused);
    assert_eq!(case.control(Control::Resume), Controlled::Applied);
    assert!(matches!(case.claim(1, 1, 1), Claimed::Admitted { .. }));
}

#[test]
fn a_sale_that_is_over_stays_over() {
    let mut case = Case::open(1, |d| d.ends_at = Some(Time { at: UnixMs(T0 + 5) }));
    let mut longer = declaration(&[("a", 1)]);
    longer.ends_at = Some(Time { at: UnixMs(T0 + 2) });
    case.now = T0 + 2;
    assert!(refused(case.declare(longer.clone())).contains("penstock sale end"));
    longer.ends_at = Some(Time { at: UnixMs(T0 + 500) });
    case.now = T0 + 5;
    assert!(refused(case.declare(longer)).contains("has ended"));
}

#[test]
fn what_makes_no_sense_is_refused_with_its_field() {
    let mut case = Case::open(1, |_| {});
    case.now = T0 - 10;
    assert!(refused(case.declare(declaration(&[]))).contains("pools"));
    assert!(refused(case.declare(declaration(&[("a", 0)]))).contains("pools.a.stock"));
    let mut ledger = Memory::new(sale_id());
    let reply = ledger.apply(&declare(declaration(&[])), UnixMs(0));
    assert!(matches!(reply.result, OpResult::Declared(Declared::Refused(_))));
}

#[test]
fn an_activity_has_one_sale_that_is_not_over() {
    let case = Case::open(1, |d| d.ends_at = Some(Time { at: UnixMs(T0 + 5) }));
    let sales = [case.state().clone()];
    let said = declaration(&[("a", 1)]);
    let other: SaleId = "shop/second".parse().expect("an id");
    let elsewhere: SaleId = "outlet/second".parse().expect("an id");
    let rival = |id: &SaleId, now| crate::ledger::declare::rival(id, &said, &sales, UnixMs(now));
    assert!(rival(&other, T0).is_some_and(|why| why.contains("shop/drop")));
    assert_eq!(rival(&other, T0 + 5), None, "after its end");
    assert_eq!(rival(&elsewhere, T0), None, "of another site");
    assert_eq!(rival(&sale_id(), T0), None, "itself");
}
