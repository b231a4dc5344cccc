//! Path patterns of activities: `/activity/{activity}/orders`.
//!
//! A pattern is a list of segments; a segment is literal text or one placeholder with literal text
//! around it (`/item-{activity}.html`). `{activity}` and `{city}` stand for a [`Name`], `{_}` for any
//! one segment, `{{` and `}}` for a brace. Matching is strict: nothing is decoded, merged or folded, so
//! that each thing has one path. [`Pattern::matches_loosely`] is the opposite, for the rule that the
//! catch-all is no bypass (DESIGN section 3, point 6).

use std::fmt;

use crate::ident::Name;

/// A path with placeholders, parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    segments: Vec<Segment>,
    /// The text behind the last placeholder, by which most other paths are told apart at once.
    tail: String,
    /// The text before the placeholder, where `{activity}` is the only one and a segment of its own.
    front: Option<String>,
}

/// What a path that matched says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Captures<'p> {
    /// The activity's id, a valid [`Name`].
    pub activity: &'p str,
    /// The city, a valid [`Name`], where the pattern has `{city}`.
    pub city: Option<&'p str>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Segment {
    /// Text before the placeholder, or the whole segment.
    before: String,
    hole: Option<Hole>,
    /// Text after the placeholder.
    after: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hole {
    Activity,
    City,
    Any,
}

