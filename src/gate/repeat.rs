//! Those who ask again on this node: the answer of an attempt in flight, and of one that is done.
//!
//! A hint and a courtesy, never a right: the ledger decides who may buy.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use http::{HeaderMap, StatusCode};
use quick_cache::sync::Cache;
use tokio::sync::watch;

use super::say::Said;
use crate::bloom::Bloom;
use crate::ident::{AttemptId, UserKey};

/// Hash of what an attempt asks for: the same key with another order is a mistake of the client's.
pub type Fingerprint = [u8; 16];

/// An answer of the shop, whole.
#[derive(Clone, Debug)]
pub struct Relayed {
    /// The status.
    pub status: StatusCode,
    /// The fields, without hop-by-hop and ours.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

/// What a purchase was told.
#[derive(Clone, Debug)]
pub enum Told {
    /// The shop's own answer.
    Shop(Relayed),
    /// A decision of ours.
    Own(Said),
}

impl Told {
    /// Body bytes of the shop's answer, if it is one.
    pub fn shop_bytes(&self) -> u64 {
        match self {
            Told::Shop(relayed) => u64::try_from(relayed.body.len()).unwrap_or(u64::MAX),
            Told::Own(_) => 0,
        }
    }
}

/// What an attempt in flight will be told; `None` until it is.
pub type Waiting = watch::Receiver<Option<Arc<Told>>>;

/// What asking again comes to.
#[derive(Debug)]
pub enum Again {
    /// Nothing is known of this attempt.
    New,
    /// It is in flight: wait for its answer.
    Join(Waiting),
    /// It is done: the first answer again.
    Replay(Arc<Told>),
    /// It is known, with another order.
    Reused,
}

/// Attempts of one user.
#[derive(Clone, Debug)]
struct Flight {
    attempt: AttemptId,
    fingerprint: Fingerprint,
    waiting: Waiting,
}

#[derive(Clone, Debug)]
struct Kept {
    attempt: AttemptId,
    fingerprint: Fingerprint,
    told: Arc<Told>,
}

/// What this node knows of attempts, by user.
#[derive(Debug)]
pub struct Repeats {
    /// Bounded by the purchases on their way and in the queues of their upstreams.
    flights: DashMap<UserKey, Vec<Flight>>,
    kept: Cache<UserKey, Arc<Vec<Kept>>>,
    /// One writer at a time: adding to a user's answers reads them first.
    keeping: Mutex<()>,
    /// Of whom something may be known here.
    heard_of: Bloom,
    bytes_max: usize,
}

impl Repeats {
    /// Room for the answers of `entries_max` users, each at most `bytes_max` long.
    pub fn new(entries_max: usize, bytes_max: usize) -> Repeats {
        Repeats {
            flights: DashMap::new(),
            kept: Cache::new(entries_max),
            keeping: Mutex::new(()),
            heard_of: Bloom::new(entries_max as u64),
            bytes_max,
        }
    }

    /// Whether this node knows anything of `user`'s attempts.
    pub fn knows(&self, user: &UserKey) -> bool {
        self.heard_of.may_know(user)
            && (self.flights.contains_key(user) || self.kept.contains_key(user))
    }

    /// What this node knows of an attempt.
    pub fn ask(&self, user: &UserKey, attempt: &AttemptId, fingerprint: &Fingerprint) -> Again {
        if let Some(flights) = self.flights.get(user)
            && let Some(again) = in_flight(&flights, attempt, fingerprint)
        {
            return again;
        }
        let kept = self.kept.get(user);
        match kept.iter().flat_map(|kept| kept.iter()).find(|kept| kept.attempt == *attempt) {
            None => Again::New,
            Some(kept) if kept.fingerprint != *fingerprint => Again::Reused,
            Some(kept) => Again::Replay(kept.told.clone()),
        }
    }

    /// Begins an attempt, unless it is in flight already. `None` in place of a lead: this user has
    /// too many attempts in flight.
    pub fn begin(
        self: &Arc<Self>,
        user: UserKey,
        attempt: AttemptId,
        fingerprint: Fingerprint,
    ) -> Result<Option<Lead>, Again> {
        let (told, waiting) = watch::channel(None);
        let flight = Flight { attempt, fingerprint, waiting };
        self.heard_of.add(&user);
        match self.flights.entry(user) {
            Entry::Vacant(vacant) => drop(vacant.insert(vec![flight])),
            Entry::Occupied(mut occupied) => {
                if let Some(again) = in_flight(occupied.get(), &attempt, &fingerprint) {
                    return Err(again);
                }
                if occupied.get().len() >= FLIGHTS_PER_USER_MAX {
                    return Ok(None);
                }
                occupied.get_mut().push(flight);
            }
        }
        Ok(Some(Lead { repeats: self.clone(), user, attempt, fingerprint, told }))
    }

