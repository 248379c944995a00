//! The heads of HTTP/1.1: writes a request's, reads an answer's (RFC 9112).
//!
//! An answer whose framing can be read in two ways is refused: a wrong guess would split answers.

use std::mem::MaybeUninit;

use bytes::{Bytes, BytesMut};
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use httparse::{ParserConfig, Status};
use memchr::memmem;

use crate::headers::frames::{is_bodiless, may_trail};
use crate::headers::{AnswerHead, Fields, Kind, Lines, Stamped};

/// Bound on the bytes of an answer's head, and of all that come before the answer.
pub(in crate::upstream) const HEAD: usize = 64 * 1024;
/// Bound on the header fields of an answer, and on those of its trailer section.
const FIELDS: usize = 128;
/// Bound on interim answers (1xx) before the answer.
pub(in crate::upstream) const INTERIM: u32 = 16;

/// How the body of a request goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sending {
    /// There is none.
    Nothing,
    /// This many bytes, at least one.
    Length(u64),
    /// In chunks, until it ends.
    Chunked,
}

/// Writes the head of `request` with the framing that its body needs.
pub(super) fn write<B>(request: &Stamped<B>, sending: Sending, out: &mut Vec<u8>) {
    out.extend_from_slice(request.method().as_str().as_bytes());
    out.push(b' ');
    let target = request.uri().path_and_query();
    out.extend_from_slice(target.map_or("/", |target| target.as_str()).as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    request.write_fields(out);
    match sending {
        // An app may ask for a length where a body is usual (RFC 9110 section 8.6).
        Sending::Nothing if request.has_length() || expects_body(request.method()) => {
            out.extend_from_slice(b"content-length: 0\r\n");
        }
        Sending::Nothing => {}
        Sending::Length(length) => {
            out.extend_from_slice(b"content-length: ");
            out.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        Sending::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
    }
    out.extend_from_slice(b"\r\n");
}

fn expects_body(method: &Method) -> bool {
    matches!(*method, Method::POST | Method::PUT | Method::PATCH)
}

/// How the body of an answer is framed (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    Length(u64),
    Chunked,
    /// Until the connection ends.
    Close,
}

/// A complete head.
#[derive(Debug)]
pub(super) struct Head {
    /// Boxed: it passes through many hands.
    pub(super) answer: Box<AnswerHead>,
    pub(super) framing: Framing,
    /// Whether the app lets the connection carry another request.
    pub(super) keep: bool,
    /// What came behind it.
    pub(super) rest: Bytes,
}

/// Reads one answer's head from what arrives.
#[derive(Debug, Default)]
pub(super) struct Reader {
    /// Up to here there is no end of a head.
    searched: usize,
    interim: u32,
    /// Bytes of interim answers.
    passed: usize,
}

impl Reader {
    /// The head, if `bytes` holds all of it; then it is taken out, with all that came behind it.
    /// `to_head`: the request was a HEAD, so that no body follows. Interim answers go to `interim`, but for the
    /// 100: nobody has asked for it, since clients are told to go on as soon as their body is wanted.
    ///
    /// # Errors
    /// What is wrong with it, in words for the log.
    pub(super) fn advance(
        &mut self,
        bytes: &mut BytesMut,
        to_head: bool,
        interim: &mut dyn FnMut(Box<AnswerHead>),
    ) -> Result<Option<Head>, &'static str> {
        loop {
            if bytes.is_empty() || self.searched > 0 && !self.has_end(bytes) {
                return self.wait(bytes);
            }
            // Taken whole, so that the values can share it.
            let taken = bytes.split().freeze();
            let Some(head) = parse(&taken, to_head)? else {
                // Rare: the head came in pieces. From here on it is read when its end is there.
                bytes.extend_from_slice(&taken);
                return self.wait(bytes);
            };
            let status = head.answer.status;
            if !status.is_informational() || status == StatusCode::SWITCHING_PROTOCOLS {
                return Ok(Some(head));
            }
            self.interim += 1;
            if self.interim > INTERIM {
                return Err("too many interim answers");
            }
            self.passed += taken.len() - head.rest.len();
            self.searched = 0;
            bytes.extend_from_slice(&head.rest);
            if status != StatusCode::CONTINUE {
                interim(head.answer);
            }
        }
    }

    /// Whether interim answers have come.
    pub(super) fn has_seen_any(&self) -> bool {
        self.interim > 0
    }

    fn wait(&mut self, bytes: &BytesMut) -> Result<Option<Head>, &'static str> {
        if self.passed.saturating_add(bytes.len()) > HEAD {
            return Err("the head is too large");
        }
        // The end has up to four bytes, of which all but the last may be there.
        self.searched = bytes.len().saturating_sub(3).max(1);
        Ok(None)
    }

    fn has_end(&self, bytes: &[u8]) -> bool {
        let fresh = bytes.get(self.searched - 1..).unwrap_or_default();
        memmem::find(fresh, b"\n\r\n").is_some() || memmem::find(fresh, b"\n\n").is_some()
    }
}