impl Pattern {
    /// Reads a pattern; an error says what is wrong and what to write.
    pub fn parse(text: &str) -> Result<Pattern, String> {
        let Some(rest) = text.strip_prefix('/') else {
            return Err("a path must begin with `/`".to_owned());
        };
        if text.len() > PATTERN_BYTES_MAX {
            return Err(format!("a path must not be longer than {PATTERN_BYTES_MAX} bytes"));
        }
        let segments = rest.split('/').map(Segment::parse).collect::<Result<Vec<_>, _>>()?;
        let inner = &segments[..segments.len() - 1];
        if inner.iter().any(Segment::is_empty) {
            return Err("a path must not contain `//`".to_owned());
        }
        if segments.first().is_some_and(|first| first.is_literal(OWN)) {
            return Err(format!("paths under `/{OWN}/` are answered by Penstock itself"));
        }
        let count = |hole| segments.iter().filter(|s| s.hole == Some(hole)).count();
        if count(Hole::Activity) != 1 {
            return Err("a path must contain `{activity}` exactly once".to_owned());
        }
        if count(Hole::City) > 1 {
            return Err("a path must contain `{city}` at most once".to_owned());
        }
        let front = front(&segments);
        Ok(Pattern { text: text.to_owned(), tail: tail(&segments), front, segments })
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether paths of this pattern name a city.
    pub fn has_city(&self) -> bool {
        self.segments.iter().any(|s| s.hole == Some(Hole::City))
    }

    /// Whether `{_}` occurs: then the path is not known from activity and city alone.
    pub fn has_any(&self) -> bool {
        self.segments.iter().any(|s| s.hole == Some(Hole::Any))
    }

    /// The path of an activity, for a city where the pattern names one. `None`: it has `{_}`, or names
    /// a city and there is none.
    pub fn path(&self, activity: &str, city: Option<&str>) -> Option<String> {
        let mut path = String::new();
        for segment in &self.segments {
            let value = match segment.hole {
                None => "",
                Some(Hole::Activity) => activity,
                Some(Hole::City) => city?,
                Some(Hole::Any) => return None,
            };
            path.extend(["/", &segment.before, value, &segment.after]);
        }
        Some(path)
    }

    /// What `path` (without its query) says, if it matches exactly as it stands. Paths with dot
    /// segments or escapes, and those under `/_penstock/`, match nothing.
    pub fn matches<'p>(&self, path: &'p str) -> Option<Captures<'p>> {
        let before = path.strip_suffix(&*self.tail)?;
        if let Some(front) = &self.front {
            // The text around holds no placeholder, so that comparing it compares all other segments.
            let activity = before.strip_prefix(&**front)?;
            let is_one = Name::is_valid(activity.as_bytes()) && !matches!(activity, "." | "..");
            return is_one.then_some(Captures { activity, city: None });
        }
        let mut rest = Some(path.strip_prefix('/')?);
        let (mut activity, mut city) = (None, None);
        for (at, segment) in self.segments.iter().enumerate() {
            let part = next_segment(&mut rest)?;
            if (at == 0 && part == OWN) || matches!(part, "." | "..") {
                return None;
            }
            let value = segment.matches(part)?;
            match segment.hole {
                Some(Hole::Activity) => activity = Some(value),
                Some(Hole::City) => city = Some(value),
                Some(Hole::Any) | None => {}
            }
        }
        if rest.is_some() {
            return None;
        }
        Some(Captures { activity: activity?, city })
    }

    /// Whether `path` has this pattern's shape when letters may be of either case and placeholders
    /// stand for any text at all. For the loosest reading of a path, never to serve it.
    pub fn matches_loosely(&self, path: &str) -> bool {
        let Some(rest) = path.strip_prefix('/') else { return false };
        // A trailing slash is no difference to many shops, whichever side has it.
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let own = match self.segments.split_last() {
            Some((last, init)) if last.is_empty() => init,
            _ => &self.segments,
        };
        let mut parts = rest.split('/');
        own.iter().all(|s| parts.next().is_some_and(|part| s.matches_loosely(part)))
            && parts.next().is_none()
    }

    /// Whether some path matches both patterns.
    pub fn overlaps(&self, other: &Pattern) -> bool {
        self.segments.len() == other.segments.len()
            && self.segments.iter().zip(&other.segments).all(|(a, b)| a.overlaps(b))
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Segment {
    fn parse(text: &str) -> Result<Segment, String> {
        let mut segment = Segment { before: String::new(), hole: None, after: String::new() };
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            let literal = if let Some(after) =
                rest.strip_prefix("{{").or_else(|| rest.strip_prefix("}}"))
            {
                rest = after;
                c
            } else if c == '{' {
                let (hole, after) = placeholder(rest)?;
                if segment.hole.replace(hole).is_some() {
                    return Err("a segment must not contain two placeholders".to_owned());
                }
                rest = after;
                continue;
            } else if c == '}' {
                return Err("`}` without `{`; write `}}` for a brace".to_owned());
            } else if c.is_ascii() && is_plain_byte(c as u8) {
                rest = &rest[1..];
                c
            } else {
                return Err(format!(
                    "{c:?} cannot stand in a path here; use letters, digits and . _ ~ - = + : @ , ! $ & ' ( ) *"
                ));
            };
            let side =
                if segment.hole.is_some() { &mut segment.after } else { &mut segment.before };
            side.push(literal);
        }
        if segment.is_literal(".") || segment.is_literal("..") {
            return Err("a path must not contain the segments `.` and `..`".to_owned());
        }
        Ok(segment)
    }

    fn is_literal(&self, text: &str) -> bool {
        self.hole.is_none() && self.before == text
    }

    fn is_empty(&self) -> bool {
        self.is_literal("")
    }

    /// The placeholder's value (empty for a literal), if `part` matches.
    fn matches<'p>(&self, part: &'p str) -> Option<&'p str> {
        let Some(hole) = self.hole else { return (part == self.before).then_some("") };
        let value = part.strip_prefix(&*self.before)?.strip_suffix(&*self.after)?;
        let valid = match hole {
            Hole::Activity | Hole::City => Name::is_valid(value.as_bytes()),
            Hole::Any => {
                (1..=ANY_BYTES_MAX).contains(&value.len()) && value.bytes().all(is_plain_byte)
            }
        };
        valid.then_some(value)
    }

    fn matches_loosely(&self, part: &str) -> bool {
        let (part, before) = (part.as_bytes(), self.before.as_bytes());
        if self.hole.is_none() {
            return part.eq_ignore_ascii_case(before);
        }
        let after = self.after.as_bytes();
        part.len() >= before.len() + after.len()
            && part[..before.len()].eq_ignore_ascii_case(before)
            && part[part.len() - after.len()..].eq_ignore_ascii_case(after)
    }

    fn overlaps(&self, other: &Segment) -> bool {
        match (self.hole, other.hole) {
            (None, None) => self.before == other.before,
            (Some(_), None) => self.matches(&other.before).is_some(),
            (None, Some(_)) => other.matches(&self.before).is_some(),
            (Some(_), Some(_)) => {
                let (a, b) = (&*self.before, &*other.before);
                let (x, y) = (&*self.after, &*other.after);
                (a.starts_with(b) || b.starts_with(a)) && (x.ends_with(y) || y.ends_with(x))
            }
        }
    }
}

