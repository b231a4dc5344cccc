//! What the journals say of one sale.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};

use super::{AuditError, Sum};
use crate::ident::{AttemptId, ClaimId, Name, NodeId, SaleId, UserKey};
use crate::journal::{self, Chain, Event, Key, Line};

/// What clocks may differ by: the ledger's, where another server takes over, and the nodes' and the
/// shop's from it. In milliseconds.
pub(super) const CLOCK_SLACK_MS: u64 = 250;

/// One claim.
#[derive(Clone, Debug)]
pub(super) struct Claim {
    pub(super) user: UserKey,
    pub(super) attempt: AttemptId,
    pub(super) pool: Name,
    pub(super) units: u64,
    /// The sale's epoch when it was admitted.
    pub(super) epoch: u32,
    /// Unix milliseconds of its admission, by the ledger's clock; absent where only an outcome stands
    /// here.
    pub(super) admitted_ms: Option<u64>,
    /// When its units were given back; the ledger heard of it no earlier.
    pub(super) freed_ms: Option<u64>,
    /// The last thing that happened to it.
    pub(super) last: Event,
    /// It was said to have failed and to be confirmed.
    pub(super) contradicts: bool,
    /// Two of its lines are not of one purchase: user, attempt, pool, units or run of a node.
    pub(super) differs: bool,
    /// Two order numbers were answered to it.
    pub(super) answered_twice: bool,
    node: NodeId,
    pub(super) status: Option<u16>,
    pub(super) code: Option<String>,
    pub(super) order: Option<String>,
}

/// What the journals say.
#[derive(Debug, Default)]
pub(super) struct Past {
    pub(super) claims: BTreeMap<ClaimId, Claim>,
    /// Runs that admitted somebody.
    pub(super) runs: HashSet<NodeId>,
    /// Most units that were certainly taken at once, by pool.
    pub(super) peak: HashMap<Name, u64>,
    /// Most orders and units that each user certainly had at once.
    pub(super) user_peak: HashMap<UserKey, (u64, u64)>,
    /// Claims that were cancelled after they were confirmed, in units.
    pub(super) voided: u64,
    /// What is wrong with the files.
    pub(super) broken: Vec<String>,
    /// Journals whose chain could not be verified.
    pub(super) unchecked: Vec<String>,
    taken: HashMap<Name, u64>,
    user_taken: HashMap<UserKey, (u64, u64)>,
}

impl Past {
    /// Reads every journal; their keys stand beside or in their directories.
    ///
    /// The lines of several are taken in the order of their times, and those of each in their own.
    pub(super) fn read(dirs: &[PathBuf], sale: &SaleId) -> Result<Past, AuditError> {
        let mut past = Past::default();
        let sale = sale.to_string();
        let mut lines: Vec<(u64, Line)> = Vec::new();
        for dir in dirs {
            let failed = |cause| AuditError::Journal { dir: dir.clone(), cause };
            // The reader takes a missing directory for an empty journal; an audit must not.
            std::fs::metadata(dir).map_err(failed)?;
            let key = key(dir).map_err(failed)?;
            let mut latest = 0;
            let each = |line: Line| {
                if line.sale != sale {
                    return;
                }
                latest = line.t.max(latest);
                match dirs.len() {
                    1 => past.note(line),
                    _ => lines.push((latest, line)),
                }
            };
            let found = journal::read(dir, key.as_ref(), each).map_err(failed)?;
            match found.chain {
                Chain::Verified => {}
                Chain::Unchecked => past.unchecked.push(format!(
                    "{}: journal.key is not there, only the numbers of the lines were checked",
                    dir.display()
                )),
                Chain::Broken { file, line } => past.broken.push(format!(
                    "{}, line {line}: it does not follow from the line before: lines were changed, \
                     added or taken out here",
                    file.display()
                )),
            }
            if found.unreadable > 0 {
                let n = found.unreadable;
                past.broken.push(format!("{}: {n} lines are no journal lines", dir.display()));
            }
        }
        if dirs.len() > 1 {
            lines.sort_by_key(|(t, _)| *t);
            lines.into_iter().for_each(|(_, line)| past.note(line));
            past.find_peaks_by_time();
        }
        Ok(past)
    }

    /// Takes the next line of the sale.
    pub(super) fn note(&mut self, line: Line) {
        let units = u64::from(line.units);
        if line.event == Event::Admitted {
            self.runs.insert(line.node);
        }
        let fresh = || Claim {
            user: line.user,
            attempt: line.attempt,
            pool: line.pool.clone(),
            units,
            epoch: line.epoch,
            admitted_ms: None,
            freed_ms: None,
            last: line.event,
            contradicts: false,
            differs: false,
            answered_twice: false,
            node: line.node,
            status: None,
            code: None,
            order: None,
        };
        let claim = self.claims.entry(line.claim).or_insert_with(fresh);
        let was_live = claim.admitted_ms.is_some() && is_live(claim.last);
        if line.event == Event::Admitted {
            claim.admitted_ms.get_or_insert(line.t);
            claim.epoch = line.epoch;
        }
        // A record that a late confirmation made has the zero run.
        let is_other_run = claim.node != line.node
            && claim.node != NodeId::default()
            && line.node != NodeId::default();
        claim.differs |= is_other_run
            || (claim.user, claim.attempt, claim.units) != (line.user, line.attempt, units)
            || claim.pool != line.pool;
        claim.answered_twice |=
            line.order.is_some() && claim.order.is_some() && line.order != claim.order;
        claim.contradicts |= contradict(claim.last, line.event);
        let last = line.event.after(Some(claim.last));
        if last == Event::Void && claim.last != Event::Void {
            self.voided += units;
        }
        claim.last = last;
        claim.status = line.status.or(claim.status);
        claim.code = line.code.clone().or_else(|| claim.code.take());
        claim.order = line.order.clone().or_else(|| claim.order.take());
        let live = claim.admitted_ms.is_some() && is_live(claim.last);
        claim.freed_ms = if is_live(claim.last) { None } else { claim.freed_ms.or(Some(line.t)) };
        self.take(&line, was_live, live);
    }

