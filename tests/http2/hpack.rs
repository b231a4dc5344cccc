//! RFC 7541 as a server can be tested for it: header compression that is broken ends the connection.

use super::client::*;
use super::rig::run;

/// COMPRESSION_ERROR, or the generic code, which may always be used instead (RFC 9113 5.4).
fn is_broken(code: Option<u32>) -> bool {
    code.is_none_or(|code| matches!(code, 1 | 9))
}

#[test]
fn broken_compression_ends_the_connection() {
    let huge = {
        let mut out = Vec::new();
        integer(4_097, 5, 0x20, &mut out);
        out
    };
    let rows: Vec<(&str, Vec<u8>)> = vec![
        ("2.3.3 an index beyond both tables", vec![0x80 | 70]),
        ("2.3.3 a name beyond both tables", vec![0x40 | 63, 70, 1, b'x']),
        ("4.2 a change of size at the end", [with(&GET, &[]), vec![0x20]].concat()),
        ("5.1 an integer without an end", vec![0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        (
            "5.2 padding of more than seven bits",
            [with(&GET, &[]), vec![0, 0x01, b'x', 0x84, 0x1f, 0xff, 0xff, 0xff]].concat(),
        ),
        (
            "5.2 padding that is not of ones",
            [with(&GET, &[]), vec![0, 0x01, b'x', 0x81, 0x18]].concat(),
        ),
        (
            "5.2 the end within a text",
            [with(&GET, &[]), vec![0, 0x01, b'x', 0x84, 0xff, 0xff, 0xff, 0xff]].concat(),
        ),
        ("5.2 a text longer than its block", [with(&GET, &[]), vec![0, 0x7e, b'x']].concat()),
        ("6.1 index 0", vec![0x80]),
        ("6.3 a table larger than allowed", [huge, with(&GET, &[])].concat()),
    ];
    for (name, block) in rows {
        run(async |rig| {
            let mut client = rig.greeted().await;
            client.send(frame(HEADERS, ES | EH, 1, &block)).await;
            let code = client.goodbye().await;
            assert!(is_broken(code), "{name}: {code:?}");
            assert_eq!(rig.told.asked.get(), 0, "{name}");
        });
    }
}

#[test]
fn both_tables_are_used() {
    run(async |rig| {
        let mut client = rig.greeted().await;
        // :method GET and :scheme https of the static table, :authority into the dynamic one.
        let mut first = vec![0x82, 0x87, 0x84, 0x41, 12];
        first.extend_from_slice(b"shop.example");
        client.send(frame(HEADERS, ES | EH, 1, &first)).await;
        assert_eq!(client.response(1).await.text(), "GET shop.example / None []");
        client.send(frame(HEADERS, ES | EH, 3, &[0x82, 0x87, 0x84, 0xbe])).await;
        assert_eq!(client.response(3).await.text(), "GET shop.example / None []");
        // A table of nothing, at the beginning of a block, is allowed; then the entry is gone.
        client.send(frame(HEADERS, ES | EH, 5, &[0x20, 0x82, 0x87, 0x84, 0xbe])).await;
        assert!(is_broken(client.goodbye().await));
    });
}

#[test]
fn compressed_texts_are_read() {
    run(async |rig| {
        let mut client = rig.greeted().await;
        // RFC 7541 C.4.1: www.example.com.
        let block = [
            0x82, 0x86, 0x84, 0x41, 0x8c, 0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab,
            0x90, 0xf4, 0xff,
        ];
        client.send(frame(HEADERS, ES | EH, 1, &block)).await;
        assert_eq!(client.response(1).await.text(), "GET www.example.com / None []");
    });
}

#[test]
fn every_representation_is_read() {
    // RFC 7541 6.2: in the table, not in it, never in it; names of the static table, the dynamic table
    // and their own, each plain and compressed.
    let rows: &[(&str, &[u8])] = &[
        ("6.2.1 a name of the table", &[0x40 | 58, 2, b'm', b'e']),
        ("6.2.1 a compressed value", &[0x40 | 58, 0x82, 0xa4, 0xbf]),
        ("6.2.1 a name of its own", &[0x40, 1, b'x', 1, b'y']),
        ("6.2.1 a compressed name", &[0x40, 0x81, 0xf3, 1, b'y']),
        ("6.2.2 a name of the table", &[0x0f, 43, 2, b'm', b'e']),
        ("6.2.2 a compressed value", &[0x0f, 43, 0x82, 0xa4, 0xbf]),
        ("6.2.2 a name of its own", &[0, 1, b'x', 1, b'y']),
        ("6.2.3 a name of the table", &[0x1f, 43, 2, b'm', b'e']),
        ("6.2.3 a name of its own", &[0x10, 1, b'x', 1, b'y']),
        ("6.2.3 a compressed name", &[0x10, 0x81, 0xf3, 0x82, 0xa4, 0xbf]),
        ("6.1 a field that stands in the table since", &[0x40, 1, b'x', 1, b'y', 0xbe]),
        ("6.2.1 a name that stands in it", &[0x40, 1, b'x', 1, b'y', 0x7e, 1, b'z']),
    ];
    for (name, bytes) in rows {
        run(async |rig| {
            let mut client = rig.greeted().await;
            let block = [&with(&GET, &[]), *bytes].concat();
            client.send(frame(HEADERS, ES | EH, 1, &block)).await;
            assert_eq!(client.response(1).await.status, 200, "{name}");
        });
    }
}
