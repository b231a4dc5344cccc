//! Where a request says its city.

use std::collections::BTreeSet;

use crate::config::pattern::Captures;
use crate::config::source::{CitySource, Part};
use crate::http::Head;
use crate::ident::Name;

/// The sources of one site, in order, and the cities there are.
#[derive(Debug, Default)]
pub(super) struct Cities {
    sources: Vec<CitySource>,
    /// Empty: any valid id.
    known: BTreeSet<Name>,
}

impl Cities {
    /// Reads `city` and `cities`.
    pub(super) fn new(sources: &[String], known: &[Name]) -> Result<Cities, String> {
        let sources = sources.iter().map(|text| text.parse()).collect::<Result<_, _>>()?;
        Ok(Cities { sources, known: known.iter().cloned().collect() })
    }

    /// The first valid city that the request names; one that is not valid, or not among those there
    /// are, counts as absent.
    pub(super) fn of<'a>(&self, head: &Head<'a>, captures: &Captures<'a>) -> Option<&'a str> {
        self.sources.iter().find_map(|source| {
            let text = |said: Option<&'a [u8]>| std::str::from_utf8(said?).ok();
            let city = match source {
                CitySource::Path => captures.city?,
                CitySource::Part(Part::Query(name)) => head.query_param(name)?,
                CitySource::Part(Part::Cookie(name)) => text(head.cookie(name))?,
                CitySource::Part(Part::Header(name)) => text(head.field(name))?,
            };
            let is_known = self.known.is_empty() || self.known.contains(city);
            (Name::is_valid(city.as_bytes()) && is_known).then_some(city)
        })
    }

    /// Those there are; empty: any valid id.
    pub(super) fn known(&self) -> &BTreeSet<Name> {
        &self.known
    }

    /// Whether a request may name one.
    pub(super) fn any(&self) -> bool {
        !self.sources.is_empty()
    }

    /// Whether the query says a city twice: two readers would disagree on which counts.
    pub(super) fn is_ambiguous(&self, head: &Head<'_>) -> bool {
        self.sources.iter().any(|source| {
            let CitySource::Part(Part::Query(name)) = source else { return false };
            head.query_param_all(name).nth(1).is_some()
        })
    }
}
