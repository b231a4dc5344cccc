//! RFC 9113, sections 3 to 8: one row for each thing that a server must do with a client's frames.

use std::cell::RefCell;
use std::time::Duration;

use super::client::*;
use super::rig::run;

/// What has to come of it.
#[derive(Clone, Copy, Debug)]
enum Then {
    /// The connection ends with one of these codes, or is just closed.
    Ends(&'static [u32]),
    /// Request 1 is reset with one of these codes; the connection may end with it instead.
    Resets(&'static [u32]),
    /// Request 1 is answered with this status.
    Status(u16),
    /// Nothing: the next request is answered.
    Lives,
}
use Then::{Ends, Lives, Resets, Status};

const PROTOCOL: u32 = 1;
const FLOW: u32 = 3;
const CLOSED: u32 = 5;
const SIZE: u32 = 6;
const REFUSED: u32 = 7;
const COMPRESSION: u32 = 9;

type Row = (&'static str, Vec<Vec<u8>>, Then);

fn setting(id: u16, value: u32) -> Vec<u8> {
    frame(SETTINGS, 0, 0, &[&id.to_be_bytes()[..], &value.to_be_bytes()].concat())
}

fn word(value: u32) -> [u8; 4] {
    value.to_be_bytes()
}

fn get_with(more: &[(&'static str, &'static str)]) -> Vec<u8> {
    frame(HEADERS, ES | EH, 1, &with(&GET, more))
}

fn only(fields: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, ES | EH, 1, &block(fields))
}

/// A request whose body is to come.
fn post(more: &[(&'static str, &'static str)]) -> Vec<u8> {
    frame(HEADERS, EH, 1, &with(&POST, more))
}

fn frames() -> Vec<Row> {
    let long = vec![0; 16_385];
    let open = frame(HEADERS, ES, 1, &with(&GET, &[]));
    let end = |stream| frame(CONTINUATION, EH, stream, &[]);
    vec![
        (
            "4.1 unknown frames are ignored",
            vec![frame(0xee, 0xff, 0, b"what"), get(1, "/")],
            Status(200),
        ),
        (
            "4.1 unknown flags are ignored",
            vec![frame(PING, 0x16, 0, &[0; 8]), get(1, "/")],
            Status(200),
        ),
        (
            "4.1 the reserved bit is ignored",
            vec![frame(PING, 0, 1 << 31, &[0; 8]), get(1, "/")],
            Status(200),
        ),
        (
            "4.2 DATA of the largest size",
            vec![post(&[]), frame(DATA, ES, 1, &long[..16_384])],
            Status(200),
        ),
        ("4.2 DATA too large", vec![post(&[]), frame(DATA, ES, 1, &long)], Resets(&[SIZE])),
        ("4.2 HEADERS too large", vec![frame(HEADERS, ES | EH, 1, &long)], Ends(&[SIZE])),
        (
            "4.3 a block that is none",
            vec![frame(HEADERS, ES | EH, 1, &[0x40])],
            Ends(&[COMPRESSION]),
        ),
        (
            "4.3 PRIORITY within a block",
            vec![open.clone(), frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 9]), end(1)],
            Ends(&[PROTOCOL]),
        ),
        ("4.3 another HEADERS within a block", vec![open.clone(), get(3, "/")], Ends(&[PROTOCOL])),
        ("5.1 idle: DATA", vec![frame(DATA, ES, 1, b"x")], Ends(&[PROTOCOL, CLOSED])),
        ("5.1 idle: RST_STREAM", vec![frame(RST_STREAM, 0, 1, &word(8))], Ends(&[PROTOCOL])),
        ("5.1 idle: WINDOW_UPDATE", vec![frame(WINDOW_UPDATE, 0, 1, &word(9))], Ends(&[PROTOCOL])),
        (
            "5.1 idle: CONTINUATION",
            vec![frame(CONTINUATION, EH, 1, &with(&GET, &[]))],
            Ends(&[PROTOCOL]),
        ),
        (
            "5.1 half-closed: DATA",
            vec![get(1, "/wait"), frame(DATA, ES, 1, b"x")],
            Resets(&[CLOSED]),
        ),
        (
            "5.1 half-closed: HEADERS",
            vec![get(1, "/wait"), get(1, "/")],
            Resets(&[CLOSED, PROTOCOL]),
        ),
        ("5.1 half-closed: CONTINUATION", vec![get(1, "/wait"), end(1)], Ends(&[CLOSED, PROTOCOL])),
        (
            "5.1 closed: DATA after RST_STREAM",
            vec![get(1, "/wait"), frame(RST_STREAM, 0, 1, &word(8)), frame(DATA, ES, 1, b"x")],
            Resets(&[CLOSED]),
        ),
        (
            "5.1 closed: HEADERS after RST_STREAM",
            vec![get(1, "/wait"), frame(RST_STREAM, 0, 1, &word(8)), get(1, "/")],
            Resets(&[CLOSED, PROTOCOL]),
        ),
        (
            "5.1 closed: CONTINUATION",
            vec![get(1, "/wait"), frame(RST_STREAM, 0, 1, &word(8)), end(1)],
            Ends(&[CLOSED, PROTOCOL]),
        ),
        (
            "5.1 closed: PRIORITY is allowed",
            vec![
                get(1, "/wait"),
                frame(RST_STREAM, 0, 1, &word(8)),
                frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 9]),
            ],
            Lives,
        ),
        ("5.1.1 even numbers", vec![get(2, "/")], Ends(&[PROTOCOL])),
        ("5.1.1 numbers go up", vec![get(5, "/"), get(3, "/")], Ends(&[PROTOCOL, CLOSED])),
        (
            "5.3 PRIORITY in a head",
            vec![frame(
                HEADERS,
                ES | EH | PRIO,
                1,
                &[&[0, 0, 0, 0, 200][..], &with(&GET, &[])].concat(),
            )],
            Status(200),
        ),
        (
            "5.3.1 HEADERS that depend on themselves",
            vec![frame(
                HEADERS,
                ES | EH | PRIO,
                1,
                &[&[0, 0, 0, 1, 200][..], &with(&GET, &[])].concat(),
            )],
            Resets(&[PROTOCOL]),
        ),
        (
            "5.3.1 PRIORITY that depends on itself",
            vec![get(1, "/wait"), frame(PRIORITY, 0, 1, &[0, 0, 0, 1, 200])],
            Resets(&[PROTOCOL]),
        ),
        (
            "5.4.1 an error of the connection ends it",
            vec![get(1, "/wait"), frame(PING, 0, 3, &[0; 8]), get(5, "/")],
            Ends(&[PROTOCOL]),
        ),
        (
            "5.5 unknown frames within a block",
            vec![open.clone(), frame(0xee, 0, 1, b"x"), end(1)],
            Ends(&[PROTOCOL]),
        ),
        ("6.1 DATA on stream 0", vec![frame(DATA, ES, 0, b"x")], Ends(&[PROTOCOL])),
        (
            "6.1 padding of DATA",
            vec![post(&[]), frame(DATA, ES | PAD, 1, &[2, b'x', 0, 0])],
            Status(200),
        ),
        (
            "6.1 more padding than DATA",
            vec![post(&[]), frame(DATA, ES | PAD, 1, &[9, b'x'])],
            Ends(&[PROTOCOL]),
        ),
        (
            "6.2 HEADERS on stream 0",
            vec![frame(HEADERS, ES | EH, 0, &with(&GET, &[]))],
            Ends(&[PROTOCOL]),
        ),
        (
            "6.2 padding of HEADERS",
            vec![frame(HEADERS, ES | EH | PAD, 1, &[&[1][..], &with(&GET, &[]), &[0]].concat())],
            Status(200),
        ),
        (
            "6.2 more padding than HEADERS",
            vec![frame(HEADERS, ES | EH | PAD, 1, &[200, 0x82])],
            Ends(&[PROTOCOL]),
        ),
        (
            "6.3 PRIORITY on stream 0",
            vec![frame(PRIORITY, 0, 0, &[0, 0, 0, 0, 9])],
            Ends(&[PROTOCOL]),
        ),
        (
            "6.3 PRIORITY of another size",
            vec![get(1, "/wait"), frame(PRIORITY, 0, 1, &[0; 4])],
            Resets(&[SIZE]),
        ),
        ("6.4 RST_STREAM on stream 0", vec![frame(RST_STREAM, 0, 0, &word(8))], Ends(&[PROTOCOL])),
        (
            "6.4 RST_STREAM of another size",
            vec![get(1, "/wait"), frame(RST_STREAM, 0, 1, &[0; 3])],
            Ends(&[SIZE]),
        ),
        ("6.5 an ACK with content", vec![frame(SETTINGS, ACK, 0, &[0; 6])], Ends(&[SIZE])),
        ("6.5 SETTINGS on a stream", vec![frame(SETTINGS, 0, 1, &[])], Ends(&[PROTOCOL])),
        ("6.5 SETTINGS of another size", vec![frame(SETTINGS, 0, 0, &[0; 3])], Ends(&[SIZE])),
        ("6.5.2 ENABLE_PUSH is 0 or 1", vec![setting(2, 2)], Ends(&[PROTOCOL])),
        ("6.5.2 INITIAL_WINDOW_SIZE is bounded", vec![setting(4, 1 << 31)], Ends(&[FLOW])),
        ("6.5.2 MAX_FRAME_SIZE is not less", vec![setting(5, 16_383)], Ends(&[PROTOCOL])),
        ("6.5.2 MAX_FRAME_SIZE is not more", vec![setting(5, 1 << 24)], Ends(&[PROTOCOL])),
        ("6.5.2 unknown settings are ignored", vec![setting(0xff, 1), get(1, "/")], Status(200)),
        ("6.7 PING on a stream", vec![frame(PING, 0, 1, &[0; 8])], Ends(&[PROTOCOL])),
        ("6.7 PING of another size", vec![frame(PING, 0, 0, &[0; 6])], Ends(&[SIZE])),
        (
            "6.7 an ACK nobody asked for",
            vec![frame(PING, ACK, 0, b"whatever"), get(1, "/")],
            Status(200),
        ),
        ("6.8 GOAWAY on a stream", vec![frame(GOAWAY, 0, 1, &[0; 8])], Ends(&[PROTOCOL])),
        ("6.9 an increment of 0", vec![frame(WINDOW_UPDATE, 0, 0, &word(0))], Ends(&[PROTOCOL])),
        (
            "6.9 an increment of 0 on a stream",
            vec![get(1, "/wait"), frame(WINDOW_UPDATE, 0, 1, &word(0))],
            Resets(&[PROTOCOL]),
        ),
        (
            "6.9 WINDOW_UPDATE of another size",
            vec![frame(WINDOW_UPDATE, 0, 0, &[0; 3])],
            Ends(&[SIZE]),
        ),
        (
            "6.9.1 a window too large",
            vec![
                frame(WINDOW_UPDATE, 0, 0, &word(i32::MAX as u32)),
                frame(WINDOW_UPDATE, 0, 0, &word(i32::MAX as u32)),
            ],
            Ends(&[FLOW]),
        ),
        (
            "6.9.1 a stream's window too large",
            vec![
                get(1, "/wait"),
                frame(WINDOW_UPDATE, 0, 1, &word(i32::MAX as u32)),
                frame(WINDOW_UPDATE, 0, 1, &word(i32::MAX as u32)),
            ],
            Resets(&[FLOW]),
        ),
        (
            "6.10 several CONTINUATION",
            vec![
                frame(HEADERS, ES, 1, &with(&GET, &[])),
                frame(CONTINUATION, 0, 1, &block(&[("a", "b")])),
                frame(CONTINUATION, EH, 1, &block(&[("c", "d")])),
            ],
            Status(200),
        ),
        (
            "6.10 CONTINUATION after the end",
            vec![get(1, "/wait"), frame(CONTINUATION, EH, 1, &block(&[("c", "d")]))],
            Ends(&[PROTOCOL]),
        ),
        (
            "6.10 CONTINUATION on stream 0",
            vec![open.clone(), frame(CONTINUATION, EH, 0, &[])],
            Ends(&[PROTOCOL]),
        ),
        (
            "6.10 CONTINUATION after DATA",
            vec![post(&[]), frame(DATA, ES, 1, b"x"), end(1)],
            Ends(&[PROTOCOL]),
        ),
        (
            "7 unknown codes in RST_STREAM",
            vec![get(1, "/wait"), frame(RST_STREAM, 0, 1, &word(0xff))],
            Lives,
        ),
        (
            "7 unknown codes in GOAWAY",
            vec![get(1, "/"), frame(GOAWAY, 0, 0, &[word(0), word(0xff)].concat())],
            Status(200),
        ),
        (
            "8.4 clients do not push",
            vec![frame(PUSH_PROMISE, EH, 1, &[&word(2)[..], &with(&GET, &[])].concat())],
            Ends(&[PROTOCOL]),
        ),
    ]
}