    /// Keeps a whole answer for those who repeat the attempt.
    fn keep(&self, user: UserKey, kept: Kept) {
        let Told::Shop(relayed) = &*kept.told else { return };
        if relayed.bytes() > self.bytes_max {
            return;
        }
        let _one = self.keeping.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = self.kept.get(&user).map(|kept| Vec::clone(&kept)).unwrap_or_default();
        all.retain(|old| old.attempt != kept.attempt);
        if all.len() >= KEPT_PER_USER_MAX {
            all.remove(0);
        }
        all.push(kept);
        self.heard_of.add(&user);
        self.kept.insert(user, Arc::new(all));
    }
}

impl Relayed {
    fn bytes(&self) -> usize {
        let fields = self.headers.iter().map(|(name, value)| name.as_str().len() + value.len());
        fields.sum::<usize>() + self.body.len()
    }
}

/// The one who began an attempt. Dropped without an answer, those who wait are told so.
#[derive(Debug)]
pub struct Lead {
    repeats: Arc<Repeats>,
    user: UserKey,
    attempt: AttemptId,
    fingerprint: Fingerprint,
    told: watch::Sender<Option<Arc<Told>>>,
}

impl Lead {
    /// What this attempt will be told.
    pub fn waiting(&self) -> Waiting {
        self.told.subscribe()
    }

    /// Tells everybody who waits, and keeps the answer for later if `keep`.
    pub fn land(self, told: Told, keep: bool) {
        let told = Arc::new(told);
        if keep {
            let (attempt, fingerprint) = (self.attempt, self.fingerprint);
            self.repeats.keep(self.user, Kept { attempt, fingerprint, told: told.clone() });
        }
        self.told.send_replace(Some(told));
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        if let Entry::Occupied(mut occupied) = self.repeats.flights.entry(self.user) {
            occupied.get_mut().retain(|flight| flight.attempt != self.attempt);
            if occupied.get().is_empty() {
                occupied.remove();
            }
        }
    }
}

fn in_flight(flights: &[Flight], attempt: &AttemptId, fingerprint: &Fingerprint) -> Option<Again> {
    let flight = flights.iter().find(|flight| flight.attempt == *attempt)?;
    Some(if flight.fingerprint == *fingerprint {
        Again::Join(flight.waiting.clone())
    } else {
        Again::Reused
    })
}

/// Attempts of one user at once; the ledger admits one of them at most.
const FLIGHTS_PER_USER_MAX: usize = 8;
/// Answers that are kept for one user: as many as one may have orders in a sale.
const KEPT_PER_USER_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    const USER: UserKey = UserKey([1; 16]);
    const ONE: AttemptId = AttemptId([1; 16]);
    const TWO: AttemptId = AttemptId([2; 16]);

    fn repeats() -> Arc<Repeats> {
        Arc::new(Repeats::new(16, 100))
    }

    fn shop(body: &str) -> Told {
        Told::Shop(Relayed {
            status: StatusCode::CREATED,
            headers: HeaderMap::new(),
            body: Bytes::from(body.to_owned()),
        })
    }

    fn lead(repeats: &Arc<Repeats>, attempt: AttemptId) -> Lead {
        repeats.begin(USER, attempt, [0; 16]).expect("new").expect("a place")
    }

    #[tokio::test]
    async fn a_second_request_hears_what_the_first_is_told() {
        let repeats = repeats();
        let first = lead(&repeats, ONE);
        let Again::Join(mut waiting) = repeats.ask(&USER, &ONE, &[0; 16]) else {
            panic!("in flight")
        };
        assert!(matches!(repeats.ask(&USER, &ONE, &[9; 16]), Again::Reused));
        assert!(matches!(repeats.ask(&USER, &TWO, &[0; 16]), Again::New));
        assert!(matches!(repeats.begin(USER, ONE, [0; 16]), Err(Again::Join(_))));
        first.land(shop("order"), true);
        let told = waiting.wait_for(Option::is_some).await.expect("told").clone();
        assert!(matches!(told.as_deref(), Some(Told::Shop(r)) if r.body == "order"));
        assert!(matches!(repeats.ask(&USER, &ONE, &[0; 16]), Again::Replay(_)));
        assert!(matches!(repeats.ask(&USER, &ONE, &[9; 16]), Again::Reused));
        assert!(repeats.flights.is_empty());
    }

    #[tokio::test]
    async fn a_lead_that_is_lost_leaves_nobody_waiting() {
        let repeats = repeats();
        let first = lead(&repeats, ONE);
        let mut waiting = first.waiting();
        drop(first);
        assert!(waiting.wait_for(Option::is_some).await.is_err());
        assert!(!repeats.knows(&USER));
    }

    #[test]
    fn only_what_fits_is_kept() {
        let repeats = repeats();
        lead(&repeats, ONE).land(shop(&"x".repeat(101)), true);
        assert!(!repeats.knows(&USER));
        lead(&repeats, ONE).land(shop("order"), false);
        assert!(!repeats.knows(&USER));
        for i in 0..20 {
            lead(&repeats, AttemptId([i; 16])).land(shop("order"), true);
        }
        assert_eq!(repeats.kept.get(&USER).map(|kept| kept.len()), Some(KEPT_PER_USER_MAX));
    }

    #[test]
    fn one_user_has_few_attempts_in_flight() {
        let repeats = repeats();
        let leads: Vec<_> = (0..8).map(|i| lead(&repeats, AttemptId([i; 16]))).collect();
        let more = repeats.begin(USER, AttemptId([9; 16]), [0; 16]);
        assert!(matches!(more, Ok(None)));
        drop(leads);
        assert!(repeats.flights.is_empty());
    }
}
