//! The bytes of one client connection: what is read and not yet taken, what is to be written, and where
//! in a request they stand. Shared by the server and by whoever reads the request's body.

use std::fmt;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Bytes, BytesMut};
use http::request::Parts;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::io::poll_read_buf;

use super::head::{Framing, Head, HeadLimits};
use super::input::Input;
use super::output::Output;
use super::reader::{Piece, Reader};
use super::violation::Violation;

/// Room for the usual request.
const READ: usize = 4 * 1024;
/// Bytes that are read at once from a client that sends a lot.
const READ_MOST: usize = 64 * 1024;

/// Why no further request comes.
#[derive(Debug)]
pub(super) enum Ended {
    /// The client closed the connection, or it failed.
    Gone,
    /// A head that must be refused.
    Refused(Violation),
}

/// A connection to a client.
pub(super) struct Transport<IO> {
    /// `None` once the connection is over.
    io: Option<IO>,
    read: BytesMut,
    /// Bytes to be read at once: more while the client fills what there is.
    room: usize,
    reader: Reader,
    /// A 100 must be sent before the body is read.
    expects: bool,
    /// The 100 is not yet with the client's socket.
    asking: bool,
    /// Somebody holds the request's body.
    held: bool,
    /// The client was found gone while its request was read.
    gone: bool,
    /// The server, while it waits for the body to be read or let go.
    server: Option<Waker>,
    /// Who waits for the body.
    holder: Option<Waker>,
    input: Input,
    pub(super) output: Output,
}

/// Shows no bytes: they hold what authenticates people.
impl<IO> fmt::Debug for Transport<IO> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport").field("held", &self.held).finish_non_exhaustive()
    }
}

impl<IO> Transport<IO> {
    pub(super) fn new(io: IO, limits: HeadLimits) -> Self {
        Self {
            io: Some(io),
            read: BytesMut::new(),
            room: READ,
            reader: Reader::new(limits),
            expects: false,
            asking: false,
            held: false,
            gone: false,
            server: None,
            holder: None,
            input: Input::new(),
            output: Output::default(),
        }
    }

    /// Whether a part of a head has come and the rest has not.
    pub(super) fn is_in_head(&self) -> bool {
        !self.reader.is_before_head() || !self.read.is_empty()
    }

    /// What has come of a head that is refused.
    pub(super) fn take_begun(&mut self) -> Option<Box<Parts>> {
        self.reader.take_begun()
    }

    /// Before the next request: an idle connection needs no memory for what it reads.
    pub(super) fn shrink(&mut self) {
        if self.read.is_empty() {
            (self.room, self.read) = (READ, BytesMut::new());
        }
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.read.capacity()
    }

    /// Whether nothing is left of what the client is known to send.
    pub(super) fn is_drained(&self) -> bool {
        self.is_read() && self.read.is_empty()
    }

    /// Begins with the body of a request.
    pub(super) fn begin_body(&mut self, head: &Head) {
        self.held = head.framing != Framing::Empty;
        self.expects = head.expects;
    }

    /// Whether the whole request was read.
    pub(super) fn is_read(&self) -> bool {
        self.reader.is_read()
    }

    /// Bytes of the body that are left, when that is known.
    pub(super) fn length(&self) -> Option<u64> {
        self.reader.length()
    }

    /// Whether another request can follow on this one, as far as can be known before it is answered.
    /// From here on the client is not asked for its body any more.
    pub(super) fn begin_answer(&mut self) -> bool {
        // What of a 100 is not with the socket goes there with the answer, by the server.
        self.asking = false;
        if !self.held && !self.is_read() {
            // Unwanted, but it may be here already.
            while let Ok(Piece::Data(_)) = self.reader.piece(&mut self.read) {}
        }
        if self.expects && !self.is_read() {
            // It may send the body or not: nobody can know where the next request begins.
            self.give_up();
        }
        self.is_read() || self.held && !self.reader.is_lost()
    }

    fn give_up(&mut self) {
        self.expects = false;
        self.reader.lose();
        if let Some(holder) = self.holder.take() {
            holder.wake();
        }
    }

    /// The holder of the body lets it go.
    pub(super) fn let_go(&mut self) {
        self.held = false;
        self.holder = None;
        if let Some(server) = self.server.take() {
            server.wake();
        }
    }

