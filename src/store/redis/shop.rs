//! What the shop asks for in Redis: a declaration in `want`, answered in `have`; commands in `in`,
//! told in `out`. Any node does it; the scripts see to it that each thing is done once.

mod command;

use redis::Value;
use tokio::time::Instant;

use super::decode::{self, Answer, Said};
use super::fault::{Fault, odd};
use super::keys::{self, Part};
use super::mirror::Mirror;
use super::scripts::Family;
use super::slot::Slot;
use super::{READ_TIMEOUT, word_of};
use crate::clock::UnixMs;
use crate::ident::{SaleId, Salt};
use crate::ledger::{Declare, Declared, Op, OpResult};
use crate::metrics::Counter;
use crate::sale::book::Update;
use crate::sale::{Declaration, SaleState};
use crate::store::{Store, StoreError};

/// A longer `want` is refused: 64 KiB.
pub(super) const WANT_BYTES_MAX: usize = 65_536;

/// The fields of `have` that are compared, in their order in `have.lua`.
pub(super) const HAVE_FIELDS: &[&str] =
    &["revision", "state", "paused", "epoch", "version", "error"];

/// What stands in a sale's keys of the shop.
pub(super) struct Wish {
    /// The declaration; empty if there is none.
    pub(super) want: Result<Value, Fault>,
    /// [`HAVE_FIELDS`].
    pub(super) have: Result<Value, Fault>,
    /// The last entry of `in`.
    pub(super) last: Result<Value, Fault>,
    /// How far `in` was read.
    pub(super) cursor: Position,
}

/// A declaration that this node judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Judged {
    want: String,
    error: String,
}

/// A place in a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    ms: u64,
    seq: u64,
}

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

impl std::str::FromStr for Position {
    type Err = std::num::ParseIntError;
    fn from_str(text: &str) -> Result<Position, Self::Err> {
        let (ms, seq) = text.split_once('-').unwrap_or((text, "0"));
        Ok(Position { ms: ms.parse()?, seq: seq.parse()? })
    }
}

impl Mirror {
    /// Does what the shop asks for. `Refused`: a key of the sale is not what it should be.
    pub(super) async fn serve(
        &mut self,
        sale: &SaleId,
        answer: Answer,
        wish: Wish,
    ) -> Result<(), StoreError> {
        let (mut state, mut now) = (answer.state, answer.now);
        let (want, error, is_read) = match wish.want {
            Ok(want) => match decode::text(want) {
                Ok(want) => {
                    let error = self.judge(sale, &want, &mut state, &mut now).await?;
                    (want, error, true)
                }
                Err(_) => (String::new(), "want is not UTF-8".to_owned(), false),
            },
            Err(fault) => {
                let error = self.redis.blame(sale, fault, soon()).await;
                (String::new(), error.to_string(), false)
            }
        };
        let last = position(wish.last.map_err(StoreError::from)?)?;
        if let Some(salt) = state.as_ref().map(|s| s.salt)
            && last > wish.cursor
        {
            state = self.take_commands(sale, salt, wish.cursor).await?.or(state);
        }
        let have = wish.have.map_err(StoreError::from)?;
        if is_news(&have, state.as_ref(), now, &error)? {
            let flag = if is_read { "1" } else { "0" };
            let args = [want, flag.to_owned(), error];
            self.redis.told(sale, Family::Have, &args, soon()).await?;
        }
        Ok(())
    }

    /// What is wrong with `want`, or nothing. Each text is judged once by each node: the ledger
    /// remembers what it applied.
    async fn judge(
        &mut self,
        sale: &SaleId,
        want: &str,
        state: &mut Option<SaleState>,
        now: &mut UnixMs,
    ) -> Result<String, StoreError> {
        if want.is_empty() {
            // A declaration that is deleted changes nothing.
            self.judged.remove(sale);
            return Ok(String::new());
        }
        if let Some(judged) = self.judged.get(sale).filter(|judged| judged.want == want) {
            return Ok(judged.error.clone());
        }
        let error = match read_want(want) {
            Err(why) => why,
            Ok(declaration) => {
                let heard = self.clock.mono();
                let op = Op::Declare(Box::new(Declare { declaration, salt: Salt::random() }));
                let reply = self.redis.call(sale, op, READ_TIMEOUT).await?;
                if let Some(declared) = reply.state {
                    self.book.apply(Update { state: declared.clone(), heard });
                    *state = Some(declared);
                }
                *now = reply.now;
                self.verdict(sale, reply.result)
            }
        };
        if !error.is_empty() {
            self.redis.sink.inc(Counter::DeclarationsRefused);
            tracing::warn!(%sale, %error, "the shop's declaration was refused");
        }
        let judged = Judged { want: want.to_owned(), error: error.clone() };
        self.judged.insert(sale.clone(), judged);
        Ok(error)
    }

