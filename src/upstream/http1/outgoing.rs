//! A request on its way to the app: its head, then its body as it comes.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http_body::Body;
use tokio::io::AsyncWrite;

use super::head::Sending;
use crate::upstream::body::BodyError;

/// Why a request did not get through.
#[derive(Debug)]
pub(super) enum Stopped {
    /// The client broke its body off, or sent another length than it said.
    Body(Option<BodyError>),
    /// The app takes nothing any more.
    Write(io::Error),
}

/// What is to be written. Belongs to a connection, so that its memory serves many requests.
pub(super) struct Outgoing {
    /// The head, or what frames the next chunk.
    before: Vec<u8>,
    /// Bytes of `before` that are written.
    written: usize,
    data: Bytes,
    after: &'static [u8],
    sending: Sending,
    /// Whether any byte of the request may have reached the app.
    begun: bool,
    finished: bool,
}

/// Heads of this many bytes are usual; the memory of larger ones is given back.
const USUAL: usize = 8 * 1024;

impl Outgoing {
    pub(super) fn new() -> Self {
        Self {
            before: Vec::new(),
            written: 0,
            data: Bytes::new(),
            after: b"",
            sending: Sending::Nothing,
            begun: false,
            finished: true,
        }
    }

    /// Begins with a head, which `write` puts into an empty buffer.
    pub(super) fn begin(&mut self, sending: Sending, write: impl FnOnce(&mut Vec<u8>)) {
        self.before.clear();
        self.before.shrink_to(USUAL);
        write(&mut self.before);
        (self.written, self.data, self.after) = (0, Bytes::new(), b"");
        (self.sending, self.begun, self.finished) = (sending, false, false);
    }

    /// Whether all of the request is written and flushed.
    pub(super) fn is_finished(&self) -> bool {
        self.finished
    }

    /// Whether any byte of the request may have reached the app.
    pub(super) fn has_begun(&self) -> bool {
        self.begun
    }

    /// Writes what there is; ready when that was all, and flushed: TLS may take bytes and keep them.
    pub(super) fn poll<S, B>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
        body: &mut B,
    ) -> Poll<Result<(), Stopped>>
    where
        S: AsyncWrite + Unpin,
        B: Body<Data = Bytes, Error = BodyError> + Unpin,
    {
        while !self.finished {
            ready!(self.poll_write(cx, stream)).map_err(Stopped::Write)?;
            if matches!(self.sending, Sending::Nothing | Sending::Length(0)) {
                ready!(Pin::new(&mut *stream).poll_flush(cx)).map_err(Stopped::Write)?;
                self.finished = true;
                break;
            }
            let Poll::Ready(next) = Pin::new(&mut *body).poll_frame(cx) else {
                ready!(Pin::new(&mut *stream).poll_flush(cx)).map_err(Stopped::Write)?;
                return Poll::Pending;
            };
            let next = next.transpose().map_err(|error| Stopped::Body(Some(error)))?;
            self.take(next.and_then(|frame| frame.into_data().ok()))?;
        }
        Poll::Ready(Ok(()))
    }

    /// Puts the next piece of the body, or its end, behind what is written.
    fn take(&mut self, data: Option<Bytes>) -> Result<(), Stopped> {
        self.before.clear();
        self.written = 0;
        match (&mut self.sending, data) {
            (_, Some(data)) if data.is_empty() => {}
            (Sending::Length(left), Some(data)) => {
                let length = u64::try_from(data.len()).unwrap_or(u64::MAX);
                *left = left.checked_sub(length).ok_or(Stopped::Body(None))?;
                self.data = data;
            }
            (Sending::Chunked, Some(data)) => {
                self.before.extend_from_slice(format!("{:x}\r\n", data.len()).as_bytes());
                (self.data, self.after) = (data, b"\r\n");
            }
            (Sending::Chunked, None) => {
                self.before.extend_from_slice(b"0\r\n\r\n");
                self.sending = Sending::Nothing;
            }
            // The end came too early, or there was none to come.
            (Sending::Length(_) | Sending::Nothing, _) => return Err(Stopped::Body(None)),
        }
        Ok(())
    }

    fn poll_write<S: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
    ) -> Poll<io::Result<()>> {
        loop {
            let before = self.before.get(self.written..).unwrap_or_default();
            let pieces = [before, &self.data, self.after].map(IoSlice::new);
            let first = pieces.iter().find(|piece| !piece.is_empty());
            let Some(first) = first else { return Poll::Ready(Ok(())) };
            let stream = Pin::new(&mut *stream);
            let count = if first.len() < pieces.iter().map(|piece| piece.len()).sum() {
                ready!(stream.poll_write_vectored(cx, &pieces))?
            } else {
                ready!(stream.poll_write(cx, first))?
            };
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.begun = true;
            self.wrote(count);
        }
    }

    fn wrote(&mut self, mut count: usize) {
        let most = count.min(self.before.len() - self.written);
        self.written += most;
        count -= most;
        let most = count.min(self.data.len());
        self.data.advance(most);
        if self.data.is_empty() {
            // Let go at once: its memory is read into again, while it is still in the cache.
            self.data = Bytes::new();
        }
        count -= most;
        self.after = self.after.get(count..).unwrap_or_default();
    }
}
