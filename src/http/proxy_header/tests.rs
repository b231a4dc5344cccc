use proptest::prelude::*;

use super::*;

/// A header of version 2.
fn v2_of(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = V2_SIGNATURE.to_vec();
    bytes.extend([command, family]);
    bytes.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
    bytes.extend(body);
    bytes
}

/// 1.2.3.4:5 to 6.7.8.9:10, and extensions.
fn v4_body(extensions: &[u8]) -> Vec<u8> {
    [&[1, 2, 3, 4, 6, 7, 8, 9, 0, 5, 0, 10][..], extensions].concat()
}

fn named(text: &str) -> Option<SocketAddr> {
    Some(text.parse().unwrap())
}

#[test]
fn lines_of_version_1() {
    for (line, client) in [
        ("PROXY TCP4 1.2.3.4 5.6.7.8 1024 443\r\n", named("1.2.3.4:1024")),
        (
            "PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
            named("255.255.255.255:65535"),
        ),
        ("PROXY TCP4 1.2.3.4 5.6.7.8 0 0\r\n", named("1.2.3.4:0")),
        ("PROXY TCP6 2001:db8::1 ::1 1 2\r\n", named("[2001:db8::1]:1")),
        // A mapped address is itself.
        ("PROXY TCP6 ::ffff:1.2.3.4 ::1 1 2\r\n", named("1.2.3.4:1")),
        ("PROXY UNKNOWN\r\n", None),
        ("PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", None),
    ] {
        assert_eq!(read(line.as_bytes()), Ok(Seen::Header(line.len(), client)), "{line}");
        let with_more = format!("{line}GET / HTTP/1.1\r\n");
        assert_eq!(read(with_more.as_bytes()), Ok(Seen::Header(line.len(), client)));
    }
}

#[test]
fn lines_that_are_none() {
    for line in [
        "PROXI ",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "POST / HTTP/1.1\r\n",
        "PROXY \r\n",
        "PROXY  TCP4 1.2.3.4 5.6.7.8 1 2\r\n",
        "PROXY TCP4  1.2.3.4 5.6.7.8 1 2\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 1 2 3\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 1 2 \r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 1 65536\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 01 2\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 +1 2\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 -1 2\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 1 \r\n",
        "PROXY TCP4 1.2.3 5.6.7.8 1 2\r\n",
        "PROXY TCP4 01.2.3.4 5.6.7.8 1 2\r\n",
        "PROXY TCP4 1.2.3.4.5 5.6.7.8 1 2\r\n",
        "PROXY TCP4 2001:db8::1 ::1 1 2\r\n",
        "PROXY TCP6 1.2.3.4 5.6.7.8 1 2\r\n",
        "PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n",
        "PROXY TCP6 [::1] ::1 1 2\r\n",
        "PROXY tcp4 1.2.3.4 5.6.7.8 1 2\r\n",
        "PROXY UDP4 1.2.3.4 5.6.7.8 1 2\r\n",
        "PROXY TCP4\t1.2.3.4\t5.6.7.8\t1\t2\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 1 2\rX",
        "PROXY TCP4 1.2.3.4\0 5.6.7.8 1 2\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 1 ２\r\n",
    ] {
        assert_eq!(read(line.as_bytes()), Err(Malformed::Line), "{line:?}");
    }
    let longest = format!("PROXY UNKNOWN {}\r\n", "x".repeat(V1_BYTES_MAX - 16));
    assert_eq!(read(longest.as_bytes()), Ok(Seen::Header(V1_BYTES_MAX, None)));
    let longer = format!("PROXY UNKNOWN {}\r\n", "x".repeat(V1_BYTES_MAX - 15));
    assert_eq!(read(longer.as_bytes()), Err(Malformed::TooLong));
    assert_eq!(read("PROXY UNKNOWN ".repeat(8).as_bytes()), Err(Malformed::TooLong));
}

