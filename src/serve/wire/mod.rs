//! Refuses HTTP/1 requests that hyper would tolerate, before hyper sees their first byte.
//!
//! [`Scan`] sits between the TLS stream and hyper, follows the framing of the requests (head, body,
//! next head) and holds a head back until it is complete and judged. It changes no byte of a
//! request that it lets pass, and it must not decide about hosts, paths or persons.
//!
//! What it promises: hyper frames everything that passes in the same way as the scanner does.
//! How a breach is reported:
//! - in head number `k` (counted from 0 on the connection): hyper gets a synthetic, harmless head
//!   with `Connection: close` in its place and nothing afterwards. The service, which counts its
//!   requests, finds `k` in [`WireHandle::violation`] and answers that request with the refusal.
//! - in chunk framing or trailers: the read fails with [`io::ErrorKind::InvalidData`] and the
//!   [`Violation`] inside, so that hyper aborts the connection. Nothing that was read together with
//!   the breach is passed on for that body.

mod chunk;
mod handle;
mod head;
mod violation;

#[cfg(test)]
mod tests;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use chunk::Chunks;
pub use handle::WireHandle;
use head::Section;
pub use head::{Body, Framing, judge_head};
pub use violation::Violation;

/// The trailer section of one chunked body, in bytes.
const MAX_TRAILER: usize = 16 * 1024;

/// Stands in for a refused head. A service that forgot to ask for the violation would see a
/// request without credentials for a host that cannot exist (RFC 6761 6.4).
const REFUSED_HEAD: &[u8] = b"GET / HTTP/1.1\r\nHost: invalid\r\nConnection: close\r\n\r\n";

/// Bounds on a request head. hyper's own bounds have to be at least as wide, so that it is the
/// scanner that refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WireLimits {
    /// Bytes of the request line without its CR LF. Beyond: 414.
    pub request_line: usize,
    /// Bytes of the whole head with its empty line; also what a connection may hold back. Beyond:
    /// 431.
    pub head: usize,
    /// Header lines, and lines of a trailer section. Beyond: 431.
    pub fields: usize,
}

/// A byte stream that passes on only well-formed HTTP/1 requests. Writing is not touched.
#[derive(Debug)]
pub struct Scan<IO> {
    io: IO,
    follower: Follower,
    /// Taken from `io`, not passed on yet: the start of an incomplete head, or what came behind a
    /// request to upgrade. Empty, and without memory, whenever heads arrive in one piece.
    carry: BytesMut,
    /// This many bytes of `carry` are judged and go out next.
    judged: usize,
    /// What the handle was told last.
    in_head: bool,
}

impl<IO> Scan<IO> {
    /// Starts before the first head of a connection.
    pub fn new(io: IO, limits: WireLimits) -> (Self, WireHandle) {
        let handle = WireHandle::new();
        let follower = Follower {
            state: State::Head(Section::head()),
            limits,
            heads: 0,
            upgrade: false,
            handle: handle.clone(),
        };
        let scan = Self { io, follower, carry: BytesMut::new(), judged: 0, in_head: false };
        (scan, handle)
    }

    /// The stream below, for what it knows about the peer. Reading from it would lose bytes.
    pub fn get_ref(&self) -> &IO {
        &self.io
    }

    /// Moves judged bytes from `carry` to the reader.
    fn hand_out(&mut self, buf: &mut ReadBuf<'_>) {
        let count = self.judged.min(buf.remaining());
        buf.put_slice(self.carry.get(..count).unwrap_or_default());
        self.carry.advance(count);
        self.judged -= count;
        if self.carry.is_empty() {
            self.carry = BytesMut::new();
        }
    }

