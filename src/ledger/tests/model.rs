//! The rules once more, as plainly as they can be said: one list of records, everything counted anew.

use std::collections::BTreeMap;

use super::*;
use RecordKind::{Admitted, Confirmed, Limbo, Pending};

/// A sale without indexes and without cleverness.
#[derive(Clone, Default)]
pub(super) struct Model {
    pub(super) sale: Option<SaleState>,
    pub(super) records: Vec<Record>,
    voids: Vec<ClaimId>,
    failed: Vec<ClaimId>,
    nodes: BTreeMap<NodeId, Peer>,
    pub(super) server: ServerId,
    /// Whether records were written in this operation.
    wrote: bool,
}

impl Model {
    pub(super) fn apply(&mut self, op: &Op, now: UnixMs) -> OpResult {
        let before = self.sale.clone();
        let mut rises = false;
        self.wrote = false;
        if !matches!(op, Op::Read) {
            self.latch(now);
        }
        let result = match (op, self.sale.is_some()) {
            (Op::Declare(d), _) => OpResult::Declared(self.declare(d, now)),
            (Op::Reassert(r), is_there) if is_there || r.known.is_some() => {
                let is_new = !is_there;
                if is_new {
                    let mut sale = r.known.clone().expect("what it knew");
                    sale.pools.iter_mut().for_each(|p| {
                        let back_since = UnixMs(0);
                        *p = PoolState { confirmed: 0, held: 0, limbo: 0, back_since, ..p.clone() };
                        unread(p, now);
                    });
                    self.sale = Some(sale);
                }
                rises = is_new;
                self.fence(&r.fence, is_new, now);
                if let Some(known) = &r.known {
                    rises |= self.recall(known, now);
                }
                let resolved = r.claims.iter().map(|c| self.reassert(c, now)).collect();
                OpResult::Reasserted { resolved, nodes: self.report(r, now) }
            }
            (_, false) => return OpResult::NoSale,
            (Op::Claim(b), _) if now > b.not_after => {
                OpResult::Claimed(b.tries.iter().map(|_| Claimed::TooLate).collect())
            }
            (Op::Claim(b), _) => {
                self.fence(&b.fence, false, now);
                OpResult::Claimed(b.tries.iter().map(|t| self.claim(b, t, now)).collect())
            }
            (Op::Resolve(all), _) => {
                OpResult::Resolved(all.iter().map(|o| self.resolve(o, now)).collect())
            }
            (Op::Reap { max }, _) => OpResult::Reaped(self.reap(*max as usize, now)),
            (Op::Control(word), _) => OpResult::Controlled(self.control(word, now)),
            (Op::Observe(seen), _) => OpResult::Observed(self.observe(seen, now)),
            (Op::Read | Op::Reassert(_), _) => return OpResult::Read,
        };
        self.count(now);
        let wrote = self.wrote;
        if let Some(sale) = &mut self.sale {
            sale.seq += u64::from(wrote);
            let is_other = before.is_some_and(|before| look(&before) != look(sale));
            sale.version += u64::from(rises || is_other);
        }
        result
    }

    fn sale(&mut self) -> &mut SaleState {
        self.sale.as_mut().expect("a sale")
    }

    fn units(&self, pool: &Name, kinds: &[RecordKind]) -> u64 {
        let of = self.records.iter().filter(|r| r.pool == *pool && kinds.contains(&r.kind));
        of.map(|r| u64::from(r.units)).sum()
    }

    /// The end of an operation.
    fn count(&mut self, now: UnixMs) {
        self.latch(now);
        let Some(sale) = &mut self.sale else { return };
        for p in &mut sale.pools {
            let back = p.stock.saturating_sub(p.confirmed + p.held + p.limbo);
            let is_back = sale.restock == Restock::Auto && p.sold_out && !p.held_back;
            let is_back = is_back && back > 0 && back >= sale.restock_batch;
            if sale.learn_until <= now && (!is_back || p.back_since == UnixMs(0)) {
                p.back_since = UnixMs(if is_back { now.0 } else { 0 });
            }
        }
    }

