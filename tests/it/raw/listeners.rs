//! The first bytes of a connection: PROXY protocol, TLS, and plain HTTP that only points elsewhere.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::{Edge, get};
use crate::support::process::free_port;
use crate::support::{Raw, Upstream};

/// How long a connection with a bad beginning may stay open.
const CUT: Duration = Duration::from_secs(10);

/// A gateway with a second listener that wants a PROXY header, and that listener's address.
fn proxied(trusted: &str) -> (Edge, SocketAddr) {
    let addr = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let edge = Edge::with(Upstream::start(), |builder| {
        builder.block(&format!(
            "[[listener]]\naddress = \"{addr}\"\nproxy_protocol = true\ntrusted = [\"{trusted}\"]\n"
        ))
    });
    assert!(edge.gateway.listeners().contains(&addr), "{:?}", edge.gateway.listeners());
    (edge, addr)
}

/// Version 2 for TCP over IPv4 from 203.0.113.7:1000 to 192.0.2.1:443.
fn version_2(command: u8, family: u8, length: u16) -> Vec<u8> {
    let mut bytes = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    bytes.extend_from_slice(&[command, family]);
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(&[203, 0, 113, 7, 192, 0, 2, 1, 3, 232, 1, 187]);
    bytes
}

/// What the upstream hears about the client of a connection that begins with `header`.
async fn client_of(edge: &Edge, addr: SocketAddr, header: &[u8]) -> std::io::Result<String> {
    edge.upstream.forget();
    let mut tcp = TcpStream::connect(addr).await?;
    tcp.write_all(header).await?;
    let mut raw = Raw::over(tcp, edge.gateway.tls(&["http/1.1"]), "localhost").await?;
    raw.send(edge.filled(&get(""))).await;
    assert_eq!(raw.try_response().await?.status, 200);
    Ok(edge.upstream.last().header("x-forwarded-for").unwrap())
}

#[tokio::test]
async fn a_proxy_header_names_the_client() {
    let (edge, addr) = proxied("127.0.0.0/8");
    let good: [(&[u8], &str); 5] = [
        (b"PROXY TCP4 203.0.113.7 192.0.2.1 1000 443\r\n", "203.0.113.7"),
        (b"PROXY TCP6 2001:db8::7 2001:db8::1 1000 443\r\n", "2001:db8::7"),
        (&version_2(0x21, 0x11, 12), "203.0.113.7"),
        // Without an address, the balancer itself.
        (b"PROXY UNKNOWN\r\n", "127.0.0.1"),
        (&version_2(0x20, 0x11, 12), "127.0.0.1"),
    ];
    for (header, client) in good {
        let seen = client_of(&edge, addr, header).await.unwrap();
        assert_eq!(seen, client, "{:?}", String::from_utf8_lossy(header));
    }
}