fn messages() -> Vec<Row> {
    let trailers = |block: &[u8]| frame(HEADERS, ES | EH, 1, block);
    vec![
        (
            "8.1 a second head without the end",
            vec![post(&[]), frame(HEADERS, EH, 1, &block(&[("x", "y")]))],
            Resets(&[PROTOCOL]),
        ),
        (
            "8.1 trailers are dropped",
            vec![
                post(&[]),
                frame(DATA, 0, 1, b"abc"),
                trailers(&block(&[("x-a", "content-length")])),
            ],
            Status(200),
        ),
        ("8.2 upper case", vec![get_with(&[("X-Up", "a")])], Resets(&[PROTOCOL])),
        (
            "8.2 CR LF in a value",
            vec![get_with(&[("x", "a\r\ntransfer-encoding: chunked")])],
            Resets(&[PROTOCOL]),
        ),
        ("8.2 NUL in a value", vec![get_with(&[("x", "a\0b")])], Resets(&[PROTOCOL])),
        ("8.2 a space in a name", vec![get_with(&[("x y", "a")])], Resets(&[PROTOCOL])),
        ("8.2 a colon in a name", vec![get_with(&[("x:y", "a")])], Resets(&[PROTOCOL])),
        ("8.2 no name", vec![get_with(&[("", "a")])], Resets(&[PROTOCOL])),
        ("8.2.1 white space around a value", vec![get_with(&[("x", " a")])], Status(400)),
        ("8.2.2 connection", vec![get_with(&[("connection", "keep-alive")])], Resets(&[PROTOCOL])),
        ("8.2.2 keep-alive", vec![get_with(&[("keep-alive", "timeout=1")])], Resets(&[PROTOCOL])),
        (
            "8.2.2 proxy-connection",
            vec![get_with(&[("proxy-connection", "close")])],
            Resets(&[PROTOCOL]),
        ),
        ("8.2.2 upgrade", vec![get_with(&[("upgrade", "h2c")])], Resets(&[PROTOCOL])),
        (
            "8.2.2 transfer-encoding",
            vec![get_with(&[("transfer-encoding", "chunked")])],
            Resets(&[PROTOCOL]),
        ),
        ("8.2.2 te is trailers", vec![get_with(&[("te", "gzip")])], Resets(&[PROTOCOL])),
        ("8.2.2 te: trailers", vec![get_with(&[("te", "trailers")])], Status(200)),
        ("8.3 an unknown pseudo-field", vec![get_with(&[(":test", "x")])], Resets(&[PROTOCOL])),
        (
            "8.3 a response's pseudo-field",
            vec![get_with(&[(":status", "200")])],
            Resets(&[PROTOCOL]),
        ),
        (
            "8.3 a pseudo-field after others",
            vec![only(&[GET[0], GET[1], GET[2], ("x", "y"), GET[3]])],
            Resets(&[PROTOCOL]),
        ),
        (
            "8.3 a pseudo-field in trailers goes with them",
            vec![post(&[]), trailers(&block(&[(":method", "x")]))],
            Status(200),
        ),
        ("8.3 no method", vec![only(&GET[1..])], Resets(&[PROTOCOL])),
        ("8.3 no scheme", vec![only(&[GET[0], GET[2], GET[3]])], Resets(&[PROTOCOL])),
        ("8.3 no path", vec![only(&GET[..3])], Resets(&[PROTOCOL])),
        (
            "8.3.1 an empty path",
            vec![only(&[GET[0], GET[1], GET[2], (":path", "")])],
            Resets(&[PROTOCOL]),
        ),
        (
            "8.3 two methods",
            vec![only(&[GET[0], GET[0], GET[1], GET[2], GET[3]])],
            Resets(&[PROTOCOL]),
        ),
        (
            "8.3 two schemes",
            vec![only(&[GET[0], GET[1], GET[1], GET[2], GET[3]])],
            Resets(&[PROTOCOL]),
        ),
        (
            "8.3 two paths",
            vec![only(&[GET[0], GET[1], GET[2], GET[3], GET[3]])],
            Resets(&[PROTOCOL]),
        ),
        (
            "8.1.1 more DATA than content-length",
            vec![post(&[("content-length", "1")]), frame(DATA, ES, 1, b"ab")],
            Resets(&[PROTOCOL]),
        ),
        (
            "8.1.1 less DATA than content-length",
            vec![post(&[("content-length", "9")]), frame(DATA, ES, 1, b"ab")],
            Resets(&[PROTOCOL]),
        ),
        (
            "8.1.1 content-length over several DATA",
            vec![
                post(&[("content-length", "3")]),
                frame(DATA, 0, 1, b"ab"),
                frame(DATA, ES, 1, b"cd"),
            ],
            Resets(&[PROTOCOL]),
        ),
        (
            "8.1.1 content-length and no DATA",
            vec![get_with(&[("content-length", "9")])],
            Resets(&[PROTOCOL]),
        ),
        (
            "8.1.1 content-length that is no number",
            vec![post(&[("content-length", "+3")]), frame(DATA, ES, 1, b"abc")],
            Resets(&[PROTOCOL]),
        ),
        (
            "8.5 CONNECT is no tunnel here",
            vec![only(&[(":method", "CONNECT"), (":authority", "t:443")])],
            Status(405),
        ),
    ]
}

