//! A connection on which the test decides every byte.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, HandshakeKind};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::client::{COOKIE, Client};
use super::gateway::Gateway;
use super::process::PATIENCE;
use super::wire::{Reader, Response};

/// Any byte stream.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send {}
impl<T: AsyncRead + AsyncWrite + Send> Stream for T {}

/// One connection, in plain text or over TLS.
pub(crate) struct Raw {
    pub(crate) reader: Reader<Pin<Box<dyn Stream>>>,
    /// What ALPN chose.
    pub(crate) alpn: Option<String>,
    /// Whether TLS resumed an earlier session.
    pub(crate) handshake: Option<HandshakeKind>,
}

impl std::fmt::Debug for Raw {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Raw").field("alpn", &self.alpn).finish_non_exhaustive()
    }
}

impl Raw {
    pub(crate) async fn plain(addr: SocketAddr) -> Self {
        let tcp = TcpStream::connect(addr).await.unwrap();
        Self { reader: Reader::new(Box::pin(tcp)), alpn: None, handshake: None }
    }

    pub(crate) async fn tls(addr: SocketAddr, config: Arc<ClientConfig>, sni: &str) -> Self {
        Self::try_tls(addr, config, sni).await.unwrap()
    }

    /// As [`Self::tls`], for handshakes that may be refused.
    pub(crate) async fn try_tls(
        addr: SocketAddr,
        config: Arc<ClientConfig>,
        sni: &str,
    ) -> io::Result<Self> {
        let tcp = TcpStream::connect(addr).await?;
        tcp.set_nodelay(true)?;
        Self::over(tcp, config, sni).await
    }

    /// TLS on a connection that has been used already (PROXY protocol).
    pub(crate) async fn over(
        tcp: TcpStream,
        config: Arc<ClientConfig>,
        sni: &str,
    ) -> io::Result<Self> {
        let name = ServerName::try_from(sni.to_owned()).map_err(io::Error::other)?;
        let handshake = TlsConnector::from(config).connect(name, tcp);
        let tls = timeout(PATIENCE, handshake).await.map_err(io::Error::other)??;
        let alpn = tls.get_ref().1.alpn_protocol();
        let alpn = alpn.map(|name| String::from_utf8_lossy(name).into_owned());
        let handshake = tls.get_ref().1.handshake_kind();
        Ok(Self { reader: Reader::new(Box::pin(tls)), alpn, handshake })
    }

