//! Finds the heads of HTTP/2 frames in a byte stream that passes by (RFC 9113 section 4.1).

use std::fmt;

/// Bytes of a frame's head.
const HEAD: usize = 9;

/// Bytes that a client sends before its first frame (RFC 9113 section 3.4).
const PREFACE: usize = 24;

/// What a frame is for, as far as the budget tells frames apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Part of a body.
    Data,
    /// The beginning of a head or trailer section.
    Headers,
    /// What a client thinks is urgent; means nothing any more.
    Priority,
    /// The end of a stream before its time.
    RstStream,
    /// Settings, to be confirmed, or their confirmation.
    Settings,
    /// To be answered with the same bytes, or such an answer.
    Ping,
    /// The end of the connection.
    Goaway,
    /// Room for more bytes of bodies.
    WindowUpdate,
    /// More of a head.
    Continuation,
    /// PUSH_PROMISE, which no client may send, and types of no meaning here.
    Other,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Data => "DATA",
            Self::Headers => "HEADERS",
            Self::Priority => "PRIORITY",
            Self::RstStream => "RST_STREAM",
            Self::Settings => "SETTINGS",
            Self::Ping => "PING",
            Self::Goaway => "GOAWAY",
            Self::WindowUpdate => "WINDOW_UPDATE",
            Self::Continuation => "CONTINUATION",
            Self::Other => "one of no known type",
        })
    }
}

/// The head of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its type.
    pub kind: Kind,
    /// Bytes behind the head.
    pub length: u32,
    /// Whether it is the last of its stream: the flag of DATA and HEADERS.
    pub ends_stream: bool,
}

impl Frame {
    fn read(head: [u8; HEAD]) -> Self {
        let [long, middle, short, kind, flags, ..] = head;
        let kind = match kind {
            0 => Kind::Data,
            1 => Kind::Headers,
            2 => Kind::Priority,
            3 => Kind::RstStream,
            4 => Kind::Settings,
            6 => Kind::Ping,
            7 => Kind::Goaway,
            8 => Kind::WindowUpdate,
            9 => Kind::Continuation,
            _ => Kind::Other,
        };
        let length = u32::from_be_bytes([0, long, middle, short]);
        Self { kind, length, ends_stream: flags & 1 != 0 }
    }
}

/// One direction of a connection. Of what passes by it keeps at most part of a head.
#[derive(Debug, Default)]
pub struct Follower {
    /// Bytes to come before the next head.
    skip: usize,
    head: [u8; HEAD],
    /// How much of `head` is there.
    held: usize,
}

impl Follower {
    /// Before the preface of a client.
    pub fn client() -> Self {
        Self { skip: PREFACE, ..Self::default() }
    }

    /// Before the first frame of a server.
    pub fn server() -> Self {
        Self::default()
    }

    /// Whether no frame has begun that has not ended.
    pub fn is_between(&self) -> bool {
        self.skip == 0 && self.held == 0
    }

    /// Goes on by `bytes` and tells of each frame whose head is complete with them.
    pub fn follow(&mut self, mut bytes: &[u8], mut seen: impl FnMut(Frame)) {
        while let Some((_, rest)) = bytes.split_at_checked(self.skip) {
            self.skip = 0;
            let head = match rest.split_first_chunk() {
                Some((head, rest)) if self.held == 0 => {
                    bytes = rest;
                    *head
                }
                _ => match self.gather(rest) {
                    Some(rest) => {
                        bytes = rest;
                        self.head
                    }
                    None => return,
                },
            };
            let frame = Frame::read(head);
            self.skip = usize::try_from(frame.length).unwrap_or(usize::MAX);
            seen(frame);
        }
        self.skip -= bytes.len();
    }

    /// Completes a head that came in pieces; what is behind it, once it is whole.
    fn gather<'a>(&mut self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let room = self.head.get_mut(self.held..).unwrap_or_default();
        let (now, rest) = bytes.split_at(room.len().min(bytes.len()));
        room.iter_mut().zip(now).for_each(|(place, byte)| *place = *byte);
        self.held += now.len();
        if self.held < HEAD {
            return None;
        }
        self.held = 0;
        Some(rest)
    }
}
