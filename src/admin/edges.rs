//! Sales whose T0 or end is declared anew. Pages that are stored were told how long they may be kept
//! outside; who comes now is told anew.

use std::collections::HashMap;

use super::Context;
use crate::clock::UnixMs;
use crate::ident::SaleId;
use crate::page::{Mode, Purge};
use crate::sale::SaleState;

/// The edges of each sale, as they were seen last.
#[derive(Debug, Default)]
pub(super) struct Edges {
    seen: HashMap<SaleId, (UnixMs, Option<UnixMs>, bool)>,
}

impl Edges {
    /// Ends the freshness of the pages of sales whose edges moved since the last look.
    pub(super) fn look(&mut self, context: &Context) {
        let mut seen = HashMap::new();
        for sale in context.book.all() {
            let SaleState { id, activity, opens_at, ends_at, ended, .. } = &sale.state;
            let now = (*opens_at, *ends_at, *ended);
            if self.seen.get(id).is_some_and(|before| *before != now) {
                let what = Purge::Activity { site: id.site.as_str(), activity: activity.as_str() };
                let pages = context.cache.purge(&what, Mode::Soft, &context.sink);
                tracing::info!("{id}: T0 or the end moved; {pages} pages are fetched again");
            }
            seen.insert(id.clone(), now);
        }
        self.seen = seen;
    }
}
