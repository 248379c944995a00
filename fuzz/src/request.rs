//! Requests on an HTTP/1.1 connection: what is read does not depend on how the bytes arrive, and agrees
//! with a second reading of the same bytes.

use bytes::BytesMut;
use http::Version;
use portcullis::serve::http1::{Framing, Head, HeadLimits, Piece, Reader, Violation};

/// Words of requests.
pub const WORDS: &[&str] = &[
    "GET / HTTP/1.1\r\n",
    "POST /a HTTP/1.0\r\n",
    "\r\n",
    "\r\n\r\n",
    "\n",
    "\r",
    ":",
    " ",
    "\t",
    "Host: a\r\n",
    "Content-Length: 5\r\n",
    "Content-Length: 0\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: gzip, chunked\r\n",
    "Upgrade: x\r\n",
    "0\r\n\r\n",
    "5\r\nhello\r\n",
    ";x=y",
    "ffffffffffffffff",
    "hello",
    "0",
    "a",
    "_",
    "\u{0}",
    "HTTP/2.0",
    "http://",
    "*",
    "?",
    "#",
    "\\",
    "CONNECT",
    "Expect: 100-continue\r\n",
    "X: y\r\n",
];

/// Small, so that the bounds are reached too.
const LIMITS: HeadLimits = HeadLimits { request_line: 64, head: 512, fields: 8 };
/// As for every trailer section.
const TRAILER: HeadLimits = HeadLimits { head: 16 * 1024, ..LIMITS };

/// Reads `data` as what a client sends on one connection.
pub fn run(data: &[u8]) {
    let data = data.get(..4096).unwrap_or(data);
    let whole = drive(data, &[]);
    check_model(data, &whole);
    for cut in cuts(data.len()) {
        assert_eq!(whole, drive(data, &[cut]), "it depends on how the bytes arrive");
    }
    let single: Vec<usize> = (1..data.len()).collect();
    assert_eq!(whole, drive(data, &single), "it depends on how the bytes arrive");
}

/// Everywhere in short inputs, here and there in long ones.
fn cuts(length: usize) -> impl Iterator<Item = usize> {
    (1..length).step_by(1 + length / 128)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// All bytes were taken in.
    End,
    /// The next head was refused.
    Refused(Violation),
    /// The body of the last request is not sound.
    Broken(Violation),
}

#[derive(Debug, PartialEq, Eq)]
struct Request {
    head: String,
    framing: Framing,
    body: Vec<u8>,
    whole: bool,
}

#[derive(Debug, PartialEq, Eq)]
struct Seen {
    requests: Vec<Request>,
    verdict: Verdict,
}

/// Reads `data`, cut at `cuts`.
fn drive(data: &[u8], cuts: &[usize]) -> Seen {
    let (mut reader, mut bytes) = (Reader::new(LIMITS), BytesMut::new());
    let mut requests = Vec::new();
    let mut start = 0;
    for &cut in cuts.iter().chain([&data.len()]) {
        bytes.extend_from_slice(data.get(start..cut).unwrap_or_default());
        start = cut;
        if let Some(verdict) = advance(&mut reader, &mut bytes, &mut requests) {
            return Seen { requests, verdict };
        }
    }
    Seen { requests, verdict: Verdict::End }
}

/// Reads on as far as `bytes` goes; a verdict when no more may be read.
fn advance(
    reader: &mut Reader,
    bytes: &mut BytesMut,
    requests: &mut Vec<Request>,
) -> Option<Verdict> {
    loop {
        match requests.last_mut().filter(|last| !last.whole) {
            None => match reader.head(bytes) {
                Ok(Some(Head { parts, framing, .. })) => {
                    let (method, uri, fields) = (&parts.method, &parts.uri, &parts.headers);
                    let head = format!("{method} {uri} {:?} {fields:?}", parts.version);
                    requests.push(Request { head, framing, body: Vec::new(), whole: false });
                }
                Ok(None) => return None,
                Err(violation) => return Some(Verdict::Refused(violation)),
            },
            Some(last) => match reader.piece(bytes) {
                Ok(Piece::Data(data)) => last.body.extend_from_slice(&data),
                Ok(Piece::End) => last.whole = true,
                Ok(Piece::More) => return None,
                Err(violation) => return Some(Verdict::Broken(violation)),
            },
        }
    }
}

