//! Takes a request body out of its chunked coding (RFC 9112 section 7.1): data in whole pieces without
//! copying, one byte at a time between chunks.

use bytes::{Buf, Bytes, BytesMut};
use memchr::memchr;

use super::head::judge_field;
use super::reader::Piece;
use super::violation::Violation;

/// So many bytes of chunk extensions, with the white space around them, may come before any data. Each chunk
/// then allows for its own size and [`PER_CHUNK`] more, so that no body ends for its length alone.
const MAX_EXTENSIONS: u64 = 4096;
/// Room to pad a size (old Apache writes `400   `).
const PER_CHUNK: u64 = 16;
/// Sixteen hexadecimal digits fill a `u64`.
const MAX_DIGITS: u8 = 16;
/// The trailer section of one body, in bytes.
const MAX_TRAILER: usize = 16 * 1024;

/// Where in the chunked body the next byte stands.
#[derive(Debug)]
pub(super) struct Chunked {
    state: State,
    size: u64,
    digits: u8,
    /// So many bytes of extensions may still come.
    spare: u64,
    trailer: Trailer,
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
    Trailer,
}

impl Chunked {
    /// Before the first chunk of a body that may have so many trailer fields.
    pub(super) fn new(fields: usize) -> Self {
        let trailer = Trailer { most: fields, fields: 0, taken: 0, searched: 0 };
        Self { state: State::Size, size: 0, digits: 0, spare: MAX_EXTENSIONS, trailer }
    }

    /// Takes the next piece out of `bytes`.
    pub(super) fn next(&mut self, bytes: &mut BytesMut) -> Result<Piece, Violation> {
        loop {
            match self.state {
                State::Data if bytes.is_empty() => return Ok(Piece::More),
                State::Data => return Ok(Piece::Data(self.data(bytes))),
                State::Trailer => return self.trailer.advance(bytes),
                _ => {}
            }
            let mut passed = 0;
            while let Some(&byte) = bytes.get(passed) {
                passed += 1;
                self.state = self.step(byte)?;
                if matches!(self.state, State::Data) {
                    break;
                }
            }
            bytes.advance(passed);
            match (self.state, self.size) {
                (State::Data, 0) => self.state = State::Trailer,
                (State::Data, _) => {}
                _ => return Ok(Piece::More),
            }
        }
    }

    fn data(&mut self, bytes: &mut BytesMut) -> Bytes {
        let most = usize::try_from(self.size).map_or(bytes.len(), |size| size.min(bytes.len()));
        // `most` fits because it is at most `size`.
        self.size -= most as u64;
        self.spare = self.spare.saturating_add(most as u64);
        if self.size == 0 {
            self.state = State::DataCr;
        }
        bytes.split_to(most).freeze()
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
            (State::SizeLf, b'\n') => {
                self.spare = self.spare.saturating_add(PER_CHUNK);
                Ok(State::Data)
            }
            (State::Extension | State::SizeLf, _) => Err(Violation::ChunkLine),
            (State::DataCr, b'\r') => Ok(State::DataLf),
            (State::DataLf, b'\n') => {
                self.digits = 0;
                Ok(State::Size)
            }
            (State::Data | State::DataCr | State::DataLf | State::Trailer, _) => {
                Err(Violation::ChunkEnd)
            }
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
        self.spare = self.spare.checked_sub(1).ok_or(Violation::ChunkExtensions)?;
        Ok(next)
    }
}

/// The trailer section: judged like fields of a head, then dropped.
#[derive(Debug)]
struct Trailer {
    most: usize,
    fields: usize,
    taken: usize,
    searched: usize,
}

impl Trailer {
    fn advance(&mut self, bytes: &mut BytesMut) -> Result<Piece, Violation> {
        loop {
            let fresh = bytes.get(self.searched..).unwrap_or_default();
            let found = memchr(b'\n', fresh).map(|at| self.searched + at + 1);
            let end = found.unwrap_or(bytes.len());
            if self.taken + end > MAX_TRAILER {
                return Err(Violation::TrailerTooLarge);
            }
            if found.is_none() {
                self.searched = end;
                return Ok(Piece::More);
            }
            let line = bytes.split_to(end);
            (self.taken, self.searched) = (self.taken + end, 0);
            let line = line.strip_suffix(b"\r\n").ok_or(Violation::BareLf)?;
            if line.is_empty() {
                return Ok(Piece::End);
            }
            self.fields += 1;
            if self.fields > self.most {
                return Err(Violation::TooManyFields);
            }
            judge_field(line)?;
        }
    }
}
