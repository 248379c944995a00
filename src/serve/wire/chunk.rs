//! Follows the chunked coding of a request body (RFC 9112 7.1), one byte at a time between chunks
//! and in one step over chunk data. The trailer section is not its business.

use super::violation::Violation;

/// The most bytes of chunk extensions, with the white space around them, in one body.
const MAX_EXTENSIONS: u16 = 4096;
/// Sixteen hexadecimal digits fill a `u64`.
const MAX_DIGITS: u8 = 16;

/// Where in the chunked body the next byte stands.
#[derive(Debug)]
pub(super) struct Chunks {
    state: State,
    size: u64,
    digits: u8,
    extensions: u16,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Size,
    /// White space before a `;` (RFC 9112 7.1.1 BWS).
    Space,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
}

impl Chunks {
    pub(super) fn new() -> Self {
        Self { state: State::Size, size: 0, digits: 0, extensions: 0 }
    }

    /// Follows `bytes`. `Some(n)`: the last chunk's line ended `n` bytes in, a trailer section
    /// comes next. `None`: all of them belong to the body and it goes on.
    pub(super) fn advance(&mut self, bytes: &[u8]) -> Result<Option<usize>, Violation> {
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            if let State::Data = self.state {
                let rest = bytes.len() - at;
                let take = usize::try_from(self.size).map_or(rest, |size| size.min(rest));
                at += take;
                // `take` fits because it is at most `size`.
                self.size -= take as u64;
                if self.size == 0 {
                    self.state = State::DataCr;
                }
                continue;
            }
            at += 1;
            self.state = self.step(byte)?;
            if let (State::Data, 0) = (self.state, self.size) {
                return Ok(Some(at));
            }
        }
        Ok(None)
    }

    fn step(&mut self, byte: u8) -> Result<State, Violation> {
        match (self.state, byte) {
            (State::Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => self.digit(byte),
            (State::Size, _) if self.digits == 0 => Err(Violation::ChunkSize),
            (State::Size | State::Extension, b'\r') => Ok(State::SizeLf),
            (State::Size | State::Space, b';') => self.extend(State::Extension),
            (State::Size | State::Space, b' ' | b'\t') => self.extend(State::Space),
            (State::Size, b'\n') | (State::Space, _) => Err(Violation::ChunkLine),
            (State::Size, _) => Err(Violation::ChunkSize),
            (State::Extension, b'\t' | b' '..=b'~' | 0x80..) => self.extend(State::Extension),
            (State::SizeLf, b'\n') => Ok(State::Data),
            (State::Extension | State::SizeLf, _) => Err(Violation::ChunkLine),
            (State::DataCr, b'\r') => Ok(State::DataLf),
            (State::DataLf, b'\n') => {
                self.size = 0;
                self.digits = 0;
                Ok(State::Size)
            }
            (State::Data | State::DataCr | State::DataLf, _) => Err(Violation::ChunkEnd),
        }
    }

    fn digit(&mut self, byte: u8) -> Result<State, Violation> {
        let digit = char::from(byte).to_digit(16).ok_or(Violation::ChunkSize)?;
        if self.digits == MAX_DIGITS {
            return Err(Violation::ChunkSize);
        }
        self.digits += 1;
        self.size = self.size << 4 | u64::from(digit);
        Ok(State::Size)
    }

    fn extend(&mut self, next: State) -> Result<State, Violation> {
        if self.extensions == MAX_EXTENSIONS {
            return Err(Violation::ChunkExtensions);
        }
        self.extensions += 1;
        Ok(next)
    }
}
