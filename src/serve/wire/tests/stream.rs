//! Verdicts on byte streams: the same however the bytes are cut.

use std::collections::{HashSet, VecDeque};
use std::future::poll_fn;
use std::sync::atomic::AtomicBool;
use std::task::{Wake, Waker};

use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// A peer that sends these pieces, one per read, and then closes or stays silent.
struct Pieces {
    pieces: VecDeque<Vec<u8>>,
    closes: bool,
}

impl AsyncRead for Pieces {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let Some(mut piece) = this.pieces.pop_front() else {
            return match this.closes {
                true => Poll::Ready(Ok(())),
                false => Poll::Pending,
            };
        };
        let rest = piece.split_off(piece.len().min(buf.remaining()));
        buf.put_slice(&piece);
        if !rest.is_empty() {
            this.pieces.push_front(rest);
        }
        Poll::Ready(Ok(()))
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Seen {
    passed: Vec<u8>,
    refused: Option<(u64, Violation)>,
    broken: Option<Violation>,
    eof: bool,
}

/// Reads all that comes out, `size` bytes at most per read.
fn scan(pieces: Vec<Vec<u8>>, size: usize) -> Seen {
    let pieces = pieces.into_iter().filter(|p| !p.is_empty()).collect();
    let (mut scan, handle) = Scan::new(Pieces { pieces, closes: true }, LIMITS);
    let mut cx = Context::from_waker(Waker::noop());
    let mut seen = Seen { passed: Vec::new(), refused: None, broken: None, eof: false };
    let mut memory = vec![0; size];
    loop {
        let mut buf = ReadBuf::new(&mut memory);
        match Pin::new(&mut scan).poll_read(&mut cx, &mut buf) {
            Poll::Ready(Ok(())) if buf.filled().is_empty() => {
                seen.eof = true;
                break;
            }
            Poll::Ready(Ok(())) => seen.passed.extend_from_slice(buf.filled()),
            Poll::Ready(Err(error)) => {
                assert_eq!(error.kind(), io::ErrorKind::InvalidData);
                seen.broken = error.get_ref().and_then(|e| e.downcast_ref()).copied();
                assert!(seen.broken.is_some());
                break;
            }
            Poll::Pending => break,
        }
    }
    seen.refused = handle.violation();
    seen
}

fn whole(bytes: &[u8]) -> Seen {
    scan(vec![bytes.to_vec()], 1 << 20)
}

fn byte_by_byte(bytes: &[u8]) -> Seen {
    scan(bytes.iter().map(|&b| vec![b]).collect(), 1 << 20)
}

fn with_refused_head(before: &[u8]) -> Vec<u8> {
    [before, REFUSED_HEAD].concat()
}

#[test]
fn a_bad_head_is_replaced() {
    let before = b"GET /first HTTP/1.1\r\nHost: a\r\n\r\n";
    for (bytes, violation) in bad_heads() {
        let name = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]).into_owned();
        for seen in [whole(&bytes), byte_by_byte(&bytes), scan(vec![bytes.clone()], 7)] {
            assert_eq!(seen.refused, Some((0, violation)), "{name:?}");
            assert_eq!(seen.passed, REFUSED_HEAD, "{name:?}");
            assert!(!seen.eof && seen.broken.is_none(), "{name:?}");
        }
        let seen = whole(&[&before[..], &bytes].concat());
        assert_eq!(seen.refused, Some((1, violation)), "{name:?}");
        assert_eq!(seen.passed, with_refused_head(before), "{name:?}");
    }
}

#[test]
fn a_good_request_passes_untouched() {
    let requests = good_requests();
    for (bytes, _) in &requests {
        let name = String::from_utf8_lossy(bytes).into_owned();
        for seen in [whole(bytes), byte_by_byte(bytes), scan(vec![bytes.clone()], 3)] {
            assert_eq!(seen.passed, *bytes, "{name:?}");
            assert_eq!((seen.refused, seen.broken), (None, None), "{name:?}");
            assert!(seen.eof, "{name:?}");
        }
    }
    let pipeline: Vec<u8> = requests.into_iter().flat_map(|(bytes, _)| bytes).collect();
    assert_eq!(whole(&pipeline).passed, pipeline);
    assert_eq!(byte_by_byte(&pipeline).passed, pipeline);
}

