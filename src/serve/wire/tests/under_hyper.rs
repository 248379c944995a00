//! The scanner under a real hyper HTTP/1 server.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Waker;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::*;

/// Serves one connection as the gateway would: answers a refused head with its violation, every
/// other request with its method, target and body.
struct Server {
    peer: DuplexStream,
    task: tokio::task::JoinHandle<hyper::Result<()>>,
    calls: Arc<AtomicU64>,
}

fn serve() -> Server {
    let (near, peer) = tokio::io::duplex(1 << 20);
    let (scan, handle) = Scan::new(near, LIMITS);
    let calls = Arc::new(AtomicU64::new(0));
    let counter = calls.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let head = counter.fetch_add(1, Ordering::SeqCst);
        let handle = handle.clone();
        async move { Ok::<_, Infallible>(answer(request, head, handle).await) }
    });
    let task = tokio::spawn(async move {
        http1::Builder::new()
            .max_headers(64)
            .serve_connection(TokioIo::new(scan), service)
            .with_upgrades()
            .await
    });
    Server { peer, task, calls }
}

async fn answer(
    mut request: Request<Incoming>,
    head: u64,
    handle: WireHandle,
) -> Response<Full<Bytes>> {
    // The answer must survive that the service is not ready at once.
    tokio::task::yield_now().await;
    let reply = |status: u16, text: String| {
        Response::builder().status(status).body(Full::from(text)).unwrap()
    };
    if let Some((at, violation)) = handle.violation()
        && at == head
    {
        return reply(violation.status(), violation.code().to_owned());
    }
    if request.uri().path() == "/ws" && request.headers().contains_key("upgrade") {
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let mut tunnel = TokioIo::new(upgrade.await.unwrap());
            let mut hello = [0; 7];
            tunnel.read_exact(&mut hello).await.unwrap();
            tunnel.write_all(&hello).await.unwrap();
        });
        handle.pass_through(head);
        let mut response = reply(101, String::new());
        let headers = response.headers_mut();
        headers.insert("upgrade", "websocket".parse().unwrap());
        headers.insert("connection", "upgrade".parse().unwrap());
        return response;
    }
    if request.headers().contains_key("upgrade") {
        handle.resume(head);
    }
    let line = format!("{} {}", request.method(), request.uri());
    match request.into_body().collect().await {
        Ok(body) => {
            let body = String::from_utf8_lossy(&body.to_bytes()).into_owned();
            reply(200, format!("[{line}][{body}]"))
        }
        Err(_) => reply(StatusCode::BAD_REQUEST.as_u16(), "[broken]".to_owned()),
    }
}

/// Sends `bytes`, closes the sending half when `close`, and reads until the server closes.
async fn talk(bytes: &[u8], close: bool) -> (String, u64, hyper::Result<()>) {
    let mut server = serve();
    server.peer.write_all(bytes).await.unwrap();
    if close {
        server.peer.shutdown().await.unwrap();
    }
    let mut got = Vec::new();
    server.peer.read_to_end(&mut got).await.unwrap();
    let result = server.task.await.unwrap();
    (String::from_utf8_lossy(&got).into_owned(), server.calls.load(Ordering::SeqCst), result)
}

#[tokio::test]
async fn every_bad_head_is_answered_and_closed() {
    for (bytes, violation) in bad_heads() {
        let before = b"GET /first HTTP/1.1\r\nHost: a\r\n\r\n";
        let (got, calls, result) = talk(&[&before[..], &bytes].concat(), false).await;
        assert_eq!(calls, 2, "{violation:?}: {got}");
        assert!(result.is_ok(), "{violation:?}");
        let start = format!("HTTP/1.1 {}", violation.status());
        let (first, second) = got.split_once("[GET /first][]").unwrap();
        assert!(first.starts_with("HTTP/1.1 200"), "{got}");
        assert!(second.starts_with(&start), "{violation:?}: {got}");
        assert!(second.ends_with(violation.code()), "{violation:?}: {got}");
        assert!(second.contains("connection: close"), "{violation:?}: {got}");
    }
}

