//! The fleet's store: the ledger in Redis, one script call for each operation.
//!
//! ```text
//! Redis ─ call ──→ encode → scripts → routes → link → decode ─→ Reply
//!       ─ mirror ─→ poll and bus ─→ SaleBook; want → declare → have; in → inbox → out
//! ```
//!
//! [`keys`] lists what is stored; the `.lua` files beside it say the rules of [`crate::ledger`] in
//! Redis's words. A server that is down, or comes late, never keeps a node from starting: calls are
//! refused as not sent, [`Store::health`] says why, and the link connects when it can. `routes` knows
//! one server, the master that `sentinel` names, or the masters of a `cluster`.

mod bus;
mod check;
mod cluster;
mod context;
mod decode;
mod dial;
mod durable;
mod encode;
mod fault;
pub mod keys;
mod link;
mod mirror;
mod notices;
mod pace;
mod pages;
pub mod reader;
mod roll;
mod routes;
mod scripts;
mod sentinel;
mod shop;
mod slot;
mod target;
mod tls;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redis::Value;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use self::decode::{Answer, Said};
use self::durable::Durable;
use self::encode::Context;
use self::fault::Fault;
use self::keys::Part;
use self::notices::Notices;
use self::pages::Pages;
use self::routes::Routes;
use self::scripts::Family;
use self::shop::Position;
use self::slot::Slot;
use self::target::Target;
use super::{BoxFuture, Ear, Store, StoreError};
use crate::clock::{Clock, UnixMs};
use crate::config::schema;
use crate::ident::{SaleId, UserKey};
use crate::ledger::{Declare, Declared, Op, OpResult, Record, Reply, declare};
use crate::metrics::{Counter, Sink};
use crate::sale::{SaleBook, SaleState};

pub use self::target::BadStore;

/// Whether a server's reply, in RESP, could be one of our scripts' to a reading of `sale`; and whether
/// `bytes` are a text of records. What stands under our keys is outside input like any other: for the
/// fuzz target, which looks for what it would break.
pub fn understands(sale: &SaleId, bytes: &[u8]) -> (bool, bool) {
    let reply = ::redis::parse_redis_value(bytes)
        .ok()
        .and_then(|value| decode::reply(sale, &Op::Read, decode::answer(sale, value).ok()?).ok());
    let records = std::str::from_utf8(bytes).map(|text| decode::records(UserKey::default(), text));
    (reply.is_some(), matches!(records, Ok(Ok(_))))
}

/// The ledger in Redis, for any number of nodes.
#[derive(Debug)]
pub struct Redis {
    routes: Arc<Routes>,
    poll: Duration,
    sink: Sink,
    /// Sales that changed, for the bus. Beyond its bound the poll tells.
    changed: mpsc::Sender<SaleId>,
    pages: Pages,
    clock: Clock,
    /// How many copies an admission needs.
    durable: Durable,
    /// Whether scripts ask which server they run in.
    asks_server: bool,
    /// How far the shop's commands of each sale were read, as far as this node knows.
    cursors: Mutex<BTreeMap<SaleId, Position>>,
    /// Sales whose keys make no sense, and why.
    broken: Mutex<BTreeMap<SaleId, String>>,
    /// What nodes tell each other.
    notices: Notices,
    /// The supervisor of the connections and the publisher; they end with the store.
    _tasks: [AbortOnDropHandle<()>; 2],
}

impl Redis {
    /// Reads the settings and begins to connect; fails only where the settings make no sense. Must be
    /// called inside a runtime: the connection lives on it, calls may come from any thread.
    pub fn open(
        settings: &schema::Store,
        clock: Clock,
        sink: Sink,
    ) -> Result<Arc<Redis>, BadStore> {
        let target = Target::of(settings)?;
        let routes = Arc::new(Routes::new(target, clock.clone(), sink.clone()));
        let (changed, told) = mpsc::channel(CHANGED_MAX);
        let supervised = routes.clone();
        let supervisor = tokio::spawn(async move { supervised.supervise().await });
        let publisher = tokio::spawn(bus::publish(routes.clone(), told));
        Ok(Arc::new(Redis {
            routes,
            poll: settings.poll.duration(),
            sink,
            changed,
            pages: Pages::default(),
            clock,
            durable: Durable::of(settings),
            asks_server: settings.fence == schema::StoreFence::Server,
            cursors: Mutex::default(),
            broken: Mutex::default(),
            notices: Notices::default(),
            _tasks: [supervisor, publisher].map(AbortOnDropHandle::new),
        }))
    }

