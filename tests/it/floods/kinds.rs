//! The floods: what a client sends without end that asks for nothing, or for more than it takes.

use std::time::{Duration, Instant};

use tokio::time::timeout;

use crate::support::Gateway;
use crate::support::h2raw::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, H2Raw, HEADERS, PADDED, PING,
    PRIORITY, PRIORITY_UPDATE, RST_STREAM, SETTINGS, WINDOW_UPDATE, block, frame, get, number,
};

/// Pieces that are sent before the gateway is asked whether it still answers.
const ROUND: u32 = 50;
/// More pieces than any flood may need.
const END: u32 = 20_000;
/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(10);

type Piece = Box<dyn Fn(u32) -> Vec<u8> + Send + Sync>;

/// One way to flood a connection.
pub(super) struct Flood {
    pub(super) name: &'static str,
    /// The path that its requests are for, if it makes any. Nobody answers them.
    pub(super) path: String,
    /// Sent before all.
    open: Vec<u8>,
    /// The piece of this number.
    piece: Piece,
    /// How many of them may be taken at once, and in each second. Up to two rounds may be on their way.
    most: (u32, u32),
    /// Whether it is all within one head, so that no other frame may come between.
    in_head: bool,
}

/// How a flood ended.
#[derive(Debug)]
pub(super) struct End {
    pub(super) pieces: u32,
    /// The code of GOAWAY; `None` when the connection was closed without a word.
    pub(super) code: Option<u32>,
    took: Duration,
    most: u32,
}

impl End {
    pub(super) fn is_in_bounds(&self) -> bool {
        self.pieces <= self.most
    }
}

impl Flood {
    /// Floods a connection of its own until it is given up. Fails the test when it is not.
    pub(super) async fn run(&self, gateway: &Gateway) -> End {
        let mut h2 = H2Raw::connect(gateway).await;
        h2.send(&self.open).await;
        let begun = Instant::now();
        let end = |pieces, code| {
            let took = begun.elapsed();
            let free = f64::from(self.most.1) * (took.as_secs_f64() + 1.0);
            End { pieces, code, took, most: self.most.0 + free as u32 + 2 * ROUND }
        };
        for first in (0..END).step_by(ROUND as usize) {
            let next = first + ROUND;
            let mut bytes: Vec<u8> = (first..next).flat_map(|piece| (self.piece)(piece)).collect();
            if !self.in_head {
                bytes.extend(frame(PING, 0, 0, &mark(next)));
            }
            h2.send(&bytes).await;
            let limit = if self.in_head { Duration::from_millis(2) } else { LIMIT };
            match timeout(limit, answer(&mut h2, next)).await {
                Ok(Answer::Given) => {}
                Ok(Answer::End(code)) => return end(next, code),
                Err(_) if self.in_head => {}
                Err(_) => panic!("{}: neither an answer nor the end in {LIMIT:?}", self.name),
            }
        }
        panic!("{}: {END} pieces in {:?} and the connection goes on", self.name, begun.elapsed());
    }
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let code = self.code.map_or("closed".to_owned(), |code| format!("GOAWAY {code}"));
        write!(f, "{} pieces of at most {} in {:?}, {code}", self.pieces, self.most, self.took)
    }
}

enum Answer {
    Given,
    End(Option<u32>),
}

/// Bytes of a PING of ours, and of nobody else.
fn mark(round: u32) -> [u8; 8] {
    let [a, b, c, d] = round.to_be_bytes();
    [b'm', b'a', b'r', b'k', a, b, c, d]
}

/// Reads until the PING of this round is answered or the connection is over.
async fn answer(h2: &mut H2Raw, round: u32) -> Answer {
    while let Some((kind, flags, _, payload)) = h2.read().await {
        match kind {
            GOAWAY => return Answer::End(Some(number(&payload[4..]))),
            PING if flags & ACK != 0 && payload == mark(round) => return Answer::Given,
            _ => {}
        }
    }
    Answer::End(None)
}

/// The stream of a piece that opens one.
fn stream(piece: u32) -> u32 {
    2 * piece + 1
}

/// Streams that one side or the other resets: see `src/serve/frames/budget.rs`.
const RESETS: (u32, u32) = (500 + 128, 50);
/// Frames that ask for nothing.
const CONTROL: (u32, u32) = (1000, 100);