    fn verdict(&self, sale: &SaleId, result: OpResult) -> String {
        match result {
            OpResult::Declared(Declared::Refused(why)) => return why,
            OpResult::Declared(Declared::CreatedPaused) => {
                self.redis.sink.inc(Counter::DeclarationsApplied);
                tracing::error!(
                    %sale,
                    "created PAUSED, since its opens_at is past: `penstock sale resume` opens it"
                );
            }
            OpResult::Declared(Declared::Applied) => {
                self.redis.sink.inc(Counter::DeclarationsApplied);
                tracing::info!(%sale, "the shop's declaration was applied");
            }
            _ => {}
        }
        String::new()
    }

    /// Applies the commands behind `cursor`; returns the sale afterwards, if any were applied.
    async fn take_commands(
        &self,
        sale: &SaleId,
        salt: Salt,
        mut cursor: Position,
    ) -> Result<Option<SaleState>, StoreError> {
        let mut state = None;
        for _ in 0..BATCHES_MAX {
            let mut range = redis::cmd("XRANGE");
            range.arg(keys::of(sale, Part::In)).arg(format!("({cursor}")).arg("+");
            range.arg("COUNT").arg(COMMANDS_MAX);
            let value = self.redis.routes.send(Slot::of_sale(sale), &range, soon()).await?;
            let entries = entries(value)?;
            let Some((last, _)) = entries.last() else { break };
            let last = *last;
            let mut args = vec![cursor.to_string(), last.to_string()];
            for (position, fields) in &entries {
                args.extend(command::prepare(*position, fields, &salt));
            }
            let heard = self.clock.mono();
            let answer = self.redis.told(sale, Family::Inbox, &args, soon()).await?;
            if let Some(after) = answer.state {
                self.book.apply(Update { state: after.clone(), heard });
                state = Some(after);
            }
            // Another node was first, or these were the last.
            if answer.result != Said::Word("applied".into()) || entries.len() < COMMANDS_MAX {
                break;
            }
            cursor = last;
        }
        Ok(state)
    }
}

fn read_want(want: &str) -> Result<Declaration, String> {
    if want.len() > WANT_BYTES_MAX {
        return Err(format!("want is longer than {WANT_BYTES_MAX} bytes"));
    }
    let declaration = Declaration::parse(want.as_bytes()).map_err(|e| e.to_string())?;
    match declaration.revision {
        Some(_) => Ok(declaration),
        None => Err("revision: is missing; raise it with every change".into()),
    }
}

/// Whether `have` says something else than what is so.
fn is_news(
    have: &Value,
    state: Option<&SaleState>,
    now: UnixMs,
    error: &str,
) -> Result<bool, StoreError> {
    let Value::Array(fields) = have else { return Err(odd("have").into()) };
    let says: Vec<String> = fields.iter().map(|v| lossy(v.clone())).collect();
    if state.is_none() && error.is_empty() && says.iter().all(String::is_empty) {
        return Ok(false);
    }
    let is = [
        state.map_or(0, |s| s.revision).to_string(),
        word_of(state, now).to_owned(),
        if state.is_some_and(|s| s.paused) { "1" } else { "0" }.to_owned(),
        state.map_or(0, |s| s.epoch).to_string(),
        state.map_or(0, |s| s.version).to_string(),
        error.to_owned(),
    ];
    Ok(says != is)
}

type Entry = (Position, Vec<(String, String)>);

fn entries(value: Value) -> Result<Vec<Entry>, Fault> {
    let Value::Array(entries) = value else { return Err(odd("in")) };
    entries.into_iter().map(entry).collect()
}

fn entry(value: Value) -> Result<Entry, Fault> {
    let Value::Array(parts) = value else { return Err(odd("in")) };
    let [id, fields] = <[Value; 2]>::try_from(parts).map_err(|_| odd("in"))?;
    let position = decode::text(id)?.parse().map_err(|_| odd("in"))?;
    let texts: Vec<String> = match fields {
        Value::Array(flat) => flat.into_iter().map(lossy).collect(),
        _ => Vec::new(),
    };
    let (pairs, _) = texts.as_chunks::<2>();
    Ok((position, pairs.iter().map(|[field, text]| (field.clone(), text.clone())).collect()))
}

fn position(last: Value) -> Result<Position, Fault> {
    Ok(entries(last)?.first().map_or_else(Position::default, |(position, _)| *position))
}

/// Text that the shop wrote; what is not UTF-8 is replaced and will not be understood.
fn lossy(value: Value) -> String {
    match value {
        Value::BulkString(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Value::Nil => String::new(),
        value => decode::text(value).unwrap_or_default(),
    }
}

fn soon() -> Instant {
    Instant::now() + READ_TIMEOUT
}

/// Commands in one script call.
const COMMANDS_MAX: usize = 100;

/// Calls in one look at a sale; more commands wait for the next.
const BATCHES_MAX: usize = 10;
