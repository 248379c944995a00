//! Apps that speak HTTP/2, as they should and as they should not, and clients of HTTP/2 in front of them.

mod crowd;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::timeout;

use crate::support::h2raw::{
    ACK, DATA, END_HEADERS, END_STREAM, H2Raw, HEADERS, Outcome, PING, PREFACE, RST_STREAM,
    SETTINGS, block, frame, get, number, post,
};
use crate::support::process::{PATIENCE, eventually};
use crate::support::upstream::Gate;
use crate::support::{Client, Gateway, Reply, Upstream};

/// How a request is answered.
type Out = SendResponse<Bytes>;

/// An app that speaks HTTP/2 without TLS.
struct App {
    gateway: Gateway,
    addr: SocketAddr,
    connections: Arc<AtomicUsize>,
    /// The paths that were asked for.
    seen: Arc<Mutex<Vec<String>>>,
}

impl App {
    /// A gateway in front of an app that takes `most` requests at a time on a connection.
    async fn start<F, A>(most: u32, answer: F) -> Self
    where
        F: Fn(Request<RecvStream>, Out) -> A + Clone + Send + 'static,
        A: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (connections, seen) = (Arc::new(AtomicUsize::new(0)), Arc::<Mutex<Vec<_>>>::default());
        let (counted, noted) = (Arc::clone(&connections), Arc::clone(&seen));
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                let (answer, noted) = (answer.clone(), Arc::clone(&noted));
                tokio::spawn(async move {
                    let opened =
                        h2::server::Builder::new().max_concurrent_streams(most).handshake(tcp);
                    let mut connection = opened.await.unwrap();
                    while let Some(Ok((request, out))) = connection.accept().await {
                        noted.lock().unwrap().push(request.uri().path().to_owned());
                        tokio::spawn(answer(request, out));
                    }
                });
            }
        });
        Self { gateway: in_front_of(addr), addr, connections, seen }
    }

    fn asked(&self, path: &str) -> usize {
        self.seen.lock().unwrap().iter().filter(|seen| *seen == path).count()
    }
}

fn in_front_of(addr: SocketAddr) -> Gateway {
    in_front_of_with(addr, "")
}

fn in_front_of_with(addr: SocketAddr, more: &str) -> Gateway {
    Gateway::builder()
        .upstream_with("app", &format!("http://{addr}"), &format!("protocol = \"h2c\"\n{more}"))
        .public("/", "app")
        .set("server", "workers", "1")
        .start()
}

fn ok(fields: &[(&'static str, &'static str)]) -> Response<()> {
    let mut response = Response::new(());
    for (name, value) in fields {
        response.headers_mut().append(*name, HeaderValue::from_static(value));
    }
    response
}

/// RFC 9113 section 8.1 allows a reset without an error behind a whole answer only. Half of one passed for whole.
#[tokio::test]
async fn an_answer_that_is_withdrawn_without_an_error_is_cut() {
    let heads: [&[(&str, &str)]; 2] =
        [&[(":status", "200")], &[(":status", "200"), ("content-length", "5")]];
    for (head, half) in [(heads[0], "hel"), (heads[1], "hel"), (heads[0], "")] {
        let addr = raw_app(move |stream| {
            let mut said = frame(HEADERS, END_HEADERS, stream, &block(head));
            if !half.is_empty() {
                said.extend(frame(DATA, 0, stream, half.as_bytes()));
            }
            said.extend(frame(RST_STREAM, 0, stream, &[0; 4]));
            said
        })
        .await;
        let gateway = in_front_of(addr);
        let get = |mut client: Client| async move {
            client.try_request(Method::GET, "/", &[], Bytes::new()).await
        };
        let cut = get(gateway.client()).await;
        assert!(cut.as_ref().is_ok_and(|answer| answer.truncated), "{half:?}: {cut:?}");
        let cut = get(Client::h2(&gateway)).await;
        assert!(cut.as_ref().map_or(true, |answer| answer.truncated), "{half:?}: {cut:?}");
    }
}

/// An app that answers each request with bytes of its own.
async fn raw_app(answer: impl Fn(u32) -> Vec<u8> + Clone + Send + 'static) -> SocketAddr {
    raw_frames(move |kind, stream| if kind == HEADERS { answer(stream) } else { Vec::new() }).await
}