/// Whether `code` is one of `codes`, or the generic one, which may always be used instead (RFC 9113 5.4).
fn is_one(code: u32, codes: &[u32]) -> bool {
    code == PROTOCOL || codes.contains(&code)
}

fn run_rows(rows: Vec<Row>) {
    let wrong = RefCell::new(Vec::new());
    for (name, sent, then) in rows {
        run(async |rig| {
            let mut client = rig.greeted().await;
            client.send(sent.concat()).await;
            if let Err(what) = came_of_it(&mut client, then).await {
                wrong.borrow_mut().push(format!("{name}: {what}"));
            }
        });
    }
    assert!(wrong.borrow().is_empty(), "{}", wrong.borrow().join("\n"));
}

async fn came_of_it(client: &mut Client, then: Then) -> Result<(), String> {
    match then {
        Ends(codes) => match client.goodbye().await {
            Some(code) if !is_one(code, codes) => Err(format!("ended with {code}")),
            _ => Ok(()),
        },
        Resets(codes) => loop {
            let waiting = tokio::time::timeout(Duration::from_secs(3), client.next());
            let came = waiting.await.map_err(|_| "nothing more came".to_owned())?;
            let Some(came) = came else { return Ok(()) };
            match came.kind {
                RST_STREAM | GOAWAY if is_one(came.code(), codes) => return Ok(()),
                RST_STREAM | GOAWAY => return Err(format!("{came:?}")),
                HEADERS if came.status() == 400 => return Ok(()),
                _ => {}
            }
        },
        Status(status) => {
            let waiting = tokio::time::timeout(Duration::from_secs(3), client.response(1));
            let response = waiting.await.map_err(|_| "no response".to_owned())?;
            (response.status == status).then_some(()).ok_or(format!("{response:?}"))
        }
        Lives => {
            client.send(get(101, "/")).await;
            let waiting = tokio::time::timeout(Duration::from_secs(3), client.response(101));
            let response = waiting.await.map_err(|_| "no response".to_owned())?;
            (response.status == 200).then_some(()).ok_or(format!("{response:?}"))
        }
    }
}