    fn latch(&mut self, now: UnixMs) {
        let Some(mut sale) = self.sale.take() else { return };
        for pool in &mut sale.pools {
            pool.held = self.units(&pool.name, &[Admitted, Pending]);
            pool.limbo = self.units(&pool.name, &[Limbo]);
            pool.confirmed = self.units(&pool.name, &[Confirmed]);
            let is_learning = sale.learn_until > now;
            let is_empty = pool.follow.as_ref().is_none_or(|f| {
                f.empty_since.0 > 0 && f.read_at.0 - f.empty_since.0 >= 200 && is_read(f, now)
            });
            let is_taken = pool.held == 0 && pool.confirmed + pool.limbo >= pool.stock;
            pool.sold_out |= !is_learning && is_taken && is_empty;
        }
        if sale.learn_until <= now {
            sale.learn_until = UnixMs(0);
        }
        sale.sold_out = !sale.pools.iter().any(|p| !p.sold_out);
        self.sale = Some(sale);
    }

    fn claim(&mut self, batch: &ClaimBatch, one: &Try, now: UnixMs) -> Claimed {
        let mine: Vec<_> = self.records.iter().filter(|r| r.user == one.user).cloned().collect();
        let is_same = |r: &&Record| r.attempt == one.attempt;
        if let Some(r) = mine.iter().find(|r| is_same(r) && r.kind == Confirmed) {
            return Claimed::Confirmed { claim: r.claim };
        }
        let (own, others): (Vec<_>, Vec<_>) =
            mine.iter().filter(|r| r.kind != Confirmed).partition(is_same);
        let of = |all: &[&Record], is_a: bool| {
            all.iter().find(|r| (r.kind == Admitted) == is_a).map(|r| (r.claim, r.node))
        };
        if let Some((claim, node)) = of(&own, true) {
            return Claimed::InProgress { claim, same: node == batch.node };
        } else if let Some((claim, _)) = of(&own, false) {
            return Claimed::Pending { claim };
        } else if let Some((claim, _)) = of(&others, true) {
            return Claimed::InProgress { claim, same: false };
        } else if let Some((claim, _)) = of(&others, false) {
            return Claimed::Pending { claim };
        }
        let (open, max) =
            (self.units(&one.pool, &[Admitted, Pending, Limbo]), self.sale().per_user);
        let sold = self.units(&one.pool, &[Confirmed]);
        let bought: u32 = mine.iter().map(|r| r.units).sum();
        let may = mine.len() < max.orders as usize && mine.len() < 8;
        let left = if may { max.units.saturating_sub(bought) } else { 0 };
        let limit = Claimed::Limit { max_units: left };
        if !mine.is_empty() && (left == 0 || left < one.units) {
            return if max.orders == 1 { Claimed::Already } else { limit };
        }
        let sale = self.sale();
        let pool = sale.pools.iter().find(|p| p.name == one.pool).cloned();
        match pool {
            _ if sale.ended || sale.ends_at.is_some_and(|e| e <= now) => Claimed::Ended,
            _ if sale.sold_out => Claimed::SoldOut,
            None => Claimed::UnknownPool,
            Some(pool) if pool.sold_out => Claimed::SoldOut,
            _ if now < sale.opens_at => Claimed::NotStarted,
            _ if sale.paused => Claimed::Paused,
            _ if sale.learn_until > now || batch.reported != Some(sale.mark()) => Claimed::Learning,
            Some(pool) if pool.follow.as_ref().is_some_and(|f| !is_read(f, now)) => Claimed::Unread,
            _ if one.units == 0 || one.units > left => limit,
            Some(pool) => {
                let window =
                    pool.stock.saturating_sub(sold) * u64::from(sale.overshoot_permille) / 1000;
                if window <= open {
                    return Claimed::Busy;
                }
                if window < open + u64::from(one.units) {
                    return Claimed::Insufficient { max_units: (window - open) as u32 };
                }
                let deadline = UnixMs(now.0 + batch.claim_ttl_ms);
                let Try { claim, attempt, user, pool, units } = one.clone();
                let (kind, node) = (Admitted, batch.node);
                let new = Record { kind, user, claim, attempt, pool, units, node, deadline };
                self.records.push(new);
                self.wrote = true;
                Claimed::Admitted { deadline }
            }
        }
    }

