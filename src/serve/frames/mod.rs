//! What an HTTP/2 client may cost that asks for nothing: frames are counted beside the `h2` library, which
//! bounds some kinds of them only.
//!
//! [`Metered`] stands between TLS and the library. It follows the frames of both directions without keeping
//! them and ends the connection of a client whose [`Budget`] is spent.

mod budget;
mod follow;
#[cfg(test)]
mod tests;

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

pub use self::budget::{Budget, Spent};
pub use self::follow::{Follower, Frame, Kind};
use super::worker::Worker;

/// GOAWAY with ENHANCE_YOUR_CALM (RFC 9113 section 6.8). Any request may have been acted on: the last
/// stream is the highest there is.
const GOAWAY: [u8; 17] = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 11];

/// A connection whose frames are counted in both directions.
#[derive(Debug)]
pub(super) struct Metered<IO> {
    io: IO,
    worker: Rc<Worker>,
    peer: IpAddr,
    received: Follower,
    sent: Follower,
    budget: Budget,
    given_up: bool,
}

impl<IO> Metered<IO> {
    /// Counts from the client's preface on. `streams` is how many requests at a time the client may make.
    pub(super) fn new(io: IO, worker: &Rc<Worker>, peer: IpAddr, streams: u32) -> Self {
        let budget = Budget::new(worker.timer.now(), streams);
        Self {
            io,
            worker: Rc::clone(worker),
            peer,
            received: Follower::client(),
            sent: Follower::server(),
            budget,
            given_up: false,
        }
    }
}

impl<IO: AsyncWrite + Unpin> Metered<IO> {
    /// Says why, when no frame is half written and the client takes it at once, and leaves.
    fn give_up(&mut self, cx: &mut Context<'_>, spent: Spent) -> io::Error {
        if !std::mem::replace(&mut self.given_up, true) {
            tracing::info!(peer = %self.peer, "an HTTP/2 client is given up: {spent}");
            self.worker.metrics.violation(spent.code());
            if self.sent.is_between() {
                // Whether it gets there is not waited for.
                let _ = Pin::new(&mut self.io).poll_write(cx, &GOAWAY);
                let _ = Pin::new(&mut self.io).poll_flush(cx);
            }
        }
        io::Error::other(spent)
    }

    fn count_sent(&mut self, bytes: &[u8]) {
        self.sent.follow(bytes, |frame| self.budget.sent(frame));
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncRead for Metered<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        let read = Pin::new(&mut this.io).poll_read(cx, buf);
        if matches!(read, Poll::Ready(Ok(()))) {
            this.budget.refill(this.worker.timer.now());
            let bytes = buf.filled().get(before..).unwrap_or_default();
            this.received.follow(bytes, |frame| this.budget.received(frame));
            if let Some(spent) = this.budget.spent() {
                return Poll::Ready(Err(this.give_up(cx, spent)));
            }
        }
        read
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Metered<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let written = Pin::new(&mut this.io).poll_write(cx, bytes);
        if let Poll::Ready(Ok(count)) = &written {
            this.count_sent(bytes.get(..*count).unwrap_or(bytes));
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let written = Pin::new(&mut this.io).poll_write_vectored(cx, slices);
        if let Poll::Ready(Ok(count)) = &written {
            let mut left = *count;
            for slice in slices {
                let taken = slice.get(..left).unwrap_or(slice);
                left -= taken.len();
                this.count_sent(taken);
            }
        }
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
