//! `X-Forwarded-For`: nothing that stands left of what a trusted proxy wrote changes the client.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use http::{HeaderMap, HeaderValue};
use portcullis::headers::{Client, Trust};

/// Words of the header.
pub const WORDS: &[&str] = &[
    "203.0.113.7",
    "10.0.0.2",
    "10.9.9.9:443",
    "[fd00::1]:80",
    "[fd00::1]",
    "fd00::1",
    "::ffff:10.0.0.3",
    "::ffff:203.0.113.9",
    "2001:db8::1",
    ",",
    ", ",
    "\n",
    "unknown",
    "_hidden",
    "\t",
    " ",
    "\u{e9}",
    "\"",
    "fe80::1%eth0",
    "010.0.0.1",
    "127.0.0.1",
];

const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));

fn trust() -> Trust {
    Trust(["10.0.0.0/8", "fd00::/8"].map(|network| network.parse().unwrap()).to_vec())
}

fn find(peer: IpAddr, lines: &[HeaderValue], trust: &Trust) -> Client {
    let mut headers = HeaderMap::new();
    for line in lines {
        headers.append("x-forwarded-for", line.clone());
    }
    Client::find(peer, &headers, trust)
}

/// Reads each line of `data` as an `X-Forwarded-For` line.
pub fn run(data: &[u8]) {
    let lines: Vec<HeaderValue> = data
        .split(|byte| *byte == b'\n')
        .filter_map(|line| HeaderValue::from_bytes(line).ok())
        .collect();
    let trust = trust();
    let client = find(PEER, &lines, &trust);
    assert_eq!(client.ip, model(&lines), "{lines:?}");
    assert_eq!(client.value().to_str().unwrap().parse::<IpAddr>().unwrap(), client.ip);

    let stranger: IpAddr = Ipv4Addr::new(198, 51, 100, 1).into();
    assert_eq!(find(stranger, &lines, &trust).ip, stranger, "an untrusted peer was believed");
    assert_eq!(find(PEER, &lines, &Trust::default()).ip, PEER, "nobody is trusted");

    // One line or several: the same list (RFC 9110 5.3).
    let joined: Vec<u8> = lines.iter().map(HeaderValue::as_bytes).collect::<Vec<_>>().join(&b',');
    let joined = HeaderValue::from_bytes(&joined).unwrap();
    if !lines.is_empty() {
        assert_eq!(
            find(PEER, std::slice::from_ref(&joined), &trust),
            client,
            "lines are not one list"
        );
    }
    // A proxy appends the address that it sees: whatever a stranger had sent stays without effect.
    let appended = [joined.as_bytes(), b", 198.51.100.1"].concat();
    let appended = HeaderValue::from_bytes(&appended).unwrap();
    assert_eq!(find(PEER, &[appended], &trust).ip, stranger, "a stranger chose {joined:?}");
}

/// From the right: past trusted proxies to the first that is not, or to what cannot be read.
fn model(lines: &[HeaderValue]) -> IpAddr {
    let all: Vec<&[u8]> =
        lines.iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b',')).collect();
    let mut ip = PEER;
    for hop in all.iter().rev().take(32) {
        let Some(address) = read(hop) else { break };
        ip = address;
        let trusted = match address {
            IpAddr::V4(v4) => v4.octets()[0] == 10,
            IpAddr::V6(v6) => v6.octets()[0] == 0xfd,
        };
        if !trusted {
            break;
        }
    }
    ip
}

fn read(hop: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(hop).ok()?.trim();
    let socket = || text.parse::<SocketAddr>().ok().map(|socket| socket.ip());
    let bracketed = || text.trim_matches(['[', ']']).parse().ok();
    let ip: IpAddr = text.parse().ok().or_else(socket).or_else(bracketed)?;
    Some(ip.to_canonical())
}
