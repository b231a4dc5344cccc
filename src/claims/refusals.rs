//! Says when claims of a sale begin to fail and when that is over, with how many: one line each,
//! however large the crowd.

use crate::clock::MonoMs;
use crate::ident::SaleId;

/// What goes wrong with the claims of one sale.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    /// Why, and since when that is so.
    why: Option<(String, MonoMs)>,
    claims: u64,
}

impl Refusals {
    /// So many claims of a batch had no answer of the ledger, and why. Returns whether it was said.
    pub(super) fn failed(&mut self, sale: &SaleId, claims: usize, why: &str, now: MonoMs) -> bool {
        self.claims += claims as u64;
        let is_said = self.why.as_ref().is_some_and(|(said, since)| {
            // Two troubles that take turns are no news each time.
            said == why || now.since(*since) < AGAIN_MS
        });
        if !is_said {
            tracing::error!("claims of {sale} are refused: {why}");
            self.why = Some((why.to_owned(), now));
        }
        !is_said
    }

    /// A batch was answered. Returns how many claims were refused before, if that has just ended.
    pub(super) fn answered(&mut self, sale: &SaleId) -> Option<u64> {
        self.why.take()?;
        let claims = std::mem::take(&mut self.claims);
        tracing::warn!("claims of {sale} are answered again; {claims} were refused meanwhile");
        Some(claims)
    }
}

/// Another reason is said after so long, in milliseconds.
const AGAIN_MS: u64 = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_makes_two_lines() {
        let (sale, mut refusals) = ("shop/drop".parse().unwrap(), Refusals::default());
        assert_eq!(refusals.answered(&sale), None);
        let mut said = 0;
        for batch in 0..1_000u64 {
            let why = if batch % 2 == 0 { "CLUSTERDOWN" } else { "no answer in time" };
            said += u32::from(refusals.failed(&sale, 64, why, MonoMs(batch)));
        }
        assert_eq!(said, 1);
        assert!(refusals.failed(&sale, 1, "LOADING", MonoMs(AGAIN_MS)), "another trouble, in time");
        assert_eq!(refusals.answered(&sale), Some(64_001));
        assert_eq!(refusals.answered(&sale), None);
        assert!(refusals.failed(&sale, 1, "LOADING", MonoMs(AGAIN_MS)), "a new trouble is news");
    }
}
