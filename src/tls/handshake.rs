//! The TLS handshake of one accepted connection, bounded in time.
//!
//! Speaks no HTTP, but for one fixed answer to those who sent plain HTTP by mistake.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::ALPN_H2;

/// How much of a mistaken plain request is read away before the connection is closed.
const MAX_MISTAKE: u64 = 16 << 10;
/// How long we go on reading it.
const MISTAKE_TIME: Duration = Duration::from_secs(1);

/// A connection with TLS established.
#[derive(Debug)]
pub struct Accepted {
    /// The decrypted stream.
    pub stream: TlsStream<TcpStream>,
    /// Whether HTTP/2 was agreed on by ALPN; HTTP/1.1 otherwise, also without ALPN.
    pub alpn_h2: bool,
    /// The host name that the client asked for (SNI), lower-case.
    pub sni: Option<String>,
}

/// Why a handshake came to nothing. The connection is closed by then.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The client closed without sending anything: port scans and health checks do.
    #[error("the client closed the connection before the handshake")]
    Closed,
    /// The client spoke plain HTTP; it has been told where to go.
    #[error("the client sent plain HTTP to a TLS port")]
    PlainHttp,
    /// The handshake was not complete in time.
    #[error("the handshake took too long")]
    Timeout,
    /// TLS or the connection failed.
    #[error("the handshake failed: {0}")]
    Failed(#[source] io::Error),
}

/// Does the server's side of the handshake within `timeout`, counted from this call. `public_url`
/// is where a client is sent that speaks plain HTTP here.
///
/// Dropping the future closes the connection.
///
/// # Errors
/// See [`HandshakeError`]; none of them concerns more than this connection.
pub async fn handshake(
    stream: TcpStream,
    config: Arc<ServerConfig>,
    timeout: Duration,
    public_url: &str,
) -> Result<Accepted, HandshakeError> {
    let steps = async {
        // Also spares the TLS state for connections that never send a byte.
        let mut first = [0];
        match stream.peek(&mut first).await.map_err(HandshakeError::Failed)? {
            0 => return Err(HandshakeError::Closed),
            _ if first.iter().all(u8::is_ascii_uppercase) => {
                send_away(stream, public_url).await;
                return Err(HandshakeError::PlainHttp);
            }
            _ => {}
        }
        let stream =
            TlsAcceptor::from(config).accept(stream).await.map_err(HandshakeError::Failed)?;
        let (_, connection) = stream.get_ref();
        let alpn_h2 = connection.alpn_protocol() == Some(ALPN_H2);
        let sni = connection.server_name().map(str::to_ascii_lowercase);
        Ok(Accepted { stream, alpn_h2, sni })
    };
    tokio::time::timeout(timeout, steps).await.unwrap_or(Err(HandshakeError::Timeout))
}

/// Answers plain HTTP. Failures do not matter: the connection ends either way.
async fn send_away(mut stream: TcpStream, public_url: &str) {
    let body = format!("This port speaks HTTPS. Go to {public_url}\n");
    let answer = format!(
        "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    if stream.write_all(answer.as_bytes()).await.is_ok() && stream.shutdown().await.is_ok() {
        // Closing with unread bytes would reset the connection, and the answer could be lost.
        let mut rest = stream.take(MAX_MISTAKE);
        let mut nowhere = tokio::io::sink();
        let drain = tokio::io::copy(&mut rest, &mut nowhere);
        let _ = tokio::time::timeout(MISTAKE_TIME, drain).await;
    }
}
