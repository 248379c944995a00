//! What an app sends, but for DATA frames without a byte that end nothing: they say nothing (RFC 9113 section 6.1), and h2
//! ends a connection, with the requests of all clients on it, behind a hundred of them.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes of a frame's head (RFC 9113 section 4.1): its length, kind, flags and stream.
const HEAD: usize = 9;
/// The kind of a frame that is part of a body.
const DATA: u8 = 0;
/// Flags by which DATA without a byte says something: it ends the stream, or it is padded.
const TELLING: u8 = 0x1 | 0x8;

/// A stream to an app, whose idle frames are left out.
#[derive(Debug)]
pub(super) struct Input<IO> {
    io: IO,
    /// Bytes to come of the frame that is being read, behind its head.
    left: usize,
    /// A head that came in two parts, how much of it has come, and how much was handed on.
    head: [u8; HEAD],
    come: usize,
    gone: usize,
}

impl<IO> Input<IO> {
    pub(super) fn new(io: IO) -> Self {
        Self { io, left: 0, head: [0; HEAD], come: 0, gone: 0 }
    }

    /// Moves what is to be handed on of `bytes`, which came next, to their beginning, and counts it. A part of a head at
    /// their end is held back.
    fn sift(&mut self, bytes: &mut [u8]) -> usize {
        let (mut at, mut kept) = (0, 0);
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            let passed = if self.left > 0 {
                let passed = self.left.min(rest.len());
                self.left -= passed;
                passed
            } else if let Some(head) = rest.first_chunk::<HEAD>() {
                if is_idle(head) {
                    at += HEAD;
                    continue;
                }
                self.left = length(head);
                HEAD
            } else {
                self.come = rest.len();
                self.head.iter_mut().zip(rest).for_each(|(held, byte)| *held = *byte);
                break;
            };
            if at > kept {
                bytes.copy_within(at..at + passed, kept);
            }
            (at, kept) = (at + passed, kept + passed);
        }
        kept
    }

    /// Hands on the head that came in two parts, unless it is idle. Whether there was room for any of it.
    fn hand_on_head(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let rest = self.head.get(self.gone..).filter(|_| !is_idle(&self.head)).unwrap_or_default();
        let rest = rest.get(..buf.remaining()).unwrap_or(rest);
        buf.put_slice(rest);
        let count = rest.len();
        self.gone += count;
        if count == 0 || self.gone == HEAD {
            self.left = length(&self.head);
            (self.come, self.gone) = (0, 0);
        }
        count > 0
    }
}

fn length([high, middle, low, ..]: &[u8; HEAD]) -> usize {
    usize::from(*high) << 16 | usize::from(*middle) << 8 | usize::from(*low)
}

fn is_idle(head: &[u8; HEAD]) -> bool {
    let [_, _, _, kind, flags, ..] = head;
    length(head) == 0 && *kind == DATA && flags & TELLING == 0
}

impl<IO: AsyncRead + Unpin> AsyncRead for Input<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            let (read, handed_on) = match this.head.get_mut(this.come..) {
                Some(rest) if this.come > 0 && !rest.is_empty() => {
                    let mut rest = ReadBuf::new(rest);
                    ready!(Pin::new(&mut this.io).poll_read(cx, &mut rest))?;
                    this.come += rest.filled().len();
                    (rest.filled().len(), false)
                }
                _ if this.come > 0 => (HEAD, this.hand_on_head(buf)),
                _ => {
                    ready!(Pin::new(&mut this.io).poll_read(cx, buf))?;
                    let read = buf.filled().len() - before;
                    let kept = this.sift(buf.filled_mut().get_mut(before..).unwrap_or_default());
                    buf.set_filled(before + kept);
                    (read, kept > 0)
                }
            };
            if read == 0 || handed_on {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Input<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::AsyncReadExt;

    use super::*;

    fn frame(payload: &[u8], kind: u8, flags: u8) -> Vec<u8> {
        let [.., high, middle, low] = payload.len().to_be_bytes();
        [&[high, middle, low, kind, flags, 0, 0, 0, 1], payload].concat()
    }

    /// What is handed on of bytes that come in pieces, to who has room for `room` of them at a time.
    async fn handed_on(pieces: &[&[u8]], room: usize) -> Vec<u8> {
        let none: Box<dyn AsyncRead + Unpin> = Box::new(tokio::io::empty());
        let all = pieces.iter().fold(none, |all, piece| Box::new(all.chain(*piece)));
        let mut input = Input::new(all);
        let (mut all, mut buf) = (Vec::new(), vec![0; room]);
        loop {
            match input.read(&mut buf).await.unwrap() {
                0 => return all,
                count => all.extend_from_slice(&buf[..count]),
            }
        }
    }

    #[tokio::test]
    async fn only_frames_that_say_nothing_are_left_out() {
        let telling = [
            frame(b"", 0, 1),
            frame(b"", 0, 8),
            frame(b"x", 0, 0),
            frame(b"", 1, 4),
            frame(b"", 4, 0),
            frame(&[0; 9], 0, 0),
        ];
        for frame in &telling {
            assert_eq!(handed_on(&[frame], 64).await, *frame);
        }
        assert_eq!(handed_on(&[&frame(b"", 0, 0)], 64).await, b"");
        assert_eq!(handed_on(&[&frame(b"", 0, 0x40)], 64).await, b"");
        let rest = frame(b"body", 0, 1);
        let idle = frame(b"", 0, 0).repeat(200);
        assert_eq!(handed_on(&[&idle, &rest], 16).await, rest);
    }

    proptest! {
        #[test]
        fn the_rest_is_whole_however_it_comes(
            frames in prop::collection::vec((prop::collection::vec(0..3_u8, 0..30), 0..2_u8, 0..3_u8), 0..20),
            cuts in prop::collection::vec(0..20_usize, 0..40),
            room in 1..40_usize,
        ) {
            let mut bytes = Vec::new();
            let mut wanted = Vec::new();
            for (payload, kind, flags) in &frames {
                let frame = frame(payload, *kind, *flags);
                if !payload.is_empty() || *kind != 0 || flags & 1 != 0 {
                    wanted.extend_from_slice(&frame);
                }
                bytes.extend(frame);
            }
            let (mut pieces, mut rest) = (Vec::new(), &*bytes);
            for cut in cuts {
                let (piece, more) = rest.split_at(cut.min(rest.len()));
                pieces.push(piece);
                rest = more;
            }
            pieces.push(rest);
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            prop_assert_eq!(runtime.block_on(handed_on(&pieces, room)), wanted);
        }
    }
}