/// All floods. `host` is the gateway's.
pub(super) fn all(host: &str) -> Vec<Flood> {
    let mut floods = takers_back(host);
    floods.extend(made_resets(host));
    floods.extend(controls(host));
    floods.extend(heads(host));
    for (number, flood) in floods.iter().enumerate() {
        assert!(floods.iter().skip(number + 1).all(|other| other.name != flood.name));
    }
    floods
}

/// The block of a request that nobody answers.
fn hang(host: &str, method: &str, path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let mut fields = get(host, path);
    fields[0].1 = method;
    fields.extend(more);
    block(&fields)
}

/// Requests that are taken back, and more of them at once than are allowed.
fn takers_back(host: &str) -> Vec<Flood> {
    let path = |name: &str| format!("/hang/{name}");
    let back = hang(host, "GET", &path("back"), &[]);
    let late = hang(host, "GET", &path("late"), &[]);
    let many = hang(host, "GET", &path("many"), &[]);
    vec![
        // CVE-2023-44487
        Flood {
            name: "rapid reset",
            path: path("back"),
            open: Vec::new(),
            piece: Box::new(move |piece| {
                let head = frame(HEADERS, END_HEADERS | END_STREAM, stream(piece), &back);
                [head, frame(RST_STREAM, 0, stream(piece), &8_u32.to_be_bytes())].concat()
            }),
            most: RESETS,
            in_head: false,
        },
        // Each request has reached the app when it is taken back.
        Flood {
            name: "rapid reset, a round later",
            path: path("late"),
            open: Vec::new(),
            piece: Box::new(move |piece| {
                let head = frame(HEADERS, END_HEADERS | END_STREAM, stream(piece), &late);
                let before = |piece| frame(RST_STREAM, 0, stream(piece), &8_u32.to_be_bytes());
                [head, piece.checked_sub(ROUND).map(before).unwrap_or_default()].concat()
            }),
            most: RESETS,
            in_head: false,
        },
        Flood {
            name: "more streams than allowed",
            path: path("many"),
            open: Vec::new(),
            piece: Box::new(move |piece| {
                frame(HEADERS, END_HEADERS | END_STREAM, stream(piece), &many)
            }),
            most: (RESETS.0 + 128, RESETS.1),
            in_head: false,
        },
    ]
}

/// What makes the gateway reset a stream (CVE-2025-8671).
fn made_resets(host: &str) -> Vec<Flood> {
    let one = |name: &'static str,
               short: &str,
               method: &str,
               more: &[(&str, &str)],
               flags: u8,
               then: Box<dyn Fn(u32) -> Vec<u8> + Send + Sync>| {
        let path = format!("/hang/{short}");
        let head = hang(host, method, &path, more);
        let piece: Piece = Box::new(move |piece| {
            let stream = stream(piece);
            [frame(HEADERS, flags | END_HEADERS, stream, &head), then(stream)].concat()
        });
        Flood { name, path, open: Vec::new(), piece, most: RESETS, in_head: false }
    };
    let length = [("content-length", "1")];
    let before = |then: fn(u32) -> Vec<u8>| -> Box<dyn Fn(u32) -> Vec<u8> + Send + Sync> {
        // The stream of the round before: its request has reached the app.
        Box::new(move |stream| stream.checked_sub(2 * ROUND).map(then).unwrap_or_default())
    };
    let most = (1_u32 << 31) - 1;
    vec![
        one(
            "made reset: WINDOW_UPDATE of 0",
            "window",
            "GET",
            &[],
            END_STREAM,
            Box::new(|stream| frame(WINDOW_UPDATE, 0, stream, &[0; 4])),
        ),
        one(
            "made reset: window overflow",
            "overflow",
            "GET",
            &[],
            END_STREAM,
            Box::new(move |stream| frame(WINDOW_UPDATE, 0, stream, &most.to_be_bytes())),
        ),
        one(
            "made reset: window overflow, a round later",
            "late-overflow",
            "GET",
            &[],
            END_STREAM,
            before(|stream| frame(WINDOW_UPDATE, 0, stream, &[0x7f, 0xff, 0xff, 0xff])),
        ),
        one(
            "made reset: more than the content-length, a round later",
            "late-length",
            "POST",
            &length,
            0,
            before(|stream| frame(DATA, 0, stream, b"more")),
        ),
        one(
            "made reset: DATA behind the end",
            "data",
            "GET",
            &[],
            END_STREAM,
            Box::new(|stream| frame(DATA, 0, stream, b"more")),
        ),
        one(
            "made reset: HEADERS behind the end",
            "headers",
            "GET",
            &[],
            END_STREAM,
            Box::new(|stream| {
                frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(&[("x-a", "b")]))
            }),
        ),
        one(
            "made reset: more than the content-length",
            "length",
            "POST",
            &length,
            0,
            Box::new(|stream| frame(DATA, 0, stream, b"more")),
        ),
        one(
            "made reset: trailers that do not end",
            "trailers",
            "POST",
            &[],
            0,
            Box::new(|stream| frame(HEADERS, END_HEADERS, stream, &block(&[("x-a", "b")]))),
        ),
        one(
            "made reset: a malformed head",
            "head",
            "GET",
            &[("X-Upper", "case")],
            END_STREAM,
            Box::new(|_| Vec::new()),
        ),
        one(
            "made reset: PRIORITY of its own stream",
            "priority",
            "GET",
            &[],
            END_STREAM,
            Box::new(|stream| {
                frame(PRIORITY, 0, stream, &[&stream.to_be_bytes()[..], &[0]].concat())
            }),
        ),
    ]
}

