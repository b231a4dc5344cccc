//! `POST /v1/sales/SITE/SALE/warm`: its pages, fetched, looked at and pinned before anybody asks.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Context;
use super::explain::Question;
use super::reply::{Reply, Result};
use super::route::Ask;
use crate::clock::Clock;
use crate::ident::{Name, SaleId};
use crate::page::warm::{Expected, Warmed};
use crate::sale::{Availability, SaleBook};
use crate::store::BoxFuture;

/// What only a worker can do.
pub trait Crew: Send + Sync {
    /// Warms pages of a sale, as many as it can within half a minute. An error says what is wrong with
    /// what was asked for.
    fn warm(&self, wish: Wish) -> BoxFuture<'_, std::result::Result<Warm, Trouble>>;

    /// What would become of a request. An error says what of it makes no sense.
    fn explain(&self, question: Question) -> BoxFuture<'_, std::result::Result<Value, Trouble>>;
}

/// Why a worker did nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// What was asked for makes no sense.
    Bad(String),
    /// It gives no answer.
    Hangs,
}

impl From<Trouble> for Reply {
    fn from(trouble: Trouble) -> Reply {
        match trouble {
            Trouble::Bad(why) => Reply::bad(why),
            Trouble::Hangs => Reply::unavailable("a worker gives no answer: look at the log"),
        }
    }
}

/// Which pages are to be warm.
#[derive(Clone, Debug)]
pub struct Wish {
    /// The sale.
    pub sale: SaleId,
    /// Its activity.
    pub activity: Name,
    /// The cities; empty: all that are listed.
    pub cities: Vec<Name>,
    /// The host, where the site takes any.
    pub host: Option<String>,
    /// What is expected of each.
    pub expected: Expected,
    /// The first one, from 0: what the last answer gave as `next`.
    pub from: usize,
}

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Warm {
    /// The pages, in their order.
    pub pages: Vec<Warmed>,
    /// Where to go on; `None`: these were the last.
    pub next: Option<usize>,
    /// How many there are in all.
    pub total: usize,
    /// What the operator should know.
    pub note: Option<&'static str>,
}

/// The body.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Said {
    cities: Vec<Name>,
    host: Option<String>,
    verify: bool,
    bytes_min: u64,
    marker: Option<String>,
    from: usize,
}

/// Warms.
pub(super) async fn warm(id: &SaleId, ask: &Ask<'_>, context: &Arc<Context>) -> Result {
    let said: Said = if ask.body.is_empty() { Said::default() } else { ask.json()? };
    let sale = context.book.sale(id).ok_or_else(|| Reply::missing(format!("no sale {id}")))?;
    if sale.at(&context.clock.now()).availability == Availability::Ended {
        return Err(Reply::conflict(format!("{id} has ended: nothing is pinned for it")));
    }
    let crew = context.crew.get().ok_or_else(|| Reply::unavailable("the node is starting"))?;
    let expected = Expected { verify: said.verify, bytes_min: said.bytes_min, marker: said.marker };
    let wish = Wish {
        sale: id.clone(),
        activity: sale.state.activity.clone(),
        cities: said.cities,
        host: said.host,
        expected,
        from: said.from,
    };
    let warm = crew.warm(wish).await?;
    let pinned = warm.pages.iter().filter(|page| page.pinned).count();
    tracing::info!(
        "{id}: {pinned} of {} pages warm and pinned, says {}",
        warm.pages.len(),
        ask.who
    );
    Ok(Reply::ok(&json!(warm)))
}

/// Ends the pins of a sale.
pub(super) fn unpin(id: &SaleId, ask: &Ask<'_>, context: &Arc<Context>) -> Result {
    let unpinned = context.cache.unpin(|sale| sale == id);
    tracing::info!("{id}: {unpinned} pages unpinned, says {}", ask.who);
    Ok(Reply::ok(&json!({ "unpinned": unpinned })))
}

/// Ends the pins of sales that are over, or gone.
pub(super) fn unpin_ended(context: &Context) {
    let unpinned = context.cache.unpin(|id| is_over(id, &context.book, &context.clock));
    if unpinned > 0 {
        tracing::info!("{unpinned} pages unpinned: their sale is over");
    }
}

fn is_over(id: &SaleId, book: &SaleBook, clock: &Clock) -> bool {
    match book.sale(id) {
        Some(sale) => sale.at(&clock.now()).availability == Availability::Ended,
        None => book.is_synced(),
    }
}
