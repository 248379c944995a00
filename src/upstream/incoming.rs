//! The body of a request as the client's connection gives it, whichever protocol that speaks.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::BodyError;

/// A body on an HTTP/1.1 connection.
pub trait ClientBody: Body<Data = Bytes, Error = io::Error> + fmt::Debug + Unpin {}

impl<B: Body<Data = Bytes, Error = io::Error> + fmt::Debug + Unpin> ClientBody for B {}

/// The body of a request, to be read from the client.
#[derive(Debug)]
pub enum Incoming {
    /// There is none.
    Empty,
    /// From an HTTP/1.1 connection.
    Http1(Box<dyn ClientBody>),
    /// A stream of an HTTP/2 connection.
    Http2(StreamBody),
}

/// Bytes that are taken of a body which nobody reads.
const DISCARDED: usize = 1 << 20;

/// A body on a stream of an HTTP/2 connection, as who reads it and who answers share it.
#[derive(Debug)]
struct Shared {
    /// `None` once no more of it is taken.
    stream: RefCell<Option<h2::RecvStream>>,
    leave: Cell<Leave>,
    /// Whether somebody may still read it.
    is_read: Cell<bool>,
    answerer: RefCell<Option<Waker>>,
    /// What whoever gave the body counts it by. Behind the stream: it is let go after that.
    _place: Box<dyn fmt::Debug>,
}

/// Leave to send the body, for which a client waits that has said `Expect: 100-continue` (RFC 9110 section 10.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leave {
    /// The client does not wait for it, or no more.
    Unneeded,
    /// Nobody has asked for the body yet.
    Withheld,
    /// Somebody waits for the body.
    Wanted,
}

impl Shared {
    fn wake(&self) {
        if let Some(waker) = self.answerer.take() {
            waker.wake();
        }
    }

    fn keep(&self, cx: &Context<'_>) {
        let kept = &mut *self.answerer.borrow_mut();
        if !kept.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *kept = Some(cx.waker().clone());
        }
    }
}

/// What who answers has of a body that another reads.
#[derive(Debug)]
pub struct Unread {
    shared: Rc<Shared>,
    /// Bytes that may be discarded.
    left: Cell<usize>,
}

impl Unread {
    /// Whether the client is to be told, now, to send the body; wakes when that changes. Tells it once.
    pub fn is_wanted(&self, cx: &Context<'_>) -> bool {
        match self.shared.leave.get() {
            Leave::Unneeded => false,
            Leave::Withheld => {
                self.shared.keep(cx);
                false
            }
            Leave::Wanted => {
                self.shared.leave.set(Leave::Unneeded);
                true
            }
        }
    }

    /// Takes what comes of a body that nobody reads any more, so that the client may end it. Ready when it has, or when
    /// that is too much to wait for: dropped then, this tells it to stop.
    pub fn poll_discard(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.shared.is_read.get() {
            self.shared.keep(cx);
            return Poll::Pending;
        }
        let stream = &mut *self.shared.stream.borrow_mut();
        while let Some(body) = stream {
            let data = ready!(body.poll_data(cx)).and_then(Result::ok);
            let left = data.as_ref().and_then(|data| self.left.get().checked_sub(data.len()));
            let (Some(data), Some(left)) = (data, left) else {
                *stream = None;
                break;
            };
            self.left.set(left);
            // Fails when the stream is gone, which is told next.
            let _ = body.flow_control().release_capacity(data.len());
        }
        Poll::Ready(())
    }
}

/// A body on a stream of an HTTP/2 connection. h2 holds it to the length that the head says.
#[derive(Debug)]
pub struct StreamBody {
    shared: Rc<Shared>,
    /// Bytes to come, as the head says.
    length: Option<u64>,
    /// Whether only trailers may follow.
    read: bool,
}

impl StreamBody {
    /// The body on `stream`, of which the head says that it has `length` bytes, for who reads it and for who answers. The
    /// client `expects` leave to send it. `place` is dropped when nobody takes any more of it.
    pub fn new(
        stream: h2::RecvStream,
        length: Option<u64>,
        expects: bool,
        place: Box<dyn fmt::Debug>,
    ) -> (Self, Unread) {
        let shared = Rc::new(Shared {
            stream: RefCell::new(Some(stream)),
            leave: Cell::new(if expects { Leave::Withheld } else { Leave::Unneeded }),
            is_read: Cell::new(true),
            answerer: RefCell::default(),
            _place: place,
        });
        let unread = Unread { shared: Rc::clone(&shared), left: Cell::new(DISCARDED) };
        (Self { shared, length, read: false }, unread)
    }

    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        let shared = &*self.shared;
        let mut stream = shared.stream.borrow_mut();
        let Some(stream) = &mut *stream else { return Poll::Ready(None) };
        if !self.read {
            let polled = stream.poll_data(cx);
            if shared.leave.get() == Leave::Withheld {
                let wanted = polled.is_pending();
                shared.leave.set(if wanted { Leave::Wanted } else { Leave::Unneeded });
                shared.wake();
            }
            match ready!(polled) {
                None => {}
                Some(Ok(data)) => {
                    // The client may send as much again. Fails when the stream is gone, which is told next.
                    let _ = stream.flow_control().release_capacity(data.len());
                    let count = u64::try_from(data.len()).unwrap_or(u64::MAX);
                    self.length = self.length.map(|length| length.saturating_sub(count));
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                // Also a reset without an error: only a server may say with it that it needs no more (RFC 9113 section
                // 8.1). Half a body must not pass for a whole one.
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
            }
        }
        self.read = true;
        let trailers = ready!(stream.poll_trailers(cx));
        Poll::Ready(trailers.map(|trailers| trailers.map(Frame::trailers)).transpose())
    }

    fn is_end_stream(&self) -> bool {
        self.shared.stream.borrow().as_ref().is_none_or(h2::RecvStream::is_end_stream)
    }
}

impl Drop for StreamBody {
    fn drop(&mut self) {
        self.shared.is_read.set(false);
        self.shared.wake();
    }
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Http1(body) => Pin::new(body).poll_frame(cx).map_err(BodyError::Read),
            Self::Http2(body) => body.poll_frame(cx).map_err(BodyError::Stream),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Http1(body) => body.is_end_stream(),
            Self::Http2(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Http1(body) => body.size_hint(),
            Self::Http2(body) => body.length.map_or(SizeHint::default(), SizeHint::with_exact),
        }
    }
}
