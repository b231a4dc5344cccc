use proptest::prelude::*;

use super::*;
use crate::http::walker::BodyWalker;

/// What a head came to, owned.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    method: String,
    target: String,
    host: String,
    fields: Vec<(String, Vec<u8>)>,
    body: BodyKind,
    persistent: bool,
    expects: bool,
    bytes: usize,
}

fn read(bytes: &[u8]) -> Result<Option<Seen>, Refusal> {
    read_within(bytes, &Limits::default())
}

fn read_within(bytes: &[u8], limits: &Limits) -> Result<Option<Seen>, Refusal> {
    let mut fields = Vec::new();
    let request = read_head(bytes, limits, &mut fields)?;
    Ok(request.map(|request| {
        let head = &request.head;
        let query = head.query.map(|query| format!("?{query}")).unwrap_or_default();
        let name = |f: &Field<'_>| String::from_utf8_lossy(f.name).into_owned();
        Seen {
            method: head.method.to_string(),
            target: format!("{}{query}", head.path),
            host: head.host.to_string(),
            fields: head.fields.iter().map(|f| (name(f), f.value.to_vec())).collect(),
            body: head.body,
            persistent: request.persistent,
            expects: request.expects_continue,
            bytes: request.bytes,
        }
    }))
}

fn good(text: &str) -> Seen {
    read(text.as_bytes()).expect(text).expect("complete")
}

#[test]
fn a_plain_head() {
    let text =
        "GET /a/b?c=d HTTP/1.1\r\nHost: Shop.example:80\r\nX-A: \t b c \t\r\nX-E:\r\n\r\nrest";
    let seen = good(text);
    assert_eq!(seen.method, "GET");
    assert_eq!(seen.target, "/a/b?c=d");
    assert_eq!(seen.host, "shop.example");
    let fields = [("Host", "Shop.example:80"), ("X-A", "b c"), ("X-E", "")];
    assert_eq!(seen.fields, fields.map(|(n, v)| (n.to_owned(), v.as_bytes().to_vec())));
    assert_eq!((seen.body, seen.persistent, seen.expects), (BodyKind::None, true, false));
    assert_eq!(seen.bytes, text.len() - 4);
}

