//! What an app sends, over a real socket: the body is what a second reader finds, no byte of it comes
//! twice or from behind its end, and the connection is used again only when the app sent exactly one
//! answer.

use std::future::{Future, poll_fn};
use std::net::Ipv4Addr;
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Version};
use http_body::Body as _;
use portcullis::headers::{
    AnswerHead, Client as From, Extras, Forwarding, Hop, Rules, Stamped, Trust,
};
use portcullis::policy::{Decision, Facts, Rule};
use portcullis::section::{Problems, Section};
use portcullis::timer::Timer;
use portcullis::upstream::{Client, RequestBody, Settings, Upstream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::core;

/// Words of answers.
pub const WORDS: &[&str] = &[
    "HTTP/1.1 200 OK\r\n",
    "HTTP/1.0 200 OK\r\n",
    "HTTP/1.1 100 Continue\r\n\r\n",
    "HTTP/1.1 103 Early Hints\r\n",
    "HTTP/1.1 204 No Content\r\n",
    "HTTP/1.1 304 Not Modified\r\n",
    "HTTP/1.1 101 Switching Protocols\r\n",
    "Content-Length: 5\r\n",
    "Content-Length: 0\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: gzip, chunked\r\n",
    "Connection: close\r\n",
    "Connection: keep-alive\r\n",
    "Trailer: x\r\n",
    "X: y\r\n",
    "5\r\nhello\r\n",
    "0\r\n\r\n",
    "0\r\nX: y\r\n\r\n",
    "fffffffffffffff\r\n",
    ";x=y",
    "hello",
    "\r\n",
    "\r\n\r\n",
    "\n",
    "\r",
    ":",
    " ",
    "\t",
    ",",
    "0",
    "\u{0}",
    "\u{e9}",
];

/// As in the client.
const FIELDS: usize = 128;
const INTERIM: usize = 16;
const PATIENCE: Duration = Duration::from_secs(5);

/// Reads `data` as all that an app sends on one connection.
pub fn run(data: &[u8]) {
    let data = data.get(..4096).unwrap_or(data);
    for method in [Method::GET, Method::HEAD] {
        let model = model(data, method == Method::HEAD);
        core::run(tokio::task::LocalSet::new().run_until(check(data, &method, &model)));
    }
}

/// What came of a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// No answer to hand on.
    Nothing,
    Answer(Answer),
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Vec<u8>,
    trailers: HeaderMap,
    /// Whether the body came to its end.
    pub(crate) whole: bool,
}

/// What a second reader of the whole input finds.
#[derive(Debug)]
struct Model {
    seen: Seen,
    /// Whether the answer ended before the connection did.
    ended: bool,
    /// Whether it was one answer and nothing else, on a connection that may be used again.
    reusable: bool,
}

async fn check(data: &[u8], method: &Method, model: &Model) {
    let app = App::new("http1").await;
    let pieces = [data];
    let (tcp, seen) = tokio::join!(app.answer(&pieces, true), app.ask(method));
    drop(tcp);
    assert_eq!(seen, model.seen, "{method}: another answer than sent");
    if !model.ended {
        return;
    }
    // The connection stays open, and the bytes come in two pieces.
    let app = App::new("http1").await;
    let halves = <[&[u8]; 2]>::from(data.split_at(data.len() / 2));
    let (mut tcp, seen) = tokio::join!(app.answer(&halves, false), app.ask(method));
    assert_eq!(seen, model.seen, "{method}: it depends on how the bytes arrive");
    assert_eq!(app.is_asked_again(&mut tcp).await, model.reusable, "{method}: used again");
}

/// An app, and the client that speaks with it.
pub(crate) struct App {
    pub(crate) listener: TcpListener,
    upstream: Arc<Upstream>,
    client: Client,
}

impl App {
    pub(crate) async fn new(protocol: &str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let problems = Problems::default();
        let url = format!("http://127.0.0.1:{port}");
        let text = format!("name = \"a\"\nurl = \"{url}\"\nprotocol = \"{protocol}\"");
        let settings = Settings::read(&mut Section::parse(Path::new("c.toml"), text, &problems));
        let client = Client::new(Timer::new(core::clock()));
        Self { listener, upstream: Arc::new(Upstream::new(settings, None)), client }
    }

