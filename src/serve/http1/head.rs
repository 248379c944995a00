//! Reads request heads line by line as they arrive (RFC 9112 sections 2 to 6): each line is judged and
//! taken over in one go, so that no byte is looked at twice and none is copied.
//!
//! A verdict does not depend on how the bytes arrive. Field lines of trailers are judged here, too.

use std::sync::LazyLock;

use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Method, Request, Uri, Version};
use memchr::memmem::Finder;
use memchr::{memchr, memrchr};

use super::class::{PATH, QUERY, TOKEN, has_class};
use super::violation::Violation;

/// The longest method that is looked at. The longest registered one has 17 bytes.
const MAX_METHOD: usize = 32;
/// Fields are about this long: a guess at how many there are, to make room once.
const USUAL_FIELD: usize = 40;

/// The end of the last line and the empty line.
static END: LazyLock<Finder<'_>> = LazyLock::new(|| Finder::new(b"\r\n\r\n"));

/// Bounds on a request head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Bytes of the request line without its CR LF. Beyond: 414.
    pub request_line: usize,
    /// Bytes of the whole head with its empty line. Beyond: 431.
    pub head: usize,
    /// Header lines, and lines of a trailer section. Beyond: 431.
    pub fields: usize,
}

/// How the body of a request is framed (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Chunked transfer coding.
    Chunked,
    /// No body.
    Empty,
    /// This many bytes, at least one.
    Length(u64),
}

/// A complete request head.
#[derive(Debug)]
pub struct Head {
    /// Method, target, version and fields.
    pub parts: Box<Parts>,
    /// How the body comes.
    pub framing: Framing,
    /// Whether the client means to send another request on the connection.
    pub keep: bool,
    /// Whether the client waits for a 100 before it sends the body.
    pub expects: bool,
}

/// Reads one head.
#[derive(Debug, Default)]
pub(super) struct HeadReader {
    /// What was read; there once the request line was.
    parts: Option<Box<Parts>>,
    /// Bytes of the lines that were taken.
    taken: usize,
    /// Bytes of the next line that hold no LF.
    searched: usize,
    fields: usize,
    /// Bytes of the cookies among them.
    cookies: usize,
    chunked: bool,
    length: Option<u64>,
    /// `close` or `keep-alive`, as far as `Connection` says one.
    close: bool,
    keep_alive: bool,
    expects: bool,
    /// An empty line came before the request line.
    blank: bool,
}

impl HeadReader {
    /// Whether no byte of the head was taken yet.
    pub(super) fn is_untouched(&self) -> bool {
        self.taken == 0
    }

    /// What was taken of a head that is not complete.
    pub(super) fn take_begun(&mut self) -> Option<Box<Parts>> {
        self.parts.take()
    }

    /// Takes what belongs to the head out of `bytes`; the head once it is complete.
    ///
    /// # Errors
    /// The first breach, in the order of the bytes.
    pub(super) fn advance(
        &mut self,
        bytes: &mut BytesMut,
        limits: &HeadLimits,
    ) -> Result<Option<Head>, Violation> {
        let block = bytes.split_to(self.complete(bytes)).freeze();
        let mut rest: &[u8] = &block;
        while let Some(at) = memchr(b'\n', rest) {
            let (line, behind) = rest.split_at_checked(at + 1).unwrap_or((rest, &[]));
            // Bounds come before content, so that a line is refused alike whether it came in
            // one piece or not.
            self.check_bounds(line, limits)?;
            self.taken += line.len();
            rest = behind;
            let Some(line) = line.strip_suffix(b"\r\n") else { return Err(Violation::BareLf) };
            if self.parts.is_some() {
                if line.is_empty() {
                    return Ok(self.finish());
                }
                self.field(&block, line, limits)?;
            } else if !line.is_empty() {
                let fields = (block.len() / USUAL_FIELD).clamp(6, 48);
                self.parts = Some(request_line(&block, line, fields)?);
            } else if std::mem::replace(&mut self.blank, true) {
                // One is a slip of old clients (RFC 9112 section 2.2).
                return Err(Violation::BlankLines);
            }
        }
        self.check_bounds(bytes, limits)?;
        self.searched = bytes.len();
        Ok(None)
    }

