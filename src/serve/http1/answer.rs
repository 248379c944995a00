//! Sends one answer: its head with the first piece of its body, then the rest as the client takes it.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::StatusCode;
use http_body::Body as _;
use tokio::io::{AsyncRead, AsyncWrite};

use super::encode::{self, Asked, Sending};
use super::transport::Transport;
use crate::serve::answer::Response;
use crate::serve::body::Body;
use crate::serve::connection::Connection;

/// An answer on its way.
pub(super) struct Answer<'a> {
    connection: &'a Connection,
    /// `None` once all of it was put into the transport.
    body: Option<Body>,
    sending: Sending,
    /// Whether any of the body was put into the transport, behind the head.
    begun: bool,
    /// Whether another request may follow.
    keep: bool,
    /// Whether the connection becomes a tunnel.
    switching: bool,
    /// Why the body broke off: told once what came before is on its way.
    broken: bool,
    /// The last bytes wait for the client.
    stuck: bool,
}

/// What comes behind an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Another request.
    Request,
    /// The end of the connection.
    Close,
    /// Bytes of another protocol.
    Tunnel,
}

impl<'a> Answer<'a> {
    /// Puts the head into the transport.
    pub(super) fn begin<IO>(
        response: Response,
        asked: Asked,
        connection: &'a Connection,
        transport: &mut Transport<IO>,
    ) -> Self {
        let Response { head, body } = response;
        let sending = asked.sending(head.status, body.size_hint().exact());
        let follows = transport.begin_answer();
        let keep = asked.keep
            && follows
            && sending != Sending::Close
            && !connection.is_closing()
            && !encode::asks_to_close(&head);
        let switching = head.status == StatusCode::SWITCHING_PROTOCOLS;
        let date = connection.worker.date();
        encode::write(&head, asked, sending, keep, date.as_bytes(), transport.output.text());
        Self {
            connection,
            body: Some(body),
            sending,
            begun: false,
            keep,
            switching,
            broken: false,
            stuck: false,
        }
    }

    /// Sends; ready when all of it is with the client's socket.
    ///
    /// # Errors
    /// When the client is gone, or the body broke off.
    pub(super) fn poll<IO: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        transport: &RefCell<Transport<IO>>,
    ) -> Poll<io::Result<Next>> {
        while let Some(body) = &mut self.body {
            if self.broken || matches!(self.sending, Sending::Nothing | Sending::Length(0)) {
                // Let go, and with it the request, before its last bytes are written: who sees them
                // finds the request counted and logged.
                self.body = None;
                break;
            }
            if self.begun {
                let sent = send(cx, &mut transport.borrow_mut());
                if sent.is_pending() {
                    body.prefetch(cx);
                }
                ready!(sent)?;
            }
            let polled = Pin::new(body).poll_frame(cx);
            let transport = &mut *transport.borrow_mut();
            match polled {
                Poll::Ready(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data()
                        && !data.is_empty()
                    {
                        self.begun = true;
                        self.take(data, transport)?;
                    }
                }
                Poll::Ready(Some(Err(error))) => {
                    tracing::debug!(%error, "an answer broke off");
                    self.broken = true;
                }
                Poll::Ready(None) => self.end(transport)?,
                Poll::Pending => {
                    if !transport.output.is_empty() {
                        ready!(transport.poll_flush(cx))?;
                    }
                    return gone(transport.poll_gone(cx));
                }
            }
        }
        let flushed = transport.borrow_mut().poll_flush(cx);
        self.mark_stuck(flushed.is_pending());
        ready!(flushed)?;
        Poll::Ready(match self {
            Self { broken: true, .. } => Err(io::ErrorKind::InvalidData.into()),
            Self { switching: true, .. } => Ok(Next::Tunnel),
            Self { keep: true, .. } => Ok(Next::Request),
            _ => Ok(Next::Close),
        })
    }

    /// Takes a piece of the body.
    fn take<IO>(&mut self, data: bytes::Bytes, transport: &mut Transport<IO>) -> io::Result<()> {
        let ended = self.body.as_ref().is_none_or(|body| body.is_end_stream());
        match &mut self.sending {
            Sending::Length(left) => {
                let length = u64::try_from(data.len()).unwrap_or(u64::MAX);
                *left = left.checked_sub(length).ok_or(io::ErrorKind::InvalidData)?;
                transport.output.put(data, b"");
            }
            Sending::Chunked => {
                encode::chunk(transport.output.text(), data.len());
                // The last chunk goes with the last piece.
                transport.output.put(data, if ended { b"\r\n0\r\n\r\n" } else { b"\r\n" });
                if ended {
                    self.sending = Sending::Nothing;
                }
            }
            Sending::Close => transport.output.put(data, b""),
            Sending::Nothing => {}
        }
        if ended { self.end(transport) } else { Ok(()) }
    }

    /// The body is at its end.
    fn end<IO>(&mut self, transport: &mut Transport<IO>) -> io::Result<()> {
        match self.sending {
            Sending::Length(1..) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Sending::Chunked => transport.output.text().extend_from_slice(b"0\r\n\r\n"),
            _ => {}
        }
        self.sending = Sending::Nothing;
        Ok(())
    }

    /// Whether it is the client's turn, for the limits on its time.
    fn mark_stuck(&mut self, stuck: bool) {
        if self.stuck != stuck {
            self.stuck = stuck;
            self.connection.hold(stuck);
        }
    }
}

/// Writes what there is, or finds that nobody takes it.
fn send<IO: AsyncRead + AsyncWrite + Unpin>(
    cx: &mut Context<'_>,
    transport: &mut Transport<IO>,
) -> Poll<io::Result<()>> {
    match transport.poll_write(cx) {
        Poll::Pending => gone(transport.poll_gone(cx)),
        written => written,
    }
}

fn gone<T>(gone: Poll<()>) -> Poll<io::Result<T>> {
    gone.map(|()| Err(io::ErrorKind::BrokenPipe.into()))
}

impl Drop for Answer<'_> {
    fn drop(&mut self) {
        self.mark_stuck(false);
    }
}
