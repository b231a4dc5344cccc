//! Fields that speak to caches like this one alone, instead of `Cache-Control` and `Expires`:
//! `CDN-Cache-Control`, a dictionary of structured fields (RFC 9213), and the older
//! `Surrogate-Control` (the Edge Architecture note), whose form is that of `Cache-Control` with
//! targets.

use http::{HeaderMap, HeaderName};
use sfv::{BareItem, Dictionary, ListEntry, Parser};

use super::directives::{Directives, SECONDS_MAX, seconds};
use crate::http::split_unquoted;

/// Our name as a surrogate, in `Surrogate-Capability` and as the target of directives.
pub const SURROGATE: &str = "penstock";

/// What the first field of `names` that is there and valid says (RFC 9213 2.2); without one, the
/// response speaks by `Cache-Control` and `Expires`.
pub fn of(headers: &HeaderMap, names: &[HeaderName]) -> Option<Directives> {
    names.iter().find_map(|name| {
        let lines = headers.get_all(name).iter().map(|line| line.as_bytes());
        let all = lines.collect::<Vec<_>>().join(&b", "[..]);
        match name.as_str() {
            "surrogate-control" => surrogate(&all),
            _ => dictionary(&all),
        }
    })
}

/// RFC 9213 2.1: a field that is empty, no dictionary, or has a known directive of the wrong type is
/// ignored as a whole. Names are lower case by RFC 9651.
fn dictionary(all: &[u8]) -> Option<Directives> {
    let members: Dictionary = Parser::new(all).parse().ok()?;
    if members.is_empty() {
        return None;
    }
    let mut said = Directives::default();
    for (key, member) in &members {
        let ListEntry::Item(item) = member else {
            // A list is no value of a directive that we know.
            if Known::of(key.as_str()).is_some() {
                return None;
            }
            continue;
        };
        match (Known::of(key.as_str()), &item.bare_item) {
            (None, _) => {}
            (Some(Known::Seconds(slot)), BareItem::Integer(value)) => {
                let seconds = u64::try_from(i64::from(*value)).ok()?.min(SECONDS_MAX);
                *slot(&mut said) = Some(seconds);
            }
            (Some(Known::Flag(slot)), BareItem::Boolean(value)) => *slot(&mut said) = *value,
            (Some(_), _) => return None,
        }
    }
    Some(said)
}

/// A directive with a target is for that surrogate alone, and goes before one without.
fn surrogate(all: &[u8]) -> Option<Directives> {
    let (mut open, mut ours) = (Directives::default(), Directives::default());
    let (mut is_open, mut is_ours) = (false, false);
    for item in split_unquoted(all).filter(|item| !item.is_empty()) {
        let mut parts = item.splitn(2, |b| *b == b';');
        let directive = parts.next().unwrap_or_default().trim_ascii();
        match parts.next().map(<[u8]>::trim_ascii) {
            None => is_open |= note(&mut open, directive),
            Some(target) if target == SURROGATE.as_bytes() => is_ours |= note(&mut ours, directive),
            Some(_) => {}
        }
    }
    if is_ours { Some(ours) } else { is_open.then_some(open) }
}

/// Notes one directive of `Surrogate-Control`. Says whether it is one that we know.
fn note(said: &mut Directives, directive: &[u8]) -> bool {
    let lower = directive.to_ascii_lowercase();
    match lower.strip_prefix(b"max-age=") {
        // `max-age=60+30`: 30 s of staleness on top.
        Some(value) => {
            let mut parts = value.splitn(2, |b| *b == b'+');
            let fresh = parts.next().and_then(seconds);
            let stale = parts.next().and_then(seconds);
            said.max_age_s = fresh.or(Some(0));
            said.stale_while_revalidate_s = stale;
            true
        }
        None if lower == b"no-store" => {
            said.no_store = true;
            true
        }
        None if lower == b"no-store-remote" => true,
        None => false,
    }
}