#[test]
fn judge_head_gives_the_same_verdicts() {
    for (bytes, violation) in bad_heads() {
        assert_eq!(judge_head(&bytes, &LIMITS), Err(violation));
    }
    for (bytes, framing) in good_requests() {
        let end = bytes.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
        assert_eq!(judge_head(&bytes[..end], &LIMITS), Ok(framing));
        assert_eq!(judge_head(&bytes[..end - 1], &LIMITS), Err(Violation::HeadIncomplete));
        let longer = [&bytes[..end], b"x"].concat();
        assert_eq!(judge_head(&longer, &LIMITS), Err(Violation::HeadIncomplete));
    }
}

#[test]
fn bounds_are_exact() {
    let line = |len: usize| format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(len - 14)).into_bytes();
    assert!(judge_head(&line(1024), &LIMITS).is_ok());
    assert_eq!(judge_head(&line(1025), &LIMITS), Err(Violation::UriTooLong));
    let head =
        |len: usize| format!("GET / HTTP/1.1\r\nX:{}\r\n\r\n", "a".repeat(len - 22)).into_bytes();
    assert_eq!(head(4096).len(), 4096);
    assert!(judge_head(&head(4096), &LIMITS).is_ok());
    assert_eq!(judge_head(&head(4097), &LIMITS), Err(Violation::HeadTooLarge));
    let length = |n: &str| format!("GET / HTTP/1.1\r\nContent-Length: {n}\r\n\r\n").into_bytes();
    let largest = judge_head(&length("9223372036854775807"), &LIMITS).unwrap();
    assert_eq!(largest.body, Body::Length(i64::MAX as u64));
}

#[test]
fn an_endless_head_is_refused_at_the_bound() {
    let mut bytes = b"GET / HTTP/1.1\r\nX: ".to_vec();
    bytes.resize(4096, b'a');
    assert_eq!(byte_by_byte(&bytes).refused, None);
    bytes.push(b'a');
    assert_eq!(byte_by_byte(&bytes).refused, Some((0, Violation::HeadTooLarge)));
}

#[test]
fn a_head_cut_short_by_the_client_is_never_shown() {
    for cut in [&b"GET / HT"[..], b"GET / HTTP/1.1\r\nHost: a\r\n", b"\r\n"] {
        let seen = byte_by_byte(cut);
        assert!(seen.eof && seen.passed.is_empty() && seen.refused.is_none());
    }
}

#[test]
fn a_bad_body_breaks_the_connection() {
    let before = b"GET /first HTTP/1.1\r\nHost: a\r\n\r\n";
    for (bytes, violation) in bad_bodies() {
        let name = String::from_utf8_lossy(&bytes[..bytes.len().min(120)]).into_owned();
        for seen in [whole(&bytes), byte_by_byte(&bytes), scan(vec![bytes.clone()], 5)] {
            assert_eq!(seen.broken, Some(violation), "{name:?}");
            assert!(seen.refused.is_none() && bytes.starts_with(&seen.passed), "{name:?}");
            assert!(seen.passed.len() < bytes.len(), "{name:?}");
        }
        // The good request before it still reaches the service.
        let seen = whole(&[&before[..], &bytes].concat());
        assert_eq!(seen.broken, Some(violation), "{name:?}");
        assert!(seen.passed.starts_with(before), "{name:?}");
    }
}

#[test]
fn codes_are_unique_and_kebab_case() {
    let verdicts = bad_heads().into_iter().chain(bad_bodies());
    let all: HashSet<Violation> =
        verdicts.map(|(_, v)| v).chain([Violation::HeadIncomplete]).collect();
    let codes: HashSet<&str> = all.iter().map(|v| v.code()).collect();
    assert_eq!((all.len(), codes.len()), (27, 27), "a violation without a test: {all:?}");
    for violation in all {
        let kebab = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        assert!(violation.code().bytes().all(kebab));
        assert!((400..=505).contains(&violation.status()));
        assert!(violation.to_string().len() > 20);
    }
}

const UPGRADE: &[u8] =
    b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

/// A waker that remembers that it was called.
#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: std::sync::Arc<Self>) {
        self.0.store(true, std::sync::atomic::Ordering::SeqCst);
    }
}