    /// Ready when nobody reads the body any more; whether it was read to its end.
    pub(super) fn poll_read_to_end(&mut self, cx: &Context<'_>) -> Poll<bool> {
        if !self.held || self.is_read() || self.reader.is_lost() {
            return Poll::Ready(self.is_read());
        }
        self.server = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Ends the connection for everybody who holds it.
    pub(super) fn end(&mut self) {
        self.io = None;
        self.give_up();
    }

    /// The stream, for a tunnel, with what came behind the request.
    pub(super) fn take_stream(&mut self) -> Option<(IO, Bytes)> {
        let rest = self.read.split().freeze();
        Some((self.io.take()?, rest))
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Transport<IO> {
    /// The next request's head; `None` when the connection is at its end before one begins, or when
    /// none is wanted any more.
    pub(super) fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        closing: bool,
    ) -> Poll<Result<Option<Head>, Ended>> {
        loop {
            if !self.read.is_empty() {
                match self.reader.head(&mut self.read) {
                    Ok(Some(head)) => return Poll::Ready(Ok(Some(head))),
                    Ok(None) => {}
                    Err(violation) => return Poll::Ready(Err(Ended::Refused(violation))),
                }
            }
            if closing && !self.is_in_head() {
                return Poll::Ready(Ok(None));
            }
            if ready!(self.poll_input(cx)).map_or(true, |count| count == 0) {
                let at_end = if self.is_in_head() { Err(Ended::Gone) } else { Ok(None) };
                return Poll::Ready(at_end);
            }
        }
    }

    /// Ready when the client has gone while its request is answered. Takes in the next request when
    /// that comes early, and then looks no further.
    pub(super) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.gone {
            return Poll::Ready(());
        }
        if self.held && !self.is_read() {
            // Whoever reads the body finds out, and lets go of it.
            if self.server.is_none() {
                self.server = Some(cx.waker().clone());
            }
            return Poll::Pending;
        }
        if !self.read.is_empty() {
            return Poll::Pending;
        }
        match self.poll_input(cx) {
            Poll::Ready(Ok(1..)) | Poll::Pending => Poll::Pending,
            Poll::Ready(_) => Poll::Ready(()),
        }
    }

    /// The next piece of the request's body.
    pub(super) fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        loop {
            match self.reader.piece(&mut self.read) {
                Ok(Piece::Data(data)) => {
                    self.expects = false;
                    return Poll::Ready(Some(Ok(data)));
                }
                Ok(Piece::End) => return Poll::Ready(None),
                Ok(Piece::More) if self.reader.is_lost() => {
                    return Poll::Ready(Some(Err(io::ErrorKind::ConnectionAborted.into())));
                }
                Ok(Piece::More) => {}
                Err(violation) => {
                    let error = io::Error::new(io::ErrorKind::InvalidData, violation);
                    return Poll::Ready(Some(Err(error)));
                }
            }
            if let Err(error) = ready!(self.poll_more(cx)) {
                self.reader.lose();
                return Poll::Ready(Some(Err(error)));
            }
        }
    }

    /// Reads more of the body, which the client may be waiting to be asked for.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if std::mem::take(&mut self.expects) {
            self.output.text().extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
            self.asking = true;
        }
        if self.asking && self.poll_flush(cx)?.is_ready() {
            self.asking = false;
        }
        // Whoever reads the body may be another task.
        self.input.forget();
        match self.poll_read(cx) {
            Poll::Ready(Ok(1..)) => Poll::Ready(Ok(())),
            Poll::Ready(read) => {
                self.gone = true;
                Poll::Ready(Err(read.err().unwrap_or(io::ErrorKind::UnexpectedEof.into())))
            }
            Poll::Pending => {
                self.holder = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// Reads for the connection's own task, when something may have come.
    fn poll_input(&mut self, cx: &Context<'_>) -> Poll<io::Result<usize>> {
        let Some(waker) = self.input.begin(cx) else { return Poll::Pending };
        let read = self.poll_read(&mut Context::from_waker(&waker));
        self.input.end(read)
    }

    /// Reads into `read`; 0 at the end.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.read.is_empty() && self.room == READ {
            return self.poll_read_first(cx);
        }
        self.make_room();
        let room = self.read.capacity() - self.read.len();
        let Some(io) = &mut self.io else { return Poll::Ready(Ok(0)) };
        let count = ready!(poll_read_buf(Pin::new(io), cx, &mut self.read))?;
        if count >= room {
            self.room = self.room.saturating_mul(2).min(READ_MOST);
        } else if count < self.room / 4 {
            self.room = (self.room / 2).max(READ);
        }
        Poll::Ready(Ok(count))
    }

    /// Reads by way of the stack: a connection that waits holds no memory for what may come.
    fn poll_read_first(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut memory = [MaybeUninit::uninit(); READ];
        let mut buf = ReadBuf::uninit(&mut memory);
        let Some(io) = &mut self.io else { return Poll::Ready(Ok(0)) };
        ready!(Pin::new(io).poll_read(cx, &mut buf))?;
        let data = buf.filled();
        if data.len() == READ {
            self.room = 2 * READ;
        }
        self.read = BytesMut::from(data);
        Poll::Ready(Ok(data.len()))
    }

    /// Room for a read of at least half of `room`. Pieces that come one by one share memory until it is
    /// used up.
    fn make_room(&mut self) {
        let spare = self.read.capacity() - self.read.len();
        // The same memory again where nobody holds it any more: it is still in the cache.
        if spare >= self.room || self.read.try_reclaim(self.room) || spare >= self.room / 2 {
            return;
        }
        if self.read.is_empty() {
            // Not `reserve`: it would make the new memory as large as the old one.
            self.read = BytesMut::with_capacity(self.room);
        } else {
            self.read.reserve(self.room);
        }
    }

    /// Reads on and drops everything until the client closes; at most `most` bytes.
    pub(super) fn poll_drain(&mut self, cx: &mut Context<'_>, most: &mut usize) -> Poll<()> {
        loop {
            self.read.clear();
            match ready!(self.poll_input(cx)) {
                Ok(count @ 1..) if count < *most => *most -= count,
                _ => return Poll::Ready(()),
            }
        }
    }

    /// Writes what there is to write; TLS may still keep some of it.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Some(io) => self.output.poll_write(cx, io),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    /// Writes everything through to the client's socket.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Some(io) => self.output.poll_flush(cx, io),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    /// Tells the client that nothing more comes.
    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Some(io) => Pin::new(io).poll_shutdown(cx),
            None => Poll::Ready(Ok(())),
        }
    }
}