/// Reads one complete head; `None` when it does not end where it should.
fn judge(head: &[u8], limits: HeadLimits) -> Result<Option<Head>, Violation> {
    let mut bytes = BytesMut::from(head);
    let head = Reader::new(limits).head(&mut bytes)?;
    Ok(head.filter(|_| bytes.is_empty()))
}

/// Where a plain reader of the whole input stands at its end.
#[derive(Debug)]
enum Place {
    /// Before a head, at this offset; the rest is no complete sound head.
    Head(usize),
    /// In a body that is sound so far.
    Body,
    /// In an incomplete trailer section.
    Trailer,
    /// In chunked framing that is not sound.
    Unsound,
}

fn check_model(data: &[u8], whole: &Seen) {
    let (bodies, place) = read(data);
    let begun = bodies.len() + usize::from(!matches!(place, Place::Head(_)));
    assert_eq!(whole.requests.len(), begun, "read as {place:?}, judged as {:?}", whole.verdict);
    for (request, body) in whole.requests.iter().zip(&bodies) {
        assert!(request.whole && request.body == *body, "another body: {request:?}");
    }
    match (place, whole.verdict) {
        (Place::Head(at), Verdict::Refused(violation)) => {
            assert_eq!(judge(&data[at..], LIMITS).map(|_| ()), Err(violation));
        }
        (Place::Head(_) | Place::Trailer | Place::Body, Verdict::End) => {}
        (Place::Unsound | Place::Trailer, Verdict::Broken(_)) => {}
        // Bounds on extensions and trailers are the reader's alone.
        (Place::Body, Verdict::Broken(Violation::ChunkExtensions | Violation::ChunkLine)) => {}
        (place, verdict) => panic!("read as {place:?}, judged as {verdict:?}"),
    }
}

/// The bodies of all whole requests, and what comes behind the last.
fn read(data: &[u8]) -> (Vec<Vec<u8>>, Place) {
    let (mut at, mut bodies) = (0, Vec::new());
    loop {
        let rest = &data[at..];
        let blank = if rest.starts_with(b"\r\n") { 2 } else { 0 };
        let end = find(&rest[blank..], b"\r\n\r\n").map(|end| blank + end + 4);
        let Some(text) = end.map(|end| &rest[..end]) else { return (bodies, Place::Head(at)) };
        let Ok(Some(head)) = judge(text, LIMITS) else { return (bodies, Place::Head(at)) };
        check_head(text, &head);
        at += text.len();
        let mut body = Vec::new();
        match head.framing {
            Framing::Empty => {}
            Framing::Length(length) => match usize::try_from(length) {
                Ok(length) if length <= data.len() - at => {
                    body.extend_from_slice(&data[at..at + length]);
                    at += length;
                }
                _ => return (bodies, Place::Body),
            },
            Framing::Chunked => match read_chunks(data, at, &mut body) {
                Ok(end) => at = end,
                Err(place) => return (bodies, place),
            },
        }
        bodies.push(body);
    }
}

/// The end of a chunked body with its trailers, or where it stops being one.
fn read_chunks(data: &[u8], mut at: usize, body: &mut Vec<u8>) -> Result<usize, Place> {
    loop {
        let line = find(&data[at..], b"\n").map(|end| &data[at..=at + end]);
        let Some(line) = line else { return Err(in_size(&data[at..])) };
        let Some(size) = chunk_size(line) else { return Err(Place::Unsound) };
        at += line.len();
        if size == 0 {
            return read_trailer(data, at);
        }
        let left = (data.len() - at) as u64;
        if size > left {
            return Err(Place::Body);
        }
        let size = usize::try_from(size).unwrap();
        body.extend_from_slice(&data[at..at + size]);
        at += size;
        match &data[at..] {
            [b'\r', b'\n', ..] => at += 2,
            [] | [b'\r'] => return Err(Place::Body),
            _ => return Err(Place::Unsound),
        }
    }
}

