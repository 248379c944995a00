//! HTTP/2 frames by hand, to send what no HTTP/2 library would: wrong pseudo-headers, connection
//! headers, bad lengths. Header blocks are literals without Huffman coding.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpSocket;
use tokio::time::timeout;

use super::gateway::Gateway;
use super::process::PATIENCE;
use super::raw::Raw;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PUSH_PROMISE: u8 = 5;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;
/// PRIORITY_UPDATE of RFC 9218: a type that the gateway does not know.
pub(crate) const PRIORITY_UPDATE: u8 = 16;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const ACK: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
pub(crate) const PADDED: u8 = 8;
/// The flag of HEADERS with five bytes of priority in front.
pub(crate) const PRIORITIZED: u8 = 32;

/// What a client begins with (RFC 9113 section 3.4).
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What became of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// An answer with this status.
    Status(u16),
    /// The stream was reset with this code.
    Reset(u32),
    /// The connection was given up with this code.
    GoAway(u32),
    /// The connection ended without a word.
    Closed,
}

impl Outcome {
    /// Whether the request was refused: as malformed, or with a 4xx.
    pub(crate) fn refused(&self) -> bool {
        match self {
            Self::Status(status) => (400..500).contains(status),
            Self::Reset(_) | Self::GoAway(_) | Self::Closed => true,
        }
    }
}

/// One HTTP/2 connection on which the test writes the frames.
#[derive(Debug)]
pub(crate) struct H2Raw {
    raw: Raw,
}

impl H2Raw {
    /// Connects and sends the preface. The settings leave no room for indexed fields in answers, so that a
    /// status can be read without what came before it.
    pub(crate) async fn connect(gateway: &Gateway) -> Self {
        Self::silent(gateway).await.open().await
    }

    /// As [`Self::connect`], with windows as wide as they can be and a socket that holds little.
    pub(crate) async fn narrow(gateway: &Gateway) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(16 << 10).unwrap();
        let tcp = socket.connect(gateway.addr()).await.unwrap();
        let raw = Raw::over(tcp, gateway.tls(&["h2"]), "localhost").await.unwrap();
        let mut connection = Self { raw }.open().await;
        let widest = i32::MAX.to_be_bytes();
        connection.frame(SETTINGS, 0, 0, &[&[0, 4], &widest[..]].concat()).await;
        connection.frame(WINDOW_UPDATE, 0, 0, &(1_u32 << 30).to_be_bytes()).await;
        connection
    }

    async fn open(mut self) -> Self {
        self.send(PREFACE).await;
        self.frame(SETTINGS, 0, 0, &[0, 1, 0, 0, 0, 0]).await;
        self
    }

    /// Connects and sends nothing.
    pub(crate) async fn silent(gateway: &Gateway) -> Self {
        let raw = Raw::tls(gateway.addr(), gateway.tls(&["h2"]), "localhost").await;
        assert_eq!(raw.alpn.as_deref(), Some("h2"));
        Self { raw }
    }

    pub(crate) async fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.raw.send(frame(kind, flags, stream, payload)).await;
    }

    /// A whole request without body.
    pub(crate) async fn request(&mut self, stream: u32, fields: &[(&str, &str)]) {
        self.frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(fields)).await;
    }

    /// A request with a body in one frame, or in none when `body` is empty.
    pub(crate) async fn request_with(&mut self, stream: u32, fields: &[(&str, &str)], body: &[u8]) {
        self.frame(HEADERS, END_HEADERS, stream, &block(fields)).await;
        self.frame(DATA, END_STREAM, stream, body).await;
    }

    /// Reads until the stream has an answer or is over.
    pub(crate) async fn outcome(&mut self, stream: u32) -> Outcome {
        let outcome = timeout(PATIENCE, self.wait(stream)).await;
        outcome.unwrap_or_else(|_| panic!("nothing on stream {stream} within {PATIENCE:?}"))
    }

    /// Whether the connection is given up within `limit`.
    pub(crate) async fn ends_within(&mut self, limit: Duration) -> bool {
        timeout(limit, async {
            while let Some((kind, ..)) = self.read().await {
                if kind == GOAWAY {
                    return;
                }
            }
        })
        .await
        .is_ok()
    }

    async fn wait(&mut self, stream: u32) -> Outcome {
        loop {
            let Some((kind, flags, id, payload)) = self.read().await else {
                return Outcome::Closed;
            };
            match kind {
                SETTINGS if flags & ACK == 0 => self.frame(SETTINGS, ACK, 0, &[]).await,
                HEADERS if id == stream => return Outcome::Status(status(&payload)),
                RST_STREAM if id == stream => return Outcome::Reset(number(&payload)),
                GOAWAY => return Outcome::GoAway(number(&payload[4..])),
                _ => {}
            }
        }
    }

    /// The next frame as kind, flags, stream and payload, `None` at the end of the connection.
    /// Settings and pings are acknowledged, as every client does.
    pub(crate) async fn next(&mut self) -> Option<(u8, u8, u32, Vec<u8>)> {
        let frame = timeout(PATIENCE, self.read()).await;
        let frame = frame.unwrap_or_else(|_| panic!("no frame within {PATIENCE:?}"))?;
        let (kind, flags, _, payload) = &frame;
        if flags & ACK == 0 && matches!(*kind, SETTINGS | PING) {
            let echo: &[u8] = if *kind == PING { payload } else { &[] };
            self.frame(*kind, ACK, 0, echo).await;
        }
        Some(frame)
    }

    /// Writes bytes as they are: many frames at once.
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.raw.send(bytes).await;
    }

    /// As [`Self::frame`], with what became of it.
    pub(crate) async fn try_frame(
        &mut self,
        kind: u8,
        flags: u8,
        stream: u32,
        payload: &[u8],
    ) -> std::io::Result<()> {
        let tls = &mut self.raw.reader.stream;
        tls.write_all(&frame(kind, flags, stream, payload)).await?;
        tls.flush().await
    }

    /// The next frame as it is, however long it takes.
    pub(crate) async fn read(&mut self) -> Option<(u8, u8, u32, Vec<u8>)> {
        let head = self.raw.reader.exactly(9).await?;
        let length = number(&[0, head[0], head[1], head[2]]) as usize;
        let payload = self.raw.reader.exactly(length).await?;
        Some((head[3], head[4], number(&head[5..9]) & 0x7fff_ffff, payload))
    }
}

