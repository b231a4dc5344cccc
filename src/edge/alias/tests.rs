//! The rule against lenient servers that are written here once more, in other ways.

use proptest::prelude::*;

use super::reads_as;
use crate::config::pattern::Pattern;

fn is_alias(path: &str, query: Option<&str>) -> bool {
    let pattern = Pattern::parse("/activity/{activity}/orders").expect("a pattern");
    reads_as(path, query, |reading| pattern.matches_loosely(reading))
}

#[test]
fn spellings_of_a_purchase_are_found() {
    for path in [
        "/activity/8848/orders/",
        "/ACTIVITY/8848/Orders",
        "/activity/8848/%6frders",
        "/activity/8848/%256Frders",
        "//activity//8848///orders//",
        "/activity/8848/./orders",
        "/activity/8848/x/../orders",
        "/activity/8848/%2e%2e/8848/orders",
        "/activity/8848/orders;jsessionid=1",
        "/activity;a=b/8848;c/orders;d",
        "/activity/8848%2forders",
        "/activity%5c8848%5Corders",
        "/activity/8848%252Forders",
        "/activity/8848/orders%3Ba=b",
        "/activity/8848/orders%00.html",
        "/activity/8848/orders%20",
        "/activity/8848/orders%3fx",
        "/activity/8848/orders%23x",
        "/activity/8848/orders.json",
        "/index.php/activity/8848/orders",
        "/activity/8848/%c0%afx/../orders",
        "/activity%c0%af8848/orders",
        "/activity%u002f8848/orders",
        "/activity/8848/%uff4frders",
        "/activity/8848/order%C5%BF",
        "/activity/../orders",
        "/activity/%2e/orders",
        "/x;/../activity/8848/orders",
        "/%2e/activity/8848/orders",
    ] {
        assert!(is_alias(path, None), "{path}");
        assert!(is_alias(path, Some("a=b")), "{path}");
    }
    for query in ["s=/activity/8848/orders", "/activity/8848/orders", "s=activity%2F1%2Forders"] {
        assert!(is_alias("/index.php", Some(query)), "{query}");
    }
}

#[test]
fn ordinary_paths_are_not() {
    for path in [
        "/",
        "/activity/8848",
        "/activity/8848/orders/17",
        "/activity/8848/comments",
        "/api/activity/8848/orders",
        "/orders",
        "/upload/%E4%BD%A0%E5%A5%BD.jpg",
        "/a;b/c//d/../e.json",
        "/activity/8848/reviews/%E4%BD%A0/orders",
        "*",
    ] {
        assert!(!is_alias(path, None), "{path}");
    }
    // A login that will come back to the order is no order.
    assert!(!is_alias("/login", Some("next=/activity/8848/orders")));
}

#[test]
fn too_much_to_read_is_refused_rather_than_let_through() {
    let deep = "/a%2f..;x%5c".repeat(600);
    assert!(is_alias(&deep, None));
    // Long, but plain.
    assert!(!is_alias(&"/abc".repeat(2_000), None));
    assert!(!is_alias(&"/%E4%BD%A0".repeat(400), None));
}

/// One thing that some server does to a path.
#[derive(Clone, Copy, Debug)]
enum Lenient {
    Decode,
    Backslash,
    Merge,
    Dots,
    Matrix,
    Trailing,
    Fold,
}

impl Lenient {
    fn read(self, path: &str) -> String {
        match self {
            Lenient::Decode => decode(path),
            Lenient::Backslash => path.replace('\\', "/"),
            Lenient::Merge => {
                let mut path = path.to_owned();
                while path.contains("//") {
                    path = path.replace("//", "/");
                }
                path
            }
            Lenient::Dots => dots(path),
            Lenient::Matrix => {
                let mut out = String::new();
                let mut skips = false;
                for c in path.chars() {
                    skips = c == ';' || skips && c != '/';
                    if !skips {
                        out.push(c);
                    }
                }
                out
            }
            Lenient::Trailing => match path.strip_suffix('/') {
                Some(rest) if !rest.is_empty() => rest.to_owned(),
                _ => path.to_owned(),
            },
            Lenient::Fold => path.to_ascii_lowercase(),
        }
    }
}

/// Byte by byte into characters, which is enough for ASCII.
fn decode(path: &str) -> String {
    let mut out = String::new();
    let mut chars = path.chars();
    while let Some(c) = chars.next() {
        let digits = chars.as_str().get(..2).filter(|_| c == '%');
        let code = digits.filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()));
        match code.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) if byte.is_ascii() => {
                out.push(char::from(byte));
                chars.nth(1);
            }
            _ => out.push(c),
        }
    }
    out
}

