//! The invariants of the gate: journal against ledger.

use std::collections::{BTreeMap, HashMap};

use super::Check;
use super::ledger::{Ledger, Pool};
use super::past::Past;
use crate::ident::{ClaimId, NodeId, UserKey};
use crate::journal::Event;
use crate::ledger::{Record, RecordKind};

/// All of them.
pub(super) fn all(ledger: &Ledger, past: &Past) -> Vec<Check> {
    vec![
        budget(ledger, past),
        counters(ledger),
        users(ledger, past),
        outcomes(past),
        lost(ledger, past),
        early(ledger, past),
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
    // The journal's peak counts only where it tells of every node.
    let alone = ledger.records.iter().all(|r| past.runs.contains(&r.node) || is_late(r));
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
    for (user, (orders, units)) in &past.user_peak {
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

/// I5: one claim, one outcome.
fn outcomes(past: &Past) -> Check {
    let found = past.claims.iter().filter(|(_, claim)| claim.contradicts);
    let said = found.map(|(id, _)| format!("claim {id}: both failed and confirmed"));
    Check::none("I5 one claim, one outcome", said.collect())
}

/// I6: every admission has its record, or failed; every record has its admission.
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
    Check::none("I6 nothing lost", found)
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