    /// What has to happen before more bytes are read from below. `Some`: the answer of this poll.
    fn settle(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Option<Poll<io::Result<()>>> {
        loop {
            if self.judged > 0 {
                self.hand_out(buf);
                return Some(Poll::Ready(Ok(())));
            }
            match &mut self.follower.state {
                State::Refused { head } => return Some(hand_out_refused(head, buf)),
                State::Broken(violation) => {
                    let broken = io::Error::new(io::ErrorKind::InvalidData, *violation);
                    return Some(Poll::Ready(Err(broken)));
                }
                State::Held { .. } => match self.follower.poll_release(cx) {
                    Poll::Ready(()) => self.judge_carry(),
                    // With nothing in hand the stream below is still read, to learn of a client
                    // that has gone; with something in hand it is not: that is the back-pressure.
                    Poll::Pending => return (!self.carry.is_empty()).then_some(Poll::Pending),
                },
                _ => return None,
            }
        }
    }

    fn tell_in_head(&mut self) {
        let waits = matches!(self.follower.state, State::Head(_)) && !self.carry.is_empty();
        if waits != self.in_head {
            self.in_head = waits;
            self.follower.handle.set_in_head(waits);
        }
    }

    fn judge_carry(&mut self) {
        self.judged = self.follower.follow(&self.carry);
        if !self.follower.wants_more() {
            self.carry.truncate(self.judged);
        }
    }

    /// Judges what was just read behind `start` and leaves in `buf` only what may pass.
    fn take_in(&mut self, buf: &mut ReadBuf<'_>, start: usize) {
        let fresh = buf.filled().get(start..).unwrap_or_default();
        if self.carry.is_empty() {
            let passed = self.follower.follow(fresh);
            if passed == fresh.len() {
                return;
            }
            if self.follower.wants_more() {
                self.carry.extend_from_slice(fresh.get(passed..).unwrap_or_default());
            }
            buf.set_filled(start + passed);
        } else {
            self.carry.extend_from_slice(fresh);
            buf.set_filled(start);
            self.judge_carry();
        }
    }
}

/// Passes on what is left of the synthetic head, then waits for hyper to close.
fn hand_out_refused(head: &mut &'static [u8], buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
    if head.is_empty() {
        // Not EOF: hyper takes EOF for a client that has gone and drops the answer. The synthetic
        // head makes it close after the answer, so no wake-up is needed.
        return Poll::Pending;
    }
    let count = head.len().min(buf.remaining());
    let (now, later) = head.split_at_checked(count).unwrap_or((*head, &[]));
    buf.put_slice(now);
    *head = later;
    Poll::Ready(Ok(()))
}

impl<IO: AsyncRead + Unpin> Scan<IO> {
    fn read(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
        start: usize,
    ) -> Poll<io::Result<()>> {
        // Each turn either answers or takes in bytes, which `WireLimits::head` bounds.
        loop {
            if let Some(answer) = self.settle(cx, buf) {
                return answer;
            }
            ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
            if buf.filled().len() == start {
                return Poll::Ready(Ok(()));
            }
            self.take_in(buf, start);
            if buf.filled().len() > start {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Scan<IO> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let start = buf.filled().len();
        let answer = this.read(cx, buf, start);
        this.tell_in_head();
        answer
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Scan<IO> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

/// Follows the framing. It sees bytes and says how many may pass; it never owns any.
#[derive(Debug)]
struct Follower {
    state: State,
    limits: WireLimits,
    /// Heads that passed.
    heads: u64,
    /// The last head asked to upgrade: hold what comes behind its body.
    upgrade: bool,
    handle: WireHandle,
}

#[derive(Debug)]
enum State {
    Head(Section),
    Body {
        left: u64,
    },
    Chunked(Chunks),
    Trailer(Section),
    /// Behind a request to upgrade, until the service has decided about it.
    Held {
        head: u64,
    },
    /// What is left of the synthetic head.
    Refused {
        head: &'static [u8],
    },
    Broken(Violation),
    Tunnel,
}

/// What [`Follower::step`] made of the bytes.
enum Step {
    /// This many bytes passed, and the state has changed.
    Passed(usize),
    /// This many bytes passed; the rest waits for more bytes or for the service.
    Stopped(usize),
}

impl Follower {
    /// How many of `bytes` may pass. They start at the first byte that has not passed yet; the
    /// rest has to be shown again together with what comes next.
    fn follow(&mut self, bytes: &[u8]) -> usize {
        let mut passed = 0;
        while let Some(rest @ [_, ..]) = bytes.get(passed..) {
            match self.step(rest) {
                Step::Passed(count) => passed += count,
                Step::Stopped(count) => return passed + count,
            }
        }
        passed
    }

    fn step(&mut self, bytes: &[u8]) -> Step {
        match &mut self.state {
            State::Head(section) => match section.advance(bytes, &self.limits) {
                Ok(None) => Step::Stopped(0),
                Ok(Some(length)) => {
                    let framing = section.framing();
                    self.begin_body(framing);
                    Step::Passed(length)
                }
                Err(violation) => self.refuse(violation),
            },
            State::Body { left } => {
                let count = usize::try_from(*left).map_or(bytes.len(), |n| n.min(bytes.len()));
                *left -= count as u64;
                if *left == 0 {
                    self.end_message();
                }
                Step::Passed(count)
            }
            State::Chunked(chunks) => match chunks.advance(bytes) {
                Ok(None) => Step::Stopped(bytes.len()),
                Ok(Some(count)) => {
                    self.state = State::Trailer(Section::trailer());
                    Step::Passed(count)
                }
                Err(violation) => self.abort(violation),
            },
            State::Trailer(section) => {
                let limits = WireLimits { head: MAX_TRAILER, ..self.limits };
                match section.advance(bytes, &limits) {
                    Ok(None) => Step::Stopped(0),
                    Ok(Some(count)) => {
                        self.end_message();
                        Step::Passed(count)
                    }
                    Err(violation) => self.abort(violation),
                }
            }
            State::Held { .. } | State::Refused { .. } | State::Broken(_) => Step::Stopped(0),
            State::Tunnel => Step::Stopped(bytes.len()),
        }
    }

    fn begin_body(&mut self, framing: Framing) {
        self.heads += 1;
        self.upgrade = framing.upgrade;
        match framing.body {
            Body::Empty => self.end_message(),
            Body::Length(left) => self.state = State::Body { left },
            Body::Chunked => self.state = State::Chunked(Chunks::new()),
        }
    }

    fn end_message(&mut self) {
        self.state = match self.upgrade {
            true => State::Held { head: self.heads - 1 },
            false => State::Head(Section::head()),
        };
    }

    fn refuse(&mut self, violation: Violation) -> Step {
        self.handle.publish(self.heads, violation);
        self.state = State::Refused { head: REFUSED_HEAD };
        Step::Stopped(0)
    }

    fn abort(&mut self, violation: Violation) -> Step {
        self.state = State::Broken(violation);
        Step::Stopped(0)
    }

    /// Leaves `Held` when the service has decided; registers the task otherwise.
    fn poll_release(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let State::Held { head } = self.state {
            self.state = match ready!(self.handle.poll_decision(head, cx)) {
                handle::Decision::Resume => State::Head(Section::head()),
                handle::Decision::PassThrough => State::Tunnel,
            };
        }
        Poll::Ready(())
    }

    /// Bytes that have not passed may still pass later.
    fn wants_more(&self) -> bool {
        !matches!(self.state, State::Refused { .. } | State::Broken(_))
    }
}