fn parse(bytes: &Bytes, to_head: bool) -> Result<Option<Head>, &'static str> {
    let mut fields = [const { MaybeUninit::uninit() }; FIELDS];
    let mut parsed = httparse::Response::new(&mut []);
    let config = ParserConfig::default();
    let status = config.parse_response_with_uninit_headers(&mut parsed, bytes, &mut fields);
    let length = match status.map_err(words)? {
        Status::Complete(length) => length,
        Status::Partial => return Ok(None),
    };
    if length > HEAD {
        return Err("the head is too large");
    }
    let old = parsed.version == Some(0);
    let status = parsed.code.and_then(|code| StatusCode::from_u16(code).ok());
    let status = status.ok_or("the status is no status")?;
    let mut message = Message { keep: !old, ..Message::default() };
    let mut lines = Lines::new(bytes.clone(), parsed.headers.len());
    for field in parsed.headers.iter() {
        let kind = Kind::of(field.name.as_bytes());
        if message.note(kind, field.value)? && !lines.push(kind, field.name.as_bytes(), field.value)
        {
            return Err("a field outside the head");
        }
    }
    let reason = reason(status, parsed.reason).map(|reason| bytes.slice_ref(reason.as_bytes()));
    let framing = message.framing(status, to_head, old)?;
    // What a 204 says of a body it cannot have may follow all the same.
    let odd = status == StatusCode::NO_CONTENT
        && (message.chunked || message.length.is_some_and(|n| n > 0));
    let keep = message.keep && !odd && framing != Framing::Close;
    let answer = Box::new(AnswerHead { status, reason, fields: Fields::Lines(lines) });
    Ok(Some(Head { answer, framing, keep, rest: bytes.slice(length..) }))
}

fn words(error: httparse::Error) -> &'static str {
    match error {
        httparse::Error::HeaderName => "a bad field name",
        httparse::Error::HeaderValue => "a bad field value",
        httparse::Error::NewLine => "a bad end of line",
        httparse::Error::Status => "the status is no status",
        httparse::Error::Token => "a byte where none may be",
        httparse::Error::TooManyHeaders => "too many header fields",
        httparse::Error::Version => "it is not HTTP/1.1",
    }
}

/// The app's own words for a status go on to clients that speak HTTP/1.1.
fn reason(status: StatusCode, reason: Option<&str>) -> Option<&str> {
    reason.filter(|reason| !reason.is_empty() && status.canonical_reason() != Some(reason))
}

/// What the fields say about the message itself.
#[derive(Debug, Default)]
struct Message {
    length: Option<u64>,
    chunked: bool,
    keep: bool,
}

impl Message {
    /// Takes in what a field says; whether it says anything to those who read on.
    fn note(&mut self, kind: Kind, value: &[u8]) -> Result<bool, &'static str> {
        match kind {
            Kind::ContentLength => {
                if self.length.is_some() {
                    return Err("more than one Content-Length");
                }
                self.length = Some(decimal(value).ok_or("a bad Content-Length")?);
            }
            Kind::TransferEncoding => {
                // Any other coding would reach the client without the field that names it.
                if self.chunked || !value.trim_ascii().eq_ignore_ascii_case(b"chunked") {
                    return Err("a Transfer-Encoding other than one `chunked`");
                }
                self.chunked = true;
            }
            Kind::Connection => {
                // Most say only this: no field is nominated.
                if value.eq_ignore_ascii_case(b"keep-alive") {
                    return Ok(false);
                }
                for token in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                    if token.eq_ignore_ascii_case(b"close") {
                        self.keep = false;
                    }
                }
            }
            _ => {}
        }
        Ok(true)
    }

    fn framing(
        &self,
        status: StatusCode,
        to_head: bool,
        old: bool,
    ) -> Result<Framing, &'static str> {
        if self.chunked && self.length.is_some() {
            return Err("Content-Length with Transfer-Encoding");
        }
        if self.chunked && old {
            return Err("Transfer-Encoding in HTTP/1.0");
        }
        Ok(match self.length {
            _ if is_bodiless(status) || to_head => Framing::Length(0),
            _ if self.chunked => Framing::Chunked,
            Some(length) => Framing::Length(length),
            None => Framing::Close,
        })
    }
}

/// Digits and nothing else: no sign, no list.
fn decimal(value: &[u8]) -> Option<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    str::from_utf8(value).ok()?.parse().ok()
}

/// The fields of a complete trailer section, up to and with its empty line.
pub(super) fn trailers(section: &[u8]) -> Result<HeaderMap, &'static str> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS];
    let Status::Complete((length, fields)) =
        httparse::parse_headers(section, &mut fields).map_err(words)?
    else {
        return Err("a trailer section without end");
    };
    // A bare LF may be an empty line: then the section would have ended before.
    if length != section.len() {
        return Err("a trailer section with two ends");
    }
    let mut trailers = HeaderMap::with_capacity(fields.len());
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| "a bad field name")?;
        let value = HeaderValue::from_bytes(field.value).map_err(|_| "a bad field value")?;
        if may_trail(&name) {
            trailers.append(name, value);
        }
    }
    Ok(trailers)
}