    /// Follows how much is taken at once.
    fn take(&mut self, line: &Line, was: bool, is: bool) {
        let units = u64::from(line.units);
        let pool = self.taken.entry(line.pool.clone()).or_default();
        let user = self.user_taken.entry(line.user).or_default();
        match (was, is) {
            (false, true) => {
                *pool += units;
                *user = (user.0 + 1, user.1 + units);
            }
            (true, false) => {
                *pool = pool.saturating_sub(units);
                *user = (user.0.saturating_sub(1), user.1.saturating_sub(units));
            }
            _ => return,
        }
        let peak = self.peak.entry(line.pool.clone()).or_default();
        *peak = (*peak).max(*pool);
        let peak = self.user_peak.entry(line.user).or_default();
        *peak = (peak.0.max(user.0), peak.1.max(user.1));
    }

    /// Of several journals the order of lines is not known. What is known is the ledger's own time of
    /// each admission, and that units come back no earlier than the line that says so: a claim
    /// certainly has them from the one until shortly before the other.
    fn find_peaks_by_time(&mut self) {
        let mut edges: Vec<(u64, bool, &Claim)> = Vec::new();
        for claim in self.claims.values() {
            let Some(from) = claim.admitted_ms else { continue };
            let to = claim.freed_ms.map(|freed| freed.saturating_sub(CLOCK_SLACK_MS));
            if to.is_some_and(|to| to <= from) {
                continue;
            }
            edges.push((from, true, claim));
            edges.extend(to.map(|to| (to, false, claim)));
        }
        // In the same millisecond what ends has ended before anything begins.
        edges.sort_by_key(|(t, begins, _)| (*t, *begins));
        let (mut taken, mut peak) = (HashMap::<&Name, u64>::new(), HashMap::<Name, u64>::new());
        let mut user_taken: HashMap<UserKey, (u64, u64)> = HashMap::new();
        let mut user_peak: HashMap<UserKey, (u64, u64)> = HashMap::new();
        for (_, begins, claim) in edges {
            let pool = taken.entry(&claim.pool).or_default();
            let user = user_taken.entry(claim.user).or_default();
            if begins {
                *pool += claim.units;
                *user = (user.0 + 1, user.1 + claim.units);
            } else {
                *pool -= claim.units;
                *user = (user.0 - 1, user.1 - claim.units);
                continue;
            }
            let most = peak.entry(claim.pool.clone()).or_default();
            *most = (*most).max(*pool);
            let most = user_peak.entry(claim.user).or_default();
            *most = (most.0.max(user.0), most.1.max(user.1));
        }
        (self.peak, self.user_peak) = (peak, user_peak);
    }

    /// Units of claims that failed or were cancelled, by pool: they came back.
    pub(super) fn came_back(&self, pool: &Name) -> u64 {
        let back = self.claims.values().filter(|c| !is_live(c.last) && c.pool == *pool);
        back.map(|claim| claim.units).sum()
    }

    /// Claims that were admitted here.
    pub(super) fn admitted(&self) -> impl Iterator<Item = (&ClaimId, &Claim)> {
        self.claims.iter().filter(|(_, claim)| claim.admitted_ms.is_some())
    }

    pub(super) fn sum(&self) -> Sum {
        let mut sum = Sum::default();
        for (_, claim) in self.admitted() {
            sum.admitted += 1;
            *match claim.last {
                Event::Admitted => &mut sum.open,
                Event::Confirmed | Event::Void => &mut sum.sold,
                Event::Failed => &mut sum.failed,
                Event::Unknown | Event::Pending => &mut sum.unknown,
            } += 1;
        }
        sum
    }
}

/// Whether it takes units.
pub(super) fn is_live(event: Event) -> bool {
    !matches!(event, Event::Failed | Event::Void)
}

fn contradict(before: Event, now: Event) -> bool {
    matches!(
        (before, now),
        (Event::Failed, Event::Confirmed) | (Event::Confirmed | Event::Void, Event::Failed)
    )
}

fn key(dir: &Path) -> io::Result<Option<Key>> {
    let beside = dir.parent().unwrap_or(Path::new("")).join("journal.key");
    for path in [beside, dir.join("journal.key")] {
        match Key::load(&path) {
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {}
            loaded => return loaded.map(Some),
        }
    }
    Ok(None)
}
