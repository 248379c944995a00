//! Header fields of an answer as they stand in the HTTP/1.1 head that they came in.
//!
//! Most answers go on to a client that speaks HTTP/1.1, too: their fields are never looked up by name,
//! and a map of them would be built only to be written out again.

use std::fmt;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};

/// The fields of a parsed head.
#[derive(Clone)]
pub struct Lines {
    head: Bytes,
    lines: Vec<Line>,
    /// A field that the gateway adds.
    added: Option<(&'static str, HeaderValue)>,
}

#[derive(Clone, Copy)]
struct Line {
    kind: Kind,
    name: Span,
    value: Span,
}

/// A piece of the head.
#[derive(Clone, Copy)]
struct Span {
    start: u32,
    length: u32,
}

/// What the gateway must know of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Whether the answer may be kept.
    CacheControl,
    /// What concerns the connection only.
    Connection,
    /// The length of the body.
    ContentLength,
    /// When it was made.
    Date,
    /// Ends at this hop, like `Connection`.
    Hop,
    /// Sets a cookie.
    SetCookie,
    /// The same as `CacheControl` for the caches of one product.
    TargetedCacheControl,
    /// How the body is framed.
    TransferEncoding,
    /// Goes on as it is.
    Other,
}

impl Kind {
    /// The kind of a field by its name, in any case.
    pub fn of(name: &[u8]) -> Self {
        // By length and first letter: most names are looked at no further.
        let first = name.first().map_or(0, u8::to_ascii_lowercase);
        let (known, kind) = match (name.len(), first) {
            (2, b't') => ("te", Self::Hop),
            (4, b'd') => ("date", Self::Date),
            (6, b'e') => ("expect", Self::Hop),
            (7, b't') => ("trailer", Self::Hop),
            (7, b'u') => ("upgrade", Self::Hop),
            (10, b'c') => ("connection", Self::Connection),
            (10, b'k') => ("keep-alive", Self::Hop),
            (10, b's') => ("set-cookie", Self::SetCookie),
            (13, b'c') => ("cache-control", Self::CacheControl),
            (14, b'c') => ("content-length", Self::ContentLength),
            (14, b'h') => ("http2-settings", Self::Hop),
            (16, b'p') => ("proxy-connection", Self::Hop),
            (12, b'e') => ("edge-control", Self::TargetedCacheControl),
            (13, b'x') => ("x-varnish-ttl", Self::TargetedCacheControl),
            (15, b'x') => ("x-accel-expires", Self::TargetedCacheControl),
            (17, b's') => ("surrogate-control", Self::TargetedCacheControl),
            (17, b't') => ("transfer-encoding", Self::TransferEncoding),
            (18, b'p') => ("proxy-authenticate", Self::Hop),
            (19, b'p') => ("proxy-authorization", Self::Hop),
            _ => ("", Self::Other),
        };
        match () {
            () if name.eq_ignore_ascii_case(known.as_bytes()) => kind,
            () if is_targeted(name) => Self::TargetedCacheControl,
            () => Self::Other,
        }
    }

    /// Whether fields of this kind concern one connection only (RFC 9110 section 7.6.1), or, like
    /// `Expect`, are answered by the gateway itself.
    pub fn is_hop_by_hop(self) -> bool {
        matches!(self, Self::Connection | Self::Hop | Self::TransferEncoding)
    }
}

/// `CDN-Cache-Control`, and what products made of it and of `Surrogate-Control` (RFC 9213 section 3.1).
fn is_targeted(name: &[u8]) -> bool {
    let ends_with = |end: &[u8]| {
        let start = name.len().checked_sub(end.len()).and_then(|start| name.get(start..));
        start.is_some_and(|start| start.eq_ignore_ascii_case(end))
    };
    ends_with(b"-cache-control") || ends_with(b"-surrogate-control")
}