    /// The length of the complete lines in `bytes`, up to the end of the head if that is there.
    fn complete(&self, bytes: &[u8]) -> usize {
        if self.parts.is_some() && bytes.starts_with(b"\r\n") {
            return 2;
        }
        // Up to `searched` there is no LF, so that an end has at most its first CR there.
        let from = self.searched.saturating_sub(1);
        let fresh = bytes.get(from..).unwrap_or_default();
        match END.find(fresh) {
            Some(at) => from + at + 4,
            None => memrchr(b'\n', fresh).map_or(0, |at| from + at + 1),
        }
    }

    /// `line` is the next line as far as it is known.
    fn check_bounds(&self, line: &[u8], limits: &HeadLimits) -> Result<(), Violation> {
        if self.parts.is_none() {
            let most = limits.request_line.saturating_add(2).min(limits.head);
            if line.len() > most {
                return Err(match line.iter().take(MAX_METHOD + 1).any(|&b| b == b' ') {
                    true => Violation::UriTooLong,
                    false => Violation::MethodTooLong,
                });
            }
        }
        // What comes behind the bound is not looked at: the verdict must not depend on it.
        let within = limits.head.saturating_sub(self.taken);
        match line.get(..=within) {
            Some(over) => Err(self.excess(over, Violation::HeadTooLarge)),
            None => Ok(()),
        }
    }

    /// The breach of a head that is too large by `line`: it is the cookies' when they are most of it. Another
    /// site can plant those.
    fn excess(&self, line: &[u8], otherwise: Violation) -> Violation {
        const COOKIE: &[u8] = b"cookie:";
        let is_cookie = line.get(..COOKIE.len()).is_some_and(|l| l.eq_ignore_ascii_case(COOKIE));
        let cookies = self.cookies + if is_cookie { line.len() } else { 0 };
        if cookies > (self.taken + line.len()) / 2 { Violation::CookiesTooLarge } else { otherwise }
    }

    /// Takes over one field line of `block`, without its CR LF.
    fn field(&mut self, block: &Bytes, line: &[u8], limits: &HeadLimits) -> Result<(), Violation> {
        self.fields += 1;
        if self.fields > limits.fields {
            return Err(self.excess(line, Violation::TooManyFields));
        }
        let breach = || breach(line);
        let (name, value) = split_field(line).ok_or_else(breach)?;
        let name = match usual(name) {
            Some(name) => name,
            None => HeaderName::from_bytes(name).map_err(|_| breach())?,
        };
        let value = HeaderValue::from_maybe_shared(block.slice_ref(trim_ows(value)));
        let value = value.map_err(|_| breach())?;
        if !self.note(&name, value.as_bytes())? {
            return Ok(());
        }
        let Some(parts) = &mut self.parts else { return Err(Violation::RequestLine) };
        let added = parts.headers.try_append(name, value);
        added.map(|_| ()).map_err(|_| Violation::TooManyFields)
    }