    fn resolve(&mut self, o: &Resolution, now: UnixMs) -> Resolved {
        let Some(at) = self.records.iter().position(|r| r.claim == o.claim) else {
            if o.verdict != Verdict::Confirmed {
                return Resolved::Unknown;
            }
            if self.voids.contains(&o.claim) {
                return Resolved::Repeated;
            }
            if !self.sale().pools.iter().any(|p| p.name == o.pool) {
                return Resolved::Conflict;
            }
            let Resolution { user, claim, attempt, pool, units, .. } = o.clone();
            let (kind, node, deadline) = (Confirmed, NodeId([0; 8]), UnixMs(0));
            let new = Record { kind, user, claim, attempt, pool, units, node, deadline };
            self.records.push(new);
            self.wrote = true;
            return Resolved::Late;
        };
        let r = &mut self.records[at];
        let is_over = r.deadline <= now;
        match (o.verdict.letter(), r.kind) {
            ('F', Confirmed) => return Resolved::Conflict,
            ('F', _) => drop(self.records.remove(at)),
            ('V', kind) => {
                let gone = self.records.remove(at);
                self.voids.push(gone.claim);
                let pool = self.sale().pools.iter_mut().find(|p| p.name == gone.pool);
                if let Some(pool) = pool.filter(|p| p.follow.is_some() && kind == Confirmed) {
                    pool.stock = pool.stock.saturating_sub(gone.units.into());
                    pool.follow.as_mut().expect("followed").not_before = now;
                }
            }
            (_, Confirmed) | ('X', Limbo) => return Resolved::Repeated,
            ('C', _) => r.kind = Confirmed,
            ('X', Pending) if !is_over => return Resolved::Repeated,
            ('X', _) => r.kind = Limbo,
            ('P', Pending) => return Resolved::Repeated,
            ('P', Limbo) if o.hold_until.is_none_or(|t| t <= now) => return Resolved::Repeated,
            _ => {
                r.kind = Pending;
                r.deadline = o.hold_until.unwrap_or(r.deadline);
            }
        }
        self.wrote = true;
        Resolved::Applied
    }

    fn fence(&mut self, fence: &Fence, is_new: bool, now: UnixMs) {
        let server = self.server;
        let sale = self.sale();
        let is_behind = fence.seen > sale.seq && sale.learn_until <= now;
        if is_new || is_behind || sale.server != server {
            (sale.server, sale.fences) = (server, sale.fences + 1);
            sale.learn_until = UnixMs(now.0 + fence.learn_ms);
            sale.pools.iter_mut().for_each(|p| unread(p, now));
        }
        sale.seq = std::cmp::max(fence.seen, sale.seq);
    }

    /// Whether the node knew of something newer.
    fn recall(&mut self, known: &SaleState, now: UnixMs) -> bool {
        let mine = self.sale.clone().expect("a sale");
        let taken = |p: &PoolState| p.confirmed + p.held + p.limbo;
        let latched = |s: &SaleState, name: &Name| {
            s.epoch == std::cmp::max(known.epoch, mine.epoch)
                && s.pools.iter().any(|p| p.name == *name && p.sold_out)
        };
        let order = (known.epoch, known.version).cmp(&(mine.epoch, mine.version));
        let newer = if order.is_gt() { known } else { &mine };
        let mut new = newer.clone();
        (new.server, new.fences) = (mine.server, mine.fences);
        (new.learn_until, new.seq) = (mine.learn_until, mine.seq);
        new.salt = if mine.pools.iter().all(|p| taken(p) == 0) { known.salt } else { mine.salt };
        new.ended = mine.ended || known.ended;
        let (newer, older) = if order.is_gt() { (known, &mine) } else { (&mine, known) };
        if order.is_ge() {
            let only = older.ids.iter().filter(|id| !newer.ids.contains(id));
            new.ids = last_64(only.chain(&newer.ids).cloned().collect());
        }
        new.paused |= order.is_eq() && known.paused;
        for pool in &mut new.pools {
            pool.sold_out |= latched(&mine, &pool.name) || latched(known, &pool.name);
            let back = |s: &SaleState| {
                s.epoch == std::cmp::max(known.epoch, mine.epoch)
                    && s.pools.iter().any(|p| p.name == pool.name && p.held_back)
            };
            pool.held_back |= back(&mine) || back(known);
            let own = mine.pools.iter().find(|p| p.name == pool.name);
            pool.back_since = own.map_or(UnixMs(0), |p| p.back_since);
            let other = known.pools.iter().find(|p| p.name == pool.name);
            if order.is_gt() {
                unread(pool, now);
            }
            if let Some(other) = other.filter(|_| order.is_eq() && pool.follow.is_none()) {
                pool.stock = std::cmp::min(pool.stock, other.stock);
            }
        }
        for pool in mine.pools.iter().filter(|p| taken(p) > 0) {
            if !new.pools.iter().any(|p| p.name == pool.name) {
                new.pools.push(pool.clone());
            }
        }
        new.pools.sort_by_key(|p| p.name.to_string());
        self.sale = Some(new);
        order.is_gt()
    }

