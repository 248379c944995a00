//! A request on its way: framing, partial writes, flushing.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::{Body, Frame};
use proptest::prelude::*;
use tokio::io::AsyncWrite;

use super::super::head::Sending;
use super::super::outgoing::{Outgoing, Stopped};
use crate::upstream::body::BodyError;

const HEAD: &[u8] = b"POST / HTTP/1.1\r\n\r\n";

/// A client's body: its pieces, and pauses between them.
#[derive(Debug, Default)]
struct Pieces(VecDeque<Option<Result<Bytes, BodyError>>>);

impl Pieces {
    fn of(pieces: &[&[u8]]) -> Self {
        Self(pieces.iter().map(|piece| Some(Ok(Bytes::copy_from_slice(piece)))).collect())
    }

    fn then(mut self, next: Option<Result<Bytes, BodyError>>) -> Self {
        self.0.push_back(next);
        self
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.0.pop_front() {
            Some(Some(piece)) => Poll::Ready(Some(piece.map(Frame::data))),
            Some(None) => Poll::Pending,
            None => Poll::Ready(None),
        }
    }
}

/// A stream that, as TLS does, takes bytes before they can be sent, and sends them when flushed.
#[derive(Debug, Default)]
struct Sink {
    held: Vec<u8>,
    sent: Vec<u8>,
    /// Bytes that are taken without being sent.
    hold: usize,
    /// Bytes that the app has room for; written bytes use it up.
    room: usize,
    /// Bytes that are taken at once.
    most: usize,
    closed: bool,
}

impl Sink {
    fn new(hold: usize, room: usize, most: usize) -> Self {
        Self { hold, room, most, ..Self::default() }
    }

    fn pass_on(&mut self) {
        let count = self.held.len().min(self.room);
        self.sent.extend(self.held.drain(..count));
        self.room -= count;
    }
}

