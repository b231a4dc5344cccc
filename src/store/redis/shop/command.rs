//! One command of the shop, checked and made into arguments of `inbox.lua`.
//!
//! ```text
//! op add_stock pool P units N id X           more units, in the same epoch
//! op restock   pool P units N id X           units come back after the latch, a new epoch
//! op void      user U [key K] order O id X   a confirmed order was cancelled
//! op outcome   user U key K result confirmed|failed id X    late word about an open order
//! op pause|resume|sold_out|end by WHO [id X]
//! ```
//!
//! `user` is the identity as the edge reads it; only its hash goes further. `key` is the
//! `Idempotency-Key` that the shop received: the client's own, or the claim's id.

use super::Position;
use crate::ident::{AttemptId, ClaimId, Name, Salt, UserKey};
use crate::ledger::{ID_BYTES_MAX, STOCK_MAX};

/// The arguments of one entry: entry, op, id, user, claim, attempt, pool, units, text.
pub(super) fn prepare(position: Position, fields: &[(String, String)], salt: &Salt) -> [String; 9] {
    let command = read(fields, salt).unwrap_or_else(|why| Command {
        op: "bad",
        text: why,
        ..Command::default()
    });
    let Command { op, id, user, claim, attempt, pool, units, text } = command;
    [position.to_string(), op.into(), id, user, claim, attempt, pool, units.to_string(), text]
}

#[derive(Debug, Default)]
struct Command {
    op: &'static str,
    id: String,
    user: String,
    claim: String,
    attempt: String,
    pool: String,
    units: u64,
    text: String,
}

fn read(fields: &[(String, String)], salt: &Salt) -> Result<Command, String> {
    if let Some((_, long)) = fields.iter().find(|(_, text)| text.len() > FIELD_BYTES_MAX) {
        return Err(format!("a field has {} bytes, at most {FIELD_BYTES_MAX}", long.len()));
    }
    let field =
        |name: &str| fields.iter().find(|(field, _)| field == name).map(|(_, t)| t.as_str());
    let needed = |name: &str| match field(name) {
        Some(text) if !text.is_empty() => Ok(text),
        _ => Err(format!("{name}: is missing")),
    };
    let said = needed("op")?;
    let op = OPS
        .into_iter()
        .find(|op| *op == said)
        .ok_or_else(|| format!("op: is none of {}", OPS.join(", ")))?;
    let mut command = Command { op, ..Command::default() };
    if !WORDS.contains(&op) {
        command.id = id(needed("id")?)?;
    }
    match op {
        "add_stock" | "restock" => {
            let pool = Name::new(needed("pool")?).map_err(|bad| format!("pool: {bad}"))?;
            command.pool = pool.to_string();
            command.units = units(needed("units")?)?;
        }
        "void" | "outcome" => {
            let user = UserKey::of_identity(salt, needed("user")?.as_bytes());
            command.user = user.to_string();
            let key = if op == "outcome" { Some(needed("key")?) } else { field("key") };
            if let Some(key) = key {
                command.attempt = AttemptId::of_key(salt, &user, key.as_bytes()).to_string();
                command.claim = key.parse::<ClaimId>().map(|c| c.to_string()).unwrap_or_default();
            }
            command.text = match op {
                "void" => needed("order")?.to_owned(),
                _ => result(needed("result")?)?.to_owned(),
            };
        }
        _ => command.text = needed("by")?.to_owned(),
    }
    Ok(command)
}

fn id(text: &str) -> Result<String, String> {
    let is_valid = text.len() <= ID_BYTES_MAX && text.bytes().all(|b| b.is_ascii_graphic());
    is_valid.then(|| text.to_owned()).ok_or_else(|| {
        format!("id: must be 1 to {ID_BYTES_MAX} visible ASCII characters without spaces")
    })
}

fn units(text: &str) -> Result<u64, String> {
    let units = text.parse().ok().filter(|units| *units <= STOCK_MAX);
    units.ok_or_else(|| format!("units: must be a whole number up to {STOCK_MAX}"))
}

fn result(text: &str) -> Result<&'static str, String> {
    match text {
        "confirmed" => Ok("C"),
        "failed" => Ok("F"),
        _ => Err("result: is none of confirmed, failed".into()),
    }
}

/// The words that need no id: said twice they are said once.
const WORDS: [&str; 4] = ["pause", "resume", "sold_out", "end"];

const OPS: [&str; 8] =
    ["pause", "resume", "sold_out", "end", "add_stock", "restock", "void", "outcome"];

/// Longest field of a command.
const FIELD_BYTES_MAX: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    fn args(fields: &[(&str, &str)]) -> [String; 9] {
        let fields: Vec<_> =
            fields.iter().map(|(f, t)| ((*f).to_owned(), (*t).to_owned())).collect();
        prepare(Position { ms: 5, seq: 1 }, &fields, &Salt([1; 16]))
    }

    #[test]
    fn a_command_is_prepared() {
        let add = args(&[("op", "add_stock"), ("pool", "a"), ("units", "50"), ("id", "x1")]);
        assert_eq!(add.join(" "), "5-1 add_stock x1    a 50 ");
        let user = UserKey::of_identity(&Salt([1; 16]), b"U1");
        let void = args(&[("op", "void"), ("user", "U1"), ("order", "2026"), ("id", "x2")]);
        assert_eq!(void.join(" "), format!("5-1 void x2 {user}    0 2026"));
        let claim = ClaimId([9; 12]).to_string();
        let outcome = args(&[
            ("op", "outcome"),
            ("user", "U1"),
            ("key", &claim),
            ("result", "failed"),
            ("id", "x3"),
        ]);
        assert_eq!((&outcome[4], outcome[8].as_str()), (&claim, "F"));
        assert_eq!(args(&[("op", "pause"), ("by", "alice")])[8], "alice");
    }

    #[test]
    fn a_bad_command_says_what_is_wrong() {
        let why = |fields: &[(&str, &str)]| {
            let args = args(fields);
            assert_eq!(args[1], "bad");
            args[8].clone()
        };
        assert!(why(&[]).contains("op: is missing"));
        assert!(why(&[("op", "steal")]).contains("none of pause"));
        assert!(why(&[("op", "pause")]).contains("by: is missing"));
        assert!(why(&[("op", "add_stock"), ("pool", "a"), ("units", "5")]).contains("id: "));
        let stock =
            |pool, units| [("op", "add_stock"), ("id", "x"), ("pool", pool), ("units", units)];
        assert!(why(&stock("a b", "5")).contains("pool: must be"));
        assert!(why(&stock("a", "-5")).contains("units: must be"));
        assert!(why(&stock("a", "1000000001")).contains("units: must be"));
        assert!(why(&[("op", "void"), ("id", "x"), ("user", "")]).contains("user: is missing"));
        assert!(why(&[("op", "pause"), ("by", &"x".repeat(2_000))]).contains("2000 bytes"));
    }
}