    fn reassert(&mut self, said: &Assertion, now: UnixMs) -> Resolved {
        let Assertion { claim, user, attempt, pool, units, node, verdict, deadline } = said.clone();
        if self.records.iter().any(|r| r.claim == claim) {
            let Some(verdict) = verdict else { return Resolved::Repeated };
            let hold_until = Some(deadline);
            let o = Resolution { user, claim, attempt, pool, units, verdict, hold_until };
            return self.resolve(&o, now);
        }
        let letter = verdict.map_or('A', Verdict::letter);
        match letter {
            'V' => self.voids.push(claim),
            'F' => self.failed.push(claim),
            _ if self.voids.contains(&claim) => return Resolved::Repeated,
            _ if !self.sale().pools.iter().any(|p| p.name == pool) => return Resolved::Conflict,
            'A' | 'P' | 'X' if self.failed.contains(&claim) => return Resolved::Repeated,
            _ => {
                let kind = match letter {
                    'C' => Confirmed,
                    'A' if now < deadline => Admitted,
                    'P' if now < deadline => Pending,
                    _ => Limbo,
                };
                let new = Record { kind, user, claim, attempt, pool, units, node, deadline };
                self.records.push(new);
                self.wrote = true;
                return Resolved::Late;
            }
        }
        Resolved::Unknown
    }

    fn report(&mut self, r: &Reassert, now: UnixMs) -> Vec<NodeId> {
        let (mark, learn_until) = (self.sale().mark(), self.sale().learn_until);
        self.nodes.insert(r.node, Peer { seen: now, reported: r.reported });
        if learn_until <= now && !r.is_roll_call {
            return Vec::new();
        }
        self.nodes.retain(|_, peer| peer.seen.0 + 600_000 >= now.0);
        if learn_until > now {
            for run in &r.runs {
                self.nodes.entry(*run).and_modify(|p| p.reported = r.reported.or(p.reported));
            }
            for peer in &r.peers {
                self.nodes.entry(*peer).or_insert(Peer { seen: now, reported: None });
            }
            let began = learn_until.0 - r.fence.learn_ms.min(learn_until.0);
            let is_open = |p: &&Peer| p.seen.0 + 5_000 >= began && p.reported != Some(mark);
            if self.nodes.values().find(is_open).is_none() {
                self.sale().learn_until = now;
            }
        }
        let live = self.nodes.iter().filter(|(_, p)| p.seen.0 + 5_000 >= now.0);
        live.map(|(node, _)| *node).collect()
    }

    fn reap(&mut self, max: usize, now: UnixMs) -> Vec<Record> {
        let mut due: Vec<_> = self
            .records
            .iter_mut()
            .filter(|r| matches!(r.kind, Admitted | Pending) && r.deadline <= now)
            .collect();
        due.sort_by_key(|r| (r.deadline, r.user, r.claim));
        due.truncate(max);
        due.iter_mut().for_each(|r| r.kind = Limbo);
        self.wrote |= !due.is_empty();
        let due: Vec<_> = due.into_iter().map(|r| r.clone()).collect();
        let mut sale = self.sale.take().expect("a sale");
        for at in 0..sale.pools.len() {
            let pool = &mut sale.pools[at];
            pool.held = self.units(&pool.name, &[Admitted, Pending]);
            pool.limbo = self.units(&pool.name, &[Limbo]);
        }
        let is_open =
            !sale.ended && sale.ends_at.is_none_or(|e| e > now) && sale.learn_until <= now;
        let (auto, batch, wait) =
            (sale.restock == Restock::Auto, sale.restock_batch, sale.restock_debounce_ms);
        let is_due = |p: &&mut PoolState| {
            let back = p.stock as i64 - (p.confirmed + p.held + p.limbo) as i64;
            let is_mine = auto && p.sold_out && !p.held_back && p.back_since.0 > 0;
            is_mine && back >= batch.max(1) as i64 && p.back_since.0 + wait <= now.0
        };
        let mut opened = 0;
        if is_open {
            sale.pools.iter_mut().filter(is_due).for_each(|p| {
                p.sold_out = false;
                opened += 1;
            });
        }
        sale.epoch += u32::from(opened > 0);
        self.sale = Some(sale);
        due
    }

