//! The body of an answer, read as the client takes it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use super::Connection;
use super::chunked::{Chunked, Step};
use super::head::Framing;
use super::rest::Rest;
use crate::upstream::body::RequestBody;

/// Why the body of an answer broke off.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// The app closed the connection before the end.
    #[error("the app closed the connection within its answer")]
    Early,
    /// The connection failed.
    #[error("the connection to the app failed within its answer: {0}")]
    Failed(#[from] io::Error),
    /// The chunks are none.
    #[error("the app's answer is not valid: {0}")]
    Invalid(&'static str),
}

#[derive(Debug)]
enum Left {
    Length(u64),
    Chunked(Box<Chunked>),
    Close,
    Nothing,
}

/// The body of an answer, with the connection that it comes on.
#[derive(Debug)]
pub(in crate::upstream) struct ResponseBody {
    /// `None` once the body is at its end.
    connection: Option<Box<Connection>>,
    left: Left,
    /// What was read and not handed on.
    rest: Bytes,
    keep: bool,
    /// What of the request is still on its way.
    request: Option<Rest>,
}

impl ResponseBody {
    pub(super) fn new(
        mut connection: Box<Connection>,
        framing: Framing,
        keep: bool,
        rest: Bytes,
        request: RequestBody,
    ) -> Self {
        let left = match framing {
            Framing::Length(0) => Left::Nothing,
            Framing::Length(length) => Left::Length(length),
            Framing::Chunked => Left::Chunked(Box::new(Chunked::new())),
            Framing::Close => Left::Close,
        };
        // An app that is deaf to the rest does not get it.
        let keep = keep && !connection.deaf;
        let unsent = !connection.out.is_finished();
        let request = unsent.then(|| connection.send_rest(request));
        Self { connection: Some(connection), left, rest, keep, request }
    }

    /// The connection, once the body was read to its end and if it may carry another request. Gives it
    /// once.
    pub(in crate::upstream) fn reusable(&mut self) -> Option<Box<Connection>> {
        if !self.is_end_stream() {
            return None;
        }
        let mut connection = self.connection.take()?;
        let sent = self.request.take().is_none_or(|rest| rest.is_sent());
        // Bytes behind the end are nobody's answer.
        if !self.keep || !sent || !self.rest.is_empty() || !connection.read.is_empty() {
            return None;
        }
        connection.shrink();
        Some(connection)
    }

    /// Takes the next piece out of what was read. `None`: more must be read.
    fn next(&mut self) -> Option<Result<Option<Frame<Bytes>>, Broken>> {
        match &mut self.left {
            Left::Nothing => Some(Ok(None)),
            _ if self.rest.is_empty() => None,
            Left::Close => Some(Ok(Some(Frame::data(std::mem::take(&mut self.rest))))),
            Left::Length(length) => {
                let most = usize::try_from(*length).unwrap_or(usize::MAX).min(self.rest.len());
                let data = self.rest.split_to(most);
                *length = length.saturating_sub(u64::try_from(most).unwrap_or(u64::MAX));
                if *length == 0 {
                    self.left = Left::Nothing;
                }
                Some(Ok(Some(Frame::data(data))))
            }
            Left::Chunked(chunked) => match chunked.advance(&mut self.rest) {
                Ok(Step::Data(data)) => Some(Ok(Some(Frame::data(data)))),
                Ok(Step::More) => None,
                Ok(Step::End(trailers)) => {
                    self.left = Left::Nothing;
                    let trailers = trailers.filter(|fields: &HeaderMap| !fields.is_empty());
                    Some(Ok(trailers.map(Frame::trailers)))
                }
                Err(what) => Some(Err(Broken::Invalid(what))),
            },
        }
    }

    /// Reads more; false at the connection's end.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Broken>> {
        let Some(connection) = &mut self.connection else {
            return Poll::Ready(Err(Broken::Early));
        };
        let count = ready!(connection.poll_read(cx))?;
        self.rest = connection.read.split().freeze();
        Poll::Ready(Ok(count > 0))
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let this = self.get_mut();
        loop {
            if let Some(next) = this.next() {
                return Poll::Ready(next.transpose());
            }
            if !ready!(this.poll_read(cx))? {
                if !matches!(this.left, Left::Close) {
                    return Poll::Ready(Some(Err(Broken::Early)));
                }
                this.left = Left::Nothing;
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.left, Left::Nothing)
    }

    fn size_hint(&self) -> SizeHint {
        match self.left {
            Left::Length(length) => SizeHint::with_exact(length),
            Left::Nothing => SizeHint::with_exact(0),
            Left::Chunked(_) | Left::Close => SizeHint::default(),
        }
    }
}
