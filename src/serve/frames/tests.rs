//! What is followed, and who is given up for what.

use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use proptest::prelude::*;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Metered;
use super::blame::{Blame, Code};
use super::budget::{Budget, Spent};
use super::follow::{Follower, Frame, Kind};
use crate::clock::{Clock, UnixMs};
use crate::metrics::WorkerMetrics;
use crate::timer::Timer;

const STREAMS: u32 = 128;

fn wire(kind: u8, flags: u8, stream: u32, length: usize) -> Vec<u8> {
    let size = u32::try_from(length).unwrap().to_be_bytes();
    let mut bytes = vec![size[1], size[2], size[3], kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.resize(9 + length, 0xa5);
    bytes
}

fn frame(kind: Kind, length: u32) -> Frame {
    Frame { kind, length, flags: 0, stream: 1, setting: None }
}

fn follow(follower: &mut Follower, pieces: &[&[u8]]) -> Vec<Frame> {
    let mut seen = Vec::new();
    pieces.iter().for_each(|piece| follower.follow(piece, |frame, _| seen.push(frame)));
    seen
}

#[test]
fn a_client_begins_with_its_preface() {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend([0, 0, 12, 4, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0, 5, 0, 0, 64, 0]);
    bytes.extend(wire(0, 1, 0x8000_0007, 0));
    let mut follower = Follower::client();
    let seen = follow(&mut follower, &[&bytes]);
    let setting = Some((4, 65_536));
    let settings = Frame { setting, stream: 0, ..frame(Kind::Settings, 12) };
    let end = Frame { flags: 1, stream: 7, ..frame(Kind::Data, 0) };
    assert_eq!(seen, [settings, end]);
    assert!(end.ends_stream());
    assert!(follower.is_between());
    follow(&mut follower, &[&[0]]);
    assert!(!follower.is_between());
}

#[test]
fn every_type_is_told_apart() {
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
        Kind::Other,
    ];
    for (number, kind) in (0..).zip(kinds) {
        let seen = follow(&mut Follower::server(), &[&wire(number, 0, 1, 4)]);
        assert_eq!(seen, [frame(kind, 4)]);
    }
}

/// The frames of `bytes`, all of them whole, in the plainest way.
fn plain(mut bytes: &[u8]) -> Vec<(u8, u8, u32, usize)> {
    let mut frames = Vec::new();
    while let Some((head, rest)) = bytes.split_first_chunk::<9>() {
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        frames.push((head[3], head[4], stream, length));
        bytes = &rest[length..];
    }
    frames
}

proptest! {
    #[test]
    fn frames_are_the_same_however_they_arrive(
        frames in prop::collection::vec(
            (0_u8..12, any::<u8>(), 0_u32..0x8000_0000, 0_usize..40),
            0..12,
        ),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let bytes: Vec<u8> = frames.iter().flat_map(|(k, f, s, n)| wire(*k, *f, *s, *n)).collect();
        let mut follower = Follower::server();
        let whole = follow(&mut follower, &[&bytes]);
        prop_assert!(follower.is_between());
        let plain = plain(&bytes);
        prop_assert_eq!(whole.len(), plain.len());
        for (seen, (kind, flags, stream, length)) in whole.iter().zip(plain) {
            prop_assert_eq!(seen.length as usize, length);
            prop_assert_eq!((seen.flags, seen.stream), (flags, stream));
            prop_assert_eq!(seen.setting.is_some(), kind == 4 && length >= 6);
        }
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.sort_unstable();
        let (mut pieces, mut rest, mut done) = (Vec::new(), &bytes[..], 0);
        for cut in cuts {
            let (piece, behind) = rest.split_at(cut - done);
            pieces.push(piece);
            (rest, done) = (behind, cut);
        }
        pieces.push(rest);
        let mut follower = Follower::server();
        prop_assert_eq!(follow(&mut follower, &pieces), whole);
        prop_assert!(follower.is_between());
    }

    #[test]
    fn no_bytes_are_too_odd_to_follow(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let whole = follow(&mut Follower::client(), &[&bytes]);
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        prop_assert_eq!(follow(&mut Follower::client(), &single), whole);
    }
}

