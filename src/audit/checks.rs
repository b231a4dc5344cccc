//! The invariants of the gate: journal against ledger.

use std::collections::{BTreeMap, HashMap};

use super::Check;
use super::ledger::{Ledger, Pool};
use super::nodes::Nodes;
use super::past::{CLOCK_SLACK_MS, Past, is_live};
use crate::ident::{ClaimId, NodeId, UserKey};
use crate::journal::Event;
use crate::ledger::{Record, RecordKind};

/// All of them.
pub(super) fn all(ledger: &Ledger, past: &Past, nodes: &Nodes) -> Vec<Check> {
    vec![
        budget(ledger, past),
        counters(ledger),
        users(ledger, past),
        admissions(ledger, past, nodes),
        outcomes(ledger, past),
        lost(ledger, past),
        forward(ledger, past),
        stale(ledger, past),
        early(ledger, past),
        undersell(ledger, past, nodes),
        chain(past),
    ]
}

/// I1: nothing beyond the stock, times the overshoot; plus what the shop confirmed against an F.
fn budget(ledger: &Ledger, past: &Past) -> Check {
    let sale = &ledger.sale;
    let late = |pool: &Pool| -> u64 {
        let of_pool = ledger.records.iter().filter(|r| r.pool == pool.name && is_late(r));
        of_pool.map(|r| u64::from(r.units)).sum()
    };
    let alone = is_whole(ledger, past);
    let (mut bound, mut observed, mut details) = (0, 0, Vec::new());
    for pool in &sale.pools {
        let allowed = sale.pool_budget(pool) + late(pool);
        let now = pool.confirmed + pool.held + pool.limbo;
        let peak = past.peak.get(&pool.name).copied().filter(|_| alone).unwrap_or(0);
        let taken = now.max(peak);
        if taken > allowed {
            details.push(format!("pool {}: {taken} units of {allowed}", pool.name));
        }
        bound += allowed;
        observed += taken;
    }
    let holds = details.is_empty();
    if late_units(ledger) > 0 {
        let n = late_units(ledger);
        details.push(format!("{n} units were confirmed by the shop after they had failed"));
    }
    Check { name: "I1 budget", holds, bound, observed, details }
}

/// I2: the counters are what the records say.
fn counters(ledger: &Ledger) -> Check {
    let mut found = Vec::new();
    for pool in &ledger.sale.pools {
        let units = |kinds: &[RecordKind]| -> u64 {
            let of_pool = ledger.records.iter().filter(|r| r.pool == pool.name);
            of_pool.filter(|r| kinds.contains(&r.kind)).map(|r| u64::from(r.units)).sum()
        };
        let pairs = [
            ("confirmed", pool.confirmed, units(&[RecordKind::Confirmed])),
            ("held", pool.held, units(&[RecordKind::Admitted, RecordKind::Pending])),
            ("limbo", pool.limbo, units(&[RecordKind::Limbo])),
        ];
        for (name, counter, records) in pairs.into_iter().filter(|(_, c, r)| c != r) {
            let pool = &pool.name;
            found.push(format!("pool {pool}: {name} is {counter}, its records say {records}"));
        }
    }
    Check::none("I2 counters = records", found)
}

/// I3: no user beyond their limits, now or at any time that the journal tells of.
fn users(ledger: &Ledger, past: &Past) -> Check {
    let mut most: BTreeMap<UserKey, (u64, u64)> = BTreeMap::new();
    for record in &ledger.records {
        let (orders, units) = most.entry(record.user).or_default();
        *orders += 1;
        *units += u64::from(record.units);
    }
    for (user, (orders, units)) in past.user_peak.iter().filter(|_| is_whole(ledger, past)) {
        let most = most.entry(*user).or_default();
        *most = (most.0.max(*orders), most.1.max(*units));
    }
    let limit = ledger.sale.per_user;
    let beyond = most.iter().filter(|(_, (o, u))| *o > limit.orders || *u > limit.units);
    let said = beyond.map(|(user, (orders, units))| {
        format!(
            "user {user}: {orders} orders of {}, {units} units of {}",
            limit.orders, limit.units
        )
    });
    Check::none("I3 no user beyond the limit", said.collect())
}

