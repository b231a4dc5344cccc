//! Answers that are made once for a version of a sale and used until the next.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::answer::{Answer, Local};

/// Most answers of one memo; beyond it they are made for each request.
const ENTRIES_MAX: usize = 4096;

/// Ready-made answers of one version of a sale, by a key that their maker chooses. Reading takes no
/// lock and writes nothing that others read.
#[derive(Debug, Default)]
pub struct Memo {
    answers: ArcSwap<HashMap<u64, Arc<Answer>, BuildHasherDefault<Spread>>>,
}

impl Memo {
    /// The answer under `key`, made by `make` the first time.
    pub fn get(&self, key: u64, make: impl FnOnce() -> Arc<Answer>) -> Local {
        let answers = self.answers.load();
        if let Some(answer) = answers.get(&key) {
            return Local::of(answer);
        }
        let answer = make();
        if answers.len() < ENTRIES_MAX {
            self.answers.rcu(|answers| {
                let mut answers = HashMap::clone(answers);
                answers.insert(key, answer.clone());
                answers
            });
        }
        answer.into()
    }
}

/// Spreads keys that we chose ourselves, a few small numbers packed into one: no stranger can make
/// them collide, so they need no secret.
#[derive(Debug, Default)]
struct Spread(u64);

impl Hasher for Spread {
    fn write_u64(&mut self, key: u64) {
        let product = (key ^ key >> 32).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 = product ^ product >> 32;
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(self.0.rotate_left(8) ^ u64::from(*byte)));
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::AnswerBuilder;

    #[test]
    fn an_answer_is_made_once() {
        let memo = Memo::default();
        let make = || AnswerBuilder::new(http::StatusCode::OK).build();
        let first = memo.get(7, make);
        let second = memo.get(7, || unreachable!("made twice"));
        assert!(first.is_same(&second));
    }
}
