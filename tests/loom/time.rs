//! The ledger's clock: somebody looks at it while requests read it.

use loom::sync::Arc;
use loom::thread;

use crate::clock::UnixMs;
use crate::offset::{LedgerOffset, Reading, lead_us};

fn reading(offset_ms: i64, at_us: u64) -> Reading {
    Reading { offset_us: offset_ms * 1_000, at_us, err_ms: 1 }
}

/// When everything is read, in microseconds: long after, so that the age counts.
const MONO_US: u64 = 900_000_000;

/// What the pair of a time and an offset shows.
fn shows(offset_ms: i64, at_us: u64) -> UnixMs {
    let mono_us = MONO_US - lead_us(MONO_US - at_us);
    UnixMs(mono_us.saturating_add_signed(offset_ms * 1_000) / 1_000)
}

#[test]
fn a_new_time_never_goes_with_an_old_offset() {
    // The server's clock was set back by a second between the two looks.
    let (old, new) = ((5_000, 100_000_000), (4_000, 800_000_000));
    loom::model(move || {
        let offset = Arc::new(LedgerOffset::default());
        offset.follow(reading(old.0, old.1));
        let looks = {
            let offset = offset.clone();
            thread::spawn(move || offset.follow(reading(new.0, new.1)))
        };
        let (seen, _) = offset.at(UnixMs(0), MONO_US);
        looks.join().expect("no panic");
        let may = [shows(old.0, old.1), shows(new.0, new.1), shows(new.0, old.1)];
        assert!(may.contains(&seen), "{seen:?} is none of {may:?}");
        assert_eq!(offset.at(UnixMs(0), MONO_US).0, shows(new.0, new.1));
    });
}

#[test]
fn a_clock_that_is_latched_never_goes_back() {
    loom::model(|| {
        let offset = Arc::new(LedgerOffset::default());
        let other = {
            let offset = offset.clone();
            thread::spawn(move || {
                let first = offset.latch(offset.at(UnixMs(7), 0).0);
                // The machine's clock is set back.
                (first, offset.latch(offset.at(UnixMs(3), 0).0))
            })
        };
        let first = offset.latch(offset.at(UnixMs(5), 0).0);
        let second = offset.latch(offset.at(UnixMs(1), 0).0);
        assert!(first <= second);
        let (first, second) = other.join().expect("no panic");
        assert!(UnixMs(7) <= first && first <= second);
    });
}