/// I4: the admissions that stand, by journals and ledger together, whoever of them knows of one; beyond
/// the budget at most what a fault allows: what the shop confirmed against an F, and what nodes could
/// only say again when the ledger had begun to admit.
fn admissions(ledger: &Ledger, past: &Past, nodes: &Nodes) -> Check {
    let sale = &ledger.sale;
    let mut units: BTreeMap<ClaimId, u64> = BTreeMap::new();
    let live = past.admitted().filter(|(_, claim)| is_live(claim.last));
    units.extend(live.map(|(id, claim)| (*id, claim.units)));
    units.extend(ledger.records.iter().map(|r| (r.claim, u64::from(r.units))));
    let late = nodes.reasserted_late.saturating_mul(sale.per_user.units.max(1));
    let bound = sale.budget().saturating_add(late_units(ledger)).saturating_add(late);
    let mut details = Vec::new();
    if sale.fences > 0 {
        let (times, again) = (sale.fences, nodes.reasserted);
        details.push(format!(
            "the ledger may have forgotten something {times} times; {again} claims were said to it \
             again, {} of them after it had begun to admit",
            nodes.reasserted_late
        ));
    }
    Check::at_most("I4 admissions within the bound", bound, units.values().sum(), details)
}

/// I5: one claim, one buyer, one outcome, in every journal and in the ledger.
fn outcomes(ledger: &Ledger, past: &Past) -> Check {
    let mut found = Vec::new();
    for (id, claim) in &past.claims {
        if claim.contradicts {
            found.push(format!("claim {id}: both failed and confirmed"));
        }
        if claim.differs {
            found.push(format!("claim {id}: its lines are of different purchases"));
        }
    }
    for record in &ledger.records {
        let Some(claim) = past.claims.get(&record.claim) else { continue };
        let is_same = claim.user == record.user
            && claim.pool == record.pool
            && claim.units == u64::from(record.units);
        if !is_same {
            found
                .push(format!("claim {}: journal and ledger differ in its purchase", record.claim));
        }
    }
    Check::none("I5 one claim, one outcome", found)
}

/// I6: every admission has its record, or failed; every record has its admission; and none holds its
/// units beyond its time.
fn lost(ledger: &Ledger, past: &Past) -> Check {
    let records: HashMap<ClaimId, RecordKind> =
        ledger.records.iter().map(|r| (r.claim, r.kind)).collect();
    let mut found = Vec::new();
    for (id, claim) in past.admitted() {
        let record = records.get(id).copied();
        if !agree(claim.last, record) {
            let record = record.map_or("no record", label);
            let last = format!("{:?}", claim.last).to_lowercase();
            found.push(format!("claim {id}: {last} in the journal, {record} in the ledger"));
        }
    }
    // Of runs that this journal knows nothing of, it need not know the claims either.
    for record in ledger.records.iter().filter(|r| past.runs.contains(&r.node)) {
        // What was admitted and handed to nobody has no line: it is in limbo, or on its way there.
        if !past.claims.contains_key(&record.claim) && record.kind == RecordKind::Confirmed {
            let claim = record.claim;
            found.push(format!("claim {claim}: confirmed in the ledger, not in the journal"));
        }
    }
    let overdue = ledger.records.iter().filter(|record| is_overdue(record, ledger));
    found.extend(overdue.map(|record| {
        let (claim, late_ms) = (record.claim, ledger.time.0.saturating_sub(record.deadline.0));
        format!("claim {claim}: still {}, {late_ms} ms after its deadline", label(record.kind))
    }));
    Check::none("I6 nothing lost", found)
}

/// I7: epoch and version only go forward: a claim of an old epoch is not admitted after one of a newer
/// one, and the ledger is not behind what nodes have seen.
fn forward(ledger: &Ledger, past: &Past) -> Check {
    let mut found = Vec::new();
    let mut admitted: Vec<(u64, u32, &ClaimId)> = past
        .admitted()
        .filter_map(|(id, claim)| Some((claim.admitted_ms?, claim.epoch, id)))
        .collect();
    admitted.sort_unstable();
    // The highest epoch of those that were admitted certainly earlier.
    let (mut before, mut highest) = (admitted.iter().peekable(), 0);
    for (t, epoch, id) in &admitted {
        while let Some((_, earlier, _)) = before.next_if(|(b, ..)| b + CLOCK_SLACK_MS < *t) {
            highest = highest.max(*earlier);
        }
        if *epoch < highest {
            found.push(format!("claim {id}: of epoch {epoch}, after one of epoch {highest}"));
        }
    }
    let is = (ledger.sale.epoch, ledger.sale.version);
    let newest = admitted.iter().map(|(_, epoch, _)| *epoch).max().unwrap_or(0);
    if newest > is.0 {
        found.push(format!("the ledger is in epoch {}, nodes were in epoch {newest}", is.0));
    }
    if ledger.later < is {
        found.push(format!("the ledger went back from {is:?} to {:?}", ledger.later));
    }
    Check::none("I7 epochs go forward", found)
}

