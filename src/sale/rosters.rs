//! Who is on a list, without asking anybody: the winners of a sale, and the shop's own sets of users.
//!
//! A list is a table of the upper halves of users' keys, which are hashes with a secret: one read from
//! memory says who is on it, and it takes a stranger for a member once in 10^13 times. Lists are read
//! whole, again and again, and replaced; nobody waits for one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::{ArcSwapOption, Guard};

use crate::clock::MonoMs;
use crate::ident::{AttemptId, Name, UserKey};

/// Hashes, to be found with one look.
#[derive(Debug)]
pub struct Roster {
    /// Open addressing, at most half full; 0 is free.
    slots: Box<[u64]>,
    members: usize,
}

/// What a set of the shop's says about who may buy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetKind {
    /// Its members have bought already, elsewhere.
    Already,
    /// Its members may not buy.
    Deny,
    /// Nobody else may buy.
    Only,
}

/// One set of the shop's, read whole.
#[derive(Clone, Debug)]
pub struct UserSet {
    /// What it says.
    pub kind: SetKind,
    /// The pool it is about; `None`: the whole sale.
    pub pool: Option<Name>,
    /// Its members; `None`: it was never read.
    pub members: Option<Arc<Roster>>,
    /// When reading it began.
    pub read_at: MonoMs,
}

/// The shop's sets for one sale.
#[derive(Clone, Debug, Default)]
pub struct UserSets {
    /// All of them.
    pub sets: Vec<UserSet>,
    /// Until then they may be trusted; 0: one of them was never read.
    pub until: MonoMs,
}

/// What the sets say of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listed {
    /// They have bought.
    Already,
    /// They may not buy.
    NotEligible,
    /// Nobody knows now.
    Unknown,
}

/// The lists of one sale; shared by its snapshots.
#[derive(Debug, Default)]
pub struct Rosters {
    /// Users with a record in the ledger, and their attempts.
    winners: ArcSwapOption<Roster>,
    /// Whether there are any: most sales have no lists, and ask no more than this.
    has_winners: AtomicBool,
    /// The shop's sets, where the sale has any.
    sets: ArcSwapOption<UserSets>,
    has_sets: AtomicBool,
}

impl Roster {
    /// A table of `hashes`.
    pub fn of(hashes: &[u64]) -> Roster {
        let size = (hashes.len() * 2).next_power_of_two().max(2);
        let mut slots = vec![0; size].into_boxed_slice();
        let mut members = 0;
        for hash in hashes {
            let hash = (*hash).max(1);
            let at = place(&slots, hash);
            if let Some(slot) = slots.get_mut(at)
                && *slot != hash
            {
                *slot = hash;
                members += 1;
            }
        }
        Roster { slots, members }
    }

    /// Whether `hash` is in it.
    pub fn has(&self, hash: u64) -> bool {
        let hash = hash.max(1);
        self.slots.get(place(&self.slots, hash)) == Some(&hash)
    }

    /// How many are in it.
    pub fn members(&self) -> usize {
        self.members
    }
}

/// Where `hash` is, or would be. There is always a free slot.
fn place(slots: &[u64], hash: u64) -> usize {
    let mask = slots.len() - 1;
    let mut at = hash as usize & mask;
    while slots.get(at).is_some_and(|slot| *slot != 0 && *slot != hash) {
        at = (at + 1) & mask;
    }
    at
}

/// The part of a user's key that is kept.
pub fn of_user(user: &UserKey) -> u64 {
    upper(&user.0)
}

/// The part of an attempt that is kept.
pub fn of_attempt(attempt: &AttemptId) -> u64 {
    upper(&attempt.0)
}

fn upper(key: &[u8; 16]) -> u64 {
    (u128::from_be_bytes(*key) >> 64) as u64
}

impl Rosters {
    /// Whether the ledger may have a record of this user, made by any node; `false` says only that none
    /// was there when the list was read.
    pub fn may_have_won(&self, user: &UserKey) -> bool {
        self.is_winner(of_user(user))
    }

    /// Whether it may have one of this attempt.
    pub fn may_have_won_by(&self, attempt: &AttemptId) -> bool {
        self.is_winner(of_attempt(attempt))
    }

    fn is_winner(&self, hash: u64) -> bool {
        self.has_winners.load(Ordering::Acquire)
            && self.winners.load().as_ref().is_some_and(|winners| winners.has(hash))
    }

    /// The winners were read anew.
    pub fn set_winners(&self, winners: Roster) {
        let has_any = winners.members() > 0;
        self.winners.store(Some(Arc::new(winners)));
        self.has_winners.store(has_any, Ordering::Release);
    }

    /// The shop's sets, where the sale has any.
    pub fn sets(&self) -> Guard<Option<Arc<UserSets>>> {
        self.sets.load()
    }