impl AsyncWrite for Sink {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.closed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        self.pass_on();
        let count = bytes.len().min(self.most).min(self.hold + self.room - self.held.len());
        if count == 0 {
            return Poll::Pending;
        }
        self.held.extend_from_slice(&bytes[..count]);
        self.pass_on();
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.pass_on();
        if self.held.is_empty() { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn begun(sending: Sending) -> Outgoing {
    let mut out = Outgoing::new();
    out.begin(sending, |head| head.extend_from_slice(HEAD));
    out
}

fn poll(out: &mut Outgoing, sink: &mut Sink, body: &mut Pieces) -> Poll<Result<(), Stopped>> {
    out.poll(&mut Context::from_waker(Waker::noop()), sink, body)
}

/// What the app gets when it always has room.
fn sent(sending: Sending, body: Pieces) -> (Vec<u8>, Poll<Result<(), Stopped>>) {
    let (mut sink, mut body) = (Sink::new(0, usize::MAX / 2, usize::MAX), body);
    let polled = poll(&mut begun(sending), &mut sink, &mut body);
    (sink.sent.split_off(HEAD.len().min(sink.sent.len())), polled)
}

#[test]
fn what_tls_took_is_flushed_although_the_app_had_no_room_at_first() {
    for sending in [Sending::Length(5), Sending::Chunked, Sending::Nothing] {
        let mut body = Pieces::of(&[b"hello"]);
        let (mut out, mut sink) = (begun(sending), Sink::new(1024, 4, 1024));
        assert!(poll(&mut out, &mut sink, &mut body).is_pending());
        assert!(!out.is_finished(), "{sending:?}: not all was sent");
        sink.room = 1024;
        assert!(matches!(poll(&mut out, &mut sink, &mut body), Poll::Ready(Ok(()))));
        assert!(out.is_finished() && sink.held.is_empty(), "{sending:?}: the end was held back");
    }
}

#[test]
fn what_was_written_is_flushed_while_the_client_pauses() {
    let mut body = Pieces::of(&[b"hel"]).then(None).then(Some(Ok(Bytes::from_static(b"lo"))));
    let (mut out, mut sink) = (begun(Sending::Length(5)), Sink::new(1024, 0, 1024));
    assert!(poll(&mut out, &mut sink, &mut body).is_pending());
    sink.room = 1024;
    assert!(matches!(poll(&mut out, &mut sink, &mut body), Poll::Ready(Ok(()))));
    assert!(sink.sent.ends_with(b"\r\n\r\nhello"));
}

#[test]
fn bodies_are_framed_by_their_own_length_or_in_chunks() {
    let (bytes, _) = sent(Sending::Length(5), Pieces::of(&[b"he", b"", b"llo"]));
    assert_eq!(bytes, b"hello");
    let (bytes, _) = sent(Sending::Chunked, Pieces::of(&[b"he", b"", &[b'x'; 17]]));
    assert_eq!(bytes, b"2\r\nhe\r\n11\r\nxxxxxxxxxxxxxxxxx\r\n0\r\n\r\n");
    let (bytes, _) = sent(Sending::Chunked, Pieces::default());
    assert_eq!(bytes, b"0\r\n\r\n");
}

#[test]
fn a_body_of_another_length_than_said_is_never_made_to_fit() {
    for (length, pieces) in [(4, [&b"hel"[..], b"lo"]), (6, [b"hel", b"lo"]), (2, [b"hel", b""])] {
        let (bytes, polled) = sent(Sending::Length(length), Pieces::of(&pieces));
        assert!(matches!(polled, Poll::Ready(Err(Stopped::Body(None)))), "{length}: {polled:?}");
        assert!(bytes.len() as u64 <= length, "{length}: {bytes:?}");
    }
}

#[test]
fn an_upload_that_breaks_off_gets_no_end() {
    for sending in [Sending::Length(5), Sending::Chunked] {
        let body = Pieces::of(&[b"hel"]).then(Some(Err(BodyError::Idle)));
        let (bytes, polled) = sent(sending, body);
        let told = matches!(polled, Poll::Ready(Err(Stopped::Body(Some(BodyError::Idle)))));
        assert!(told, "{polled:?}");
        assert!(bytes == b"hel" || bytes == b"3\r\nhel\r\n", "{bytes:?}");
    }
}

#[test]
fn only_what_was_not_begun_counts_as_unsent() {
    let mut sink = Sink { closed: true, ..Sink::new(0, 9, 9) };
    let mut out = begun(Sending::Length(5));
    let polled = poll(&mut out, &mut sink, &mut Pieces::of(&[b"hello"]));
    assert!(matches!(polled, Poll::Ready(Err(Stopped::Write(_)))) && !out.has_begun());
    let (mut sink, mut out) = (Sink::new(0, 1, 1), begun(Sending::Length(5)));
    assert!(poll(&mut out, &mut sink, &mut Pieces::default()).is_pending());
    sink.closed = true;
    let polled = poll(&mut out, &mut sink, &mut Pieces::default());
    assert!(matches!(polled, Poll::Ready(Err(Stopped::Write(_)))) && out.has_begun());
}

/// Where chunks say that a body ends, and what it is: written anew, for comparison only.
fn unchunked(mut bytes: &[u8]) -> Vec<u8> {
    let mut data = Vec::new();
    loop {
        let end = bytes.windows(2).position(|pair| pair == b"\r\n").unwrap();
        let size = usize::from_str_radix(str::from_utf8(&bytes[..end]).unwrap(), 16).unwrap();
        bytes = &bytes[end + 2..];
        if size == 0 {
            assert_eq!(bytes, b"\r\n", "bytes behind the end");
            return data;
        }
        data.extend_from_slice(&bytes[..size]);
        assert_eq!(&bytes[size..size + 2], b"\r\n");
        bytes = &bytes[size + 2..];
    }
}

proptest! {
    #[test]
    fn partial_writes_lose_and_repeat_nothing(
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..6),
        pauses in any::<u8>(),
        hold in 0usize..60,
        steps in prop::collection::vec((0usize..40, 1usize..30), 1..20),
        chunked in any::<bool>(),
    ) {
        let whole: Vec<u8> = pieces.concat();
        let mut body = Pieces::default();
        for (index, piece) in pieces.iter().enumerate() {
            if pauses & (1 << index) != 0 {
                body = body.then(None);
            }
            body = body.then(Some(Ok(Bytes::copy_from_slice(piece))));
        }
        let length = whole.len() as u64;
        let sending = if chunked { Sending::Chunked } else { Sending::Length(length) };
        let (mut out, mut sink) = (begun(sending), Sink::new(hold, 0, 1));
        for (room, most) in steps.iter().cycle().take(2_000) {
            (sink.room, sink.most) = (sink.room + room + 1, *most);
            if poll(&mut out, &mut sink, &mut body).is_ready() {
                break;
            }
        }
        prop_assert!(out.is_finished() && sink.held.is_empty());
        let bytes = sink.sent.strip_prefix(HEAD).unwrap();
        let got = if chunked { unchunked(bytes) } else { bytes.to_vec() };
        prop_assert_eq!(got, whole);
    }
}
