//! Clients whose requests share a connection to an app: what one of them does ends nobody else's.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use http::Method;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpSocket;
use tokio::time::timeout;

use super::{in_front_of, raw_app, raw_frames};
use crate::support::Client;
use crate::support::h2raw::{
    ACK, DATA, END_HEADERS, END_STREAM, H2Raw, HEADERS, Outcome, PING, RST_STREAM, SETTINGS,
    WINDOW_UPDATE, block, frame, get,
};
use crate::support::process::{PATIENCE, eventually, unread_at};
use crate::support::raw::Door;

fn head(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &block(&[(":status", "200")]))
}

/// Regression: small pieces that nobody took used up what h2 holds of them for a whole connection, and it ended with
/// the requests of all others.
#[tokio::test]
async fn events_that_a_client_does_not_take_end_no_others() {
    const EVENTS: usize = 3000;
    const STREAMS: u32 = 60;
    let event = |n: usize| format!("{n:019}\n");
    let addr = raw_app(move |stream| {
        let mut said = head(stream);
        for n in 0..EVENTS {
            let last = if n + 1 == EVENTS { END_STREAM } else { 0 };
            said.extend(frame(DATA, last, stream, event(n).as_bytes()));
        }
        said
    });
    let gateway = in_front_of(addr.await);
    let mut greedy = H2Raw::connect(&gateway).await;
    greedy.frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]).await;
    let streams = || (0..STREAMS).map(|number| 2 * number + 1);
    for stream in streams() {
        greedy.request(stream, &get(gateway.authority(), "/events")).await;
    }
    let all: String = (0..EVENTS).map(event).collect();
    for mut other in [gateway.client(), Client::h2(&gateway)] {
        let answer = timeout(PATIENCE, other.get("/events")).await.expect("held up").expect(200);
        assert!(answer.text() == all && !answer.truncated);
    }
    // Who takes it late gets all of it.
    for stream in std::iter::once(0).chain(streams()) {
        greedy.frame(WINDOW_UPDATE, 0, stream, &(1_u32 << 24).to_be_bytes()).await;
    }
    let mut taken = HashMap::<u32, Vec<u8>>::new();
    let mut ended = 0;
    while ended < STREAMS {
        let (kind, flags, stream, payload) = greedy.next().await.expect("closed");
        assert_ne!(kind, RST_STREAM, "stream {stream}: {payload:?}");
        if kind == DATA {
            taken.entry(stream).or_default().extend(payload);
            ended += u32::from(flags & END_STREAM != 0);
        }
    }
    assert!(taken.len() == STREAMS as usize && taken.values().all(|text| text == all.as_bytes()));
}

/// Regression: frames that come behind a cancelled request were faults of the app, and with a thousand of them h2 ended
/// the connection. They are on their way when a client leaves.
#[tokio::test]
async fn clients_that_leave_end_no_others() {
    const LEAVING: usize = 400;
    let cancelled = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&cancelled);
    let addr = raw_frames(move |kind, stream| match kind {
        HEADERS => head(stream),
        RST_STREAM => {
            let mut late = frame(DATA, 0, stream, b"late by some seconds").repeat(100);
            if counted.fetch_add(1, Ordering::SeqCst) + 1 == LEAVING {
                // The first request of the connection.
                late.extend(frame(DATA, END_STREAM, 1, b"done"));
            }
            late
        }
        _ => Vec::new(),
    });
    let gateway = in_front_of(addr.await);
    let mut waiting = H2Raw::connect(&gateway).await;
    waiting.request(1, &get(gateway.authority(), "/")).await;
    assert_eq!(waiting.outcome(1).await, Outcome::Status(200));
    let mut stream = 1;
    let mut leaver = H2Raw::connect(&gateway).await;
    for number in 1..=LEAVING {
        leaver.request(stream, &get(gateway.authority(), "/")).await;
        assert_eq!(leaver.outcome(stream).await, Outcome::Status(200));
        leaver.frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()).await;
        stream += 2;
        if number % 100 == 0 {
            leaver = H2Raw::connect(&gateway).await;
            stream = 1;
        }
    }
    eventually("all are cancelled", || (cancelled.load(Ordering::SeqCst) >= LEAVING).then_some(()))
        .await;
    loop {
        let (kind, flags, _, payload) = waiting.next().await.expect("closed");
        assert_ne!(kind, RST_STREAM, "{payload:?}");
        if kind == DATA {
            assert_eq!((&*payload, flags & END_STREAM), (&b"done"[..], END_STREAM));
            break;
        }
    }
}

/// Regression: an app may answer a request of which it wants no more, and need not say so (RFC 9113 section 8.1). The
/// rest waited for it as long as the connection lived, and with it the connection of the client.
#[tokio::test]
async fn the_rest_of_a_request_that_nobody_takes_is_given_up() {
    let told = Arc::new(AtomicBool::new(false));
    let noted = Arc::clone(&told);
    let addr = raw_frames(move |kind, stream| {
        noted.fetch_or(kind == RST_STREAM, Ordering::SeqCst);
        if kind != HEADERS {
            return Vec::new();
        }
        let mut answer = head(stream);
        answer.extend(frame(DATA, END_STREAM, stream, b"enough"));
        answer
    });
    let gateway = in_front_of(addr.await);
    for mut client in [gateway.client(), Client::h2(&gateway)] {
        told.store(false, Ordering::SeqCst);
        let body = Bytes::from(vec![b'x'; 1 << 20]);
        // Who is still sending may miss the answer.
        let _ = client.try_request(Method::POST, "/", &[], body).await;
        drop(client);
        eventually("the app is told", || told.load(Ordering::SeqCst).then_some(())).await;
    }
    gateway.metric_is("portcullis_connections_open", |open| open == 0.0).await;
}

