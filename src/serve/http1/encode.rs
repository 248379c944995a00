//! Writes heads of answers, and says how their bodies go out (RFC 9112 section 6).

use std::io::Write as _;

use http::header::{self, HeaderValue};
use http::response::Parts;
use http::{StatusCode, Version};
use hyper::ext::ReasonPhrase;

/// How the body of an answer goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sending {
    /// There is none.
    Nothing,
    /// So many bytes.
    Length(u64),
    /// In chunks, until it ends.
    Chunked,
    /// Until the connection ends, for clients that know no chunks.
    Close,
}

/// What an answer must know of its request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    /// It was a HEAD.
    pub(super) head: bool,
    /// It was HTTP/1.0.
    pub(super) old: bool,
    /// The client means to send another one.
    pub(super) keep: bool,
}

impl Asked {
    /// How a body goes out whose length may be known.
    pub(super) fn sending(self, status: StatusCode, length: Option<u64>) -> Sending {
        match length {
            _ if self.head || is_bodyless(status) => Sending::Nothing,
            Some(length) => Sending::Length(length),
            None if self.old => Sending::Close,
            None => Sending::Chunked,
        }
    }
}

fn is_bodyless(status: StatusCode) -> bool {
    status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// Whether an answer asks for the end of the connection.
pub(super) fn asks_to_close(parts: &Parts) -> bool {
    let connection = parts.headers.get(header::CONNECTION);
    connection.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"close"))
}

/// Writes the head of an answer. `date` is the time as HTTP writes it.
pub(super) fn write(
    parts: &Parts,
    asked: Asked,
    sending: Sending,
    keep: bool,
    date: &[u8],
    out: &mut Vec<u8>,
) {
    status_line(parts, asked, out);
    let switching = parts.status == StatusCode::SWITCHING_PROTOCOLS;
    let mut dated = false;
    for (name, value) in &parts.headers {
        match *name {
            // The answer to a HEAD says how long that to a GET would be.
            header::CONTENT_LENGTH if !asked.head || is_bodyless(parts.status) => continue,
            header::CONNECTION if !switching => continue,
            header::TRANSFER_ENCODING => continue,
            header::DATE => dated = true,
            _ => {}
        }
        field(out, name.as_str(), value.as_bytes());
    }
    match sending {
        Sending::Length(length) => {
            out.extend_from_slice(b"content-length: ");
            decimal(out, length);
            out.extend_from_slice(b"\r\n");
        }
        Sending::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        Sending::Nothing | Sending::Close => {}
    }
    if !keep && !switching {
        out.extend_from_slice(b"connection: close\r\n");
    } else if asked.old {
        out.extend_from_slice(b"connection: keep-alive\r\n");
    }
    if !dated {
        field(out, "date", date);
    }
    out.extend_from_slice(b"\r\n");
}

fn status_line(parts: &Parts, asked: Asked, out: &mut Vec<u8>) {
    let reason = parts.extensions.get::<ReasonPhrase>().map(ReasonPhrase::as_bytes);
    if parts.status == StatusCode::OK && reason.is_none() && !asked.old {
        return out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
    }
    let canonical = || parts.status.canonical_reason().unwrap_or("<none>").as_bytes();
    out.extend_from_slice(if asked.old { b"HTTP/1.0 " } else { b"HTTP/1.1 " });
    out.extend_from_slice(parts.status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(reason.unwrap_or_else(canonical));
    out.extend_from_slice(b"\r\n");
}

fn field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// A number in decimal digits.
fn decimal(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(HeaderValue::from(number).as_bytes());
}

/// The line that begins a chunk.
pub(super) fn chunk(out: &mut Vec<u8>, length: usize) {
    // Writing to memory does not fail.
    let _ = write!(out, "{length:x}\r\n");
}

/// Whether a version of a request is one that knows no chunks.
pub(super) fn is_old(version: Version) -> bool {
    version == Version::HTTP_10
}
