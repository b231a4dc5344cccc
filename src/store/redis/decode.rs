//! Replies of scripts. Everything here comes from outside and is checked.

use std::collections::HashMap;
use std::convert::Infallible;

use redis::Value;

use super::encode;
use super::fault::{Fault, odd};
use crate::clock::UnixMs;
use crate::config::schema::{PerUser, Restock};
use crate::ident::{ClaimId, Name, NodeId, SaleId, ServerId, UserKey};
use crate::ledger::{
    Claimed, Controlled, Declared, Due, Observed, Op, OpResult, Peer, Record, RecordKind, Reply,
    Resolved, Shard,
};
use crate::sale::{Follow, PoolState, SaleState};

/// What every script says.
#[derive(Debug)]
pub(super) struct Answer {
    /// The server's time.
    pub(super) now: UnixMs,
    /// Whether (epoch, version) changed, so that others should hear of it.
    pub(super) is_changed: bool,
    /// The sale afterwards.
    pub(super) state: Option<SaleState>,
    /// What the operation said.
    pub(super) result: Said,
}

/// One word, or one for each item.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// One word.
    Word(String),
    /// One for each item.
    Words(Vec<String>),
}

/// Reads what a script said about `sale`.
pub(super) fn answer(sale: &SaleId, value: Value) -> Result<Answer, Fault> {
    let Value::Array(parts) = value else { return Err(odd("not an array")) };
    let [now, changed, state, result] =
        <[Value; 4]>::try_from(parts).map_err(|_| odd("not four parts"))?;
    let state = match state {
        Value::Nil => None,
        Value::Array(flat) => Some(sale_state(sale, &pairs(flat)?)?),
        _ => return Err(odd("the sale")),
    };
    let result = match result {
        Value::Array(words) => Said::Words(words.into_iter().map(text).collect::<Result<_, _>>()?),
        word => Said::Word(text(word)?),
    };
    let now = UnixMs(parsed(&text(now)?, "the time")?);
    Ok(Answer { now, is_changed: text(changed)? == "1", state, result })
}

/// From the scripts' words to the reply of `op`.
pub(super) fn reply(sale: &SaleId, op: &Op, answer: Answer) -> Result<Reply, Fault> {
    let Answer { now, state, result, .. } = answer;
    let result = match (op, result) {
        (Op::Read, _) if state.is_some() => OpResult::Read,
        (Op::Read, _) => OpResult::NoSale,
        (_, Said::Word(word)) if word == "no_sale" => OpResult::NoSale,
        (Op::Claim(batch), Said::Words(words)) if words.len() == batch.tries.len() => {
            OpResult::Claimed(words.iter().map(|w| claimed(w)).collect::<Result<_, _>>()?)
        }
        (Op::Resolve(all), Said::Words(words)) if words.len() == all.len() => {
            OpResult::Resolved(words.iter().map(|w| resolved(w)).collect::<Result<_, _>>()?)
        }
        (Op::Reassert(said), Said::Words(words)) => reasserted(said.claims.len(), &words)?,
        (Op::Observe(seen), Said::Words(words)) if words.len() == seen.readings.len() => {
            OpResult::Observed(words.iter().map(|w| observed(w)).collect::<Result<_, _>>()?)
        }
        (Op::Reap { .. }, Said::Words(words)) => OpResult::Reaped(reaped(&words)?),
        (Op::Declare(_), Said::Word(word)) => OpResult::Declared(match word.as_str() {
            "applied" => Declared::Applied,
            "unchanged" => Declared::Unchanged,
            "created_paused" => Declared::CreatedPaused,
            "refused" => match why(sale, state.as_ref(), op, now) {
                OpResult::Declared(refused @ Declared::Refused(_)) => refused,
                _ => Declared::Refused(DISAGREE.into()),
            },
            _ => return Err(odd(&word)),
        }),
        (Op::Control(_), Said::Word(word)) => OpResult::Controlled(match word.as_str() {
            "applied" => Controlled::Applied,
            "unchanged" => Controlled::Unchanged,
            "refused" => match why(sale, state.as_ref(), op, now) {
                OpResult::Controlled(refused @ Controlled::Refused(_)) => refused,
                _ => Controlled::Refused(DISAGREE.into()),
            },
            _ => return Err(odd(&word)),
        }),
        _ => return Err(odd("the result")),
    };
    Ok(Reply { state, now, result })
}

