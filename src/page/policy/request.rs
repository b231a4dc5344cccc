//! What a client demands of a cache: the directives of its request (RFC 9111 5.2.1).

use super::directives::seconds;
use crate::http::{Head, split_unquoted};

/// The demands of one request, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Demand {
    /// `no-cache`, or `max-age=0`: not without asking the shop.
    pub no_cache: bool,
    /// `no-store`: nothing of the answer is kept.
    pub no_store: bool,
    /// `only-if-cached`: stored, or 504.
    pub only_if_cached: bool,
    /// `max-age`: no older than this.
    pub age_max_ms: u64,
    /// `min-fresh`: fresh for so long at least.
    pub fresh_min_ms: u64,
    /// `max-stale`: stale by so much at most.
    pub stale_max_ms: u64,
}

impl Demand {
    /// A client that demands nothing.
    pub const NONE: Demand = Demand {
        no_cache: false,
        no_store: false,
        only_if_cached: false,
        age_max_ms: u64::MAX,
        fresh_min_ms: 0,
        stale_max_ms: 0,
    };

    /// Reads it from a request. `Pragma: no-cache` counts only where there is no `Cache-Control`
    /// (RFC 9111 5.4).
    pub fn of(head: &Head<'_>) -> Demand {
        let mut demand = Demand::NONE;
        let mut is_said = false;
        for line in head.field_all("cache-control") {
            is_said = true;
            for item in split_unquoted(line) {
                demand.note(item);
            }
        }
        if !is_said {
            let pragma = head.field_all("pragma").flat_map(split_unquoted);
            demand.no_cache = pragma.into_iter().any(|p| p.eq_ignore_ascii_case(b"no-cache"));
        }
        demand
    }

    fn note(&mut self, item: &[u8]) {
        let mut parts = item.splitn(2, |b| *b == b'=');
        let name = parts.next().unwrap_or_default().trim_ascii();
        let value = parts.next();
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        let ms = value.and_then(seconds).map(|s| s * 1000);
        match () {
            () if is("no-cache") => self.no_cache = true,
            () if is("no-store") => self.no_store = true,
            () if is("only-if-cached") => self.only_if_cached = true,
            () if is("max-age") => match ms {
                Some(0) => self.no_cache = true,
                Some(ms) => self.age_max_ms = ms,
                // An age that is none demands nothing (RFC 9111 4.2.1 speaks of responses).
                None => {}
            },
            () if is("min-fresh") => self.fresh_min_ms = ms.unwrap_or(0),
            // Without a value any staleness is welcome (RFC 9111 5.2.1.2).
            () if is("max-stale") => {
                self.stale_max_ms = if value.is_some() { ms.unwrap_or(0) } else { u64::MAX };
            }
            () => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Field;
    use crate::http::head::BodyKind;

    fn demand(lines: &[(&str, &str)]) -> Demand {
        let fields: Vec<Field<'_>> = lines
            .iter()
            .map(|(name, value)| Field { name: name.as_bytes(), value: value.as_bytes() })
            .collect();
        Demand::of(&Head {
            method: http::Method::GET,
            version: http::Version::HTTP_11,
            path: "/",
            query: None,
            host: "a".into(),
            fields: fields[..].into(),
            body: BodyKind::None,
        })
    }

    /// RFC 9111 5.2.1.
    #[test]
    fn every_directive_of_a_request() {
        let none = Demand::NONE;
        for (line, expected) in [
            ("max-age=5", Demand { age_max_ms: 5_000, ..none }),
            ("max-age=0", Demand { no_cache: true, ..none }),
            ("max-age=x", none),
            ("MIN-FRESH=7", Demand { fresh_min_ms: 7_000, ..none }),
            ("max-stale", Demand { stale_max_ms: u64::MAX, ..none }),
            ("max-stale=3", Demand { stale_max_ms: 3_000, ..none }),
            ("No-Cache, no-store", Demand { no_cache: true, no_store: true, ..none }),
            ("only-if-cached", Demand { only_if_cached: true, ..none }),
            ("nothing-to-see-here", none),
        ] {
            assert_eq!(demand(&[("cache-control", line)]), expected, "{line}");
        }
    }

    /// RFC 9111 5.4.
    #[test]
    fn pragma_counts_where_there_is_no_cache_control() {
        assert!(demand(&[("pragma", "No-Cache")]).no_cache);
        assert!(!demand(&[("pragma", "no-cache"), ("cache-control", "x")]).no_cache);
        assert!(!demand(&[("pragma", "foo")]).no_cache);
    }
}