fn read_once<IO: AsyncRead + Unpin>(scan: &mut Scan<IO>, waker: &Waker) -> Poll<Vec<u8>> {
    let mut memory = [0; 4096];
    let mut buf = ReadBuf::new(&mut memory);
    let poll = Pin::new(scan).poll_read(&mut Context::from_waker(waker), &mut buf);
    poll.map(|result| {
        result.unwrap();
        buf.filled().to_vec()
    })
}

fn held(behind: &[u8]) -> (Scan<Pieces>, WireHandle, std::sync::Arc<Flag>) {
    let pieces = VecDeque::from([[UPGRADE, behind].concat(), b"never read".to_vec()]);
    let (mut scan, handle) = Scan::new(Pieces { pieces, closes: false }, LIMITS);
    let flag = std::sync::Arc::new(Flag::default());
    let waker = Waker::from(flag.clone());
    assert_eq!(read_once(&mut scan, &waker), Poll::Ready(UPGRADE.to_vec()));
    assert_eq!(read_once(&mut scan, &waker), Poll::Pending);
    (scan, handle, flag)
}

fn is_set(flag: &Flag) -> bool {
    flag.0.load(std::sync::atomic::Ordering::SeqCst)
}

#[test]
fn bytes_behind_an_upgrade_wait_and_then_pass_through() {
    let (mut scan, handle, flag) = held(b"\x81\x05hello\nnot http");
    assert!(!is_set(&flag));
    assert_eq!(scan.io.pieces.len(), 1, "held bytes stop the reading below");
    handle.pass_through(0);
    assert!(is_set(&flag));
    assert_eq!(
        read_once(&mut scan, Waker::noop()),
        Poll::Ready(b"\x81\x05hello\nnot http".to_vec())
    );
    assert_eq!(read_once(&mut scan, Waker::noop()), Poll::Ready(b"never read".to_vec()));
    assert_eq!(handle.violation(), None);
}

#[test]
fn bytes_behind_a_refused_upgrade_are_the_next_request() {
    let next = b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n";
    let (mut scan, handle, flag) = held(next);
    handle.resume(0);
    assert!(is_set(&flag));
    assert_eq!(read_once(&mut scan, Waker::noop()), Poll::Ready(next.to_vec()));

    let (mut scan, handle, _) = held(b"\x81\x05hello\r\n");
    handle.resume(0);
    assert_eq!(read_once(&mut scan, Waker::noop()), Poll::Ready(REFUSED_HEAD.to_vec()));
    assert_eq!(handle.violation(), Some((1, Violation::ControlByte)));
    assert_eq!(read_once(&mut scan, Waker::noop()), Poll::Pending);
}

#[test]
fn a_decision_counts_for_its_own_request_only() {
    // The answer to the request before arrives while the upgrade is held already.
    let bytes = [b"GET / HTTP/1.1\r\n\r\n", UPGRADE, b"GET /a HTTP/1.1\r\n\r\n"].concat();
    let pieces = Pieces { pieces: VecDeque::from([bytes.clone()]), closes: true };
    let (mut scan, handle) = Scan::new(pieces, LIMITS);
    let shown = bytes.len() - b"GET /a HTTP/1.1\r\n\r\n".len();
    assert_eq!(read_once(&mut scan, Waker::noop()), Poll::Ready(bytes[..shown].to_vec()));
    handle.resume(0);
    handle.pass_through(0);
    assert_eq!(read_once(&mut scan, Waker::noop()), Poll::Pending);
    handle.resume(1);
    assert_eq!(read_once(&mut scan, Waker::noop()), Poll::Ready(bytes[shown..].to_vec()));
}

