//! Answers that are made once for a version of a sale and used until the next.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustc_hash::FxHashMap;

use crate::answer::{Answer, Local};

/// Most answers of one memo; beyond it they are made for each request.
const ENTRIES_MAX: usize = 4096;

/// Ready-made answers of one version of a sale, by a key that their maker chooses. Reading takes no
/// lock and writes nothing that others read.
#[derive(Debug, Default)]
pub struct Memo {
    answers: ArcSwap<FxHashMap<u64, Arc<Answer>>>,
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
                let mut answers = FxHashMap::clone(answers);
                answers.insert(key, answer.clone());
                answers
            });
        }
        answer.into()
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
