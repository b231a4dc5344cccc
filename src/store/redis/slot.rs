//! The slots of a cluster: which slot a key is in, and which master has a slot.

use redis::Value;

use super::decode;
use super::keys::{self, Part};
use crate::config::redis_url::Host;
use crate::ident::SaleId;

/// One of the 16,384 slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Slot(u16);

/// Which master has which slot, as far as is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Table {
    owners: Vec<Host>,
    /// Place in `owners`, by slot; as long as there are slots, or empty.
    of: Vec<Option<u16>>,
}

impl Slot {
    /// The slot of all keys of a sale, since they carry its name as hash tag.
    pub(super) fn of_sale(sale: &SaleId) -> Slot {
        Slot::of_key(&keys::of(sale, Part::Ledger))
    }

    /// The slot of a key: its hash tag alone counts, where it has one.
    pub(super) fn of_key(key: &str) -> Slot {
        let tag = key
            .split_once('{')
            .and_then(|(_, rest)| rest.split_once('}'))
            .map(|(tag, _)| tag)
            .filter(|tag| !tag.is_empty());
        Slot(crc16(tag.unwrap_or(key).as_bytes()) % SLOTS)
    }
}

impl Table {
    /// Reads `CLUSTER SLOTS`. A server that does not know its own name is called `asked`.
    pub(super) fn read(value: Value, asked: &Host) -> Option<Table> {
        let Value::Array(ranges) = value else { return None };
        let mut table = Table { owners: Vec::new(), of: vec![None; usize::from(SLOTS)] };
        for range in ranges {
            let Value::Array(parts) = range else { return None };
            let mut parts = parts.into_iter();
            let mut number = || match parts.next() {
                Some(Value::Int(n)) => u16::try_from(n).ok().filter(|n| *n < SLOTS),
                _ => None,
            };
            let (first, last) = (number()?, number()?);
            let owner = table.place_of(host(parts.next()?, asked)?);
            table.of.get_mut(usize::from(first)..=usize::from(last))?.fill(Some(owner));
        }
        Some(table)
    }

    /// The master of a slot.
    pub(super) fn owner(&self, slot: Slot) -> Option<&Host> {
        let at = (*self.of.get(usize::from(slot.0))?)?;
        self.owners.get(usize::from(at))
    }

    /// Every master.
    pub(super) fn owners(&self) -> &[Host] {
        &self.owners
    }

    /// Slots that no master has.
    pub(super) fn orphans(&self) -> usize {
        usize::from(SLOTS) - self.of.iter().flatten().count()
    }

    /// The table with one slot moved.
    pub(super) fn with(&self, slot: Slot, owner: Host) -> Table {
        let mut table = self.clone();
        table.of.resize(usize::from(SLOTS), None);
        let owner = table.place_of(owner);
        if let Some(place) = table.of.get_mut(usize::from(slot.0)) {
            *place = Some(owner);
        }
        table
    }

    /// A hash tag whose slot `owner` has.
    pub(super) fn tag_of(&self, owner: &Host) -> Option<String> {
        (0..TAGS_TRIED)
            .map(|n| format!("probe-{n}"))
            .find(|tag| self.owner(Slot::of_key(tag)) == Some(owner))
    }

    fn place_of(&mut self, owner: Host) -> u16 {
        let known = self.owners.iter().position(|known| *known == owner);
        let place = known.unwrap_or_else(|| {
            self.owners.push(owner);
            self.owners.len() - 1
        });
        // At most as many owners as slots.
        u16::try_from(place).unwrap_or(u16::MAX)
    }
}

/// `[host, port, id, …]`; the host may be empty or null: then it is the one that was asked.
fn host(value: Value, asked: &Host) -> Option<Host> {
    let Value::Array(parts) = value else { return None };
    let mut parts = parts.into_iter();
    let name = match parts.next()? {
        Value::Nil => String::new(),
        name => decode::text(name).ok()?,
    };
    let Some(Value::Int(port)) = parts.next() else { return None };
    let name = if name.is_empty() || name == "?" { asked.name.clone() } else { name };
    Some(Host { name, port: u16::try_from(port).ok().filter(|port| *port > 0)? })
}

/// CRC16 as XMODEM has it: polynomial 0x1021, start 0.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| {
            (crc << 1) ^ if crc & 0x8000 == 0 { 0 } else { 0x1021 }
        })
    })
}

const SLOTS: u16 = 16_384;

/// One of so many tags is almost surely with a master that has a hundred slots.
const TAGS_TRIED: u32 = 2_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str) -> Host {
        Host { name: name.into(), port: 6379 }
    }

    fn range(first: i64, last: i64, name: &str) -> Value {
        let name = Value::BulkString(name.as_bytes().to_vec());
        let owner = Value::Array(vec![name, Value::Int(6379)]);
        Value::Array(vec![Value::Int(first), Value::Int(last), owner])
    }

    #[test]
    fn keys_have_the_slots_that_redis_gives_them() {
        // `CLUSTER KEYSLOT` says so.
        for (key, slot) in [
            ("foo", 12_182),
            ("123456789", 12_739),
            ("{user1000}.following", 3_443),
            ("foo{}{bar}", 8_363),
            ("foo{{bar}}zap", 4_015),
            ("foo{bar}{zap}", 5_061),
        ] {
            assert_eq!(Slot::of_key(key), Slot(slot), "{key}");
        }
        let sale: SaleId = "shop/drop".parse().expect("a name");
        for part in Part::ALL {
            assert_eq!(Slot::of_key(&keys::of(&sale, part)), Slot::of_sale(&sale));
        }
    }

    #[test]
    fn a_table_is_read_and_changed() {
        let value = Value::Array(vec![range(0, 8_191, "a"), range(8_192, 16_382, "")]);
        let table = Table::read(value, &host("asked")).expect("a table");
        assert_eq!(table.owner(Slot(8_191)), Some(&host("a")));
        assert_eq!(table.owner(Slot(8_192)), Some(&host("asked")));
        assert_eq!((table.owner(Slot(16_383)), table.orphans()), (None, 1));
        let moved = table.with(Slot(16_383), host("b"));
        assert_eq!((moved.owner(Slot(16_383)), moved.orphans()), (Some(&host("b")), 0));
        let tag = table.tag_of(&host("a")).expect("a tag");
        assert_eq!(table.owner(Slot::of_key(&tag)), Some(&host("a")));
        assert_eq!(table.tag_of(&host("b")), None);
        assert_eq!(Table::default().with(Slot(5), host("b")).owner(Slot(5)), Some(&host("b")));
    }

    #[test]
    fn a_table_that_makes_no_sense_is_refused() {
        for bad in [
            Value::Nil,
            Value::Array(vec![Value::Int(1)]),
            Value::Array(vec![range(5, 3, "a")]),
            Value::Array(vec![range(0, 16_384, "a")]),
            Value::Array(vec![range(-1, 1, "a")]),
        ] {
            // A range that ends before it begins is empty to Rust's slices, or out of bounds.
            let table = Table::read(bad.clone(), &host("x"));
            assert!(table.is_none_or(|table| table.orphans() == 16_384), "{bad:?}");
        }
    }
}