    fn observe(&mut self, seen: &Observe, now: UnixMs) -> Vec<Observed> {
        let is_current = seen.mark == self.sale().mark();
        let at = std::cmp::min(seen.read_at, now);
        let mut one = |reading: &Reading| {
            let pool = self.sale().pools.iter_mut().find(|p| p.name == reading.pool);
            let Some(pool) = pool.filter(|p| p.follow.is_some()) else {
                return Observed::NotFollowed;
            };
            let follow = pool.follow.as_mut().expect("followed");
            if !is_current || at.0 < follow.read_at.0 || at.0 < follow.not_before.0 + 1 {
                return Observed::Late;
            }
            let Some(left) = reading.left else {
                unread(pool, at);
                return Observed::Applied;
            };
            if left > 0 || follow.empty_since.0 == 0 {
                follow.empty_since = if left == 0 { at } else { UnixMs(0) };
            }
            follow.read_at = at;
            pool.stock = (reading.confirmed_before + left).min(1_000_000_000);
            Observed::Applied
        };
        seen.readings.iter().map(&mut one).collect()
    }

    /// The texts of refusals are the core's business: here they are empty.
    fn control(&mut self, word: &Control, now: UnixMs) -> Controlled {
        let refused = Controlled::Refused(String::new());
        let sale = self.sale();
        let is_over = sale.ended || sale.ends_at.is_some_and(|e| e <= now);
        let done = |was: bool| if was { Controlled::Unchanged } else { Controlled::Applied };
        let (id, pool, units) = match word {
            Control::End => return done(std::mem::replace(&mut sale.ended, true)),
            _ if is_over => return refused,
            Control::Pause => return done(std::mem::replace(&mut sale.paused, true)),
            Control::Resume => return done(!std::mem::replace(&mut sale.paused, false)),
            Control::SoldOut => {
                sale.pools.iter_mut().for_each(|p| (p.sold_out, p.held_back) = (true, true));
                return done(sale.sold_out);
            }
            Control::AddStock { pool, units, id } | Control::Restock { pool, units, id } => {
                (id, pool, *units)
            }
        };
        if sale.ids.contains(id) {
            return Controlled::Unchanged;
        }
        let is_restock = matches!(word, Control::Restock { .. });
        let Some(p) = sale.pools.iter_mut().find(|p| p.name == *pool) else { return refused };
        let taken = p.confirmed + p.held + p.limbo;
        if p.follow.is_some() && (units > 0 || !is_restock) {
            return refused;
        }
        if is_restock != p.sold_out || (is_restock && taken >= p.stock + units) {
            return refused;
        }
        if is_restock {
            sale.epoch += 1;
        } else if units == 0 {
            return refused;
        }
        p.stock += units;
        (p.sold_out, p.held_back) = (false, false);
        sale.ids.push(id.clone());
        sale.ids = last_64(std::mem::take(&mut sale.ids));
        Controlled::Applied
    }

