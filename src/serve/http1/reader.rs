//! Follows the requests of one connection through its bytes: head, body, next head. Owns no bytes and
//! does no reading: what it is shown, it takes from.

use bytes::{Bytes, BytesMut};
use http::request::Parts;

use super::chunked::Chunked;
use super::head::{Framing, Head, HeadLimits, HeadReader};
use super::violation::Violation;

/// What comes next of a body.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// Data, at least one byte.
    Data(Bytes),
    /// Its end.
    End,
    /// More bytes are needed.
    More,
}

/// How the body of the current request is getting on.
#[derive(Debug)]
enum Left {
    Nothing,
    Length(u64),
    Chunked(Box<Chunked>),
    /// Nobody can know any more where it ends: no request can follow.
    Lost,
}

/// Reads requests. A verdict does not depend on how the bytes arrive.
#[derive(Debug)]
pub struct Reader {
    limits: HeadLimits,
    head: HeadReader,
    left: Left,
}

impl Reader {
    /// Before the first request of a connection.
    pub fn new(limits: HeadLimits) -> Self {
        Self { limits, head: HeadReader::default(), left: Left::Nothing }
    }

    /// Takes a request's head, once all of it is there; its body comes next.
    ///
    /// # Errors
    /// The first breach, in the order of the bytes. Nothing that comes behind it may be read.
    pub fn head(&mut self, bytes: &mut BytesMut) -> Result<Option<Head>, Violation> {
        let head = self.head.advance(bytes, &self.limits);
        if head.is_err() {
            self.left = Left::Lost;
        }
        let head = head?;
        if let Some(head) = &head {
            self.left = match head.framing {
                Framing::Empty => Left::Nothing,
                Framing::Length(length) => Left::Length(length),
                Framing::Chunked => Left::Chunked(Box::new(Chunked::new(self.limits.fields))),
            };
        }
        Ok(head)
    }

    /// What was taken of a head that is not complete.
    pub(super) fn take_begun(&mut self) -> Option<Box<Parts>> {
        self.head.take_begun()
    }

    /// Takes the next piece of the body.
    ///
    /// # Errors
    /// The first breach in its chunks. Nothing that comes behind it may be read.
    pub fn piece(&mut self, bytes: &mut BytesMut) -> Result<Piece, Violation> {
        let piece = match &mut self.left {
            Left::Nothing => return Ok(Piece::End),
            Left::Lost => return Ok(Piece::More),
            Left::Length(_) if bytes.is_empty() => return Ok(Piece::More),
            Left::Length(length) => {
                let most = usize::try_from(*length).unwrap_or(usize::MAX).min(bytes.len());
                *length = length.saturating_sub(u64::try_from(most).unwrap_or(u64::MAX));
                if *length == 0 {
                    self.left = Left::Nothing;
                }
                return Ok(Piece::Data(bytes.split_to(most).freeze()));
            }
            Left::Chunked(chunked) => chunked.next(bytes),
        };
        match &piece {
            Ok(Piece::End) => self.left = Left::Nothing,
            Err(_) => self.left = Left::Lost,
            Ok(_) => {}
        }
        piece
    }

    /// Whether no byte of the next head was taken yet.
    pub(super) fn is_before_head(&self) -> bool {
        self.head.is_untouched()
    }

    /// Whether the whole request was taken.
    pub fn is_read(&self) -> bool {
        matches!(self.left, Left::Nothing)
    }

    /// Whether no request can follow.
    pub(super) fn is_lost(&self) -> bool {
        matches!(self.left, Left::Lost)
    }

    /// The body will not be read to its end.
    pub(super) fn lose(&mut self) {
        if !self.is_read() {
            self.left = Left::Lost;
        }
    }

    /// Bytes of the body that are left, when that is known.
    pub(super) fn length(&self) -> Option<u64> {
        match self.left {
            Left::Nothing => Some(0),
            Left::Length(length) => Some(length),
            Left::Chunked(_) | Left::Lost => None,
        }
    }
}
