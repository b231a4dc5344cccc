//! How a decision is said: its facts from the sale, ready-made where it is said often.

use std::borrow::Cow;
use std::sync::Arc;

use http::Response;

use super::cors::{Cors, Origin};
use crate::answer::Answer;
use crate::answers::{Answers, Facts, Form, jittered};
use crate::config::schema::Restock;
use crate::http::{Exchange, Ready, ResponseBody};
use crate::outcome::Reason;
use crate::sale::{Availability, SaleSnapshot};

/// A decision of ours about a purchase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// The reason.
    pub reason: Reason,
    /// Index of the pool that was asked for.
    pub pool: Option<usize>,
    /// Units that are left, or that the user may still buy.
    pub max_units: Option<u32>,
    /// The order's number.
    pub order: Option<String>,
    /// What was wrong.
    pub detail: Option<String>,
    /// The least wait that can help, in milliseconds.
    pub wait_ms: u64,
}

impl From<Reason> for Said {
    fn from(reason: Reason) -> Said {
        Said { reason, pool: None, max_units: None, order: None, detail: None, wait_ms: 0 }
    }
}

impl Said {
    /// With what was wrong.
    pub fn because(reason: Reason, detail: impl Into<String>) -> Said {
        Said { detail: Some(detail.into()), ..Said::from(reason) }
    }

    /// About a pool.
    pub fn of_pool(reason: Reason, pool: usize) -> Said {
        Said { pool: Some(pool), ..Said::from(reason) }
    }
}

/// Who is spoken to, and in which form.
#[derive(Clone, Debug)]
pub struct Listener<'a> {
    /// Style, language, JSON or HTML.
    pub form: Form,
    /// The origin of the script that buys, if it may.
    pub origin: Option<Origin>,
    /// The exchange; a copy only where it has to outlive the decision.
    pub exchange: Cow<'a, Exchange>,
}

/// What an answer is made of.
#[derive(Clone, Copy, Debug)]
pub struct Voice<'a> {
    /// The shop's words.
    pub answers: &'a Answers,
    /// The site's other origins.
    pub cors: &'a Cors,
    /// The sale.
    pub sale: &'a SaleSnapshot,
}

impl Listener<'_> {
    /// A copy to keep.
    pub fn into_owned(self) -> Listener<'static> {
        Listener {
            exchange: Cow::Owned(self.exchange.into_owned()),
            form: self.form,
            origin: self.origin,
        }
    }
}

impl Voice<'_> {
    /// The ready-made answer that says `said`.
    pub fn ready(&self, said: &Said, listener: &Listener<'_>) -> Ready {
        let is_final = match said.reason {
            Reason::Ended => Some(true),
            Reason::SoldOut => Some(match said.pool.and_then(|i| self.sale.state.pools.get(i)) {
                // The pool's own latch: nothing comes back, unless somebody restocks.
                Some(pool) => self.sale.state.restock == Restock::Never && pool.limbo == 0,
                None => self.sale.is_final(Availability::SoldOut),
            }),
            _ => None,
        };
        let is_dynamic = said.max_units.is_some() || said.order.is_some() || said.detail.is_some();
        let answer = if is_dynamic {
            self.make(said, is_final, listener).into()
        } else {
            let key = memo_key(said, is_final, listener);
            self.sale.memo().get(key, || self.make(said, is_final, listener))
        };
        let mut ready = self.answers.ready(answer, said.reason, &listener.exchange);
        ready.fill.retry_after_ms = self.wait_ms(said, ready.fill.retry_after_ms, listener);
        ready
    }

    /// The same as a message for hyper.
    pub fn response(&self, said: &Said, listener: &Listener<'_>) -> Response<ResponseBody> {
        let ready = self.ready(said, listener);
        ready.answer.response(&ready.fill).map(ResponseBody::Full)
    }

    fn make(&self, said: &Said, is_final: Option<bool>, listener: &Listener<'_>) -> Arc<Answer> {
        let pools = &self.sale.state.pools;
        // A sale of one thing does not name it.
        let pool = said.pool.filter(|_| pools.len() > 1).and_then(|i| pools.get(i));
        let facts = Facts {
            detail: said.detail.as_deref(),
            is_final,
            pool: pool.map(|pool| pool.name.as_str()),
            max_units: said.max_units,
            opens_at: (said.reason == Reason::NotStarted).then_some(self.sale.state.opens_at),
            order: said.order.as_deref(),
            allow: (said.reason == Reason::Method).then_some(super::cors::ALLOW),
            allow_origin: listener.origin.and_then(|origin| self.cors.name(origin)),
        };
        self.answers.make(listener.form, said.reason, &facts)
    }

    /// The advised wait: until T0 and a jitter, or until the limit allows it, or the reason's own.
    fn wait_ms(&self, said: &Said, usual_ms: u32, listener: &Listener<'_>) -> u32 {
        let until_open = match said.reason {
            Reason::NotStarted => self.sale.state.opens_at.since(listener.exchange.now.ledger),
            _ => 0,
        };
        let least = said.wait_ms.saturating_add(until_open);
        let spread = if until_open > 0 { usual_ms } else { 0 };
        let jitter = if said.wait_ms > 0 { jittered(WAIT_JITTER_MS) } else { spread };
        let wait = least.saturating_add(u64::from(jitter)).max(u64::from(usual_ms));
        u32::try_from(wait).unwrap_or(u32::MAX).min(WAIT_LONGEST_MS)
    }
}

/// A key of the sale's memo. Keys of the gate have the highest bit set; the availability flag's have
/// not.
fn memo_key(said: &Said, is_final: Option<bool>, listener: &Listener<'_>) -> u64 {
    let pool = said.pool.map_or(0, |i| i as u64 + 1);
    let origin = listener.origin.map_or(0, |origin| u64::from(origin.index()) + 1);
    let is_final = is_final.map_or(0, |is_final| 1 + u64::from(is_final));
    1 << 63
        | (said.reason as u64) << 48
        | u64::from(listener.form.0) << 40
        | is_final << 36
        | pool << 20
        | origin
}

/// Longest advised wait, in milliseconds: a day. Who asks weeks before T0 may look again tomorrow.
const WAIT_LONGEST_MS: u32 = 86_400_000;
/// Centre of what is added to the wait of a limit, in milliseconds.
const WAIT_JITTER_MS: u32 = 300;