/// The text behind the last placeholder.
fn tail(segments: &[Segment]) -> String {
    let mut tail = String::new();
    for segment in segments {
        match segment.hole {
            Some(_) => tail = segment.after.clone(),
            None => tail = format!("{tail}/{}", segment.before),
        }
    }
    tail
}

/// The text before `{activity}`, if that is the only placeholder, a segment of its own and not the
/// first, which might be our own.
fn front(segments: &[Segment]) -> Option<String> {
    let at = segments.iter().position(|s| s.hole.is_some())?;
    let (before, rest) = segments.split_at(at);
    let (hole, behind) = rest.split_first()?;
    let is_whole = hole.before.is_empty() && hole.after.is_empty();
    let is_alone = hole.hole == Some(Hole::Activity) && behind.iter().all(|s| s.hole.is_none());
    if at == 0 || !is_whole || !is_alone {
        return None;
    }
    let text: String = before.iter().flat_map(|s| ["/", &*s.before]).collect();
    Some(text + "/")
}

/// Takes the first segment off. A plain loop: segments are too short for a search by words.
fn next_segment<'p>(rest: &mut Option<&'p str>) -> Option<&'p str> {
    let text = (*rest)?;
    let Some(end) = text.bytes().position(|b| b == b'/') else { return rest.take() };
    *rest = Some(&text[end + 1..]);
    Some(&text[..end])
}

/// The placeholder at the start of `text`, and the text after it.
fn placeholder(text: &str) -> Result<(Hole, &str), String> {
    for (word, hole) in [("{activity}", Hole::Activity), ("{city}", Hole::City), ("{_}", Hole::Any)]
    {
        if let Some(after) = text.strip_prefix(word) {
            return Ok((hole, after));
        }
    }
    let word = text.split_inclusive('}').next().unwrap_or(text);
    Err(format!(
        "`{word}` is no placeholder: there are `{{activity}}`, `{{city}}` and `{{_}}`; write `{{{{` for a brace"
    ))
}

/// `pchar` of RFC 3986 3.3 without escapes and without `;`, which begins matrix parameters.
fn is_plain_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"._~-=+:@,!$&'()*".contains(&b)
}

/// The first segment of our own paths.
const OWN: &str = "_penstock";

/// Longest pattern.
const PATTERN_BYTES_MAX: usize = 512;