    /// Keeps what a field says about the message itself; whether it says anything to those who read on.
    fn note(&mut self, name: &HeaderName, value: &[u8]) -> Result<bool, Violation> {
        match *name {
            header::CONTENT_LENGTH => {
                if self.length.is_some() {
                    return Err(Violation::ContentLengthRepeated);
                }
                self.length = Some(parse_length(value)?);
            }
            header::TRANSFER_ENCODING => {
                if self.is_old() {
                    return Err(Violation::TransferEncodingInHttp10);
                }
                if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(Violation::TransferEncoding);
                }
                self.chunked = true;
            }
            header::CONNECTION => {
                // Most say only this: no field is nominated.
                if value.eq_ignore_ascii_case(b"keep-alive") {
                    self.keep_alive = true;
                    return Ok(false);
                }
                for token in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                    self.close |= token.eq_ignore_ascii_case(b"close");
                    self.keep_alive |= token.eq_ignore_ascii_case(b"keep-alive");
                }
                return Ok(true);
            }
            header::COOKIE => {
                self.cookies += value.len() + "Cookie: \r\n".len();
                return Ok(true);
            }
            header::EXPECT => {
                self.expects = value.eq_ignore_ascii_case(b"100-continue");
                return Ok(true);
            }
            _ => return Ok(true),
        }
        match self.chunked && self.length.is_some() {
            true => Err(Violation::LengthAndEncoding),
            false => Ok(true),
        }
    }

    fn is_old(&self) -> bool {
        self.parts.as_ref().is_some_and(|parts| parts.version == Version::HTTP_10)
    }

    /// The head; what comes next is another one.
    fn finish(&mut self) -> Option<Head> {
        let old = self.is_old();
        let read = std::mem::take(self);
        let framing = match (read.chunked, read.length) {
            (true, _) => Framing::Chunked,
            (false, None | Some(0)) => Framing::Empty,
            (false, Some(length)) => Framing::Length(length),
        };
        let keep = !read.close && (!old || read.keep_alive);
        let expects = read.expects && !old && framing != Framing::Empty;
        read.parts.map(|parts| Head { parts, framing, keep, expects })
    }
}

/// Name and value, neither of them judged.
fn split_field(line: &[u8]) -> Option<(&[u8], &[u8])> {
    // Names are short: a search that is made for long texts takes longer.
    let (name, value) = line.split_at_checked(line.iter().position(|&b| b == b':')?)?;
    Some((name, value.get(1..)?))
}

/// Names of fields that most requests have, as browsers and as libraries write them.
fn usual(name: &[u8]) -> Option<HeaderName> {
    const SEC_FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");
    const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
    const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
    Some(match name {
        b"Host" | b"host" => header::HOST,
        b"Accept" | b"accept" => header::ACCEPT,
        b"Cookie" | b"cookie" => header::COOKIE,
        b"Origin" | b"origin" => header::ORIGIN,
        b"Referer" | b"referer" => header::REFERER,
        b"Connection" | b"connection" => header::CONNECTION,
        b"User-Agent" | b"user-agent" => header::USER_AGENT,
        b"Content-Type" | b"content-type" => header::CONTENT_TYPE,
        b"Authorization" | b"authorization" => header::AUTHORIZATION,
        b"Cache-Control" | b"cache-control" => header::CACHE_CONTROL,
        b"If-None-Match" | b"if-none-match" => header::IF_NONE_MATCH,
        b"Content-Length" | b"content-length" => header::CONTENT_LENGTH,
        b"Sec-Fetch-Dest" | b"sec-fetch-dest" => SEC_FETCH_DEST,
        b"Sec-Fetch-Mode" | b"sec-fetch-mode" => SEC_FETCH_MODE,
        b"Sec-Fetch-Site" | b"sec-fetch-site" => SEC_FETCH_SITE,
        b"Accept-Encoding" | b"accept-encoding" => header::ACCEPT_ENCODING,
        b"Accept-Language" | b"accept-language" => header::ACCEPT_LANGUAGE,
        _ => return None,
    })
}

/// Reads the request line of `block`; there will be about `fields` header fields.
fn request_line(block: &Bytes, line: &[u8], fields: usize) -> Result<Box<Parts>, Violation> {
    controls(line)?;
    let mut words = line.splitn(3, |&b| b == b' ');
    let (Some(method), Some(target), Some(version)) = (words.next(), words.next(), words.next())
    else {
        return Err(Violation::RequestLine);
    };
    if method.is_empty() || !method.iter().all(|&b| has_class(b, TOKEN)) {
        return Err(Violation::RequestLine);
    }
    if method.len() > MAX_METHOD {
        return Err(Violation::MethodTooLong);
    }
    let version = match version {
        b"HTTP/1.1" => Version::HTTP_11,
        b"HTTP/1.0" => Version::HTTP_10,
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9'] => return Err(Violation::Version),
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => {
            return Err(Violation::Version);
        }
        _ => return Err(Violation::RequestLine),
    };
    if method == b"CONNECT" {
        return Err(Violation::Connect);
    }
    judge_target(target)?;
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.method = Method::from_bytes(method).map_err(|_| Violation::RequestLine)?;
    let uri = Uri::from_maybe_shared(block.slice_ref(target)).map_err(|_| Violation::Target)?;
    parts.uri = with_path(uri)?;
    parts.version = version;
    parts.headers = HeaderMap::with_capacity(fields);
    Ok(Box::new(parts))
}

