//! The searches: each to its end, and with each guard taken away until it finds what goes wrong.

use std::time::Instant;

use stateright::{Checker, HasDiscoveries};

use super::*;
use crate::mutation::ALL;

/// One unit and two users: what a single failover can do.
const FAILOVER: Bounds = Bounds {
    users: 2,
    stock: 1,
    claims: 2,
    failovers: 1,
    lag: 1,
    may_be_empty: true,
    crashes: 0,
    beyond: 0,
    without: Mutation::None,
};

/// A node that dies and comes back.
const CRASH: Bounds =
    Bounds { users: 2, claims: 3, failovers: 0, may_be_empty: false, crashes: 1, ..FAILOVER };

/// Two units, three users, no fault but lost answers.
const CALM: Bounds = Bounds { users: 3, stock: 2, claims: 3, crashes: 0, ..CRASH };

/// Both at once: at most the lost writes too many.
const BOTH: Bounds = Bounds { crashes: 1, may_be_empty: false, beyond: 1, ..FAILOVER };

/// Searches everything within `bounds` that takes at most `depth` steps.
fn holds(bounds: Bounds, depth: usize) {
    let began = Instant::now();
    let checker = bounds.checker().threads(2).target_max_depth(depth).spawn_bfs().join();
    println!("{bounds:?}: {} states, {:?}", checker.unique_state_count(), began.elapsed());
    checker.assert_properties();
    assert!(checker.is_done());
}

#[test]
fn a_failover_that_forgets_sells_nothing_twice() {
    holds(FAILOVER, 10);
}

#[test]
fn a_crash_loses_nothing() {
    holds(CRASH, 10);
}

#[test]
fn lost_answers_lose_nothing() {
    holds(CALM, 8);
}

#[test]
fn a_failover_and_a_crash_cost_at_most_the_lost_writes() {
    holds(BOTH, 9);
}

/// A guard is needed where some search finds what goes wrong without it.
#[test]
fn without_each_guard_something_goes_wrong() {
    for without in ALL {
        let found = [FAILOVER, CRASH, CALM].iter().find_map(|bounds| {
            let bounds = Bounds { without: *without, claims: bounds.claims.max(3), ..*bounds };
            let checker = bounds
                .checker()
                .threads(2)
                .finish_when(HasDiscoveries::AnyFailures)
                .target_state_count(200_000)
                .spawn_bfs()
                .join();
            let found = checker.discoveries();
            let wrong = found
                .iter()
                .find(|(name, _)| bounds.property(name).expectation.discovery_is_failure())?;
            Some((wrong.0.to_owned(), wrong.1.clone().into_actions()))
        });
        let (name, actions) = found.unwrap_or_else(|| panic!("nothing goes wrong: {without:?}"));
        println!("{without:?}: not \"{name}\" after {actions:?}");
    }
}