    /// Resolves when the first attempt to connect has ended, well or not: before that, "not connected"
    /// is no news.
    pub async fn tried(&self) {
        self.routes.tried().await;
    }

    async fn apply(&self, sale: &SaleId, op: Op, end: Instant) -> Result<Reply, StoreError> {
        // Outcomes and reads pass: they admit nobody.
        let is_closed = matches!(op, Op::Claim(_) | Op::Declare(_) | Op::Control(_));
        if is_closed && let Some(why) = self.routes.refusal(Slot::of_sale(sale)) {
            return Err(StoreError::Refused(why.to_string()));
        }
        // Until the mirror has read the sale again, nobody is admitted that might not be told so.
        if matches!(op, Op::Claim(_))
            && let Some(why) = self.broken(sale)
        {
            return Err(StoreError::Refused(why));
        }
        if let Op::Declare(declare) = &op
            && let Some(reply) = self.before_declaring(sale, declare, end).await?
        {
            return Ok(reply);
        }
        if let Op::Reassert(said) = &op
            && said.known.is_some()
        {
            self.list(sale, end).await?;
        }
        let context = self.context(sale);
        let (family, args) = encode::encode(&op, &context);
        let wait = match family {
            Family::Claim => self.durable.wait(self.clock.mono()),
            _ => None,
        };
        let answer = match wait {
            Some(wait) => self.told_durably(sale, &args, &wait, end).await?,
            None => self.told(sale, family, &args, end).await?,
        };
        decode::reply(sale, &op, answer).map_err(|fault| self.unread(sale, family, fault))
    }

    /// What no script can see: whether the declaration makes sense by itself, and whether another
    /// sale has the activity. The second look and the declaration are two steps; of two sales that
    /// slip through at once, the book shows the newest.
    async fn before_declaring(
        &self,
        sale: &SaleId,
        declare: &Declare,
        end: Instant,
    ) -> Result<Option<Reply>, StoreError> {
        let said = &declare.declaration;
        let own = self.told(sale, Family::Read, &[], end).await?;
        let refused = |why: String| {
            let result = OpResult::Declared(Declared::Refused(why));
            Ok(Some(Reply { state: own.state.clone(), now: own.now, result }))
        };
        if let Err(bad) = said.check() {
            return refused(bad.to_string());
        }
        let others = self.others(sale, end).await?;
        let all = own.state.iter().chain(&others);
        if let Some(why) = declare::rival(sale, said, all, own.now) {
            return refused(why);
        }
        self.list(sale, end).await?;
        Ok(None)
    }

    /// Puts a sale on the list of sales.
    async fn list(&self, sale: &SaleId, end: Instant) -> Result<(), StoreError> {
        let mut add = redis::cmd("SADD");
        add.arg(keys::SALES).arg(sale.to_string());
        let slot = Slot::of_key(keys::SALES);
        self.routes.send(slot, &add, end).await.map_err(|fault| self.blame_sales(fault))?;
        Ok(())
    }

    fn context(&self, sale: &SaleId) -> Context {
        let cursors = self.cursors.lock().unwrap_or_else(PoisonError::into_inner);
        let cursor = cursors.get(sale).map(Position::to_string).unwrap_or_default();
        Context { asks_server: self.asks_server, cursor }
    }

    /// How far the shop's commands were read, so that a ledger that forgets it takes none twice.
    fn note_cursor(&self, sale: &SaleId, cursor: Position) {
        let mut cursors = self.cursors.lock().unwrap_or_else(PoisonError::into_inner);
        let known = cursors.entry(sale.clone()).or_default();
        *known = cursor.max(*known);
    }

    /// Every sale but `sale`. One whose keys make no sense has no activity that we know of.
    async fn others(&self, sale: &SaleId, end: Instant) -> Result<Vec<SaleState>, StoreError> {
        let ids = self.members(end).await?;
        let ids: Vec<SaleId> = ids.into_iter().filter(|id| id != sale).collect();
        let mut others = Vec::new();
        for chunk in ids.chunks(CHUNK) {
            let read = |id| (Slot::of_sale(id), scripts::by_hash(Family::Read, id, &[]));
            let answers = self.routes.send_each(chunk.iter().map(read).collect(), end).await;
            for (id, answer) in chunk.iter().zip(answers) {
                match answer {
                    Ok(value) => {
                        others.extend(decode::answer(id, value).ok().and_then(|a| a.state))
                    }
                    Err(fault) if fault.is_no_script() => {
                        others.extend(self.told(id, Family::Read, &[], end).await?.state);
                    }
                    // One that is broken has no activity; one that is not heard may have it.
                    Err(fault) if fault.is_unheard() => return Err(fault.into()),
                    Err(_) => {}
                }
            }
        }
        Ok(others)
    }

