//! Verdicts on byte streams: the same however the bytes are cut.

use std::collections::HashSet;

use bytes::BytesMut;
use http::Version;
use proptest::prelude::*;

use super::*;

/// What was read of one request.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    line: String,
    fields: Vec<(String, Vec<u8>)>,
    keep: bool,
    expects: bool,
    framing: Option<Framing>,
    body: Vec<u8>,
    whole: bool,
}

/// What was read of a connection.
#[derive(Debug, Default, PartialEq, Eq)]
struct Stream {
    requests: Vec<Seen>,
    refused: Option<Violation>,
    broken: Option<Violation>,
}

/// Reads what arrives in `pieces`.
fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Stream {
    let (mut reader, mut bytes) = (Reader::new(LIMITS), BytesMut::new());
    let mut stream = Stream::default();
    for piece in pieces {
        bytes.extend_from_slice(piece);
        while advance(&mut reader, &mut bytes, &mut stream) {}
        if stream.refused.is_some() || stream.broken.is_some() {
            break;
        }
    }
    stream
}

/// Takes one step; false when more bytes are needed, or no more are wanted.
fn advance(reader: &mut Reader, bytes: &mut BytesMut, stream: &mut Stream) -> bool {
    if stream.requests.last().is_none_or(|last| last.whole) {
        match reader.head(bytes) {
            Ok(Some(head)) => stream.requests.push(seen(&head)),
            Ok(None) => return false,
            Err(violation) => {
                stream.refused = Some(violation);
                return false;
            }
        }
    }
    let last = stream.requests.last_mut().unwrap();
    match reader.piece(bytes) {
        Ok(Piece::Data(data)) => last.body.extend_from_slice(&data),
        Ok(Piece::End) => last.whole = true,
        Ok(Piece::More) => return false,
        Err(violation) => {
            stream.broken = Some(violation);
            return false;
        }
    }
    true
}

fn seen(head: &Head) -> Seen {
    let parts = &head.parts;
    let version = if parts.version == Version::HTTP_10 { "1.0" } else { "1.1" };
    let fields = parts.headers.iter();
    Seen {
        line: format!("{} {} {version}", parts.method, parts.uri),
        fields: fields.map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect(),
        keep: head.keep,
        expects: head.expects,
        framing: Some(head.framing),
        body: Vec::new(),
        whole: false,
    }
}

fn whole(bytes: &[u8]) -> Stream {
    read([bytes])
}

fn byte_by_byte(bytes: &[u8]) -> Stream {
    read(bytes.chunks(1))
}

#[test]
fn a_bad_head_is_refused() {
    let before = b"GET /first HTTP/1.1\r\nHost: a\r\n\r\n";
    for (bytes, violation) in bad_heads() {
        let name = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]).into_owned();
        for seen in [whole(&bytes), byte_by_byte(&bytes), read(bytes.chunks(7))] {
            assert_eq!(seen.refused, Some(violation), "{name:?}");
            assert!(seen.requests.is_empty(), "{name:?}");
        }
        let seen = whole(&[&before[..], &bytes].concat());
        assert_eq!((seen.refused, seen.requests.len()), (Some(violation), 1), "{name:?}");
    }
}

#[test]
fn a_good_request_is_read_whole() {
    let requests = good_requests();
    for (bytes, framing) in &requests {
        let name = String::from_utf8_lossy(bytes).into_owned();
        let one = whole(bytes);
        assert_eq!((one.refused, one.broken), (None, None), "{name:?}");
        assert_eq!(one.requests.len(), 1, "{name:?}");
        assert_eq!(one.requests[0].framing, Some(*framing), "{name:?}");
        assert!(one.requests[0].whole, "{name:?}");
        let end = bytes.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
        if let Framing::Length(_) = framing {
            assert_eq!(one.requests[0].body, &bytes[end..], "{name:?}");
        }
        for cut in [byte_by_byte(bytes), read(bytes.chunks(3))] {
            assert_eq!(cut, one, "{name:?}");
        }
    }
    let count = requests.len();
    let pipeline: Vec<u8> = requests.into_iter().flat_map(|(bytes, _)| bytes).collect();
    assert_eq!(whole(&pipeline).requests.len(), count);
    assert_eq!(whole(&pipeline), byte_by_byte(&pipeline));
}

