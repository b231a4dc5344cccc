//! Reads of the shop's own keys: in the store's Redis, over its connections, or in another one.
//!
//! Nothing is written here, and nothing is asked of that server but what the keys need: it may evict,
//! and its user may have no other rights than `TYPE GET HGET LLEN SCARD SSCAN`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, ProtocolVersion, Value};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::decode;
use super::dial::{self, Opened};
use super::fault::Fault;
use super::slot::Slot;
use super::target::{BadStore, Peer, Server, Target};
use super::{Redis, StoreError};
use crate::config::redis_url::Place;
use crate::config::schema;

/// What a key of the shop's says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Number {
    /// So many; a negative one is 0.
    Left(u64),
    /// The server answered, and it is no number; the text says what it is.
    Odd(String),
    /// The server was not heard; the text says why.
    Away(String),
}

/// A key, and the field where it is a hash.
pub type Cell<'a> = (&'a str, Option<&'a str>);

/// The way to the shop's keys.
#[derive(Debug)]
pub struct Reader {
    way: Way,
    /// Keys that were lists or sets: those vanish with their last member.
    kinds: Mutex<BTreeMap<String, &'static str>>,
}

#[derive(Debug)]
enum Way {
    Store(Arc<Redis>),
    Other(Box<Other>),
}

/// Another server than the store's, connected when it is needed.
struct Other {
    target: Target,
    server: Server,
    connection: tokio::sync::Mutex<Option<Opened>>,
}

impl Reader {
    /// Reads where the ledger is.
    pub fn of_store(store: Arc<Redis>) -> Reader {
        Reader { way: Way::Store(store), kinds: Mutex::default() }
    }

    /// Reads from another server; fails only where the settings make no sense.
    pub fn of_other(settings: &schema::Store) -> Result<Reader, BadStore> {
        let target = Target::of(settings)?;
        let server = match &target.place {
            Place::Server(host) => Server::Tcp(host.clone()),
            Place::Socket(path) => Server::Unix(path.clone()),
            Place::Sentinel { .. } | Place::Cluster(_) => {
                return Err(BadStore::Url(
                    "must name one server: keys behind Sentinels or in a cluster are followed \
                     where the store itself is there"
                        .to_owned(),
                ));
            }
        };
        let connection = tokio::sync::Mutex::default();
        let way = Way::Other(Box::new(Other { target, server, connection }));
        Ok(Reader { way, kinds: Mutex::default() })
    }

    /// The numbers of some keys, in two round trips at most.
    pub async fn numbers(&self, places: &[Cell<'_>], end: Instant) -> Vec<Number> {
        let types: Vec<(&str, Cmd)> = places
            .iter()
            .filter(|(_, field)| field.is_none())
            .map(|(key, _)| (*key, command("TYPE", key)))
            .collect();
        let mut types = self.ask(types, end).await.into_iter();
        let mut numbers: Vec<Result<(&str, Cmd), Number>> = Vec::new();
        for (key, field) in places {
            numbers.push(match field {
                Some(field) => {
                    let mut cmd = command("HGET", key);
                    cmd.arg(*field);
                    Ok((*key, cmd))
                }
                None => self.by_type(key, types.next()),
            });
        }
        let reads = numbers.iter().filter_map(|one| one.as_ref().ok().cloned()).collect();
        let mut read = self.ask(reads, end).await.into_iter();
        let each = numbers.into_iter().map(|one| match one {
            Err(number) => number,
            Ok(_) => read.next().map_or_else(late, number_of),
        });
        each.collect()
    }

    /// Gives each member of a set to `take`, some perhaps twice, until it says `false`; whether there is
    /// such a set. A set of a million takes a thousand steps, each with `timeout` for itself.
    pub async fn members(
        &self,
        key: &str,
        timeout: Duration,
        take: &mut (dyn FnMut(&[u8]) -> bool + Send),
    ) -> Result<bool, String> {
        let kind = self.one(key, command("TYPE", key), timeout).await?;
        match decode::text(kind).unwrap_or_default().as_str() {
            "none" => return Ok(false),
            "set" => {}
            other => return Err(format!("it is a {other} and no set")),
        }
        let mut cursor = "0".to_owned();
        loop {
            let mut scan = command("SSCAN", key);
            scan.arg(&cursor).arg("COUNT").arg(SCAN_MEMBERS);
            let odd = || "SSCAN has an odd answer".to_owned();
            let Value::Array(parts) = self.one(key, scan, timeout).await? else {
                return Err(odd());
            };
            let [next, members] = <[Value; 2]>::try_from(parts).map_err(|_| odd())?;
            let (Value::Array(members) | Value::Set(members)) = members else { return Err(odd()) };
            for member in members {
                let Value::BulkString(member) = member else { return Err(odd()) };
                if !take(&member) {
                    return Ok(true);
                }
            }
            cursor = decode::text(next).map_err(|_| odd())?;
            if cursor == "0" {
                return Ok(true);
            }
        }
    }

    async fn one(&self, key: &str, cmd: Cmd, timeout: Duration) -> Result<Value, String> {
        let end = Instant::now() + timeout;
        let answer = self.ask(vec![(key, cmd)], end).await.pop();
        let answer = answer.unwrap_or(Err(Fault::Maybe));
        answer.map_err(|fault| StoreError::from(fault).to_string())
    }

    /// How a key of this type is read.
    fn by_type<'a>(
        &self,
        key: &'a str,
        said: Option<Result<Value, Fault>>,
    ) -> Result<(&'a str, Cmd), Number> {
        let kind = match said {
            Some(Ok(value)) => decode::text(value).map_err(|_| odd("TYPE has an odd answer"))?,
            Some(Err(fault)) => return Err(unread(fault)),
            None => return Err(late()),
        };
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        let (read, is_kept) = match kind.as_str() {
            "string" => ("GET", false),
            "list" => ("LLEN", true),
            "set" => ("SCARD", true),
            "none" => match kinds.get(key) {
                Some(read) => (*read, true),
                None => return Err(odd("there is no such key")),
            },
            "hash" => return Err(odd("it is a hash: name its field")),
            other => return Err(odd(&format!("it is a {other}, which has no such number"))),
        };
        match is_kept {
            true if kinds.len() < KINDS_MAX => drop(kinds.insert(key.to_owned(), read)),
            true => {}
            false => drop(kinds.remove(key)),
        }
        Ok((key, command(read, key)))
    }