/// How many of the frame are taken at once before the client is given up; `None` when it is not.
fn most(budget: &mut Budget, frame: Frame) -> Option<u32> {
    (0..10_000).find(|_| {
        budget.received(frame);
        budget.spent().is_some()
    })
}

fn budget() -> Budget {
    Budget::new(UnixMs(0), STREAMS)
}

#[test]
fn floods_are_given_up() {
    let spent = |received, count| {
        let mut budget = budget();
        assert_eq!(most(&mut budget, received), Some(count), "{received:?}");
        assert_eq!(budget.spent(), Some(Spent::Received(received.kind)));
    };
    for kind in [Kind::Ping, Kind::Priority, Kind::WindowUpdate, Kind::Continuation, Kind::Other] {
        spent(frame(kind, 4), 1000);
    }
    spent(frame(Kind::Data, 0), 1000);
    spent(frame(Kind::Settings, 6), 100);
    spent(frame(Kind::RstStream, 4), 500 + STREAMS);
}

#[test]
fn bodies_and_requests_are_free() {
    let end = Frame { flags: 1, ..frame(Kind::Data, 0) };
    for frame in [frame(Kind::Data, 1), end, frame(Kind::Headers, 100)] {
        assert_eq!(most(&mut budget(), frame), None);
    }
}

#[test]
fn what_is_made_to_be_reset_counts() {
    let mut budget = budget();
    for number in 0.. {
        budget.received(frame(Kind::Headers, 50));
        budget.sent(frame(Kind::RstStream, 4));
        if budget.spent().is_some() {
            assert_eq!(number, 500 + STREAMS);
            break;
        }
    }
    assert_eq!(budget.spent(), Some(Spent::MadeReset));
}

#[test]
fn whoever_downloads_may_confirm_each_piece() {
    // As Go does at worst: all of it arrives before any of it is read.
    let mut budget = budget();
    for _ in 0..10_000 {
        budget.sent(frame(Kind::Data, 16 << 10));
    }
    for _ in 0..10_000 * (16 / 4) * 2 {
        budget.received(frame(Kind::WindowUpdate, 4));
    }
    // Events of few bytes, confirmed for stream and connection, and measured.
    for _ in 0..10_000 {
        budget.sent(frame(Kind::Data, 5));
        budget.received(frame(Kind::WindowUpdate, 4));
        budget.received(frame(Kind::WindowUpdate, 4));
        budget.received(frame(Kind::Ping, 8));
    }
    assert_eq!(budget.spent(), None);
}

#[test]
fn whoever_is_answered_may_take_back() {
    let mut budget = budget();
    for _ in 0..10_000 {
        budget.received(frame(Kind::Headers, 50));
        budget.received(frame(Kind::Priority, 5));
        budget.sent(frame(Kind::Headers, 50));
        budget.received(frame(Kind::RstStream, 4));
    }
    assert_eq!(budget.spent(), None);
    // But saves nothing up for a flood: the last one taken back is still missing.
    assert_eq!(most(&mut budget, frame(Kind::RstStream, 4)), Some(500 + STREAMS - 1));
}

#[test]
fn time_gives_back_what_was_free() {
    let mut budget = budget();
    for second in 1..1000 {
        for _ in 0..99 {
            budget.received(frame(Kind::Ping, 8));
        }
        for _ in 0..49 {
            budget.received(frame(Kind::RstStream, 4));
        }
        budget.refill(UnixMs(second * 1000));
    }
    assert_eq!(budget.spent(), None);
    budget.refill(UnixMs(10_000_000_000));
    assert_eq!(most(&mut budget, frame(Kind::Ping, 8)), Some(1000));
    let mut fast = self::budget();
    let late = (1..100).find(|tenth| {
        (0..200).for_each(|_| fast.received(frame(Kind::Ping, 8)));
        fast.refill(UnixMs(0).plus(Duration::from_millis(tenth * 100)));
        fast.spent().is_some()
    });
    assert_eq!(late, Some(6), "1000 at once and 10 in each tenth of a second");
}

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;

fn request(stream: u32) -> Frame {
    Frame { flags: END_STREAM | END_HEADERS, stream, ..frame(Kind::Headers, 50) }
}