/// An app that answers frames on streams, by their kind, with bytes of its own.
async fn raw_frames(answer: impl Fn(u8, u32) -> Vec<u8> + Clone + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut tcp, _)) = listener.accept().await {
            let answer = answer.clone();
            tokio::spawn(async move {
                let mut preface = [0; PREFACE.len()];
                tcp.read_exact(&mut preface).await?;
                tcp.write_all(&frame(SETTINGS, 0, 0, &[])).await?;
                loop {
                    let mut head = [0; 9];
                    tcp.read_exact(&mut head).await?;
                    let mut payload = vec![0; number(&[0, head[0], head[1], head[2]]) as usize];
                    tcp.read_exact(&mut payload).await?;
                    match head[3] {
                        SETTINGS if head[4] & ACK == 0 => {
                            tcp.write_all(&frame(SETTINGS, ACK, 0, &[])).await?;
                        }
                        kind => tcp.write_all(&answer(kind, number(&head[5..]))).await?,
                    }
                }
                #[expect(unreachable_code, reason = "says what the error is")]
                std::io::Result::Ok(())
            });
        }
    });
    addr
}

/// The app needs no more of the upload behind its whole answer, and says so.
#[tokio::test]
async fn an_early_answer_and_a_reset_without_an_error_are_whole() {
    let app = App::start(100, |_, mut out| async move {
        let mut head = ok(&[]);
        *head.status_mut() = StatusCode::PAYLOAD_TOO_LARGE;
        let mut body = out.send_response(head, false).unwrap();
        body.send_data(Bytes::from_static(b"too large"), true).unwrap();
        // Let go with the upload unread: h2 resets the stream with NO_ERROR.
    });
    let app = app.await;
    let large = Bytes::from(vec![b'x'; 4 << 20]);
    for _ in 0..5 {
        let answer = app.gateway.client().request(Method::POST, "/", &[], large.clone()).await;
        assert_eq!((answer.status, answer.truncated), (413, false), "{answer:?}");
        assert_eq!(answer.text(), "too large");
    }
}

/// They passed as the app had sent them, a session cookie of ours among them.
#[tokio::test]
async fn trailers_of_http_2_apps_are_cleaned() {
    let app = App::start(100, |_, mut out| async move {
        let mut body = out.send_response(ok(&[]), false).unwrap();
        body.send_data(Bytes::from_static(b"hello"), false).unwrap();
        let mut trailers = HeaderMap::new();
        for (name, value) in [
            ("grpc-status", "0"),
            ("set-cookie", "__Host-portcullis=evil; Secure; Path=/"),
            ("content-length", "3"),
            ("trailer", "x"),
        ] {
            trailers.append(name, HeaderValue::from_static(value));
        }
        body.send_trailers(trailers).unwrap();
    });
    let app = app.await;
    let answer = Client::h2(&app.gateway).get("/").await.expect(200);
    assert_eq!(answer.text(), "hello");
    assert_eq!(answer.trailers, [("grpc-status".to_owned(), "0".to_owned())]);
}

/// What is malformed in an app's fields goes no further (RFC 9113 section 8.1.1).
#[tokio::test]
async fn heads_of_http_2_apps_are_judged() {
    let app = App::start(100, |request, mut out| async move {
        let (status, fields): (_, &[_]) = match request.uri().path() {
            "/two" => (200, &[("content-length", "5"), ("content-length", "5")]),
            "/none" => (200, &[("content-length", "")]),
            "/edges" => (200, &[("x-a", " b\t"), ("content-length", "5")]),
            "/204" => (204, &[("content-length", "5")]),
            _ => (304, &[("content-length", "5")]),
        };
        let mut head = ok(fields);
        *head.status_mut() = StatusCode::from_u16(status).unwrap();
        let mut body = out.send_response(head, false).unwrap();
        let _ = body.send_data(Bytes::from_static(b"hello"), true);
    });
    let app = app.await;
    for mut client in [app.gateway.client(), Client::h2(&app.gateway)] {
        for (path, status) in
            [("/two", 502), ("/none", 502), ("/edges", 200), ("/204", 204), ("/304", 304)]
        {
            let answer = client.get(path).await;
            assert_eq!((answer.status, answer.truncated), (status, false), "{path}: {answer:?}");
            match path {
                "/edges" => assert_eq!(answer.header("x-a").as_deref(), Some("b")),
                "/204" | "/304" => assert_eq!(answer.text(), "", "{path}"),
                _ => {}
            }
            assert!(path != "/204" || answer.header("content-length").is_none(), "{answer:?}");
        }
    }
}

