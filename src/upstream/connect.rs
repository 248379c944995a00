//! Connections to apps: TCP or TLS, HTTP/1.1 or HTTP/2.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response, Version};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::body::{BodyError, RequestBody};
use super::settings::{Protocol, Target};
use super::{Error, Failure, Upstream};

/// Bound on the head of an app's answer.
const HEAD: usize = 64 * 1024;

/// A stream to an app.
#[derive(Debug)]
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
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

/// A connection that takes requests.
#[derive(Debug)]
pub(super) enum Link {
    Http1(http1::SendRequest<RequestBody>),
    Http2(http2::SendRequest<RequestBody>),
}

impl Link {
    /// Connects and shakes hands; the connection runs as a task of this worker.
    pub(super) async fn connect(upstream: &Upstream, target: &Target) -> io::Result<Self> {
        let stream = TokioIo::new(open(upstream, target).await?);
        match upstream.settings.protocol {
            Protocol::Http1 => {
                let mut builder = http1::Builder::new();
                builder.max_buf_size(HEAD);
                let (send, connection) =
                    builder.handshake(stream).await.map_err(io::Error::other)?;
                tokio::task::spawn_local(async move {
                    if let Err(error) = connection.with_upgrades().await {
                        tracing::debug!(%error, "connection to an app");
                    }
                });
                Ok(Self::Http1(send))
            }
            Protocol::Http2 => {
                let mut builder = http2::Builder::new(LocalExec);
                builder
                    .timer(TokioTimer::new())
                    .keep_alive_interval(Duration::from_secs(20))
                    .keep_alive_timeout(Duration::from_secs(10))
                    .max_header_list_size(u32::try_from(HEAD).unwrap_or(u32::MAX))
                    // Clients that do not read fill their own streams, not the connection.
                    .initial_stream_window_size(64 << 10)
                    .initial_connection_window_size(16 << 20);
                let (send, connection) =
                    builder.handshake(stream).await.map_err(io::Error::other)?;
                tokio::task::spawn_local(async move {
                    if let Err(error) = connection.await {
                        tracing::debug!(%error, "connection to an app");
                    }
                });
                Ok(Self::Http2(send))
            }
        }
    }

    pub(super) fn version(&self) -> Version {
        match self {
            Self::Http1(_) => Version::HTTP_11,
            Self::Http2(_) => Version::HTTP_2,
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        match self {
            Self::Http1(send) => send.is_closed(),
            Self::Http2(send) => send.is_closed(),
        }
    }

    /// Whether the link takes a request now.
    pub(super) fn is_ready(&self) -> bool {
        match self {
            Self::Http1(send) => send.is_ready(),
            Self::Http2(send) => send.is_ready(),
        }
    }

    /// Waits until the link takes a request; false when it never will.
    pub(super) async fn ready(&mut self) -> bool {
        match self {
            Self::Http1(send) => send.is_ready() || send.ready().await.is_ok(),
            Self::Http2(send) => send.is_ready() || send.ready().await.is_ok(),
        }
    }

    pub(super) fn send(&mut self, request: Request<RequestBody>) -> Sending {
        match self {
            Self::Http1(send) => {
                let sending = send.try_send_request(request);
                Box::pin(async move { sending.await.map_err(Failure::from) })
            }
            Self::Http2(send) => {
                let sending = send.try_send_request(request);
                Box::pin(async move { sending.await.map_err(Failure::from) })
            }
        }
    }
}

/// A request on its way. Boxed: one small allocation in place of a large future in every caller.
pub(super) type Sending = Pin<Box<dyn Future<Output = Result<Response<Incoming>, Failure>>>>;

impl From<TrySendError<Request<RequestBody>>> for Failure {
    fn from(mut error: TrySendError<Request<RequestBody>>) -> Self {
        let unsent = error.take_message().map(Box::new);
        let error = error.into_error();
        let started = error.is_parse() || error.is_user();
        let error = match () {
            () if error.is_parse() => Error::BadResponse(error.to_string()),
            () if error.is_user() => of_user(&error),
            () => Error::Reset,
        };
        Self { error, unsent, started }
    }
}

/// What hyper says of its user: the request's body, or a request that it does not take.
fn of_user(error: &hyper::Error) -> Error {
    let body = std::error::Error::source(error).and_then(|source| source.downcast_ref());
    match body {
        Some(BodyError::Idle | BodyError::Slow(_)) => Error::ClientBody { late: true },
        Some(BodyError::Broken(_) | BodyError::SessionOver) => Error::ClientBody { late: false },
        None => Error::BadResponse(error.to_string()),
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
