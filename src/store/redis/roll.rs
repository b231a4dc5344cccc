//! The roll of the nodes: each says every few seconds that it is there, and something about itself, such
//! as which config it runs. It decides nothing; what the ledger has to know of nodes stands in the ledger.

use std::collections::BTreeMap;

use redis::Value;
use tokio::time::Instant;

use super::decode;
use super::fault::{Fault, odd};
use super::keys;
use super::slot::Slot;
use super::{READ_TIMEOUT, Redis, wrong_type};
use crate::clock::UnixMs;
use crate::store::StoreError;

impl Redis {
    /// Signs the roll and reads what each node that is there said last.
    pub(super) async fn sign(
        &self,
        me: u64,
        said: &str,
        now: UnixMs,
    ) -> Result<Vec<String>, StoreError> {
        let mut sign = redis::cmd("ZADD");
        sign.arg(keys::NODES).arg(now.0).arg(format!("{me:016x} {said}"));
        let mut all = redis::cmd("ZRANGEBYSCORE");
        all.arg(keys::NODES).arg("-inf").arg("+inf").arg("WITHSCORES");
        let (slot, end) = (Slot::of_key(keys::NODES), Instant::now() + READ_TIMEOUT);
        self.routes.send(slot, &sign, end).await.map_err(blame)?;
        let read = self.routes.send(slot, &all, end).await.map_err(blame)?;
        let (present, gone) = divide(lines(read).map_err(blame)?, now);
        if !gone.is_empty() {
            let mut remove = redis::cmd("ZREM");
            remove.arg(keys::NODES).arg(gone);
            self.routes.send(slot, &remove, end).await.map_err(blame)?;
        }
        Ok(present)
    }
}

/// Each line with its time, oldest first.
fn lines(value: Value) -> Result<Vec<(String, u64)>, Fault> {
    let Value::Array(flat) = value else { return Err(odd(keys::NODES)) };
    let words = flat.into_iter().map(|value| match value {
        // RESP3 nests each line with its score, and scores are numbers.
        Value::Array(pair) => pair.into_iter().map(word).collect::<Result<Vec<_>, _>>(),
        value => word(value).map(|word| vec![word]),
    });
    let words: Vec<String> = words.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect();
    let (pairs, rest) = words.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(odd(keys::NODES));
    }
    let line = |[line, at]: &[String; 2]| {
        // Scores are whole milliseconds, far below 2^53.
        let at = at.parse::<f64>().map_err(|_| odd(keys::NODES))?;
        Ok((line.clone(), at as u64))
    };
    pairs.iter().map(line).collect()
}

fn word(value: Value) -> Result<String, Fault> {
    match value {
        Value::Double(score) => Ok(score.to_string()),
        value => decode::text(value),
    }
}

/// What those who are there said last, and the lines that nobody needs any more.
fn divide(lines: Vec<(String, u64)>, now: UnixMs) -> (Vec<String>, Vec<String>) {
    let (mut last, mut gone) = (BTreeMap::new(), Vec::new());
    for (line, at) in lines {
        if at + FORGOTTEN_MS < now.0 {
            gone.push(line);
        } else if at + PRESENT_MS >= now.0
            && let Some((node, said)) = line.split_once(' ')
        {
            // Later lines of a node stand behind its earlier ones.
            last.insert(node.to_owned(), said.to_owned());
        }
    }
    (last.into_values().collect(), gone)
}

fn blame(fault: Fault) -> StoreError {
    match fault.is_wrong_type() {
        true => wrong_type(keys::NODES, "something else", "sorted set"),
        false => fault.into(),
    }
}

/// Who has not signed for so long is not there: three times what lies between two signatures.
const PRESENT_MS: u64 = 15_000;
const FORGOTTEN_MS: u64 = 60_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_of_each_that_is_there_counts() {
        let lines = [
            ("a old", 100_000),
            ("b long-gone", 20_000),
            ("c silent", 80_000),
            ("a new", 105_000),
            ("d one", 103_000),
            ("noise", 104_000),
        ];
        let lines = lines.map(|(line, at)| (line.to_owned(), at)).to_vec();
        let (present, gone) = divide(lines, UnixMs(106_000));
        assert_eq!((present, gone), (vec!["new".into(), "one".into()], vec!["b long-gone".into()]));
    }

    #[test]
    fn both_forms_of_the_reply_are_read() {
        let bulk = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let flat = Value::Array(vec![bulk("a x"), bulk("1.7e3")]);
        let nested = Value::Array(vec![Value::Array(vec![bulk("a x"), Value::Double(1_700.0)])]);
        for reply in [flat, nested] {
            assert_eq!(lines(reply).unwrap(), [("a x".to_owned(), 1_700)]);
        }
        assert!(lines(Value::Array(vec![bulk("a x")])).is_err());
        assert!(lines(Value::Okay).is_err());
    }
}
