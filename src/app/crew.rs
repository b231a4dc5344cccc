//! What the operator asks of the workers: pages are fetched by whom clients ask, too.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::admin::{Crew, Question, Trouble, Warm, Wish};
use crate::clock::Clock;
use crate::edge::{self, Entrance};
use crate::listener::{Errand, Order};
use crate::page::warm::Warmed;
use crate::store::BoxFuture;

/// The workers, one after the other.
pub(super) struct Workbench {
    workers: Vec<mpsc::Sender<Order<Entrance>>>,
    next: AtomicUsize,
    clock: Clock,
}

impl Workbench {
    pub(super) fn new(workers: Vec<mpsc::Sender<Order<Entrance>>>, clock: Clock) -> Workbench {
        Workbench { workers, next: AtomicUsize::new(0), clock }
    }

    /// Has `work` done by the next worker, which answers by the sender. `None`: it did not.
    async fn have<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Entrance, oneshot::Sender<T>) + Send + 'static,
    ) -> Option<T> {
        let at = self.next.fetch_add(1, Ordering::Relaxed) % self.workers.len().max(1);
        let (told, hears) = oneshot::channel();
        let errand: Errand<Entrance> = Box::new(move |entrance| work(entrance, told));
        self.workers.get(at)?.send(Order::Do(errand)).await.ok()?;
        tokio::time::timeout(ANSWER_LONGEST, hears).await.ok()?.ok()
    }

    /// The pages from `from` to `end`, side by side.
    async fn some(&self, wish: &Wish, end: usize) -> Result<Warm, Trouble> {
        let (wish, now) = (wish.clone(), self.clock.now());
        let warm = self.have(move |entrance, told| {
            let targets =
                entrance.targets(&wish.sale.site, &wish.activity, &wish.cities, &wish.host);
            let targets = match targets {
                Ok(targets) => targets,
                Err(why) => return drop(told.send(Err(why))),
            };
            let (total, note) = (targets.pages.len(), targets.note);
            let end = end.min(total);
            let pages: Vec<_> = targets.pages.into_iter().take(end).skip(wish.from).collect();
            let mut warming = JoinSet::new();
            for (at, target) in pages.into_iter().enumerate() {
                let (expected, sale) = (wish.expected.clone(), wish.sale.clone());
                let page = entrance.pages().warm(target, expected, sale, now, PAGE_LONGEST);
                warming.spawn_local(async move { (at, page.await) });
            }
            entrance.pages().spawn(async move {
                let mut pages: Vec<(usize, Warmed)> = Vec::new();
                while let Some(page) = warming.join_next().await {
                    // A panic on a worker ends the process.
                    pages.extend(page.ok());
                }
                pages.sort_by_key(|(at, _)| *at);
                let pages = pages.into_iter().map(|(_, page)| page).collect();
                let next = (end < total).then_some(end);
                // Who asked may have gone.
                let _ = told.send(Ok(Warm { pages, next, total, note }));
            });
        });
        warm.await.ok_or(Trouble::Hangs)?.map_err(Trouble::Bad)
    }
}

impl Crew for Workbench {
    fn explain(&self, question: Question) -> BoxFuture<'_, Result<Value, Trouble>> {
        Box::pin(async move {
            let Question { url, method, headers } = question;
            let method =
                method.parse().map_err(|_| Trouble::Bad(format!("`{method}` is no method")))?;
            let (asked, now) = (edge::Question { method, url, headers }, self.clock.now());
            let told =
                self.have(move |entrance, told| drop(told.send(entrance.explain(&asked, now))));
            let told = told.await.ok_or(Trouble::Hangs)?.map_err(Trouble::Bad)?;
            serde_json::to_value(told).map_err(|error| Trouble::Bad(error.to_string()))
        })
    }

    fn warm(&self, wish: Wish) -> BoxFuture<'_, Result<Warm, Trouble>> {
        Box::pin(async move {
            let (mut wish, began) = (wish, Instant::now());
            let mut all: Vec<Warmed> = Vec::new();
            loop {
                let some = self.some(&wish, wish.from + PAGES_AT_ONCE).await?;
                all.extend(some.pages);
                let done = Warm { pages: Vec::new(), ..some };
                match done.next {
                    Some(next) if began.elapsed() < TURN => wish.from = next,
                    _ => return Ok(Warm { pages: all, ..done }),
                }
            }
        })
    }
}

/// Pages that are fetched side by side: enough to be quick, and no crowd to the shop.
const PAGES_AT_ONCE: usize = 8;
/// What one answer covers; the client asks on.
const TURN: Duration = Duration::from_secs(20);
/// What one page may take.
const PAGE_LONGEST: Duration = Duration::from_secs(30);
/// Longer than a page.
const ANSWER_LONGEST: Duration = Duration::from_secs(35);
