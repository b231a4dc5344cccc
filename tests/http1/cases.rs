//! Byte cases of framing and syntax. What other servers do with each differs; what we do is here.

/// What has to happen.
#[derive(Clone, Copy, Debug)]
pub enum Expect {
    /// This status, then a close; nothing behind it is decided.
    Refused(u16),
    /// These statuses, and the connection lives.
    Served(&'static [u16]),
    /// This status, and then a close although nothing was wrong.
    Last(u16),
}

use Expect::{Last, Refused, Served};

const SECOND: &[u8] = b"GET /second HTTP/1.1\r\nHost: a\r\n\r\n";

/// Name, bytes, and what has to happen.
pub type Case = (&'static str, Vec<u8>, Expect);

/// All cases.
pub fn all() -> Vec<Case> {
    let mut cases: Vec<Case> =
        ROWS.iter().map(|(name, bytes, expect)| (*name, bytes.to_vec(), *expect)).collect();
    cases.extend(large());
    cases
}

/// A head with `count` fields beside Host.
fn many(count: usize) -> Vec<u8> {
    let fields: String = (0..count).map(|i| format!("X{i}: y\r\n")).collect();
    [b"GET / HTTP/1.1\r\nHost: a\r\n", fields.as_bytes(), b"\r\n", SECOND].concat()
}

fn large() -> Vec<Case> {
    vec![
        (
            "chunk ext big 20k",
            [
                b"POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;",
                &b"a".repeat(20_000)[..],
                b"\r\nabc\r\n0\r\n\r\n",
                SECOND,
            ]
            .concat(),
            Refused(400),
        ),
        ("leading CRLF x2000", [&b"\r\n".repeat(2000)[..], SECOND].concat(), Refused(400)),
        (
            "method long 10k",
            [&b"A".repeat(10_000)[..], b" / HTTP/1.1\r\nHost: a\r\n\r\n", SECOND].concat(),
            Refused(501),
        ),
        ("101 headers", many(100), Refused(431)),
        ("99 headers", many(98), Refused(431)),
        (
            "URI 9k",
            [b"GET /", &b"a".repeat(9_000)[..], b" HTTP/1.1\r\nHost: a\r\n\r\n", SECOND].concat(),
            Refused(414),
        ),
        (
            "URI 70k",
            [b"GET /", &b"a".repeat(70_000)[..], b" HTTP/1.1\r\nHost: a\r\n\r\n", SECOND].concat(),
            Refused(414),
        ),
        (
            "hdr 70k",
            [b"GET / HTTP/1.1\r\nHost: a\r\nX: ", &b"a".repeat(70_000)[..], b"\r\n\r\n", SECOND]
                .concat(),
            Refused(431),
        ),
        (
            "hdr 450k",
            [b"GET / HTTP/1.1\r\nHost: a\r\nX: ", &b"a".repeat(450_000)[..], b"\r\n\r\n", SECOND]
                .concat(),
            Refused(431),
        ),
        (
            "S36 1,000 trailers",
            [
                b"POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
                &b"X: y\r\n".repeat(1000)[..],
                b"\r\n",
                SECOND,
            ]
            .concat(),
            Refused(400),
        ),
        (
            "S19 extensions on 1-byte chunks",
            [
                b"POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
                &b"1;aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\na\r\n".repeat(1000)[..],
                b"0\r\n\r\n",
                SECOND,
            ]
            .concat(),
            Refused(400),
        ),
        ("64 fields", many(63), Served(&[200, 200])),
    ]
}

#[rustfmt::skip] // one case, one line
const ROWS: &[(&str, &[u8], Expect)] = &[
    ("CL+TE", b"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("TE+CL", b"POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n0\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("TE chunked,identity", b"POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("TE identity,chunked", b"POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(501)),
    ("TE gzip,chunked", b"POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(501)),
    ("TE chunked,chunked", b"POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("two TE chunked/identity", b"POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("two TE identity/chunked", b"POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("TE xchunked", b"POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("TE foo,xchunked? 'foochunked'", b"POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: foo chunked\r\n\r\n0\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("TE Chunked case", b"POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: cHuNkEd\r\n\r\n0\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Served(&[200, 200])),
    ("TE tab", b"POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\tchunked\r\n\r\n0\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Served(&[200, 200])),
    ("TE VT", b"POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("TE quoted", b"POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("TE chunked;x", b"POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("TE space before colon", b"POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("TE leading space line", b"POST /p HTTP/1.1\r\nHost: a\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("TE obs-fold", b"POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("X obs-fold TE", b"POST /p HTTP/1.1\r\nHost: a\r\nX: a\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("TE empty", b"POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\nContent-Length: 3\r\n\r\nabcGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("Transfer_Encoding", b"POST /p HTTP/1.1\r\nHost: a\r\nTransfer_Encoding: chunked\r\nContent-Length: 3\r\n\r\nabcGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Served(&[200, 200])),
    ("HTTP/1.0+TE", b"POST /p HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("HTTP/1.0 no CL body", b"POST /p HTTP/1.0\r\nHost: a\r\n\r\nhello", Last(200)),
    ("CL +3", b"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\nabcGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("CL -3", b"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: -3\r\n\r\nabcGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("CL '3 '", b"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 3 \r\n\r\nabcGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Served(&[200, 200])),
    ("CL '3 4'", b"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 3 4\r\n\r\nabcGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("CL 3, 3", b"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3\r\n\r\nabcGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("CL 3,4", b"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 4\r\n\r\nabcGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("CL dup same", b"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabcGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("CL dup differ", b"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("CL 0x3", b"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 0x3\r\n\r\nabcGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("CL 003", b"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 003\r\n\r\nabcGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Served(&[200, 200])),
    ("CL empty", b"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: \r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("CL 2^64+3", b"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551619\r\n\r\nabcGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("CL 1e1", b"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 1e1\r\n\r\nabcGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("CL 3_0", b"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 0_3\r\n\r\nabcGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("CL NBSP", b"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: \xa03\r\n\r\nabcGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("CL space colon", b"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length : 3\r\n\r\nabcGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("chunk ext", b"POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n0\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("chunk ext bare LF", b"POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;\nx\r\nabc\r\n0\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("chunk ext CR", b"POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;a\rb\r\nabc\r\n0\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("chunk size LF", b"POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("chunk data LF", b"POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\n0\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("chunk last LF", b"POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("chunk data wrong term", b"POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcXX0\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("chunk 0x3", b"POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("chunk +3", b"POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n+3\r\nabc\r\n0\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("chunk -1", b"POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\nabc\r\n0\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("chunk ' 3'", b"POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n 3\r\nabc\r\n0\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("chunk '3 '", b"POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3 \r\nabc\r\n0\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("chunk 0003", b"POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0000000000000000000003\r\nabc\r\n0\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("chunk 2^64", b"POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000003\r\nabc\r\n0\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("chunk f*16", b"POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nabc\r\n0\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("chunk empty size", b"POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\r\nabc\r\n0\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("trailer CL", b"POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 5\r\nHost: evil\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Served(&[200, 200])),
    ("trailer TE", b"POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nTransfer-Encoding: chunked\r\nX-Forwarded-For: 1.1.1.1\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Served(&[200, 200])),
    ("bare LF all", b"GET / HTTP/1.1\nHost: a\n\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("bare LF 1 hdr", b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("bare CR in value", b"GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("bare CR hdr split", b"GET / HTTP/1.1\r\nHost: a\r\nX: a\rTransfer-Encoding: chunked\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("NUL in value", b"GET / HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("NUL in name", b"GET / HTTP/1.1\r\nHost: a\r\nX\x00Y: a\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("NUL in path", b"GET /a\x00b HTTP/1.1\r\nHost: a\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("ctl in value \\x01", b"GET / HTTP/1.1\r\nHost: a\r\nX: a\x01b\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("8bit value", b"GET / HTTP/1.1\r\nHost: a\r\nX: a\xffb\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Served(&[200, 200])),
    ("empty name", b"GET / HTTP/1.1\r\nHost: a\r\n: x\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("no colon", b"GET / HTTP/1.1\r\nHost: a\r\nfoo\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("space before colon", b"GET / HTTP/1.1\r\nHost: a\r\nX : b\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("first hdr space", b"GET / HTTP/1.1\r\n Host: a\r\nHost: b\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("leading CRLF x1", b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Served(&[200])),
    ("double space reqline", b"GET  / HTTP/1.1\r\nHost: a\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("tab reqline", b"GET\t/\tHTTP/1.1\r\nHost: a\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("lowercase http", b"GET / http/1.1\r\nHost: a\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("HTTP/1.2", b"GET / HTTP/1.2\r\nHost: a\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(505)),
    ("HTTP/2.0", b"GET / HTTP/2.0\r\nHost: a\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(505)),
    ("HTTP/11.1", b"GET / HTTP/11.1\r\nHost: a\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("HTTP/0.9", b"GET /\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("no host 1.1", b"GET / HTTP/1.1\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("two hosts", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("two hosts same", b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("host userinfo", b"GET / HTTP/1.1\r\nHost: a@evil\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("host comma", b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("host path", b"GET / HTTP/1.1\r\nHost: a/b?c#d\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("host bad port", b"GET / HTTP/1.1\r\nHost: a:99999\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("host empty", b"GET / HTTP/1.1\r\nHost:\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("abs-form mismatch", b"GET http://b/x HTTP/1.1\r\nHost: a\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("abs-form https", b"GET https://b/x HTTP/1.1\r\nHost: a\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("abs-form file", b"GET file:///etc/passwd HTTP/1.1\r\nHost: a\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("authority GET", b"GET a:80 HTTP/1.1\r\nHost: a\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("@evil target", b"GET @evil/x HTTP/1.1\r\nHost: a\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("no slash target", b"GET x HTTP/1.1\r\nHost: a\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("fragment target", b"GET /x#y HTTP/1.1\r\nHost: a\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("//evil target", b"GET //evil/x HTTP/1.1\r\nHost: a\r\n\r\n", Served(&[200])),
    ("backslash", b"GET /a\\..\\b HTTP/1.1\r\nHost: a\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("utf8 raw path", b"GET /\xe4\xb8\xad HTTP/1.1\r\nHost: a\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("bad utf8 path", b"GET /\xff\xfe HTTP/1.1\r\nHost: a\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("CONNECT", b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(405)),
    ("TRACE", b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(405)),
    ("OPTIONS *", b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", Served(&[200])),
    ("GET *", b"GET * HTTP/1.1\r\nHost: a\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("method garbage", b"G{T / HTTP/1.1\r\nHost: a\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("method lower", b"get / HTTP/1.1\r\nHost: a\r\n\r\n", Served(&[200])),
    ("GET body CL", b"GET /fat HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Served(&[200, 200])),
    ("Expect bogus", b"POST /p HTTP/1.1\r\nHost: a\r\nExpect: 200-ok\r\nContent-Length: 3\r\n\r\nabcGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(417)),
    ("Expect y100", b"POST /p HTTP/1.1\r\nHost: a\r\nExpect: y 100-continue\r\nContent-Length: 3\r\n\r\nabcGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(417)),
    ("Expect dup", b"POST /p HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabcGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(417)),
    ("Expect GET", b"GET /x HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabcGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(417)),
    ("Upgrade h2c", b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\nConnection: Upgrade, HTTP2-Settings\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Served(&[200, 200])),
    ("Connection strips", b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close, Host, X-Forwarded-For\r\nX-Forwarded-For: 1.2.3.4\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("TLS hello to plain", b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x03\x03GET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("PROXY v1 prefix", b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("h2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00GET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(505)),
    ("S04 S06 TE 'chunked,'", b"POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked,\r\n\r\n0\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("S04 S06 TE ',chunked'", b"POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: ,chunked\r\n\r\n0\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("S04 S06 TE 'identity'", b"POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(501)),
    ("S04 S06 TE 'chunked;'", b"POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked;\r\n\r\n0\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("S04 S06 TE 'chunked chunked'", b"POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked chunked\r\n\r\n0\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("S04 TE trailing space", b"POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked \r\n\r\n0\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Served(&[200, 200])),
    ("S14 CL 22 digits", b"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999999999999999999\r\n\r\nabcGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("S14 CL with many zeros", b"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 000000000000000000003\r\n\r\nabcGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("S18 last CRLF as LF", b"POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("S19 quoted extension", b"POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;\"\r\n\"\r\nabc\r\n0\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("S23 Expect empty", b"POST /p HTTP/1.1\r\nHost: a\r\nExpect:\r\nContent-Length: 3\r\n\r\nabcGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(417)),
    ("S25 websocket", b"GET /x HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: x\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Served(&[200, 200])),
    ("S26 absolute, same host", b"GET HTTP://A/x HTTP/1.1\r\nHost: a\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Served(&[200, 200])),
    ("S26 absolute, no authority", b"GET http:///x HTTP/1.1\r\nHost: a\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("S28 Host with two ports", b"GET / HTTP/1.1\r\nHost: a:80:80\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("S28 long label", b"GET / HTTP/1.1\r\nHost: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("S29 HTTP/1.0 without Host", b"GET / HTTP/1.0\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Last(200)),
    ("S31 bytes above ASCII", b"GET / HTTP/1.1\r\nHost: a\r\nConnection: \xff\r\nCookie: \xff\r\nUser-Agent: \xff\r\nReferer: \xe4\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Served(&[200, 200])),
    ("S34 three empty lines", b"\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("S35 unknown method", b"FOO / HTTP/1.1\r\nHost: a\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", Served(&[200, 200])),
];