/// The name of the error after these frames, when the library has begun to serve streams up to `last`.
fn name(frames: &[Frame], last: u32) -> Code {
    let mut blame = Blame::default();
    frames.iter().for_each(|frame| blame.received(*frame));
    blame.name(last)
}

#[test]
fn errors_have_their_names() {
    let on = |stream, frame: Frame| Frame { stream, ..frame };
    let flags = |flags, frame: Frame| Frame { flags, ..frame };
    let setting =
        |number, value| on(0, Frame { setting: Some((number, value)), ..frame(Kind::Settings, 6) });
    // Sizes.
    for wrong in [
        frame(Kind::Priority, 4),
        frame(Kind::RstStream, 3),
        on(0, frame(Kind::Ping, 6)),
        on(0, frame(Kind::WindowUpdate, 3)),
        on(0, frame(Kind::Settings, 8)),
        on(0, flags(1, frame(Kind::Settings, 1))),
        on(0, frame(Kind::Goaway, 7)),
    ] {
        assert_eq!(name(&[request(1), wrong], 1), Code::FrameSize, "{wrong:?}");
        assert_eq!(name(&[request(1), wrong, request(3)], 1), Code::FrameSize, "{wrong:?}");
    }
    assert_eq!(name(&[setting(4, 1 << 31)], 0), Code::FlowControl);
    assert_eq!(name(&[setting(2, 2)], 0), Code::Protocol);
    // Heads.
    assert_eq!(name(&[request(1)], 0), Code::Compression);
    assert_eq!(name(&[request(1), request(3)], 1), Code::Compression);
    assert_eq!(name(&[flags(5 | PADDED, request(1))], 0), Code::Protocol);
    let window = frame(Kind::WindowUpdate, 4);
    assert_eq!(name(&[request(1), window, request(3)], 1), Code::Protocol);
    let begun = flags(END_STREAM, request(1));
    let more = flags(END_HEADERS, frame(Kind::Continuation, 9));
    assert_eq!(name(&[begun, more], 0), Code::Compression);
    assert_eq!(name(&[begun, request(3), more], 0), Code::Protocol);
    assert_eq!(name(&[begun, on(3, more)], 0), Code::Protocol);
    assert_eq!(name(&[request(1), more], 1), Code::Protocol);
    // Streams.
    let data = frame(Kind::Data, 4);
    let back = frame(Kind::RstStream, 4);
    assert_eq!(name(&[request(2)], 0), Code::Protocol);
    assert_eq!(name(&[request(5), request(3)], 5), Code::Protocol);
    assert_eq!(name(&[request(5), request(5)], 5), Code::StreamClosed);
    assert_eq!(name(&[flags(END_HEADERS, request(5)), back, request(1)], 5), Code::Protocol);
    let open = flags(END_HEADERS, request(1));
    assert_eq!(name(&[open, back, request(1)], 1), Code::StreamClosed);
    assert_eq!(name(&[open, data, request(1)], 1), Code::Protocol);
    assert_eq!(name(&[request(1), data], 1), Code::StreamClosed);
    assert_eq!(name(&[open, data], 1), Code::Protocol);
    for idle in [data, back, frame(Kind::WindowUpdate, 4)] {
        assert_eq!(name(&[request(1), on(3, idle)], 1), Code::Protocol, "{idle:?}");
    }
}

#[test]
fn only_a_body_behind_its_end_is_beyond_it() {
    let beyond = |frames: &[Frame]| {
        let mut blame = Blame::default();
        frames.iter().for_each(|frame| blame.received(*frame));
        blame.is_beyond_end()
    };
    let (data, back) = (frame(Kind::Data, 4), frame(Kind::RstStream, 4));
    let open = Frame { flags: END_HEADERS, ..request(1) };
    let last = Frame { flags: END_STREAM, ..data };
    assert!(beyond(&[request(1), data]));
    assert!(beyond(&[open, data, last, data]));
    assert!(!beyond(&[open, data, data]));
    assert!(!beyond(&[open, back, data]), "on its way when the stream was taken back");
    assert!(!beyond(&[request(1), request(3), data]), "not known any more");
}

