//! Which fields of a request select a response: `Vary` (RFC 9110 12.5.5, RFC 9111 4.1).

use http::{HeaderMap, header};

use crate::http::split_unquoted;

/// Whether no request is like another: `*` anywhere in the list, on any line.
pub fn is_all(headers: &HeaderMap) -> bool {
    members(headers).any(|member| member == b"*")
}

/// The fields that select, in lower case, sorted, each once.
pub fn names(headers: &HeaderMap) -> Vec<Box<str>> {
    let named = members(headers).filter_map(|name| std::str::from_utf8(name).ok());
    let mut names: Vec<Box<str>> =
        named.filter(|n| !n.is_empty()).map(|n| n.to_ascii_lowercase().into()).collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn members(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let lines = headers.get_all(header::VARY).into_iter();
    lines.flat_map(|line| line.as_bytes().split(|b| *b == b',')).map(<[u8]>::trim_ascii)
}

/// What a request says in the field `name`, so that two that mean the same are the same: lines are
/// combined and white space is removed; of fields whose members have weights also the order of equals
/// and the case are (RFC 9111 4.1). `None` where the field is absent, which is not the same as empty.
pub fn normalised<'a>(name: &str, lines: impl Iterator<Item = &'a [u8]>) -> Option<Vec<u8>> {
    let mut members: Vec<&[u8]> = Vec::new();
    let mut is_there = false;
    for line in lines {
        is_there = true;
        members.extend(split_unquoted(line).filter(|member| !member.is_empty()));
    }
    if !is_there {
        return None;
    }
    if WEIGHTED.contains(&name) {
        let mut weighted: Vec<(u16, Vec<u8>)> = members.into_iter().map(weigh).collect();
        weighted.sort_unstable_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
        weighted.dedup();
        let texts = weighted.into_iter().map(|(weight, name)| match weight {
            1000 => name,
            weight => [&name[..], b";q=", weight.to_string().as_bytes()].concat(),
        });
        return Some(texts.collect::<Vec<_>>().join(&b","[..]));
    }
    Some(members.join(&b","[..]))
}

/// The one language that a normalised `Accept-Language` likes more than every other: a shop that has
/// it gives it, whatever else is asked for.
pub fn first_language(normalised: &[u8]) -> Option<&[u8]> {
    let mut members = normalised.split(|b| *b == b',').map(|member| {
        let mut parts = member.splitn(2, |b| *b == b';');
        (parts.next().unwrap_or_default(), parts.next())
    });
    let (first, weight) = members.next()?;
    let is_refused = weight == Some(b"q=0");
    let is_named = !first.is_empty() && first != b"*" && !is_refused;
    // Members are sorted: the second one is as welcome only if it weighs the same.
    let is_alone = members.next().is_none_or(|(_, second)| second != weight);
    (is_named && is_alone).then_some(first)
}

/// The one language of a response, in lower case.
pub fn language_of(headers: &HeaderMap) -> Option<Vec<u8>> {
    let mut lines = headers.get_all(header::CONTENT_LANGUAGE).iter();
    let language = lines.next()?.as_bytes().trim_ascii().to_ascii_lowercase();
    let is_one = lines.next().is_none() && !language.is_empty() && !language.contains(&b',');
    is_one.then_some(language)
}

/// A member in lower case without white space, and its weight in thousandths.
fn weigh(member: &[u8]) -> (u16, Vec<u8>) {
    let mut weight = 1000;
    let mut text = Vec::with_capacity(member.len());
    for (at, part) in member.split(|b| *b == b';').map(<[u8]>::trim_ascii).enumerate() {
        let lower = part.to_ascii_lowercase();
        match lower.strip_prefix(b"q=") {
            Some(value) if at > 0 => weight = super::super::coding::thousandths(value),
            _ => {
                if at > 0 {
                    text.push(b';');
                }
                text.extend_from_slice(&lower);
            }
        }
    }
    (weight, text)
}

/// Fields whose members have weights (RFC 9110 12.5).
const WEIGHTED: [&str; 4] = ["accept", "accept-charset", "accept-encoding", "accept-language"];

#[cfg(test)]
mod tests {
    use super::*;

    fn vary(lines: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        lines.iter().for_each(|line| {
            headers.append("vary", line.parse().expect("valid"));
        });
        headers
    }

    fn said(name: &str, lines: &[&str]) -> Option<String> {
        let lines = lines.iter().map(|line| line.as_bytes());
        normalised(name, lines).map(|v| String::from_utf8(v).expect("text"))
    }

    /// RFC 9111 4.1: a star matches nothing, wherever it stands.
    #[test]
    fn a_star_anywhere_is_all() {
        for lines in
            [&["*"][..], &["*, *"], &["*", "*"], &[", *"], &["", "*"], &["Foo, *"], &["*, Foo"]]
        {
            assert!(is_all(&vary(lines)), "{lines:?}");
        }
        assert!(!is_all(&vary(&["Foo", "Bar"])));
        assert_eq!(names(&vary(&["Foo, bar", "BAR,"])).join(" "), "bar foo");
    }

    #[test]
    fn the_language_that_is_liked_most() {
        let first = |line: &str| {
            let said = said("accept-language", &[line])?;
            first_language(said.as_bytes()).map(|l| String::from_utf8_lossy(l).into_owned())
        };
        assert_eq!(first("fr;q=0.5, DE;q=1.0").as_deref(), Some("de"));
        assert_eq!(first("en;q=0.1").as_deref(), Some("en"));
        for none in ["en, de", "*", "de;q=0", "", "fr;q=0.5, de;q=0.5"] {
            assert_eq!(first(none), None, "{none}");
        }
        let mut headers = HeaderMap::new();
        headers.append("content-language", "De".parse().expect("valid"));
        assert_eq!(language_of(&headers).as_deref(), Some(&b"de"[..]));
        headers.append("content-language", "en".parse().expect("valid"));
        assert_eq!(language_of(&headers), None);
    }

    #[test]
    fn what_means_the_same_is_the_same() {
        assert_eq!(said("foo", &["1, 2"]), said("foo", &["1", "2"]));
        assert_eq!(said("foo", &["1,2"]), said("foo", &[" 1 ,  2 "]));
        assert_ne!(said("foo", &["1, 2"]), said("foo", &["2, 1"]));
        assert_ne!(said("foo", &["a"]), said("foo", &["A"]));
        assert_ne!(said("foo", &[]), said("foo", &[""]));
        let lang = |line| said("accept-language", &[line]);
        assert_eq!(lang("en, de"), lang("de;q=1.0,EN"));
        assert_ne!(lang("en, de;q=0.5"), lang("de, en;q=0.5"));
        assert_eq!(lang("en;q=0.5, de"), lang("de, en ; q=0.50"));
    }
}