/// Frames that ask for nothing.
fn controls(host: &str) -> Vec<Flood> {
    let path = "/hang/control".to_owned();
    let same = |name: &'static str, bytes: Vec<u8>, most: (u32, u32)| Flood {
        name,
        path: path.clone(),
        open: Vec::new(),
        piece: Box::new(move |_| bytes.clone()),
        most,
        in_head: false,
    };
    let upload = frame(HEADERS, END_HEADERS, 1, &hang(host, "POST", &path, &[]));
    let request = frame(HEADERS, END_HEADERS | END_STREAM, 1, &hang(host, "GET", &path, &[]));
    let with = |open: &[u8], flood: Flood| Flood { open: open.to_vec(), ..flood };
    let settings = |setting: u16, value: u32| {
        frame(SETTINGS, 0, 0, &[&setting.to_be_bytes()[..], &value.to_be_bytes()].concat())
    };
    let one = 1_u32.to_be_bytes();
    let few = (CONTROL.0 / 10, CONTROL.1 / 10);
    vec![
        same("PING", frame(PING, 0, 0, &[7; 8]), CONTROL),
        same("PING that confirms nothing", frame(PING, ACK, 0, &[7; 8]), CONTROL),
        same("SETTINGS", frame(SETTINGS, 0, 0, &[]), few),
        with(&request, same("SETTINGS of the window", settings(4, 1000), few)),
        same("SETTINGS of the table", settings(1, 4096), few),
        same("SETTINGS that confirm nothing", frame(SETTINGS, ACK, 0, &[]), few),
        same("PRIORITY", frame(PRIORITY, 0, 3, &[0, 0, 0, 1, 5]), CONTROL),
        same("PRIORITY_UPDATE", frame(PRIORITY_UPDATE, 0, 0, b"\0\0\0\x01u=1"), CONTROL),
        same("an unknown type", frame(0xee, 0, 0, &[0; 100]), CONTROL),
        same("WINDOW_UPDATE", frame(WINDOW_UPDATE, 0, 0, &one), CONTROL),
        with(
            &request,
            same("WINDOW_UPDATE of a stream", frame(WINDOW_UPDATE, 0, 1, &one), CONTROL),
        ),
        with(&upload, same("empty DATA", frame(DATA, 0, 1, &[]), CONTROL)),
        with(&upload, same("DATA of padding", frame(DATA, PADDED, 1, &[0]), CONTROL)),
    ]
}

/// Heads without end.
fn heads(host: &str) -> Vec<Flood> {
    let path = "/hang/head".to_owned();
    let begun = frame(HEADERS, END_STREAM, 1, &hang(host, "GET", &path, &[]));
    let filler = block(&[("x-filler", "a".repeat(400).as_str())]);
    let endless = |name, bytes: Vec<u8>| Flood {
        name,
        path: path.clone(),
        open: begun.clone(),
        piece: Box::new(move |_| bytes.clone()),
        // Nothing can be asked meanwhile, so more are sent than are taken.
        most: (END, 0),
        in_head: true,
    };
    vec![
        endless("CONTINUATION", frame(CONTINUATION, 0, 1, &filler)),
        endless("empty CONTINUATION", frame(CONTINUATION, 0, 1, &[])),
    ]
}
