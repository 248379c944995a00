//! A request that may go upstream, and the two forms in which an app gets it.
//!
//! What is left of the client's headers and what is added stay apart until the request is written, so
//! that HTTP/1.1 costs one copy of each byte and no map of headers is made anew.

use std::sync::Arc;

use http::header::{self, HeaderName, HeaderValue};
use http::{Method, Request, Uri};

use super::forwarded::Forwarding;
use super::identity::Rendered;

/// A request that may go upstream: only [`super::Rules::stamp`] makes one.
#[derive(Debug)]
pub struct Stamped<B> {
    // Boxed: it passes through several futures, each of which would hold it by value.
    request: Box<Request<B>>,
    forwarding: Forwarding,
    identity: Option<Arc<Rendered>>,
}

impl<B> Stamped<B> {
    /// For `stamp` only: `request` holds nothing that a client may not send.
    pub(super) fn new(
        request: Box<Request<B>>,
        forwarding: Forwarding,
        identity: Option<Arc<Rendered>>,
    ) -> Self {
        Self { request, forwarding, identity }
    }

    /// The method.
    pub fn method(&self) -> &Method {
        self.request.method()
    }

    /// Path and query, byte for byte what was judged.
    pub fn uri(&self) -> &Uri {
        self.request.uri()
    }

    /// The body.
    pub fn body(&self) -> &B {
        self.request.body()
    }

    /// The body, to be read.
    pub fn body_mut(&mut self) -> &mut B {
        self.request.body_mut()
    }

    /// Whether the request asks for a tunnel.
    pub fn is_upgrade(&self) -> bool {
        self.forwarding.websocket
    }

    /// Whether the client said how long the body is. How long it is for the app is up to whoever
    /// writes the request: [`Stamped::write_fields`] leaves `Content-Length` out.
    pub fn has_length(&self) -> bool {
        self.request.headers().contains_key(header::CONTENT_LENGTH)
    }

    /// Writes the header fields as lines of HTTP/1.1, `Host` first, without the empty line behind them
    /// and without those that frame the body.
    pub fn write_fields(&self, out: &mut Vec<u8>) {
        write_field(out, header::HOST.as_str(), self.forwarding.host.as_bytes());
        for (name, value) in self.request.headers() {
            if *name != header::HOST && *name != header::CONTENT_LENGTH {
                write_field(out, name.as_str(), value.as_bytes());
            }
        }
        self.forwarding.write(out);
        if let Some(identity) = &self.identity {
            out.extend_from_slice(&identity.lines);
        }
    }

    /// The request with all of its headers in one map: for HTTP/2, and to look at.
    pub fn into_request(self) -> Box<Request<B>> {
        let Self { mut request, forwarding, identity } = self;
        let headers = request.headers_mut();
        forwarding.add(headers);
        for (name, value) in identity.iter().flat_map(|identity| &identity.headers) {
            headers.insert(name.clone(), value.clone());
        }
        request
    }
}

/// One header field as a line of HTTP/1.1 (RFC 9112 section 5).
pub(super) fn write_field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// The same fields as lines.
pub(super) fn lines<'a>(
    fields: impl IntoIterator<Item = &'a (HeaderName, HeaderValue)>,
) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        write_field(&mut out, name.as_str(), value.as_bytes());
    }
    out
}
