//! A request that may go upstream, and the two forms in which an app gets it.
//!
//! What is left of the client's headers and what is added stay apart until the request is written, so
//! that HTTP/1.1 costs one copy of each byte and no map of headers is made anew.

use std::sync::Arc;

use http::header::{self, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Uri};

use super::forwarded::Hop;
use super::identity::Rendered;
use super::nuvla::{AuthnInfo, Extras};

/// A request that may go upstream: only [`super::Rules::stamp`] makes one.
#[derive(Debug)]
pub struct Stamped<B> {
    // Boxed: it passes through several futures, each of which would hold it by value.
    parts: Box<Parts>,
    body: B,
    added: Box<Added>,
}

/// What the app is told by us.
#[derive(Debug)]
struct Added {
    hop: Hop,
    identity: Option<Arc<Rendered>>,
    extras: Extras,
}

impl Added {
    fn authn_info(&self) -> Option<&AuthnInfo> {
        let asked = self.identity.as_ref().filter(|_| self.extras.nuvla_authn_info)?;
        asked.nuvla.get()?.as_ref()
    }
}

impl<B> Stamped<B> {
    /// For `stamp` only: `parts` hold nothing that a client may not send.
    pub(super) fn new(
        parts: Box<Parts>,
        body: B,
        hop: Hop,
        identity: Option<Arc<Rendered>>,
        extras: Extras,
    ) -> Self {
        Self { parts, body, added: Box::new(Added { hop, identity, extras }) }
    }

    /// The method.
    pub fn method(&self) -> &Method {
        &self.parts.method
    }

    /// Path and query, byte for byte what was judged.
    pub fn uri(&self) -> &Uri {
        &self.parts.uri
    }

    /// The body.
    pub fn body(&self) -> &B {
        &self.body
    }

    /// The body, to be read.
    pub fn body_mut(&mut self) -> &mut B {
        &mut self.body
    }

    /// Whether the request asks for a tunnel.
    pub fn is_upgrade(&self) -> bool {
        self.added.hop.websocket
    }

    /// Whether the client said how long the body is. How long it is for the app is up to whoever
    /// writes the request: [`Stamped::write_fields`] leaves `Content-Length` out.
    pub fn has_length(&self) -> bool {
        self.parts.headers.contains_key(header::CONTENT_LENGTH)
    }

    /// Writes the header fields as lines of HTTP/1.1, `Host` first, without the empty line behind them
    /// and without those that frame the body.
    pub fn write_fields(&self, out: &mut Vec<u8>) {
        write_field(out, header::HOST.as_str(), self.added.hop.forwarding.host().as_bytes());
        for (name, value) in &self.parts.headers {
            if *name != header::HOST && *name != header::CONTENT_LENGTH {
                write_field(out, name.as_str(), value.as_bytes());
            }
        }
        self.added.hop.write(out);
        if let Some(identity) = &self.added.identity {
            out.extend_from_slice(&identity.lines);
        }
        if let Some(info) = self.added.authn_info() {
            out.extend_from_slice(&info.line);
        }
    }

    /// The request with all of its headers in one map: for HTTP/2, and to look at.
    pub fn into_request(self) -> Box<Request<B>> {
        let Self { mut parts, body, added } = self;
        let headers = &mut parts.headers;
        if let Some(AuthnInfo { header: (name, value), .. }) = added.authn_info() {
            headers.insert(name.clone(), value.clone());
        }
        let Added { hop, identity, .. } = *added;
        hop.add(headers);
        for (name, value) in identity.iter().flat_map(|identity| &identity.headers) {
            headers.insert(name.clone(), value.clone());
        }
        Box::new(Request::from_parts(*parts, body))
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
