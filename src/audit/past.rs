//! What the journals say of one sale.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};

use super::{AuditError, Sum};
use crate::ident::{AttemptId, ClaimId, Name, NodeId, SaleId, UserKey};
use crate::journal::{self, Chain, Event, Key, Line};

/// One claim.
#[derive(Clone, Debug)]
pub(super) struct Claim {
    pub(super) user: UserKey,
    pub(super) attempt: AttemptId,
    /// Unix milliseconds of its admission; absent where only an outcome stands here.
    pub(super) admitted_ms: Option<u64>,
    /// The last thing that happened to it.
    pub(super) last: Event,
    /// It was said to have failed and to be confirmed.
    pub(super) contradicts: bool,
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
    /// Most units that were taken at once, by pool; of a single journal only, since the order of lines
    /// in two is not known.
    pub(super) peak: HashMap<Name, u64>,
    /// Users who had more at once than they had later: orders and units, at most.
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
    pub(super) fn read(dirs: &[PathBuf], sale: &SaleId) -> Result<Past, AuditError> {
        let mut past = Past::default();
        let sale = sale.to_string();
        for dir in dirs {
            let failed = |cause| AuditError::Journal { dir: dir.clone(), cause };
            // The reader takes a missing directory for an empty journal; an audit must not.
            std::fs::metadata(dir).map_err(failed)?;
            let key = key(dir).map_err(failed)?;
            let each = |line: Line| {
                if line.sale == sale {
                    past.note(line);
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
            past.peak.clear();
            past.user_peak.clear();
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
            admitted_ms: None,
            last: line.event,
            contradicts: false,
            status: None,
            code: None,
            order: None,
        };
        let claim = self.claims.entry(line.claim).or_insert_with(fresh);
        let was_live = claim.admitted_ms.is_some() && is_live(claim.last);
        if line.event == Event::Admitted {
            claim.admitted_ms.get_or_insert(line.t);
        }
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
fn is_live(event: Event) -> bool {
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