/// One frame (RFC 9113 section 4.1).
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend_from_slice(&[kind, flags]);
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// A header block: every field a literal that is not indexed (RFC 7541 section 6.2.2).
pub(crate) fn block<T: AsRef<[u8]>>(fields: &[(T, T)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name.as_ref(), value.as_ref()] {
            length(&mut block, text.len());
            block.extend_from_slice(text);
        }
    }
    block
}

/// An integer with a 7-bit prefix (RFC 7541 section 5.1).
fn length(block: &mut Vec<u8>, mut value: usize) {
    if value < 127 {
        block.push(value as u8);
        return;
    }
    block.push(127);
    value -= 127;
    while value >= 128 {
        block.push((value % 128) as u8 | 128);
        value /= 128;
    }
    block.push(value as u8);
}

/// The four pseudo-headers of a GET of `path`.
pub(crate) fn get<'a>(authority: &'a str, path: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![(":method", "GET"), (":scheme", "https"), (":authority", authority), (":path", path)]
}

pub(crate) fn post<'a>(authority: &'a str, path: &'a str) -> Vec<(&'a str, &'a str)> {
    let mut head = get(authority, path);
    head[0].1 = "POST";
    head
}

pub(crate) fn number(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes[..4].try_into().unwrap())
}

/// The status of a response block, which must begin with it (RFC 9113 section 8.3).
pub(crate) fn status(block: &[u8]) -> u16 {
    // A change of the table size may come first (RFC 7541 section 6.3).
    let block = match block {
        [first, rest @ ..] if first & 0xe0 == 0x20 => rest,
        all => all,
    };
    match block {
        [indexed, ..] if indexed & 0x80 != 0 => match indexed & 0x7f {
            8 => 200,
            9 => 204,
            10 => 206,
            11 => 304,
            12 => 400,
            13 => 404,
            14 => 500,
            other => panic!("not a status: index {other}"),
        },
        // A literal whose name is entry 8..14 of the static table.
        [name, length, rest @ ..] if (8..=14).contains(&(name & 0x0f)) => {
            let size = usize::from(length & 0x7f);
            if length & 0x80 == 0 {
                String::from_utf8_lossy(&rest[..size]).parse().unwrap()
            } else {
                digits(&rest[..size])
            }
        }
        other => panic!("not a status: {other:02x?}"),
    }
}

/// Three digits in Huffman code: 0, 1 and 2 have five bits, the others six (RFC 7541 appendix B).
fn digits(code: &[u8]) -> u16 {
    let mut bits = code.iter().flat_map(|byte| (0..8).rev().map(move |bit| (byte >> bit) & 1));
    let mut value = 0;
    for _ in 0..3 {
        let mut symbol = 0;
        for _ in 0..5 {
            symbol = symbol * 2 + u16::from(bits.next().unwrap());
        }
        let digit = if symbol <= 2 {
            symbol
        } else {
            symbol * 2 + u16::from(bits.next().unwrap()) - 0x19 + 3
        };
        value = value * 10 + digit;
    }
    value
}

#[test]
fn reads_a_status_in_every_coding() {
    assert_eq!(status(&[0x88]), 200);
    assert_eq!(status(&[0x20, 0x8c]), 400);
    assert_eq!(status(b"\x08\x03421"), 421);
    // 4 = 011010, 2 = 00010, 1 = 00001, padded with ones.
    assert_eq!(status(&[0x48, 0x82, 0b0110_1000, 0b0100_0001]), 421);
    // 3 = 011001, 0 = 00000, 9 = 011111.
    assert_eq!(status(&[0x48, 0x83, 0b0110_0100, 0b0000_1111, 0b1111_1111]), 309);
}
