//! Where a pool's stock number comes from: the declaration, or the shop itself.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Units of a pool: a number of its own, or the shop's number, which leads.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(
    untagged,
    expecting = "stock must be a number of units, or where the shop says what is left: redis with \
                 perhaps a field, or http with at"
)]
pub enum Stock {
    /// So many units.
    Own(#[schemars(range(min = 1, max = 1_000_000_000))] u64),
    /// What the shop says is left.
    Shop(Source),
}

/// Where the shop says how many units are left. Exactly one of `redis` and `http`.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(default, deny_unknown_fields)]
pub struct Source {
    /// A key in the shop's Redis: a string that is a whole number, a hash (with `field`), a list (its
    /// length) or a set (its members). `{pool}` and `{activity}` stand for their ids.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-example" = "stock:{pool}"))]
    pub redis: Option<String>,
    /// The field, where the key is a hash.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-example" = "left"))]
    pub field: Option<String>,
    /// A URL of the shop, `http://host:port/path`, that answers a GET with JSON. `{pool}` and
    /// `{activity}` stand for their ids.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-example" = "http://10.0.3.4:8000/stock/{pool}"))]
    pub http: Option<String>,
    /// Where in that JSON the number stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-example" = "/left"))]
    pub at: Option<String>,
}

impl Stock {
    /// The number, where it is the pool's own.
    pub fn own(&self) -> Option<u64> {
        match self {
            Stock::Own(units) => Some(*units),
            Stock::Shop(_) => None,
        }
    }

    /// Where the shop says it, where the shop leads.
    pub fn source(&self) -> Option<&Source> {
        match self {
            Stock::Own(_) => None,
            Stock::Shop(source) => Some(source),
        }
    }

    /// What is wrong with it, in words.
    pub fn check(&self) -> Result<(), &'static str> {
        match self {
            Stock::Own(1..=1_000_000_000) => Ok(()),
            Stock::Own(_) => Err("must be 1 to 1000000000"),
            Stock::Shop(source) => source.check(),
        }
    }
}

impl From<u64> for Stock {
    fn from(units: u64) -> Stock {
        Stock::Own(units)
    }
}

impl fmt::Display for Stock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stock::Own(units) => write!(f, "{units}"),
            Stock::Shop(source) => write!(f, "{source}"),
        }
    }
}

impl Source {
    /// What is wrong with it, in words.
    pub fn check(&self) -> Result<(), &'static str> {
        match (&self.redis, &self.field, &self.http, &self.at) {
            (Some(key), field, None, None) => {
                let texts = [Some(key), field.as_ref()];
                if !texts.into_iter().flatten().all(|text| is_key(text)) {
                    return Err("a key and a field have 1 to 256 visible characters");
                }
                Ok(())
            }
            (None, None, Some(url), Some(at)) => {
                if !is_url(url) {
                    return Err("http must be a URL like http://10.0.3.4:8000/stock/{pool}");
                }
                if !at.starts_with('/') || at.len() > KEY_BYTES_MAX {
                    return Err("at must be a JSON pointer like /left");
                }
                Ok(())
            }
            (Some(_), _, Some(_), _) => Err("redis and http are two places: write one of them"),
            (Some(_), _, None, Some(_)) => Err("at belongs to http; a hash has a field"),
            (None, Some(_), ..) => Err("field belongs to redis; JSON has an `at`"),
            (None, None, Some(_), None) => Err("at is missing: where does the number stand?"),
            (None, None, None, _) => Err("write a number, { redis = … } or { http = …, at = … }"),
        }
    }

    /// The place of one pool's number.
    pub fn of(&self, activity: &str, pool: &str) -> Source {
        let fill = |text: &Option<String>| text.as_deref().map(|t| filled(t, activity, pool));
        Source { redis: fill(&self.redis), http: fill(&self.http), ..self.clone() }
    }
}

/// `redis stock:1001 left`: for logs and answers.
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = [("redis", &self.redis), ("http", &self.http)];
        for (kind, place) in
            first.iter().filter_map(|(kind, place)| Some((kind, (*place).as_ref()?)))
        {
            write!(f, "{kind} {place}")?;
        }
        match self.field.as_ref().or(self.at.as_ref()) {
            Some(inner) => write!(f, " {inner}"),
            None => Ok(()),
        }
    }
}

/// A key or URL with the ids put in. Ids have no braces.
pub fn filled(text: &str, activity: &str, pool: &str) -> String {
    text.replace("{activity}", activity).replace("{pool}", pool)
}

/// Whether it is a URL that we would fetch.
fn is_url(text: &str) -> bool {
    let text = filled(text, "0", "0");
    let uri = text.parse::<http::Uri>();
    let is_plain =
        uri.is_ok_and(|uri| uri.scheme_str() == Some("http") && uri.authority().is_some());
    is_plain && text.len() <= KEY_BYTES_MAX && !text.contains(['{', '}', '#', '@'])
}

/// Whether a key is one that we would send.
pub fn is_key(text: &str) -> bool {
    (1..=KEY_BYTES_MAX).contains(&text.len()) && text.chars().all(|c| !c.is_control())
}

/// Longest key or URL, in bytes.
const KEY_BYTES_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn stock(json: &str) -> Stock {
        serde_json::from_str(json).expect("a stock")
    }

    #[test]
    fn a_stock_is_a_number_or_a_place() {
        for good in [
            "7",
            r#"{"redis":"stock:{pool}"}"#,
            r#"{"redis":"stock:{shop}:{pool}","field":"left"}"#,
            r#"{"http":"http://10.0.3.4:8000/stock/{pool}?a={activity}","at":"/data/left"}"#,
        ] {
            assert_eq!(stock(good).check(), Ok(()), "{good}");
            assert_eq!(serde_json::to_string(&stock(good)).expect("JSON"), good);
        }
        for bad in [
            "0",
            "1000000001",
            "{}",
            r#"{"redis":""}"#,
            r#"{"redis":"a\nb"}"#,
            r#"{"redis":"a","at":"/b"}"#,
            r#"{"redis":"a","http":"http://b/","at":"/b"}"#,
            r#"{"field":"left"}"#,
            r#"{"http":"http://b/"}"#,
            r#"{"http":"https://b/","at":"/b"}"#,
            r#"{"http":"/stock","at":"/b"}"#,
            r#"{"http":"http://b/","at":"left"}"#,
            r#"{"http":"http://b/{sku}","at":"/left"}"#,
        ] {
            assert!(stock(bad).check().is_err(), "{bad}");
        }
    }

    #[test]
    fn ids_are_put_into_the_place() {
        let source = Source { redis: Some("s:{activity}:{pool}".into()), ..Source::default() };
        let of = source.of("8848", "1001");
        assert_eq!(of.to_string(), "redis s:8848:1001");
    }
}
