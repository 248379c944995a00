//! How many frames a client may send that ask for nothing, in proportion to what it is given.
//!
//! Only what the gateway sent earns something: a client cannot pay for one flood with another. The rates are far
//! above what clients need. Go confirms every 4 KiB of a download twice, gRPC measures the line with a PING per
//! round trip, browsers take back all requests of a page that is left, and nghttp2 sends PRIORITY for each stream.

use std::fmt;
use std::time::Duration;

use super::follow::{Frame, Kind};
use crate::clock::{UnixMs, millis};

/// Control frames (everything but HEADERS, RST_STREAM and bodies) that are free at the beginning.
const CONTROL: u32 = 1000;

/// Control frames that are free in each second; saved up to [`CONTROL`].
const CONTROL_RATE: u64 = 100;

/// What a SETTINGS frame counts: each may change every open stream, and is confirmed.
const SETTINGS: u32 = 10;

/// Control frames that an answer earns: PRIORITY and WINDOW_UPDATE for its stream.
const PER_ANSWER: u32 = 20;

/// Control frames that each DATA frame to the client earns, however short: events of a few bytes may be confirmed
/// for stream and connection, and measured.
const PER_DATA: u32 = 4;

/// Bytes in DATA frames to the client that earn one control frame more.
const BYTES: u32 = 512;

/// Streams that may end by RST_STREAM of either side beyond those that were answered, besides all that may be open
/// at once. What the gateway resets counts because it does so when a client breaks a rule ("made you reset").
const RESETS: u32 = 500;

/// Such streams that are free in each second; saved up to the beginning's number.
const RESETS_RATE: u64 = 50;

/// How often what is free is added.
const REFILL: Duration = Duration::from_millis(100);

/// What a client has left of its frames.
#[derive(Debug)]
pub struct Budget {
    control: Account,
    resets: Account,
    refilled: UnixMs,
    spent: Option<Spent>,
}

impl Budget {
    /// A full budget at `now` for a client that may have so many streams open at once.
    pub fn new(now: UnixMs, streams: u32) -> Self {
        Self {
            control: Account::full(CONTROL),
            resets: Account::full(RESETS.saturating_add(streams)),
            refilled: now,
            spent: None,
        }
    }

    /// Adds what has become free since the last time.
    pub fn refill(&mut self, now: UnixMs) {
        let passed = now.since(self.refilled);
        if passed < REFILL {
            return;
        }
        self.refilled = now;
        self.control.refill(millis(passed).saturating_mul(CONTROL_RATE) / 1000);
        self.resets.refill(millis(passed).saturating_mul(RESETS_RATE) / 1000);
    }

    /// The client has sent a frame.
    pub fn received(&mut self, frame: Frame) {
        let paid = match frame.kind {
            // Bounded by the limits on requests and bodies. Of short DATA the library keeps account.
            Kind::Headers => return,
            Kind::Data if frame.length > 0 || frame.ends_stream() => return,
            Kind::RstStream => self.resets.spend(1),
            Kind::Settings => self.control.spend(SETTINGS),
            _ => self.control.spend(1),
        };
        if !paid {
            self.spent.get_or_insert(Spent::Received(frame.kind));
        }
    }

    /// The gateway has sent a frame.
    pub fn sent(&mut self, frame: Frame) {
        match frame.kind {
            Kind::Headers => {
                self.control.earn(PER_ANSWER);
                self.resets.refill(1);
            }
            Kind::Data => self.control.earn(PER_DATA.saturating_add(frame.length / BYTES)),
            Kind::RstStream if !self.resets.spend(1) => {
                self.spent.get_or_insert(Spent::MadeReset);
            }
            _ => {}
        }
    }

    /// What it was spent with, once it is.
    pub fn spent(&self) -> Option<Spent> {
        self.spent
    }
}

/// A client has sent too many frames that ask for nothing; by which the last of the budget was spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spent {
    /// A frame of the client.
    Received(Kind),
    /// A RST_STREAM that the client made the gateway send.
    MadeReset,
}

impl Spent {
    /// Its name in the metrics.
    pub fn code(self) -> &'static str {
        match self {
            Self::Received(Kind::RstStream) | Self::MadeReset => "stream-reset-flood",
            Self::Received(_) => "control-frame-flood",
        }
    }
}

impl fmt::Display for Spent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Received(kind) => {
                write!(f, "too many frames that ask for nothing, at last {kind}")
            }
            Self::MadeReset => {
                f.write_str("too many streams had to be reset, at last for its mistake")
            }
        }
    }
}

impl std::error::Error for Spent {}

/// A number of frames that may be sent.
#[derive(Debug)]
struct Account {
    left: u32,
    full: u32,
}

impl Account {
    fn full(full: u32) -> Self {
        Self { left: full, full }
    }

    /// Adds what time gives: no more than there was at the beginning.
    fn refill(&mut self, count: u64) {
        let room = self.full.saturating_sub(self.left);
        self.left += u32::try_from(count).unwrap_or(u32::MAX).min(room);
    }

    /// Adds what the client has a right to, whenever it comes: what was sent fast may be confirmed later.
    fn earn(&mut self, count: u32) {
        self.left = self.left.saturating_add(count);
    }

    /// Whether there was enough.
    fn spend(&mut self, count: u32) -> bool {
        let left = self.left.checked_sub(count);
        self.left = left.unwrap_or_default();
        left.is_some()
    }
}
