//! What an app sends on an HTTP/2 connection, over a real socket: a whole body is what a plain reader finds on the
//! request's stream, and neither how the bytes arrive nor frames that say nothing change the answer.

use http::{Method, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::core;
use crate::reply::{App, Seen};

/// Words of connections.
pub const WORDS: &[&str] = &[
    "\u{0}\u{0}\u{0}\u{4}\u{0}\u{0}\u{0}\u{0}\u{0}",
    "\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}\u{1}",
    "\u{0}\u{0}\u{0}\u{0}\u{1}\u{0}\u{0}\u{0}\u{1}",
    "\u{0}\u{0}\u{4}\u{0}\u{0}\u{0}\u{0}\u{0}\u{1}test",
    "\u{0}\u{0}\u{4}\u{0}\u{1}\u{0}\u{0}\u{0}\u{1}last",
    "\u{0}\u{0}\u{4}\u{0}\u{8}\u{0}\u{0}\u{0}\u{1}\u{2}x\u{0}\u{0}",
    "\u{0}\u{0}\u{6}\u{1}\u{4}\u{0}\u{0}\u{0}\u{1}\u{8}\u{3}100",
    "\u{0}\u{0}\u{6}\u{1}\u{4}\u{0}\u{0}\u{0}\u{1}\u{8}\u{3}200",
    "\u{0}\u{0}\u{6}\u{1}\u{5}\u{0}\u{0}\u{0}\u{1}\u{0}\u{1}x\u{2}yz",
    "\u{0}\u{0}\u{4}\u{3}\u{0}\u{0}\u{0}\u{0}\u{1}\u{0}\u{0}\u{0}\u{0}",
    "\u{0}\u{0}\u{8}\u{7}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}\u{1}\u{0}\u{0}\u{0}\u{0}",
    "\u{0}\u{0}\u{8}\u{6}\u{0}\u{0}\u{0}\u{0}\u{0}portculs",
    "\u{0}\u{0}\u{0}\u{9}\u{4}\u{0}\u{0}\u{0}\u{1}",
    "\u{0}",
    "\u{1}",
    "\u{4}",
];

/// Bytes of a frame's head, and of what a client begins with.
const HEAD: usize = 9;
const PREFACE: usize = 24;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const END_STREAM: u8 = 1;
const PADDED: u8 = 8;
/// A DATA frame that says nothing, more often than h2 bears.
const IDLE: [u8; HEAD] = [0, 0, 0, 0, 0, 0, 0, 0, 1];
const OFTEN: usize = 120;

/// Reads `data` as all that an app sends on a connection behind the request's head.
pub fn run(data: &[u8]) {
    let data = data.get(..4096).unwrap_or(data);
    let halves = data.split_at(data.len() / 2);
    let seen = [answered(&[data]), answered(&[halves.0, halves.1]), answered(&[&with_idle(data)])];
    let body = plain(data);
    for seen in &seen {
        let Seen::Answer(answer) = seen else { continue };
        let has_none = [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&answer.status);
        if answer.whole && !has_none {
            assert_eq!(answer.body, body, "another body than sent");
        }
    }
    let whole: Vec<&Seen> = seen.iter().filter(|seen| is_whole(seen)).collect();
    assert!(whole.windows(2).all(|two| two[0] == two[1]), "another answer: {whole:?}");
}

fn is_whole(seen: &Seen) -> bool {
    matches!(seen, Seen::Answer(answer) if answer.whole)
}

/// What a client makes of `pieces`, which come one by one.
fn answered(pieces: &[&[u8]]) -> Seen {
    core::run(tokio::task::LocalSet::new().run_until(async {
        let app = App::new("h2c").await;
        tokio::select! {
            seen = app.ask(&Method::GET) => seen,
            () = say(&app, pieces) => unreachable!("an app is there until it is not needed"),
        }
    }))
}

/// Shakes hands, takes a request's head, and says `pieces`. Takes no other connection, on which the request may be sent
/// again where it was refused.
async fn say(app: &App, pieces: &[&[u8]]) {
    let (mut tcp, _) = app.listener.accept().await.unwrap();
    tcp.set_nodelay(true).unwrap();
    tcp.write_all(&[0, 0, 0, SETTINGS, 0, 0, 0, 0, 0]).await.unwrap();
    tcp.read_exact(&mut [0; PREFACE]).await.unwrap();
    loop {
        let mut head = [0; HEAD];
        tcp.read_exact(&mut head).await.unwrap();
        let mut payload = vec![0; length(&head)];
        tcp.read_exact(&mut payload).await.unwrap();
        if head[3] == HEADERS {
            break;
        }
    }
    // The client may have closed the connection at what it saw first.
    for piece in pieces {
        let _ = tcp.write_all(piece).await;
        tokio::task::yield_now().await;
    }
    let _ = tcp.shutdown().await;
    loop {
        let _ = app.listener.accept().await;
    }
}

fn length(head: &[u8; HEAD]) -> usize {
    u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize
}

/// The whole frames of `data`, each as its head and its payload.
fn frames(mut data: &[u8]) -> impl Iterator<Item = (&[u8; HEAD], &[u8])> {
    std::iter::from_fn(move || {
        let (head, behind) = data.split_first_chunk::<HEAD>()?;
        let payload = behind.get(..length(head))?;
        data = &behind[payload.len()..];
        Some((head, payload))
    })
}

/// The same with many frames that say nothing in front of the first.
fn with_idle(data: &[u8]) -> Vec<u8> {
    let mut all = IDLE.repeat(OFTEN);
    let mut length = 0;
    for (head, payload) in frames(data) {
        all.extend(head.iter().chain(payload).chain(&IDLE));
        length += HEAD + payload.len();
    }
    // Half a frame at the end.
    all.extend(&data[length..]);
    all
}

/// The body on the first stream in the plainest way, to its end.
fn plain(data: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    for (head, payload) in frames(data) {
        let (kind, flags) = (head[3], head[4]);
        if u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff != 1 {
            continue;
        }
        if kind == 0 {
            let padded = match payload {
                [padding, rest @ ..] if flags & PADDED != 0 => {
                    rest.get(..rest.len().saturating_sub(usize::from(*padding))).unwrap()
                }
                _ => payload,
            };
            body.extend_from_slice(padded);
        }
        if kind == RST_STREAM || kind <= HEADERS && flags & END_STREAM != 0 {
            break;
        }
    }
    body
}