#[test]
fn an_upgrade_is_held_behind_its_body() {
    let head = b"POST / HTTP/1.1\r\nUpgrade: h2c\r\nContent-Length: 3\r\n\r\nabc";
    let bytes = [&head[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"].concat();
    let seen = scan(vec![bytes], 1 << 16);
    assert_eq!(seen.passed, head);
    assert!(!seen.eof && seen.refused.is_none());
}

#[test]
fn a_client_that_leaves_while_held_is_noticed() {
    let seen = scan(vec![UPGRADE.to_vec()], 1 << 16);
    assert!(seen.eof);
    assert_eq!(seen.passed, UPGRADE);
}

#[test]
fn no_memory_is_kept_when_heads_arrive_whole() {
    let request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let (left, right) = request.split_at(9);
    let pieces = VecDeque::from([request.to_vec(), left.to_vec(), right.to_vec()]);
    let (mut scan, _) = Scan::new(Pieces { pieces, closes: false }, LIMITS);
    assert_eq!(read_once(&mut scan, Waker::noop()), Poll::Ready(request.to_vec()));
    assert_eq!(scan.carry.capacity(), 0);
    assert_eq!(read_once(&mut scan, Waker::noop()), Poll::Ready(request.to_vec()));
    assert_eq!(scan.carry.capacity(), 0);
}

#[tokio::test]
async fn writing_is_not_touched() {
    let (near, mut far) = tokio::io::duplex(64);
    let (mut scan, _) = Scan::new(near, LIMITS);
    assert_eq!(scan.is_write_vectored(), scan.get_ref().is_write_vectored());
    scan.write_all(b"any\nbytes").await.unwrap();
    let slices = [io::IoSlice::new(b"a"), io::IoSlice::new(b"b")];
    let count = poll_fn(|cx| Pin::new(&mut scan).poll_write_vectored(cx, &slices)).await;
    assert!(count.unwrap() >= 1);
    scan.shutdown().await.unwrap();
    let mut got = Vec::new();
    far.read_to_end(&mut got).await.unwrap();
    assert!(got.starts_with(b"any\nbytesa"));
}

/// Streams out of the tables above and of noise that looks like HTTP.
fn nasty_stream() -> impl Strategy<Value = Vec<u8>> {
    let good: Vec<Vec<u8>> = good_requests().into_iter().map(|(b, _)| b).collect();
    let bad: Vec<Vec<u8>> = bad_heads()
        .into_iter()
        .chain(bad_bodies())
        .map(|(b, _)| b)
        .filter(|b| b.len() < 3000)
        .collect();
    let noise = prop::collection::vec(
        prop::sample::select(b"GET / HTTP/1.1\r\n\r\n\r\n: a0;5\0\t\xffConte-Lgh".to_vec()),
        0..40,
    );
    let piece = prop_oneof![
        6 => prop::sample::select(good),
        2 => prop::sample::select(bad),
        1 => noise,
    ];
    let edits = prop::collection::vec((any::<prop::sample::Index>(), 0u8..4), 0..3);
    (prop::collection::vec(piece, 1..5), edits).prop_map(|(pieces, edits)| {
        let mut bytes = pieces.concat();
        for (index, edit) in edits {
            if bytes.is_empty() {
                break;
            }
            let at = index.index(bytes.len());
            match edit {
                0 => drop(bytes.remove(at)),
                1 => bytes.insert(at, b'\r'),
                2 => bytes.insert(at, b'\n'),
                _ => bytes.swap(at, 0),
            }
        }
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_split_gives_the_same_verdict(
        bytes in nasty_stream(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        size in 1usize..300,
    ) {
        let mut cuts: Vec<usize> = cuts.iter().map(|i| i.index(bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let pieces = cuts.windows(2).map(|w| bytes[w[0]..w[1]].to_vec()).collect();
        let one = whole(&bytes);
        let cut = scan(pieces, size);
        prop_assert_eq!(one.refused, cut.refused);
        prop_assert_eq!(one.broken, cut.broken);
        prop_assert_eq!(one.eof, cut.eof);
        match (one.refused, one.broken) {
            // What passes before a broken body depends on the reads, but is always a true prefix.
            (None, Some(_)) => prop_assert!(bytes.starts_with(&one.passed) && bytes.starts_with(&cut.passed)),
            (None, None) => {
                prop_assert!(bytes.starts_with(&one.passed));
                prop_assert_eq!(one.passed, cut.passed);
            }
            (Some(_), _) => {
                let good = one.passed.strip_suffix(REFUSED_HEAD);
                prop_assert!(good.is_some_and(|good| bytes.starts_with(good)));
                prop_assert_eq!(one.passed, cut.passed);
            }
        }
    }

    #[test]
    fn judging_never_panics(head in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = judge_head(&head, &LIMITS);
        let _ = whole(&head);
    }
}
