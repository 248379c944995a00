//! SIGTERM: everybody is told in the words of their protocol, what runs may finish, and the process
//! ends in time.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::net::TcpStream;

use crate::support::h2raw::{
    ACK, DATA, END_HEADERS, END_STREAM, GOAWAY, H2Raw, HEADERS, Outcome, PING, RST_STREAM, block,
    get, number, status,
};
use crate::support::process::eventually;
use crate::support::upstream::Gate;
use crate::support::{Client, Gateway, Raw, Reply, Upstream};

/// `/ws` is a WebSocket, `/gated` answers when the gate opens, everything else at once.
fn upstream(gate: &Gate) -> Upstream {
    let gate = gate.clone();
    Upstream::answering(move |request| match request.target.as_str() {
        "/public/ws" => Reply::websocket(request),
        "/gated" | "/public/gated" => Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n")
            .then("half")
            .wait(&gate)
            .then("half"),
        _ => Reply::ok("hello"),
    })
}

/// Whether `/readyz` says that the gateway is draining.
async fn draining(gateway: &Gateway) {
    let end = Instant::now() + crate::support::process::PATIENCE;
    while gateway.admin_get("/readyz").await.status != 503 {
        assert!(Instant::now() < end, "still ready after SIGTERM");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    gateway.admin_get("/livez").await.expect(200);
}

#[tokio::test]
async fn everybody_is_told_in_their_own_words() {
    let gate = Gate::closed();
    let upstream = upstream(&gate);
    let mut gateway = Gateway::in_front_of(upstream.addr());
    let host = gateway.authority().to_owned();
    let mut idle = gateway.raw().await;
    idle.get("/public/x", &host, "").await.expect(200);
    let mut idle_h2 = H2Raw::connect(&gateway).await;
    idle_h2.request(1, &get(&host, "/public/x")).await;
    while idle_h2.next().await.expect("closed").0 != HEADERS {}
    let mut socket = Raw::websocket(&gateway, &gateway.client(), "/public/ws").await;
    socket.echo("hello").await;
    let mut busy = gateway.raw().await;
    busy.send(format!("GET /public/gated HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
    let mut busy_h2 = H2Raw::connect(&gateway).await;
    busy_h2.request(1, &get(&host, "/public/gated")).await;
    upstream.received(5).await;

    gateway.signal(Signal::TERM);
    draining(&gateway).await;
    let soon = Duration::from_secs(3);
    assert_eq!(socket.close_code(soon).await, Some(1001));
    let rest = tokio::time::timeout(soon, idle.reader.rest()).await.expect("still open");
    assert_eq!(rest, b"", "an idle connection is just closed");
    // This one does not confirm it, and must not hold up the end.
    assert!(idle_h2.ends_within(soon).await);

    // GOAWAY without an error comes while the stream is still open, and the stream goes on.
    let (mut goaway, mut answer, mut body) = (None, None, Vec::new());
    while goaway.is_none() || answer.is_none() {
        let (kind, _, stream, payload) = busy_h2.next().await.expect("closed without GOAWAY");
        match kind {
            GOAWAY => goaway = Some(number(&payload[4..])),
            HEADERS if stream == 1 => answer = Some(status(&payload)),
            DATA => body.extend_from_slice(&payload),
            _ => {}
        }
    }
    assert_eq!((goaway, answer), (Some(0), Some(200)));
    // Nobody new is let in, and nobody is left waiting at the door.
    eventually("new connections to be refused", || {
        std::net::TcpStream::connect(gateway.addr()).err().map(|error| error.kind())
    })
    .await;
    gate.open();
    assert_eq!(busy.response().await.expect(200).text(), "halfhalf");
    while let Some((kind, flags, _, payload)) = busy_h2.next().await {
        if kind == DATA {
            body.extend_from_slice(&payload);
            if flags & END_STREAM == END_STREAM {
                break;
            }
        }
    }
    assert_eq!(body, b"halfhalf");
    let ended = gateway.wait(Duration::from_secs(5));
    assert!(ended.success(), "{ended}");
}

#[tokio::test]
async fn what_hangs_is_cut_when_the_time_is_over() {
    let upstream = Upstream::answering(|_| Reply::hang());
    let mut gateway = Gateway::builder()
        .set("server", "drain", "\"1s\"")
        .upstream("app", upstream.addr())
        .public("/public/", "app")
        .start();
    let host = gateway.authority().to_owned();
    let mut raw = gateway.raw().await;
    raw.send(format!("GET /public/x HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
    // One that has not even begun must not hold it up either.
    let _silent = TcpStream::connect(gateway.addr()).await.unwrap();
    upstream.received(1).await;
    let begun = Instant::now();
    gateway.signal(Signal::TERM);
    let ended = gateway.wait(Duration::from_secs(5));
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(900), "cut after {took:?}, before its time");
    assert!(took < Duration::from_secs(4), "{took:?}");
    assert!(ended.success(), "{ended}");
    assert!(raw.try_response().await.is_err(), "an answer that the app never gave");
    // And not said to be the client's doing.
    let lines = gateway.log();
    let line = lines.iter().find(|line| line["path"] == "/public/x").expect("no line");
    assert_eq!((&line["status"], &line["cut"]), (&503.into(), &"gateway".into()), "{line}");
}

/// Idle connections of a load balancer's pool, which have not sent a byte, held up each restart for ten seconds.
#[tokio::test]
async fn silence_does_not_hold_up_the_end() {
    let mut gateway = Gateway::whoami();
    let mut silent = Vec::new();
    for _ in 0..5 {
        silent.push(TcpStream::connect(gateway.addr()).await.unwrap());
    }
    // Whoever came later has been served: those are in.
    gateway.client().get("/auth/login").await.expect(200);
    assert!(gateway.terminate(Duration::from_secs(6)).success());
}

/// The first request on a new connection was closed unanswered when it came behind the signal.
#[tokio::test]
async fn a_first_request_is_answered_though_it_comes_late() {
    let gate = Gate::closed();
    let upstream = upstream(&gate);
    let mut gateway = Gateway::in_front_of(upstream.addr());
    let host = gateway.authority().to_owned();
    let mut fresh = gateway.raw().await;
    let _silent = gateway.raw().await;
    gateway.signal(Signal::TERM);
    draining(&gateway).await;
    let answer = fresh.get("/public/x", &host, "").await.expect(200);
    assert_eq!(answer.header("connection").as_deref(), Some("close"));
    assert!(gateway.wait(Duration::from_secs(6)).success());
}

/// Whoever was disabled went on with what they had open until everybody's requests had ended.
#[tokio::test]
async fn who_is_disabled_is_cut_while_others_finish() {
    let gate = Gate::closed();
    let upstream = upstream(&gate);
    let mut gateway = Gateway::in_front_of(upstream.addr());
    let mut cut = gateway.signed_in("bob").await;
    let mut stays = gateway.signed_in("alice").await;
    let (method, none) = (http::Method::GET, bytes::Bytes::new());
    let cut = tokio::spawn(async move { cut.try_request(method, "/gated", &[], none).await });
    let stays = tokio::spawn(async move { stays.get("/gated").await });
    upstream.received(2).await;
    gateway.signal(Signal::TERM);
    draining(&gateway).await;
    let users = gateway.users();
    gateway.write_users(&users.replace("name = \"bob\"\n", "name = \"bob\"\ndisabled = true\n"));
    let answer = cut.await.unwrap();
    assert!(answer.as_ref().map_or(true, |answer| answer.truncated), "{answer:?}");
    gate.open();
    assert!(!stays.await.unwrap().truncated);
    assert!(gateway.wait(Duration::from_secs(5)).success());
}

#[tokio::test]
async fn with_nothing_to_do_it_ends_at_once() {
    let upstream = Upstream::start();
    let mut gateway = Gateway::in_front_of(upstream.addr());
    let host = gateway.authority().to_owned();
    let mut idle = gateway.raw().await;
    idle.get("/public/x", &host, "").await.expect(200);
    let begun = Instant::now();
    let ended = gateway.terminate(Duration::from_secs(5));
    assert!(ended.success(), "{ended}");
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_in_flight_is_lost() {
    let gate = Gate::closed();
    let upstream = upstream(&gate);
    let mut gateway = Gateway::in_front_of(upstream.addr());
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..20 {
        let mut client = if number % 2 == 0 { gateway.client() } else { Client::h2(&gateway) };
        tasks.spawn(async move { client.get("/public/gated").await });
    }
    upstream.received(20).await;
    gateway.signal(Signal::TERM);
    draining(&gateway).await;
    gate.open();
    while let Some(answer) = tasks.join_next().await {
        let answer = answer.unwrap().expect(200);
        assert_eq!((answer.text().as_str(), answer.truncated), ("halfhalf", false));
    }
    assert!(gateway.wait(Duration::from_secs(5)).success());
}

/// A client that still sent behind an early answer was idle for the gateway: cut two seconds after the GOAWAY.
#[tokio::test]
async fn an_http2_upload_behind_its_answer_may_end() {
    let early = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nearly";
    let upstream = Upstream::answering(move |_| Reply::early(early).then_read());
    let mut gateway = Gateway::in_front_of(upstream.addr());
    let mut head = get(gateway.authority(), "/public/x");
    head[0].1 = "POST";
    let mut h2 = H2Raw::connect(&gateway).await;
    h2.frame(HEADERS, END_HEADERS, 1, &block(&head)).await;
    h2.frame(DATA, 0, 1, b"hello").await;
    assert_eq!(h2.outcome(1).await, Outcome::Status(200));
    gateway.signal(Signal::TERM);
    draining(&gateway).await;
    // The second GOAWAY, behind the PING that is confirmed, says which requests are done.
    for last in [u32::MAX >> 1, 1] {
        let payload = loop {
            let (kind, _, _, payload) = h2.next().await.expect("closed without GOAWAY");
            if kind == GOAWAY {
                break payload;
            }
        };
        assert_eq!((number(&payload), number(&payload[4..])), (last, 0));
    }
    // Longer than an idle connection stays open behind it.
    for _ in 0..30 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        h2.frame(DATA, 0, 1, b"x").await;
    }
    h2.frame(PING, 0, 0, b"still on").await;
    loop {
        let (kind, flags, _, payload) = h2.next().await.expect("cut while it still sent");
        assert_ne!(kind, RST_STREAM);
        if kind == PING && flags & ACK == ACK && payload == b"still on" {
            break;
        }
    }
    h2.frame(DATA, END_STREAM, 1, b"!").await;
    let begun = Instant::now();
    while let Some((kind, ..)) = h2.next().await {
        assert!(!matches!(kind, RST_STREAM | GOAWAY), "{kind}");
    }
    // With the last byte, and not when the time of the stop was over.
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert!(gateway.wait(Duration::from_secs(5)).success());
}

/// Closed on what a client still sent, its connection was reset: what it had not yet got of its answer was lost.
#[tokio::test]
async fn who_still_sends_an_http2_upload_that_was_refused_is_not_reset() {
    let gate = Gate::closed();
    let upstream = upstream(&gate);
    let mut gateway = Gateway::in_front_of(upstream.addr());
    let host = gateway.authority().to_owned();
    let mut h2 = H2Raw::connect(&gateway).await;
    h2.request(1, &get(&host, "/public/gated")).await;
    let mut head = get(&host, "/nowhere");
    head[0].1 = "POST";
    h2.frame(HEADERS, END_HEADERS, 3, &block(&head)).await;
    assert_eq!(h2.outcome(3).await, Outcome::Status(401));
    upstream.received(1).await;
    gateway.signal(Signal::TERM);
    draining(&gateway).await;
    gate.open();
    while h2.next().await.is_some() {}
    // Has said that it ends; the client may not have seen it yet.
    for _ in 0..10 {
        h2.try_frame(DATA, 0, 3, &[b'x'; 1000]).await.expect("reset");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    drop(h2);
    assert!(gateway.wait(Duration::from_secs(5)).success());
}
