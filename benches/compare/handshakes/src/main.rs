//! A client that opens a TLS connection for every request.
//!
//!     handshakes PORT COUNT full|resumed < request bytes
//!
//! Many connections are under way at once, so that the proxy has work whenever it looks. It shares the
//! processor and its caches with the proxy, and must need little of both beside what it measures.
//!
//! Prints one JSON line: {"done": answers with 200, "resumed": ..., "cipher": [...], "errors": [...]}.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider, kx_group};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, HandshakeKind, SignatureScheme,
    StreamOwned,
};

/// Connections under way at once.
const SLOTS: usize = 64;
/// After this long without an answer the proxy is taken for dead.
const LIMIT: Duration = Duration::from_secs(10);
/// The largest answer that is taken, in bytes.
const LARGEST: usize = 64 * 1024;
/// Errors that are told.
const TOLD: usize = 3;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (port, count, resume) = match arguments.as_slice() {
        [port, count, kind] if kind == "full" || kind == "resumed" => {
            match (port.parse(), count.parse()) {
                (Ok(port), Ok(count)) => (port, count, kind == "resumed"),
                _ => return usage(),
            }
        }
        _ => return usage(),
    };
    let mut request = Vec::new();
    if let Err(error) = io::stdin().read_to_end(&mut request) {
        eprintln!("handshakes: the request cannot be read: {error}");
        return ExitCode::FAILURE;
    }
    println!("{}", run(port, count, resume, &request).json());
    ExitCode::SUCCESS
}

fn usage() -> ExitCode {
    eprintln!("usage: handshakes PORT COUNT full|resumed < request bytes");
    ExitCode::FAILURE
}

/// `count` connections in nearly equal shares.
fn run(port: u16, count: usize, resume: bool, request: &[u8]) -> Outcome {
    let mut all = Outcome::default();
    thread::scope(|scope| {
        let slots: Vec<_> = (0..SLOTS)
            .map(|slot| {
                let share = count / SLOTS + usize::from(slot < count % SLOTS);
                scope.spawn(move || slot_of(port, share, resume, request))
            })
            .collect();
        for slot in slots {
            match slot.join() {
                Ok(outcome) => all.add(outcome),
                Err(_) => all.errors.push("a panic".to_owned()),
            }
        }
    });
    all
}

/// What came of the connections.
#[derive(Default)]
struct Outcome {
    done: usize,
    resumed: usize,
    ciphers: BTreeSet<String>,
    errors: Vec<String>,
}

impl Outcome {
    fn add(&mut self, other: Self) {
        self.done += other.done;
        self.resumed += other.resumed;
        self.ciphers.extend(other.ciphers);
        self.errors.extend(other.errors);
    }

    fn json(&self) -> serde_json::Value {
        let errors: Vec<_> = self.errors.iter().take(TOLD).collect();
        let (done, resumed) = (self.done, self.resumed);
        serde_json::json!({ "done": done, "resumed": resumed, "cipher": self.ciphers, "errors": errors })
    }
}

/// One connection after the other.
fn slot_of(port: u16, count: usize, resume: bool, request: &[u8]) -> Outcome {
    let mut outcome = Outcome::default();
    let config = match config(resume) {
        Ok(config) => Arc::new(config),
        Err(error) => {
            outcome.errors.push(error.to_string());
            return outcome;
        }
    };
    // The first one fetches the first ticket, and does not count.
    let first = usize::from(resume && count > 0);
    for number in 0..count + first {
        match once(port, &config, request) {
            Ok((resumed, cipher)) => {
                outcome.done += usize::from(number >= first);
                outcome.resumed += usize::from(number >= first && resumed);
                outcome.ciphers.extend(cipher);
            }
            Err(error) => outcome.errors.push(error.to_string()),
        }
    }
    outcome
}

/// The one cipher and key exchange that both proxies are asked for.
fn config(resume: bool) -> Result<ClientConfig, Error> {
    let provider = Arc::new(CryptoProvider {
        cipher_suites: vec![cipher_suite::TLS13_AES_128_GCM_SHA256],
        kx_groups: vec![kx_group::X25519],
        ..default_provider()
    });
    let unchecked = Arc::new(Unchecked(provider.signature_verification_algorithms));
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(unchecked)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption =
        if resume { Resumption::in_memory_sessions(1) } else { Resumption::disabled() };
    Ok(config)
}

/// One connection, one request: whether the session was resumed, and the cipher that was agreed on.
fn once(
    port: u16,
    config: &Arc<ClientConfig>,
    request: &[u8],
) -> io::Result<(bool, Option<String>)> {
    let tcp = TcpStream::connect(("127.0.0.1", port))?;
    tcp.set_nodelay(true)?;
    tcp.set_read_timeout(Some(LIMIT))?;
    tcp.set_write_timeout(Some(LIMIT))?;
    let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
    let tls = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
    let mut stream = StreamOwned::new(tls, tcp);
    stream.write_all(request)?;
    read_answer(&mut stream)?;
    let resumed = stream.conn.handshake_kind() == Some(HandshakeKind::Resumed);
    let cipher = stream.conn.negotiated_cipher_suite().map(|suite| format!("{:?}", suite.suite()));
    // As OpenSSL calls it.
    Ok((resumed, cipher.map(|name| name.replacen("TLS13_", "TLS_", 1))))
}

/// Reads an answer with a Content-Length to its end; an error when it is not 200.
fn read_answer(stream: &mut impl Read) -> io::Result<()> {
    let mut answer = vec![0; LARGEST];
    let (mut read, mut whole) = (0, None);
    while whole.is_none_or(|whole| read < whole) {
        match stream.read(answer.get_mut(read..).unwrap_or_default())? {
            0 => {
                return Err(io::Error::other(
                    "the connection ended early, or the answer is too long",
                ));
            }
            count => read += count,
        }
        if whole.is_none() {
            whole = length(answer.get(..read).unwrap_or_default())?;
        }
    }
    Ok(())
}

/// How long the answer is that begins so, when that can be told.
fn length(begun: &[u8]) -> io::Result<Option<usize>> {
    let Some(end) = begun.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = String::from_utf8_lossy(begun.get(..end).unwrap_or_default()).to_lowercase();
    if !head.starts_with("http/1.1 200 ") {
        let line = head.lines().next().unwrap_or_default();
        return Err(io::Error::other(format!("answered with {line}")));
    }
    let field = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    match field.and_then(|value| value.trim().parse::<usize>().ok()) {
        Some(body) => Ok(Some(end + 4 + body)),
        None => Err(io::Error::other("an answer without Content-Length")),
    }
}

/// Takes every certificate: it is checked before the run, and here would only slow the client.
#[derive(Debug)]
struct Unchecked(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for Unchecked {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
