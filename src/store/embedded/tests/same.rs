//! The same sequences on a real file and in memory.

use proptest::prelude::*;
use redb::{Database, ReadableDatabase};

use super::*;
use crate::ledger::tests::generate::{aimed, steps};
use crate::ledger::{Memory, Record, RecordKind, apply};
use crate::store::embedded::form;
use crate::store::embedded::tables::{FileShard, RECORDS, Tables};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn the_file_does_what_memory_does(steps in steps(1..80), reopen in 1..40usize) {
        let place = Place::new();
        let mut file = File::open(&place.path()).expect("a file");
        let mut memory = Memory::new(sale_id());
        let mut states = Vec::new();
        for (batch, chunk) in steps.chunks(4).enumerate() {
            if batch > 0 && batch % reopen == 0 {
                drop(file);
                file = File::open(&place.path()).expect("the file again");
            }
            // Several operations in one transaction, as the writer does it.
            let database = file.database().expect("a database");
            let tx = database.begin_write().expect("a transaction");
            {
                let mut tables = Tables::open(&tx).expect("tables");
                for (now, op) in chunk {
                    let id = sale_id();
                    let mut shard = FileShard::new(&mut tables, &id);
                    let op = &aimed(op, &states);
                    let reply = apply(&mut shard, op, *now).expect("a reply");
                    let expected = memory.apply(op, *now);
                    states.extend(expected.state.clone());
                    prop_assert_eq!(reply.result, expected.result);
                    prop_assert_eq!(reply.state, expected.state);
                }
            }
            tx.commit().expect("a commit");
        }
        let records = file.records(&sale_id(), None, None, usize::MAX).expect("records");
        prop_assert_eq!(records, memory.page(None, None, usize::MAX));
        let states = file.states().expect("states");
        prop_assert_eq!(states.first(), memory.state());
        prop_assert!(users_without_records(&file.database().expect("a database")) == 0);
    }

    #[test]
    fn any_bytes_are_records_or_are_not(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Some(records) = form::decode(UserKey::default(), &bytes) {
            prop_assert_eq!(form::encode(&records), bytes);
        }
    }

    #[test]
    fn records_come_back_as_they_were(
        seed in any::<[u8; 8]>(), units in any::<u32>(), deadline in any::<u64>(),
        name in "[A-Za-z0-9._~-]{1,64}", kinds in proptest::collection::vec(0..4usize, 0..9),
    ) {
        use RecordKind::{Admitted, Confirmed, Limbo, Pending};
        let records: Vec<Record> = kinds.into_iter().map(|kind| Record {
            kind: [Admitted, Pending, Limbo, Confirmed][kind],
            user: UserKey([7; 16]),
            claim: ClaimId::random(),
            attempt: AttemptId::random(),
            pool: Name::new(&name).expect("a name"),
            units,
            node: NodeId(seed),
            deadline: UnixMs(deadline),
        }).collect();
        prop_assert_eq!(form::decode(UserKey([7; 16]), &form::encode(&records)), Some(records));
    }
}

fn users_without_records(database: &Database) -> usize {
    use redb::ReadableTable;
    let tx = database.begin_read().expect("a transaction");
    let table = tx.open_table(RECORDS).expect("the records");
    let entries = table.iter().expect("entries");
    entries.filter(|e| e.as_ref().is_ok_and(|(_, v)| v.value().is_empty())).count()
}
