//! The availability flag: a ready-made answer from the sale's snapshot. It never waits and never
//! touches the network.

use crate::config::schema;
use crate::http::{Exchange, Head, Ready};
use crate::ident::Name;
use crate::sale::SaleSnapshot;

/// How availability is told, for all sites.
#[derive(Debug)]
pub struct Availabilities {}

impl Availabilities {
    /// Reads `[answers]` and the sites' settings; an error says which is wrong.
    pub fn new(_settings: &schema::Settings) -> Result<Availabilities, String> {
        Ok(Availabilities {})
    }

    /// The answer to GET, HEAD or OPTIONS on the availability path of an activity that has a sale.
    pub fn answer(
        &self,
        _site: &Name,
        sale: &SaleSnapshot,
        _head: &Head<'_>,
        exchange: &Exchange,
    ) -> Ready {
        let make = || crate::answer::AnswerBuilder::new(http::StatusCode::OK).build();
        let fill = crate::answer::Fill {
            now: exchange.now,
            request: exchange.id,
            ..crate::answer::Fill::default()
        };
        Ready { answer: sale.memo().get(0, make), fill, reason: None }
    }
}
