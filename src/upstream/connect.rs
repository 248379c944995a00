//! Connections to apps: TCP or TLS, HTTP/1.1 or HTTP/2.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use hyper::client::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::io::Errno;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::Upstream;
use super::http1::{Connection, HEAD};
use super::http2::{STREAM_WINDOW, STREAMS, Seat, Shared};
use super::settings::{Protocol, Target};

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

impl Link {
    /// Connects and shakes hands; an HTTP/2 connection runs as a task of this worker, and may be shared.
    pub(super) async fn connect(
        upstream: &Upstream,
        target: &Target,
    ) -> io::Result<(Self, Option<Shared>)> {
        let stream = open(upstream, target).await?;
        if upstream.settings.protocol == Protocol::Http1 {
            return Ok((Self::Http1(Box::new(Connection::new(stream))), None));
        }
        let mut builder = http2::Builder::new(LocalExec);
        builder
            .timer(TokioTimer::new())
            .keep_alive_interval(Duration::from_secs(20))
            .keep_alive_timeout(Duration::from_secs(10))
            .max_header_list_size(u32::try_from(HEAD).unwrap_or(u32::MAX))
            // Clients that do not read fill their own streams, not the connection, however many they are.
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(STREAM_WINDOW * STREAMS);
        let handshake = builder.handshake(TokioIo::new(stream));
        let (send, connection) = handshake.await.map_err(io::Error::other)?;
        let connection = Rc::new(RefCell::new(connection));
        let asked = Rc::clone(&connection);
        tokio::task::spawn_local(async move {
            let running = poll_fn(|cx| Pin::new(&mut *connection.borrow_mut()).poll(cx));
            if let Err(error) = running.await {
                tracing::debug!(%error, "connection to an app");
            }
        });
        let shared = Shared::new(send, move || asked.borrow().current_max_send_streams());
        let seat = shared.seat().ok_or(io::ErrorKind::ConnectionReset)?;
        Ok((Self::Http2(seat), Some(shared)))
    }
}

/// Runs hyper's tasks on the worker that the connection belongs to.
#[derive(Clone, Copy, Debug)]
struct LocalExec;

impl<F> hyper::rt::Executor<F> for LocalExec
where
    F: Future + 'static,
    F::Output: 'static,
{
    fn execute(&self, task: F) {
        drop(tokio::task::spawn_local(task));
    }
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
