//! The socket as h2 sees it: reads only when there may be something, gathers what is written.
//!
//! h2 writes and flushes each frame with a payload by itself. Gathered, the answers of one look at the
//! connection share a TLS record and a system call.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::clock::UnixMs;
use crate::timer::Timer;

/// Bytes that are gathered: those of one TLS record.
const GATHERED: usize = 16 * 1024;
/// Writes from here on are handed on without copying them, when nothing is before them.
const LARGE: usize = 8 * 1024;
/// Memory that an idle connection keeps for what it gathers.
const USUAL: usize = 8 * 1024;
/// Bytes that are read before the requests among them are taken. h2 would read all there is, and a byte of a head can
/// unpack to a field.
const READ_AHEAD: usize = 32 * 1024;
/// Bytes that are forgotten at a time.
const DRAINED: usize = 4 * 1024;

/// Shared by h2, which has the frames, and by the connection's task, which has it all sent.
#[derive(Debug)]
pub(super) struct Io<IO>(Rc<Inner<IO>>);

#[derive(Debug)]
struct Inner<IO> {
    stream: RefCell<Stream<IO>>,
    timer: Timer,
    /// Woken when there is something to read.
    input: Waker,
    /// Whether there may be something to read.
    readable: Cell<bool>,
    /// Bytes that may still be read before the requests among them are taken.
    ahead: Cell<usize>,
    /// Whether more was asked for.
    held_up: Cell<bool>,
    last_read: Cell<UnixMs>,
}

#[derive(Debug)]
struct Stream<IO> {
    io: IO,
    out: Vec<u8>,
    /// Bytes of `out` that the socket has.
    written: usize,
    /// Whether all that was written is flushed: TLS may take bytes and keep them.
    flushed: bool,
    /// Bytes that the socket, or TLS, has taken; begins anew after the largest number.
    taken: u64,
}

impl<IO> Clone for Io<IO> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<IO> Io<IO> {
    /// `input` is woken when there is something to read; then [`Io::set_readable`] must be called.
    pub(super) fn new(io: IO, input: Waker, timer: Timer) -> Self {
        let stream = Stream { io, out: Vec::new(), written: 0, flushed: true, taken: 0 };
        Self(Rc::new(Inner {
            stream: RefCell::new(stream),
            last_read: Cell::new(timer.now()),
            timer,
            input,
            readable: Cell::new(true),
            ahead: Cell::new(READ_AHEAD),
            held_up: Cell::new(false),
        }))
    }

    /// There may be something to read.
    pub(super) fn set_readable(&self) {
        self.0.readable.set(true);
    }

    /// All requests that were read are taken: more may be read. Whether that was waited for.
    pub(super) fn read_on(&self) -> bool {
        self.0.ahead.set(READ_AHEAD);
        self.0.held_up.take()
    }

    /// How many bytes were taken: another number when some were.
    pub(super) fn taken(&self) -> u64 {
        self.0.stream.borrow().taken
    }

    /// When something was last read.
    pub(super) fn last_read(&self) -> UnixMs {
        self.0.last_read.get()
    }
}

impl<IO: AsyncRead + Unpin> Io<IO> {
    /// Takes what still comes and forgets it; ready when nothing does any more.
    pub(super) fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut bytes = [0; DRAINED];
        loop {
            self.read_on();
            let mut read = ReadBuf::new(&mut bytes);
            let polled = ready!(Pin::new(&mut *self).poll_read(cx, &mut read));
            if polled.is_err() || read.filled().is_empty() {
                return Poll::Ready(());
            }
        }
    }
}

impl<IO: AsyncWrite + Unpin> Io<IO> {
    /// Sends what was gathered.
    pub(super) fn poll_send(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let stream = &mut *self.0.stream.borrow_mut();
        if stream.flushed { Poll::Ready(Ok(())) } else { stream.poll_flush(cx) }
    }
}

impl<IO: AsyncWrite + Unpin> Stream<IO> {
    /// Makes room for `more` bytes.
    fn poll_room(&mut self, cx: &mut Context<'_>, more: usize) -> Poll<io::Result<()>> {
        if self.out.len().saturating_add(more) <= GATHERED {
            return Poll::Ready(Ok(()));
        }
        self.poll_write_out(cx)
    }