    async fn ask(&self, all: Vec<(&str, Cmd)>, end: Instant) -> Vec<Result<Value, Fault>> {
        if all.is_empty() {
            return Vec::new();
        }
        match &self.way {
            Way::Store(store) => {
                let all = all.into_iter().map(|(key, cmd)| (Slot::of_key(key), cmd)).collect();
                store.routes.send_each(all, end).await
            }
            Way::Other(other) => {
                let mut answers = Vec::with_capacity(all.len());
                for (_, cmd) in &all {
                    answers.push(other.ask(cmd, end).await);
                }
                answers
            }
        }
    }
}

impl Other {
    async fn ask(&self, cmd: &Cmd, end: Instant) -> Result<Value, Fault> {
        let mut held = self.connection.lock().await;
        let asked = timeout_at(end, async {
            let mut connection = self.connected(&mut held).await?;
            dial::ask(&mut connection, cmd).await
        });
        match asked.await {
            Ok(Ok(answer)) => answer,
            Ok(Err(why)) => {
                close(&mut held);
                Err(Fault::NotSent(why))
            }
            Err(_) => {
                close(&mut held);
                Err(Fault::NotSent("no answer in time".to_owned()))
            }
        }
    }

    async fn connected(&self, held: &mut Option<Opened>) -> Result<MultiplexedConnection, String> {
        if let Some((connection, closed)) = held
            && !closed.is_cancelled()
        {
            return Ok(connection.clone());
        }
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        let protocol = ProtocolVersion::RESP2;
        let opened = dial::open(&self.target, &self.server, Peer::Redis, protocol, config).await?;
        let connection = opened.0.clone();
        *held = Some(opened);
        Ok(connection)
    }
}

fn close(held: &mut Option<(MultiplexedConnection, CancellationToken)>) {
    if let Some((_, closed)) = held.take() {
        closed.cancel();
    }
}

impl std::fmt::Debug for Other {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Other({})", self.target)
    }
}

fn command(verb: &str, key: &str) -> Cmd {
    let mut cmd = redis::cmd(verb);
    cmd.arg(key);
    cmd
}

fn number_of(said: Result<Value, Fault>) -> Number {
    match said {
        Ok(Value::Int(n)) => whole(&n.to_string()),
        Ok(Value::Nil) => odd("there is no such key or field"),
        Ok(Value::BulkString(bytes)) => match std::str::from_utf8(&bytes) {
            Ok(text) => whole(text),
            Err(_) => odd("it is no text"),
        },
        Ok(_) => odd("the answer is no number"),
        Err(fault) => unread(fault),
    }
}

/// A whole number as shops write it: digits, perhaps with a sign. Scripts that count down without
/// looking go below 0.
pub fn whole(text: &str) -> Number {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let is_number = (1..=10).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    match digits.parse::<u64>() {
        Ok(_) if is_number && digits.len() < text.len() => Number::Left(0),
        Ok(n) if is_number && n <= crate::ledger::STOCK_MAX => Number::Left(n),
        _ => {
            let shown: String = text.chars().take(SHOWN_CHARS_MAX).collect();
            odd(&format!("{shown:?} is no whole number up to {}", crate::ledger::STOCK_MAX))
        }
    }
}

fn unread(fault: Fault) -> Number {
    if fault.is_unheard() {
        return Number::Away(StoreError::from(fault).to_string());
    }
    Number::Odd(StoreError::from(fault).to_string())
}

fn odd(why: &str) -> Number {
    Number::Odd(why.to_owned())
}

fn late() -> Number {
    Number::Away("no answer in time".to_owned())
}

/// Lists and sets that are remembered as such. Sales and their pools are bounded themselves.
const KINDS_MAX: usize = 100_000;

/// Members of a set in one step, about.
const SCAN_MEMBERS: u32 = 1_000;

/// What an odd value shows of itself.
const SHOWN_CHARS_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_digits_and_below_nothing_is_nothing() {
        let left = |text: &str, n: u64| assert_eq!(whole(text), Number::Left(n), "{text}");
        left("0", 0);
        left("7", 7);
        left("007", 7);
        left("1000000000", 1_000_000_000);
        left("-3", 0);
        for text in ["", "-", "abc", "7.0", "+7", " 7", "7\n", "1e3", "1000000001", "--1"] {
            assert!(matches!(whole(text), Number::Odd(_)), "{text:?}");
        }
    }
}
