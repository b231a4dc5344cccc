//! The frames of a byte stream (RFC 9113 4.1), without their content but for a few bytes of it.

/// The head of a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    /// Bytes of its content.
    pub len: u32,
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
}

impl Head {
    pub(super) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// What is met in the stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Met<'a> {
    /// A frame begins.
    Begin(Head),
    /// Six bytes of its content, or what is left of it: the size of a setting, and more than anything
    /// else that is looked at.
    Piece(Head, &'a [u8]),
    /// It is whole.
    End(Head),
}

/// Walks over a stream of frames, cut into pieces anyhow.
#[derive(Debug, Default)]
pub(super) struct Walker {
    head: [u8; HEAD_BYTES],
    have: usize,
    frame: Head,
    left: u32,
    piece: [u8; PIECE_BYTES],
    in_piece: usize,
}

impl Walker {
    /// Whether the next byte begins a frame.
    pub(super) fn is_between(&self) -> bool {
        self.have == 0
    }

    /// The frame that is not whole yet.
    pub(super) fn open(&self) -> Option<Head> {
        (self.have == HEAD_BYTES).then_some(self.frame)
    }

    /// Walks over `bytes` and tells what is met, until `tell` says stop. Says how many bytes that is.
    pub(super) fn walk(&mut self, bytes: &[u8], mut tell: impl FnMut(Met<'_>) -> bool) -> usize {
        let mut at = 0;
        while at < bytes.len() {
            if self.have < HEAD_BYTES {
                let taken = (HEAD_BYTES - self.have).min(bytes.len() - at);
                self.head[self.have..self.have + taken].copy_from_slice(&bytes[at..at + taken]);
                self.have += taken;
                at += taken;
                if self.have < HEAD_BYTES {
                    break;
                }
                self.begin();
                if !tell(Met::Begin(self.frame)) {
                    return at;
                }
            } else {
                at += self.content(&bytes[at..], &mut tell);
            }
            if self.left == 0 {
                (self.have, self.in_piece) = (0, 0);
                if !tell(Met::End(self.frame)) {
                    return at;
                }
            }
        }
        at
    }

    fn begin(&mut self) {
        let [a, b, c, kind, flags, rest @ ..] = self.head;
        let len = u32::from_be_bytes([0, a, b, c]);
        let stream = u32::from_be_bytes(rest) & 0x7fff_ffff;
        self.frame = Head { len, kind, flags, stream };
        self.left = len;
    }

    fn content(&mut self, bytes: &[u8], tell: &mut impl FnMut(Met<'_>) -> bool) -> usize {
        let taken = bytes.len().min(self.left as usize);
        // Only what is short is looked at whole, and of all others the beginning.
        let is_looked_at =
            matches!(self.frame.kind, SETTINGS | GOAWAY) || self.frame.len - self.left < 6;
        if !is_looked_at {
            self.left -= u32::try_from(taken).unwrap_or(0);
            return taken;
        }
        let taken = taken.min(PIECE_BYTES - self.in_piece);
        self.piece[self.in_piece..self.in_piece + taken].copy_from_slice(&bytes[..taken]);
        self.in_piece += taken;
        self.left -= u32::try_from(taken).unwrap_or(0);
        if self.in_piece == PIECE_BYTES || self.left == 0 {
            let piece = &self.piece[..self.in_piece];
            // A stop is heard at the end of the frame.
            tell(Met::Piece(self.frame, piece));
            self.in_piece = 0;
        }
        taken
    }
}

const HEAD_BYTES: usize = 9;
const PIECE_BYTES: usize = 6;
pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;
/// END_STREAM of DATA and HEADERS, ACK of SETTINGS and PING.
pub(super) const END_STREAM: u8 = 1;
pub(super) const ACK: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;
pub(super) const PADDED: u8 = 8;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn told(pieces: &[&[u8]]) -> Vec<String> {
        let mut walker = Walker::default();
        let mut told = Vec::new();
        for piece in pieces {
            let walked = walker.walk(piece, |met| {
                told.push(format!("{met:?}"));
                true
            });
            assert_eq!(walked, piece.len());
        }
        told
    }

    proptest! {
        /// However the bytes are cut, the same is met.
        #[test]
        fn cuts_change_nothing(
            frames in proptest::collection::vec((0..30u8, 0..11u8, any::<u8>(), any::<u32>()), 1..8),
            cuts in proptest::collection::vec(1..40usize, 0..30),
        ) {
            let mut bytes = Vec::new();
            for (len, kind, flags, stream) in frames {
                bytes.extend_from_slice(&[0, 0, len, kind, flags]);
                bytes.extend_from_slice(&stream.to_be_bytes());
                bytes.extend((0..len).map(|n| n ^ flags));
            }
            let mut pieces = Vec::new();
            let mut rest = bytes.as_slice();
            for cut in cuts {
                let (piece, after) = rest.split_at(cut.min(rest.len()));
                pieces.push(piece);
                rest = after;
            }
            pieces.push(rest);
            prop_assert_eq!(told(&[&bytes]), told(&pieces));
        }
    }

    #[test]
    fn a_walk_stops_where_it_is_told() {
        let bytes = [0, 0, 2, PING, 0, 0, 0, 0, 1, 7, 7, 0, 0, 0, DATA, 0, 0, 0, 0, 1];
        let mut walker = Walker::default();
        let stop_at_end = |met: Met<'_>| !matches!(met, Met::End(head) if head.kind == PING);
        assert_eq!(walker.walk(&bytes, stop_at_end), 11);
        assert!(walker.is_between());
    }
}
