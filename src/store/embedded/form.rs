//! How records lie in the file. One user's records are one value: for each a head of fixed length,
//! then the name of its pool.
//!
//! ```text
//! kind 1 · claim 12 · attempt 16 · node 8 · deadline 8 · units 4 · length of the name 1 · name
//! ```
//! Numbers are big-endian. The user is the value's key.

use crate::clock::UnixMs;
use crate::ident::{AttemptId, ClaimId, Name, NodeId, UserKey};
use crate::ledger::{Record, RecordKind};

/// Writes a user's records.
pub(super) fn encode(records: &[Record]) -> Vec<u8> {
    let mut out = Vec::with_capacity(records.len() * 64);
    for record in records {
        out.push(letter(record.kind));
        out.extend_from_slice(&record.claim.0);
        out.extend_from_slice(&record.attempt.0);
        out.extend_from_slice(&record.node.0);
        out.extend_from_slice(&record.deadline.0.to_be_bytes());
        out.extend_from_slice(&record.units.to_be_bytes());
        let name = record.pool.as_str().as_bytes();
        // A name has at most 64 bytes.
        out.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
        out.extend_from_slice(name);
    }
    out
}

/// Reads what [`encode`] wrote; `None` where it did not.
pub(super) fn decode(user: UserKey, mut bytes: &[u8]) -> Option<Vec<Record>> {
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let rest = &mut bytes;
        let [kind] = take(rest)?;
        let claim = ClaimId(take(rest)?);
        let attempt = AttemptId(take(rest)?);
        let node = NodeId(take(rest)?);
        let deadline = UnixMs(u64::from_be_bytes(take(rest)?));
        let units = u32::from_be_bytes(take(rest)?);
        let [length] = take(rest)?;
        let (name, after) = rest.split_at_checked(usize::from(length))?;
        *rest = after;
        let pool = Name::new(std::str::from_utf8(name).ok()?).ok()?;
        let kind = kind_of(kind)?;
        records.push(Record { kind, user, claim, attempt, pool, units, node, deadline });
    }
    Some(records)
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*head)
}

fn letter(kind: RecordKind) -> u8 {
    match kind {
        RecordKind::Admitted => b'A',
        RecordKind::Pending => b'P',
        RecordKind::Limbo => b'L',
        RecordKind::Confirmed => b'C',
    }
}

fn kind_of(letter: u8) -> Option<RecordKind> {
    [RecordKind::Admitted, RecordKind::Pending, RecordKind::Limbo, RecordKind::Confirmed]
        .into_iter()
        .find(|kind| self::letter(*kind) == letter)
}