/// A chunk-size line whose end has not come: sound unless its digits are not.
fn in_size(part: &[u8]) -> Place {
    let digits = part.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let sound = match (digits, part.get(digits)) {
        (_, None) => digits <= 16,
        (0, Some(_)) => false,
        (_, Some(next)) => digits <= 16 && b" \t;\r".contains(next),
    };
    if sound { Place::Body } else { Place::Unsound }
}

/// RFC 9112 7.1, without a judgement of the extensions but for control bytes.
fn chunk_size(line: &[u8]) -> Option<u64> {
    let line = line.strip_suffix(b"\r\n")?;
    let control = |byte: &u8| byte.is_ascii_control() && *byte != b'\t';
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let (digits, rest) = line.split_at(digits);
    let extension = rest.trim_ascii_start();
    if !(1..=16).contains(&digits.len())
        || !(rest.is_empty() || extension.first() == Some(&b';'))
        || rest.iter().any(control)
    {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

fn read_trailer(data: &[u8], start: usize) -> Result<usize, Place> {
    // The reader's judgement of a field is that of a head; only the end is found anew here.
    let rest = &data[start..];
    if rest.starts_with(b"\r\n") {
        return Ok(start + 2);
    }
    let Some(end) = find(rest, b"\r\n\r\n") else { return Err(Place::Trailer) };
    let lines: Vec<&[u8]> = split_lines(&rest[..end]);
    // What frames a body means nothing in a trailer.
    let meaningless = |error: &Violation| {
        use Violation as V;
        matches!(error, V::ContentLength | V::ContentLengthRepeated | V::TransferEncoding)
    };
    let sound = lines.iter().all(|line| {
        let as_head = [b"GET / HTTP/1.1\r\n", *line, b"\r\n\r\n"].concat();
        judge(&as_head, TRAILER).as_ref().map_or_else(meaningless, |_| true)
    });
    match sound && lines.len() <= LIMITS.fields {
        true => Ok(start + end + 4),
        false => Err(Place::Unsound),
    }
}

/// A second parser must see the same head.
fn check_head(text: &[u8], head: &Head) {
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut request = httparse::Request::new(&mut fields);
    let parsed = request.parse(text);
    assert_eq!(parsed, Ok(httparse::Status::Complete(text.len())), "the head ends elsewhere");
    let parts = &head.parts;
    assert_eq!(request.method, Some(parts.method.as_str()));
    assert_eq!(request.version == Some(1), parts.version == Version::HTTP_11);
    assert_eq!(request.headers.len(), parts.headers.len());
    for field in request.headers.iter() {
        let values = parts.headers.get_all(field.name);
        let value = field.value.trim_ascii();
        assert!(values.iter().any(|seen| seen.as_bytes().trim_ascii() == value), "another field");
    }
    let values = |name: &str| {
        let fields = request.headers.iter().filter(|field| field.name.eq_ignore_ascii_case(name));
        fields.map(|field| field.value.trim_ascii().to_vec()).collect::<Vec<_>>()
    };
    let (lengths, codings) = (values("content-length"), values("transfer-encoding"));
    match head.framing {
        Framing::Chunked => {
            assert!(lengths.is_empty() && request.version == Some(1));
            assert!(codings.len() == 1 && codings[0].eq_ignore_ascii_case(b"chunked"));
        }
        Framing::Empty => {
            assert!(codings.is_empty() && lengths.len() <= 1);
            assert!(lengths.iter().all(|length| length.iter().all(|digit| *digit == b'0')));
        }
        Framing::Length(length) => {
            assert!(codings.is_empty() && lengths.len() == 1 && length > 0);
            let text = std::str::from_utf8(&lengths[0]).unwrap();
            assert_eq!(text.parse(), Ok(length), "another length");
        }
    }
}

fn split_lines(mut text: &[u8]) -> Vec<&[u8]> {
    let mut lines = Vec::new();
    while let Some(end) = find(text, b"\r\n") {
        lines.push(&text[..end]);
        text = &text[end + 2..];
    }
    lines.push(text);
    lines
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|window| window == wanted)
}
