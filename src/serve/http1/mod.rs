//! HTTP/1.1 towards clients: one connection, one request at a time, all in the connection's own task.
//!
//! A head is judged and read in one go; the decision about the request comes before its body is read;
//! the body is read from the connection when the app takes it; an answer's head goes out together with
//! the first piece of its body.

mod answer;
mod body;
mod chunked;
mod class;
mod encode;
mod head;
mod input;
mod output;
mod reader;
mod transport;
mod violation;

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::{self, HeaderValue};
use http::request::Parts;
use http::{Method, Request};
use tokio::io::{AsyncRead, AsyncWrite};

use self::answer::{Answer, Next};
use self::body::RequestBody;
use self::encode::Asked;
use self::transport::{Ended, Transport};
use super::answer::Response;
use super::connection::Connection;
use super::interim::Interim;
use super::pipeline;
use crate::api::worded_by;
use crate::upstream::{Duplex, Incoming, Upgraded};

pub use self::head::{Framing, Head, HeadLimits};
pub use self::reader::{Piece, Reader};
pub use self::violation::Violation;

/// How long the end of a connection may take, and a client go on to send what nobody reads. Closed at once, many would never see the
/// answer: what is still on its way to us makes the close a reset.
const LINGER: Duration = Duration::from_secs(5);
/// So many bytes of it.
const LINGER_MOST: usize = 64 << 20;

/// Serves a connection until it ends.
///
/// # Errors
/// Why it ended early, for the log.
pub(super) async fn serve<IO>(
    io: IO,
    connection: Rc<Connection>,
    limits: HeadLimits,
) -> io::Result<()>
where
    IO: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let transport = Rc::new(RefCell::new(Transport::new(io, limits)));
    let server = Server { transport, connection };
    loop {
        match server.request().await? {
            Next::Request => {}
            Next::Close => return server.close().await,
            Next::Tunnel => return server.switch(),
        }
    }
}

struct Server<IO> {
    transport: Rc<RefCell<Transport<IO>>>,
    connection: Rc<Connection>,
}

/// Whoever still holds a request's body must not hold the connection open.
impl<IO> Drop for Server<IO> {
    fn drop(&mut self) {
        if let Ok(mut transport) = self.transport.try_borrow_mut() {
            transport.end();
        }
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin + 'static> Server<IO> {
    /// Takes one request and answers it.
    async fn request(&self) -> io::Result<Next> {
        self.transport.borrow_mut().shrink();
        let (head, refused) = match poll_fn(|cx| self.poll_head(cx)).await {
            Ok(Some(head)) => (head, None),
            Ok(None) => return Ok(Next::Close),
            Err(Ended::Gone) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Err(Ended::Refused(violation @ Violation::CookiesTooLarge)) => {
                (stand_in(self.transport.borrow_mut().take_begun()), Some(violation))
            }
            Err(Ended::Refused(violation)) => (stand_in(None), Some(violation)),
        };
        let asked = Asked {
            head: head.parts.method == Method::HEAD,
            old: encode::is_old(head.parts.version),
            keep: head.keep,
        };
        let body = self.body(&head);
        let begun = pipeline::begin(self.connection.begin(), head.parts, body, refused);
        let Some(response) = self.answer(begun, asked.old).await else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        let mut answer =
            Answer::begin(response, asked, &self.connection, &mut self.transport.borrow_mut());
        let next = poll_fn(|cx| answer.poll(cx, &self.transport)).await?;
        if next == Next::Request {
            // The rest of the body may still be on its way to the app.
            self.connection.set_ending(true);
            let read = poll_fn(|cx| self.transport.borrow_mut().poll_read_to_end(cx)).await;
            self.connection.set_ending(false);
            return Ok(if read { Next::Request } else { Next::Close });
        }
        Ok(next)
    }

    fn poll_head(&self, cx: &mut Context<'_>) -> Poll<Result<Option<Head>, Ended>> {
        let transport = &mut *self.transport.borrow_mut();
        let head = transport.poll_head(cx, self.connection.takes_no_more());
        self.connection.set_in_head(head.is_pending() && transport.is_in_head());
        head
    }

    fn body(&self, head: &Head) -> Incoming {
        self.transport.borrow_mut().begin_body(head);
        match head.framing {
            Framing::Empty => Incoming::Empty,
            _ => Incoming::Http1(Box::new(RequestBody::new(Rc::clone(&self.transport)))),
        }
    }

    /// The answer; `None` when the client leaves before there is one. What comes ahead of it goes out at once, but
    /// to a client that is too `old` for it (RFC 9110 section 15.2).
    async fn answer(&self, begun: pipeline::Begun, old: bool) -> Option<Response> {
        let interim = Interim::default();
        let mut answering = pin!(pipeline::handle(begun, &interim));
        poll_fn(|cx| {
            let response = answering.as_mut().poll(cx);
            let transport = &mut *self.transport.borrow_mut();
            while let Some(head) = interim.take() {
                if !old {
                    encode::write_interim(&head, transport.output.text());
                }
            }
            match response {
                Poll::Ready(response) => Poll::Ready(Some(response)),
                Poll::Pending
                    if !transport.output.is_empty()
                        && matches!(transport.poll_flush(cx), Poll::Ready(Err(_))) =>
                {
                    Poll::Ready(None)
                }
                Poll::Pending => transport.poll_gone(cx).map(|()| None),
            }
        })
        .await
    }

    /// Closes so that the client sees the whole answer, also when it is still sending.
    async fn close(self) -> io::Result<()> {
        self.connection.set_ending(true);
        // The rest of the body may still be on its way to the app: not a byte of it may be missing.
        poll_fn(|cx| self.transport.borrow_mut().poll_read_to_end(cx)).await;
        let end = async {
            poll_fn(|cx| self.transport.borrow_mut().poll_shutdown(cx)).await?;
            if !self.transport.borrow().is_drained() {
                let mut most = LINGER_MOST;
                poll_fn(|cx| self.transport.borrow_mut().poll_drain(cx, &mut most)).await;
            }
            Ok(())
        };
        self.connection.worker.timer.deadline(LINGER).limit(end).await.unwrap_or(Ok(()))
    }

    /// Hands the connection over to the tunnel that the request opened.
    fn switch(self) -> io::Result<()> {
        let transport = &mut *self.transport.borrow_mut();
        let tunnel = self.connection.take_switch();
        // Bytes of a body must not be taken for the tunnel's.
        if !transport.is_read() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if let (Some(tunnel), Some((io, rest))) = (tunnel, transport.take_stream()) {
            let stream: Box<dyn Duplex> = Box::new(io);
            let _ = tunnel.send(Upgraded::new(stream, rest));
        }
        Ok(())
    }
}

/// Stands in for a refused head: a request without credentials for a host that cannot exist (RFC 6761
/// section 6.4), should anybody look at it. Of what has `begun` to come it has only what says how the refusal
/// is to be worded: who has too many cookies needs a page that helps.
fn stand_in(begun: Option<Box<Parts>>) -> Head {
    let (mut parts, ()) = Request::new(()).into_parts();
    if let Some(begun) = begun {
        parts.headers = worded_by(&begun.method, &begun.headers);
        parts.method = begun.method;
    }
    parts.headers.insert(header::HOST, HeaderValue::from_static("invalid"));
    let parts = Box::new(parts);
    Head { parts, framing: Framing::Empty, keep: false, expects: false }
}

#[cfg(test)]
mod tests;
