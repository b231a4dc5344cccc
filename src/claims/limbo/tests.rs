use super::super::tests::rig::{Setup, ask, block_on, outcome, sale};
use super::*;
use crate::ident::{AttemptId, Salt};

/// Salt of the rig's sale.
const SALT: Salt = Salt([7; 16]);

fn row(order: &str) -> OrderRow {
    OrderRow { order: order.to_owned(), ..OrderRow::default() }
}

#[test]
fn limbo_is_listed_with_what_the_shop_said_also_after_a_restart() {
    let rig = Setup::new(5).start();
    rig.admitted(1).begin_send().resolve(outcome(Verdict::Unknown));
    drop(rig.admitted(2).begin_send());
    rig.drained();
    let check = |list: Vec<LimboRecord>| {
        let said: Vec<_> = list.iter().map(|r| (r.status, r.code.as_deref())).collect();
        assert_eq!(said, [(Some(500), Some("5000")), (None, None)]);
        assert!(list[0].admitted_ms.is_some());
    };
    check(block_on(rig.claims.limbo(&sale())).unwrap());
    let rig = rig.restart(());
    check(block_on(rig.claims.limbo(&sale())).unwrap());
    let unknown = "shop/other".parse().unwrap();
    assert!(matches!(block_on(rig.claims.limbo(&unknown)), Err(LimboError::NoSale(_))));
}

#[test]
fn an_operators_word_and_a_code_settle_claims() {
    let rig = Setup::new(5).start();
    for n in 1..=3 {
        rig.admitted(n).begin_send().resolve(outcome(Verdict::Unknown));
    }
    drop(rig.admitted(4).begin_send());
    rig.drained();
    let list = block_on(rig.claims.limbo(&sale())).unwrap();
    let stranger = ClaimId([0xee; 12]);
    let resolve = ResolveRequest { claims: vec![list[0].claim, stranger], truth: Truth::Confirmed };
    let report = block_on(rig.claims.limbo_resolve(&sale(), &resolve)).unwrap();
    assert_eq!((report.confirmed, report.failed, report.left), (1, 0, 3));
    assert_eq!((report.conflicts, report.waiting), (0, 0));
    assert_eq!(report.not_in_limbo, [stranger]);

    let by_code =
        ReclassifyRequest { code: Some("5000".to_owned()), status: None, truth: Truth::Failed };
    let report = block_on(rig.claims.limbo_reclassify(&sale(), &by_code)).unwrap();
    assert_eq!((report.confirmed, report.failed, report.left), (0, 2, 1));
    assert_eq!(rig.store.kinds(), [RecordKind::Confirmed, RecordKind::Limbo]);
    let nothing = ReclassifyRequest { code: None, status: None, truth: Truth::Failed };
    let refused = block_on(rig.claims.limbo_reclassify(&sale(), &nothing));
    assert!(matches!(refused, Err(LimboError::Nothing)));
}

#[test]
fn the_shops_list_settles_what_is_in_it_and_what_is_not() {
    let rig = Setup::new(9).start();
    let mut claims = Vec::new();
    for n in 1..=3 {
        let permit = rig.admitted(n);
        claims.push(permit.claim());
        drop(permit.begin_send());
    }
    // Claims as the gate makes them: of an identity, and of an identity and a key.
    for (user, key) in [("u4", "k4"), ("u5", "k5")] {
        let user = UserKey::of_identity(&SALT, user.as_bytes());
        let attempt = AttemptId::of_key(&SALT, &user, key.as_bytes());
        let ask = super::super::Ask { user, attempt, ..ask(4) };
        let super::super::Claim::Admitted(permit) = block_on(rig.claims.claim(ask)) else {
            panic!("refused");
        };
        drop(permit.begin_send());
    }
    rig.drained();
    let orders = vec![
        OrderRow { key: Some(claims[0].to_string()), ..row("S1") },
        OrderRow {
            key: Some("k4".to_owned()),
            user: Some("u4".to_owned()),
            status: Some("cancelled".to_owned()),
            ..row("S4")
        },
        OrderRow { user: Some("u5".to_owned()), ..row("S5") },
        OrderRow { key: Some("somebody else's".to_owned()), ..row("S6") },
    ];
    let mut request =
        MatchRequest { orders, partial: true, dry_run: true, ..MatchRequest::default() };
    let matched = |request: &MatchRequest| {
        let report = block_on(rig.claims.limbo_match(&sale(), request)).unwrap();
        (report.confirmed, report.failed, report.left)
    };
    assert_eq!(matched(&request), (3, 0, 2));
    assert_eq!(rig.store.kinds(), [RecordKind::Limbo; 5], "it was only said");
    request.partial = false;
    request.made_at_ms = Some(1);
    assert_eq!(matched(&request), (3, 0, 2), "a list from before the claims proves no failure");
    request.made_at_ms = None;
    assert_eq!(matched(&request), (3, 0, 2), "until their deadlines they may still reach the shop");
    request.made_at_ms = Some(u64::MAX);
    request.dry_run = false;
    assert_eq!(matched(&request), (3, 2, 0));
    assert_eq!(rig.store.kinds(), [RecordKind::Confirmed; 3]);
    assert_eq!(matched(&request), (0, 0, 0));
    let orders: Vec<_> = rig.lines().iter().filter_map(|line| line.order.clone()).collect();
    assert_eq!(orders.len(), 3);
    assert!(["S1", "S4", "S5"].iter().all(|order| orders.contains(&(*order).to_owned())));
}