impl Lines {
    /// No fields yet, and room for so many.
    pub fn new(head: Bytes, room: usize) -> Self {
        Self { head, lines: Vec::with_capacity(room), added: None }
    }

    /// Adds a field of this head: a name and a value that were found valid and are slices of it.
    /// Whether they are.
    pub fn push(&mut self, kind: Kind, name: &[u8], value: &[u8]) -> bool {
        let (Some(name), Some(value)) = (self.span(name), self.span(value)) else { return false };
        self.lines.push(Line { kind, name, value });
        true
    }

    fn span(&self, piece: &[u8]) -> Option<Span> {
        let start = piece.as_ptr().addr().checked_sub(self.head.as_ptr().addr())?;
        let span = Span { start: start.try_into().ok()?, length: piece.len().try_into().ok()? };
        (start.checked_add(piece.len())? <= self.head.len()).then_some(span)
    }

    fn range(span: Span) -> std::ops::Range<usize> {
        let start = span.start as usize;
        start..start + span.length as usize
    }

    fn bytes(&self, span: Span) -> &[u8] {
        self.head.get(Self::range(span)).unwrap_or_default()
    }

    /// Adds a field that the app did not send.
    pub(super) fn add(&mut self, name: &'static str, value: HeaderValue) {
        self.added = Some((name, value));
    }

    /// Kind, name as the app wrote it, and value.
    pub fn iter(&self) -> impl Iterator<Item = (Kind, &[u8], &[u8])> {
        let lines = self.lines.iter();
        let added = self.added.iter();
        lines
            .map(|line| (line.kind, self.bytes(line.name), self.bytes(line.value)))
            .chain(added.map(|(name, value)| (Kind::Other, name.as_bytes(), value.as_bytes())))
    }

    /// Whether there is a field of this kind.
    pub fn has(&self, kind: Kind) -> bool {
        self.lines.iter().any(|line| line.kind == kind)
    }

    /// Keeps the fields for which `stays` says so, given kind, name and value.
    pub(super) fn retain(&mut self, stays: impl Fn(Kind, &[u8], &[u8]) -> bool) {
        let head = &self.head;
        let bytes = |span| head.get(Self::range(span)).unwrap_or_default();
        self.lines.retain(|line| stays(line.kind, bytes(line.name), bytes(line.value)));
    }

    /// The same fields in a map; values share the memory of the head.
    pub fn into_map(self) -> HeaderMap {
        let mut map = HeaderMap::with_capacity(self.lines.len() + 1);
        for line in &self.lines {
            let name = self.bytes(line.name);
            let name = usual(name).map_or_else(|| HeaderName::from_bytes(name), Ok);
            let value = HeaderValue::from_maybe_shared(self.head.slice(Self::range(line.value)));
            if let (Ok(name), Ok(value)) = (name, value) {
                map.append(name, value);
            }
        }
        if let Some((name, value)) = self.added {
            map.append(HeaderName::from_static(name), value);
        }
        map
    }
}

/// Shows no bytes: answers set cookies.
impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lines").field("fields", &self.lines.len()).finish_non_exhaustive()
    }
}

/// Names of fields that most answers have, as they are usually written.
fn usual(name: &[u8]) -> Option<HeaderName> {
    Some(match name {
        b"Date" | b"date" => header::DATE,
        b"ETag" | b"etag" => header::ETAG,
        b"Vary" | b"vary" => header::VARY,
        b"Server" | b"server" => header::SERVER,
        b"Set-Cookie" | b"set-cookie" => header::SET_COOKIE,
        b"Content-Type" | b"content-type" => header::CONTENT_TYPE,
        b"Accept-Ranges" | b"accept-ranges" => header::ACCEPT_RANGES,
        b"Cache-Control" | b"cache-control" => header::CACHE_CONTROL,
        b"Last-Modified" | b"last-modified" => header::LAST_MODIFIED,
        b"Content-Length" | b"content-length" => header::CONTENT_LENGTH,
        _ => return None,
    })
}