#[tokio::test]
async fn every_bad_body_breaks_the_connection() {
    for (bytes, violation) in bad_bodies() {
        let after = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
        let (got, calls, _) = talk(&[&bytes, &after[..]].concat(), true).await;
        assert!(calls <= 1, "{violation:?}: {got}");
        assert!(!got.contains("smuggled"), "{violation:?}: {got}");
        assert!(!got.contains("HTTP/1.1 200"), "{violation:?}: {got}");
    }
}

#[tokio::test]
async fn every_good_request_is_served() {
    for (bytes, framing) in good_requests() {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let old = text.contains("HTTP/1.0") && !text.contains("keep-alive");
        let closing = old || text.contains(" close");
        let mut server = serve();
        server.peer.write_all(&bytes).await.unwrap();
        // On a kept-alive connection a second request proves that both agree about the framing.
        if !closing {
            let last = b"GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
            server.peer.write_all(last).await.unwrap();
        }
        let mut got = Vec::new();
        server.peer.read_to_end(&mut got).await.unwrap();
        server.task.await.unwrap().unwrap();
        let got = String::from_utf8_lossy(&got);
        let answers = got.matches(" 200 OK").count();
        assert_eq!(answers, if closing { 1 } else { 2 }, "{text}\n{got}");
        assert_eq!(!closing, got.contains("[GET /last][]"), "{text}\n{got}");
        if let Body::Length(length) = framing.body {
            let start = text.len() - usize::try_from(length).unwrap();
            assert!(got.contains(&format!("][{}]", &text[start..])), "{text}\n{got}");
        }
        let continues = got.starts_with("HTTP/1.1 100 Continue\r\n\r\n");
        assert_eq!(continues, text.contains("100-continue"), "{text}\n{got}");
    }
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let mut bytes = Vec::new();
    for number in 0..20 {
        let request = match number % 3 {
            0 => format!("GET /{number} HTTP/1.1\r\nHost: a\r\n\r\n"),
            1 => format!("POST /{number} HTTP/1.1\r\nContent-Length: 4\r\n\r\nGET "),
            _ => format!(
                "POST /{number} HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2;x\r\n\r\n\r\n0\r\n\r\n"
            ),
        };
        bytes.extend_from_slice(request.as_bytes());
    }
    bytes.extend_from_slice(b"GET /20 HTTP/1.1\r\nConnection: close\r\n\r\n");
    let (got, calls, result) = talk(&bytes, false).await;
    assert!(result.is_ok());
    assert_eq!(calls, 21);
    let places: Vec<usize> =
        (0..=20).map(|number| got.find(&format!(" /{number}]")).unwrap()).collect();
    assert!(places.is_sorted());
}