#[test]
fn targets_are_brought_to_origin_form() {
    for (target, kept) in [
        ("http://A/x", "/x"),
        ("https://a:443/x?y", "/x?y"),
        ("HTTP://a", "/"),
        ("//evil/x", "//evil/x"),
        ("/a/../b/%2e%2e/%c", "/a/../b/%2e%2e/%c"),
    ] {
        assert_eq!(good(&format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")).target, kept);
    }
    assert_eq!(good("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").target, "*");
}

#[test]
fn persistence_follows_version_and_connection() {
    for (version, connection, persistent) in [
        ("1.1", "", true),
        ("1.1", "Connection: close\r\n", false),
        ("1.1", "Connection: x, CLOSE\r\n", false),
        ("1.1", "Connection: x\r\nConnection: close\r\n", false),
        ("1.1", "Connection: closed\r\n", true),
        ("1.0", "", false),
        ("1.0", "Connection: Keep-Alive\r\n", true),
        ("1.0", "Connection: keep-alive, close\r\n", false),
    ] {
        let text = format!("GET / HTTP/{version}\r\nHost: a\r\n{connection}\r\n");
        assert_eq!(good(&text).persistent, persistent, "{text:?}");
    }
}

#[test]
fn bodies_and_expectations() {
    let post = |rest: &str| good(&format!("POST / HTTP/1.1\r\nHost: a\r\n{rest}\r\n"));
    assert_eq!(post("Content-Length: 003\r\n").body, BodyKind::Sized(3));
    assert_eq!(post("Content-Length: 0\r\n").body, BodyKind::None);
    assert_eq!(post("Transfer-Encoding: cHuNkEd\r\n").body, BodyKind::Chunked);
    assert_eq!(post("").body, BodyKind::None);
    assert!(post("Content-Length: 3\r\nExpect: 100-Continue\r\n").expects);
    assert!(!post("Expect: 100-continue\r\n").expects);
    let old = good("POST / HTTP/1.0\r\nContent-Length: 3\r\nExpect: anything\r\n\r\n");
    assert!(!old.expects);
    assert_eq!(old.host, "");
}

#[test]
fn fields_with_underscores_are_dropped_but_counted_and_checked() {
    let seen = good("GET / HTTP/1.1\r\nHost: a\r\nTransfer_Encoding: chunked\r\nX-A: b\r\n\r\n");
    assert_eq!(seen.fields.len(), 2);
    assert_eq!(seen.body, BodyKind::None);
    assert_eq!(read(b"GET / HTTP/1.1\r\nX_A: \0\r\n"), Err(Refusal::FieldValue));
}

#[test]
fn two_empty_lines_are_tolerated() {
    assert_eq!(good("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n").target, "/");
    assert_eq!(read(b"\r\n\r\n\r\n"), Err(Refusal::BlankLines));
    assert_eq!(read(b"\r\n\r\n\r"), Err(Refusal::BlankLines));
}

#[test]
fn each_bound_is_exact() {
    let limits = Limits {
        head_bytes_max: 300,
        target_bytes_max: 20,
        field_bytes_max: 100,
        fields_max: 4,
        ..Limits::default()
    };
    let ok = |text: &str| matches!(read_within(text.as_bytes(), &limits), Ok(Some(_)));
    let refusal = |text: &str| read_within(text.as_bytes(), &limits).expect_err(text);
    let target = |n: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(n - 1));
    assert!(ok(&target(20)));
    assert_eq!(refusal(&target(21)), Refusal::TargetTooLong);
    let field = |n: usize| format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "a".repeat(n - 3));
    assert!(ok(&field(100)));
    assert_eq!(refusal(&field(101)), Refusal::FieldTooLong);
    let many = |n: usize| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(n - 1));
    assert!(ok(&many(4)));
    assert_eq!(refusal(&many(5)), Refusal::TooManyFields);
    let start = "GET / HTTP/1.1\r\nHost: a\r\n";
    let whole = |n: usize| {
        let rest = n - start.len() - 4 * 2 - 3 * 2;
        let lines = [90, 90, rest - 180].map(|n| format!("X:{}\r\n", "a".repeat(n)));
        format!("{start}{}\r\n", lines.concat())
    };
    assert_eq!(whole(300).len(), 300);
    assert!(ok(&whole(300)));
    assert_eq!(refusal(&whole(301)), Refusal::HeadTooLarge);
    let method = |n: usize| format!("{} / HTTP/1.1\r\nHost: a\r\n\r\n", "A".repeat(n));
    assert!(ok(&method(METHOD_BYTES_MAX)));
    assert_eq!(refusal(&method(METHOD_BYTES_MAX + 1)), Refusal::MethodTooLong);
}