    /// Writes; an error is not one, since a server may close before it has read everything.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let stream = &mut self.reader.stream;
        if stream.write_all(bytes.as_ref()).await.is_ok() {
            let _ = stream.flush().await;
        }
    }

    /// The next response; fails the test when none comes.
    pub(crate) async fn response(&mut self) -> Response {
        self.try_response().await.unwrap_or_else(|error| panic!("{error}"))
    }

    /// The next response, or the error when the connection ends without one.
    pub(crate) async fn try_response(&mut self) -> io::Result<Response> {
        self.next(false).await
    }

    /// The next response to a HEAD request.
    pub(crate) async fn head_response(&mut self) -> Response {
        self.next(true).await.unwrap_or_else(|error| panic!("{error}"))
    }

    async fn next(&mut self, bodyless: bool) -> io::Result<Response> {
        timeout(PATIENCE, self.reader.response(bodyless))
            .await
            .unwrap_or_else(|_| panic!("no response within {PATIENCE:?}"))
    }

    /// Everything until the peer closes; fails the test when it does not.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        let rest = timeout(PATIENCE, self.reader.rest()).await;
        rest.unwrap_or_else(|_| panic!("still open after {PATIENCE:?}"))
    }

    /// Whether the peer closes within `limit`.
    pub(crate) async fn closes_within(&mut self, limit: Duration) -> bool {
        timeout(limit, self.reader.rest()).await.is_ok()
    }

    /// The next bytes up to and with `end`.
    pub(crate) async fn until(&mut self, end: &str) -> String {
        let bytes = timeout(PATIENCE, self.reader.until(end.as_bytes())).await;
        let bytes = bytes.unwrap_or_else(|_| panic!("no {end:?} within {PATIENCE:?}"));
        String::from_utf8_lossy(&bytes.unwrap_or_else(|| panic!("closed before {end:?}")))
            .into_owned()
    }

    /// Opens a WebSocket with the session of `client`; fails the test when that is refused.
    pub(crate) async fn websocket(gateway: &Gateway, client: &Client, path: &str) -> Self {
        let cookie = client.token().map(|token| format!("Cookie: {COOKIE}={token}\r\n"));
        Door::of(gateway).websocket(path, &cookie.unwrap_or_default()).await
    }

    /// Sends a short text in a frame and waits for its echo: the tunnel works.
    pub(crate) async fn echo(&mut self, text: &str) {
        self.say(text).await;
        self.until(text).await;
    }

    /// Sends a short text in a frame.
    pub(crate) async fn say(&mut self, text: &str) {
        let length = u8::try_from(text.len()).unwrap();
        assert!(length < 126);
        // With a mask of zeros the payload stands as it is.
        let mut frame = vec![0x81, 0x80 | length, 0, 0, 0, 0];
        frame.extend_from_slice(text.as_bytes());
        self.send(&frame).await;
    }

    /// The code in the close frame that ends the connection within `limit`; `None` when there is
    /// no such frame. Bytes before the frame are passed over.
    pub(crate) async fn close_code(&mut self, limit: Duration) -> Option<u16> {
        let rest = timeout(limit, self.reader.rest()).await;
        let rest = rest.unwrap_or_else(|_| panic!("the WebSocket is still open after {limit:?}"));
        let at = rest.iter().rposition(|&byte| byte == 0x88)?;
        Some(u16::from_be_bytes(rest.get(at + 2..at + 4)?.try_into().unwrap()))
    }

    /// GET with the given lines (each with its CRLF) behind `Host`.
    pub(crate) async fn get(&mut self, target: &str, host: &str, lines: &str) -> Response {
        self.send(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n{lines}\r\n")).await;
        self.response().await
    }
}

/// Makes the close of this socket a reset.
pub(crate) fn reset_on_close(tcp: &TcpStream) {
    // Deprecated in tokio for blocking at drop; with a zero time it does not.
    SockRef::from(tcp).set_linger(Some(Duration::ZERO)).unwrap();
}

/// What a client needs to know of a gateway to connect: for tasks of their own.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    pub(crate) addr: SocketAddr,
    tls: Arc<ClientConfig>,
    pub(crate) host: String,
    origin: String,
    handshakes: Arc<Semaphore>,
}

/// Handshakes at once: many connections and not a storm of handshakes are what a test is about.
const HANDSHAKES: usize = 8;

impl Door {
    pub(crate) fn of(gateway: &Gateway) -> Self {
        Self::speaking(gateway, "http/1.1")
    }

    /// With this protocol.
    pub(crate) fn speaking(gateway: &Gateway, protocol: &str) -> Self {
        Self {
            addr: gateway.addr(),
            tls: gateway.tls(&[protocol]),
            host: gateway.authority().to_owned(),
            origin: gateway.origin().to_owned(),
            handshakes: Arc::new(Semaphore::new(HANDSHAKES)),
        }
    }

    /// As [`Gateway::raw`].
    pub(crate) async fn raw(&self) -> Raw {
        let _turn = self.handshakes.acquire().await.unwrap();
        Raw::tls(self.addr, self.tls.clone(), "localhost").await
    }

    /// As [`Raw::websocket`]; `cookie` is a header line.
    pub(crate) async fn websocket(&self, path: &str, cookie: &str) -> Raw {
        let mut raw = self.raw().await;
        let Self { host, origin, .. } = self;
        raw.send(format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nOrigin: {origin}\r\n{cookie}\
             Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        ))
        .await;
        raw.response().await.expect(101);
        raw
    }
}
