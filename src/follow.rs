//! The shop's own stock numbers, where they lead: read again and again, and told to the ledger.
//!
//! ```text
//! ledger ─ read ─→ confirmed_before ─→ the shop's number ─→ Observe ─→ ledger, book
//! ```
//!
//! Each node looks at the ledger every `shop.poll`. Where no other node has told it a number since the
//! last look, this one reads the shop's and tells it: the shop is read about once in that time however
//! many nodes there are, and one node that lives is enough. A node that cannot reach the shop says
//! nothing; one that finds no number says that it is unknown. `lists` reads the shop's sets of users,
//! and who has won.

mod http;
pub mod lists;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::claims::Claims;
use crate::clock::{Clock, UnixMs};
use crate::config::schema;
use crate::config::stock::Source;
use crate::ident::{Name, SaleId};
use crate::ledger::{Observe, Op, Reading};
use crate::metrics::{Counter, Sink};
use crate::sale::{Follow, SaleBook, SaleState};
use crate::store::redis::reader::{Number, Reader};

/// What reading the shop's numbers needs.
#[derive(Debug)]
pub struct Follower {
    /// The way to the ledger.
    claims: Claims,
    /// The sales.
    book: Arc<SaleBook>,
    /// The clocks.
    clock: Clock,
    /// Counters.
    sink: Sink,
    /// The shop's Redis; `None`: there is none.
    redis: Arc<Option<Reader>>,
    poll: Duration,
    timeout: Duration,
    /// Why a number is not known, as far as this node has seen.
    troubles: Mutex<Troubles>,
}

/// By sale and pool.
type Troubles = BTreeMap<(SaleId, Name), String>;

/// One pool whose number is wanted.
struct Wanted {
    pool: Name,
    confirmed_before: u64,
    place: Source,
}

impl Follower {
    /// What the settings say of the shop.
    pub fn new(
        settings: &schema::Shop,
        redis: Arc<Option<Reader>>,
        claims: Claims,
        book: Arc<SaleBook>,
        clock: Clock,
        sink: Sink,
    ) -> Follower {
        let (poll, timeout) = (settings.poll.duration(), settings.timeout.duration());
        let troubles = Mutex::default();
        Follower { claims, book, clock, sink, redis, poll, timeout, troubles }
    }

    /// Follows for as long as it is polled.
    pub async fn run(self: Arc<Follower>) {
        let mut distant = Instant::now();
        loop {
            // Not in step with other nodes, so that one reads for all.
            tokio::time::sleep(self.poll.mul_f64(rand::random_range(0.8..=1.2))).await;
            let is_distant = Instant::now() >= distant;
            if is_distant {
                distant = Instant::now() + DISTANT_EVERY;
            }
            let now = self.clock.now().ledger;
            let mut reads = JoinSet::new();
            self.troubles().retain(|(sale, _), _| self.book.sale(sale).is_some());
            for sale in self.book.all() {
                if is_followed(&sale.state, now, is_distant) {
                    let (follower, sale) = (self.clone(), sale.state.id.clone());
                    reads.spawn(async move { follower.read(&sale).await });
                }
            }
            while reads.join_next().await.is_some() {}
        }
    }

    /// Reads one sale's numbers, where nobody else has just done it.
    async fn read(&self, sale: &SaleId) {
        // A store that is down is not asked four times a second: the breaker's probes find it again.
        if !self.claims.is_open(sale) {
            return;
        }
        let Ok(reply) = self.claims.call(sale, Op::Read).await else { return };
        let Some(state) = reply.state else { return };
        let fresh = u64::try_from(self.poll.as_millis()).unwrap_or(u64::MAX) / 4 * 3;
        let is_read =
            |follow: &Follow| follow.read_at != UnixMs(0) && reply.now < follow.read_at.plus(fresh);
        let wanted: Vec<Wanted> = wanted(&state, is_read);
        if wanted.is_empty() {
            return;
        }
        let numbers = self.numbers(&wanted).await;
        let mut readings = Vec::new();
        for (one, number) in wanted.into_iter().zip(numbers) {
            self.sink.inc(Counter::ShopReads);
            let left = self.judge(sale, &one, number);
            readings.extend(left.map(|left| Reading {
                pool: one.pool,
                left,
                confirmed_before: one.confirmed_before,
            }));
        }
        if !readings.is_empty() {
            let seen = Observe { mark: state.mark(), read_at: reply.now, readings };
            // What does not reach the ledger grows old, and nobody is admitted on it.
            drop(self.claims.call(sale, Op::Observe(seen)).await);
        }
    }

