//! Lists of users, read whole and put where the gate finds them: the winners, out of the ledger, and
//! the shop's own sets.
//!
//! A list is read again when it may have changed and its time has come, and never so often that reading
//! takes more than a twentieth of the time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::claims::Claims;
use crate::clock::{Clock, MonoMs};
use crate::config::schema;
use crate::ident::{Name, SaleId, UserKey};
use crate::metrics::{Counter, Sink};
use crate::sale::rosters::{Roster, SetKind, UserSet, UserSets, of_attempt, of_user};
use crate::sale::{SaleBook, SaleSnapshot};
use crate::store::redis::reader::Reader;

/// What reading lists needs.
#[derive(Debug)]
pub struct Lists {
    claims: Claims,
    book: Arc<SaleBook>,
    clock: Clock,
    sink: Sink,
    redis: Arc<Option<Reader>>,
    shop: schema::Shop,
    /// The sets that sales name.
    named: Mutex<Named>,
    /// When each sale's lists are due again, and what the winners were read of.
    due: Mutex<BTreeMap<SaleId, Due>>,
    /// What could not be read, and why.
    troubles: Mutex<BTreeMap<String, String>>,
}

/// By sale.
type Named = BTreeMap<SaleId, Vec<(SetKind, String)>>;

#[derive(Clone, Copy, Debug)]
struct Due {
    winners: Instant,
    sets: Instant,
    /// The ledger's `seq` when the winners were read.
    seq: Option<u64>,
}

impl Lists {
    /// Reads which sets the sales of the config name.
    pub fn new(
        settings: &schema::Settings,
        redis: Arc<Option<Reader>>,
        claims: Claims,
        book: Arc<SaleBook>,
        clock: Clock,
        sink: Sink,
    ) -> Lists {
        let shop = settings.shop.clone();
        let (due, troubles) = (Mutex::default(), Mutex::default());
        Lists {
            claims,
            book,
            clock,
            sink,
            redis,
            shop,
            named: Mutex::new(named(settings)),
            due,
            troubles,
        }
    }

