//! The PROXY header on a real socket: only a well-formed one is believed, and not a byte behind it
//! is taken.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use portcullis::listener::{ConnectionGate, Peer, ProxyRules, accept_loop};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::core;

/// Words of PROXY headers.
pub const WORDS: &[&str] = &[
    "PROXY ",
    "TCP4 ",
    "TCP6 ",
    "UNKNOWN",
    "192.0.2.7 ",
    "198.51.100.1 ",
    "2001:db8::1 ",
    "::ffff:192.0.2.7 ",
    "56324 ",
    "443\r\n",
    "65536",
    "+443",
    "0443",
    "\r\n",
    "\n",
    " ",
    "\u{0}",
    "\r\n\r\n\u{0}\r\nQUIT\n",
    "\u{21}",
    "\u{20}",
    "\u{11}",
    "\u{12}",
    "\u{c}",
    "GET / HTTP/1.1\r\n",
];

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Sends `data` from a trusted load balancer.
pub fn run(data: &[u8]) {
    let data = data.get(..8192).unwrap_or(data);
    match (core::run(tokio::task::LocalSet::new().run_until(send(data))), model(data)) {
        (Some((peer, rest)), Some((told, length))) => {
            assert_eq!(peer.proxied, told.is_some());
            assert_eq!(peer.client, told.unwrap_or(peer.socket), "another client");
            assert!(rest == data[length..], "bytes behind the header were taken");
        }
        (None, None) => {}
        (seen, model) => panic!("seen {seen:?}, read as {model:?}"),
    }
}

/// Whom the gateway believes to have come, and what is left on the connection; `None`: closed.
async fn send(data: &[u8]) -> Option<(Peer, Vec<u8>)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let rules = ProxyRules::new(vec!["127.0.0.0/8".parse().unwrap()]);
    let (tell, mut told) = mpsc::unbounded_channel();
    let stop = CancellationToken::new();
    let gate = ConnectionGate::new(4);
    let serving = tokio::task::spawn_local(accept_loop(
        listener,
        gate,
        Some(Arc::new(rules)),
        stop.clone(),
        move |stream, peer, permit| drop(tell.send((stream, peer, permit))),
    ));
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(data).await.unwrap();
    client.shutdown().await.unwrap();
    let mut byte = [0];
    // The gateway says nothing: what comes back is the end of a connection that was closed.
    let seen = tokio::select! {
        Some(accepted) = told.recv() => Some(accepted),
        _ = client.read(&mut byte) => None,
    };
    stop.cancel();
    serving.await.unwrap();
    let (mut stream, peer, _permit) = seen?;
    let mut rest = Vec::new();
    let reading = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut rest));
    reading.await.expect("the rest is there").unwrap();
    Some((peer, rest))
}

/// The client that a header tells of, if it tells of any, and the header's length.
fn model(data: &[u8]) -> Option<(Option<SocketAddr>, usize)> {
    if data.starts_with(SIGNATURE) { model_v2(data) } else { model_v1(data) }
}

fn model_v1(data: &[u8]) -> Option<(Option<SocketAddr>, usize)> {
    let end = data.iter().position(|byte| *byte == b'\n')?;
    if end >= 107 {
        return None;
    }
    let line = data[..end].strip_suffix(b"\r")?.strip_prefix(b"PROXY ")?;
    if let Some(rest) = line.strip_prefix(b"UNKNOWN") {
        return matches!(rest, [] | [b' ', ..]).then_some((None, end + 1));
    }
    let words: Vec<&str> = std::str::from_utf8(line).ok()?.split(' ').collect();
    let [family, source, target, source_port, target_port] = words[..] else { return None };
    let address = |text: &str| -> Option<IpAddr> {
        match family {
            "TCP4" => text.parse::<Ipv4Addr>().ok().map(IpAddr::from),
            "TCP6" => text.parse::<Ipv6Addr>().ok().map(IpAddr::from),
            _ => None,
        }
    };
    let port = |text: &str| text.parse::<u16>().ok().filter(|_| !text.starts_with('+'));
    let (source, _) = (address(source)?, address(target)?);
    let (port, _) = (port(source_port)?, port(target_port)?);
    Some((Some(SocketAddr::new(source.to_canonical(), port)), end + 1))
}

fn model_v2(data: &[u8]) -> Option<(Option<SocketAddr>, usize)> {
    let [command, family, high, low] = *data.get(12..16)? else { return None };
    let length = 16 + usize::from(u16::from_be_bytes([high, low]));
    let body = data.get(16..length).filter(|_| length <= 4096)?;
    let port = |at: usize| Some(u16::from_be_bytes([*body.get(at)?, *body.get(at + 1)?]));
    let source: (IpAddr, usize) = match (command, family) {
        (0x20, _) | (0x21, 0x00 | 0x31) => return Some((None, length)),
        (0x21, 0x11) => (<[u8; 4]>::try_from(body.get(..4)?).ok()?.into(), 8),
        (0x21, 0x21) => (<[u8; 16]>::try_from(body.get(..16)?).ok()?.into(), 32),
        _ => return None,
    };
    let (ip, ports) = source;
    port(ports + 2)?;
    Some((Some(SocketAddr::new(ip.to_canonical(), port(ports)?)), length))
}
