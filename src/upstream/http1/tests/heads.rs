//! Heads of answers: framing, limits, and that it does not matter how the bytes arrive.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request, StatusCode};
use proptest::prelude::*;

use super::super::head::{self, Framing, HEAD, Head, Reader, Sending};
use crate::headers::AnswerHead;

/// Feeds `bytes` in pieces that end at `cuts`. The head comes with all that is behind it.
fn read(bytes: &[u8], cuts: &[usize], to_head: bool) -> Result<Option<Head>, &'static str> {
    let (mut reader, mut buffer, mut start) = (Reader::default(), BytesMut::new(), 0);
    for &cut in cuts.iter().chain([&bytes.len()]) {
        buffer.extend_from_slice(&bytes[start..cut]);
        start = cut;
        if let Some(mut head) = reader.advance(&mut buffer, to_head, &mut |_| {})? {
            assert!(buffer.is_empty(), "bytes are in two places");
            head.rest = [&head.rest, &bytes[start..]].concat().into();
            return Ok(Some(head));
        }
    }
    Ok(None)
}

fn whole(bytes: &[u8]) -> Result<Option<Head>, &'static str> {
    read(bytes, &[], false)
}

/// What tells two heads apart.
fn facts(head: &Head) -> (StatusCode, HeaderMap, Framing, bool, &Bytes) {
    let fields = head.answer.fields.clone().into_map();
    (head.answer.status, fields, head.framing, head.keep, &head.rest)
}

/// The same result however `bytes` are cut. In pieces an error may be seen later, or never if what
/// came before was no head.
fn same(bytes: &[u8], cuts: &[usize]) {
    let (one, other) = (whole(bytes), read(bytes, cuts, false));
    match (&one, &other) {
        (Ok(Some(one)), Ok(Some(other))) => assert_eq!(facts(one), facts(other), "{cuts:?}"),
        (Ok(None), Ok(None)) | (Err(_), Err(_) | Ok(None)) => {}
        _ => panic!("{one:?}, but cut at {cuts:?} {other:?}"),
    }
}

const ANSWERS: &[&str] = &[
    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-Y: z\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\nContent-Length: 5\n\nhello\n\n",
    "HTTP/1.1 200 OK\r\nContent-Length: 5\n\r\nhello",
    "\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
    "\n\nHTTP/1.1 200 OK\n\n",
    "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No\r\n\r\n",
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n\x01\r\n\r\n\x02",
    "HTTP/1.0 200\r\n\r\nrest",
    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\nX: \0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nX : y\r\n\r\n",
    "HTTP/1.1 200 OK\r\nX: y\r\n z\r\n\r\n",
    "HTTP/1.1 20",
    "\r\n\r\n",
    "",
];

#[test]
fn every_split_gives_the_same_head() {
    for answer in ANSWERS {
        let bytes = answer.as_bytes();
        same(bytes, &(0..bytes.len()).collect::<Vec<_>>());
        for first in 0..bytes.len() {
            for second in (first..bytes.len()).step_by(7) {
                same(bytes, &[first, second]);
            }
        }
    }
}

proptest! {
    #[test]
    fn every_cutting_of_anything_gives_the_same_head(
        parts in prop::collection::vec(
            prop_oneof![
                prop::sample::select(ANSWERS).prop_map(str::to_owned),
                prop::sample::select(&["\r\n", "\n", "\r", ":", "HTTP/1.1 ", "200 ", "100 ", "X: y\r\n",
                    "Content-Length: 3\r\n", "Connection: close\r\n", "\0", "\u{e9}"][..])
                    .prop_map(str::to_owned),
            ],
            1..8,
        ),
        mut cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let bytes = parts.concat().into_bytes();
        let mut cuts: Vec<usize> = cuts.drain(..).map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.sort_unstable();
        same(&bytes, &cuts);
    }
}

fn framing(status: &str, lines: &str, to_head: bool) -> Result<(Framing, bool), &'static str> {
    let head = read(format!("HTTP/1.{status}\r\n{lines}\r\n").as_bytes(), &[], to_head)?;
    let head = head.expect("a whole head");
    Ok((head.framing, head.keep))
}