#[test]
fn headers_of_version_2() {
    let one = |header: &[u8]| match read(header) {
        Ok(Seen::Header(used, client)) if used == header.len() => Ok(client),
        Ok(other) => panic!("{other:?}"),
        Err(why) => Err(why),
    };
    assert_eq!(one(&v2_of(0x21, 0x11, &v4_body(&[]))), Ok(named("1.2.3.4:5")));
    let mut v6 = [0; 36];
    v6[..16].copy_from_slice(&"2001:db8::1".parse::<Ipv6Addr>().unwrap().octets());
    v6[32..34].copy_from_slice(&9u16.to_be_bytes());
    assert_eq!(one(&v2_of(0x21, 0x21, &v6)), Ok(named("[2001:db8::1]:9")));
    v6[..16].copy_from_slice(&"::ffff:1.2.3.4".parse::<Ipv6Addr>().unwrap().octets());
    assert_eq!(one(&v2_of(0x21, 0x21, &v6)), Ok(named("1.2.3.4:9")), "mapped");
    assert_eq!(one(&v2_of(0x21, 0x31, &[7; 216])), Ok(None), "a path");
    // LOCAL and no family: all that follows is ignored, even what would be malformed elsewhere.
    for family in [0x00, 0x11, 0x12, 0x21, 0x31, 0xff] {
        assert_eq!(one(&v2_of(0x20, family, &[])), Ok(None));
        assert_eq!(one(&v2_of(0x20, family, &[1, 2, 3])), Ok(None));
    }
    assert_eq!(one(&v2_of(0x21, 0x00, &[1, 2, 3])), Ok(None));
    // Extensions: none of them changes the client.
    let name = [&[2, 0, 4][..], b"a\0bc"].concat();
    for extensions in [&[4, 0, 0][..], &[0xff, 0, 1, 0], &name, &[4, 0, 0, 5, 0, 2, 1, 2]] {
        let header = v2_of(0x21, 0x11, &v4_body(extensions));
        assert_eq!(one(&header), Ok(named("1.2.3.4:5")), "{extensions:?}");
    }
    let longest = v4_body(&[&[1, 1, 249][..], &[0; 505]].concat());
    assert_eq!(longest.len() + V2_FIXED_BYTES, V2_BYTES_MAX);
    assert_eq!(one(&v2_of(0x21, 0x11, &longest)), Ok(named("1.2.3.4:5")));
}

#[test]
fn headers_of_version_2_that_are_none() {
    let fixed = [
        v2_of(0x11, 0x11, &v4_body(&[])),
        v2_of(0x31, 0x11, &v4_body(&[])),
        v2_of(0x22, 0x11, &v4_body(&[])),
        v2_of(0x21, 0x12, &v4_body(&[])),
        v2_of(0x21, 0x22, &[0; 36]),
        v2_of(0x21, 0x32, &[0; 216]),
        v2_of(0x21, 0x10, &v4_body(&[])),
        v2_of(0x21, 0x13, &v4_body(&[])),
        v2_of(0x21, 0x41, &v4_body(&[])),
        v2_of(0x21, 0x01, &v4_body(&[])),
        v2_of(0x21, 0x11, &[0; 11]),
        v2_of(0x21, 0x21, &[0; 35]),
        v2_of(0x21, 0x31, &[0; 215]),
        b"\r\n\r\nGET / HTTP/1.1\r\n".to_vec(),
    ];
    for bytes in fixed {
        assert_eq!(read(&bytes), Err(Malformed::Fixed), "{bytes:?}");
    }
    for extensions in
        [&[4][..], &[4, 0], &[4, 0, 1], &[4, 0, 2, 1], &[4, 255, 255, 1], &[4, 0, 0, 9]]
    {
        let bytes = v2_of(0x21, 0x11, &v4_body(extensions));
        assert_eq!(read(&bytes), Err(Malformed::Extension), "{extensions:?}");
    }
    for length in [521, 65_535] {
        let mut bytes = v2_of(0x21, 0x11, &vec![0; length]);
        assert_eq!(read(&bytes), Err(Malformed::TooLong));
        bytes.truncate(V2_FIXED_BYTES);
        assert_eq!(read(&bytes), Err(Malformed::TooLong), "before the rest has come");
    }
}

