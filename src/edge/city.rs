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
    /// are, counts as absent. It is an error where the query says it twice.
    pub(super) fn of<'a>(
        &self,
        head: &Head<'a>,
        captures: &Captures<'a>,
    ) -> Result<Option<&'a str>, Ambiguous> {
        let text = |said: Option<&'a [u8]>| std::str::from_utf8(said?).ok();
        let mut city = None;
        for source in &self.sources {
            let said = match source {
                // Looked at in any case: it may say two things.
                CitySource::Part(Part::Query(name)) => once(head, name)?,
                _ if city.is_some() => None,
                CitySource::Path => captures.city,
                CitySource::Part(Part::Cookie(name)) => text(head.cookie(name)),
                CitySource::Part(Part::Header(name)) => text(head.field(name)),
            };
            city = city.or(said.filter(|city| self.is_one(city)));
        }
        Ok(city)
    }

    fn is_one(&self, city: &str) -> bool {
        Name::is_valid(city.as_bytes()) && (self.known.is_empty() || self.known.contains(city))
    }

    /// Those there are; empty: any valid id.
    pub(super) fn known(&self) -> &BTreeSet<Name> {
        &self.known
    }

    /// Whether a request may name one.
    pub(super) fn any(&self) -> bool {
        !self.sources.is_empty()
    }

    /// Whether the query says a city twice.
    pub(super) fn is_ambiguous(&self, head: &Head<'_>) -> bool {
        self.sources.iter().any(|source| {
            let CitySource::Part(Part::Query(name)) = source else { return false };
            once(head, name).is_err()
        })
    }
}

/// A city is said twice: two readers would disagree on which counts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ambiguous;

/// The one value of a parameter.
fn once<'a>(head: &Head<'a>, name: &str) -> Result<Option<&'a str>, Ambiguous> {
    if head.query.is_none() {
        return Ok(None);
    }
    let mut values = head.query_param_all(name);
    match (values.next(), values.next()) {
        (_, Some(_)) => Err(Ambiguous),
        (value, None) => Ok(value),
    }
}