    /// Takes one request and answers with `pieces`.
    async fn answer(&self, pieces: &[&[u8]], close: bool) -> TcpStream {
        let (mut tcp, _) = self.listener.accept().await.unwrap();
        tcp.set_nodelay(true).unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            assert!(tcp.read_buf(&mut head).await.unwrap() > 0, "half a request");
        }
        // The client may have closed the connection at what it saw first.
        for piece in pieces {
            let _ = tcp.write_all(piece).await;
            tokio::task::yield_now().await;
        }
        if close {
            let _ = tcp.shutdown().await;
        }
        tcp
    }

    pub(crate) async fn ask(&self, method: &Method) -> Seen {
        let mut early = interim;
        let asking = async {
            let Ok(answer) = self.client.send(stamped(method), &self.upstream, &mut early).await
            else {
                return Seen::Nothing;
            };
            assert!(answer.tunnel.is_none() && !answer.retried);
            let (head, mut body) = (answer.head, answer.body);
            let mut answer = Answer {
                status: head.status,
                body: Vec::new(),
                trailers: HeaderMap::new(),
                whole: true,
            };
            loop {
                match poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
                    None => return Seen::Answer(answer),
                    Some(Err(_)) => {
                        answer.whole = false;
                        return Seen::Answer(answer);
                    }
                    Some(Ok(frame)) => match frame.into_data() {
                        Ok(data) => answer.body.extend_from_slice(&data),
                        Err(frame) => answer.trailers = frame.into_trailers().unwrap(),
                    },
                }
            }
        };
        within(asking).await
    }

    /// Whether the next request comes on the same connection.
    async fn is_asked_again(&self, tcp: &mut TcpStream) -> bool {
        let mut early = interim;
        let asking = async {
            let answer = self.client.send(stamped(&Method::GET), &self.upstream, &mut early).await;
            panic!("an answer that nobody sent: {answer:?}");
        };
        let taking = async {
            let mut byte = [0];
            tokio::select! {
                _ = self.listener.accept() => false,
                Ok(1..) = tcp.read(&mut byte) => true,
            }
        };
        within(async {
            tokio::select! {
                again = taking => again,
                () = asking => unreachable!(),
            }
        })
        .await
    }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("the client hangs")
}

/// What comes ahead of an answer is none itself.
fn interim(head: Box<AnswerHead>) {
    assert!((102..200).contains(&head.status.as_u16()), "{}", head.status);
}

/// A request of a stranger.
fn stamped(method: &Method) -> Stamped<RequestBody> {
    let problems = Problems::default();
    let rules = Rules::read(&mut Section::parse(Path::new("c.toml"), String::new(), &problems));
    let from = "192.0.2.1".parse().unwrap();
    let facts = Facts { session: None, method: method.as_str(), ip: from };
    let Decision::Permit(permit) = Rule::Anyone.decide(&facts) else { unreachable!() };
    let client = From::find(from, &HeaderMap::new(), &Trust::default());
    let host = HeaderValue::from_static("app.example.com");
    let forwarding = Forwarding::new(&client, client.value(), true, host, Version::HTTP_11);
    let id = HeaderValue::from_static("r1");
    let hop = Hop { forwarding: Rc::new(forwarding), id, websocket: false };
    let mut parts = Request::new(()).into_parts().0;
    parts.method = method.clone();
    rules.stamp(&permit, Box::new(parts), RequestBody::empty(), hop, Extras::default()).unwrap()
}

fn model(data: &[u8], to_head: bool) -> Model {
    let nothing = Model { seen: Seen::Nothing, ended: false, reusable: false };
    let mut rest = data;
    for _ in 0..=INTERIM {
        let Some((head, length)) = read_head(rest) else { return nothing };
        rest = &rest[length..];
        match head.status.as_u16() {
            101 => return nothing,
            100..200 => {}
            _ => return with_body(&head, rest, to_head),
        }
    }
    nothing
}

/// A head as far as it matters for what follows.
struct Head {
    status: StatusCode,
    length: Option<u64>,
    chunked: bool,
    keep: bool,
}

