//! A client that sends heads as they are: to the second gateway over TLS, and to an app that was named.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme, StreamOwned,
};

use super::sandbox;

/// How long connecting may take, and an answer once its request is sent.
const PATIENCE: Duration = Duration::from_secs(10);
/// As much of an answer is read.
const LARGEST: usize = 256 * 1024;

/// What is looked at of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) location: Option<String>,
    pub(super) body: Vec<u8>,
    closes: bool,
}

/// The second gateway, asked one thing after the other.
#[derive(Debug)]
pub(super) struct Gate {
    address: SocketAddr,
    tls: Arc<ClientConfig>,
    open: Option<StreamOwned<ClientConnection, TcpStream>>,
}

impl Gate {
    /// `certificate` is what the gateway made for itself.
    pub(super) fn new(address: SocketAddr, certificate: PathBuf) -> Result<Self, String> {
        let pem = sandbox::certificate(&certificate)?;
        let certificate =
            CertificateDer::from_pem_slice(&pem).map_err(|error| error.to_string())?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Exactly { certificate, provider }))
            .with_no_client_auth();
        Ok(Self { address, tls: Arc::new(config), open: None })
    }

    /// Sends a head and reads the answer, on the connection of the one before if that is still open.
    pub(super) fn ask(&mut self, head: &str) -> io::Result<Answer> {
        if let Some(stream) = self.open.take()
            && let Ok(answer) = self.ask_on(stream, head)
        {
            return Ok(answer);
        }
        // By its address: without a name in the handshake, every host may be asked for.
        let name = ServerName::from(self.address.ip());
        let connection = ClientConnection::new(Arc::clone(&self.tls), name);
        let connection = connection.map_err(io::Error::other)?;
        let stream = StreamOwned::new(connection, connect(self.address)?);
        self.ask_on(stream, head)
    }

    fn ask_on(
        &mut self,
        mut stream: StreamOwned<ClientConnection, TcpStream>,
        head: &str,
    ) -> io::Result<Answer> {
        let answer = exchange(&mut stream, head)?;
        self.open = Some(stream).filter(|_| !answer.closes);
        Ok(answer)
    }
}

/// A connection with limits.
pub(super) fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Sends a head and reads one answer.
pub(super) fn exchange(stream: &mut (impl Read + Write), head: &str) -> io::Result<Answer> {
    let deadline = Instant::now() + PATIENCE;
    stream.write_all(head.as_bytes())?;
    stream.flush()?;
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        fill(stream, &mut bytes, deadline)?;
    };
    let mut body = bytes.split_off(end);
    let head = String::from_utf8_lossy(&bytes).into_owned();
    let field = |wanted: &str| -> Option<String> {
        let mut fields = head.lines().skip(1).filter_map(|line| line.split_once(':'));
        let (_, value) = fields.find(|(name, _)| name.eq_ignore_ascii_case(wanted))?;
        Some(value.trim().to_owned())
    };
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| io::Error::other("no status"))?;
    let length = field("content-length").and_then(|length| length.parse::<usize>().ok());
    let length = if matches!(status, 204 | 304) { Some(0) } else { length };
    let mut closes = field("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
    match length.filter(|length| *length <= LARGEST) {
        Some(length) => {
            while body.len() < length {
                fill(stream, &mut body, deadline)?;
            }
            body.truncate(length);
        }
        // Chunked, or until the end: as far as the bound, compared as it is.
        None => {
            closes = true;
            while body.len() < LARGEST && fill(stream, &mut body, deadline).is_ok() {}
        }
    }
    Ok(Answer { status, location: field("location"), body, closes })
}

/// Reads a piece. The limit of the socket is on each of them, `deadline` on all.
fn fill(stream: &mut impl Read, into: &mut Vec<u8>, deadline: Instant) -> io::Result<()> {
    if Instant::now() > deadline {
        return Err(io::ErrorKind::TimedOut.into());
    }
    let mut buffer = [0; 4096];
    match stream.read(&mut buffer)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ if into.len() > 2 * LARGEST => Err(io::Error::other("too much")),
        read => {
            into.extend_from_slice(buffer.get(..read).unwrap_or_default());
            Ok(())
        }
    }
}

/// Trusts one certificate, whatever the names in it.
#[derive(Debug)]
struct Exactly {
    certificate: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Exactly {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match *end_entity == self.certificate {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(Error::General("not the certificate of the second gateway".to_owned())),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