    async fn numbers(&self, wanted: &[Wanted]) -> Vec<Number> {
        let end = Instant::now() + self.timeout;
        let cells: Vec<_> = wanted
            .iter()
            .filter_map(|one| Some((one.place.redis.as_deref()?, one.place.field.as_deref())))
            .collect();
        let mut cells = match &*self.redis {
            _ if cells.is_empty() => Vec::new(),
            Some(redis) => redis.numbers(&cells, end).await,
            None => vec![Number::Away(NO_REDIS.to_owned()); cells.len()],
        }
        .into_iter();
        let mut web = JoinSet::new();
        for (at, one) in wanted.iter().enumerate() {
            if let (Some(url), Some(pointer)) = (one.place.http.clone(), one.place.at.clone()) {
                web.spawn(async move { (at, http::number(&url, &pointer, end).await) });
            }
        }
        let mut numbers: Vec<Number> = wanted
            .iter()
            .map(|one| match one.place.redis {
                Some(_) => cells.next().unwrap_or_else(unheard),
                None => unheard(),
            })
            .collect();
        while let Some(Ok((at, number))) = web.join_next().await {
            if let Some(slot) = numbers.get_mut(at) {
                *slot = number;
            }
        }
        numbers
    }

    fn troubles(&self) -> MutexGuard<'_, Troubles> {
        self.troubles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is told to the ledger: a number, that it is unknown, or nothing. What is wrong is said once,
    /// and so is that it is well again.
    fn judge(&self, sale: &SaleId, one: &Wanted, number: Number) -> Option<Option<u64>> {
        let (told, trouble) = match number {
            Number::Left(left) => (Some(Some(left)), None),
            Number::Odd(why) => (Some(None), Some(why)),
            Number::Away(why) => (None, Some(why)),
        };
        if trouble.is_some() {
            self.sink.inc(Counter::ShopReadErrors);
        }
        let key = (sale.clone(), one.pool.clone());
        let mut troubles = self.troubles();
        let (pool, place) = (&one.pool, &one.place);
        match trouble {
            None => {
                if troubles.remove(&key).is_some() {
                    tracing::info!("sale {sale}, pool {pool}: {place} says a number again");
                }
            }
            Some(why) if troubles.get(&key) == Some(&why) => {}
            Some(why) => {
                tracing::error!(
                    "sale {sale}, pool {pool}: what the shop has left is not known, and nobody is \
                     admitted without it: {place}: {why}"
                );
                troubles.insert(key, why);
            }
        }
        told
    }
}

/// Whether a sale's numbers are wanted now. Long before it opens they are read once in a while, so that
/// a wrong place shows early.
fn is_followed(state: &SaleState, now: UnixMs, is_distant: bool) -> bool {
    let is_near = now.plus(NEAR_MS) >= state.opens_at;
    !state.is_ended_at(now)
        && (is_near || is_distant)
        && state.pools.iter().any(|pool| pool.follow.is_some())
}

fn wanted(state: &SaleState, is_read: impl Fn(&Follow) -> bool) -> Vec<Wanted> {
    let pools = state.pools.iter().filter_map(|pool| Some((pool, pool.follow.as_ref()?)));
    pools
        .filter(|(_, follow)| !is_read(follow))
        .map(|(pool, follow)| Wanted {
            pool: pool.name.clone(),
            confirmed_before: pool.confirmed,
            place: follow.source.of(state.activity.as_str(), pool.name.as_str()),
        })
        .collect()
}

fn unheard() -> Number {
    Number::Away("nobody answered".to_owned())
}

/// A sale that opens within this time is followed as if it were open, in milliseconds.
const NEAR_MS: u64 = 60_000;

/// How often others are.
const DISTANT_EVERY: Duration = Duration::from_secs(5);

const NO_REDIS: &str = "this node knows no Redis of the shop's: write shop.redis_url";
