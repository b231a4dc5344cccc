//! Generated sequences: the core against the model, and the invariants after every operation.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::generate::{Step, aimed, steps};
use super::model::{Model, look};
use super::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(768))]

    #[test]
    fn the_core_does_what_the_model_does(steps in steps(1..90), moves in moves()) {
        let (mut ledger, mut model) = (Memory::new(sale_id()), Model::default());
        let (mut states, mut snapshots) = (Vec::new(), Vec::new());
        for (at, (now, op)) in steps.iter().enumerate() {
            if let Some(&(back, server)) = moves.get(&at) {
                // The ledger is what it was some operations ago, on another server.
                let old: usize = at.saturating_sub(back);
                (ledger, model) = snapshots.get(old).cloned().unwrap_or_else(|| {
                    (Memory::new(sale_id()), Model::default())
                });
                ledger.moved_to(ServerId([server; 16]));
                model.server = ServerId([server; 16]);
            }
            let op = &aimed(op, &states);
            let reply = ledger.apply(op, *now);
            let expected = model.apply(op, *now);
            states.extend(reply.state.clone());
            snapshots.push((ledger.clone(), model.clone()));
            prop_assert_eq!(without_texts(reply.result), expected, "{:?} at {:?}", op, now);
            prop_assert_eq!(ledger.state(), model.sale.as_ref());
            prop_assert_eq!(&reply.state, &model.sale);
            let mut records = model.records.clone();
            records.sort_by_key(|r| r.user);
            prop_assert_eq!(ledger.page(None, None, usize::MAX), records);
        }
    }

    #[test]
    fn invariants_hold_after_every_operation(steps in steps(1..90)) {
        let mut ledger = Memory::new(sale_id());
        let mut bounds = Bounds::default();
        let mut states = Vec::new();
        for (now, op) in &steps {
            let step = &(*now, aimed(op, &states));
            let before = ledger.state().cloned();
            let reply = ledger.apply(&step.1, step.0);
            states.extend(reply.state.clone());
            budget_i1(&mut bounds, step, &reply)?;
            counters_are_records_i2(&ledger)?;
            no_user_beyond_limits_i3(&ledger, step, &reply)?;
            if let (Some(before), Some(after)) = (before, ledger.state()) {
                monotone(&before, after)?;
            }
        }
    }

    #[test]
    fn an_outcome_repeated_changes_nothing(steps in steps(1..60)) {
        let mut ledger = Memory::new(sale_id());
        let mut states = Vec::new();
        for (now, op) in &steps {
            let op = &aimed(op, &states);
            let first = ledger.apply(op, *now);
            states.extend(first.state);
            let (Op::Resolve(all), OpResult::Resolved(was)) = (op, first.result) else { continue };
            let after = ledger.clone();
            // Within one operation a V frees what a later outcome of the same claim meets.
            let mut claims: Vec<_> = all.iter().map(|o| o.claim).collect();
            claims.sort();
            claims.dedup();
            if claims.len() < all.len() {
                continue;
            }
            let OpResult::Resolved(is) = ledger.apply(op, *now).result else { unreachable!() };
            prop_assert_eq!(&ledger, &after);
            for (was, is) in was.into_iter().zip(is) {
                prop_assert!(
                    is == was || matches!(is, Resolved::Repeated | Resolved::Unknown),
                    "{:?} then {:?}", was, is
                );
                prop_assert!(!matches!(is, Resolved::Applied | Resolved::Late));
            }
        }
    }

    #[test]
    fn outcomes_that_agree_come_to_the_same_in_any_order(
        words in Just("XPCCXP").prop_map(|w| w.chars().collect::<Vec<_>>()).prop_shuffle(),
        last in prop_oneof![Just('C'), Just('F'), Just('P'), Just('X')],
        reap in 0..7usize,
    ) {
        let mut case = Case::open(3, |_| {});
        case.claim(1, 1, 1);
        for (at, letter) in words.into_iter().enumerate() {
            if at == reap {
                case.now = T0 + 10_000;
                case.reap();
            }
            // C stands for the last word, which all sequences share.
            let letter = match (letter, last) {
                ('C', last) => last,
                ('P', 'X') => 'X',
                (other, _) => other,
            };
            let verdict = Verdict::of_letter(letter).expect("a letter");
            case.resolve_as("a", 1, 1, 1, verdict, Some(T0 + 60_000));
        }
        let expected = match last {
            'C' => (1, 0, 0, false),
            'F' => (0, 0, 0, false),
            'P' => (0, 1, 0, false),
            _ => (0, 0, 1, false),
        };
        prop_assert_eq!(case.pool("a"), expected);
    }
}

/// At which step the ledger goes back how many steps, and which server has it then. Where it goes back
/// to before the first, it is empty.
fn moves() -> impl Strategy<Value = BTreeMap<usize, (usize, u8)>> {
    let back = prop_oneof![3 => 0..6usize, 1 => 0..90usize, 1 => Just(usize::MAX)];
    proptest::collection::btree_map(1..90usize, (back, 0..3u8), 0..4)
}