    fn poll_write_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.out.get(self.written..).filter(|rest| !rest.is_empty()) {
            let count = ready!(Pin::new(&mut self.io).poll_write(cx, rest))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += count;
            self.took(count);
        }
        self.out.clear();
        self.written = 0;
        Poll::Ready(Ok(()))
    }

    fn took(&mut self, count: usize) {
        self.taken = self.taken.wrapping_add(u64::try_from(count).unwrap_or(u64::MAX));
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_write_out(cx))?;
        self.out.shrink_to(USUAL);
        ready!(Pin::new(&mut self.io).poll_flush(cx))?;
        self.flushed = true;
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Io<IO> {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let inner = &*self.0;
        if !inner.readable.get() {
            return Poll::Pending;
        }
        if inner.ahead.get() == 0 {
            inner.held_up.set(true);
            return Poll::Pending;
        }
        let before = buf.filled().len();
        let stream = &mut *inner.stream.borrow_mut();
        let polled =
            Pin::new(&mut stream.io).poll_read(&mut Context::from_waker(&inner.input), buf);
        if polled.is_ready() {
            let count = buf.filled().len().saturating_sub(before);
            inner.ahead.set(inner.ahead.get().saturating_sub(count));
            inner.last_read.set(inner.timer.now());
        } else {
            inner.readable.set(false);
        }
        polled
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Io<IO> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let stream = &mut *self.0.stream.borrow_mut();
        let length = slices.iter().map(|slice| slice.len()).sum();
        ready!(stream.poll_room(cx, length))?;
        stream.flushed = false;
        if length >= LARGE && stream.out.is_empty() {
            let count = ready!(Pin::new(&mut stream.io).poll_write_vectored(cx, slices))?;
            stream.took(count);
            return Poll::Ready(Ok(count));
        }
        for slice in slices {
            stream.out.extend_from_slice(slice);
        }
        Poll::Ready(Ok(length))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Does nothing: see [`Io::poll_send`].
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let stream = &mut *self.0.stream.borrow_mut();
        ready!(stream.poll_flush(cx))?;
        Pin::new(&mut stream.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::super::signals::{Part, Signals};
    use super::*;
    use crate::clock::Clock;

    fn io(room: usize) -> (Io<DuplexStream>, DuplexStream, Arc<Signals>) {
        let signals = Signals::new();
        let (near, far) = duplex(room);
        let timer = Timer::new(Clock::manual(UnixMs(0)));
        (Io::new(near, signals.waker(Part::INPUT), timer), far, signals)
    }

    fn cx() -> Context<'static> {
        Context::from_waker(Waker::noop())
    }

    #[tokio::test]
    async fn writes_are_gathered_until_they_are_sent() {
        let (mut io, mut far, _signals) = io(64 * 1024);
        io.write_all(b"hel").await.unwrap();
        io.flush().await.unwrap();
        let pieces = [IoSlice::new(b"l"), IoSlice::new(b"o")];
        assert!(matches!(
            Pin::new(&mut io).poll_write_vectored(&mut cx(), &pieces),
            Poll::Ready(Ok(2))
        ));
        let mut buf = [0; 5];
        let mut read = ReadBuf::new(&mut buf);
        assert!(Pin::new(&mut far).poll_read(&mut cx(), &mut read).is_pending());
        assert!(io.poll_send(&mut cx()).is_ready());
        far.read_exact(&mut buf).await.unwrap();
        assert_eq!(&buf, b"hello");
    }

    #[tokio::test]
    async fn what_is_gathered_is_bounded_and_in_order() {
        let (mut io, mut far, _signals) = io(1000);
        let bytes: Vec<u8> = (0..100_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        let sizes = [7, 5000, 20_000, 16_384, 8192, 1];
        let (mut sent, mut got) = (0, Vec::new());
        while got.len() < bytes.len() {
            for size in sizes {
                let piece = &bytes[sent..bytes.len().min(sent + size)];
                if let Poll::Ready(count) = Pin::new(&mut io).poll_write(&mut cx(), piece) {
                    sent += count.unwrap();
                }
                assert!(io.0.stream.borrow().out.len() <= GATHERED);
            }
            // Or tokio would have it wait for its next turn.
            tokio::task::yield_now().await;
            let _ = io.poll_send(&mut cx());
            let mut buf = [0; 333];
            let mut read = ReadBuf::new(&mut buf);
            if Pin::new(&mut far).poll_read(&mut cx(), &mut read).is_ready() {
                got.extend_from_slice(read.filled());
            }
        }
        assert!(got == bytes);
        assert!(io.0.stream.borrow().out.capacity() <= USUAL, "an idle connection needs little");
    }

    #[tokio::test]
    async fn nothing_is_read_before_there_is_something() {
        let (mut io, mut far, signals) = io(64);
        let mut buf = [0; 8];
        let mut read = ReadBuf::new(&mut buf);
        assert!(Pin::new(&mut io).poll_read(&mut cx(), &mut read).is_pending());
        far.write_all(b"x").await.unwrap();
        assert!(Pin::new(&mut io).poll_read(&mut cx(), &mut read).is_pending());
        assert!(signals.take(Part::INPUT));
        io.set_readable();
        assert!(Pin::new(&mut io).poll_read(&mut cx(), &mut read).is_ready());
        assert_eq!(read.filled(), b"x");
    }

    #[tokio::test]
    async fn no_more_is_read_before_the_requests_are_taken() {
        let (mut io, mut far, _signals) = io(4 * READ_AHEAD);
        far.write_all(&vec![b'x'; 2 * READ_AHEAD]).await.unwrap();
        let mut buf = vec![0; READ_AHEAD - 1];
        let mut poll = |io: &mut Io<_>| {
            let mut read = ReadBuf::new(&mut buf);
            let polled = Pin::new(io).poll_read(&mut cx(), &mut read);
            polled.is_ready().then(|| read.filled().len())
        };
        assert_eq!(poll(&mut io), Some(READ_AHEAD - 1));
        assert!(!io.read_on(), "nobody waits for more");
        assert_eq!(poll(&mut io), Some(READ_AHEAD - 1));
        // One byte is left, which a read may exceed.
        assert_eq!(poll(&mut io), Some(2));
        far.write_all(b"more").await.unwrap();
        assert_eq!(poll(&mut io), None);
        assert!(io.read_on() && !io.read_on());
        assert_eq!(poll(&mut io), Some(4));
    }
}
