//! HTTP/1.1 towards apps: one connection, one request at a time, polled by whoever waits for it.
//!
//! hyper's client runs each connection as a task of its own and hands requests and answers over by
//! channels. Here the request's own task writes and reads, a head is written straight from what was
//! stamped, and the answer's head and body share the memory that they were read into.

mod body;
mod chunked;
mod head;
mod outgoing;
mod rest;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::{Method, StatusCode};
use http_body::Body as _;
use tokio_util::io::poll_read_buf;

use self::head::{Framing, Reader, Sending};
use self::outgoing::{Outgoing, Stopped};
use self::rest::Rest;
use super::body::RequestBody;
use super::connect::Stream;
use super::{Failure, Upgraded};
use crate::headers::{AnswerHead, Stamped};

pub use self::body::Broken;
pub(super) use self::body::ResponseBody;
pub(super) use self::head::{HEAD, INTERIM};

/// Room for the usual answer: its head and a small body.
const READ: usize = 8 * 1024;
/// Bytes that are read at once from an app that sends a lot.
const READ_MOST: usize = 64 * 1024;

/// A connection to an app.
pub(super) struct Connection {
    /// Shared with the task that sends the rest of a request whose answer came early.
    stream: Rc<RefCell<Stream>>,
    out: Outgoing,
    read: BytesMut,
    /// Bytes to be read at once: more while the app fills what there is.
    room: usize,
    /// How the answer's head is getting on.
    reader: Reader,
    /// Whether the app takes no more of the request; it may have answered all the same.
    deaf: bool,
}

/// The head of an answer, and what is needed for the rest.
#[derive(Debug)]
pub(super) struct Begun {
    pub(super) answer: Box<AnswerHead>,
    framing: Framing,
    keep: bool,
    rest: Bytes,
}

/// Shows no bytes: heads hold what authenticates people to apps.
impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("deaf", &self.deaf).finish_non_exhaustive()
    }
}

impl Connection {
    pub(super) fn new(stream: Stream) -> Self {
        Self {
            stream: Rc::new(RefCell::new(stream)),
            out: Outgoing::new(),
            read: BytesMut::new(),
            room: READ,
            reader: Reader::default(),
            deaf: false,
        }
    }

    /// Whether the app has neither closed the connection nor sent anything since its last answer: what
    /// nobody asked for must not be taken for the answer to the next request.
    pub(super) fn is_quiet(&self) -> bool {
        match self.stream.try_borrow_mut() {
            Ok(mut stream) => stream.is_quiet(),
            Err(_) => false,
        }
    }

    /// Begins a request; [`Connection::poll_answer`] sends it.
    pub(super) fn begin(&mut self, request: &Stamped<RequestBody>) {
        let sending = sending(request.body());
        self.out.begin(sending, |out| head::write(request, sending, out));
        self.reader = Reader::default();
        self.deaf = false;
    }

    /// Sends the request and reads the head of the answer. Reads from the start on: an app may refuse a
    /// request before it has all of it. What it says ahead of the answer goes to `interim`.
    pub(super) fn poll_answer(
        &mut self,
        cx: &mut Context<'_>,
        body: &mut RequestBody,
        method: &Method,
        interim: &mut dyn FnMut(Box<AnswerHead>),
    ) -> Poll<Result<Begun, Failure>> {
        if !self.out.is_finished() && !self.deaf {
            let sent = self.out.poll(cx, &mut *self.stream.borrow_mut(), body);
            match sent {
                Poll::Ready(Err(Stopped::Body(error))) => {
                    return Poll::Ready(Err(Failure::of_body(error.as_ref())));
                }
                Poll::Ready(Err(Stopped::Write(error))) => {
                    tracing::debug!(%error, "an app takes no request");
                    if !self.out.has_begun() {
                        return Poll::Ready(Err(Failure::reset(false, true)));
                    }
                    self.deaf = true;
                }
                Poll::Ready(Ok(())) | Poll::Pending => {}
            }
        }
        loop {
            let count = ready!(self.poll_read(cx));
            let gone = match count {
                Ok(count) => count == 0,
                Err(error) => {
                    tracing::debug!(%error, "an app broke off");
                    true
                }
            };
            if gone {
                return Poll::Ready(Err(Failure::reset(self.has_answer(), false)));
            }
            match self.reader.advance(&mut self.read, *method == Method::HEAD, interim) {
                Ok(Some(found)) => {
                    let head::Head { answer, framing, keep, rest } = found;
                    return Poll::Ready(Ok(Begun { answer, framing, keep, rest }));
                }
                Ok(None) => {}
                Err(what) => return Poll::Ready(Err(Failure::bad_response(what))),
            }
        }
    }

    /// Whether any byte of an answer has come.
    fn has_answer(&self) -> bool {
        !self.read.is_empty() || self.reader.has_seen_any()
    }

    /// The body of the answer; `request` is what is left of the request's body.
    pub(super) fn into_body(
        self: Box<Self>,
        begun: Begun,
        request: RequestBody,
    ) -> (Box<AnswerHead>, ResponseBody) {
        let Begun { answer, framing, keep, rest } = begun;
        (answer, ResponseBody::new(self, framing, keep, rest, request))
    }

    /// The stream behind a 101, with what came behind its head.
    pub(super) fn into_tunnel(self, begun: Begun) -> Option<(Box<AnswerHead>, Upgraded)> {
        debug_assert_eq!(begun.answer.status, StatusCode::SWITCHING_PROTOCOLS);
        let stream = Rc::into_inner(self.stream)?.into_inner();
        Some((begun.answer, Upgraded::new(Box::new(stream), begun.rest)))
    }

    /// Reads into `read`; 0 at the end.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.make_room();
        let room = self.read.capacity() - self.read.len();
        let stream = &mut *self.stream.borrow_mut();
        let count = ready!(poll_read_buf(Pin::new(stream), cx, &mut self.read))?;
        if count >= room {
            self.room = self.room.saturating_mul(2).min(READ_MOST);
        } else if count < self.room / 4 {
            self.room = (self.room / 2).max(READ);
        }
        Poll::Ready(Ok(count))
    }

    /// Room for a read of at least half of `room`. Pieces that come one by one share memory until it is
    /// used up: with memory for each, a client that is slow to take them would hold far more than it
    /// was sent.
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

    /// Gives back what a large answer took: an idle connection needs little.
    fn shrink(&mut self) {
        if self.room > READ || self.read.capacity() > READ {
            (self.room, self.read) = (READ, BytesMut::new());
        }
    }

    /// Sends the rest of a request on a task of its own, while its answer is already being read.
    fn send_rest(&mut self, body: RequestBody) -> Rest {
        let out = std::mem::replace(&mut self.out, Outgoing::new());
        Rest::send(Rc::clone(&self.stream), (!self.deaf).then_some(out), body)
    }
}

/// How a body goes out: by its own length, whatever the client's headers say.
fn sending(body: &RequestBody) -> Sending {
    match body.size_hint().exact() {
        _ if body.is_empty() => Sending::Nothing,
        // The stream of a body that is said to be empty may still be open (HTTP/2). Whether it is true shows
        // at its end: until then the app must not take the request for a whole one.
        Some(0) | None => Sending::Chunked,
        Some(length) => Sending::Length(length),
    }
}
