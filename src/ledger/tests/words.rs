//! The operator's words.

use super::*;

#[test]
fn words_are_applied_once_and_end_with_the_sale() {
    let mut case = Case::open(2, |_| {});
    let version = case.state().version;
    for word in [Control::Pause, Control::Resume, Control::SoldOut, Control::End] {
        assert_eq!(case.control(word.clone()), Controlled::Applied);
        let after = case.state().version;
        if word != Control::Resume {
            assert_eq!(case.control(word), Controlled::Unchanged);
        }
        assert_eq!(case.state().version, after);
    }
    assert_eq!(case.state().version, version + 4);
    for word in [Control::Pause, Control::Resume, Control::SoldOut] {
        assert!(refused_word(case.control(word)).contains("ended"));
    }
    assert!(refused_word(case.restock("a", 1)).contains("ended"));
}

#[test]
fn end_is_taken_after_the_time_too() {
    let mut case = Case::open(2, |d| d.ends_at = Some(Time { at: UnixMs(T0 + 5) }));
    case.now = T0 + 5;
    assert!(refused_word(case.control(Control::Pause)).contains("ended"));
    assert_eq!(case.control(Control::End), Controlled::Applied);
    assert!(case.state().ended);
}

#[test]
fn the_word_sold_out_latches_every_pool_and_a_restock_opens_one() {
    let mut case = Case::pools(&[("a", 5), ("b", 5)], |_| {});
    case.claim(1, 1, 1);
    assert_eq!(case.control(Control::SoldOut), Controlled::Applied);
    assert_eq!(case.pool("a"), (0, 1, 0, true));
    case.resolve(1, 1, Verdict::Failed);
    assert_eq!(case.claim(2, 2, 1), Claimed::SoldOut);
    assert_eq!(case.restock("b", 0), Controlled::Applied);
    assert!(!case.state().sold_out);
    assert_eq!(case.claim(2, 2, 1), Claimed::SoldOut);
    assert!(matches!(case.claim_in("b", 2, 2, 2, 1), Claimed::Admitted { .. }));
}

#[test]
fn add_stock_before_the_latch_only() {
    let mut case = Case::open(1, |_| {});
    case.claim(1, 1, 1);
    let version = case.state().version;
    assert_eq!(case.add_stock("a", 1), Controlled::Applied);
    assert_eq!((case.state().epoch, case.state().version), (1, version + 1));
    case.resolve(1, 1, Verdict::Confirmed);
    case.buy(2, 2, Verdict::Confirmed);
    assert!(refused_word(case.add_stock("a", 1)).contains("penstock sale restock"));
    assert!(refused_word(case.add_stock("z", 1)).contains("no pool z"));
    assert_eq!(case.restock("a", 3), Controlled::Applied);
    assert!(refused_word(case.add_stock("a", 0)).contains("1 or more"));
    assert!(refused_word(case.add_stock("a", STOCK_MAX)).contains("more than 1000000000"));
    assert_eq!(case.state().pool("a").expect("a pool").stock, 5);
}

#[test]
fn restock_is_refused_where_there_is_nothing_to_sell() {
    let mut case = Case::open(2, |_| {});
    assert!(refused_word(case.restock("a", 1)).contains("not sold out"));
    case.buy(1, 1, Verdict::Confirmed);
    case.buy(2, 2, Verdict::Unknown);
    assert!(refused_word(case.restock("a", 0)).contains("nothing to sell"));
    assert!(refused_word(case.restock("z", 1)).contains("no pool z"));
    assert!(case.state().sold_out);
    let mut case = Case::open(1, |d| d.restock = Restock::Never);
    case.buy(1, 1, Verdict::Confirmed);
    assert!(refused_word(case.restock("a", 1)).contains("never"));
}

#[test]
fn a_command_is_applied_once_by_its_id() {
    let mut case = Case::open(1, |_| {});
    let add = |id: &str| Control::AddStock { pool: name("a"), units: 1, id: id.to_owned() };
    for bad in ["", "two words", "z\u{fc}g", &"x".repeat(ID_BYTES_MAX + 1)] {
        assert!(refused_word(case.control(add(bad))).contains("id:"), "{bad}");
    }
    let refused = Control::AddStock { pool: name("z"), units: 1, id: "once".to_owned() };
    refused_word(case.control(refused));
    assert_eq!(case.control(add("once")), Controlled::Applied, "a refusal is not remembered");
    assert_eq!(case.control(add("once")), Controlled::Unchanged);
    for n in 1..IDS_MAX {
        assert_eq!(case.control(add(&n.to_string())), Controlled::Applied);
    }
    assert_eq!(case.control(add("once")), Controlled::Unchanged, "the oldest of 64");
    assert_eq!(case.control(add("one-more")), Controlled::Applied);
    assert_eq!(case.control(add("once")), Controlled::Applied, "forgotten behind 64 others");
    case.buy(1, 1, Verdict::Confirmed);
    case.control(Control::SoldOut);
    let again = Control::Restock { pool: name("a"), units: 1, id: "one-more".to_owned() };
    assert_eq!(case.control(again), Controlled::Unchanged, "one memory for both commands");
    assert_eq!(case.state().epoch, 1);
}
