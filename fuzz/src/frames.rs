//! Frames that pass by on an HTTP/2 connection: the same are seen however the bytes arrive, a second reader sees them
//! too, and nobody is given up for less than a flood.

use portcullis::clock::UnixMs;
use portcullis::serve::frames::{Blame, Budget, Follower, Frame, Kind, Spent};

/// Words of connections.
pub const WORDS: &[&str] = &[
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "\u{0}\u{0}\u{0}\u{4}\u{0}\u{0}\u{0}\u{0}\u{0}",
    "\u{0}\u{0}\u{6}\u{4}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}\u{4}\u{0}\u{0}\u{0}\u{1}",
    "\u{0}\u{0}\u{8}\u{6}\u{0}\u{0}\u{0}\u{0}\u{0}portculs",
    "\u{0}\u{0}\u{1}\u{1}\u{5}\u{0}\u{0}\u{0}\u{1}.",
    "\u{0}\u{0}\u{4}\u{0}\u{1}\u{0}\u{0}\u{0}\u{1}test",
    "\u{0}\u{0}\u{4}\u{3}\u{0}\u{0}\u{0}\u{0}\u{1}\u{0}\u{0}\u{0}\u{8}",
    "\u{0}\u{0}\u{4}\u{8}\u{0}\u{0}\u{0}\u{0}\u{1}\u{0}\u{0}\u{0}\u{1}",
    "\u{0}\u{0}\u{5}\u{2}\u{0}\u{0}\u{0}\u{0}\u{1}\u{0}\u{0}\u{0}\u{0}\u{7}",
    "\u{0}\u{0}\u{0}\u{9}\u{4}\u{0}\u{0}\u{0}\u{1}",
    "\u{0}",
    "\u{1}",
    "\u{4}",
    "\u{5}",
];

/// Bytes of a client's preface.
const PREFACE: usize = 24;
/// Fewer frames than this are no flood, whatever they are.
const FEW: usize = 100;
/// Streams that the client may open at once.
const STREAMS: u32 = 10;

/// Follows `data` as what a client sends on one connection.
pub fn run(data: &[u8]) {
    let whole = follow(data, &[]);
    assert_eq!(whole, plain(data), "a second reader sees others");
    for cut in (1..data.len()).step_by(1 + data.len() / 64) {
        assert_eq!(whole, follow(data, &[cut]), "it depends on how the bytes arrive");
    }
    let single: Vec<usize> = (1..data.len()).collect();
    assert_eq!(whole, follow(data, &single), "it depends on how the bytes arrive");
    judge(&whole);
}

/// The frames of `data`, cut at `cuts`.
fn follow(data: &[u8], cuts: &[usize]) -> Vec<Frame> {
    let (mut follower, mut seen, mut start) = (Follower::client(), Vec::new(), 0);
    for &cut in cuts.iter().chain([&data.len()]) {
        let piece = data.get(start..cut).unwrap_or_default();
        follower.follow(piece, |frame, behind| {
            assert!(behind.len() < piece.len());
            seen.push(frame);
        });
        start = cut;
    }
    seen
}

/// The frames of `data` in the plainest way: all of the heads, and the first setting.
fn plain(data: &[u8]) -> Vec<Frame> {
    let (mut rest, mut frames) = (data.get(PREFACE..).unwrap_or_default(), Vec::new());
    while let Some((&[a, b, c, kind, flags, d, e, f, g], behind)) = rest.split_first_chunk::<9>() {
        let length = u32::from_be_bytes([0, a, b, c]);
        let kinds = [
            Kind::Data,
            Kind::Headers,
            Kind::Priority,
            Kind::RstStream,
            Kind::Settings,
            Kind::Other,
            Kind::Ping,
            Kind::Goaway,
            Kind::WindowUpdate,
            Kind::Continuation,
        ];
        let kind = kinds.get(usize::from(kind)).copied().unwrap_or(Kind::Other);
        let setting = match behind.first_chunk::<6>() {
            _ if kind != Kind::Settings || length < 6 => None,
            Some(&[a, b, c, d, e, f]) => {
                Some((u16::from_be_bytes([a, b]), u32::from_be_bytes([c, d, e, f])))
            }
            // Settings are told of once the first is there.
            None => break,
        };
        let stream = u32::from_be_bytes([d, e, f, g]) & 0x7fff_ffff;
        frames.push(Frame { kind, length, flags, stream, setting });
        rest = behind.get(length as usize..).unwrap_or_default();
    }
    frames
}

fn judge(frames: &[Frame]) {
    let (mut budget, mut blame) = (Budget::new(UnixMs(0), STREAMS), Blame::default());
    for (count, frame) in frames.iter().enumerate() {
        budget.received(*frame);
        blame.received(*frame);
        if let Some(spent) = budget.spent() {
            assert!(count >= FEW, "{spent} after {count} frames");
            assert_ne!(spent, Spent::Received(Kind::Headers));
        }
        let _ = blame.name(frame.stream);
    }
    if blame.is_beyond_end() {
        let ends = |frame: &&Frame| {
            matches!(frame.kind, Kind::Data | Kind::Headers) && frame.ends_stream()
        };
        assert!(frames.iter().any(|frame| frame.kind == Kind::Data));
        assert!(frames.iter().filter(ends).count() >= 1, "nothing has ended");
    }
}
