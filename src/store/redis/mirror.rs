//! Keeps the book in step with Redis: reads every sale each `store.poll`, and one at once where the
//! bus says that it changed.
//!
//! A sale is heard when its read was sent, so that the age shown is never too small; while nothing is
//! heard the age grows by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, Value};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::bus::{self, Heard};
use super::decode::{self, Answer, Said};
use super::fault::Fault;
use super::keys::{self, Part, Word};
use super::scripts::{self, Family};
use super::shop::{Judged, Position, Wish};
use super::slot::Slot;
use super::{CHUNK, READ_TIMEOUT, Redis};
use crate::clock::Clock;
use crate::ident::SaleId;
use crate::sale::SaleBook;
use crate::sale::book::Update;
use crate::store::StoreError;

/// Runs for as long as it is polled.
pub(super) async fn run(redis: Arc<Redis>, book: Arc<SaleBook>, clock: Clock) {
    let (words, heard) = mpsc::channel(WORDS_MAX);
    let routes = redis.routes.clone();
    let mirror = Mirror {
        redis,
        book,
        clock,
        known: BTreeSet::new(),
        judged: BTreeMap::new(),
        is_told: true,
        deaf: None,
    };
    tokio::join!(bus::listen(&routes, &words), mirror.run(heard));
}

/// What one node knows of the sales in Redis.
pub(super) struct Mirror {
    pub(super) redis: Arc<Redis>,
    pub(super) book: Arc<SaleBook>,
    pub(super) clock: Clock,
    /// The sales of the last whole pass.
    known: BTreeSet<SaleId>,
    /// What became of each sale's declaration in `want`.
    pub(super) judged: BTreeMap<SaleId, Judged>,
    /// A node told something that was not read yet.
    is_told: bool,
    /// Why notices cannot be read.
    deaf: Option<String>,
}

impl Mirror {
    async fn run(mut self, mut heard: mpsc::Receiver<Heard>) {
        let mut next = Instant::now();
        loop {
            let mut sales = BTreeSet::new();
            let is_whole = tokio::select! {
                () = tokio::time::sleep_until(next) => true,
                () = self.redis.routes.connected() => true,
                one = heard.recv() => !self.is_narrow(one, &mut sales),
            };
            // Whatever else was said meanwhile is answered by the same read.
            let mut is_whole = is_whole;
            while let Ok(one) = heard.try_recv() {
                is_whole |= !self.is_narrow(Some(one), &mut sales);
            }
            if is_whole || self.is_told {
                self.hear().await;
            }
            let done = if is_whole {
                next = Instant::now() + jittered(self.redis.poll);
                self.pass().await
            } else {
                self.look(&sales.into_iter().collect::<Vec<_>>()).await.map(drop)
            };
            if let Err(error) = done {
                tracing::debug!(%error, "the sales could not be read");
            }
        }
    }

    /// What the nodes told each other. What cannot be read is read with the next pass.
    async fn hear(&mut self) {
        self.is_told = false;
        let deaf = match self.redis.hear_notices().await {
            // No rights to the key, or another type: nobody mends that but an operator.
            Err(StoreError::Refused(why)) => Some(why),
            Err(error) => {
                tracing::debug!(%error, "the notices could not be read");
                return;
            }
            Ok(()) => None,
        };
        if let Some(why) = deaf.as_ref().filter(|why| self.deaf.as_ref() != Some(why)) {
            tracing::error!("purges of other nodes are not heard: {}: {why}", keys::NOTICES);
        }
        self.deaf = deaf;
    }

    /// Whether reading the sale named is enough; adds it to `sales`.
    fn is_narrow(&mut self, heard: Option<Heard>, sales: &mut BTreeSet<SaleId>) -> bool {
        match heard {
            Some(Heard::Word(Word::Changed(sale))) if self.known.contains(&sale) => {
                sales.insert(sale)
            }
            // The shop may have declared a sale that nobody listed: looking at it lists it.
            Some(Heard::Word(Word::Wanted(sale))) => sales.insert(sale),
            Some(Heard::Word(Word::Notice)) => {
                self.is_told = true;
                true
            }
            _ => return false,
        };
        true
    }

    /// One whole pass.
    async fn pass(&mut self) -> Result<(), StoreError> {
        let sales = match self.redis.members(Instant::now() + READ_TIMEOUT).await {
            Ok(sales) => sales,
            Err(error) => {
                // The list may be with a master that is away, and the sales with others.
                let known: Vec<SaleId> = self.known.iter().cloned().collect();
                return self.look(&known).await.and(Err(error));
            }
        };
        let is_complete = self.look(&sales).await?;
        let mut now: BTreeSet<SaleId> = sales.into_iter().collect();
        let gone: Vec<SaleId> = self.known.difference(&now).cloned().collect();
        for sale in gone {
            if self.is_lost(&sale).await? {
                now.insert(sale);
                continue;
            }
            self.book.remove(&sale);
            self.judged.remove(&sale);
            self.redis.note_broken(&sale, None);
        }
        self.known = now;
        // A sale that cannot be read might be the one that is asked for: better no answer than 404.
        if is_complete {
            self.book.set_synced();
        }
        Ok(())
    }

