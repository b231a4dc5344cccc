//! Where a request says its city.

use std::collections::BTreeSet;

use crate::config::pattern::Captures;
use crate::http::Head;
use crate::ident::Name;

/// The sources of one site, in order, and the cities there are.
#[derive(Debug, Default)]
pub(super) struct Cities {
    sources: Vec<Source>,
    /// Empty: any valid id.
    known: BTreeSet<Name>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Source {
    Path,
    Query(String),
    Cookie(String),
    Header(String),
}

impl Cities {
    /// Reads `city` and `cities`.
    pub(super) fn new(sources: &[String], known: &[Name]) -> Result<Cities, String> {
        let sources = sources.iter().map(|text| Source::parse(text)).collect::<Result<_, _>>()?;
        Ok(Cities { sources, known: known.iter().cloned().collect() })
    }

    /// The first valid city that the request names; one that is not valid, or not among those there
    /// are, counts as absent.
    pub(super) fn of<'a>(&self, head: &Head<'a>, captures: &Captures<'a>) -> Option<&'a str> {
        self.sources.iter().find_map(|source| {
            let said = match source {
                Source::Path => captures.city?.as_bytes(),
                Source::Query(name) => head.query_param(name)?.as_bytes(),
                Source::Cookie(name) => head.cookie(name)?,
                Source::Header(name) => head.field(name)?,
            };
            let city = std::str::from_utf8(said).ok()?;
            let is_known = self.known.is_empty() || self.known.contains(city);
            (Name::is_valid(said) && is_known).then_some(city)
        })
    }

    /// Whether the query says a city twice: two readers would disagree on which counts.
    pub(super) fn is_ambiguous(&self, head: &Head<'_>) -> bool {
        let Some(query) = head.query else { return false };
        self.sources.iter().any(|source| {
            let Source::Query(name) = source else { return false };
            let said = query.split('&').filter(|pair| {
                let key = pair.split_once('=').map_or(*pair, |(key, _)| key);
                key == name
            });
            said.count() > 1
        })
    }
}

impl Source {
    fn parse(text: &str) -> Result<Source, String> {
        let named = |name: &str| (!name.is_empty()).then(|| name.to_owned());
        let source = match text.split_once(':') {
            None if text == "path" => Some(Source::Path),
            Some(("query", name)) => named(name).map(Source::Query),
            Some(("cookie", name)) => named(name).map(Source::Cookie),
            Some(("header", name)) => named(name).map(Source::Header),
            _ => None,
        };
        source.ok_or_else(|| {
            format!("`{text}` is no source of a city: write path, query:NAME, cookie:NAME or header:NAME")
        })
    }
}
