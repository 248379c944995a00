//! Notices a client that does not take what is written to it.
//!
//! Passes all bytes on as they are and judges nothing: the connection's guard does.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream whose writes are watched.
#[derive(Debug)]
pub(super) struct Watched<IO> {
    io: IO,
    outflow: Outflow,
}

/// What is known of the writes; cheap to clone. All is done on one thread: the atomics are for hyper,
/// which wants streams that could be sent to another.
#[derive(Clone, Debug, Default)]
pub(super) struct Outflow(Arc<State>);

#[derive(Debug, Default)]
struct State {
    blocked: AtomicBool,
    written: AtomicU64,
}

impl Outflow {
    /// Whether the last write had to wait: then the number of bytes that went out before.
    pub(super) fn blocked(&self) -> Option<u64> {
        let state = &self.0;
        state.blocked.load(Ordering::Relaxed).then(|| state.written.load(Ordering::Relaxed))
    }

    fn note(&self, written: &Poll<io::Result<usize>>) {
        let state = &self.0;
        state.blocked.store(written.is_pending(), Ordering::Relaxed);
        if let Poll::Ready(Ok(count)) = written {
            let sum = state.written.load(Ordering::Relaxed).wrapping_add(*count as u64);
            state.written.store(sum, Ordering::Relaxed);
        }
    }
}

impl<IO> Watched<IO> {
    pub(super) fn new(io: IO) -> (Self, Outflow) {
        let outflow = Outflow::default();
        (Self { io, outflow: outflow.clone() }, outflow)
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Watched<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Watched<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, buf);
        self.outflow.note(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.outflow.note(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        self.outflow.note(&flushed.is_ready().then_some(Ok(0)).map_or(Poll::Pending, Poll::Ready));
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