#[test]
fn bodies_are_framed_as_rfc_9112_says() {
    use Framing::{Chunked, Close, Length};
    let (five, chunks) = ("Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n");
    for (status, lines, to_head, want) in [
        // Section 6.3 item 1.
        ("1 200 OK", five, true, (Length(0), true)),
        ("1 200 OK", chunks, true, (Length(0), true)),
        ("1 204 No Content", "", false, (Length(0), true)),
        ("1 304 Not Modified", five, false, (Length(0), true)),
        ("1 304 Not Modified", chunks, false, (Length(0), true)),
        // Items 4 and 6.
        ("1 200 OK", chunks, false, (Chunked, true)),
        ("1 200 OK", "Transfer-Encoding: \tChunKed \r\n", false, (Chunked, true)),
        ("1 200 OK", five, false, (Length(5), true)),
        ("1 200 OK", "Content-Length: 0\r\n", false, (Length(0), true)),
        ("1 200 OK", "Content-Length: 0005\r\n", false, (Length(5), true)),
        ("1 200 OK", "content-length:18446744073709551615\r\n", false, (Length(u64::MAX), true)),
        ("1 500 Oops", five, false, (Length(5), true)),
        // Item 8.
        ("1 200 OK", "", false, (Close, false)),
        ("1 205 Reset Content", "", false, (Close, false)),
        ("0 200 OK", "", false, (Close, false)),
        // Whether another request may follow (section 9.3).
        ("0 200 OK", five, false, (Length(5), false)),
        ("0 200 OK", "Content-Length: 5\r\nConnection: keep-alive\r\n", false, (Length(5), false)),
        ("1 200 OK", "Content-Length: 5\r\nConnection: close\r\n", false, (Length(5), false)),
        ("1 200 OK", "Content-Length: 5\r\nConnection: x, CLOSE ,y\r\n", false, (Length(5), false)),
        ("1 200 OK", "Content-Length: 5\r\nConnection: closed\r\n", false, (Length(5), true)),
        (
            "1 200 OK",
            "Content-Length: 5\r\nConnection: a\r\nConnection: close\r\n",
            false,
            (Length(5), false),
        ),
        // A 204 that speaks of a body may be followed by one.
        ("1 204 No Content", five, false, (Length(0), false)),
        ("1 204 No Content", chunks, false, (Length(0), false)),
        ("1 204 No Content", "Content-Length: 0\r\n", false, (Length(0), true)),
    ] {
        assert_eq!(framing(status, lines, to_head), Ok(want), "{status} {lines:?} {to_head}");
    }
}

#[test]
fn framing_that_can_be_read_in_two_ways_is_refused() {
    let refused = [
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 5, 5\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: -5\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length: 5 5\r\n",
        "Content-Length: 5.0\r\n",
        "Content-Length: \r\n",
        "Content-Length: \u{665}\r\n",
        "Content-Length: 18446744073709551616\r\n",
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked, chunked\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n",
        "Transfer-Encoding: chunked;q=1\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding: \r\n",
        "Transfer-Encoding : chunked\r\n",
        "Transfer-Encoding\r\n",
        " Content-Length: 5\r\n",
    ];
    for lines in refused {
        for (status, to_head) in
            [("1 200 OK", false), ("1 200 OK", true), ("1 304 Not Modified", false)]
        {
            let read = framing(status, lines, to_head);
            assert!(read.is_err(), "{status} {lines:?} {to_head}: {read:?}");
        }
    }
    assert!(framing("0 200 OK", "Transfer-Encoding: chunked\r\n", false).is_err());
    for line in ["HTTP/1.1 1000 X", "HTTP/1.1 20 X", "HTTP/1.1 099 X", "HTTP/2 200 OK", "200 OK"] {
        assert!(whole(format!("{line}\r\n\r\n").as_bytes()).is_err(), "{line}");
    }
}

#[test]
fn interim_answers_are_told_one_by_one_and_are_not_the_answer() {
    let bytes = b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n\
        HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 199 Odd\r\nX: y\r\n\r\n\
        HTTP/1.1 204 No Content\r\nZ: z\r\n\r\n";
    for step in [1, 7, 30, bytes.len()] {
        let (mut reader, mut buffer, mut told) = (Reader::default(), BytesMut::new(), Vec::new());
        let mut last = None;
        for piece in bytes.chunks(step) {
            buffer.extend_from_slice(piece);
            let mut tell =
                |head: Box<AnswerHead>| told.push((head.status.as_u16(), head.fields.into_map()));
            last = last.or(reader.advance(&mut buffer, false, &mut tell).unwrap());
        }
        // The 100 is for the gateway alone, which has asked for no leave to send the body.
        let statuses: Vec<_> = told.iter().map(|(status, _)| *status).collect();
        assert_eq!(statuses, [102, 103, 199], "pieces of {step}");
        assert_eq!(told[1].1["link"], "</x>");
        assert_eq!(told[1].1.len() + told[2].1.len(), 2);
        let last = last.unwrap().answer;
        assert_eq!((last.status.as_u16(), last.fields.into_map().len()), (204, 1));
    }
}

