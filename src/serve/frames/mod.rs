//! Watches over HTTP/2 clients beside the `h2` library, which bounds some kinds of frames only and has one name for
//! most errors.
//!
//! `Metered` stands between TLS and the library and follows the frames of both directions without keeping them. It
//! ends the connection of a client whose [`Budget`] is spent, and gives the library's errors their names ([`Blame`]).

mod blame;
mod budget;
mod follow;
#[cfg(test)]
mod tests;

use std::io::{self, IoSlice};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

pub use self::blame::{Blame, Code};
pub use self::budget::{Budget, Spent};
pub use self::follow::{Follower, Frame, Kind};
use super::worker::Worker;
use crate::metrics::WorkerMetrics;
use crate::timer::Timer;

/// PROTOCOL_ERROR as GOAWAY has it.
const PROTOCOL_ERROR: [u8; 4] = [0, 0, 0, 1];

/// GOAWAY (RFC 9113 section 6.8). Any request may have been acted on: the last stream is the highest there is.
fn goaway(code: Code) -> [u8; 17] {
    [0, 0, 8, 7, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, code as u8]
}

/// A connection whose frames are watched in both directions.
#[derive(Debug)]
pub(super) struct Metered<IO> {
    io: IO,
    timer: Timer,
    metrics: Arc<WorkerMetrics>,
    peer: IpAddr,
    received: Follower,
    sent: Follower,
    /// Bytes of the next write that are followed already: they were not taken at once.
    ahead: usize,
    /// A byte to be written in place of another, so many bytes on.
    renamed: Option<(usize, u8)>,
    budget: Budget,
    blame: Blame,
    given_up: bool,
}

impl<IO> Metered<IO> {
    /// Watches from the client's preface on. `streams` is how many requests at a time the client may make.
    pub(super) fn new(io: IO, worker: &Worker, peer: IpAddr, streams: u32) -> Self {
        Self::with(io, worker.timer.clone(), Arc::clone(&worker.metrics), peer, streams)
    }

    fn with(io: IO, timer: Timer, metrics: Arc<WorkerMetrics>, peer: IpAddr, streams: u32) -> Self {
        let budget = Budget::new(timer.now(), streams);
        Self {
            io,
            timer,
            metrics,
            peer,
            received: Follower::client(),
            sent: Follower::server(),
            ahead: 0,
            renamed: None,
            budget,
            blame: Blame::default(),
            given_up: false,
        }
    }

    /// Follows what is about to be sent.
    fn look_ahead(&mut self, slices: &[IoSlice<'_>]) {
        let mut before = 0;
        for slice in slices {
            let known = self.ahead.saturating_sub(before).min(slice.len());
            let new = slice.get(known..).unwrap_or_default();
            before += slice.len();
            self.sent.follow(new, |frame, behind| {
                self.budget.sent(frame);
                if frame.kind == Kind::Goaway
                    && let Some(([last @ .., a, b, c, d], _)) = behind.split_first_chunk::<8>()
                    && [*a, *b, *c, *d] == PROTOCOL_ERROR
                {
                    let name = self.blame.name(u32::from_be_bytes(*last));
                    self.renamed = Some((before - behind.len() + 7, name as u8));
                }
            });
        }
        self.ahead = self.ahead.max(before);
    }

    /// So many bytes were sent.
    fn advance(&mut self, count: usize) {
        self.ahead = self.ahead.saturating_sub(count);
        self.renamed = self.renamed.and_then(|(at, byte)| Some((at.checked_sub(count)?, byte)));
    }
}

impl<IO: AsyncWrite + Unpin> Metered<IO> {
    /// Says why, when no frame is half written and the client takes it at once, and leaves.
    fn give_up(&mut self, cx: &mut Context<'_>, code: Code) {
        if !std::mem::replace(&mut self.given_up, true) && self.ahead == 0 && self.sent.is_between()
        {
            // Whether it gets there is not waited for.
            let _ = Pin::new(&mut self.io).poll_write(cx, &goaway(code));
            let _ = Pin::new(&mut self.io).poll_flush(cx);
        }
    }

    /// Ends a connection whose client asks too much, or goes on where it said that it would not.
    fn judge(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if let Some(spent) = self.budget.spent() {
            if !self.given_up {
                tracing::info!(peer = %self.peer, "an HTTP/2 client is given up: {spent}");
                self.metrics.violation(spent.code());
            }
            self.give_up(cx, Code::EnhanceYourCalm);
            return Err(io::Error::other(spent));
        }
        if self.blame.is_beyond_end() {
            self.give_up(cx, Code::StreamClosed);
            return Err(io::Error::other("a body goes on behind its end"));
        }
        Ok(())
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
        ready!(Pin::new(&mut this.io).poll_read(cx, buf))?;
        this.budget.refill(this.timer.now());
        this.blame.go_on();
        let bytes = buf.filled().get(before..).unwrap_or_default();
        this.received.follow(bytes, |frame, _| {
            this.budget.received(frame);
            this.blame.received(frame);
        });
        Poll::Ready(this.judge(cx))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Metered<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        this.look_ahead(&[IoSlice::new(bytes)]);
        let name;
        let next = match this.renamed {
            Some((0, byte)) => {
                name = [byte];
                &name[..]
            }
            Some((at, _)) => bytes.get(..at).unwrap_or(bytes),
            None => bytes,
        };
        let count = ready!(Pin::new(&mut this.io).poll_write(cx, next))?;
        this.advance(count);
        Poll::Ready(Ok(count))
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
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        this.look_ahead(slices);
        if this.renamed.is_some() {
            let first = slices.iter().find(|slice| !slice.is_empty());
            return self.poll_write(cx, first.map_or(&[], |slice| slice));
        }
        let count = ready!(Pin::new(&mut this.io).poll_write_vectored(cx, slices))?;
        this.advance(count);
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
