//! The PROXY protocol, versions 1 and 2: the client's address as told by a load balancer.
//!
//! Believes it only from networks named in the configuration, and reads exactly the header: what
//! follows stays in the socket. Checksums in version 2 headers (CRC32c) are not verified: TCP has its
//! own, and the header comes from a trusted peer.
//!
//! Source: <https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use proxy_header::{ParseConfig, Protocol, ProxyHeader};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// The longest version 1 header with its line end (section 2.1).
const MAX_V1: usize = 107;
/// The longest version 2 header that we read; the fixed part and addresses need 52 bytes.
const MAX_V2: usize = 4096;
/// The fixed part of a version 2 header: signature, version and command, family, length.
const FIXED_V2: usize = 16;
const SIGNATURE_V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// How long a load balancer may take; the protocol asks for one segment.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Who may tell client addresses on a listener. There the header is required.
#[derive(Clone, Debug)]
pub struct ProxyRules {
    trusted: Vec<IpNet>,
    timeout: Duration,
}

/// Why a connection with PROXY protocol is closed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProxyError {
    #[error("the connection ended within the PROXY header")]
    Closed,
    #[error("not a PROXY header")]
    Invalid,
    #[error("cannot read the PROXY header: {0}")]
    Io(#[from] io::Error),
    #[error("the PROXY header took too long")]
    Timeout,
    #[error("the PROXY header is too long")]
    TooLong,
    #[error("the peer is not among `trusted`")]
    Untrusted,
}

impl ProxyRules {
    /// Believes peers in `trusted`.
    pub fn new(trusted: Vec<IpNet>) -> Self {
        Self { trusted, timeout: TIMEOUT }
    }

    #[cfg(test)]
    pub(super) fn within(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Whether `peer` may tell client addresses.
    pub fn trusts(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.trusted.iter().any(|network| network.contains(&peer))
    }

    /// Reads the header off `stream`. `None`: the peer speaks for itself (`LOCAL`, `UNKNOWN`).
    pub(super) async fn read(
        &self,
        stream: &mut TcpStream,
        peer: SocketAddr,
    ) -> Result<Option<SocketAddr>, ProxyError> {
        if !self.trusts(peer.ip()) {
            return Err(ProxyError::Untrusted);
        }
        let header = read_header(stream);
        tokio::time::timeout(self.timeout, header).await.unwrap_or(Err(ProxyError::Timeout))
    }
}

async fn read_header(stream: &mut TcpStream) -> Result<Option<SocketAddr>, ProxyError> {
    let mut first = [0];
    if stream.peek(&mut first).await? == 0 {
        return Err(ProxyError::Closed);
    }
    match first {
        [b'P'] => read_v1(stream).await,
        [b'\r'] => read_v2(stream).await,
        _ => Err(ProxyError::Invalid),
    }
}

async fn read_v1(stream: &mut TcpStream) -> Result<Option<SocketAddr>, ProxyError> {
    let mut line = [0; MAX_V1];
    let mut length = 0;
    loop {
        let (_, free) = line.split_at_mut(length);
        if free.is_empty() {
            return Err(ProxyError::TooLong);
        }
        // Looking first, so that nothing behind the line is taken.
        let seen = stream.peek(free).await?;
        let seen = free.get_mut(..seen).unwrap_or_default();
        let end = seen.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
        let take = end.unwrap_or(seen.len());
        if take == 0 {
            return Err(ProxyError::Closed);
        }
        stream.read_exact(seen.get_mut(..take).unwrap_or_default()).await?;
        length += take;
        if end.is_some() {
            return parse_v1(line.get(..length).unwrap_or_default());
        }
    }
}

fn parse_v1(line: &[u8]) -> Result<Option<SocketAddr>, ProxyError> {
    // The parser is lax where a strict one is called for: it takes any byte for the first space,
    // anything after UNKNOWN as part of that word, and numbers with a plus sign.
    let rest = line.strip_prefix(b"PROXY ").ok_or(ProxyError::Invalid)?;
    if let Some(rest) = rest.strip_prefix(b"UNKNOWN") {
        let ends = rest == b"\r\n" || (rest.starts_with(b" ") && rest.ends_with(b"\r\n"));
        return if ends { Ok(None) } else { Err(ProxyError::Invalid) };
    }
    if rest.contains(&b'+') {
        return Err(ProxyError::Invalid);
    }
    parse(line)
}

async fn read_v2(stream: &mut TcpStream) -> Result<Option<SocketAddr>, ProxyError> {
    let mut header = vec![0; FIXED_V2];
    read_all(stream, &mut header).await?;
    let Some((signature, &[command, family, high, low])) = header.split_last_chunk() else {
        return Err(ProxyError::Invalid);
    };
    if signature != SIGNATURE_V2 || !matches!(command, 0x20 | 0x21) {
        return Err(ProxyError::Invalid);
    }
    let length = FIXED_V2 + usize::from(u16::from_be_bytes([high, low]));
    if length > MAX_V2 {
        return Err(ProxyError::TooLong);
    }
    header.resize(length, 0);
    read_all(stream, header.get_mut(FIXED_V2..).unwrap_or_default()).await?;
    match (command, family) {
        // LOCAL, a health check: its addresses must be ignored (section 2.2). UNSPEC and UNIX
        // sockets tell no address.
        (0x20, _) | (_, 0x00 | 0x31) => Ok(None),
        _ => parse(&header),
    }
}

async fn read_all(stream: &mut TcpStream, into: &mut [u8]) -> Result<(), ProxyError> {
    match stream.read_exact(into).await {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(ProxyError::Closed),
        Err(error) => Err(error.into()),
    }
}

/// The client in a whole header of either version.
fn parse(header: &[u8]) -> Result<Option<SocketAddr>, ProxyError> {
    let config = ParseConfig { include_tlvs: false, ..ParseConfig::default() };
    let (parsed, used) = ProxyHeader::parse(header, config).map_err(|_| ProxyError::Invalid)?;
    match parsed.proxied_address() {
        Some(address) if used == header.len() && address.protocol == Protocol::Stream => {
            Ok(Some(canonical(address.source)))
        }
        _ => Err(ProxyError::Invalid),
    }
}

/// An IPv4 address in IPv6 clothes (`::ffff:192.0.2.1`) as what it is: rules are written that way.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
