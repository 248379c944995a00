//! HTTP/1 framing: the scanner's verdict does not depend on how the bytes arrive, it passes the
//! input unchanged, and it agrees with a second reading of the same bytes.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use portcullis::serve::wire::{Body, Framing, Scan, Violation, WireLimits, judge_head};
use tokio::io::{AsyncRead, ReadBuf};

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
const LIMITS: WireLimits = WireLimits { request_line: 64, head: 512, fields: 8 };
/// What hyper gets in place of a refused head.
const REFUSED: &[u8] = b"GET / HTTP/1.1\r\nHost: invalid\r\nConnection: close\r\n\r\n";
/// As for every trailer section.
const TRAILER: WireLimits = WireLimits { head: 16 * 1024, ..LIMITS };

/// Reads `data` as what a client sends on one connection.
pub fn run(data: &[u8]) {
    let data = data.get(..4096).unwrap_or(data);
    let whole = drive(data, &[], 8192, None);
    check_bytes(data, &whole);
    check_model(data, &whole);
    let tunnelled = drive(data, &[], 8192, Some(0));
    for cut in cuts(data.len()) {
        same(&whole, &drive(data, &[cut], 8192, None), data);
        same(&tunnelled, &drive(data, &[cut], 8192, Some(0)), data);
    }
    let single: Vec<usize> = (1..data.len()).collect();
    same(&whole, &drive(data, &single, 8192, None), data);
    same(&whole, &drive(data, &single, 1, None), data);
    same(&whole, &drive(data, &[], 7, None), data);
}

/// Everywhere in short inputs, here and there in long ones.
fn cuts(length: usize) -> impl Iterator<Item = usize> {
    (1..length).step_by(1 + length / 128)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// All bytes were taken in.
    End,
    /// This head was refused.
    Refused(u64, Violation),
    /// The connection was broken in a body.
    Broken(Violation),
}

#[derive(Debug)]
struct Seen {
    passed: Vec<u8>,
    verdict: Verdict,
}

/// A client whose bytes arrive in pieces.
struct Pieces<'a>(VecDeque<&'a [u8]>);

