//! Events that repeat: the first of a kind is told at once, then how often it came, every 10 s, until
//! it does not come any more.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::outcome::Unread;
use crate::ident::{Name, SaleId};

/// What repeats.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// An answer of the shop that no rule classifies.
    Unclassified {
        /// The upstream.
        upstream: Name,
        /// The sale.
        sale: SaleId,
        /// The shop's status.
        status: u16,
        /// The shop's code, if one was read.
        code: Option<String>,
        /// Why.
        why: Unread,
    },
    /// The shop says that its stock is gone while the ledger still has units.
    SoldOut {
        /// The sale.
        sale: SaleId,
        /// The pool.
        pool: Name,
    },
    /// An answer of the shop was too long to be read whole.
    TooLong {
        /// The upstream.
        upstream: Name,
        /// The sale.
        sale: SaleId,
        /// The bound in bytes.
        bytes_max: usize,
    },
}

/// What was told, and how often it came since.
#[derive(Clone, Debug, Default)]
pub struct Alarm {
    counts: Arc<Mutex<HashMap<Event, u64>>>,
}

impl Alarm {
    /// Tells of an event. Must be called within a `LocalSet`: it counts for a while.
    pub fn ring(&self, event: Event) {
        let first = {
            let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
            let is_full = counts.len() >= EVENTS_MAX;
            match counts.get_mut(&event) {
                Some(count) => {
                    *count += 1;
                    false
                }
                // The counters count on; kinds beyond these are not told apart.
                None if is_full => false,
                None => counts.insert(event.clone(), 0).is_none(),
            }
        };
        if first {
            event.tell(1);
            let alarm = self.clone();
            drop(tokio::task::spawn_local(async move { alarm.repeat(event).await }));
        }
    }

    async fn repeat(self, event: Event) {
        loop {
            tokio::time::sleep(PERIOD).await;
            let count = self.period(&event);
            if count == 0 {
                return;
            }
            event.tell(count);
        }
    }

    /// How often `event` came in the period that ends now; it is forgotten if it did not.
    fn period(&self, event: &Event) -> u64 {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.get_mut(event).map(std::mem::take).unwrap_or(0);
        if count == 0 {
            counts.remove(event);
        }
        count
    }
}

impl Event {
    fn tell(&self, count: u64) {
        match self {
            Event::Unclassified { .. } | Event::TooLong { .. } => {
                tracing::error!("{}", self.text(count));
            }
            Event::SoldOut { .. } => tracing::warn!("{}", self.text(count)),
        }
    }

    fn text(&self, count: u64) -> String {
        match self {
            Event::Unclassified { upstream, sale, status, code, why } => {
                let seen = match code {
                    Some(code) => format!("{status} code={code:?}"),
                    None => status.to_string(),
                };
                let by = match code {
                    Some(code) => format!("--code {}", shell(code)),
                    None => format!("--status {status}"),
                };
                format!(
                    "unclassified: {seen} × {count} → limbo ({why}): add a rule to \
                     upstream.{upstream}.outcome, then `penstock limbo reclassify {sale} {by} --as \
                     failed`, or `--as confirmed`"
                )
            }
            Event::SoldOut { sale, pool } => format!(
                "the shop says sold out × {count} while the ledger has units of pool {pool} of \
                 {sale}: compare the shop's stock with `penstock sale show {sale}`"
            ),
            Event::TooLong { upstream, sale, bytes_max } => format!(
                "answers of upstream {upstream} to purchases are longer than {bytes_max} bytes × \
                 {count} → limbo: raise gate.answer_bytes_max, then settle them with `penstock \
                 limbo list {sale}`"
            ),
        }
    }
}

/// A code of the shop's as one word of a command line.
fn shell(code: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if !code.is_empty() && code.bytes().all(plain) {
        return code.to_owned();
    }
    format!("'{}'", code.escape_debug().to_string().replace('\'', "'\\''"))
}

/// Between two tellings of one event.
const PERIOD: Duration = Duration::from_secs(10);
/// Kinds of event that are told apart at once.
const EVENTS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn event(code: Option<&str>) -> Event {
        Event::Unclassified {
            upstream: "shop".parse().expect("name"),
            sale: "shop/drop".parse().expect("id"),
            status: 200,
            code: code.map(str::to_owned),
            why: Unread::Unlisted,
        }
    }

    #[test]
    fn the_fix_is_a_command() {
        assert_eq!(
            event(Some("1007")).text(37),
            "unclassified: 200 code=\"1007\" × 37 → limbo (the code is in no list): add a rule to \
             upstream.shop.outcome, then `penstock limbo reclassify shop/drop --code 1007 --as \
             failed`, or `--as confirmed`"
        );
        assert!(event(Some("a\n'; rm")).text(1).contains("--code 'a\\n\\'\\''; rm'"));
        assert!(event(None).text(1).contains("--status 200"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_kind_is_told_once_and_then_counted() {
        let local = tokio::task::LocalSet::new();
        let alarm = Alarm::default();
        local
            .run_until(async {
                for _ in 0..5 {
                    alarm.ring(event(None));
                }
                assert_eq!(alarm.counts.lock().expect("lock").get(&event(None)), Some(&4));
                tokio::time::sleep(PERIOD * 2 + Duration::from_millis(10)).await;
                assert!(alarm.counts.lock().expect("lock").is_empty());
                for i in 0..200 {
                    alarm.ring(event(Some(&i.to_string())));
                }
                assert_eq!(alarm.counts.lock().expect("lock").len(), EVENTS_MAX);
            })
            .await;
    }
}
