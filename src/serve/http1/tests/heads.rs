//! Heads of answers.

use bytes::Bytes;
use http::header::{self, HeaderMap};
use http::{HeaderValue, StatusCode};

use super::*;
use crate::headers::{AnswerHead, Fields, Kind, Lines};
use crate::serve::http1::encode::{self, Sending};

const ASKED: Asked = Asked { head: false, old: false, keep: true };

/// The head of an answer with these fields to a request, with a body of `length`.
fn head(status: u16, fields: &[(&str, &str)], asked: Asked, length: Option<u64>) -> String {
    // The same as it comes of a map and of the lines of an app's head.
    let (mut map, mut text) = (HeaderMap::new(), String::new());
    for (name, value) in fields {
        let header = header::HeaderName::from_bytes(name.as_bytes()).unwrap();
        map.append(header, HeaderValue::from_str(value).unwrap());
        text.push_str(&format!("{name}{value}"));
    }
    let (text, mut start) = (Bytes::from(text), 0);
    let mut lines = Lines::new(text.clone(), fields.len());
    for (name, value) in fields {
        let middle = start + name.len();
        let end = middle + value.len();
        assert!(lines.push(Kind::of(name.as_bytes()), &text[start..middle], &text[middle..end]));
        start = end;
    }
    let [from_map, from_lines] = [Fields::Map(map), Fields::Lines(lines)].map(|fields| {
        let status = StatusCode::from_u16(status).unwrap();
        let sending = asked.sending(status, length);
        let mut out = Vec::new();
        let head = AnswerHead { status, reason: None, fields };
        encode::write(&head, asked, sending, asked.keep, b"now", &mut out);
        String::from_utf8(out).unwrap()
    });
    assert_eq!(from_map, from_lines);
    from_map
}

#[test]
fn a_head_is_what_was_answered_with_its_framing() {
    assert_eq!(
        head(200, &[("x-a", "1"), ("x-a", "2"), ("content-length", "5")], ASKED, Some(5)),
        "HTTP/1.1 200 OK\r\nx-a: 1\r\nx-a: 2\r\ncontent-length: 5\r\ndate: now\r\n\r\n"
    );
    assert_eq!(
        head(299, &[("date", "then"), ("transfer-encoding", "x")], ASKED, None),
        "HTTP/1.1 299 <none>\r\ndate: then\r\ntransfer-encoding: chunked\r\n\r\n"
    );
    assert_eq!(
        head(404, &[], Asked { keep: false, ..ASKED }, Some(0)),
        "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\ndate: now\r\n\r\n"
    );
}

#[test]
fn the_body_never_runs_into_the_next_answer() {
    let sending = |status: u16, asked: Asked, length| {
        asked.sending(StatusCode::from_u16(status).unwrap(), length)
    };
    let old = Asked { old: true, ..ASKED };
    let to_head = Asked { head: true, ..ASKED };
    assert_eq!(sending(200, ASKED, None), Sending::Chunked);
    assert_eq!(sending(200, old, None), Sending::Close);
    assert_eq!(sending(200, old, Some(3)), Sending::Length(3));
    for status in [101, 204, 304] {
        assert_eq!(sending(status, ASKED, Some(3)), Sending::Nothing);
        assert_eq!(sending(status, ASKED, None), Sending::Nothing);
    }
    assert_eq!(sending(200, to_head, None), Sending::Nothing);
}

#[test]
fn answers_without_body_say_no_length_but_to_a_head() {
    let length = [("content-length", "7")];
    let to_head = Asked { head: true, ..ASKED };
    assert!(head(200, &length, to_head, Some(0)).contains("content-length: 7\r\n"));
    assert!(!head(200, &[], to_head, Some(0)).contains("content-length"));
    for status in [204, 304] {
        assert!(!head(status, &length, ASKED, Some(0)).contains("content-length"));
    }
}

#[test]
fn only_an_upgrade_speaks_of_the_connection() {
    let fields = [("connection", "upgrade"), ("upgrade", "websocket")];
    let switched = head(101, &fields, ASKED, None);
    assert!(switched.starts_with("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n"));
    assert!(!head(200, &[("connection", "close")], ASKED, Some(0)).contains("connection"));
    let old = Asked { old: true, ..ASKED };
    let kept = head(200, &[], old, Some(0));
    assert!(kept.starts_with("HTTP/1.0 200 OK\r\n") && kept.contains("connection: keep-alive\r\n"));
}

#[test]
fn a_chunk_begins_with_its_size() {
    let mut out = Vec::new();
    encode::chunk(&mut out, 0x1a2b);
    assert_eq!(out, b"1a2b\r\n");
}
