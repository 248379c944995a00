//! The body of a request, read from the connection when it is asked for.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite};

use super::transport::Transport;

/// A request's body; holds the connection until it is dropped.
pub(super) struct RequestBody<IO> {
    transport: Rc<RefCell<Transport<IO>>>,
    /// Whether its end was seen: what comes next on the connection is not its own.
    ended: bool,
}

impl<IO> fmt::Debug for RequestBody<IO> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestBody").field("ended", &self.ended).finish_non_exhaustive()
    }
}

impl<IO> RequestBody<IO> {
    pub(super) fn new(transport: Rc<RefCell<Transport<IO>>>) -> Self {
        Self { transport, ended: false }
    }

    fn end(&mut self) {
        if !std::mem::replace(&mut self.ended, true)
            && let Ok(mut transport) = self.transport.try_borrow_mut()
        {
            transport.let_go();
        }
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Body for RequestBody<IO> {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        let mut transport = this.transport.borrow_mut();
        let polled = transport.poll_body(cx);
        let ended = transport.is_read() || matches!(polled, Poll::Ready(Some(Err(_))));
        drop(transport);
        if ended {
            this.end();
        }
        polled.map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.transport.borrow().is_read()
    }

    fn size_hint(&self) -> SizeHint {
        match self.transport.borrow().length() {
            _ if self.ended => SizeHint::with_exact(0),
            Some(length) => SizeHint::with_exact(length),
            None => SizeHint::default(),
        }
    }
}

impl<IO> Drop for RequestBody<IO> {
    fn drop(&mut self) {
        self.end();
    }
}
