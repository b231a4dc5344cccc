use proptest::prelude::*;

use super::*;

/// Where the body ends, `None` if it is incomplete.
fn end(kind: BodyKind, bytes: &[u8]) -> Result<Option<usize>, Refusal> {
    let mut walker = BodyWalker::new(kind);
    let used = walker.advance(bytes)?;
    Ok(walker.is_done().then_some(used))
}

fn chunked(text: &str) -> Result<Option<usize>, Refusal> {
    end(BodyKind::Chunked, text.as_bytes())
}

#[test]
fn a_sized_body_ends_at_its_size() {
    assert_eq!(end(BodyKind::None, b"x"), Ok(Some(0)));
    assert_eq!(end(BodyKind::Sized(0), b"x"), Ok(Some(0)));
    assert_eq!(end(BodyKind::Sized(3), b"abcd"), Ok(Some(3)));
    assert_eq!(end(BodyKind::Sized(3), b"ab"), Ok(None));
    assert_eq!(end(BodyKind::Sized(u64::MAX), b"ab"), Ok(None));
}

#[test]
fn chunks_end_at_the_empty_line() {
    for good in [
        "0\r\n\r\n",
        "3\r\nabc\r\n0\r\n\r\n",
        "a\r\n0123456789\r\n0\r\n\r\n",
        "00000003\r\nabc\r\n00\r\n\r\n",
        "0\r\nX: y\r\nContent-Length: 5\r\n\r\n",
        "0\r\nX:\r\n\r\n",
        "0\r\nX: \u{ff}\r\n\r\n",
    ] {
        assert_eq!(chunked(good), Ok(Some(good.len())), "{good:?}");
        assert_eq!(chunked(&format!("{good}GET /")), Ok(Some(good.len())), "{good:?}");
    }
    assert_eq!(chunked("3\r\nab"), Ok(None));
}

#[test]
fn anything_looser_is_refused() {
    for (bad, refusal) in [
        ("3;a=b\r\nabc\r\n0\r\n\r\n", Refusal::ChunkExtension),
        ("3;\n", Refusal::ChunkExtension),
        ("0;x\r\n", Refusal::ChunkExtension),
        ("\r\n", Refusal::ChunkSize),
        (";", Refusal::ChunkSize),
        ("0x3\r\n", Refusal::ChunkSize),
        ("+3\r\n", Refusal::ChunkSize),
        ("-1\r\n", Refusal::ChunkSize),
        (" 3\r\n", Refusal::ChunkSize),
        ("3 \r\n", Refusal::ChunkSize),
        ("3\t", Refusal::ChunkSize),
        ("3\nabc", Refusal::ChunkSize),
        ("3\rabc", Refusal::ChunkSize),
        ("000000003", Refusal::ChunkSize),
        ("fffffffff", Refusal::ChunkSize),
        ("3\r\nabc\n", Refusal::ChunkEnd),
        ("3\r\nabcXX", Refusal::ChunkEnd),
        ("3\r\nabc\rX", Refusal::ChunkEnd),
        ("3\r\nabcd", Refusal::ChunkEnd),
        ("0\n", Refusal::ChunkSize),
        ("0\r\n\n", Refusal::Trailer),
        ("0\r\n\rX", Refusal::Trailer),
        ("0\r\n: x\r\n", Refusal::Trailer),
        ("0\r\nX : y\r\n", Refusal::Trailer),
        ("0\r\n X: y\r\n", Refusal::Trailer),
        ("0\r\nX\r\n", Refusal::Trailer),
        ("0\r\nX: y\n", Refusal::Trailer),
        ("0\r\nX: y\rZ", Refusal::Trailer),
        ("0\r\nX: \0\r\n", Refusal::Trailer),
    ] {
        assert_eq!(chunked(bad), Err(refusal), "{bad:?}");
    }
}

#[test]
fn trailers_are_bounded() {
    let many = "X: y\r\n".repeat(usize::from(TRAILERS_MAX));
    assert!(matches!(chunked(&format!("0\r\n{many}\r\n")), Ok(Some(_))));
    assert_eq!(chunked(&format!("0\r\n{many}X: y\r\n\r\n")), Err(Refusal::TrailersTooLarge));
    let long = "y".repeat(usize::from(TRAILER_BYTES_MAX));
    assert_eq!(chunked(&format!("0\r\nX: {long}")), Err(Refusal::TrailersTooLarge));
}

#[test]
fn a_refusal_is_final() {
    let mut walker = BodyWalker::new(BodyKind::Chunked);
    assert_eq!(walker.advance(b"x"), Err(Refusal::ChunkSize));
    assert_eq!(walker.advance(b"0\r\n\r\n"), Err(Refusal::ChunkSize));
    assert!(!walker.is_done());
}

#[test]
fn what_is_left_is_known_from_the_framing() {
    let mut walker = BodyWalker::new(BodyKind::Sized(10));
    walker.advance(b"abc").expect("valid");
    assert_eq!(walker.left_bytes(), 7);
    let mut walker = BodyWalker::new(BodyKind::Chunked);
    walker.advance(b"1\r\nx\r\na\r\nabc").expect("valid");
    assert_eq!((walker.left_bytes(), walker.data_bytes()), (7, 4));
}

proptest! {
    #[test]
    fn cuts_change_nothing(
        text in "([0-9a-fA-F;]{1,3}\r\n[a-z]{0,12}\r\n|0\r\n|X: y\r\n|\r\n|\n|.){0,12}",
        cuts in prop::collection::vec(0usize..64, 0..8),
    ) {
        let bytes = text.as_bytes();
        let whole = end(BodyKind::Chunked, bytes);
        let mut cuts: Vec<usize> = cuts.into_iter().filter(|at| *at < bytes.len()).collect();
        cuts.push(bytes.len());
        cuts.sort_unstable();
        let mut walker = BodyWalker::new(BodyKind::Chunked);
        let (mut from, mut used, mut refused) = (0, 0, None);
        for to in cuts {
            match walker.advance(&bytes[from..to]) {
                Ok(some) => used += some,
                Err(refusal) => { refused = Some(refusal); break; }
            }
            from = to;
        }
        let cut = match refused {
            Some(refusal) => Err(refusal),
            None => Ok(walker.is_done().then_some(used)),
        };
        prop_assert_eq!(cut, whole);
    }
}
