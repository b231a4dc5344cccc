//! Where requests find sales: by site and activity. The store pushes; nobody below knows the store.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, Guard};
use rustc_hash::FxHashMap;

use super::news;
use super::rosters::UserSets;
use super::snapshot::SaleSnapshot;
use super::state::SaleState;
use crate::clock::MonoMs;
use crate::ident::{Name, SaleId};

/// News about one sale.
#[derive(Clone, Debug)]
pub struct Update {
    /// What the ledger holds now.
    pub state: SaleState,
    /// When the store was asked: it is no older than that.
    pub heard: MonoMs,
}

/// One sale's place in the book. Its snapshot is replaced, the cell stays.
#[derive(Debug)]
pub struct SaleCell {
    snapshot: ArcSwap<SaleSnapshot>,
}

impl SaleCell {
    /// The snapshot of now; a request calls this once. It writes nothing that another thread reads,
    /// and is for the moment: what outlives the decision is cloned out of it.
    pub fn load(&self) -> Guard<Arc<SaleSnapshot>> {
        self.snapshot.load()
    }
}

/// By site and activity. Strangers look up here but only operators put in: nobody can make keys
/// collide, so they need no secret.
type Index = FxHashMap<Name, FxHashMap<Name, Arc<SaleCell>>>;

/// All sales, for one node.
#[derive(Debug, Default)]
pub struct SaleBook {
    by_activity: ArcSwap<Index>,
    by_id: Mutex<HashMap<SaleId, Arc<SaleCell>>>,
    synced: AtomicBool,
    /// Sales to which nobody is let in before the shop's sets of users were read.
    with_sets: Mutex<BTreeSet<SaleId>>,
}

impl SaleBook {
    /// An empty book that has never been in sync.
    pub fn new() -> SaleBook {
        SaleBook::default()
    }

    /// Names the sales that have sets of users: nobody is let in to them until these were read. Called
    /// before the first sale is told, and again with other settings.
    pub fn expect_sets(&self, sales: BTreeSet<SaleId>) {
        let by_id = self.lock();
        for (id, cell) in by_id.iter() {
            let snapshot = cell.load();
            let rosters = snapshot.rosters();
            match sales.contains(id) {
                true if rosters.sets().is_none() => rosters.put_sets(UserSets::default()),
                true => {}
                false => rosters.drop_sets(),
            }
        }
        *self.with_sets.lock().unwrap_or_else(PoisonError::into_inner) = sales;
    }

    /// The sale of an activity: the one that is not ended, else the newest.
    pub fn get(&self, site: &str, activity: &str) -> Option<Guard<Arc<SaleSnapshot>>> {
        Some(self.by_activity.load().get(site)?.get(activity)?.load())
    }

    /// The sale called `id`.
    pub fn sale(&self, id: &SaleId) -> Option<Arc<SaleSnapshot>> {
        self.lock().get(id).map(|c| c.snapshot.load_full())
    }

    /// Every sale, in the order of their ids.
    pub fn all(&self) -> Vec<Arc<SaleSnapshot>> {
        let mut all: Vec<_> = self.lock().values().map(|c| c.snapshot.load_full()).collect();
        all.sort_by(|a, b| a.state.id.cmp(&b.state.id));
        all
    }

    /// Whether the mirror has been in sync once; before that nobody is told `unknown_activity`.
    pub fn is_synced(&self) -> bool {
        self.synced.load(Ordering::Acquire)
    }

    /// The store has told about every sale it has.
    pub fn set_synced(&self) {
        self.synced.store(true, Ordering::Release);
    }

    /// Takes an update unless it is older than what is known, by (epoch, version). Counters move
    /// within a version: the higher `seq` of one memory of the ledger wins, else the word heard last.
    /// Returns whether the snapshot was replaced.
    pub fn apply(&self, update: Update) -> bool {
        let Update { state, heard } = update;
        let has_room = state.pools.iter().any(|p| p.room(state.overshoot_permille) > 0);
        let mut by_id = self.lock();
        if let Some(cell) = by_id.get(&state.id) {
            let old = cell.load();
            // Word that was overtaken on its way says nothing about now, not even about room.
            if is_overtaken(&old.state, &state, heard < old.heard().at()) {
                return false;
            }
            old.heard().note(heard, has_room);
            if old.state == state {
                return false;
            }
            let moved = old.state.activity != state.activity || old.state.ended != state.ended;
            let next = Arc::new(old.next(state));
            cell.snapshot.store(next.clone());
            if moved {
                self.index(&by_id);
            }
            drop(by_id);
            news::tell(&old.state, &next.state);
            return true;
        }
        let id = state.id.clone();
        let snapshot = SaleSnapshot::new(state);
        snapshot.heard().note(heard, has_room);
        if self.with_sets.lock().unwrap_or_else(PoisonError::into_inner).contains(&id) {
            snapshot.rosters().put_sets(UserSets::default());
        }
        by_id.insert(id, Arc::new(SaleCell { snapshot: ArcSwap::from_pointee(snapshot) }));
        self.index(&by_id);
        true
    }

    /// Forgets a sale that was removed from the store.
    pub fn remove(&self, id: &SaleId) {
        let mut by_id = self.lock();
        if by_id.remove(id).is_some() {
            self.index(&by_id);
        }
    }

    /// Builds the index again: rare, so it may cost a walk over all sales.
    fn index(&self, by_id: &HashMap<SaleId, Arc<SaleCell>>) {
        let mut index = Index::default();
        let mut cells: Vec<_> = by_id.values().map(|c| (c.snapshot.load_full(), c)).collect();
        // Later entries win: running sales last, and among them or the ended ones the newest.
        cells.sort_by_key(|(s, _)| (!s.state.ended, s.state.opens_at, s.state.id.clone()));
        for (snapshot, cell) in cells {
            let state = &snapshot.state;
            index
                .entry(state.id.site.clone())
                .or_default()
                .insert(state.activity.clone(), cell.clone());
        }
        self.by_activity.store(Arc::new(index));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<SaleId, Arc<SaleCell>>> {
        self.by_id.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether `new` is older than `old`; `was_before` says that it was asked for before.
fn is_overtaken(old: &SaleState, new: &SaleState, was_before: bool) -> bool {
    match (new.epoch, new.version).cmp(&(old.epoch, old.version)) {
        std::cmp::Ordering::Equal if new.mark() == old.mark() && new.seq != old.seq => {
            new.seq < old.seq
        }
        std::cmp::Ordering::Equal => was_before,
        order => order.is_lt(),
    }
}
