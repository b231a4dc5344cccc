//! Where a request body ends: the framing of RFC 9112 sections 6 and 7, stricter than the decoder
//! behind it. No chunk extensions, CRLF only, at most 8 digits of size, bounded trailers.
//!
//! The walker looks at bytes and copies nothing. Its verdict does not depend on how the bytes are
//! cut into reads.

use super::head::BodyKind;
use super::reader::{is_token, is_value};
use super::refusal::Refusal;

/// Digits of a chunk size: 4 GiB a chunk is plenty, and nothing can overflow.
const CHUNK_DIGITS_MAX: u8 = 8;
/// Bytes of all trailer lines.
pub const TRAILER_BYTES_MAX: u16 = 8 * 1024;
/// Trailer lines.
pub const TRAILERS_MAX: u8 = 64;

/// Follows one request body to its end.
#[derive(Clone, Debug)]
pub struct BodyWalker {
    state: State,
    /// Bytes left of a sized body, or of the current chunk.
    left: u64,
    /// Bytes of data seen, framing not counted.
    data: u64,
    digits: u8,
    trailers: u8,
    trailer_bytes: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Sized,
    Size,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// At the beginning of a trailer line, or of the last empty one.
    LineStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    EndLf,
    Done,
    Refused(Refusal),
}

impl BodyWalker {
    /// A walker at the first byte of a body.
    pub fn new(kind: BodyKind) -> BodyWalker {
        let (state, left) = match kind {
            BodyKind::None | BodyKind::Sized(0) => (State::Done, 0),
            BodyKind::Sized(left) => (State::Sized, left),
            BodyKind::Chunked => (State::Size, 0),
        };
        BodyWalker { state, left, data: 0, digits: 0, trailers: 0, trailer_bytes: 0 }
    }

    /// Whether the end of the body was reached.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Bytes that are still to come at least, as far as the framing has said.
    pub fn left_bytes(&self) -> u64 {
        self.left
    }

    /// Bytes of the body itself that were walked over, without the framing of chunks.
    pub fn data_bytes(&self) -> u64 {
        self.data
    }

    /// Walks over `bytes` and says how many of them belong to this body: all of them, unless its
    /// end is among them. After a refusal nothing more is accepted.
    pub fn advance(&mut self, bytes: &[u8]) -> Result<usize, Refusal> {
        let mut at = 0;
        while at < bytes.len() {
            match self.state {
                State::Done => break,
                State::Refused(refusal) => return Err(refusal),
                State::Sized | State::Data => at += self.skip(bytes.len() - at),
                _ => {
                    self.state = self.step(bytes[at]).unwrap_or_else(State::Refused);
                    at += 1;
                }
            }
        }
        match self.state {
            State::Refused(refusal) => Err(refusal),
            _ => Ok(at),
        }
    }

    /// Passes over body data in one go.
    fn skip(&mut self, available: usize) -> usize {
        let taken = usize::try_from(self.left).unwrap_or(usize::MAX).min(available);
        self.left -= taken as u64;
        self.data += taken as u64;
        if self.left == 0 {
            self.state = if self.state == State::Sized { State::Done } else { State::DataCr };
        }
        taken
    }

    /// One byte of framing.
    fn step(&mut self, byte: u8) -> Result<State, Refusal> {
        Ok(match (self.state, byte) {
            (State::Size, b'\r') if self.digits > 0 => State::SizeLf,
            (State::Size, b';') if self.digits > 0 => return Err(Refusal::ChunkExtension),
            (State::Size, _) => {
                let digit = char::from(byte).to_digit(16).ok_or(Refusal::ChunkSize)?;
                if self.digits == CHUNK_DIGITS_MAX {
                    return Err(Refusal::ChunkSize);
                }
                self.digits += 1;
                self.left = self.left * 16 + u64::from(digit);
                State::Size
            }
            (State::SizeLf, b'\n') if self.left == 0 => State::LineStart,
            (State::SizeLf, b'\n') => State::Data,
            (State::SizeLf, _) => return Err(Refusal::ChunkSize),
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => {
                self.digits = 0;
                State::Size
            }
            (State::DataCr | State::DataLf, _) => return Err(Refusal::ChunkEnd),
            (State::LineStart, b'\r') => State::EndLf,
            (State::EndLf, b'\n') => State::Done,
            (State::EndLf, _) => return Err(Refusal::Trailer),
            (state, byte) => return self.trailer(state, byte),
        })
    }

    /// One byte of a trailer line. Trailers are dropped; what is checked is that nobody could read
    /// their end elsewhere.
    fn trailer(&mut self, state: State, byte: u8) -> Result<State, Refusal> {
        self.trailer_bytes += 1;
        if self.trailer_bytes > TRAILER_BYTES_MAX {
            return Err(Refusal::TrailersTooLarge);
        }
        match (state, byte) {
            (State::LineStart, byte) if is_token(byte) => {
                self.trailers += 1;
                if self.trailers > TRAILERS_MAX {
                    return Err(Refusal::TrailersTooLarge);
                }
                Ok(State::TrailerName)
            }
            (State::TrailerName, b':') => Ok(State::TrailerValue),
            (State::TrailerName, byte) if is_token(byte) => Ok(State::TrailerName),
            (State::TrailerValue, b'\r') => Ok(State::TrailerLf),
            (State::TrailerValue, byte) if is_value(byte) => Ok(State::TrailerValue),
            (State::TrailerLf, b'\n') => Ok(State::LineStart),
            _ => Err(Refusal::Trailer),
        }
    }
}

#[cfg(test)]
mod tests;