#[test]
fn interim_answers_are_passed_over_up_to_a_bound() {
    let interim = "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n";
    for (count, good) in [(0, true), (1, true), (16, true), (17, false), (50, false)] {
        let answer = format!("{}HTTP/1.1 204 No Content\r\n\r\n", interim.repeat(count));
        for cuts in [vec![], (0..answer.len()).collect()] {
            let head = read(answer.as_bytes(), &cuts, false);
            assert_eq!(head.is_ok(), good, "{count}: {head:?}");
            if let Ok(head) = head {
                let fields = head.unwrap().answer.fields.into_map();
                assert!(fields.is_empty(), "fields of another answer");
            }
        }
    }
}

#[test]
fn heads_are_bounded() {
    let long = |name: usize| format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(name));
    assert!(whole(long(HEAD - 100).as_bytes()).unwrap().is_some());
    assert!(whole(long(HEAD).as_bytes()).is_err());
    let many = |count: usize| format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(count));
    assert!(whole(many(128).as_bytes()).unwrap().is_some());
    assert!(whole(many(129).as_bytes()).is_err());
    // Without an end, in pieces: given up at the bound, not when the memory is.
    let (mut reader, mut buffer) = (Reader::default(), BytesMut::new());
    let mut refused = false;
    for _ in 0..=HEAD / 1000 {
        buffer.extend_from_slice(&[b'H'; 1000]);
        refused |= reader.advance(&mut buffer, false, &mut |_| {}).is_err();
    }
    assert!(refused);
    // Interim answers count together.
    let interim = format!("HTTP/1.1 103 E\r\nX: {}\r\n\r\n", "x".repeat(HEAD / 3));
    let cuts: Vec<usize> = (1..=3).map(|count| count * interim.len()).collect();
    assert!(read((interim.repeat(3) + "HTTP").as_bytes(), &cuts, false).is_err());
}

#[test]
fn trailers_have_one_end_and_name_nothing_that_matters() {
    let fields = head::trailers(
        b"X-Sum: 1\r\nContent-Length: 9\r\nSet-Cookie: a=b\r\nConnection: x\r\nx-sum: 2\r\nTE: x\r\n\r\n",
    );
    let fields = fields.unwrap();
    assert_eq!(fields.len(), 2);
    assert_eq!(fields.get_all("x-sum").iter().count(), 2);
    for section in [
        "\n\r\n",
        "X: y\n\nHTTP/1.1 200 OK\r\nZ: a\r\n\r\n",
        "X: y\r\n",
        "\0: y\r\n\r\n",
        "x\r\n\r\n",
    ] {
        assert!(head::trailers(section.as_bytes()).is_err(), "{section:?}");
    }
}

#[test]
fn a_request_says_how_long_its_body_is() {
    for (method, sending, want) in [
        ("GET", Sending::Nothing, "\r\n"),
        ("DELETE", Sending::Nothing, "\r\n"),
        ("POST", Sending::Nothing, "content-length: 0\r\n\r\n"),
        ("PUT", Sending::Nothing, "content-length: 0\r\n\r\n"),
        ("GET", Sending::Length(5), "content-length: 5\r\n\r\n"),
        ("POST", Sending::Chunked, "transfer-encoding: chunked\r\n\r\n"),
    ] {
        let mut request = Request::new(());
        *request.method_mut() = method.parse().unwrap();
        *request.uri_mut() = "/a?b=%20".parse().unwrap();
        // Whatever the client said of it.
        for (name, value) in [("content-length", "77"), ("transfer-encoding", "gzip")] {
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        if sending == Sending::Nothing {
            request.headers_mut().remove("content-length");
        }
        let mut out = Vec::new();
        head::write(&super::stamped(request), sending, &mut out);
        let text = String::from_utf8(out).unwrap();
        assert!(
            text.starts_with(&format!("{method} /a?b=%20 HTTP/1.1\r\nhost: app\r\n")),
            "{text}"
        );
        assert!(text.ends_with(&format!("x-request-id: r1\r\n{want}")), "{text}");
        assert_eq!(text.matches("content-length").count(), want.matches("content-length").count());
    }
}