    /// Calls a script, tells the others where the sale changed, and names the key where one holds
    /// something of another type.
    async fn told(
        &self,
        sale: &SaleId,
        family: Family,
        args: &[String],
        end: Instant,
    ) -> Result<Answer, StoreError> {
        let answer = match self.run(sale, family, args, end).await {
            Ok(value) => {
                decode::answer(sale, value).map_err(|fault| self.unread(sale, family, fault))?
            }
            Err(fault) => return Err(self.blame(sale, fault, end).await),
        };
        if answer.is_changed {
            let _ = self.changed.try_send(sale.clone());
        }
        Ok(answer)
    }

    /// Claims, and waits for the replicas on the same connection: another one knows of no writes, and
    /// would say at once that all is well.
    async fn told_durably(
        &self,
        sale: &SaleId,
        args: &[String],
        wait: &redis::Cmd,
        end: Instant,
    ) -> Result<Answer, StoreError> {
        let slot = Slot::of_sale(sale);
        let by_hash = scripts::by_hash(Family::Claim, sale, args);
        let said = match self.routes.send_then(slot, &by_hash, wait, end).await {
            Err(fault) if fault.is_no_script() => {
                let by_text = scripts::by_text(Family::Claim, sale, args);
                self.routes.send_then(slot, &by_text, wait, end).await
            }
            done => done,
        };
        let (value, acknowledged) = match said {
            Ok(values) => values,
            Err(fault) => return Err(self.blame(sale, fault, end).await),
        };
        let answer =
            decode::answer(sale, value).map_err(|fault| self.unread(sale, Family::Claim, fault))?;
        if answer.is_changed {
            let _ = self.changed.try_send(sale.clone());
        }
        let acknowledged = match acknowledged {
            Some(Value::Int(n)) => u64::try_from(n).unwrap_or(0),
            _ => 0,
        };
        let is_admitted = |words: &String| words.starts_with("admitted");
        let has_admitted =
            matches!(&answer.result, Said::Words(all) if all.iter().any(is_admitted));
        if has_admitted && !self.durable.judge(acknowledged, self.clock.mono(), &self.sink) {
            return Err(StoreError::NotDurable);
        }
        Ok(answer)
    }

    async fn run(
        &self,
        sale: &SaleId,
        family: Family,
        args: &[String],
        end: Instant,
    ) -> Result<Value, Fault> {
        let slot = Slot::of_sale(sale);
        match self.routes.send(slot, &scripts::by_hash(family, sale, args), end).await {
            Err(fault) if fault.is_no_script() => {
                self.routes.send(slot, &scripts::by_text(family, sale, args), end).await
            }
            done => done,
        }
    }

    /// The members of the set of sales. What is not a sale's name was written by somebody else and is
    /// passed over.
    async fn members(&self, end: Instant) -> Result<Vec<SaleId>, StoreError> {
        let mut all = redis::cmd("SMEMBERS");
        all.arg(keys::SALES);
        let answer = self.routes.send(Slot::of_key(keys::SALES), &all, end).await;
        let value = answer.map_err(|fault| self.blame_sales(fault))?;
        let (Value::Array(members) | Value::Set(members)) = value else {
            return Err(fault::odd(keys::SALES).into());
        };
        let names = members.into_iter().filter_map(|m| decode::text(m).ok());
        let mut sales: Vec<SaleId> = names.filter_map(|n| n.parse().ok()).collect();
        sales.sort();
        if sales.len() > SALES_MAX {
            return Err(StoreError::Refused(format!(
                "{} has {} sales, at most {SALES_MAX} are served: remove old ones with SREM",
                keys::SALES,
                sales.len()
            )));
        }
        Ok(sales)
    }

    /// An error with the name of the key that is to blame, where one is.
    async fn blame(&self, sale: &SaleId, fault: Fault, end: Instant) -> StoreError {
        if !fault.is_wrong_type() {
            return fault.into();
        }
        let type_of = |part: &Part| {
            let mut cmd = redis::cmd("TYPE");
            cmd.arg(keys::of(sale, *part));
            (Slot::of_sale(sale), cmd)
        };
        let answers = self.routes.send_each(Part::ALL.iter().map(type_of).collect(), end).await;
        for (part, answer) in Part::ALL.iter().zip(answers) {
            let Ok(is) = answer.and_then(decode::text) else { return fault.into() };
            if is != "none" && is != part.type_name() {
                return wrong_type(&keys::of(sale, *part), &is, part.type_name());
            }
        }
        fault.into()
    }

