//! Where a request came from: believed only from trusted proxies, told anew to the app.

use std::net::IpAddr;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use ipnet::IpNet;

use super::stamped::write_field;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Bound on the addresses that are read from `X-Forwarded-For`.
const HOPS: usize = 32;

/// Whether a (lower-case) name belongs to the classes that clients may not send: where a request came
/// from (`x-forwarded-*`, `forwarded`, the many client-ip names), what it was before
/// (`x-original-*`, `x-rewrite-url`), who made it (`remote-user`), and `proxy`, which CGI turns into
/// `HTTP_PROXY`.
pub(super) fn is_class(name: &str) -> bool {
    match name.as_bytes().first() {
        Some(b'x') => {
            name.starts_with("x-forwarded-")
                || name.starts_with("x-original-")
                || matches!(
                    name,
                    "x-client-ip"
                        | "x-cluster-client-ip"
                        | "x-forwarded"
                        | "x-proxyuser-ip"
                        | "x-real-ip"
                        | "x-remote-user"
                        | "x-request-id"
                        | "x-rewrite-url"
                )
        }
        Some(b'c') => matches!(name, "cf-connecting-ip" | "cf-connecting-ipv6" | "client-ip"),
        Some(b'f') => matches!(name, "forwarded" | "fastly-client-ip" | "forwarded-for"),
        Some(b'p') => name == "proxy",
        Some(b'r') => name == "remote-user",
        Some(b't') => name == "true-client-ip",
        _ => false,
    }
}

/// The networks whose forwarding headers are believed.
#[derive(Clone, Debug, Default)]
pub struct Trust(pub Vec<IpNet>);

impl Trust {
    fn includes(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        self.0.iter().any(|network| network.contains(&ip))
    }
}

/// The client behind a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// Its address: the rightmost one that is not a trusted proxy.
    pub ip: IpAddr,
    /// What goes into `X-Forwarded-For`, when that is more than the address.
    chain: Option<String>,
}

impl Client {
    /// The client of a request that came from `peer`.
    pub fn find(peer: IpAddr, headers: &HeaderMap, trust: &Trust) -> Self {
        let peer = peer.to_canonical();
        if trust.0.is_empty() || !trust.includes(peer) || !headers.contains_key(X_FORWARDED_FOR) {
            return Self { ip: peer, chain: None };
        }
        let mut hops: Vec<&str> = headers
            .get_all(X_FORWARDED_FOR)
            .iter()
            // Split before it is read: a byte that a client sent must not spoil what a proxy wrote
            // behind it.
            .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
            .map(|hop| str::from_utf8(hop).unwrap_or("").trim())
            .collect();
        hops.drain(..hops.len().saturating_sub(HOPS));
        let (mut ip, mut chain) = (peer, vec![peer]);
        for hop in hops.iter().rev() {
            // What stands left of something unreadable proves nothing.
            let Some(address) = address(hop) else { break };
            chain.push(address);
            ip = address;
            if !trust.includes(address) {
                break;
            }
        }
        let words: Vec<_> = chain.iter().rev().map(ToString::to_string).collect();
        Self { ip, chain: Some(words.join(", ")) }
    }
}

impl Client {
    /// Whether this is the peer of the connection itself.
    pub fn is_peer(&self) -> bool {
        self.chain.is_none()
    }

    /// The address as a header value.
    pub fn value(&self) -> HeaderValue {
        HeaderValue::from_str(&self.ip.to_string()).unwrap_or(HeaderValue::from_static("unknown"))
    }

    /// The value of `X-Forwarded-For`; `ip` is the address as a header value.
    pub fn chain(&self, ip: &HeaderValue) -> HeaderValue {
        let chain = self.chain.as_deref().and_then(|chain| HeaderValue::from_str(chain).ok());
        chain.unwrap_or_else(|| ip.clone())
    }
}

/// An address as proxies write it: bare, `[v6]`, or with a port.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.parse::<IpAddr>();
    let ip = bare.or_else(|_| text.parse::<std::net::SocketAddr>().map(|socket| socket.ip()));
    let ip = ip.or_else(|_| text.trim_matches(['[', ']']).parse());
    ip.ok().map(|ip| ip.to_canonical())
}

/// What the app is told about the way of a request.
#[derive(Debug)]
pub struct Forwarding {
    /// The client and the proxies before us, for `X-Forwarded-For`; made by [`Client::chain`].
    pub chain: HeaderValue,
    /// The client's address.
    pub ip: HeaderValue,
    /// Whether the client's side is TLS.
    pub tls: bool,
    /// The host that the client asked for, with its port.
    pub host: HeaderValue,
    /// Request id.
    pub id: HeaderValue,
    /// Version of the client's side, for `Via`.
    pub version: http::Version,
    /// Whether the client opens a WebSocket: the one upgrade that is forwarded (RFC 9110 7.8).
    pub websocket: bool,
}

impl Forwarding {
    /// Puts the headers into `headers`, in the place of those of the same names.
    pub(super) fn add(self, headers: &mut HeaderMap) {
        headers.insert(header::HOST, self.host.clone());
        headers.insert(X_FORWARDED_FOR, self.chain);
        headers.insert(X_FORWARDED_HOST, self.host);
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(proto(self.tls)));
        headers.insert(X_REAL_IP, self.ip);
        headers.insert(X_REQUEST_ID, self.id);
        headers.append(header::VIA, HeaderValue::from_static(via(self.version)));
        if self.websocket {
            headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        }
    }

    /// Writes the same headers but `Host` as lines of HTTP/1.1.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let mut field = |name: &HeaderName, value: &[u8]| write_field(out, name.as_str(), value);
        field(&X_FORWARDED_FOR, self.chain.as_bytes());
        field(&X_FORWARDED_HOST, self.host.as_bytes());
        field(&X_FORWARDED_PROTO, proto(self.tls).as_bytes());
        field(&X_REAL_IP, self.ip.as_bytes());
        field(&X_REQUEST_ID, self.id.as_bytes());
        field(&header::VIA, via(self.version).as_bytes());
        if self.websocket {
            field(&header::CONNECTION, b"upgrade");
            field(&header::UPGRADE, b"websocket");
        }
    }
}

fn proto(tls: bool) -> &'static str {
    if tls { "https" } else { "http" }
}

/// Our entry in `Via` (RFC 9110 section 7.6.3).
fn via(version: http::Version) -> &'static str {
    match version {
        http::Version::HTTP_2 => "2.0 portcullis",
        http::Version::HTTP_10 => "1.0 portcullis",
        _ => "1.1 portcullis",
    }
}