fn read_head(data: &[u8]) -> Option<(Head, usize)> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS];
    let mut response = httparse::Response::new(&mut fields);
    let Ok(httparse::Status::Complete(length)) = response.parse(data) else { return None };
    let values = |name: &str| -> Vec<&[u8]> {
        let fields = response.headers.iter().filter(|field| field.name.eq_ignore_ascii_case(name));
        fields.map(|field| field.value.trim_ascii()).collect()
    };
    let old = response.version == Some(0);
    let said = match values("content-length")[..] {
        [] => None,
        [digits] if digits.iter().all(u8::is_ascii_digit) => {
            Some(std::str::from_utf8(digits).ok()?.parse().ok()?)
        }
        _ => return None,
    };
    let chunked = match values("transfer-encoding")[..] {
        [] => false,
        [coding] if coding.eq_ignore_ascii_case(b"chunked") && !old && said.is_none() => true,
        _ => return None,
    };
    let connection = values("connection").join(&b',').to_ascii_lowercase();
    let close = connection.split(|byte| *byte == b',').any(|token| token.trim_ascii() == b"close");
    let status = StatusCode::from_u16(response.code?).ok()?;
    Some((Head { status, length: said, chunked, keep: !close && !old }, length))
}

fn with_body(head: &Head, rest: &[u8], to_head: bool) -> Model {
    let mut answer =
        Answer { status: head.status, body: Vec::new(), trailers: HeaderMap::new(), whole: true };
    let odd = head.status == 204 && (head.chunked || head.length.is_some_and(|length| length > 0));
    let mut behind = rest;
    if to_head || head.status == 204 || head.status == 304 {
    } else if head.chunked {
        match read_chunks(rest, &mut answer) {
            Some(after) => behind = after,
            None => answer.whole = false,
        }
    } else if let Some(length) = head.length {
        let some = usize::try_from(length).unwrap_or(usize::MAX).min(rest.len());
        answer.body.extend_from_slice(&rest[..some]);
        answer.whole = some as u64 == length;
        behind = &rest[some..];
    } else {
        answer.body.extend_from_slice(rest);
        return Model { seen: Seen::Answer(answer), ended: false, reusable: false };
    }
    let ended = answer.whole;
    let reusable = ended && head.keep && !odd && behind.is_empty();
    Model { seen: Seen::Answer(answer), ended, reusable }
}

/// Takes a chunked body (RFC 9112 section 7.1) in; what is behind it, if it is one.
fn read_chunks<'a>(mut rest: &'a [u8], answer: &mut Answer) -> Option<&'a [u8]> {
    loop {
        let end = rest.windows(2).position(|two| two == b"\r\n")?;
        let (line, after) = (&rest[..end], &rest[end + 2..]);
        let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let (digits, extension) = line.split_at(digits);
        let gap = extension.iter().take_while(|byte| b" \t".contains(byte)).count();
        let extension = &extension[gap..];
        let sound = (extension.is_empty() || extension[0] == b';')
            && !extension.iter().any(|byte| b"\r\n".contains(byte));
        if !(1..=15).contains(&digits.len()) || !sound {
            return None;
        }
        let size = usize::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        if size == 0 {
            return read_trailers(after, answer);
        }
        let some = size.min(after.len());
        answer.body.extend_from_slice(&after[..some]);
        rest = after[some..].strip_prefix(b"\r\n")?;
    }
}

fn read_trailers<'a>(rest: &'a [u8], answer: &mut Answer) -> Option<&'a [u8]> {
    if let Some(behind) = rest.strip_prefix(b"\r\n") {
        return Some(behind);
    }
    let end = rest.windows(3).position(|three| three == b"\n\r\n")? + 3;
    let mut fields = [httparse::EMPTY_HEADER; FIELDS];
    let Ok(httparse::Status::Complete((length, fields))) =
        httparse::parse_headers(&rest[..end], &mut fields)
    else {
        return None;
    };
    if length != end {
        return None;
    }
    // What means something outside of trailers is left out.
    let refused = [
        "connection",
        "content-length",
        "host",
        "keep-alive",
        "proxy-connection",
        "set-cookie",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    for field in fields.iter() {
        let name = field.name.to_ascii_lowercase();
        if !refused.contains(&name.as_str()) {
            let name = http::HeaderName::from_bytes(name.as_bytes()).unwrap();
            answer.trailers.append(name, HeaderValue::from_bytes(field.value).unwrap());
        }
    }
    Some(&rest[end..])
}