    fn blame_sales(&self, fault: Fault) -> StoreError {
        match fault.is_wrong_type() {
            true => wrong_type(keys::SALES, "something else", "set"),
            false => fault.into(),
        }
    }

    /// An answer that makes no sense: what the script did is done.
    fn unread(&self, sale: &SaleId, family: Family, fault: Fault) -> StoreError {
        let error = StoreError::from(fault);
        self.note_broken(sale, Some(error.to_string()));
        if family == Family::Read { error } else { StoreError::MaybeApplied }
    }

    fn broken(&self, sale: &SaleId) -> Option<String> {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner).get(sale).cloned()
    }

    fn note_broken(&self, sale: &SaleId, why: Option<String>) {
        let mut broken = self.broken.lock().unwrap_or_else(PoisonError::into_inner);
        match why {
            None => {
                broken.remove(sale);
            }
            Some(why) if broken.get(sale) == Some(&why) => {}
            Some(why) => {
                self.sink.inc(Counter::StoreErrors);
                tracing::error!(%sale, "{why}");
                broken.insert(sale.clone(), why);
            }
        }
    }
}

impl Store for Redis {
    fn call<'a>(
        &'a self,
        sale: &'a SaleId,
        op: Op,
        deadline: Duration,
    ) -> BoxFuture<'a, Result<Reply, StoreError>> {
        Box::pin(async move { self.apply(sale, op, Instant::now() + deadline).await })
    }

    fn sales(&self) -> BoxFuture<'_, Result<Vec<SaleId>, StoreError>> {
        Box::pin(async move { self.members(Instant::now() + READ_TIMEOUT).await })
    }

    /// Pages follow the order of the users' keys. Users who come after the first page was read may be
    /// missing: list again for them.
    fn records<'a>(
        &'a self,
        sale: &'a SaleId,
        user: Option<UserKey>,
        after: Option<UserKey>,
        max: usize,
    ) -> BoxFuture<'a, Result<Vec<Record>, StoreError>> {
        Box::pin(async move {
            let records = match user {
                Some(user) => pages::of_user(&self.routes, sale, user).await,
                None => self.pages.page(&self.routes, sale, after, max).await,
            };
            match records {
                Ok(records) => Ok(records),
                Err(fault) => Err(self.blame(sale, fault, Instant::now() + READ_TIMEOUT).await),
            }
        })
    }

    fn mirror(self: Arc<Self>, book: Arc<SaleBook>, clock: Clock) -> BoxFuture<'static, ()> {
        Box::pin(mirror::run(self, book, clock))
    }

    fn tell<'a>(
        &'a self,
        words: &'a str,
        deadline: Duration,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move { self.tell_all(words, Instant::now() + deadline).await })
    }

    fn meet<'a>(
        &'a self,
        me: u64,
        said: &'a str,
        now: UnixMs,
    ) -> BoxFuture<'a, Result<Vec<String>, StoreError>> {
        Box::pin(self.sign(me, said, now))
    }

    fn listen(&self, ear: Ear) {
        self.notices.listen(ear);
    }

    fn carries_notices(&self) -> bool {
        true
    }

    fn notices_place(&self) -> Option<String> {
        self.notices.place()
    }

    fn resume_notices(&self, place: &str) {
        self.notices.resume(place);
    }

    fn health(&self) -> Result<(), String> {
        if let Some(why) = self.routes.trouble() {
            return Err(why);
        }
        let broken = self.broken.lock().unwrap_or_else(PoisonError::into_inner);
        match broken.iter().next() {
            Some((sale, why)) => Err(format!("sale {sale}: {why}")),
            None => Ok(()),
        }
    }
}

fn wrong_type(key: &str, is: &str, should: &str) -> StoreError {
    StoreError::Refused(format!(
        "the key {key} holds {is} and must hold a {should}: another program wrote it; \
         RENAME it away"
    ))
}

/// What the public state of `state` is called in `have`.
fn word_of(state: Option<&SaleState>, now: crate::clock::UnixMs) -> &'static str {
    match state {
        None => "none",
        Some(state) if state.is_ended_at(now) => "ended",
        Some(state) if state.sold_out => "sold_out",
        Some(state) if now < state.opens_at => "not_started",
        Some(_) => "available",
    }
}

/// Sales in one pipeline.
const CHUNK: usize = 64;

/// Most sales of one Redis.
const SALES_MAX: usize = 1_000;

/// Changes that wait to be published.
const CHANGED_MAX: usize = 256;

/// For reads that nobody's purchase waits for.
const READ_TIMEOUT: Duration = Duration::from_secs(2);
