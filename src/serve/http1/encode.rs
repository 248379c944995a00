//! Writes heads of answers, and says how their bodies go out (RFC 9112 section 6).

use std::io::Write as _;

use http::header;
use http::{StatusCode, Version};

use crate::headers::frames::is_bodiless;
use crate::headers::{AnswerHead, Fields, Kind};

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
            _ if self.head || is_bodiless(status) => Sending::Nothing,
            Some(length) => Sending::Length(length),
            None if self.old => Sending::Close,
            None => Sending::Chunked,
        }
    }
}

/// Whether an own answer asks for the end of the connection.
pub(super) fn asks_to_close(head: &AnswerHead) -> bool {
    let Fields::Map(headers) = &head.fields else { return false };
    let connection = headers.get(header::CONNECTION);
    connection.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"close"))
}

/// Writes the head of an answer. `date` is the time as HTTP writes it.
pub(super) fn write(
    head: &AnswerHead,
    asked: Asked,
    sending: Sending,
    keep: bool,
    date: &[u8],
    out: &mut Vec<u8>,
) {
    status_line(head, asked.old, out);
    let switching = head.status == StatusCode::SWITCHING_PROTOCOLS;
    let mut dated = false;
    each(&head.fields, |kind, name, value| {
        match kind {
            // The answer to a HEAD says how long that to a GET would be.
            Kind::ContentLength if !asked.head || is_bodiless(head.status) => return,
            Kind::Connection if !switching => return,
            Kind::TransferEncoding => return,
            Kind::Date => dated = true,
            _ => {}
        }
        field(out, name, value);
    });
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
        field(out, b"date", date);
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes an interim answer. It says nothing about a body or the connection: such fields are gone.
pub(super) fn write_interim(head: &AnswerHead, out: &mut Vec<u8>) {
    status_line(head, false, out);
    each(&head.fields, |_, name, value| field(out, name, value));
    out.extend_from_slice(b"\r\n");
}

/// Shows each field to `see`.
fn each(fields: &Fields, mut see: impl FnMut(Kind, &[u8], &[u8])) {
    match fields {
        Fields::Map(headers) => {
            for (name, value) in headers {
                let name = name.as_str().as_bytes();
                see(Kind::of(name), name, value.as_bytes());
            }
        }
        Fields::Lines(lines) => lines.iter().for_each(|(kind, name, value)| see(kind, name, value)),
    }
}

fn status_line(head: &AnswerHead, old: bool, out: &mut Vec<u8>) {
    let reason = head.reason.as_deref();
    if head.status == StatusCode::OK && reason.is_none() && !old {
        return out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
    }
    let canonical = || head.status.canonical_reason().unwrap_or("<none>").as_bytes();
    out.extend_from_slice(if old { b"HTTP/1.0 " } else { b"HTTP/1.1 " });
    out.extend_from_slice(head.status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(reason.unwrap_or_else(canonical));
    out.extend_from_slice(b"\r\n");
}

fn field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// A number in decimal digits.
fn decimal(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
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