impl AsyncRead for Pieces<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(piece) = self.0.pop_front() {
            let (now, later) = piece.split_at(piece.len().min(buf.remaining()));
            buf.put_slice(now);
            if !later.is_empty() {
                self.0.push_front(later);
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// Reads `data`, cut at `cuts`, through the scanner into buffers of `room` bytes. The service makes
/// the head `tunnel` a tunnel if it asks for that, and no other.
fn drive(data: &[u8], cuts: &[usize], room: usize, tunnel: Option<u64>) -> Seen {
    let mut pieces = VecDeque::new();
    let mut start = 0;
    for &cut in cuts.iter().chain([&data.len()]) {
        if cut > start {
            pieces.push_back(&data[start..cut]);
            start = cut;
        }
    }
    let (mut scan, handle) = Scan::new(Pieces(pieces), LIMITS);
    let mut cx = Context::from_waker(Waker::noop());
    let (mut passed, mut memory, mut next) = (Vec::new(), vec![0; room], 0);
    let verdict = loop {
        let mut buf = ReadBuf::new(&mut memory);
        match Pin::new(&mut scan).poll_read(&mut cx, &mut buf) {
            Poll::Ready(Ok(())) if buf.filled().is_empty() => break Verdict::End,
            Poll::Ready(Ok(())) => passed.extend_from_slice(buf.filled()),
            Poll::Ready(Err(error)) => {
                let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Violation>());
                break Verdict::Broken(*inner.expect("only violations break a connection"));
            }
            Poll::Pending => match handle.violation() {
                Some((head, violation)) => break Verdict::Refused(head, violation),
                None => {
                    assert!(next <= data.len() as u64, "it waits for a decision on no request");
                    match tunnel == Some(next) {
                        true => handle.pass_through(next),
                        false => handle.resume(next),
                    }
                    next += 1;
                }
            },
        }
    };
    Seen { passed, verdict }
}

fn same(whole: &Seen, other: &Seen, data: &[u8]) {
    assert_eq!(whole.verdict, other.verdict, "the verdict depends on how the bytes arrive");
    match whole.verdict {
        // What was read together with the breach is not passed on.
        Verdict::Broken(_) => assert!(data.starts_with(&other.passed), "bytes were changed"),
        _ => assert_eq!(whole.passed, other.passed, "what passes depends on how it arrives"),
    }
}

/// How many bytes of the input passed, after checking that they are the input's.
fn check_bytes(data: &[u8], seen: &Seen) -> usize {
    let own = match seen.verdict {
        Verdict::Refused(..) => seen.passed.strip_suffix(REFUSED).expect("the synthetic head"),
        _ => &seen.passed,
    };
    assert!(data.starts_with(own), "bytes were changed");
    own.len()
}

/// Where a plain reader of the whole input stands at its end.
#[derive(Debug)]
enum Place {
    /// Before head number `.0`, at offset `.1`; the rest is no complete sound head.
    Head(u64, usize),
    /// In a body that is sound so far; everything may have passed.
    Body,
    /// In an incomplete trailer section that starts here.
    Trailer(usize),
    /// In chunked framing that is not sound.
    Unsound,
}

fn check_model(data: &[u8], whole: &Seen) {
    let passed = check_bytes(data, whole);
    match (read(data), whole.verdict) {
        (Place::Head(head, at), Verdict::Refused(refused, violation)) => {
            assert_eq!((head, at), (refused, passed), "another head was refused");
            assert_eq!(judge_head(&data[at..], &LIMITS), Err(violation));
        }
        (Place::Head(_, at) | Place::Trailer(at), Verdict::End) => assert_eq!(passed, at),
        (Place::Body, Verdict::End) => assert_eq!(passed, data.len()),
        (Place::Unsound | Place::Trailer(_), Verdict::Broken(_)) => {}
        // Bounds on extensions and trailers are the scanner's alone.
        (Place::Body, Verdict::Broken(Violation::ChunkExtensions | Violation::ChunkLine)) => {}
        (place, verdict) => panic!("read as {place:?}, judged as {verdict:?}"),
    }
}

fn read(data: &[u8]) -> Place {
    let (mut at, mut head) = (0, 0);
    loop {
        let rest = &data[at..];
        let blank = if rest.starts_with(b"\r\n") { 2 } else { 0 };
        let Some(end) = find(&rest[blank..], b"\r\n\r\n") else { return Place::Head(head, at) };
        let text = &rest[..blank + end + 4];
        let Ok(framing) = judge_head(text, &LIMITS) else { return Place::Head(head, at) };
        check_head(text, framing);
        at += text.len();
        head += 1;
        match framing.body {
            Body::Empty => {}
            Body::Length(length) => match usize::try_from(length) {
                Ok(length) if length <= data.len() - at => at += length,
                _ => return Place::Body,
            },
            Body::Chunked => match read_chunks(data, at) {
                Ok(end) => at = end,
                Err(place) => return place,
            },
        }
    }
}

/// The end of a chunked body with its trailers, or where it stops being one.
fn read_chunks(data: &[u8], mut at: usize) -> Result<usize, Place> {
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
        at += usize::try_from(size).unwrap();
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
    // The scanner's judgement of a field is that of a head; only the end is found anew here.
    let rest = &data[start..];
    if rest.starts_with(b"\r\n") {
        return Ok(start + 2);
    }
    let Some(end) = find(rest, b"\r\n\r\n") else { return Err(Place::Trailer(start)) };
    let lines: Vec<&[u8]> = split_lines(&rest[..end]);
    // What frames a body means nothing in a trailer.
    let meaningless = |error: &Violation| {
        use Violation as V;
        matches!(error, V::ContentLength | V::ContentLengthRepeated | V::TransferEncoding)
    };
    let sound = lines.iter().all(|line| {
        let as_head = [b"GET / HTTP/1.1\r\n", *line, b"\r\n\r\n"].concat();
        judge_head(&as_head, &TRAILER).as_ref().map_or_else(meaningless, |_| true)
    });
    match sound && lines.len() <= LIMITS.fields {
        true => Ok(start + end + 4),
        false => Err(Place::Unsound),
    }
}

/// hyper reads heads with this parser: it must see what the scanner saw.
fn check_head(head: &[u8], framing: Framing) {
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut request = httparse::Request::new(&mut fields);
    let parsed = request.parse(head);
    assert_eq!(parsed, Ok(httparse::Status::Complete(head.len())), "hyper sees another head");
    let values = |name: &str| {
        let fields = request.headers.iter().filter(|field| field.name.eq_ignore_ascii_case(name));
        fields.map(|field| field.value.trim_ascii().to_vec()).collect::<Vec<_>>()
    };
    let (lengths, codings) = (values("content-length"), values("transfer-encoding"));
    match framing.body {
        Body::Chunked => {
            assert!(lengths.is_empty() && request.version == Some(1));
            assert!(codings.len() == 1 && codings[0].eq_ignore_ascii_case(b"chunked"));
        }
        Body::Empty => {
            assert!(codings.is_empty() && lengths.len() <= 1);
            assert!(lengths.iter().all(|length| length.iter().all(|digit| *digit == b'0')));
        }
        Body::Length(length) => {
            assert!(codings.is_empty() && lengths.len() == 1 && length > 0);
            let text = std::str::from_utf8(&lengths[0]).unwrap();
            assert_eq!(text.parse(), Ok(length), "hyper reads another length");
        }
    }
    assert_eq!(framing.upgrade, request.version == Some(1) && !values("upgrade").is_empty());
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