/// Longest text for `{_}`.
const ANY_BYTES_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).unwrap()
    }

    fn activity<'p>(text: &str, path: &'p str) -> Option<(&'p str, Option<&'p str>)> {
        pattern(text).matches(path).map(|c| (c.activity, c.city))
    }

    #[test]
    fn one_path_says_one_thing() {
        let page = "/activity/{activity}";
        assert_eq!(activity(page, "/activity/8848"), Some(("8848", None)));
        assert_eq!(activity(page, "/activity/A.b_c~d-e"), Some(("A.b_c~d-e", None)));
        let with_city = "/{city}/show/{activity}.html";
        assert_eq!(activity(with_city, "/sh/show/8848.html"), Some(("8848", Some("sh"))));
        let hidden = "/seckill/{activity}/{_}/buy";
        assert_eq!(activity(hidden, "/seckill/8848/a=b:c/buy"), Some(("8848", None)));
        assert_eq!(activity("/a{{b}}/{activity}", "/a{b}/1"), Some(("1", None)));
        assert_eq!(activity("/a/{activity}/", "/a/1/"), Some(("1", None)));
    }

    #[test]
    fn nothing_but_the_exact_path_matches() {
        for path in [
            "",
            "/",
            "activity/8848",
            "/activity",
            "/activity/",
            "/activity/8848/",
            "//activity/8848",
            "/Activity/8848",
            "/activity/88%34",
            "/activity/88 48",
            "/activity/8848;x=1",
            "/activity/..",
            "/activity/.",
            "/activity/8848/orders",
            "/x/activity/8848",
            "/activity/\u{4e2d}",
            "/activity/8848?x",
            "/activity/8848#x",
        ] {
            assert_eq!(activity("/activity/{activity}", path), None, "{path}");
        }
        let long = format!("/activity/{}", "a".repeat(65));
        assert_eq!(activity("/activity/{activity}", &long), None);
        for path in ["/s/1//buy", "/s/1/../buy", "/s/1/a%3Db/buy", "/s/1/a;b/buy", "/s/1/a\\b/buy"]
        {
            assert_eq!(activity("/s/{activity}/{_}/buy", path), None, "{path}");
        }
        assert_eq!(activity("/{activity}/x", "/_penstock/x"), None);
        assert_eq!(activity("/i-{activity}-i", "/i-i"), None, "the text around may not overlap");
    }

    #[test]
    fn a_bad_pattern_says_what_to_write() {
        for (text, part) in [
            ("activity/{activity}", "begin with `/`"),
            ("/activity", "exactly once"),
            ("/{activity}/{activity}", "exactly once"),
            ("/{city}/{city}/{activity}", "at most once"),
            ("/{activity}{city}", "two placeholders"),
            ("/activity/{id}", "`{id}` is no placeholder"),
            ("/activity/{activity", "`{activity` is no placeholder"),
            ("/activity/{activity}}", "without `{`"),
            ("//{activity}", "`//`"),
            ("/../{activity}", "`.` and `..`"),
            ("/a b/{activity}", "' ' cannot stand"),
            ("/a/{activity}?x=1", "'?' cannot stand"),
            ("/%61/{activity}", "'%' cannot stand"),
            ("/\u{6d3b}/{activity}", "cannot stand"),
            ("/_penstock/{activity}", "Penstock itself"),
        ] {
            let error = Pattern::parse(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
        assert!(Pattern::parse(&format!("/{{activity}}/{}", "a".repeat(600))).is_err());
    }

    #[test]
    fn patterns_that_share_a_path_are_found() {
        for (a, b, both) in [
            ("/a/{activity}", "/a/{activity}/orders", false),
            ("/a/{activity}", "/b/{activity}", false),
            ("/a/{activity}", "/a/{activity}", true),
            ("/a/{activity}", "/{activity}/orders", true), // /a/orders
            ("/a/{activity}.html", "/a/{activity}.json", false),
            ("/a/{activity}.html", "/a/{activity}", true),
            ("/{city}/{activity}", "/b/{activity}", true),
            ("/a/{activity}/{_}", "/a/{activity}/buy", true),
        ] {
            assert_eq!(pattern(a).overlaps(&pattern(b)), both, "{a} {b}");
            assert_eq!(pattern(b).overlaps(&pattern(a)), both, "{b} {a}");
        }
    }

    #[test]
    fn the_loose_shape_covers_more_than_the_strict_path() {
        let buy = pattern("/Seckill/{activity}/{_}/buy");
        for path in [
            "/seckill/8848/x/buy",
            "/SECKILL/8848/x/BUY",
            "/seckill/8848/x/buy/",
            "/seckill/\u{4e2d} ;/x/buy",
            "/seckill/8848//buy",
        ] {
            assert!(buy.matches_loosely(path), "{path}");
        }
        for path in ["/seckill/8848/x", "/seckill/8848/x/buy/y", "/", "", "/other/8848/x/buy"] {
            assert!(!buy.matches_loosely(path), "{path}");
        }
        assert!(pattern("/a/{activity}/").matches_loosely("/a/1"));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,40}", path in "\\PC{0,40}") {
            if let Ok(pattern) = Pattern::parse(&text) {
                let _ = pattern.matches(&path);
                let _ = pattern.matches_loosely(&path);
            }
        }

        #[test]
        fn what_matches_strictly_matches_loosely_and_overlaps(
            a in "(/(a|b|\\{_\\}|x\\{city\\}|\\{activity\\}|\\{activity\\}y)){1,4}",
            b in "(/(a|b|\\{_\\}|x\\{city\\}|\\{activity\\}|\\{activity\\}y)){1,4}",
            path in "(/(a|b|xa|ay|xy)){1,4}",
        ) {
            let (Ok(a), Ok(b)) = (Pattern::parse(&a), Pattern::parse(&b)) else { return Ok(()) };
            if a.matches(&path).is_some() {
                prop_assert!(a.matches_loosely(&path));
                if b.matches(&path).is_some() {
                    prop_assert!(a.overlaps(&b));
                }
            }
        }
    }
}