#[test]
fn refusals_come_as_soon_as_they_can() {
    for (start, refusal) in [
        ("\x16\x03", Refusal::Method),
        ("G{", Refusal::Method),
        (" ", Refusal::Method),
        ("GET\t", Refusal::Method),
        ("GET\n", Refusal::Method),
        ("TRACE ", Refusal::MethodRefused),
        ("CONNECT ", Refusal::MethodRefused),
        ("GET  ", Refusal::Target),
        ("GET /#", Refusal::Target),
        ("GET /\\", Refusal::Target),
        ("GET /\u{e4}", Refusal::Target),
        ("GET /\r", Refusal::Target),
        ("GET / h", Refusal::Version),
        ("GET / HTTP/1.1 ", Refusal::Version),
        ("GET / HTTP/1.1\n", Refusal::BareLf),
        ("GET / HTTP/11", Refusal::Version),
        ("GET / HTTP/1.2\r\n", Refusal::VersionUnknown),
        ("PRI * HTTP/2.0\r\n", Refusal::VersionUnknown),
        ("GET / HTTP/1.1\r\n ", Refusal::Folded),
        ("GET / HTTP/1.1\r\n\n", Refusal::BareLf),
        ("GET / HTTP/1.1\r\n:", Refusal::FieldName),
        ("GET / HTTP/1.1\r\nX ", Refusal::FieldName),
        ("GET / HTTP/1.1\r\nX\r", Refusal::FieldName),
        ("GET / HTTP/1.1\r\nX: a\n", Refusal::BareLf),
        ("GET / HTTP/1.1\r\nX: a\rb", Refusal::BareCr),
        ("GET / HTTP/1.1\r\nX: a\x0b", Refusal::FieldValue),
        ("GET / HTTP/1.1\r\nX: a\x7f", Refusal::FieldValue),
    ] {
        assert_eq!(read(start.as_bytes()), Err(refusal), "{start:?}");
    }
}

/// One thing that a stream of requests came to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Event {
    Head(Seen),
    Body(usize),
    Refused(Refusal),
}

/// Reads a stream that comes in the given pieces.
fn events(pieces: &[&[u8]]) -> Vec<Event> {
    let limits = Limits { head_bytes_max: 400, target_bytes_max: 60, ..Limits::default() };
    let (mut input, mut out) = (Vec::new(), Vec::new());
    let mut body: Option<(BodyWalker, usize)> = None;
    for piece in pieces {
        input.extend_from_slice(piece);
        loop {
            if let Some((walker, length)) = &mut body {
                match walker.advance(&input) {
                    Ok(used) => {
                        input.drain(..used);
                        *length += used;
                    }
                    Err(refusal) => {
                        out.push(Event::Refused(refusal));
                        return out;
                    }
                }
                if !walker.is_done() {
                    break;
                }
                out.push(Event::Body(*length));
                body = None;
            }
            match read_within(&input, &limits) {
                Ok(None) => break,
                Ok(Some(seen)) => {
                    input.drain(..seen.bytes);
                    body = Some((BodyWalker::new(seen.body), 0));
                    out.push(Event::Head(seen));
                }
                Err(refusal) => {
                    out.push(Event::Refused(refusal));
                    return out;
                }
            }
        }
    }
    out
}

const PARTS: &[&str] = &[
    "GET / HTTP/1.1\r\n",
    "POST /p?q HTTP/1.1\r\n",
    "GET http://a/x HTTP/1.0\r\n",
    "OPTIONS * HTTP/1.1\r\n",
    "Host: a\r\n",
    "Host: a\r\n",
    "Content-Length: 5\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Connection: close\r\n",
    "Expect: 100-continue\r\n",
    "X-Long: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n",
    "\r\n",
    "\r\n",
    "hello",
    "5\r\nhello\r\n",
    "0\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
];

fn stream() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        20 => prop::sample::select(PARTS).prop_map(|part| part.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..6),
    ];
    let parts = prop::collection::vec(part, 1..16).prop_map(|parts| parts.concat());
    (parts, any::<prop::sample::Index>(), prop::option::weighted(0.3, any::<u8>())).prop_map(
        |(mut bytes, at, changed)| {
            if let Some(changed) = changed
                && !bytes.is_empty()
            {
                let at = at.index(bytes.len());
                bytes[at] = changed;
            }
            bytes
        },
    )
}

proptest! {
    #[test]
    fn cuts_change_nothing(
        bytes in stream(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..10),
    ) {
        let whole = events(&[&bytes]);
        let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        at.extend([0, bytes.len()]);
        at.sort_unstable();
        let pieces: Vec<&[u8]> = at.windows(2).map(|two| &bytes[two[0]..two[1]]).collect();
        prop_assert_eq!(&events(&pieces), &whole);
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        prop_assert_eq!(&events(&single), &whole);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = events(&[&bytes]);
    }
}
