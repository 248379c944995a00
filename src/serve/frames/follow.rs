//! Finds the heads of HTTP/2 frames in a byte stream that passes by (RFC 9113 section 4.1).

use std::fmt;

/// Bytes of a frame's head.
const HEAD: usize = 9;

/// A head with the first setting behind it.
const LONG: usize = HEAD + 6;

/// Bytes that a client sends before its first frame (RFC 9113 section 3.4).
const PREFACE: usize = 24;

/// The types of frames. PUSH_PROMISE, which no client may send, is among the unknown ones.
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
    /// A type of no meaning here.
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
    /// Flags, as the type means them.
    pub flags: u8,
    /// The stream that it belongs to, 0 for the connection.
    pub stream: u32,
    /// Number and value of the first setting, in SETTINGS that have one.
    pub setting: Option<(u16, u32)>,
}

impl Frame {
    /// Whether it is the last of its stream: the flag of DATA and HEADERS.
    pub fn ends_stream(self) -> bool {
        self.flags & 1 != 0
    }

    /// Whether it confirms: the flag of SETTINGS and PING.
    pub fn confirms(self) -> bool {
        self.flags & 1 != 0
    }

    /// Whether it is the last of a head: the flag of HEADERS and CONTINUATION.
    pub fn ends_head(self) -> bool {
        self.flags & 4 != 0
    }

    /// Whether it is padded: the flag of DATA and HEADERS.
    pub fn is_padded(self) -> bool {
        self.flags & 8 != 0
    }

    fn read(head: [u8; HEAD]) -> Self {
        let [long, middle, short, kind, flags, a, b, c, d] = head;
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
        // The first bit is reserved.
        let stream = u32::from_be_bytes([a & 0x7f, b, c, d]);
        Self { kind, length, flags, stream, setting: None }
    }

    fn has_setting(self) -> bool {
        self.kind == Kind::Settings && self.length >= 6
    }
}

/// One direction of a connection. Of what passes by it keeps at most part of a head.
#[derive(Debug, Default)]
pub struct Follower {
    /// Bytes to come before the next head.
    skip: usize,
    kept: [u8; LONG],
    /// How much of `kept` is there.
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

    /// Goes on by `bytes` and tells of each frame whose head is complete with them, and of the bytes that are behind
    /// that.
    pub fn follow<'a>(&mut self, mut bytes: &'a [u8], mut seen: impl FnMut(Frame, &'a [u8])) {
        while let Some((_, rest)) = bytes.split_at_checked(self.skip) {
            self.skip = 0;
            let Some((frame, rest)) = self.next(rest) else { return };
            let known = if frame.setting.is_some() { LONG - HEAD } else { 0 };
            let length = usize::try_from(frame.length).unwrap_or(usize::MAX);
            self.skip = length.saturating_sub(known);
            bytes = rest;
            seen(frame, rest);
        }
        self.skip -= bytes.len();
    }

    /// The next frame and what is behind its head; `None` when part of it is missing.
    fn next<'a>(&mut self, bytes: &'a [u8]) -> Option<(Frame, &'a [u8])> {
        if self.held == 0
            && let Some((head, rest)) = bytes.split_first_chunk()
        {
            let frame = Frame::read(*head);
            if !frame.has_setting() {
                return Some((frame, rest));
            }
        }
        self.gather(bytes)
    }

    /// Completes what came in pieces.
    fn gather<'a>(&mut self, bytes: &'a [u8]) -> Option<(Frame, &'a [u8])> {
        let mut rest = self.keep(bytes, HEAD)?;
        let [head @ .., _, _, _, _, _, _] = self.kept;
        let mut frame = Frame::read(head);
        if frame.has_setting() {
            rest = self.keep(rest, LONG)?;
            let [.., a, b, c, d, e, f] = self.kept;
            frame.setting = Some((u16::from_be_bytes([a, b]), u32::from_be_bytes([c, d, e, f])));
        }
        self.held = 0;
        Some((frame, rest))
    }

    /// Fills what is kept up to `size` bytes; what is behind them, once they are there.
    fn keep<'a>(&mut self, bytes: &'a [u8], size: usize) -> Option<&'a [u8]> {
        let room = self.kept.get_mut(self.held..size).unwrap_or_default();
        let (now, rest) = bytes.split_at(room.len().min(bytes.len()));
        room.iter_mut().zip(now).for_each(|(place, byte)| *place = *byte);
        self.held += now.len();
        (self.held >= size).then_some(rest)
    }
}