    fn declare(&mut self, declare: &Declare, now: UnixMs) -> Declared {
        let said = &declare.declaration;
        let refused = Declared::Refused(String::new());
        let ends_at = said.ends_at.map(|e| e.at);
        let is_past = ends_at.is_some_and(|e| e <= now);
        let hash = said.hash();
        let fresh = |mut old: SaleState| {
            let kept = std::mem::take(&mut old.pools);
            for (name, pool) in &said.pools {
                let mut new = PoolState::declared(name.clone(), &pool.stock);
                if let Some(k) = kept.iter().find(|k| k.name == *name) {
                    let same = new.follow.is_some() && from(k) == from(&new);
                    let (stock, follow) = number(if same { k } else { &new });
                    new = PoolState { stock, follow, ..k.clone() };
                }
                new.sold_out |= old.sold_out;
                new.held_back |= old.sold_out && now < old.opens_at;
                old.pools.push(new);
            }
            old.activity = said.activity.clone();
            (old.opens_at, old.ends_at) = (said.opens_at.at, ends_at);
            (old.per_user, old.restock) = (said.per_user, said.restock);
            old.restock_batch = said.restock_batch;
            old.restock_debounce_ms = said.restock_debounce.ms;
            old.overshoot_permille = said.overshoot_permille();
            old.revision = said.revision.unwrap_or(old.revision);
            old.applied.retain(|h| *h != hash);
            old.applied.push(hash);
            let extra = old.applied.len().saturating_sub(16);
            old.applied.split_off(extra).clone_into(&mut old.applied);
            old
        };
        let Some(old) = self.sale.clone() else {
            if is_past {
                return refused;
            }
            let mut new = fresh(blank(declare.salt));
            new.paused = said.opens_at.at <= now;
            new.server = self.server;
            let paused = new.paused;
            self.sale = Some(new);
            return if paused { Declared::CreatedPaused } else { Declared::Applied };
        };
        let is_known = old.applied.contains(&hash);
        match said.revision {
            None if is_known => return Declared::Unchanged,
            Some(r) if r == old.revision && is_known => return Declared::Unchanged,
            Some(r) if r <= old.revision => return refused,
            _ => {}
        }
        let used = |p: &PoolState| p.confirmed + p.held + p.limbo > 0;
        let lost = old.pools.iter().any(|p| used(p) && !said.pools.contains_key(&p.name));
        let stocks = |s: &SaleState| -> Vec<_> {
            s.pools.iter().map(|p| (p.name.clone(), shown(p))).collect()
        };
        let new = fresh(old.clone());
        let is_tighter = new.per_user.orders <= old.per_user.orders
            && new.per_user.units <= old.per_user.units
            && new.overshoot_permille <= old.overshoot_permille
            && new.restock <= old.restock
            && (&old.activity, old.opens_at) == (&new.activity, new.opens_at)
            && stocks(&old) == stocks(&new);
        let is_over = old.ended || old.ends_at.is_some_and(|e| e <= now);
        let is_refused = if now < old.opens_at { lost } else { !is_tighter };
        if is_over || is_past || is_refused {
            return refused;
        }
        self.sale = Some(new);
        Declared::Applied
    }
}

fn unread(pool: &mut PoolState, now: UnixMs) {
    if let Some(source) = from(pool) {
        let not_before = now;
        pool.follow = Some(Follow { not_before, ..Follow::new(source) });
    }
}

fn number(pool: &PoolState) -> (u64, Option<Follow>) {
    (pool.stock, pool.follow.clone())
}

fn from(pool: &PoolState) -> Option<Source> {
    pool.follow.as_ref().map(|f| f.source.clone())
}

fn is_read(f: &Follow, now: UnixMs) -> bool {
    f.read_at.0 > 0 && now.0 <= f.read_at.0 + 2_000
}

/// The stock as everybody is told it: the shop's own number moves too often.
fn shown(pool: &PoolState) -> Result<u64, Source> {
    from(pool).map_or(Ok(pool.stock), Err)
}

pub(super) fn blank(salt: Salt) -> SaleState {
    SaleState { overshoot_permille: 0, salt, ..SaleState::new(sale_id(), name("none")) }
}

fn last_64(ids: Vec<String>) -> Vec<String> {
    ids.into_iter().rev().take(64).rev().collect()
}

/// All that the public can see of a sale.
pub(super) fn look(s: &SaleState) -> String {
    let pools: Vec<_> = s.pools.iter().map(|p| (&p.name, shown(p), p.sold_out)).collect();
    let policy = (s.restock_batch, s.restock_debounce_ms);
    let fence = (policy, s.server, s.fences, s.learn_until, s.salt);
    let words = (s.paused, s.ended, s.sold_out, s.epoch, s.restock, s.overshoot_permille);
    format!(
        "{fence:?} {words:?} {:?} {:?} {:?} {pools:?} {}",
        s.opens_at, s.ends_at, s.per_user, s.activity
    )
}
