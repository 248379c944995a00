//! Connections to apps: TCP or TLS, HTTP/1.1 or HTTP/2.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use rustix::io::Errno;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::Upstream;
use super::http1::Connection;
use super::http2::Seat;
use super::settings::Target;

/// How long an app's machine may be silent before it is asked for a sign of life.
const SILENCE: Duration = Duration::from_secs(30);
/// How long it may take to give one, and how often it is asked.
const ASK: Duration = Duration::from_secs(10);
const ASKED: u32 = 3;

/// A stream to an app.
#[derive(Debug)]
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// Whether nothing is to be read now, not even the end.
    pub(super) fn is_quiet(&mut self) -> bool {
        let mut byte = [0];
        match self {
            // No system call unless the stream was seen to have something.
            Self::Plain(stream) => stream
                .try_read(&mut byte)
                .is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock),
            // What concerns TLS alone, such as tickets, is taken in by the way. Unconstrained: a task
            // that has used up its turn would be told that there is nothing.
            Self::Tls(stream) => {
                let mut buf = ReadBuf::new(&mut byte);
                let read = poll_fn(|cx| Pin::new(&mut *stream).poll_read(cx, &mut buf));
                let cx = &mut Context::from_waker(Waker::noop());
                pin!(tokio::task::unconstrained(read)).poll(cx).is_pending()
            }
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }
}

/// Opens a stream; the caller limits the time.
pub(super) async fn open(upstream: &Upstream, target: &Target) -> io::Result<Stream> {
    let tcp = TcpStream::connect((target.host.as_str(), target.port)).await?;
    tcp.set_nodelay(true)?;
    watch(&tcp)?;
    if !target.tls {
        return Ok(Stream::Plain(tcp));
    }
    let Some(config) = &upstream.tls else {
        return Err(io::Error::other("no TLS settings for this upstream"));
    };
    let name = upstream.settings.server_name.as_ref().unwrap_or(&target.host).clone();
    let name = rustls::pki_types::ServerName::try_from(name).map_err(io::Error::other)?;
    let connector = tokio_rustls::TlsConnector::from(Arc::clone(config));
    Ok(Stream::Tls(Box::new(connector.connect(name, tcp).await?)))
}

/// Has the system find out when an app's machine is gone. Not by PING: servers of gRPC end connections whose client asks
/// often. Nor by a limit on what is unacknowledged (TCP_USER_TIMEOUT): it ends connections to apps that take their time
/// with an upload, too.
fn watch(tcp: &TcpStream) -> io::Result<()> {
    let keepalive = TcpKeepalive::new().with_time(SILENCE).with_interval(ASK).with_retries(ASKED);
    SockRef::from(tcp).set_tcp_keepalive(&keepalive)
}

/// Whether it was this machine that had nothing to connect with (socket(2)): that says nothing about the app. Not
/// EADDRNOTAVAIL: an address of a family that the machine does not have fails with it too, and others may work.
pub(super) fn is_lack(error: &io::Error) -> bool {
    let lacks = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    Errno::from_io_error(error).is_some_and(|errno| lacks.contains(&errno))
}

/// A connection that takes requests.
#[derive(Debug)]
pub(super) enum Link {
    // Boxed: it moves from the pool to a request, to its answer, and back.
    Http1(Box<Connection>),
    Http2(Seat),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_cannot_be_reached_is_no_lack() {
        assert!(is_lack(&Errno::MFILE.into()));
        for errno in [Errno::ADDRNOTAVAIL, Errno::CONNREFUSED, Errno::NETUNREACH] {
            assert!(!is_lack(&errno.into()), "{errno}");
        }
    }
}
