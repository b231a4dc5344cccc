//! Group commit of claims: one batch of a sale in flight, the next one queues up meanwhile. The store's
//! load does not depend on the crowd.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::desk::Desk;
use super::memory::Past;
use super::permit::Permit;
use super::refusals::Refusals;
use super::shared::Shared;
use super::{Ask, Claim, Known};
use crate::clock::{MonoMs, UnixMs};
use crate::fault::{self, Point};
use crate::ident::{ClaimId, Name};
use crate::journal::Event;
use crate::ledger::{ClaimBatch, Claimed, Op, OpResult, RecordKind, Reply, Try};
use crate::metrics::Counter;
use crate::sale::Mark;
use crate::store::StoreError;

/// A claim in the queue.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) ask: Ask,
    pub(super) told: oneshot::Sender<Claim>,
}

/// A claim that is with the store.
struct Flying {
    claim: ClaimId,
    waiting: Waiting,
}

/// What the ledger said to a batch.
struct Said {
    claimed: Vec<Claimed>,
    now: UnixMs,
    epoch: u32,
    /// What everything had been said to when the batch was sent.
    told: Option<Mark>,
}

/// One that the ledger admitted.
struct Admission {
    flying: Flying,
    past: Past,
    deadline: UnixMs,
}

/// Claims for one sale for as long as the node lives.
pub(super) async fn run(shared: Arc<Shared>, desk: Arc<Desk>, mut queue: mpsc::Receiver<Waiting>) {
    let batch_max = shared.limits.load().batch_max;
    let mut batch = Vec::with_capacity(batch_max);
    let (mut refusals, mut probed) = (Refusals::default(), None);
    while queue.recv_many(&mut batch, batch_max).await > 0 {
        shared.turn(&desk.sale).await;
        while batch.len() < batch_max
            && let Ok(waiting) = queue.try_recv()
        {
            batch.push(waiting);
        }
        // Nothing is claimed for those who have gone.
        batch.retain(|waiting| !waiting.told.is_closed());
        if !shared.is_open(&desk.sale) {
            batch.drain(..).for_each(|waiting| tell(waiting, Claim::Unavailable));
        }
        if shared.is_learning(&desk.sale) {
            let learning = |waiting| tell(waiting, Claim::Refused(Claimed::Learning));
            batch.drain(..).for_each(learning);
        }
        for waiting in without_room(&shared, &desk, &mut batch, &mut probed) {
            tell(waiting, Claim::Refused(Claimed::Busy));
        }
        if !batch.is_empty() {
            let claim = |waiting| Flying { claim: ClaimId::random(), waiting };
            let flying = batch.drain(..).map(claim).collect();
            fly(&shared, &desk, flying, &mut refusals).await;
        }
    }
}

/// Takes those out of `batch` for whom there is no room as far as this node knows: they are `busy`, and
/// cost no call. What it knows may be old, so that a few ask in each [`PROBE_MS`].
fn without_room(
    shared: &Shared,
    desk: &Desk,
    batch: &mut Vec<Waiting>,
    probed: &mut Option<MonoMs>,
) -> Vec<Waiting> {
    let Some(sale) = shared.book.sale(&desk.sale) else { return Vec::new() };
    let nodes = shared.facts.nodes(&desk.sale) as u64;
    let now = shared.clock.mono();
    let may_probe = probed.is_none_or(|at| now.since(at) >= PROBE_MS);
    let mut left: Vec<(&Name, u64)> = Vec::new();
    for pool in &sale.state.pools {
        let room = u64::try_from(pool.room(sale.state.overshoot_permille)).unwrap_or(0);
        // Twice this node's share of what all may have: others may have fewer buyers.
        let share = (room * 2).div_ceil(nodes);
        left.push((&pool.name, share + if may_probe || room > 0 { PROBES } else { 0 }));
        if may_probe && room == 0 && batch.iter().any(|waiting| waiting.ask.pool == pool.name) {
            *probed = Some(now);
        }
    }
    let mut has_room = |waiting: &Waiting| {
        let Ask { sale, user, pool, .. } = &waiting.ask;
        // Of those who have something, and of pools that are not there, the ledger has to say.
        let Some((_, left)) = left.iter_mut().find(|(name, _)| *name == pool) else { return true };
        let has_room = *left > 0;
        *left = left.saturating_sub(1);
        has_room || shared.memory.known(sale, user, || now).is_some()
    };
    batch.extract_if(.., |waiting| !has_room(waiting)).collect()
}

async fn fly(shared: &Arc<Shared>, desk: &Arc<Desk>, flying: Vec<Flying>, refusals: &mut Refusals) {
    shared.sink.inc(Counter::ClaimBatches);
    shared.sink.add(Counter::Claims, flying.len() as u64);
    let not_after = shared.clock.now().ledger.plus(NOT_AFTER_MS);
    let told = shared.reported(&desk.sale);
    let op = Op::Claim(ClaimBatch {
        node: shared.node,
        not_after,
        claim_ttl_ms: shared.limits.load().claim_ttl_ms,
        reported: told,
        fence: shared.facts.fence(&desk.sale),
        tries: flying.iter().map(Flying::to_try).collect(),
    });
    let deadline = shared.limits.load().claim_deadline;
    let said = shared.call(&desk.sale, op, deadline).await;
    let now = shared.clock.mono();
    let mut failed =
        |flying: &[Flying], why: &str| refusals.failed(&desk.sale, flying.len(), why, now);
    match said {
        Ok(Reply { state, now, result: OpResult::Claimed(claimed) })
            if claimed.len() == flying.len() =>
        {
            refusals.answered(&desk.sale);
            let epoch = state.map_or(1, |state| state.epoch);
            let said = Said { claimed, now, epoch, told };
            settle(shared, desk, flying, said).await;
        }
        Ok(Reply { result: OpResult::NoSale, .. }) => {
            failed(&flying, "the ledger does not know the sale");
            refuse(flying);
        }
        Ok(_) => {
            failed(&flying, "the store's answer makes no sense");
            undo(shared, desk, flying, not_after);
        }
        // Nobody is sent whose admission a failover may lose; its record stands, and is undone.
        Err(error @ (StoreError::MaybeApplied | StoreError::NotDurable)) => {
            failed(&flying, &error.to_string());
            undo(shared, desk, flying, not_after);
        }
        Err(error @ (StoreError::NotSent(_) | StoreError::Refused(_))) => {
            failed(&flying, &error.to_string());
            refuse(flying);
        }
    }
}