#[test]
fn bodies_are_what_their_framing_says() {
    let chunked = |body: &str| {
        let head = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
        let seen = byte_by_byte(format!("{head}{body}").as_bytes());
        assert!(seen.requests[0].whole && seen.broken.is_none(), "{body}");
        String::from_utf8(seen.requests.into_iter().next().unwrap().body).unwrap()
    };
    assert_eq!(chunked("0\r\n\r\n"), "");
    assert_eq!(chunked("5\r\nhello\r\n000a\r\n0123456789\r\n0\r\nA: b\r\n\r\n"), "hello0123456789");
    assert_eq!(chunked("2;a=\"b\"\r\n\r\n\r\n0 ;x\r\n\r\n"), "\r\n");
}

/// An upload whose chunks have extensions was refused after some hundred KiB.
#[test]
fn a_long_body_may_have_extensions() {
    for (size, line) in [(1024, "400;e=0123456789"), (1, "1;e=01234"), (3, "3 ;e=012345678")] {
        let chunk = format!("{line}\r\n{}\r\n", "x".repeat(size));
        let body = format!("{}0\r\n\r\n", chunk.repeat(1000));
        let head = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
        let seen = whole(format!("{head}{body}").as_bytes());
        assert!(seen.broken.is_none(), "{line}: {:?}", seen.broken);
        assert_eq!(seen.requests[0].body.len(), size * 1000, "{line}");
    }
}

#[test]
fn what_a_head_says_of_its_connection_is_read() {
    let of = |version: &str, lines: &str| {
        let text = format!("POST / HTTP/{version}\r\nContent-Length: 1\r\n{lines}\r\n");
        let seen = whole(text.as_bytes());
        (seen.requests[0].keep, seen.requests[0].expects)
    };
    assert_eq!(of("1.1", ""), (true, false));
    assert_eq!(of("1.0", ""), (false, false));
    assert_eq!(of("1.0", "Connection: Keep-Alive\r\n"), (true, false));
    assert_eq!(of("1.1", "Connection: x, Close\r\n"), (false, false));
    assert_eq!(of("1.1", "Connection: close\r\nConnection: keep-alive\r\n"), (false, false));
    assert_eq!(of("1.1", "Connection: closed\r\n"), (true, false));
    assert_eq!(of("1.1", "Expect: 100-Continue\r\n"), (true, true));
    assert_eq!(of("1.0", "Expect: 100-continue\r\n"), (false, false));
    let empty = whole(b"GET / HTTP/1.1\r\nExpect: 100-continue\r\n\r\n");
    assert!(!empty.requests[0].expects, "there is nothing to wait for");
}

#[test]
fn fields_are_taken_over_as_they_are() {
    let seen = whole(b"GET / HTTP/1.1\r\nX-A:  b\t\r\nx-a:\r\nCookie: a=\xe9; b \r\n\r\n");
    let fields: Vec<_> =
        seen.requests[0].fields.iter().map(|(name, value)| (name.as_str(), &value[..])).collect();
    assert_eq!(fields, [("x-a", &b"b"[..]), ("x-a", b""), ("cookie", b"a=\xe9; b")]);
}

#[test]
fn bounds_are_exact() {
    let verdict = |bytes: &[u8]| whole(bytes).refused;
    let line = |len: usize| format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(len - 14)).into_bytes();
    assert_eq!(verdict(&line(1024)), None);
    assert_eq!(verdict(&line(1025)), Some(Violation::UriTooLong));
    let head =
        |len: usize| format!("GET / HTTP/1.1\r\nX:{}\r\n\r\n", "a".repeat(len - 22)).into_bytes();
    assert_eq!(head(4096).len(), 4096);
    assert_eq!(verdict(&head(4096)), None);
    assert_eq!(verdict(&head(4097)), Some(Violation::HeadTooLarge));
    let length = |n: &str| format!("GET / HTTP/1.1\r\nContent-Length: {n}\r\n\r\n").into_bytes();
    let largest = whole(&length("9223372036854775807"));
    assert_eq!(largest.requests[0].framing, Some(Framing::Length(i64::MAX as u64)));
}