/// From the left, with the rest of the path in hand.
fn dots(path: &str) -> String {
    let mut out = String::new();
    let mut rest = path;
    while !rest.is_empty() {
        let end = rest.get(1..).and_then(|r| r.find('/')).map_or(rest.len(), |at| at + 1);
        let (segment, after) = rest.split_at(end);
        match segment {
            "/." | "/.." => {
                if segment == "/.." {
                    out.truncate(out.rfind('/').unwrap_or(0));
                }
                if after.is_empty() {
                    out.push('/');
                }
            }
            _ => out.push_str(segment),
        }
        rest = after;
    }
    out
}

/// What a strict route of the shop makes of what its server gives it. It knows no empty id.
fn is_purchase(path: &str) -> bool {
    let mut parts = path.split('/');
    let is_fixed = (parts.next(), parts.next()) == (Some(""), Some("activity"));
    let has_id = parts.next().is_some_and(|id| !id.is_empty());
    is_fixed && has_id && parts.next() == Some("orders") && parts.next().is_none()
}

fn steps() -> impl Strategy<Value = Vec<Lenient>> {
    use Lenient::*;
    let one = prop::sample::select(vec![Decode, Backslash, Merge, Dots, Matrix, Trailing, Fold]);
    let two_decodings =
        |steps: &Vec<Lenient>| steps.iter().filter(|step| matches!(step, Decode)).count() <= 2;
    prop::collection::vec(one, 0..8).prop_filter("at most two decodings", two_decodings)
}

/// Segments and what stands between them, so that many a target is read as a purchase by somebody.
fn target() -> impl Strategy<Value = String> {
    let segment = prop::sample::select(vec![
        "activity",
        "activity",
        "aCtivity",
        "%61ctivity",
        "%2561ctivity",
        "orders",
        "orders",
        "Orders",
        "order%73",
        "order%2573",
        "8848",
        "8848",
        "x",
        ".",
        "..",
        "%2e",
        "%2e%2e",
        "%252e%252E",
        "",
        "orders;a=b",
        "activity%3ba",
        "8848%253B",
        "%",
    ]);
    let between = prop::sample::select(vec!["/", "/", "/", "/", "%2f", "%252F", "\\", "%5c", "//"]);
    let part = (between, segment);
    prop::collection::vec(part, 3..6).prop_map(|parts| {
        let parts = parts.into_iter().map(|(between, segment)| format!("{between}{segment}"));
        let target: String = parts.collect();
        if target.starts_with('/') { target } else { format!("/{target}") }
    })
}

/// A purchase, with odd things put between its parts.
fn disguised() -> impl Strategy<Value = String> {
    let slash = prop::sample::select(vec![
        "/",
        "//",
        "%2f",
        "%252F",
        "%5c",
        "\\",
        "/./",
        "/x/../",
        ";p=1/",
        "/%2e/",
        "%2fx%2f..%2f",
    ]);
    let first = prop::sample::select(vec!["activity", "Activity", "%61ctivity", "activit%2579"]);
    let last = prop::sample::select(vec!["orders", "ORDERS", "%6Frders", "orders;x", "orders/"]);
    (prop::collection::vec(slash, 3), first, last).prop_map(|(slashes, first, last)| {
        format!("/.{}{first}{}8848{}{last}", slashes[0], slashes[1], slashes[2])
    })
}

/// Cases are cheap, and a purchase among them is rare.
fn config() -> ProptestConfig {
    let usual = ProptestConfig::default();
    ProptestConfig { cases: usual.cases.max(10_000), failure_persistence: None, ..usual }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn what_any_lenient_server_reads_as_a_purchase_is_an_alias(path in target(), steps in steps()) {
        let read = steps.iter().fold(path.clone(), |path, step| step.read(&path));
        prop_assert!(!is_purchase(&read) || is_alias(&path, None), "{path} is read as {read}");
    }

    #[test]
    fn disguises_are_seen_through(path in disguised(), steps in steps()) {
        let read = steps.iter().fold(path.clone(), |path, step| step.read(&path));
        prop_assert!(!is_purchase(&read) || is_alias(&path, None), "{path} is read as {read}");
        prop_assert!(is_alias(&path, None), "{path}");
    }
}
