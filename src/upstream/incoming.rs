//! The body of a request as the client's connection gives it, whichever protocol that speaks.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

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
    Http2(hyper::body::Incoming),
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
            Self::Http2(body) => Pin::new(body).poll_frame(cx).map_err(BodyError::Broken),
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
            Self::Http2(body) => body.size_hint(),
        }
    }
}
