//! An answer as one worker holds it. All workers give out the same few answers: if each request
//! counted itself on the answer's own reference count, that one cache line would travel between the
//! processors sixty thousand times a second. So each thread keeps handles of its own, and requests
//! count themselves on those.

use std::cell::{OnceCell, RefCell};
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;

use super::fields::Fields;
use super::{Answer, Fill};

/// A thread's handle on an [`Answer`]. Cloning it writes nothing that another thread reads.
#[derive(Clone, Debug)]
pub struct Local(Rc<Held>);

/// What a thread's handles share: its one count on the answer, and what it made of it. That is for
/// few answers at a time, those that are asked for, and not for all that are stored.
#[derive(Debug)]
struct Held {
    answer: Arc<Answer>,
    /// The head's fields for hyper, where it was asked for.
    fields: OnceCell<Box<Fields>>,
    /// The 304 for who has a copy.
    unmodified: OnceCell<Local>,
}

impl Local {
    /// This thread's handle on `answer`.
    pub fn of(answer: &Arc<Answer>) -> Local {
        HANDLES.with_borrow_mut(|handles| handles.of(answer))
    }

    /// Whether both are the same answer, not only equal ones.
    pub fn is_same(&self, other: &Local) -> bool {
        Rc::ptr_eq(&self.0, &other.0) || self.is(&other.0.answer)
    }

    /// Its 304, made by `make` where this thread has none.
    pub fn unmodified(&self, make: impl FnOnce() -> Arc<Answer>) -> Local {
        self.0.unmodified.get_or_init(|| Local::from(make())).clone()
    }

    /// [`Answer::response`], faster the second time.
    pub fn response(&self, fill: &Fill) -> http::Response<Bytes> {
        let fields = self.0.fields.get_or_init(|| Box::new(self.0.answer.fields()));
        self.response_with(fields, fill)
    }

    fn is(&self, answer: &Arc<Answer>) -> bool {
        Arc::ptr_eq(&self.0.answer, answer)
    }
}

impl From<Arc<Answer>> for Local {
    fn from(answer: Arc<Answer>) -> Local {
        let (fields, unmodified) = Default::default();
        Local(Rc::new(Held { answer, fields, unmodified }))
    }
}

impl Deref for Local {
    type Target = Answer;

    fn deref(&self) -> &Answer {
        &self.0.answer
    }
}

/// Handles that were asked for lately, placed by the address of their answer. As long as a handle is
/// here its answer lives, so that an address means one answer.
struct Handles {
    places: Vec<Option<Local>>,
    /// Bytes of the answers in their places.
    bytes: usize,
    /// Handles given out since the places were emptied.
    given: u32,
}

impl Handles {
    const fn new() -> Handles {
        Handles { places: Vec::new(), bytes: 0, given: 0 }
    }

    fn of(&mut self, answer: &Arc<Answer>) -> Local {
        let at = place(answer);
        self.given += 1;
        match self.places.get(at) {
            Some(Some(local)) if local.is(answer) && self.given < GIVEN_MAX => local.clone(),
            _ => self.keep(at, answer),
        }
    }

    /// Makes a handle and keeps it, unless its answer alone is too much to keep.
    #[cold]
    fn keep(&mut self, at: usize, answer: &Arc<Answer>) -> Local {
        let local = Local::from(answer.clone());
        let weight = answer.weight();
        if weight > BYTES_MAX / 8 {
            return local;
        }
        if self.given >= GIVEN_MAX || self.bytes + weight > BYTES_MAX || self.places.is_empty() {
            self.places.clear();
            self.places.resize(PLACES, None);
            (self.bytes, self.given) = (0, 0);
        }
        let gone = self.places[at].replace(local.clone());
        self.bytes = self.bytes + weight - gone.map_or(0, |gone| gone.weight());
        local
    }
}

fn place(answer: &Arc<Answer>) -> usize {
    // Answers are far apart: the lowest bits of an address say nothing. Fibonacci hashing.
    let address = Arc::as_ptr(answer) as usize as u64;
    usize::try_from(address.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (64 - PLACES.ilog2()))
        .unwrap_or(0)
}

thread_local! {
    static HANDLES: RefCell<Handles> = const { RefCell::new(Handles::new()) };
}

/// Places of one thread.
const PLACES: usize = 1024;
/// Bytes of answers that a thread keeps from being freed: of those that nobody else holds any more,
/// until their places are emptied. What it made of them is not counted: some hundred bytes each.
const BYTES_MAX: usize = 8 * 1024 * 1024;
/// After so many handles all places are emptied, so that what is gone does not stay: about every
/// second of a busy worker.
const GIVEN_MAX: u32 = 65_536;

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::StatusCode;

    use super::*;
    use crate::answer::AnswerBuilder;

    fn answer(bytes: usize) -> Arc<Answer> {
        AnswerBuilder::new(StatusCode::OK).body(Bytes::from(vec![b'x'; bytes])).build()
    }

    #[test]
    fn a_thread_counts_on_its_own_handle() {
        let answer = answer(10);
        let locals: Vec<_> = (0..100).map(|_| Local::of(&answer)).collect();
        assert!(locals.iter().all(|local| local.is_same(&locals[0])));
        assert_eq!(Arc::strong_count(&answer), 2, "once for the whole thread");
    }

    #[test]
    fn answers_in_one_place_are_told_apart() {
        let answers: Vec<_> = (0..4 * PLACES).map(|_| answer(1)).collect();
        for _ in 0..2 {
            for answer in &answers {
                assert!(Local::of(answer).is(answer));
            }
        }
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut handles = Handles::new();
        let large = answer(BYTES_MAX / 8);
        assert!(handles.of(&large).is(&large));
        assert_eq!(Arc::strong_count(&large), 1, "too large to keep");
        for n in 0..8 * PLACES {
            handles.of(&answer((BYTES_MAX / 16) >> (n % 20)));
            let kept: usize = handles.places.iter().flatten().map(|local| local.weight()).sum();
            assert!(kept <= BYTES_MAX && kept == handles.bytes);
        }
        let last = answer(1);
        for _ in 0..=GIVEN_MAX {
            handles.of(&last);
        }
        assert_eq!(handles.places.iter().flatten().count(), 1, "all others are gone");
    }
}