/// Records of one user from their text.
pub(super) fn records(user: UserKey, text: &str) -> Result<Vec<Record>, Fault> {
    text.split(';').filter(|one| !one.is_empty()).map(|one| record(user, one)).collect()
}

/// A text out of a value.
pub(super) fn text(value: Value) -> Result<String, Fault> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes).map_err(|_| odd("not UTF-8")),
        Value::SimpleString(text) => Ok(text),
        Value::Int(n) => Ok(n.to_string()),
        _ => Err(odd("not a text")),
    }
}

/// Pairs out of a flat array.
pub(super) fn pairs(flat: Vec<Value>) -> Result<HashMap<String, String>, Fault> {
    let texts = flat.into_iter().map(text).collect::<Result<Vec<_>, _>>()?;
    let (pairs, rest) = texts.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(odd("a field without value"));
    }
    Ok(pairs.iter().map(|[field, value]| (field.clone(), value.clone())).collect())
}

fn sale_state(id: &SaleId, map: &HashMap<String, String>) -> Result<SaleState, Fault> {
    let field = |name: &str| map.get(name).map(String::as_str).ok_or_else(|| odd(name));
    let applied = field("applied")?.split(',').filter(|h| !h.is_empty());
    let pools = field("pools")?.split(',').filter(|p| !p.is_empty());
    Ok(SaleState {
        id: id.clone(),
        activity: parsed(field("activity")?, "activity")?,
        epoch: parsed(field("epoch")?, "epoch")?,
        version: parsed(field("version")?, "version")?,
        revision: parsed(field("revision")?, "revision")?,
        applied: applied
            .map(|hash| u64::from_str_radix(hash, 16).map_err(|_| odd("applied")))
            .collect::<Result<_, _>>()?,
        opens_at: UnixMs(parsed(field("opens_at")?, "opens_at")?),
        ends_at: match field("ends_at")? {
            "" => None,
            at => Some(UnixMs(parsed(at, "ends_at")?)),
        },
        paused: is_set(field("paused")?)?,
        ended: is_set(field("ended")?)?,
        sold_out: is_set(field("sold_out")?)?,
        overshoot_permille: parsed(field("overshoot_permille")?, "overshoot_permille")?,
        per_user: PerUser {
            orders: parsed(field("orders")?, "orders")?,
            units: parsed(field("units")?, "units")?,
        },
        restock: [Restock::Never, Restock::Manual, Restock::Auto]
            .into_iter()
            .find(|r| Some(encode::restock(*r)) == map.get("restock").map(String::as_str))
            .ok_or_else(|| odd("restock"))?,
        salt: parsed(field("salt")?, "salt")?,
        // Ledgers of older versions have none of these.
        server: map.get("server").map_or(Ok(ServerId::default()), |s| parsed(s, "server"))?,
        fences: map.get("fences").map_or(Ok(0), |n| parsed(n, "fences"))?,
        learn_until: UnixMs(map.get("learn_until").map_or(Ok(0), |t| parsed(t, "learn_until"))?),
        seq: map.get("seq").map_or(Ok(0), |n| parsed(n, "seq"))?,
        restock_batch: map.get("restock_batch").map_or(Ok(0), |n| parsed(n, "restock_batch"))?,
        restock_debounce_ms: map
            .get("restock_debounce_ms")
            .map_or(Ok(0), |n| parsed(n, "restock_debounce_ms"))?,
        ids: map
            .get("ids")
            .map(|ids| ids.split_ascii_whitespace().map(str::to_owned).collect())
            .unwrap_or_default(),
        pools: pools.map(|name| pool(name, map)).collect::<Result<_, _>>()?,
    })
}