#[test]
fn an_endless_head_is_refused_at_the_bound() {
    let mut bytes = b"GET / HTTP/1.1\r\nX: ".to_vec();
    bytes.resize(4096, b'a');
    assert_eq!(byte_by_byte(&bytes).refused, None);
    bytes.push(b'a');
    assert_eq!(byte_by_byte(&bytes).refused, Some(Violation::HeadTooLarge));
}

#[test]
fn a_target_that_is_no_uri_is_refused() {
    for target in ["http://", "http://a:b:c/", "http://[::1/", "https://a b/"] {
        let seen = whole(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
        assert!(seen.refused.is_some() && seen.requests.is_empty(), "{target}");
    }
}

#[test]
fn a_bad_body_is_noticed() {
    for (bytes, violation) in bad_bodies() {
        let name = String::from_utf8_lossy(&bytes[..bytes.len().min(120)]).into_owned();
        for seen in [whole(&bytes), byte_by_byte(&bytes), read(bytes.chunks(5))] {
            assert_eq!((seen.refused, seen.broken), (None, Some(violation)), "{name:?}");
            assert!(seen.requests.len() == 1 && !seen.requests[0].whole, "{name:?}");
        }
    }
}

#[test]
fn codes_are_unique_and_kebab_case() {
    let verdicts = bad_heads().into_iter().chain(bad_bodies());
    let all: HashSet<Violation> = verdicts.map(|(_, v)| v).collect();
    let codes: HashSet<&str> = all.iter().map(|v| v.code()).collect();
    assert_eq!((all.len(), codes.len()), (27, 27), "a violation without a test: {all:?}");
    for violation in all {
        let kebab = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        assert!(violation.code().bytes().all(kebab));
        assert!((400..=505).contains(&violation.status()));
        assert!(violation.to_string().len() > 20);
    }
}

/// Streams out of the tables above and of noise that looks like HTTP.
fn nasty_stream() -> impl Strategy<Value = Vec<u8>> {
    let good: Vec<Vec<u8>> = good_requests().into_iter().map(|(b, _)| b).collect();
    let bad: Vec<Vec<u8>> = bad_heads()
        .into_iter()
        .chain(bad_bodies())
        .map(|(b, _)| b)
        .filter(|b| b.len() < 3000)
        .collect();
    let noise = prop::collection::vec(
        prop::sample::select(b"GET / HTTP/1.1\r\n\r\n\r\n: a0;5\0\t\xffConte-Lgh".to_vec()),
        0..40,
    );
    let piece = prop_oneof![
        6 => prop::sample::select(good),
        2 => prop::sample::select(bad),
        1 => noise,
    ];
    let edits = prop::collection::vec((any::<prop::sample::Index>(), 0u8..4), 0..3);
    (prop::collection::vec(piece, 1..5), edits).prop_map(|(pieces, edits)| {
        let mut bytes = pieces.concat();
        for (index, edit) in edits {
            if bytes.is_empty() {
                break;
            }
            let at = index.index(bytes.len());
            match edit {
                0 => drop(bytes.remove(at)),
                1 => bytes.insert(at, b'\r'),
                2 => bytes.insert(at, b'\n'),
                _ => bytes.swap(at, 0),
            }
        }
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_split_gives_the_same_verdict(
        bytes in nasty_stream(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let mut cuts: Vec<usize> = cuts.iter().map(|i| i.index(bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let cut = read(cuts.windows(2).map(|w| &bytes[w[0]..w[1]]));
        prop_assert_eq!(whole(&bytes), cut);
    }

    #[test]
    fn reading_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = whole(&bytes);
    }
}
