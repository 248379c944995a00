//! What is to be written to a client, and how much of it is.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::AsyncWrite;

/// Heads of answers are usually shorter; the memory of longer ones is given back.
const USUAL: usize = 2 * 1024;
/// Pieces of up to this size are copied behind what is written before them: cheaper than a second
/// piece of memory to write from.
const COPY: usize = 4 * 1024;

/// Text, then at most one large piece of data, then what ends that.
#[derive(Default)]
pub(super) struct Output {
    text: Vec<u8>,
    /// Bytes of `text` that are written.
    written: usize,
    data: Bytes,
    after: &'static [u8],
    /// Something was written that TLS may keep.
    unflushed: bool,
}

impl Output {
    /// Heads, and what frames the next piece of data; behind what was put here before.
    pub(super) fn text(&mut self) -> &mut Vec<u8> {
        &mut self.text
    }

    /// Puts a piece of data behind the text, and `after` behind that. Not before the piece that was put
    /// last is written.
    pub(super) fn put(&mut self, data: Bytes, after: &'static [u8]) {
        if data.len() <= COPY {
            self.text.extend_from_slice(&data);
            self.text.extend_from_slice(after);
        } else {
            (self.data, self.after) = (data, after);
        }
    }

    /// Whether all of it is with the client's socket: TLS takes bytes and keeps them when the socket is
    /// full, and nothing but a flush brings them out.
    pub(super) fn is_empty(&self) -> bool {
        let written = self.written == self.text.len();
        written && self.data.is_empty() && self.after.is_empty() && !self.unflushed
    }

    /// Writes all of it; TLS may still keep some.
    pub(super) fn poll_write<IO: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        io: &mut IO,
    ) -> Poll<io::Result<()>> {
        loop {
            let text = self.text.get(self.written..).unwrap_or_default();
            let io = Pin::new(&mut *io);
            let count = if !self.data.is_empty() || !self.after.is_empty() {
                let pieces = [text, &self.data, self.after].map(IoSlice::new);
                ready!(io.poll_write_vectored(cx, &pieces))?
            } else if !text.is_empty() {
                ready!(io.poll_write(cx, text))?
            } else {
                break;
            };
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unflushed = true;
            self.wrote(count);
        }
        self.text.clear();
        self.text.shrink_to(USUAL);
        self.written = 0;
        Poll::Ready(Ok(()))
    }

    fn wrote(&mut self, mut count: usize) {
        let most = count.min(self.text.len() - self.written);
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

    /// Writes all of it through to the socket.
    pub(super) fn poll_flush<IO: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        io: &mut IO,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_write(cx, io))?;
        if self.unflushed {
            ready!(Pin::new(io).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }
}