#[tokio::test]
async fn a_head_in_many_pieces_is_served() {
    let mut server = serve();
    for byte in b"POST /slow HTTP/1.1\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok" {
        server.peer.write_all(&[*byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    let mut got = String::new();
    server.peer.read_to_string(&mut got).await.unwrap();
    assert!(got.ends_with("[POST /slow][ok]"), "{got}");
}

#[tokio::test]
async fn a_bad_head_is_answered_even_if_the_client_stops_sending() {
    let (got, _, result) = talk(b"GET / HTTP/1.1\nHost: a\n\n", true).await;
    assert!(result.is_ok());
    assert!(got.starts_with("HTTP/1.1 400") && got.ends_with("bare-lf"), "{got}");
}

const UPGRADE: &[u8] =
    b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

#[tokio::test]
async fn a_tunnel_carries_any_bytes() {
    for early in [false, true] {
        let mut server = serve();
        server.peer.write_all(UPGRADE).await.unwrap();
        if early {
            // Frames sent before the 101: held back, then delivered to the tunnel.
            server.peer.write_all(b"\x81\x05\n\0\r\rx").await.unwrap();
        }
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(server.peer.read_u8().await.unwrap());
        }
        assert!(head.starts_with(b"HTTP/1.1 101"));
        if !early {
            server.peer.write_all(b"\x81\x05\n\0\r\rx").await.unwrap();
        }
        let mut echo = [0; 7];
        server.peer.read_exact(&mut echo).await.unwrap();
        assert_eq!(&echo, b"\x81\x05\n\0\r\rx");
        server.task.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_request_behind_a_refused_upgrade_is_served() {
    for upgrade in ["Connection: upgrade\r\nUpgrade: h2c\r\n", "Upgrade: h2c\r\n"] {
        let mut server = serve();
        let first = format!("GET /no HTTP/1.1\r\nHost: a\r\n{upgrade}\r\n");
        let second = "GET /after HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        server.peer.write_all(first.as_bytes()).await.unwrap();
        server.peer.write_all(second.as_bytes()).await.unwrap();
        let mut got = String::new();
        server.peer.read_to_string(&mut got).await.unwrap();
        assert!(got.contains("[GET /no][]") && got.ends_with("[GET /after][]"), "{got}");
    }
}

/// Requests and near-requests; most streams of them pass.
fn plausible_stream() -> impl Strategy<Value = Vec<u8>> {
    let good: Vec<Vec<u8>> = good_requests()
        .into_iter()
        .map(|(bytes, _)| bytes)
        .filter(|bytes| {
            !bytes.windows(8).any(|w| w == b"HTTP/1.0") && !bytes.windows(6).any(|w| w == b" close")
        })
        .collect();
    let line = prop::sample::select(vec![
        "Content-Length: 3",
        "Content-Length: 0",
        "content-length:2 ",
        "Transfer-Encoding: chunked",
        "TRANSFER-ENCODING:\tChunked",
        "Transfer-Encoding: gzip",
        "X: y",
        "X:",
        "Upgrade: x",
        "Connection: close",
        "Connection: keep-alive",
        "Content-Length: 1, 1",
        "X y: z",
        "Content_Length: 9",
        "Content-Length : 4",
        "Expect: 100-continue",
        "Transfer-Encoding : chunked",
        "\u{b}X: y",
    ]);
    let body = prop::sample::select(vec![
        "",
        "abc",
        "0\r\n\r\n",
        "3\r\nabc\r\n0\r\n\r\n",
        "3;x\r\nabc\r\n0\r\nT: v\r\n\r\n",
        "ab",
        "0\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "3 \r\nabc\r\n0\r\n\r\n",
        "\r\n",
    ]);
    let end = prop::sample::select(vec!["\r\n", "\r\n", "\r\n", "\r\n", "\n", "\r", "\r\n "]);
    let request = (prop::collection::vec((line, end), 0..4), body).prop_map(|(lines, body)| {
        let lines: String = lines.into_iter().flat_map(|(line, end)| [line, end]).collect();
        format!("POST /x HTTP/1.1\r\n{lines}\r\n{body}").into_bytes()
    });
    let piece = prop_oneof![1 => prop::sample::select(good), 3 => request];
    prop::collection::vec(piece, 1..4).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    /// hyper sees as many requests as the scanner counted: they agree about all framing.
    #[test]
    fn hyper_frames_what_passes_in_the_same_way(bytes in plausible_stream()) {
        let (mut scan, handle) = Scan::new((), LIMITS);
        let mut rest = &bytes[..];
        // `answer` resumes behind every request to upgrade.
        handle.resume(u64::MAX - 1);
        loop {
            rest = &rest[scan.follower.follow(rest)..];
            if !matches!(scan.follower.state, State::Held { .. }) {
                break;
            }
            let released = scan.follower.poll_release(&mut Context::from_waker(Waker::noop()));
            prop_assert!(released.is_ready());
        }
        let heads = scan.follower.heads + u64::from(handle.violation().is_some());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (got, calls, _) = runtime.block_on(talk(&bytes, true));
        let closes = bytes.windows(6).any(|w| w == b" close");
        match scan.follower.state {
            // hyper ends where the client said so, or where the read failed.
            _ if closes => prop_assert!(calls <= heads, "{}", got),
            State::Broken(_) => prop_assert!(calls <= heads, "{}", got),
            _ => prop_assert_eq!(calls, heads, "{}", got),
        }
        prop_assert!(closes || calls > 0);
    }
}