#[test]
fn what_does_not_begin_like_one_is_absent() {
    for bytes in [&b"GET / HTTP/1.1\r\n"[..], b"HEAD", b"\x16\x03\x01", b"\n", b" PROXY", b"\0"] {
        assert_eq!(read(bytes), Ok(Seen::Absent));
    }
    assert_eq!(read(b""), Ok(Seen::Part));
}

/// What a balancer may send, damaged perhaps.
fn headers() -> impl Strategy<Value = Vec<u8>> {
    let v1 = (any::<SocketAddr>(), any::<SocketAddr>()).prop_map(|(from, to)| {
        let family = if from.is_ipv4() { "TCP4" } else { "TCP6" };
        format!("PROXY {family} {} {} {} {}\r\n", from.ip(), to.ip(), from.port(), to.port())
            .into_bytes()
    });
    let family = prop_oneof![Just(0x00), Just(0x11), Just(0x21), Just(0x31), any::<u8>()];
    let command = prop_oneof![Just(0x20), Just(0x21), any::<u8>()];
    let body = proptest::collection::vec(any::<u8>(), 0..300);
    let v2 = (command, family, body).prop_map(|(c, f, body)| v2_of(c, f, &body));
    let damage = (any::<prop::sample::Index>(), proptest::option::weighted(0.3, any::<u8>()));
    (prop_oneof![v1, v2], damage).prop_map(|(mut bytes, (at, damage))| {
        if let Some(byte) = damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes
    })
}

proptest! {
    /// However bytes are cut, and whatever follows, the verdict is the same; and it comes with the
    /// last byte of the header at the latest.
    #[test]
    fn one_verdict_however_it_comes(header in headers(), more in any::<[u8; 4]>()) {
        let bytes = [&header[..], &more].concat();
        let whole = read(&bytes);
        let mut first = None;
        for end in 0..=bytes.len() {
            match (read(&bytes[..end]), first) {
                (Ok(Seen::Part), None) => {}
                (verdict, None) => first = Some((end, verdict)),
                (verdict, Some((_, before))) => prop_assert_eq!(verdict, before),
            }
        }
        if let Some((end, verdict)) = first {
            prop_assert_eq!(verdict, whole);
            if let Ok(Seen::Header(used, _)) = verdict {
                prop_assert_eq!(end, used);
                prop_assert!(used <= V2_BYTES_MAX);
            }
        }
    }

    /// What a balancer writes is read back.
    #[test]
    fn what_is_written_is_read(from in any::<SocketAddr>(), to in any::<SocketAddr>()) {
        prop_assume!(from.is_ipv4() == to.is_ipv4());
        let client = SocketAddr::new(from.ip().to_canonical(), from.port());
        let (family, code) = if from.is_ipv4() { ("TCP4", 0x11) } else { ("TCP6", 0x21) };
        let line = format!(
            "PROXY {family} {} {} {} {}\r\n", from.ip(), to.ip(), from.port(), to.port()
        );
        prop_assert_eq!(read(line.as_bytes()), Ok(Seen::Header(line.len(), Some(client))));
        let octets = |address: SocketAddr| match address.ip() {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        let ports = [from.port().to_be_bytes(), to.port().to_be_bytes()].concat();
        let header = v2_of(0x21, code, &[octets(from), octets(to), ports].concat());
        prop_assert_eq!(read(&header), Ok(Seen::Header(header.len(), Some(client))));
    }

    /// Nothing that a stranger sends makes it panic.
    #[test]
    fn any_bytes_have_a_verdict(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = read(&bytes);
        let _ = read(&[V2_SIGNATURE, &bytes].concat());
        let _ = read(&[V1_WORD, &bytes].concat());
    }
}