/// A socket that has this to read, and takes so many bytes at a time.
#[derive(Default)]
struct Narrow {
    input: Vec<u8>,
    width: usize,
    taken: Vec<u8>,
}

impl AsyncRead for Narrow {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let count = self.input.len().min(buf.remaining());
        buf.put_slice(&self.input.drain(..count).collect::<Vec<_>>());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Narrow {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let count = bytes.len().min(self.width);
        self.taken.extend(&bytes[..count]);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A connection whose client has sent these frames, and what came of reading them.
fn metered(width: usize, frames: &[u8]) -> (Metered<Narrow>, Arc<WorkerMetrics>, io::Result<()>) {
    let input = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", frames].concat();
    let metrics = Arc::new(WorkerMetrics::default());
    let timer = Timer::new(Clock::manual(UnixMs(0)));
    let peer = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let length = input.len();
    let io = Narrow { input, width, taken: Vec::new() };
    let mut metered = Metered::with(io, timer, Arc::clone(&metrics), peer, STREAMS);
    let mut buf = vec![0; length];
    let mut buf = ReadBuf::new(&mut buf);
    let mut cx = Context::from_waker(Waker::noop());
    let Poll::Ready(read) = Pin::new(&mut metered).poll_read(&mut cx, &mut buf) else {
        panic!("nothing was read")
    };
    (metered, metrics, read)
}

/// Writes all of it, as slices that are cut there.
fn write(metered: &mut Metered<Narrow>, mut bytes: &[u8], cut: usize, vectored: bool) {
    let mut cx = Context::from_waker(Waker::noop());
    while !bytes.is_empty() {
        let (first, second) = bytes.split_at(cut.min(bytes.len()));
        let slices = [IoSlice::new(first), IoSlice::new(second)];
        let written = if vectored {
            Pin::new(&mut *metered).poll_write_vectored(&mut cx, &slices)
        } else {
            Pin::new(&mut *metered).poll_write(&mut cx, bytes)
        };
        let Poll::Ready(Ok(count)) = written else { panic!("not written") };
        assert_ne!(count, 0);
        bytes = &bytes[count..];
    }
}

#[test]
fn goaway_has_the_name_of_the_error_however_it_is_written() {
    let goaway = |code| [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, code];
    let answer = wire(0, 0, 1, 30);
    let short = [wire(1, 5, 1, 20), wire(6, 0, 0, 6)].concat();
    for width in 1..60 {
        // The library has a GOAWAY in one piece.
        for (cut, vectored) in [(0, false), (0, true), (5, true), (39, true)] {
            let (mut metered, ..) = metered(width, &short);
            let bytes = [&answer[..], &goaway(1)].concat();
            write(&mut metered, &bytes, cut, vectored);
            let wanted = [&answer[..], &goaway(Code::FrameSize as u8)].concat();
            assert_eq!(metered.io.taken, wanted, "{width} bytes at a time, cut at {cut}");
        }
    }
    // Another code is left alone.
    let (mut metered, ..) = metered(1000, &short);
    write(&mut metered, &goaway(11), 0, false);
    assert_eq!(metered.io.taken, goaway(11));
}

#[test]
fn a_flood_ends_with_goaway_between_frames_only() {
    let pings = wire(6, 0, 0, 8).repeat(1001);
    let (metered, _, read) = metered(1000, &pings);
    let error = read.unwrap_err();
    assert!(error.to_string().contains("PING"), "{error}");
    let last = *metered.io.taken.last().unwrap();
    assert_eq!((metered.io.taken.len(), last), (17, Code::EnhanceYourCalm as u8));
    assert!(self::metered(1000, &pings[17..]).2.is_ok());
}

#[test]
fn what_is_written_in_pieces_counts_once() {
    let (mut metered, ..) = metered(7, &[]);
    for _ in 0..5 {
        write(&mut metered, &wire(3, 0, 1, 4).repeat(100), 0, false);
    }
    assert_eq!(metered.budget.spent(), None);
    write(&mut metered, &wire(3, 0, 1, 4).repeat(1 + STREAMS as usize), 0, false);
    assert_eq!(metered.budget.spent(), Some(Spent::MadeReset));
}