/// I8: what a node was late to hear admitted nobody: by the ledger's clock none came after the end.
fn stale(ledger: &Ledger, past: &Past) -> Check {
    let end = ledger.sale.ends_at_ms.map(|end| end.0);
    let late = past.admitted().filter_map(|(id, claim)| {
        let late_ms = claim.admitted_ms?.checked_sub(end?)?;
        Some(format!("claim {id}: {late_ms} ms after the end"))
    });
    Check::none("I8 nobody after the end", late.collect())
}

fn agree(last: Event, record: Option<RecordKind>) -> bool {
    use RecordKind::{Admitted, Confirmed, Limbo, Pending};
    match last {
        Event::Confirmed => record == Some(Confirmed),
        Event::Failed | Event::Void => record.is_none(),
        Event::Admitted => matches!(record, Some(Admitted | Limbo)),
        Event::Unknown => matches!(record, Some(Limbo | Confirmed)),
        Event::Pending => matches!(record, Some(Pending | Limbo | Confirmed)),
    }
}

/// I10: nobody was admitted before T0.
fn early(ledger: &Ledger, past: &Past) -> Check {
    let t0 = ledger.sale.opens_at_ms.0;
    let early = past.admitted().filter_map(|(id, claim)| {
        let early_ms = t0.checked_sub(claim.admitted_ms?).filter(|ms| *ms > 0)?;
        Some(format!("claim {id}: {early_ms} ms before T0"))
    });
    Check::none("I10 nobody before T0", early.collect())
}

/// I11: where sold out is said all is sold, apart from what came back later and waits for a restock.
fn undersell(ledger: &Ledger, past: &Past, nodes: &Nodes) -> Check {
    // Where the shop's own number leads, it may have more again without our knowing why.
    let is_own = |pool: &&Pool| pool.shop.is_none();
    let latched = ledger.sale.pools.iter().filter(is_own);
    let latched = latched.filter(|pool| pool.sold_out && !pool.held_back);
    let (mut free, mut back) = (0, 0);
    for pool in latched {
        free += pool.stock.saturating_sub(pool.confirmed + pool.held + pool.limbo);
        back += past.came_back(&pool.name);
    }
    let mut details = Vec::new();
    if free > 0 {
        details.push(format!("{free} units wait for a restock"));
    }
    // Claims whose batch was not answered stand in no journal, and come back all the same.
    if free > back && (nodes.store_errors > 0 || !is_whole(ledger, past)) {
        details.push("not all of them can be seen in these journals".to_owned());
        back = free;
    }
    Check::at_most("I11 sold out is sold", back, free, details)
}

/// The journal is what was written.
fn chain(past: &Past) -> Check {
    let mut check = Check::none("journal chain", past.broken.clone());
    check.details.extend(past.unchecked.iter().cloned());
    check
}

/// What is in limbo, with all that is known of it.
pub(super) fn limbo(ledger: &Ledger, past: &Past) -> Vec<String> {
    let records = ledger.records.iter().filter(|r| r.kind == RecordKind::Limbo);
    let said = records.map(|record| {
        let Record { claim, user, pool, units, .. } = record;
        let known = past.claims.get(claim);
        let status = known.and_then(|c| c.status).map(|s| format!(", status {s}"));
        let code = known.and_then(|c| c.code.as_ref()).map(|c| format!(", code {c:?}"));
        let admitted = known.and_then(|c| c.admitted_ms).map(|t| format!(", admitted at {t}"));
        let more: String = [admitted, status, code].into_iter().flatten().collect();
        format!("claim {claim}, user {user}, {units} of pool {pool}{more}")
    });
    said.collect()
}

/// Whether the journals are those of all nodes whose claims the ledger has. Otherwise nobody knows when
/// units came back.
fn is_whole(ledger: &Ledger, past: &Past) -> bool {
    ledger.records.iter().all(|r| past.runs.contains(&r.node) || is_late(r))
}

/// Whether it should have gone to limbo: the nodes look once a second.
fn is_overdue(record: &Record, ledger: &Ledger) -> bool {
    let holds = matches!(record.kind, RecordKind::Admitted | RecordKind::Pending);
    holds && record.deadline.plus(REAP_SLACK_MS) < ledger.time
}

/// A record that the ledger made when a confirmation came for a claim it did not know any more.
fn is_late(record: &Record) -> bool {
    record.kind == RecordKind::Confirmed && record.node == NodeId::default()
}

fn late_units(ledger: &Ledger) -> u64 {
    ledger.records.iter().filter(|r| is_late(r)).map(|r| u64::from(r.units)).sum()
}

fn label(kind: RecordKind) -> &'static str {
    match kind {
        RecordKind::Admitted => "admitted",
        RecordKind::Pending => "pending",
        RecordKind::Limbo => "in limbo",
        RecordKind::Confirmed => "confirmed",
    }
}

/// A busy node, or one whose store was away until now, may be so late.
const REAP_SLACK_MS: u64 = 5_000;