/// `https://host?query` asks for the path `/` (RFC 9110 section 4.2.3).
fn with_path(uri: Uri) -> Result<Uri, Violation> {
    let Some(query) =
        uri.path_and_query().map(PathAndQuery::as_str).filter(|it| it.starts_with('?'))
    else {
        return Ok(uri);
    };
    let whole = PathAndQuery::try_from(format!("/{query}")).map_err(|_| Violation::Target)?;
    let mut parts = uri.into_parts();
    parts.path_and_query = Some(whole);
    Uri::from_parts(parts).map_err(|_| Violation::Target)
}

/// Form and bytes of the target (RFC 9112 3.2). What the path means is judged by the router.
fn judge_target(target: &[u8]) -> Result<(), Violation> {
    let known_form = match target {
        [b'/', ..] | b"*" => true,
        _ => [&b"http://"[..], b"https://"].iter().any(|scheme| {
            target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
        }),
    };
    let mut class = PATH;
    for &byte in target {
        if !has_class(byte, class) {
            return Err(Violation::Target);
        }
        if byte == b'?' {
            class = QUERY;
        }
    }
    match known_form {
        true => Ok(()),
        false => Err(Violation::Target),
    }
}

/// What is wrong with a field line, if anything is.
pub(super) fn judge_field(line: &[u8]) -> Result<(), Violation> {
    let stop = line.iter().position(|&b| !has_class(b, TOKEN));
    let (name, rest) = line.split_at_checked(stop.unwrap_or(line.len())).unwrap_or_default();
    match (name, rest) {
        ([], [b' ' | b'\t', ..]) => Err(Violation::ObsFold),
        ([_, ..], [b':', value @ ..]) => controls(value),
        ([_, ..], [b' ' | b'\t', ..]) => Err(Violation::SpaceBeforeColon),
        (_, [b'\r', ..]) => Err(Violation::BareCr),
        (_, [0, ..]) => Err(Violation::Nul),
        _ => Err(Violation::FieldName),
    }
}

/// The breach in a field line that has one.
#[cold]
fn breach(line: &[u8]) -> Violation {
    judge_field(line).err().unwrap_or(Violation::FieldName)
}

/// Refuses every control byte but HTAB. One pass without early exit, so that it is vectorised.
fn controls(text: &[u8]) -> Result<(), Violation> {
    let is_bad = |b: u8| (b < 0x20 && b != b'\t') | (b == 0x7f);
    if !text.iter().fold(false, |bad, &b| bad | is_bad(b)) {
        return Ok(());
    }
    Err(match text.iter().find(|&&b| is_bad(b)) {
        Some(b'\r') => Violation::BareCr,
        Some(0) => Violation::Nul,
        _ => Violation::ControlByte,
    })
}

/// `1*DIGIT` (RFC 9110 8.6), at most `i64::MAX` so that every peer can count it.
fn parse_length(value: &[u8]) -> Result<u64, Violation> {
    if value.contains(&b',') {
        return Err(Violation::ContentLengthRepeated);
    }
    if value.is_empty() {
        return Err(Violation::ContentLength);
    }
    let mut length: i64 = 0;
    for byte in value {
        length = match byte {
            b'0'..=b'9' => {
                length.checked_mul(10).and_then(|tens| tens.checked_add(i64::from(byte - b'0')))
            }
            _ => None,
        }
        .ok_or(Violation::ContentLength)?;
    }
    u64::try_from(length).map_err(|_| Violation::ContentLength)
}

/// Without the optional white space around a value (RFC 9110 5.6.3): SP and HTAB only.
fn trim_ows(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}