    /// The sets were read anew; or the sale is known to have some, and none was read yet.
    pub fn put_sets(&self, sets: UserSets) {
        self.sets.store(Some(Arc::new(sets)));
        self.has_sets.store(true, Ordering::Release);
    }

    /// The sale has no sets any more.
    pub fn drop_sets(&self) {
        self.has_sets.store(false, Ordering::Release);
        self.sets.store(None);
    }

    /// Whether a set says that this user has bought in the sale; as it was read last, however long ago.
    pub fn has_bought(&self, user: &UserKey) -> bool {
        if !self.has_sets.load(Ordering::Acquire) {
            return false;
        }
        let sets = self.sets.load();
        let Some(sets) = &*sets else { return false };
        let of_sale = sets.sets.iter().filter(|set| set.pool.is_none());
        let mut bought = of_sale.filter(|set| set.kind == SetKind::Already);
        bought.any(|set| set.has(user))
    }

    /// What the sets say of a user who wants something of `pool`; `None`: they may buy.
    pub fn listed(&self, user: &UserKey, pool: Option<&Name>, now: MonoMs) -> Option<Listed> {
        if !self.has_sets.load(Ordering::Acquire) {
            return None;
        }
        let sets = self.sets.load();
        let sets = sets.as_ref()?;
        if now >= sets.until {
            return Some(Listed::Unknown);
        }
        sets.sets.iter().filter(|set| set.pool.is_none() || set.pool.as_ref() == pool).find_map(
            |set| match (set.kind, set.has(user)) {
                (SetKind::Already, true) => Some(Listed::Already),
                (SetKind::Deny, true) | (SetKind::Only, false) => Some(Listed::NotEligible),
                _ => None,
            },
        )
    }
}

impl UserSet {
    fn has(&self, user: &UserKey) -> bool {
        self.members.as_ref().is_some_and(|members| members.has(of_user(user)))
    }
}

impl SetKind {
    /// The word in the settings.
    pub fn label(self) -> &'static str {
        match self {
            SetKind::Already => "already",
            SetKind::Deny => "deny",
            SetKind::Only => "only",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(n: u64) -> UserKey {
        let mut key = [0; 16];
        key.copy_from_slice(&blake3::hash(&n.to_le_bytes()).as_bytes()[..16]);
        UserKey(key)
    }

    fn roster(users: std::ops::Range<u64>) -> Roster {
        Roster::of(&users.map(|n| of_user(&user(n))).collect::<Vec<_>>())
    }

    #[test]
    fn a_roster_has_its_members_and_nobody_else() {
        let some = roster(0..1_000);
        assert_eq!(some.members(), 1_000);
        assert!((0..1_000).all(|n| some.has(of_user(&user(n)))));
        assert!(!(1_000..9_000).any(|n| some.has(of_user(&user(n)))));
        let none = Roster::of(&[]);
        assert!(!none.has(0) && !none.has(1) && none.members() == 0);
        let same = Roster::of(&[0, 0, 1, 7, 7, 7 + 8]);
        assert!(same.has(7) && same.has(15) && same.has(0) && !same.has(23));
        assert_eq!(same.members(), 3);
    }

    fn set(kind: SetKind, pool: Option<&str>, users: std::ops::Range<u64>) -> UserSet {
        let pool = pool.map(|pool| Name::new(pool).expect("a name"));
        UserSet { kind, pool, members: Some(Arc::new(roster(users))), read_at: MonoMs(0) }
    }

    #[test]
    fn sets_say_who_may_buy_what_and_nothing_when_they_are_old() {
        let rosters = Rosters::default();
        let pool = Name::new("a").expect("a name");
        let listed = |n, now| rosters.listed(&user(n), Some(&pool), MonoMs(now));
        assert_eq!(listed(1, 0), None, "no sets");
        rosters.put_sets(UserSets::default());
        assert_eq!(listed(1, 0), Some(Listed::Unknown), "none was read yet");
        let sets = vec![
            set(SetKind::Already, None, 0..1),
            set(SetKind::Deny, None, 1..2),
            set(SetKind::Already, Some("a"), 2..3),
            set(SetKind::Already, Some("b"), 3..4),
            set(SetKind::Only, None, 0..5),
        ];
        rosters.put_sets(UserSets { sets, until: MonoMs(10) });
        let said: Vec<_> = (0..6).map(|n| listed(n, 9)).collect();
        use Listed::{Already, NotEligible};
        assert_eq!(
            said,
            [Some(Already), Some(NotEligible), Some(Already), None, None, Some(NotEligible)]
        );
        assert_eq!(listed(4, 10), Some(Listed::Unknown));
        assert!(rosters.has_bought(&user(0)) && !rosters.has_bought(&user(2)));
        assert!(rosters.listed(&user(2), None, MonoMs(9)).is_none());
    }
}
