//! The breaker to the shop, as purchases on several threads use it.

use loom::sync::Arc;
use loom::thread;

use crate::state::State;

/// A circuit that may be tried from 10 on.
fn open() -> Arc<State> {
    let state = Arc::new(State::default());
    assert!(state.failed(false, 10) && !state.failed(false, 11), "it opens once");
    assert_eq!(state.enter(|| 9), None);
    state
}

fn spawn<T: 'static>(
    state: &Arc<State>,
    run: impl FnOnce(&State) -> T + 'static,
) -> thread::JoinHandle<T> {
    let state = state.clone();
    thread::spawn(move || run(&state))
}

#[test]
fn one_at_a_time_tries() {
    loom::model(|| {
        let state = open();
        let others = [0, 1].map(|_| spawn(&state, |state| state.enter(|| 10)));
        let mut got = vec![state.enter(|| 10)];
        got.extend(others.map(|other| other.join().expect("no panic")));
        got.sort();
        assert_eq!(got, [None, None, Some(true)]);
    });
}

#[test]
fn nobody_is_left_trying() {
    loom::model(|| {
        let state = open();
        let tries = spawn(&state, |state| {
            if state.enter(|| 10) == Some(true) {
                state.gave_up(10);
            }
        });
        let fails = spawn(&state, |state| {
            if let Some(is_try) = state.enter(|| 10) {
                state.failed(is_try, 10);
            }
        });
        // One that was on its way since before hears an answer.
        state.answered();
        tries.join().expect("no panic");
        fails.join().expect("no panic");
        assert!(state.lets_through(|| 10), "{state:?}");
        assert!(state.enter(|| 10).is_some(), "{state:?}");
    });
}

#[test]
fn an_answer_ends_what_was_silent_before_it() {
    loom::model(|| {
        let state = Arc::new(State::default());
        let silent = spawn(&state, State::silent);
        let closed = state.answered();
        let count = silent.join().expect("no panic");
        assert!(!closed && count == 1);
        assert!(state.silent() <= 2);
    });
}