/// A directive that we act on, by the type that it must have.
enum Known {
    Seconds(fn(&mut Directives) -> &mut Option<u64>),
    Flag(fn(&mut Directives) -> &mut bool),
}

impl Known {
    fn of(name: &str) -> Option<Known> {
        Some(match name {
            "max-age" => Known::Seconds(|d| &mut d.max_age_s),
            "s-maxage" => Known::Seconds(|d| &mut d.s_maxage_s),
            "stale-while-revalidate" => Known::Seconds(|d| &mut d.stale_while_revalidate_s),
            "stale-if-error" => Known::Seconds(|d| &mut d.stale_if_error_s),
            "no-store" => Known::Flag(|d| &mut d.no_store),
            "no-cache" => Known::Flag(|d| &mut d.no_cache),
            "private" => Known::Flag(|d| &mut d.private),
            "public" => Known::Flag(|d| &mut d.public),
            "must-revalidate" | "proxy-revalidate" => Known::Flag(|d| &mut d.must_revalidate),
            "must-understand" => Known::Flag(|d| &mut d.must_understand),
            "no-transform" => Known::Flag(|d| &mut d.no_transform),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(name: &'static str, lines: &[&str]) -> Option<Directives> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(name, line.parse().expect("valid"));
        }
        of(&headers, &[HeaderName::from_static(name)])
    }

    /// RFC 9213 2.1.
    #[test]
    fn a_targeted_field_is_a_strict_dictionary() {
        let cdn = |line: &str| said("cdn-cache-control", &[line]);
        let age = |line: &str| cdn(line).and_then(|d| d.max_age_s);
        assert_eq!(age("max-age=3600"), Some(3600));
        assert_eq!(age("foobar, max-age=3600;ext=1"), Some(3600));
        assert_eq!(age("max-age=99999999999"), Some(SECONDS_MAX));
        assert_eq!(age("max-age=1, max-age=2"), Some(2), "the last of a dictionary counts");
        assert!(cdn("private, no-store").is_some_and(|d| d.private && d.no_store));
        assert_eq!(
            said("cdn-cache-control", &["max-age=1", "no-cache"]).map(|d| d.no_cache),
            Some(true)
        );
        for broken in [
            "",
            "max-age=10000, &&&&&",
            "max-age=\"10000\"",
            "max-age =100",
            "max-age= 100",
            "MaX-aGe=3600",
            "max-age=1.5",
            "max-age=-1",
            "max-age",
            "max-age=1,",
            "no-store=1",
            "no-cache=(a b)",
        ] {
            assert_eq!(cdn(broken), None, "{broken}");
        }
    }

    #[test]
    fn a_surrogates_directives_may_have_a_target() {
        let age = |line: &str| said("surrogate-control", &[line]).and_then(|d| d.max_age_s);
        assert_eq!(age("max-age=60"), Some(60));
        assert_eq!(age("MaX-aGe=60, content=\"ESI/1.0\""), Some(60));
        assert_eq!(age("max-age=60;penstock, max-age=5"), Some(60));
        assert_eq!(age("max-age=60;other"), None);
        assert_eq!(age("content=\"ESI/1.0\""), None);
        let both = said("surrogate-control", &["max-age=60+30"]);
        assert_eq!(both.and_then(|d| d.stale_while_revalidate_s), Some(30));
    }

    #[test]
    fn the_first_valid_field_of_the_list_counts() {
        let names = ["surrogate-control", "cdn-cache-control"].map(HeaderName::from_static);
        let mut headers = HeaderMap::new();
        headers.insert("cdn-cache-control", "max-age=2".parse().expect("valid"));
        assert_eq!(of(&headers, &names).and_then(|d| d.max_age_s), Some(2));
        headers.insert("surrogate-control", "max-age=1".parse().expect("valid"));
        assert_eq!(of(&headers, &names).and_then(|d| d.max_age_s), Some(1));
        headers.insert("surrogate-control", "&&&".parse().expect("valid"));
        assert_eq!(of(&headers, &names).and_then(|d| d.max_age_s), Some(2));
    }
}