/// Small pieces, and how many of them make up a body.
const PIECE: &[u8] = b"tick\n";
const PIECES: usize = 12_000;
/// How many bodies.
const BODIES: u32 = 40;
/// Memory in KiB that they may take up: they took well over a hundred MiB as frames.
const MOST: u64 = 64 << 10;

/// Regression: h2 had each small piece of an answer as a frame, hundreds of bytes, for a client that does not read.
#[tokio::test]
async fn small_pieces_for_a_client_that_does_not_read_are_joined() {
    let said = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&said);
    let addr = raw_frames(move |kind, stream| match kind {
        HEADERS => {
            let mut answer = head(stream);
            for number in 1..=PIECES {
                let end = if number == PIECES { END_STREAM } else { 0 };
                answer.extend(frame(DATA, end, stream, PIECE));
            }
            answer.extend(frame(PING, 0, 0, &[0; 8]));
            answer
        }
        PING => {
            counted.fetch_add(1, Ordering::SeqCst);
            Vec::new()
        }
        _ => Vec::new(),
    });
    let gateway = in_front_of(addr.await);
    gateway.client().get("/").await.expect(200);
    let mut client = H2Raw::narrow(&gateway).await;
    let before = gateway.resident();
    gateway.forget_peak();
    for number in 0..BODIES {
        client.request(2 * number + 1, &get(gateway.authority(), "/")).await;
    }
    let all = BODIES as usize + 1;
    eventually("all is said", || (said.load(Ordering::SeqCst) >= all).then_some(())).await;
    let mut taken = HashMap::<u32, Vec<u8>>::new();
    let mut ended = 0;
    while ended < BODIES {
        let (kind, flags, stream, payload) = client.next().await.expect("closed");
        assert_ne!(kind, RST_STREAM, "stream {stream}: {payload:?}");
        if kind == DATA {
            taken.entry(stream).or_default().extend(payload);
            ended += u32::from(flags & END_STREAM != 0);
        }
    }
    let whole = PIECE.repeat(PIECES);
    assert!(taken.len() == BODIES as usize && taken.values().all(|text| *text == whole));
    let grown = gateway.peak().saturating_sub(before);
    println!("{BODIES} answers of {PIECES} pieces, unread: {grown} KiB more");
    assert!(grown < MOST, "{grown} KiB");
}

/// The same towards an app that does not read.
#[tokio::test]
async fn small_pieces_for_an_app_that_does_not_read_are_joined() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(16 << 10).unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(16).unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((mut tcp, _)) = listener.accept().await {
            let widest = [&[0, 4], &i32::MAX.to_be_bytes()[..]].concat();
            let mut said = frame(SETTINGS, 0, 0, &widest);
            said.extend(frame(SETTINGS, ACK, 0, &[]));
            said.extend(frame(WINDOW_UPDATE, 0, 0, &(1_u32 << 30).to_be_bytes()));
            tcp.write_all(&said).await.unwrap();
            held.push(tcp);
        }
    });
    let gateway = in_front_of(addr);
    let door = Door::of(&gateway);
    let chunks = |piece: &[u8], count: usize| {
        let size = format!("{:x}\r\n", piece.len());
        [size.as_bytes(), piece, b"\r\n"].concat().repeat(count)
    };
    let all_is_taken = async || {
        let port = gateway.addr().port();
        eventually("all is taken", || (unread_at(port) == 0).then_some(())).await;
    };
    let mut clients = Vec::new();
    for _ in 0..2 * BODIES {
        let mut client = door.raw().await;
        let host = &door.host;
        let head = format!("POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n");
        client.send(head).await;
        clients.push(client);
    }
    all_is_taken().await;
    let (large, small) = clients.split_at_mut(BODIES as usize);
    for client in large {
        // The socket is full before the small ones come.
        client.send(chunks(&[b'x'; 60_000], 1)).await;
    }
    all_is_taken().await;
    let before = gateway.resident();
    gateway.forget_peak();
    for client in small {
        client.send(chunks(PIECE, PIECES)).await;
    }
    all_is_taken().await;
    let grown = gateway.peak().saturating_sub(before);
    println!("{BODIES} requests of {PIECES} pieces, unread: {grown} KiB more");
    assert!(grown < MOST, "{grown} KiB");
}

/// Regression: frames without a byte, which say nothing, ended the connection behind a hundred of them, with the requests
/// of all clients on it.
#[tokio::test]
async fn frames_that_say_nothing_end_no_others() {
    const IDLE: usize = 300;
    let addr = raw_app(|stream| {
        let mut said = head(stream);
        said.extend(frame(DATA, 0, stream, b"").repeat(IDLE));
        said.extend(frame(DATA, 0, stream, b"some"));
        said.extend(frame(DATA, 0, stream, b"").repeat(IDLE));
        said.extend(frame(DATA, 0, stream, b"thing"));
        said.extend(frame(DATA, END_STREAM, stream, b""));
        said
    });
    let gateway = in_front_of(addr.await);
    for mut client in [gateway.client(), Client::h2(&gateway)] {
        for _ in 0..5 {
            let answer = client.get("/").await.expect(200);
            assert!(answer.text() == "something" && !answer.truncated);
        }
    }
}
