//! What is followed, and who is given up for what.

use std::time::Duration;

use proptest::prelude::*;

use super::budget::{Budget, Spent};
use super::follow::{Follower, Frame, Kind};
use crate::clock::UnixMs;

const STREAMS: u32 = 128;

fn wire(kind: u8, flags: u8, length: usize) -> Vec<u8> {
    let size = u32::try_from(length).unwrap().to_be_bytes();
    let mut bytes = vec![size[1], size[2], size[3], kind, flags, 0, 0, 0, 1];
    bytes.resize(9 + length, 0xa5);
    bytes
}

fn frame(kind: Kind, length: u32) -> Frame {
    Frame { kind, length, ends_stream: false }
}

fn follow(follower: &mut Follower, pieces: &[&[u8]]) -> Vec<Frame> {
    let mut seen = Vec::new();
    pieces.iter().for_each(|piece| follower.follow(piece, |frame| seen.push(frame)));
    seen
}

#[test]
fn a_client_begins_with_its_preface() {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(wire(4, 0, 6));
    bytes.extend(wire(0, 1, 0));
    let mut follower = Follower::client();
    let seen = follow(&mut follower, &[&bytes]);
    let end = Frame { kind: Kind::Data, length: 0, ends_stream: true };
    assert_eq!(seen, [frame(Kind::Settings, 6), end]);
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
        let seen = follow(&mut Follower::server(), &[&wire(number, 0, 4)]);
        assert_eq!(seen, [frame(kind, 4)]);
    }
}

proptest! {
    #[test]
    fn frames_are_the_same_however_they_arrive(
        frames in prop::collection::vec((0_u8..12, any::<u8>(), 0_usize..40), 0..12),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let bytes: Vec<u8> = frames.iter().flat_map(|(k, f, n)| wire(*k, *f, *n)).collect();
        let mut follower = Follower::server();
        let whole = follow(&mut follower, &[&bytes]);
        prop_assert_eq!(whole.len(), frames.len());
        prop_assert!(follower.is_between());
        for (seen, (_, flags, length)) in whole.iter().zip(&frames) {
            prop_assert_eq!(seen.length as usize, *length);
            prop_assert_eq!(seen.ends_stream, flags & 1 != 0);
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
    let end = Frame { kind: Kind::Data, length: 0, ends_stream: true };
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
