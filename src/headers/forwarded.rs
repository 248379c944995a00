//! Where a request came from: believed only from trusted proxies, told anew to the app.

use std::net::IpAddr;
use std::rc::Rc;

use http::Version;
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
/// (`x-original-*`, `x-rewrite-url`, `x-host`), who made it (`remote-user`), and what only a server in front or the
/// app itself says: `proxy`, which CGI turns into `HTTP_PROXY`, where files lie (`x-sendfile-type`,
/// `x-accel-mapping`), that a check was made already (`x-middleware-subrequest`).
pub(super) fn is_class(name: &str) -> bool {
    // By its length first: most names are looked at no further.
    let known: &[&str] = match name.len() {
        5 => &["proxy"],
        6 => &["x-host"],
        8 => &["x-scheme"],
        9 => &["client-ip", "forwarded", "x-arr-ssl", "x-real-ip"],
        11 => &["remote-addr", "remote-user", "x-client-ip", "x-forwarded", "x-remote-ip"],
        12 => &["wl-proxy-ssl", "x-request-id", "x-url-scheme"],
        13 => &[
            "fly-client-ip",
            "forwarded-for",
            "x-forward-for",
            "x-remote-addr",
            "x-remote-user",
            "x-rewrite-uri",
            "x-rewrite-url",
            "x-script-name",
        ],
        14 => &["forwarded-host", "http-client-ip", "true-client-ip", "x-proxyuser-ip"],
        15 => &["front-end-https", "proxy-client-ip", "x-accel-mapping", "x-sendfile-type"],
        16 => &[
            "cf-connecting-ip",
            "do-connecting-ip",
            "fastly-client-ip",
            "x-azure-clientip",
            "x-azure-socketip",
            "x-client-real-ip",
            "x-originating-ip",
        ],
        18 => &["cf-connecting-ipv6", "wl-proxy-client-ip"],
        19 => &["x-appengine-user-ip", "x-cluster-client-ip"],
        20 => &["x-http-host-override"],
        21 => &["x-envoy-original-path"],
        22 => &["x-vercel-forwarded-for"],
        23 => &["x-middleware-subrequest"],
        24 => &["x-envoy-external-address"],
        25 => &["cloudfront-viewer-address", "x-nf-client-connection-ip"],
        _ => &[],
    };
    known.contains(&name) || name.starts_with("x-forwarded-") || name.starts_with("x-original-")
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
}

/// An address as proxies write it: bare, `[v6]`, or with a port.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.parse::<IpAddr>();
    let ip = bare.or_else(|_| text.parse::<std::net::SocketAddr>().map(|socket| socket.ip()));
    let ip = ip.or_else(|_| text.trim_matches(['[', ']']).parse());
    ip.ok().map(|ip| ip.to_canonical())
}

/// What an app is told about the way of requests: the same for all of a client to one host over one
/// connection, so that it is rendered once for all of them.
#[derive(Debug)]
pub struct Forwarding {
    chain: HeaderValue,
    ip: HeaderValue,
    tls: bool,
    host: HeaderValue,
    version: Version,
    /// The headers but `Host` as lines of HTTP/1.1.
    lines: Vec<u8>,
}

impl Forwarding {
    /// `ip` is the address of `client` as a header value; `host` what the client asked for, with its
    /// port; `tls` and `version` are of the client's side.
    pub fn new(
        client: &Client,
        ip: HeaderValue,
        tls: bool,
        host: HeaderValue,
        version: Version,
    ) -> Self {
        let chain = client.chain.as_deref().and_then(|chain| HeaderValue::from_str(chain).ok());
        let chain = chain.unwrap_or_else(|| ip.clone());
        let mut lines = Vec::with_capacity(256);
        for (name, value) in [
            (X_FORWARDED_FOR, chain.as_bytes()),
            (X_FORWARDED_HOST, host.as_bytes()),
            (X_FORWARDED_PROTO, proto(tls).as_bytes()),
            (X_REAL_IP, ip.as_bytes()),
            (header::VIA, via(version).as_bytes()),
        ] {
            write_field(&mut lines, name.as_str(), value);
        }
        Self { chain, ip, tls, host, version, lines }
    }

    /// Whether it tells of requests to `host` in `version`.
    pub fn is_of(&self, host: &HeaderValue, version: Version) -> bool {
        self.host == *host && self.version == version
    }

    pub(super) fn host(&self) -> &HeaderValue {
        &self.host
    }
}

/// What an app is told about the way of one request.
#[derive(Debug)]
pub struct Hop {
    /// What it shares with others.
    pub forwarding: Rc<Forwarding>,
    /// Request id.
    pub id: HeaderValue,
    /// Whether the client opens a WebSocket: the one upgrade that is forwarded (RFC 9110 7.8).
    pub websocket: bool,
}

impl Hop {
    /// Puts the headers into `headers`, in the place of those of the same names.
    pub(super) fn add(self, headers: &mut HeaderMap) {
        let way = &self.forwarding;
        headers.insert(header::HOST, way.host.clone());
        headers.insert(X_FORWARDED_FOR, way.chain.clone());
        headers.insert(X_FORWARDED_HOST, way.host.clone());
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(proto(way.tls)));
        headers.insert(X_REAL_IP, way.ip.clone());
        headers.insert(X_REQUEST_ID, self.id);
        headers.append(header::VIA, HeaderValue::from_static(via(way.version)));
        if self.websocket {
            headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        }
    }

    /// Writes the same headers but `Host` as lines of HTTP/1.1.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.forwarding.lines);
        write_field(out, X_REQUEST_ID.as_str(), self.id.as_bytes());
        if self.websocket {
            out.extend_from_slice(b"connection: upgrade\r\nupgrade: websocket\r\n");
        }
    }
}

fn proto(tls: bool) -> &'static str {
    if tls { "https" } else { "http" }
}

/// Our entry in `Via` (RFC 9110 section 7.6.3).
fn via(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "2.0 portcullis",
        Version::HTTP_10 => "1.0 portcullis",
        _ => "1.1 portcullis",
    }
}