#[tokio::test]
async fn a_bad_proxy_header_ends_the_connection() {
    let (edge, addr) = proxied("127.0.0.0/8");
    let long = format!("PROXY TCP4 203.0.113.7 192.0.2.1 1000 443{}\r\n", " ".repeat(107));
    let bad: Vec<Vec<u8>> = vec![
        Vec::new(),
        b"PROXY TCP4 203.0.113.7 192.0.2.1 1000\r\n".to_vec(),
        b"PROXY TCP4 203.0.113.777 192.0.2.1 1000 443\r\n".to_vec(),
        b"PROXY TCP4 203.0.113.7 192.0.2.1 1000 99999\r\n".to_vec(),
        b"PROXY TCP4 2001:db8::7 2001:db8::1 1000 443\r\n".to_vec(),
        b"PROXY TCP4 203.0.113.7 192.0.2.1 1000 443\n".to_vec(),
        b"proxy TCP4 203.0.113.7 192.0.2.1 1000 443\r\n".to_vec(),
        long.into_bytes(),
        version_2(0x31, 0x11, 12),
        version_2(0x2f, 0x11, 12),
        version_2(0x21, 0x11, 4),
        version_2(0x21, 0x11, u16::MAX),
    ];
    let mut problems = Vec::new();
    for header in bad {
        let attempt = tokio::time::timeout(CUT, client_of(&edge, addr, &header)).await;
        let shown = String::from_utf8_lossy(&header).into_owned();
        match attempt {
            Err(_) => problems.push(format!("{shown:?}: still open")),
            Ok(Ok(client)) => problems.push(format!("{shown:?}: taken as {client}")),
            Ok(Err(_)) => {}
        }
    }
    // Half a header and then nothing.
    let mut raw = Raw::plain(addr).await;
    raw.send("PROXY TC").await;
    if !raw.closes_within(CUT).await {
        problems.push("half a header: still open".to_owned());
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[tokio::test]
async fn only_a_trusted_peer_may_send_one() {
    let (edge, addr) = proxied("10.0.0.0/8");
    let header = b"PROXY TCP4 203.0.113.7 192.0.2.1 1000 443\r\n";
    if let Ok(client) = client_of(&edge, addr, header).await {
        panic!("taken as {client}");
    }
    // Nor on a listener that does not ask for it.
    if let Ok(client) = client_of(&edge, edge.gateway.addr(), header).await {
        panic!("taken as {client}");
    }
}

#[tokio::test]
async fn plain_http_only_points_to_the_right_place() {
    let addr = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let edge = Edge::with(Upstream::start(), |builder| {
        builder.set("server", "http", &format!("[\"{addr}\"]"))
    });
    assert_eq!(edge.gateway.http(), [addr]);
    let mut raw = Raw::plain(addr).await;
    let answer = raw.get("/public/x?y=1", &addr.to_string(), "Accept: text/html\r\n").await;
    assert_eq!(answer.status, 308);
    let want = format!("{}/public/x?y=1", edge.gateway.origin());
    assert_eq!(answer.header("location"), Some(want));
    assert!(answer.header("set-cookie").is_none());

    // Where it leads is configured, never taken from the request.
    let mut raw = Raw::plain(addr).await;
    let answer = raw.get("/public/x", "evil.example", "").await;
    let location = answer.header("location").unwrap_or_default();
    assert!(!location.contains("evil"), "{location}");

    // A secret that was sent in the clear is not made use of, and a body is not sent again.
    let mut raw = Raw::plain(addr).await;
    raw.send(format!(
        "POST /auth/session HTTP/1.1\r\nHost: {addr}\r\nContent-Type: application/json\r\n\
         Content-Length: 2\r\n\r\n{{}}"
    ))
    .await;
    let answer = raw.response().await;
    assert!(answer.header("set-cookie").is_none());
    assert!(answer.status == 308 || answer.status >= 400, "{}", answer.status);
    assert!(edge.upstream.requests().is_empty());
}

#[tokio::test]
async fn the_handshake_chooses_the_protocol() {
    let edge = Edge::start();
    let addr = edge.gateway.addr();
    for (offered, chosen) in [
        (&["h2", "http/1.1"][..], Some("h2")),
        (&["http/1.1"], Some("http/1.1")),
        (&["http/1.1", "h2"], Some("h2")),
        (&[], None),
    ] {
        let raw = Raw::tls(addr, edge.gateway.tls(offered), "localhost").await;
        assert_eq!(raw.alpn.as_deref(), chosen, "{offered:?}");
    }
    // A protocol that nobody speaks here is no reason to guess.
    assert!(Raw::try_tls(addr, edge.gateway.tls(&["spdy/3"]), "localhost").await.is_err());
    // The preface of HTTP/2 on a connection that agreed on HTTP/1.1 is an error.
    let mut raw = edge.gateway.raw().await;
    raw.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    let bytes = raw.rest().await;
    assert!(bytes.is_empty() || bytes.starts_with(b"HTTP/1.1 "), "{bytes:?}");
    // And plain text on the TLS port gets nothing of use.
    let mut raw = Raw::plain(addr).await;
    raw.send(edge.filled(&get(""))).await;
    let bytes = raw.rest().await;
    assert!(!bytes.starts_with(b"HTTP/1.1 2"), "{bytes:?}");
    assert!(edge.upstream.requests().is_empty());
}