fn pool(name: &str, map: &HashMap<String, String>) -> Result<PoolState, Fault> {
    let field = |what: &str| {
        map.get(&format!("{what}:{name}")).map(String::as_str).ok_or_else(|| odd(what))
    };
    Ok(PoolState {
        name: Name::new(name).map_err(|_| odd("a pool's name"))?,
        stock: parsed(field("stock")?, "stock")?,
        confirmed: parsed(field("confirmed")?, "confirmed")?,
        held: parsed(field("held")?, "held")?,
        limbo: parsed(field("limbo")?, "limbo")?,
        sold_out: is_set(field("sold_out")?)?,
        held_back: field("held_back").map_or(Ok(false), is_set)?,
        back_since: UnixMs(field("back_since").map_or(Ok(0), |t| parsed(t, "back_since"))?),
        follow: match field("source").unwrap_or_default() {
            "" => None,
            source => Some(Follow {
                source: serde_json::from_str(source).map_err(|_| odd("source"))?,
                read_at: UnixMs(parsed(field("read_at")?, "read_at")?),
                not_before: UnixMs(parsed(field("not_before")?, "not_before")?),
                empty_since: UnixMs(parsed(field("empty_since")?, "empty_since")?),
            }),
        },
    })
}

fn claimed(words: &str) -> Result<Claimed, Fault> {
    let mut words = words.split(' ');
    let (word, first) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    Ok(match word {
        "admitted" => Claimed::Admitted { deadline: UnixMs(parsed(first, "a deadline")?) },
        "in_progress" => Claimed::InProgress {
            claim: parsed(first, "a claim")?,
            same: words.next() == Some("same"),
        },
        "pending" => Claimed::Pending { claim: parsed(first, "a claim")? },
        "confirmed" => Claimed::Confirmed { claim: parsed(first, "a claim")? },
        "already" => Claimed::Already,
        "limit" => Claimed::Limit { max_units: parsed(first, "units")? },
        "not_started" => Claimed::NotStarted,
        "ended" => Claimed::Ended,
        "sold_out" => Claimed::SoldOut,
        "paused" => Claimed::Paused,
        "learning" => Claimed::Learning,
        "unread" => Claimed::Unread,
        "busy" => Claimed::Busy,
        "insufficient" => Claimed::Insufficient { max_units: parsed(first, "units")? },
        "unknown_pool" => Claimed::UnknownPool,
        "too_late" => Claimed::TooLate,
        _ => return Err(odd(word)),
    })
}

fn resolved(word: &str) -> Result<Resolved, Fault> {
    Ok(match word {
        "applied" => Resolved::Applied,
        "repeated" => Resolved::Repeated,
        "conflict" => Resolved::Conflict,
        "unknown" => Resolved::Unknown,
        "late" => Resolved::Late,
        _ => return Err(odd(word)),
    })
}

fn observed(word: &str) -> Result<Observed, Fault> {
    Ok(match word {
        "applied" => Observed::Applied,
        "late" => Observed::Late,
        "not_followed" => Observed::NotFollowed,
        _ => return Err(odd(word)),
    })
}

fn reasserted(claims: usize, words: &[String]) -> Result<OpResult, Fault> {
    let Some((words, nodes)) = words.split_at_checked(claims) else {
        return Err(odd("too few words"));
    };
    Ok(OpResult::Reasserted {
        resolved: words.iter().map(|word| resolved(word)).collect::<Result<_, _>>()?,
        nodes: nodes.iter().map(|node| parsed(node, "a node")).collect::<Result<_, _>>()?,
    })
}

