//! A client's connection with TLS established.
//!
//! Adds two things to what it wraps: it is small to move, and it does not talk to a client that has
//! left without a word.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use rustls::ProtocolVersion;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::server::TlsStream;

use super::ALPN_H2;
use super::socket::Socket;

/// The decrypted stream.
#[derive(Debug)]
pub struct Stream {
    /// Boxed: the state of TLS has more than a thousand bytes, and every future that the stream
    /// passes through would keep room for it as long as the connection lives.
    inner: Box<TlsStream<Socket>>,
    /// The client closed its socket without a close_notify: nobody waits for ours, which would be
    /// answered with a reset (RFC 8446 section 6.1 asks for one from whoever closes first).
    gone: bool,
}

impl Stream {
    /// Takes over from the handshake.
    pub(super) fn new(mut inner: TlsStream<Socket>) -> Self {
        inner.get_mut().0.open();
        Self { inner: Box::new(inner), gone: false }
    }

    /// Whether HTTP/2 was agreed on by ALPN; HTTP/1.1 otherwise, also without ALPN.
    pub fn is_h2(&self) -> bool {
        self.inner.get_ref().1.alpn_protocol() == Some(ALPN_H2)
    }

    /// The host name that the client asked for (SNI), lower-case.
    pub fn sni(&self) -> Option<String> {
        self.inner.get_ref().1.server_name().map(str::to_ascii_lowercase)
    }

    /// The version of TLS that was agreed on, as logs name it.
    pub fn version(&self) -> &'static str {
        match self.inner.get_ref().1.protocol_version() {
            Some(ProtocolVersion::TLSv1_2) => "1.2",
            _ => "1.3",
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut *self.inner).poll_read(cx, buf);
        match &read {
            // It may have come in one with the end of the handshake, which the socket cannot tell apart.
            Poll::Ready(Ok(())) if buf.filled().len() > before => self.inner.get_mut().0.asked(),
            Poll::Ready(Err(error)) => self.gone |= error.kind() == io::ErrorKind::UnexpectedEof,
            _ => {}
        }
        read
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.gone {
            // What was written before still goes out: the client may have closed one direction only.
            return Pin::new(&mut *self.inner).poll_flush(cx);
        }
        Pin::new(&mut *self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}
