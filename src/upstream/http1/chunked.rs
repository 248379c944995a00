//! The chunked transfer coding of answers, decoded without copying (RFC 9112 section 7.1).
//!
//! Strict: hexadecimal size, CR LF and nothing that could be read in two ways. Extensions are
//! skipped, with a bound that grows with the data.

use bytes::{Buf, Bytes};
use http::HeaderMap;

use super::head;

/// So many bytes that are neither size nor data (chunk extensions, white space) may come before any data. Each
/// chunk then allows for its own size and [`PER_CHUNK`] more, so that no stream ends for its length alone.
const EXTENSIONS: u64 = 16 * 1024;
/// Room to pad a size (old Apache writes `400   `).
const PER_CHUNK: u64 = 16;
/// Bound on the bytes of a trailer section.
const TRAILERS: usize = 16 * 1024;

/// What the next bytes were.
#[derive(Debug)]
pub(super) enum Step {
    /// Data, at least one byte.
    Data(Bytes),
    /// The end, with the trailer fields if there are any.
    End(Option<HeaderMap>),
    /// More bytes are needed.
    More,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before the first digit of a size, and behind one.
    Size {
        digits: u32,
    },
    /// White space behind a size.
    Gap,
    /// Within an extension.
    Extension,
    /// The LF behind a size.
    SizeEnd,
    Data,
    /// The CR, then the LF behind data.
    DataCr,
    DataLf,
    Trailers,
    Done,
}

/// Follows one chunked body.
#[derive(Debug)]
pub(super) struct Chunked {
    state: State,
    /// Of the current chunk.
    left: u64,
    /// So many bytes of extensions may still come.
    spare: u64,
    trailers: Vec<u8>,
}

impl Chunked {
    /// Before the first chunk.
    pub(super) fn new() -> Self {
        let state = State::Size { digits: 0 };
        Self { state, left: 0, spare: EXTENSIONS, trailers: Vec::new() }
    }

    /// Takes the next piece out of `bytes`.
    ///
    /// # Errors
    /// What is wrong, in words for the log.
    pub(super) fn advance(&mut self, bytes: &mut Bytes) -> Result<Step, &'static str> {
        loop {
            if self.state == State::Done {
                return Ok(Step::End(None));
            }
            let Some(first) = bytes.first().copied() else { return Ok(Step::More) };
            match self.state {
                State::Data => {
                    let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
                    let data = bytes.split_to(most);
                    let taken = u64::try_from(most).unwrap_or(u64::MAX);
                    self.left = self.left.saturating_sub(taken);
                    self.spare = self.spare.saturating_add(taken);
                    if self.left == 0 {
                        self.state = State::DataCr;
                    }
                    return Ok(Step::Data(data));
                }
                State::Trailers => {
                    if let Some(end) = self.trailer(bytes)? {
                        return Ok(end);
                    }
                }
                _ => {
                    self.framing(first)?;
                    bytes.advance(1);
                }
            }
        }
    }

    /// One byte that is no data.
    fn framing(&mut self, byte: u8) -> Result<(), &'static str> {
        self.state = match (self.state, byte) {
            (State::Size { digits }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                let digit = char::from(byte).to_digit(16).unwrap_or(0);
                // 60 bits: no sum of such sizes overflows a counter.
                if self.left >> 56 != 0 {
                    return Err("a chunk size that is too large");
                }
                self.left = (self.left << 4) | u64::from(digit);
                // Zeros in front mean nothing, however many there are.
                let next = State::Size { digits: digits.saturating_add(1) };
                if digits < 15 { next } else { self.skip(next)? }
            }
            (State::Size { digits: 1.. } | State::Gap | State::Extension, b'\r') => State::SizeEnd,
            (State::Size { digits: 1.. } | State::Gap, b' ' | b'\t') => self.skip(State::Gap)?,
            (State::Size { digits: 1.. } | State::Gap, b';') => self.skip(State::Extension)?,
            (State::Size { .. } | State::Gap, _) => return Err("a chunk size that is no number"),
            (State::Extension, b'\n') => return Err("a bare LF in a chunk extension"),
            (State::Extension, _) => self.skip(State::Extension)?,
            (State::SizeEnd, b'\n') if self.left == 0 => State::Trailers,
            (State::SizeEnd, b'\n') => {
                self.spare = self.spare.saturating_add(PER_CHUNK);
                State::Data
            }
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Size { digits: 0 },
            _ => return Err("a chunk without CR LF at its end"),
        };
        Ok(())
    }

    /// One more byte that means nothing.
    fn skip(&mut self, next: State) -> Result<State, &'static str> {
        self.spare = self.spare.checked_sub(1).ok_or("chunk extensions that are too long")?;
        Ok(next)
    }

    /// Gathers the trailer section; `Some` when its empty line is there.
    fn trailer(&mut self, bytes: &mut Bytes) -> Result<Option<Step>, &'static str> {
        let line = memchr::memchr(b'\n', bytes).map_or(bytes.len(), |at| at + 1);
        if self.trailers.len() + line > TRAILERS {
            return Err("a trailer section that is too long");
        }
        self.trailers.extend_from_slice(&bytes.split_to(line));
        if self.trailers == b"\r\n" {
            self.state = State::Done;
            return Ok(Some(Step::End(None)));
        }
        if !self.trailers.ends_with(b"\n\r\n") {
            return Ok(None);
        }
        self.state = State::Done;
        let section = std::mem::take(&mut self.trailers);
        head::trailers(&section).map(|fields| Some(Step::End(Some(fields))))
    }
}