/// The most that each pool's stock and the overshoot ever allowed, and units counted late.
#[derive(Default)]
struct Bounds {
    pools: BTreeMap<Name, (u64, u64)>,
}

/// I1: confirmed + held + limbo <= floor(overshoot x stock) + late.
fn budget_i1(bounds: &mut Bounds, step: &Step, reply: &Reply) -> Result<(), TestCaseError> {
    if let (Op::Resolve(all), OpResult::Resolved(resolved)) = (&step.1, &reply.result) {
        for (outcome, _) in all.iter().zip(resolved).filter(|(_, r)| **r == Resolved::Late) {
            bounds.pools.entry(outcome.pool.clone()).or_default().1 += u64::from(outcome.units);
        }
    }
    if let (Op::Reassert(said), OpResult::Reasserted { resolved, .. }) = (&step.1, &reply.result) {
        for (claim, _) in said.claims.iter().zip(resolved).filter(|(_, r)| **r == Resolved::Late) {
            bounds.pools.entry(claim.pool.clone()).or_default().1 += u64::from(claim.units);
        }
    }
    for pool in reply.state.iter().flat_map(|s| &s.pools) {
        let permille = u64::from(reply.state.as_ref().map_or(0, |s| s.overshoot_permille));
        let (most, late) = bounds.pools.entry(pool.name.clone()).or_default();
        *most = (*most).max(pool.stock * permille / 1000);
        prop_assert!(pool.confirmed + pool.held + pool.limbo <= *most + *late, "{pool:?}");
    }
    Ok(())
}

/// I2: the counters and the index are what the records say.
fn counters_are_records_i2(ledger: &Memory) -> Result<(), TestCaseError> {
    let records = ledger.page(None, None, usize::MAX);
    for pool in ledger.state().iter().flat_map(|s| &s.pools) {
        let sum = |kinds: &[RecordKind]| -> u64 {
            let of = records.iter().filter(|r| r.pool == pool.name && kinds.contains(&r.kind));
            of.map(|r| u64::from(r.units)).sum()
        };
        let held = sum(&[RecordKind::Admitted, RecordKind::Pending]);
        let rest = (sum(&[RecordKind::Limbo]), sum(&[RecordKind::Confirmed]));
        prop_assert_eq!((held, rest), (pool.held, (pool.limbo, pool.confirmed)));
    }
    let mut open: Vec<_> = records
        .iter()
        .filter(|r| matches!(r.kind, RecordKind::Admitted | RecordKind::Pending))
        .map(|r| Due { at: r.deadline, user: r.user, claim: r.claim })
        .collect();
    open.sort();
    prop_assert_eq!(ledger.deadlines().copied().collect::<Vec<_>>(), open);
    Ok(())
}

/// I3: an admission leaves its user within the limits, with one open record: this one.
fn no_user_beyond_limits_i3(
    ledger: &Memory,
    step: &Step,
    reply: &Reply,
) -> Result<(), TestCaseError> {
    let (Op::Claim(batch), OpResult::Claimed(claimed)) = (&step.1, &reply.result) else {
        return Ok(());
    };
    let limit = ledger.state().map(|s| s.per_user).unwrap_or_default();
    for (one, _) in
        batch.tries.iter().zip(claimed).filter(|(_, c)| matches!(c, Claimed::Admitted { .. }))
    {
        let records = ledger.page(Some(one.user), None, usize::MAX);
        let open: Vec<_> = records.iter().filter(|r| r.kind != RecordKind::Confirmed).collect();
        prop_assert_eq!(open.iter().map(|r| r.claim).collect::<Vec<_>>(), [one.claim]);
        prop_assert!(records.len() <= limit.orders as usize);
        prop_assert!(records.iter().map(|r| r.units).sum::<u32>() <= limit.units);
    }
    Ok(())
}

/// I7: (epoch, version) never falls and rises with what is seen; a latch stays within its epoch; the
/// operator's end stays for good.
fn monotone(before: &SaleState, after: &SaleState) -> Result<(), TestCaseError> {
    let (was, is) = ((before.epoch, before.version), (after.epoch, after.version));
    prop_assert!(is >= was && after.version >= before.version);
    prop_assert_eq!(after.version - before.version, u64::from(look(before) != look(after)));
    prop_assert!(after.ended || !before.ended);
    prop_assert_eq!(after.sold_out, after.pools.iter().all(|p| p.sold_out));
    if after.epoch == before.epoch {
        prop_assert!(after.sold_out || !before.sold_out);
        for pool in after.pools.iter().filter(|p| !p.sold_out) {
            prop_assert!(before.pool(pool.name.as_str()).is_none_or(|p| !p.sold_out));
        }
    }
    Ok(())
}

/// Refusals say the same in other words.
fn without_texts(result: OpResult) -> OpResult {
    match result {
        OpResult::Declared(Declared::Refused(why)) => {
            assert!(!why.is_empty());
            OpResult::Declared(Declared::Refused(String::new()))
        }
        OpResult::Controlled(Controlled::Refused(why)) => {
            assert!(!why.is_empty());
            OpResult::Controlled(Controlled::Refused(String::new()))
        }
        other => other,
    }
}
