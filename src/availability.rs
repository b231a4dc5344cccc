//! The availability flag: a ready-made answer from the sale's snapshot. It never waits and never
//! touches the network.
//!
//! What is said stands in [`json`]; in which style, in [`style`]. An answer is made once for a version
//! of the sale, a style and a view of it, and lives in the sale's memo; only the clock and the age are
//! patched in for each request.

pub mod json;
pub mod style;

use std::sync::Arc;

use http::{HeaderValue, Method, StatusCode};
use rustc_hash::FxHashMap;

use crate::answer::{Answer, AnswerBuilder, Fill, Local, SlotKind};
use crate::config::schema;
use crate::http::{Exchange, Head, Ready, lists_tag};
use crate::ident::Name;
use crate::sale::{Availability, Hint, SaleSnapshot, View};
use style::{Form, Styles};

/// How availability is told, for all sites.
#[derive(Debug)]
pub struct Availabilities {
    styles: Styles,
    /// Seconds that a CDN may keep an answer, by site; none where it may not.
    cache_s: FxHashMap<Name, u32>,
    preflight: Arc<Answer>,
}

/// What one ready-made answer depends on beside the version of its sale.
#[derive(Clone, Copy, Debug)]
struct Variant {
    form: Form,
    view: View,
    spread: bool,
    is_unmodified: bool,
    /// Seconds a shared cache may keep it, 0: not at all.
    cache_s: u32,
}

impl Availabilities {
    /// Reads `[answers]` and the sites' settings; an error says which is wrong.
    pub fn new(settings: &schema::Settings) -> Result<Availabilities, String> {
        let mut cache_s = FxHashMap::default();
        for (name, site) in &settings.site {
            let span = site.activity.as_ref().and_then(|a| a.availability_cache);
            let Some(span) = span.filter(|s| s.ms > 0) else { continue };
            if !span.ms.is_multiple_of(1000) || span.ms > CACHE_S_MAX * 1000 {
                return Err(format!(
                    "site.{name}.activity.availability_cache: must be whole seconds, at most \
                     {CACHE_S_MAX} (it becomes max-age)"
                ));
            }
            cache_s.insert(name.clone(), u32::try_from(span.ms / 1000).unwrap_or(u32::MAX));
        }
        let preflight = AnswerBuilder::new(StatusCode::NO_CONTENT)
            .field("allow", "GET, HEAD, OPTIONS")
            .field("cache-control", "no-store")
            .field("access-control-allow-origin", "*")
            .field("access-control-allow-methods", "GET, HEAD")
            .field("access-control-allow-headers", "*")
            .field("access-control-max-age", "86400")
            .slot("penstock-time", SlotKind::ServerTime)
            .build();
        Ok(Availabilities { styles: Styles::new(&settings.answers)?, cache_s, preflight })
    }

    /// The answer to GET, HEAD or OPTIONS on the availability path of an activity that has a sale.
    pub fn answer(
        &self,
        site: &Name,
        sale: &SaleSnapshot,
        head: &Head<'_>,
        exchange: &Exchange,
    ) -> Ready {
        let mut fill = Fill { now: exchange.now, request: exchange.id, ..Fill::default() };
        if head.method == Method::OPTIONS {
            return Ready { answer: Local::of(&self.preflight), fill, reason: None };
        }
        let view = sale.at(&exchange.now);
        fill.age_ms = u32::try_from(view.age_ms).unwrap_or(u32::MAX);
        let mut variant = Variant {
            form: self.styles.form(head),
            view,
            spread: json::is_spread(sale, &view, exchange.now.ledger),
            is_unmodified: false,
            cache_s: self.cache_s(site, &view, exchange),
        };
        let mut answer = self.ready_made(sale, variant);
        if !tells_more_than_its_tag(&view)
            && let Some(etag) = answer.etag()
            && head.field_all("if-none-match").any(|line| lists_tag(line, Some(etag)))
        {
            variant.is_unmodified = true;
            answer = self.ready_made(sale, variant);
        }
        Ready { answer, fill, reason: None }
    }

    fn ready_made(&self, sale: &SaleSnapshot, variant: Variant) -> Local {
        sale.memo().get(variant.memo_key(), || self.make(sale, variant))
    }

    fn make(&self, sale: &SaleSnapshot, variant: Variant) -> Arc<Answer> {
        let Variant { view, cache_s, .. } = variant;
        let status = match variant.is_unmodified {
            true => StatusCode::NOT_MODIFIED,
            false => StatusCode::OK,
        };
        let mut answer = AnswerBuilder::new(status);
        if !variant.is_unmodified {
            let json = self.styles.wrap(variant.form, json::body(sale, &view, variant.spread));
            let (body, slots) = json.into_parts();
            answer = answer.field("content-type", "application/json").body_with_slots(body, slots);
        }
        answer = match cache_s {
            0 => answer.field("cache-control", "no-store"),
            s => answer
                .field("cache-control", format!("public, max-age={s}"))
                .field("cdn-cache-control", format!("max-age={s}")),
        };
        if let Some(vary) = self.styles.vary() {
            answer = answer.field("vary", vary);
        }
        if let Ok(etag) = HeaderValue::from_str(&etag(sale, &view)) {
            answer = answer.etag(etag);
        }
        answer
            .field("access-control-allow-origin", "*")
            .field("access-control-expose-headers", "Penstock-Time, ETag")
            .slot("penstock-time", SlotKind::ServerTime)
            .build()
    }

    /// How long a CDN may keep an answer: never across an edge of the sale, by the ledger's clock at
    /// its worst.
    fn cache_s(&self, site: &Name, view: &View, exchange: &Exchange) -> u32 {
        let Some(&cache_s) = self.cache_s.get(site) else { return 0 };
        let now = exchange.now.ledger_latest();
        match view.next_edge {
            Some(edge) if edge.since(now) < u64::from(cache_s) * 1000 => 0,
            _ => cache_s,
        }
    }
}

impl Variant {
    /// Packs what the answer depends on. The gate's answers in the same memo have the highest bit set;
    /// these have not.
    fn memo_key(self) -> u64 {
        let View { availability, hint, is_final, .. } = self.view;
        let hint = match hint {
            None => 0,
            Some(Hint::Paused) => 1,
            Some(Hint::Busy) => 2,
            Some(Hint::Stale) => 3,
        };
        let availability = match availability {
            Availability::NotStarted => 0,
            Availability::Available => 1,
            Availability::SoldOut => 2,
            Availability::Ended => 3,
        };
        u64::from(self.cache_s != 0) << 7
            | u64::from(self.is_unmodified) << 6
            | u64::from(self.spread) << 5
            | u64::from(is_final) << 4
            | hint << 2
            | availability
            | u64::from(self.form.0) << 8
    }
}

/// `W/"epoch.version.state.hint"`, `ok` where there is no hint (DESIGN section 4).
fn etag(sale: &SaleSnapshot, view: &View) -> String {
    let hint = view.hint.map_or("ok", Hint::label);
    let state = &sale.state;
    format!("W/\"{}.{}.{}.{hint}\"", state.epoch, state.version, view.availability.label())
}

/// `final` of a sold-out sale turns true when its last limbo is resolved, which raises no version: a
/// client that holds the older copy has to be told in full, or it would poll for ever.
fn tells_more_than_its_tag(view: &View) -> bool {
    view.availability == Availability::SoldOut && view.is_final
}

/// Longest `availability_cache`, in seconds.
const CACHE_S_MAX: u64 = 60;

#[cfg(test)]
mod tests;
