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

use super::socket::Socket;
use super::stream::Stream;

/// How much of a mistaken plain request is read away before the connection is closed.
const MAX_MISTAKE: u64 = 16 << 10;
/// How long we go on reading it.
const MISTAKE_TIME: Duration = Duration::from_secs(1);

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
) -> Result<Stream, HandshakeError> {
    // Boxed: its memory is given back before the connection is served.
    let steps = Box::pin(async {
        // Spares the TLS state for connections that never send a byte.
        stream.readable().await.map_err(HandshakeError::Failed)?;
        let accepting = TlsAcceptor::from(config).accept(Socket::new(stream));
        match accepting.into_fallible().await {
            Ok(stream) => Ok(Stream::new(stream)),
            Err((error, socket)) => Err(failed(error, socket, public_url).await),
        }
    });
    tokio::time::timeout(timeout, steps).await.unwrap_or(Err(HandshakeError::Timeout))
}

/// Why there was no handshake; takes leave of the client.
async fn failed(error: io::Error, socket: Socket, public_url: &str) -> HandshakeError {
    if !socket.has_begun() {
        return HandshakeError::Closed;
    }
    socket.give_up();
    match socket.into_plain() {
        Some(stream) => {
            send_away(stream, public_url).await;
            HandshakeError::PlainHttp
        }
        None => HandshakeError::Failed(error),
    }
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