    /// Whether a sale that nobody lists any more was lost with its ledger, and not taken off the list.
    async fn is_lost(&self, sale: &SaleId) -> Result<bool, StoreError> {
        let end = Instant::now() + READ_TIMEOUT;
        let read = self.redis.told(sale, Family::Read, &[], end).await?;
        Ok(read.state.is_none() && self.note_lost(sale))
    }

    /// Says that Redis forgot a sale which this node serves: clients are told what was known last, and
    /// nobody is admitted. Whether it was so; a sale that is over may be removed with its ledger.
    fn note_lost(&self, sale: &SaleId) -> bool {
        let is_lost = self
            .book
            .sale(sale)
            .is_some_and(|known| !known.state.is_ended_at(self.clock.now().ledger));
        if is_lost {
            self.redis.note_broken(sale, Some(LOST.to_owned()));
        }
        is_lost
    }

    /// Reads some sales, and does what the shop asks for in `want` and `in`. Returns whether each of
    /// them could be read.
    async fn look(&mut self, sales: &[SaleId]) -> Result<bool, StoreError> {
        let mut is_complete = true;
        for chunk in sales.chunks(CHUNK) {
            let heard = self.clock.mono();
            let mut all = Vec::new();
            for sale in chunk {
                all.extend(looks(sale).map(|look| (Slot::of_sale(sale), look)));
            }
            let end = Instant::now() + READ_TIMEOUT;
            let mut answers = self.redis.routes.send_each(all, end).await.into_iter();
            for sale in chunk {
                let four = [(); 4].map(|()| answers.next().unwrap_or(Err(Fault::Maybe)));
                is_complete &= self.take(sale, four, heard).await?;
            }
        }
        Ok(is_complete)
    }

    /// Takes what was read of one sale; whether it could be read. `Err`: Redis is not there.
    async fn take(
        &mut self,
        sale: &SaleId,
        [read, want, have, last]: [Result<Value, Fault>; 4],
        heard: crate::clock::MonoMs,
    ) -> Result<bool, StoreError> {
        if let Err(fault) = &read
            && fault.is_unheard()
        {
            tracing::debug!(%sale, ?fault, "the sale could not be read");
            return Ok(false);
        }
        let answer = match self.answer(sale, read).await {
            Ok(answer) => answer,
            Err(StoreError::Refused(why)) => {
                self.redis.note_broken(sale, Some(why));
                return Ok(false);
            }
            Err(error) => return Err(error),
        };
        match answer.state.clone() {
            Some(state) => drop(self.book.apply(Update { state, heard })),
            None if self.note_lost(sale) => return Ok(true),
            None => {}
        }
        let cursor = match &answer.result {
            Said::Word(cursor) => cursor.parse().unwrap_or_default(),
            Said::Words(_) => Position::default(),
        };
        if answer.state.is_some() {
            self.redis.note_cursor(sale, cursor);
        }
        let wish = Wish { want, have, last, cursor };
        match self.serve(sale, answer, wish).await {
            Ok(()) => self.redis.note_broken(sale, None),
            Err(StoreError::Refused(why)) => self.redis.note_broken(sale, Some(why)),
            Err(error) => return Err(error),
        }
        Ok(true)
    }

    async fn answer(
        &self,
        sale: &SaleId,
        read: Result<Value, Fault>,
    ) -> Result<Answer, StoreError> {
        let end = Instant::now() + READ_TIMEOUT;
        match read {
            Ok(value) => Ok(decode::answer(sale, value)?),
            Err(fault) if fault.is_no_script() => {
                self.redis.told(sale, Family::Read, &[], end).await
            }
            Err(fault) => Err(self.redis.blame(sale, fault, end).await),
        }
    }
}

/// What is read of a sale: its ledger, the shop's declaration, what became of it, the last command.
fn looks(sale: &SaleId) -> [Cmd; 4] {
    let key = |part| keys::of(sale, part);
    let (mut want, mut have) = (redis::cmd("GETRANGE"), redis::cmd("HMGET"));
    want.arg(key(Part::Want)).arg(0).arg(super::shop::WANT_BYTES_MAX);
    have.arg(key(Part::Have)).arg(super::shop::HAVE_FIELDS);
    let mut last = redis::cmd("XREVRANGE");
    last.arg(key(Part::In)).arg("+").arg("-").arg("COUNT").arg(1);
    [scripts::by_hash(Family::Read, sale, &[]), want, have, last]
}

/// 80 % to 120 %, so that a fleet does not read in step.
fn jittered(poll: Duration) -> Duration {
    poll.mul_f64(rand::random_range(0.8..=1.2))
}

const LOST: &str = "its ledger is gone from Redis: nobody is admitted until the nodes have made it again \
                    from what they know";

/// Messages of the bus that wait.
const WORDS_MAX: usize = 1_024;
