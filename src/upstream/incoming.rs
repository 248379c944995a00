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

/// What a client of HTTP/2 waits for that has said `Expect: 100-continue` (RFC 9110 section 10.1.1), shared by who
/// reads the body and who answers.
#[derive(Clone, Debug, Default)]
pub struct Leave(Rc<Wanted>);

#[derive(Debug, Default)]
struct Wanted {
    wanted: Cell<bool>,
    answerer: RefCell<Option<Waker>>,
}

impl Leave {
    /// Somebody waits for the body.
    fn want(self) {
        self.0.wanted.set(true);
        if let Some(waker) = self.0.answerer.take() {
            waker.wake();
        }
    }

    /// Whether somebody has begun to wait for the body since this was last asked; wakes when that happens later.
    pub fn is_wanted(&self, cx: &Context<'_>) -> bool {
        let wanted = self.0.wanted.take();
        if !wanted {
            *self.0.answerer.borrow_mut() = Some(cx.waker().clone());
        }
        wanted
    }
}

/// A body on a stream of an HTTP/2 connection. h2 holds it to the length that the head says.
#[derive(Debug)]
pub struct StreamBody {
    stream: h2::RecvStream,
    /// Bytes to come, as the head says.
    length: Option<u64>,
    /// Whether only trailers may follow.
    read: bool,
    /// What the client waits for before it sends any of it.
    leave: Option<Leave>,
    /// What whoever gave the body counts it by. Behind the stream: it is let go after that.
    _place: Box<dyn fmt::Debug>,
}

impl StreamBody {
    /// The body on `stream`, of which the head says that it has `length` bytes; the client may wait for `leave` to send
    /// it. `place` is dropped when nobody reads it any more.
    pub fn new(
        stream: h2::RecvStream,
        length: Option<u64>,
        leave: Option<Leave>,
        place: Box<dyn fmt::Debug>,
    ) -> Self {
        Self { stream, length, read: false, leave, _place: place }
    }

    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        if !self.read {
            let polled = self.stream.poll_data(cx);
            if let Some(leave) = self.leave.take()
                && polled.is_pending()
            {
                leave.want();
            }
            if let Some(data) = ready!(polled) {
                return Poll::Ready(self.take(data));
            }
        }
        self.read = true;
        let trailers = ready!(self.stream.poll_trailers(cx));
        Poll::Ready(trailers.map(|trailers| trailers.map(Frame::trailers)).transpose())
    }

    fn take(&mut self, data: Result<Bytes, h2::Error>) -> Option<Result<Frame<Bytes>, h2::Error>> {
        let data = match data {
            Ok(data) => data,
            // Also a reset without an error: only a server may say with it that it needs no more (RFC 9113 section
            // 8.1). Half a body must not pass for a whole one.
            Err(error) => return Some(Err(error)),
        };
        // The client may send as much again. Fails when the stream is gone, which is told next.
        let _ = self.stream.flow_control().release_capacity(data.len());
        let count = u64::try_from(data.len()).unwrap_or(u64::MAX);
        self.length = self.length.map(|length| length.saturating_sub(count));
        Some(Ok(Frame::data(data)))
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
            Self::Http2(body) => body.stream.is_end_stream(),
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
