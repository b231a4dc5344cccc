//! The deadlines of one worker's connections, all in one ordered set: a connection owns no timer, only
//! a place here. The set is swept by one task (`Drainer::keep_time`).
//!
//! A request moves its connection's deadline later, which writes one number: the set keeps the older
//! one, and moves the connection on when that comes up. So a busy connection touches the order once in
//! a keep-alive time, not once a request.

use std::collections::BTreeSet;
use std::mem;
use std::task::Waker;

/// Milliseconds since the set was made.
type Ms = u64;

/// One place for each connection: bounded by the caps on connections.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    places: Vec<Place>,
    free: Vec<u32>,
    /// At most one entry for each place.
    order: BTreeSet<(Ms, u32)>,
    /// The last sweep. Time is read there and nowhere else.
    swept: Ms,
}

#[derive(Debug)]
struct Place {
    /// The deadline.
    due: Ms,
    /// Under what the place stands in the order, [`NEVER`] if it does not.
    queued: Ms,
    /// Whom to wake. It stays until the place is free or another task waits.
    waker: Option<Waker>,
}

/// What became of a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// The deadline is past.
    Past,
    /// The waker will be woken when it is.
    Pending,
    /// The same, and it is earlier than all others: the sweeper has to hear of it.
    Soonest,
}

const NEVER: Ms = Ms::MAX;

impl Deadlines {
    /// A place for one connection.
    pub(super) fn enter(&mut self) -> u32 {
        let place = Place { due: NEVER, queued: NEVER, waker: None };
        match self.free.pop() {
            Some(at) => {
                self.places[at as usize] = place;
                at
            }
            None => {
                self.places.push(place);
                // Connections are descriptors, of which there are fewer.
                u32::try_from(self.places.len() - 1).unwrap_or(u32::MAX)
            }
        }
    }

    /// Gives a place back. The waker is the caller's to drop, when nothing is borrowed any more.
    pub(super) fn leave(&mut self, at: u32) -> Option<Waker> {
        let place = &mut self.places[at as usize];
        let (queued, waker) = (mem::replace(&mut place.queued, NEVER), place.waker.take());
        self.order.remove(&(queued, at));
        self.free.push(at);
        waker
    }

    /// Has `waker` woken at `due` or soon after, instead of what the place waited for before.
    pub(super) fn wait(&mut self, at: u32, due: Ms, waker: &Waker) -> Wait {
        let place = &mut self.places[at as usize];
        place.due = due;
        if due <= self.swept {
            let queued = mem::replace(&mut place.queued, NEVER);
            self.order.remove(&(queued, at));
            return Wait::Past;
        }
        match &mut place.waker {
            Some(old) => old.clone_from(waker),
            None => place.waker = Some(waker.clone()),
        }
        if due >= place.queued {
            return Wait::Pending;
        }
        let queued = mem::replace(&mut place.queued, due);
        self.order.remove(&(queued, at));
        let soonest = self.soonest().is_none_or(|first| due < first);
        self.order.insert((due, at));
        if soonest { Wait::Soonest } else { Wait::Pending }
    }

    /// When the next sweep is due.
    pub(super) fn soonest(&self) -> Option<Ms> {
        self.order.first().map(|(due, _)| *due)
    }

    /// Wakes everyone whose deadline is `now` or earlier.
    pub(super) fn sweep(&mut self, now: Ms) {
        self.swept = now.max(self.swept);
        while let Some(&(queued, at)) = self.order.first()
            && queued <= now
        {
            self.order.pop_first();
            let place = &mut self.places[at as usize];
            place.queued = NEVER;
            if place.due > now {
                place.queued = place.due;
                self.order.insert((place.due, at));
            } else if let Some(waker) = &place.waker {
                waker.wake_by_ref();
            }
        }
    }

    /// Wakes everyone who has ever waited.
    pub(super) fn wake_all(&self) {
        for waker in self.places.iter().filter_map(|place| place.waker.as_ref()) {
            waker.wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::task::Wake;

    use proptest::prelude::*;

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicU32);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[derive(Clone, Debug)]
    enum Op {
        Enter,
        Leave(usize),
        Wait(usize, Ms),
        Pass(Ms),
    }

    /// One connection of the model: its place, its deadline if it waits, and its waker.
    struct Model {
        at: u32,
        due: Option<Ms>,
        woken: Arc<Woken>,
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            Just(Op::Enter),
            any::<usize>().prop_map(Op::Leave),
            (any::<usize>(), 0..200u64).prop_map(|(who, due)| Op::Wait(who, due)),
            (0..60u64).prop_map(Op::Pass),
        ]
    }

    proptest! {
        /// Against a plain list: after each sweep exactly those are woken whose deadline is past,
        /// each once, and the sweeper is told of every deadline before the one it sleeps for.
        #[test]
        fn as_a_plain_list(ops in proptest::collection::vec(op(), 1..200)) {
            let (mut set, mut now) = (Deadlines::default(), 0);
            let mut list: Vec<Model> = Vec::new();
            let mut sleeps_until = None;
            for op in ops {
                match op {
                    Op::Enter => {
                        let at = set.enter();
                        prop_assert!(list.iter().all(|other| other.at != at));
                        list.push(Model { at, due: None, woken: Arc::default() });
                    }
                    Op::Leave(who) if !list.is_empty() => {
                        let gone = list.swap_remove(who % list.len());
                        drop(set.leave(gone.at));
                        prop_assert_eq!(Arc::strong_count(&gone.woken), 1);
                    }
                    Op::Wait(who, ms) if !list.is_empty() => {
                        let who = who % list.len();
                        let (due, one) = (now + ms, &mut list[who]);
                        let waker = Waker::from(one.woken.clone());
                        let wait = set.wait(one.at, due, &waker);
                        prop_assert_eq!(wait == Wait::Past, ms == 0);
                        if wait == Wait::Soonest {
                            sleeps_until = Some(due);
                        }
                        one.due = (ms > 0).then_some(due);
                        prop_assert!(ms == 0 || sleeps_until.is_some_and(|at| at <= due));
                    }
                    Op::Pass(ms) => {
                        now += ms;
                        set.sweep(now);
                        for one in &mut list {
                            let past = one.due.is_some_and(|due| due <= now);
                            let woken = one.woken.0.swap(0, Ordering::Relaxed);
                            prop_assert_eq!(woken, u32::from(past));
                            one.due = one.due.filter(|_| !past);
                        }
                        sleeps_until = set.soonest();
                        let earliest = list.iter().filter_map(|one| one.due).min();
                        prop_assert!(earliest.is_none() || sleeps_until <= earliest);
                    }
                    Op::Leave(_) | Op::Wait(..) => {}
                }
                prop_assert!(set.order.len() <= list.len(), "one entry for each connection");
                prop_assert_eq!(set.places.len(), list.len() + set.free.len());
            }
        }
    }
}