#[test]
fn frames_are_judged_as_the_standard_says() {
    run_rows(frames());
}

#[test]
fn messages_are_judged_as_the_standard_says() {
    run_rows(messages());
}

#[test]
fn a_preface_that_is_none_ends_the_connection() {
    run(async |rig| {
        let mut client = rig.pipe(64 * 1024);
        client.send(b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n").await;
        assert!(client.goodbye().await.is_none_or(|code| code == PROTOCOL));
    });
}

#[test]
fn the_first_frame_is_settings() {
    run(async |rig| {
        let mut client = rig.pipe(64 * 1024);
        client.send([PREFACE, &frame(PING, 0, 0, &[0; 8])].concat()).await;
        assert!(client.goodbye().await.is_none_or(|code| code == PROTOCOL));
    });
}

#[test]
fn a_ping_comes_back_as_it_was() {
    run(async |rig| {
        let mut client = rig.greeted().await;
        client.send(frame(PING, 0, 0, b"12345678")).await;
        let came = client.next().await.expect("a frame");
        assert_eq!((came.kind, came.flags, &came.content[..]), (PING, ACK, &b"12345678"[..]));
    });
}

#[test]
fn more_requests_than_were_allowed_are_refused() {
    run(async |rig| {
        let mut client = rig.greeted().await;
        for n in 0..65 {
            client.send(get(1 + 2 * n, "/wait")).await;
        }
        let came = loop {
            let came = client.next().await.expect("a frame");
            if came.kind == RST_STREAM {
                break came;
            }
        };
        assert_eq!((came.stream, came.code()), (129, REFUSED));
        assert_eq!(rig.told.worked.get(), 64);
    });
}

#[test]
fn windows_are_kept() {
    run(async |rig| {
        let mut client = rig.pipe(256 * 1024);
        // Nothing may be sent, then 1 byte, then 3 fewer, then more.
        client.greet(&[&4u16.to_be_bytes()[..], &word(0)].concat()).await;
        client.send(get(1, "/")).await;
        let head = client.next().await.expect("a head");
        assert_eq!((head.kind, head.ends()), (HEADERS, false));
        client.send(setting(4, 1)).await;
        let mut body = Vec::new();
        while body.is_empty() {
            let came = client.next().await.expect("a frame");
            if came.kind == DATA {
                body = came.content;
            }
        }
        assert_eq!(body.len(), 1);
        client.send(setting(4, 0)).await;
        client.send(frame(WINDOW_UPDATE, 0, 1, &word(1))).await;
        client.send(frame(PING, 0, 0, b"no data!")).await;
        loop {
            let came = client.next().await.expect("a frame");
            assert_ne!(came.kind, DATA, "the window is at most 0");
            if came.kind == PING {
                break;
            }
        }
        client.send(frame(WINDOW_UPDATE, 0, 1, &word(1000))).await;
        let mut rest = client.response(1).await;
        rest.body.splice(..0, body);
        assert_eq!(rest.text(), "GET shop.example / None []");
    });
}