/// Tells everyone what the ledger said; what it admitted goes through the journal first.
async fn settle(shared: &Arc<Shared>, desk: &Arc<Desk>, flying: Vec<Flying>, said: Said) {
    let Said { claimed, now, epoch, told } = said;
    let mut admitted = Vec::new();
    for (flying, claimed) in flying.into_iter().zip(claimed) {
        if let Claimed::Admitted { deadline } = claimed {
            let past = flying.past(shared, epoch, now);
            admitted.push(Admission { flying, past, deadline });
        } else {
            remember(shared, &flying.waiting.ask, &claimed);
            tell(flying.waiting, Claim::Refused(claimed));
        }
    }
    if admitted.is_empty() {
        return;
    }
    fault::pass(Point::Admitted);
    let lines = admitted.iter().map(|a| a.past.line(a.flying.claim, now)).collect();
    let written = shared.journal.admit(lines).await;
    for Admission { flying, mut past, deadline } in admitted {
        let Flying { claim, waiting } = flying;
        let time = shared.clock.now();
        let is_late = written.is_err() || time.ledger_latest() >= deadline;
        if is_late || !is_noted(shared, claim, &past, deadline, told) {
            shared.sink.inc(Counter::AdmissionsUndone);
            past.event = Event::Failed;
            let line = past.line(claim, time.ledger);
            shared.undo(desk, claim, &past, None, Some(line));
            tell(waiting, Claim::Unavailable);
            continue;
        }
        shared.sink.inc(Counter::Admitted);
        shared.memory.note(claim, &past, time.mono);
        let permit = Permit::new(shared.clone(), desk.clone(), claim, past, deadline);
        tell(waiting, Claim::Admitted(permit));
    }
}

/// Whether a ledger that forgets this admission will hear of it.
fn is_noted(
    shared: &Shared,
    claim: ClaimId,
    past: &Past,
    deadline: UnixMs,
    told: Option<Mark>,
) -> bool {
    let now = shared.clock.mono();
    if shared.store_forgets() {
        return shared.facts.admit(claim, past, deadline, now, told);
    }
    shared.facts.note(claim, past, Some(deadline), now);
    true
}

/// Nobody knows what became of the batch: its claims are F whatever it was, and nobody waits longer.
fn undo(shared: &Shared, desk: &Desk, flying: Vec<Flying>, not_after: UnixMs) {
    for flying in flying {
        let past = flying.past(shared, 0, not_after);
        shared.undo(desk, flying.claim, &past, Some(not_after), None);
        tell(flying.waiting, Claim::Unavailable);
    }
}

fn refuse(flying: Vec<Flying>) {
    flying.into_iter().for_each(|flying| tell(flying.waiting, Claim::Unavailable));
}

/// Those who ask again need not ask the ledger again.
fn remember(shared: &Shared, ask: &Ask, claimed: &Claimed) {
    let (kind, claim) = match claimed {
        Claimed::Confirmed { claim } => (RecordKind::Confirmed, *claim),
        Claimed::Pending { claim } => (RecordKind::Pending, *claim),
        _ => return,
    };
    let known = Known { kind, claim, attempt: ask.attempt, order: None };
    shared.memory.know(&ask.sale, ask.user, known, shared.clock.mono());
}

/// Whoever has gone drops what it is told: a permit is F then.
fn tell(waiting: Waiting, claim: Claim) {
    drop(waiting.told.send(claim));
}

impl Flying {
    fn to_try(&self) -> Try {
        let Ask { attempt, user, pool, units, .. } = &self.waiting.ask;
        Try { claim: self.claim, attempt: *attempt, user: *user, pool: pool.clone(), units: *units }
    }

    fn past(&self, shared: &Shared, epoch: u32, now: UnixMs) -> Past {
        let Ask { sale, attempt, user, pool, units, .. } = &self.waiting.ask;
        Past {
            sale: sale.clone(),
            epoch,
            pool: pool.clone(),
            user: *user,
            attempt: *attempt,
            node: shared.node,
            units: *units,
            event: Event::Admitted,
            admitted_at: Some(now),
            status: None,
            code: None,
            order: None,
        }
    }
}

/// The ledger refuses a batch that comes later than this after its sending, in milliseconds: then the
/// F of its claims need not be delivered any longer.
const NOT_AFTER_MS: u64 = 1_000;
/// Claims that ask although there seems to be no room.
const PROBES: u64 = 4;
/// Between two times that they do, in milliseconds.
const PROBE_MS: u64 = 50;
