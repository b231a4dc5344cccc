//! Split-invariance: the same bytes cut into other reads give the same verdict, for heads and for
//! bodies. The first byte says where the cuts are.

use penstock::http::Limits;
use penstock::http::head::BodyKind;
use penstock::http::reader::read_head;
use penstock::http::walker::BodyWalker;

/// Reads the rest of `data` whole, and in pieces.
pub fn check(data: &[u8]) {
    let Some((step, bytes)) = data.split_first() else { return };
    let step = usize::from(*step % 16) + 1;
    heads(bytes, step);
    for kind in [BodyKind::Chunked, BodyKind::Sized(7)] {
        bodies(bytes, kind, step);
    }
}

fn heads(bytes: &[u8], step: usize) {
    let limits = Limits::default();
    let verdict = |part: &[u8]| {
        let mut fields = Vec::new();
        match read_head(part, &limits, &mut fields) {
            Ok(Some(request)) => Some(Ok(request.bytes)),
            Ok(None) => None,
            Err(refusal) => Some(Err(refusal)),
        }
    };
    let whole = verdict(bytes);
    let parts = (1..=bytes.len()).step_by(step).chain([bytes.len()]);
    let first = parts.filter_map(|end| verdict(&bytes[..end])).next();
    assert_eq!(first, whole);
}

fn bodies(bytes: &[u8], kind: BodyKind, step: usize) {
    let mut whole = BodyWalker::new(kind);
    let at_once = whole.advance(bytes).map(|used| (used, whole.is_done(), whole.data_bytes()));
    let mut walker = BodyWalker::new(kind);
    let mut used = 0;
    let mut refused = None;
    for piece in bytes.chunks(step) {
        match walker.advance(piece) {
            Ok(n) => used += n,
            Err(refusal) => {
                refused = Some(refusal);
                break;
            }
        }
        if walker.is_done() {
            break;
        }
    }
    let in_pieces = match refused {
        Some(refusal) => Err(refusal),
        None => Ok((used, walker.is_done(), walker.data_bytes())),
    };
    assert_eq!(in_pieces, at_once);
}