fn reaped(words: &[String]) -> Result<Vec<Record>, Fault> {
    let (pairs, _) = words.as_chunks::<2>();
    pairs.iter().map(|[user, one]| record(parsed(user, "a user")?, one)).collect()
}

fn record(user: UserKey, text: &str) -> Result<Record, Fault> {
    let mut fields = text.split('|');
    let mut next = || fields.next().ok_or_else(|| odd("a record"));
    let kind = match next()? {
        "A" => RecordKind::Admitted,
        "P" => RecordKind::Pending,
        "L" => RecordKind::Limbo,
        "C" => RecordKind::Confirmed,
        _ => return Err(odd("a record's kind")),
    };
    Ok(Record {
        kind,
        user,
        claim: parsed(next()?, "a claim")?,
        attempt: parsed(next()?, "an attempt")?,
        pool: parsed(next()?, "a pool")?,
        units: parsed(next()?, "units")?,
        node: parsed(next()?, "a node")?,
        deadline: UnixMs(parsed(next()?, "a deadline")?),
    })
}

/// Why the scripts refused: the core says it about the sale as the scripts left it, which is as they
/// found it. The words stand in one place.
fn why(sale: &SaleId, state: Option<&SaleState>, op: &Op, now: UnixMs) -> OpResult {
    let mut as_it_is = AsItIs { sale, state };
    let Ok(reply) = crate::ledger::apply(&mut as_it_is, op, now);
    reply.result
}

/// A sale that is only looked at.
struct AsItIs<'a> {
    sale: &'a SaleId,
    state: Option<&'a SaleState>,
}

impl Shard for AsItIs<'_> {
    type Error = Infallible;

    fn id(&self) -> &SaleId {
        self.sale
    }

    fn sale(&mut self) -> Result<Option<SaleState>, Infallible> {
        Ok(self.state.cloned())
    }

    fn put_sale(&mut self, _: &SaleState) -> Result<(), Infallible> {
        Ok(())
    }

    fn user(&mut self, _: &UserKey) -> Result<Vec<Record>, Infallible> {
        Ok(Vec::new())
    }

    fn put_user(&mut self, _: &UserKey, _: &[Record]) -> Result<(), Infallible> {
        Ok(())
    }

    fn due(&mut self, _: UnixMs, _: usize) -> Result<Vec<Due>, Infallible> {
        Ok(Vec::new())
    }

    fn add_due(&mut self, _: Due) -> Result<(), Infallible> {
        Ok(())
    }

    fn remove_due(&mut self, _: Due) -> Result<(), Infallible> {
        Ok(())
    }

    fn is_void(&mut self, _: &ClaimId) -> Result<bool, Infallible> {
        Ok(false)
    }

    fn put_void(&mut self, _: &ClaimId) -> Result<(), Infallible> {
        Ok(())
    }

    fn is_failed(&mut self, _: &ClaimId) -> Result<bool, Infallible> {
        Ok(false)
    }

    fn put_failed(&mut self, _: &ClaimId) -> Result<(), Infallible> {
        Ok(())
    }

    fn server(&mut self) -> Result<ServerId, Infallible> {
        Ok(ServerId::default())
    }

    fn nodes(&mut self) -> Result<Vec<(NodeId, Peer)>, Infallible> {
        Ok(Vec::new())
    }

    fn put_node(&mut self, _: NodeId, _: Option<Peer>) -> Result<(), Infallible> {
        Ok(())
    }
}

fn is_set(text: &str) -> Result<bool, Fault> {
    match text {
        "1" => Ok(true),
        "0" => Ok(false),
        _ => Err(odd("not 0 or 1")),
    }
}

fn parsed<T: std::str::FromStr>(text: &str, what: &str) -> Result<T, Fault> {
    text.parse().map_err(|_| odd(what))
}

const DISAGREE: &str = "refused by the ledger for a reason that this node does not know: \
                        do all nodes run one version?";