/// Answers that nobody took filled the window of the one connection to the app: everybody's stood still.
#[tokio::test]
async fn clients_that_take_nothing_hold_up_nobody_else() {
    let app = App::start(1000, |request, mut out| async move {
        let mut body = out.send_response(ok(&[]), false).unwrap();
        let size = if request.uri().path() == "/small" { 100 << 10 } else { 128 << 10 };
        body.send_data(Bytes::from(vec![b'x'; size]), true).unwrap();
        let _ = std::future::poll_fn(|cx| body.poll_reset(cx)).await;
    });
    let app = app.await;
    let mut greedy = Vec::new();
    for _ in 0..3 {
        let mut h2 = H2Raw::connect(&app.gateway).await;
        h2.frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]).await;
        for stream in 0..128 {
            h2.request(stream * 2 + 1, &get(app.gateway.authority(), "/large")).await;
        }
        assert_eq!(h2.outcome(255).await, Outcome::Status(200));
        greedy.push(h2);
    }
    assert_eq!(app.asked("/large"), 384);
    for mut client in [app.gateway.client(), Client::h2(&app.gateway)] {
        let answer = timeout(PATIENCE, client.get("/small")).await.expect("held up").expect(200);
        assert_eq!((answer.body.len(), answer.truncated), (100 << 10, false));
    }
}

/// What is beyond the app's limit waited on the one connection for others to end, however long they took.
#[tokio::test]
async fn beyond_the_limit_of_an_http_2_app_another_connection_is_opened() {
    let gate = Gate::closed();
    let held = gate.clone();
    let app = App::start(2, move |request, mut out| {
        let held = held.clone();
        async move {
            if request.uri().path() == "/held" {
                held.passed().await;
            }
            let mut body = out.send_response(ok(&[]), false).unwrap();
            body.send_data(Bytes::from_static(b"done"), true).unwrap();
        }
    });
    let app = app.await;
    // The app's limit is known from here.
    app.gateway.client().get("/first").await.expect(200);
    let mut waiting = Vec::new();
    for _ in 0..5 {
        let mut client = app.gateway.client();
        waiting.push(tokio::spawn(async move { client.get("/held").await }));
    }
    eventually("all requests at the app", || (app.asked("/held") >= 5).then_some(())).await;
    app.gateway.client().get("/quick").await.expect(200);
    assert_eq!(app.connections.load(Ordering::SeqCst), 3, "two requests on each");
    gate.open();
    for answer in waiting {
        assert_eq!(answer.await.unwrap().expect(200).text(), "done");
    }
}

/// Each of the first requests opened a connection of its own, however many there were.
#[tokio::test]
async fn requests_that_come_together_share_a_connection_to_an_http_2_app() {
    let gate = Gate::closed();
    let held = gate.clone();
    let app = App::start(100, move |_, mut out| {
        let held = held.clone();
        async move {
            held.passed().await;
            drop(out.send_response(ok(&[]), true));
        }
    });
    let app = app.await;
    let mut waiting = Vec::new();
    for _ in 0..60 {
        let mut client = app.gateway.client();
        waiting.push(tokio::spawn(async move { client.get("/held").await }));
    }
    eventually("all requests at the app", || (app.asked("/held") >= 60).then_some(())).await;
    assert_eq!(app.connections.load(Ordering::SeqCst), 1);
    gate.open();
    for answer in waiting {
        answer.await.unwrap().expect(200);
    }
}

/// Of an app whose machine is gone nothing comes, not even an end: others would wait on its connection, too.
#[tokio::test]
async fn a_connection_that_left_a_request_without_an_answer_gets_no_other() {
    let app = App::start(100, |request, mut out| async move {
        if request.uri().path() == "/held" {
            Gate::closed().passed().await;
        }
        drop(out.send_response(ok(&[]), true));
    });
    let app = app.await;
    let gateway = in_front_of_with(app.addr, "first_byte_timeout = \"1s\"");
    let mut client = gateway.client();
    for (path, status, connections) in [("/", 200, 1), ("/held", 504, 1), ("/", 200, 2)] {
        client.get(path).await.expect(status);
        assert_eq!(app.connections.load(Ordering::SeqCst), connections, "{path}");
    }
}