    /// Reads for as long as it is polled.
    pub async fn run(self: Arc<Lists>) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            self.due().retain(|sale, _| self.book.sale(sale).is_some());
            for sale in self.book.all() {
                let now = Instant::now();
                let first = Due { winners: now, sets: now, seq: None };
                let mut due = *self.due().entry(sale.state.id.clone()).or_insert(first);
                if now >= due.winners && due.seq != Some(sale.state.seq) {
                    due.seq = self.winners(&sale).await.then_some(sale.state.seq).or(due.seq);
                    due.winners = next(now, WINNERS_EVERY);
                }
                let begun = Instant::now();
                if begun >= due.sets && !sale.state.is_ended_at(self.clock.now().ledger) {
                    due.sets = match self.sets(&sale).await {
                        true => next(begun, self.shop.sets_refresh.duration()),
                        false => begun,
                    };
                }
                self.due().insert(sale.state.id.clone(), due);
            }
        }
    }

    /// Reads who has a record in the ledger. One node knows its own without it.
    async fn winners(&self, sale: &SaleSnapshot) -> bool {
        if !self.claims.is_shared() || !self.claims.is_open(&sale.state.id) {
            return !self.claims.is_shared();
        }
        let (mut hashes, mut after) = (Vec::new(), None);
        loop {
            let Ok(page) = self.claims.records(&sale.state.id, None, after, PAGE).await else {
                return false;
            };
            let last = page.iter().map(|record| record.user).max();
            if last.is_none() || last <= after {
                break;
            }
            after = last;
            for record in &page {
                hashes.extend([of_user(&record.user), of_attempt(&record.attempt)]);
            }
        }
        sale.rosters().set_winners(Roster::of(&hashes));
        true
    }

    /// Reads the shop's sets. One that cannot be read stays as it was, and grows old. `false`: others
    /// were named meanwhile.
    async fn sets(&self, sale: &SaleSnapshot) -> bool {
        let Some(named) = self.named().get(&sale.state.id).cloned() else { return true };
        let old = sale.rosters().sets().as_ref().cloned();
        let mut sets = Vec::new();
        for (kind, key) in &named {
            let of_pools = key.contains("{pool}");
            let pools = sale.state.pools.iter().map(|pool| Some(pool.name.clone()));
            let pools: Vec<Option<Name>> = if of_pools { pools.collect() } else { vec![None] };
            for pool in pools {
                let named = pool.as_ref().map_or("", |pool| pool.as_str());
                let key = crate::config::stock::filled(key, sale.state.activity.as_str(), named);
                let read_at = self.clock.mono();
                let read = self.members(sale, *kind, &key).await;
                self.note(&sale.state.id, &key, read.as_ref().err());
                let fresh = read.ok().map(|members| (Arc::new(members), read_at));
                let is_it = |set: &&UserSet| set.kind == *kind && set.pool == pool;
                let kept = old.as_ref().and_then(|old| old.sets.iter().find(is_it));
                let kept = kept.and_then(|set| Some((set.members.clone()?, set.read_at)));
                let (members, read_at) = match fresh.or(kept) {
                    Some((members, read_at)) => (Some(members), read_at),
                    None => (None, MonoMs(0)),
                };
                sets.push(UserSet { kind: *kind, pool, members, read_at });
            }
        }
        let is_whole = sets.iter().all(|set| set.members.is_some());
        let oldest = sets.iter().map(|set| set.read_at).min().unwrap_or(MonoMs(0));
        let until = if is_whole { oldest.plus(self.shop.sets_age_max.ms) } else { MonoMs(0) };
        let is = self.named();
        if is.get(&sale.state.id) != Some(&named) {
            return false;
        }
        sale.rosters().put_sets(UserSets { sets, until });
        true
    }

    async fn members(
        &self,
        sale: &SaleSnapshot,
        kind: SetKind,
        key: &str,
    ) -> Result<Roster, String> {
        let redis = self.redis.as_ref().as_ref().ok_or(super::NO_REDIS)?;
        self.sink.inc(Counter::ShopSetReads);
        let salt = sale.state.salt;
        let mut hashes = Vec::new();
        let most = usize::try_from(self.shop.set_members_max).unwrap_or(usize::MAX);
        let mut take = |member: &[u8]| {
            hashes.push(of_user(&UserKey::of_identity(&salt, member)));
            hashes.len() <= most
        };
        let is_there = redis.members(key, self.shop.timeout.duration(), &mut take).await?;
        if !is_there && kind == SetKind::Only {
            return Err("there is no such set, and nobody else may buy".to_owned());
        }
        if hashes.len() > most {
            return Err(format!("it has more than {most} members: raise shop.set_members_max"));
        }
        Ok(Roster::of(&hashes))
    }

    fn note(&self, sale: &SaleId, key: &str, why: Option<&String>) {
        let mut troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        let name = format!("{sale} {key}");
        match why {
            None => {
                if troubles.remove(&name).is_some() {
                    tracing::info!("sale {sale}: the set {key} is read again");
                }
            }
            Some(why) => {
                self.sink.inc(Counter::ShopSetReadErrors);
                if troubles.get(&name) != Some(why) {
                    tracing::error!("sale {sale}: the set {key} cannot be read: {why}");
                    troubles.insert(name, why.clone());
                }
            }
        }
    }

    /// Takes the sets of other settings. Nobody is let in by those that a sale had before.
    pub fn rename(&self, settings: &schema::Settings) {
        let new = named(settings);
        let old = std::mem::replace(&mut *self.named(), new.clone());
        let is_other = |sale: &SaleId| old.get(sale) != new.get(sale);
        for sale in self.book.all().iter().filter(|sale| is_other(&sale.state.id)) {
            if new.contains_key(&sale.state.id) {
                sale.rosters().put_sets(UserSets::default());
            }
            self.due().remove(&sale.state.id);
        }
        self.book.expect_sets(new.into_keys().collect());
    }

    fn named(&self) -> std::sync::MutexGuard<'_, Named> {
        self.named.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn due(&self) -> std::sync::MutexGuard<'_, BTreeMap<SaleId, Due>> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The sets that the config's sales name.
pub fn named(settings: &schema::Settings) -> BTreeMap<SaleId, Vec<(SetKind, String)>> {
    let mut all = BTreeMap::new();
    for (name, sale) in &settings.sale {
        let sets = [
            (SetKind::Already, &sale.already),
            (SetKind::Deny, &sale.deny),
            (SetKind::Only, &sale.only),
        ];
        let sets = sets
            .into_iter()
            .filter_map(|(kind, set)| set.as_ref().map(|set| (kind, set.redis_set.clone())));
        let sets: Vec<_> = sets.collect();
        if let Some(id) = settings.sale_id(name).filter(|_| !sets.is_empty()) {
            all.insert(id, sets);
        }
    }
    all
}

/// When a list that was begun then is due again.
fn next(begun: Instant, every: Duration) -> Instant {
    let now = Instant::now();
    now + every.max((now - begun) * 19)
}

const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Winners are read again so long after they changed.
const WINNERS_EVERY: Duration = Duration::from_secs(1);

/// Records in one page.
const PAGE: usize = 1_000;
