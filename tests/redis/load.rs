//! Claims without end, and what became of each.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use penstock::ident::{SaleId, UserKey};
use penstock::ledger::{Claimed, Op, OpResult, Record};
use penstock::store::StoreError;
use tokio::task::JoinHandle;

use crate::rig::{Node, one};

/// A task that claims for one user after the other until it is stopped.
pub struct Load {
    is_over: Arc<AtomicBool>,
    admitted: Arc<AtomicU64>,
    task: JoinHandle<Tally>,
}

/// What became of the users.
#[derive(Debug, Default)]
pub struct Tally {
    pub admitted: BTreeSet<UserKey>,
    /// The store cannot say.
    pub unknown: BTreeSet<UserKey>,
    /// The store says that nothing was done.
    pub refused: BTreeSet<UserKey>,
    /// Each text that it said once.
    pub whys: BTreeSet<String>,
}

impl Load {
    pub fn start(node: &Arc<Node>, sale: &SaleId, first: u32, deadline: Duration) -> Load {
        let (is_over, admitted) = <(Arc<AtomicBool>, Arc<AtomicU64>)>::default();
        let (node, sale, over, count) =
            (node.clone(), sale.clone(), is_over.clone(), admitted.clone());
        let task = tokio::spawn(async move {
            let mut tally = Tally::default();
            for n in first.. {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                let mine = one(n);
                let op = Op::Claim(node.batch_of(&sale, vec![mine.clone()]));
                match node.tell(&sale, op, deadline).await {
                    Ok(reply) => match reply.result {
                        OpResult::Claimed(c) if matches!(c[..], [Claimed::Admitted { .. }]) => {
                            tally.admitted.insert(mine.user);
                            count.fetch_add(1, Ordering::Relaxed);
                        }
                        other => {
                            tally.note(format!("{other:?}"));
                            tally.refused.insert(mine.user);
                            // It may fail like any call: the next claim is told so again.
                            if is_learning(&other) {
                                let _ = node.report_of(&sale).await;
                            }
                        }
                    },
                    Err(StoreError::MaybeApplied) => {
                        tally.unknown.insert(mine.user);
                    }
                    Err(error) => {
                        tally.note(error.to_string());
                        tally.refused.insert(mine.user);
                    }
                }
                // Not as fast as it can: others test on this machine too.
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            tally
        });
        Load { is_over, admitted, task }
    }

    /// How many were admitted so far.
    pub fn admitted(&self) -> u64 {
        self.admitted.load(Ordering::Relaxed)
    }

    pub async fn stop(self) -> Tally {
        self.is_over.store(true, Ordering::Relaxed);
        self.task.await.expect("a tally")
    }
}

fn is_learning(result: &OpResult) -> bool {
    matches!(result, OpResult::Claimed(c) if matches!(c[..], [Claimed::Learning]))
}

impl Tally {
    /// Remembers what was said, and says it where the test fails.
    fn note(&mut self, why: String) {
        if !self.whys.contains(&why) {
            eprintln!("a claim: {why}");
            self.whys.insert(why);
        }
    }

    /// The ledger has nobody of whom the store said that nothing was done.
    pub fn check(&self, records: &[Record]) {
        for record in records {
            let is_known =
                self.admitted.contains(&record.user) || self.unknown.contains(&record.user);
            assert!(is_known, "{:?} was said not to be applied: {:?}", record, self.whys);
        }
    }

    /// And everybody who was admitted: nothing was lost.
    pub fn check_kept(&self, records: &[Record]) {
        self.check(records);
        let users: BTreeSet<UserKey> = records.iter().map(|record| record.user).collect();
        let lost = self.admitted.difference(&users).count();
        assert_eq!(lost, 0, "admissions are missing");
    }
}