/// Whoever waits for a connection to an app is told why there is none, all at the same time.
#[tokio::test]
async fn requests_that_wait_for_a_connection_to_an_http_2_app_end_with_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gateway = in_front_of(listener.local_addr().unwrap());
    let mut waiting = Vec::new();
    for _ in 0..6 {
        let mut client = gateway.client();
        waiting.push(tokio::spawn(async move { client.get("/").await }));
    }
    // Closed before a word, as often as the gateway tries.
    let closing = tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            drop(tcp);
        }
    });
    for answer in waiting {
        answer.await.unwrap().expect(502);
    }
    closing.abort();
}

/// They were dropped: pages waited for what an app had told their browser to load meanwhile (RFC 8297).
#[tokio::test]
async fn interim_answers_of_http_2_apps_are_passed_on() {
    let gate = Gate::closed();
    let held = gate.clone();
    let app = App::start(100, move |request, mut out| {
        let held = held.clone();
        async move {
            let count = if request.uri().path() == "/many" { 17 } else { 1 };
            for _ in 0..count {
                let mut early = ok(&[
                    ("link", "</a.css>; rel=preload"),
                    ("set-cookie", "__Host-portcullis=evil; Secure; Path=/"),
                ]);
                *early.status_mut() = StatusCode::EARLY_HINTS;
                out.send_informational(early).unwrap();
            }
            held.passed().await;
            drop(out.send_response(ok(&[]), true));
        }
    });
    let app = app.await;
    let mut raw = app.gateway.raw().await;
    raw.send(format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", app.gateway.authority())).await;
    let early = raw.until("\r\n\r\n").await;
    assert!(early.starts_with("HTTP/1.1 103 "), "{early}");
    assert!(early.contains("</a.css>") && !early.contains("evil"), "{early}");
    let mut h2 = H2Raw::connect(&app.gateway).await;
    h2.request(1, &get(app.gateway.authority(), "/")).await;
    assert_eq!(h2.outcome(1).await, Outcome::Status(103));
    gate.open();
    assert_eq!(h2.outcome(1).await, Outcome::Status(200));
    raw.response().await.expect(200);
    h2.request(3, &get(app.gateway.authority(), "/many")).await;
    let mut last = Outcome::Status(103);
    while last == Outcome::Status(103) {
        last = h2.outcome(3).await;
    }
    assert_eq!(last, Outcome::Status(502), "more than anybody needs");
}

/// The app has begun with it and failed: another attempt would be a second one.
#[tokio::test]
async fn a_request_that_an_http_2_app_gave_up_is_not_sent_again() {
    let app = App::start(100, |request, mut out| async move {
        match request.uri().path() {
            "/failed" => out.send_reset(Reason::INTERNAL_ERROR),
            "/refused" => out.send_reset(Reason::REFUSED_STREAM),
            _ => drop(out.send_response(ok(&[]), true)),
        }
    });
    let app = app.await;
    let mut client = app.gateway.client();
    client.get("/").await.expect(200);
    client.get("/failed").await.expect(502);
    assert_eq!(app.asked("/failed"), 1);
    client.get("/").await.expect(200);
    client.get("/refused").await.expect(502);
    assert_eq!(app.asked("/refused"), 2, "the app has not begun with it (RFC 9113 section 8.7)");
}

/// An intermediary must not pass on what is malformed (RFC 9113 section 8.1.1). An app that trims a value reads
/// another one than the gateway has: a token, for example.
#[tokio::test]
async fn malformed_fields_of_http_2_requests_are_refused() {
    let upstream = Upstream::start();
    let gateway = Gateway::in_front_of(upstream.addr());
    let mut h2 = H2Raw::connect(&gateway).await;
    let cases: [&[(&str, &str)]; 9] = [
        &[("authorization", " Bearer x")],
        &[("authorization", "Bearer x\t")],
        &[("x-a", " ")],
        &[("content-length", "")],
        &[("content-length", "0"), ("content-length", "0")],
        &[("content-length", "0"), ("content-length", "")],
        &[(":scheme", "")],
        &[(":scheme", "1http")],
        &[(":scheme", "ftp")],
    ];
    for (stream, case) in (1..).step_by(2).zip(cases) {
        let mut head = get(gateway.authority(), "/public/x");
        head.retain(|(name, _)| *name != case[0].0);
        let place = if case[0].0.starts_with(':') { 0 } else { head.len() };
        case.iter().rev().for_each(|field| head.insert(place, *field));
        h2.request(stream, &head).await;
        let outcome = h2.outcome(stream).await;
        assert!(
            matches!(outcome, Outcome::Status(400) | Outcome::Reset(1)),
            "{case:?}: {outcome:?}"
        );
    }
    assert!(upstream.requests().is_empty());
    h2.request(101, &get(gateway.authority(), "/public/x")).await;
    assert_eq!(h2.outcome(101).await, Outcome::Status(200));
}

/// Nobody gave it: clients waited a second, or until they gave up (RFC 9110 section 10.1.1).
#[tokio::test]
async fn leave_to_send_a_body_is_given_over_http_2() {
    let app = App::start(100, |request, mut out| async move {
        let mut body = request.into_body();
        while body.data().await.is_some() {}
        drop(out.send_response(ok(&[]), true));
    });
    let app = app.await;
    let upstream = Upstream::start();
    let gateway = Gateway::in_front_of(upstream.addr());
    let cases =
        [(&app.gateway, "/x", 200), (&gateway, "/public/x", 200), (&gateway, "/auth/session", 400)];
    for (gateway, path, status) in cases {
        let mut h2 = H2Raw::connect(gateway).await;
        let origin = gateway.origin().to_owned();
        let mut head = post(gateway.authority(), path);
        head.extend([("expect", "100-continue"), ("content-type", "application/json")]);
        head.push(("origin", &origin));
        h2.frame(HEADERS, END_HEADERS, 1, &block(&head)).await;
        assert_eq!(h2.outcome(1).await, Outcome::Status(100), "{path}");
        h2.frame(DATA, END_STREAM, 1, b"{}").await;
        assert_eq!(h2.outcome(1).await, Outcome::Status(status), "{path}");
        // Nobody waits for a body that comes by itself, or is refused.
        h2.send(
            &[frame(HEADERS, END_HEADERS, 3, &block(&head)), frame(DATA, END_STREAM, 3, b"{}")]
                .concat(),
        )
        .await;
        assert_eq!(h2.outcome(3).await, Outcome::Status(status), "{path}");
    }
    let mut h2 = H2Raw::connect(&gateway).await;
    let mut head = post(gateway.authority(), "/nowhere");
    head.push(("expect", "100-continue"));
    h2.frame(HEADERS, END_HEADERS, 1, &block(&head)).await;
    assert_eq!(h2.outcome(1).await, Outcome::Status(401));
}

/// The app had all bytes and answered, and the client was told with a reset that nobody wants the end of its body:
/// httpx, which sends that in a frame of its own, took it for a failure.
#[tokio::test]
async fn the_end_of_an_upload_may_come_behind_its_answer() {
    let upstream = Upstream::answering(|_| {
        Reply::early("").then_read().then("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    });
    let gateway = Gateway::in_front_of(upstream.addr());
    let mut h2 = H2Raw::connect(&gateway).await;
    let mut head = post(gateway.authority(), "/public/x");
    head.push(("content-length", "5"));
    for stream in [1, 3] {
        h2.frame(HEADERS, END_HEADERS, stream, &block(&head)).await;
        h2.frame(DATA, 0, stream, b"hello").await;
        assert_eq!(h2.outcome(stream).await, Outcome::Status(200));
        h2.frame(PING, 0, 0, b"still on").await;
        loop {
            let (kind, flags, _, payload) = h2.next().await.expect("closed");
            assert_ne!(kind, RST_STREAM, "{payload:?}");
            if kind == PING && flags & ACK == ACK {
                break;
            }
        }
        h2.frame(DATA, END_STREAM, stream, b"").await;
    }
    assert_eq!(upstream.connections(), 1);
}
