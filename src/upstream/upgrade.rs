//! Tunnels after a 101 of the app: WebSockets.
//!
//! Bytes go through as they are. Frames towards the client are followed just far enough to know where
//! one ends, so that a close frame with a reason can be put in when the tunnel has to end.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

use crate::timer::Timer;

/// Why a tunnel must end, as a WebSocket close code and reason (RFC 6455 section 7.4).
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    /// Close code.
    pub code: u16,
    /// Reason, under 120 bytes.
    pub reason: &'static str,
}

impl Cut {
    /// The session ended.
    pub const SESSION_OVER: Self = Self { code: 4401, reason: "session ended" };
    /// Nobody knows whether the session goes on: its store does not answer.
    pub const UNPROVEN: Self = Self { code: 1013, reason: "try again later" };
    /// The gateway stops.
    pub const GOING_AWAY: Self = Self { code: 1001, reason: "the gateway is restarting" };
    /// Nothing was sent for too long.
    pub const IDLE: Self = Self { code: 1001, reason: "idle for too long" };

    fn frame(self) -> Vec<u8> {
        let length = u8::try_from(self.reason.len() + 2).unwrap_or(2);
        let mut frame = vec![0x88, length];
        frame.extend(self.code.to_be_bytes());
        frame.extend(self.reason.as_bytes());
        frame
    }
}

/// A stream of bytes, both ways.
pub trait Duplex: AsyncRead + AsyncWrite + Unpin {}

impl<IO: AsyncRead + AsyncWrite + Unpin> Duplex for IO {}

/// A connection that HTTP has left, to a client or to an app.
pub struct Upgraded {
    stream: Box<dyn Duplex>,
    /// What came behind the request, or behind the 101.
    rest: Bytes,
}

impl Upgraded {
    /// `rest` is read first.
    pub fn new(stream: Box<dyn Duplex>, rest: Bytes) -> Self {
        Self { stream, rest }
    }
}

/// Shows no bytes.
impl fmt::Debug for Upgraded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upgraded").finish_non_exhaustive()
    }
}

impl AsyncRead for Upgraded {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.rest.is_empty() {
            return Pin::new(&mut this.stream).poll_read(cx, buf);
        }
        let most = this.rest.len().min(buf.remaining());
        buf.put_slice(this.rest.get(..most).unwrap_or_default());
        this.rest.advance(most);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Upgraded {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

/// Bytes that are read at once per direction.
const READ: usize = 16 * 1024;
/// How long the client may take to receive the close frame.
const FAREWELL: Duration = Duration::from_millis(500);

/// Copies both ways until one side ends, nothing moves for `idle`, or `cut` says so.
///
/// `client_sent` is called whenever bytes came from the client.
///
/// # Errors
/// When a side breaks off.
pub async fn tunnel(
    client: Upgraded,
    app: Upgraded,
    cut: impl Future<Output = Cut>,
    client_sent: impl Fn(),
    timer: &Timer,
    idle: Duration,
) -> io::Result<()> {
    let (mut from_client, mut to_client) = tokio::io::split(client);
    let (mut from_app, mut to_app) = tokio::io::split(app);
    let mut frames = Frames::default();
    let moved = std::cell::Cell::new(true);
    let ended = {
        let up = async {
            loop {
                let bytes = piece(&mut from_client).await?;
                moved.set(true);
                if bytes.is_empty() {
                    return to_app.shutdown().await;
                }
                client_sent();
                to_app.write_all(&bytes).await?;
                // TLS may take bytes and keep them: the last ones of a message must not lie here.
                to_app.flush().await?;
            }
        };
        let down = async {
            loop {
                let bytes = piece(&mut from_app).await?;
                moved.set(true);
                if bytes.is_empty() {
                    return to_client.shutdown().await;
                }
                // Followed first: cut within the write, the frame counts as half written.
                frames.follow(&bytes);
                to_client.write_all(&bytes).await?;
                to_client.flush().await?;
                frames.written();
            }
        };
        let silence = async {
            while moved.replace(false) {
                timer.deadline(idle).limit(std::future::pending::<()>()).await;
            }
        };
        let copies = async { tokio::try_join!(up, down).map(|_| ()) };
        let (copies, cut, silence) = (pin!(copies), pin!(cut), pin!(silence));
        tokio::select! {
            result = copies => return result,
            cut = cut => cut,
            () = silence => Cut::IDLE,
        }
    };
    // Within a frame a close frame would be taken for payload: then the end alone must do.
    if frames.between() {
        let frame = ended.frame();
        let farewell = async {
            to_client.write_all(&frame).await?;
            to_client.shutdown().await
        };
        let _ = tokio::time::timeout(FAREWELL, farewell).await;
    }
    Ok(())
}

/// What comes next, nothing at the end. Without memory of its own while it waits: most tunnels are silent
/// most of the time.
async fn piece(from: &mut (impl AsyncRead + Unpin)) -> io::Result<BytesMut> {
    poll_fn(|cx| {
        let mut bytes = BytesMut::with_capacity(READ);
        ready!(pin!(from.read_buf(&mut bytes)).poll(cx))?;
        Poll::Ready(Ok(bytes))
    })
    .await
}

/// Follows the frames of one direction (RFC 6455 section 5.2).
#[derive(Debug, Default)]
struct Frames {
    /// Bytes of the current frame's head that have come.
    head: Vec<u8>,
    /// Bytes of the current frame's payload that have not.
    left: u64,
    /// Whether what was followed is not yet written.
    writing: bool,
}

impl Frames {
    fn between(&self) -> bool {
        self.head.is_empty() && self.left == 0 && !self.writing
    }

    fn written(&mut self) {
        self.writing = false;
    }

    fn follow(&mut self, mut bytes: &[u8]) {
        self.writing = true;
        while let Some((first, rest)) = bytes.split_first() {
            if self.left > 0 {
                let skip = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
                self.left -= u64::try_from(skip).unwrap_or(self.left);
                bytes = bytes.get(skip..).unwrap_or_default();
                continue;
            }
            self.head.push(*first);
            bytes = rest;
            if let Some(length) = payload(&self.head) {
                self.head.clear();
                self.left = length;
            }
        }
    }
}

/// The payload's length, once the head is whole.
fn payload(head: &[u8]) -> Option<u64> {
    let second = *head.get(1)?;
    let mask = if second & 0x80 == 0 { 0 } else { 4 };
    let (extra, short) = match second & 0x7f {
        126 => (2, None),
        127 => (8, None),
        length => (0, Some(u64::from(length))),
    };
    if head.len() < 2 + extra + mask {
        return None;
    }
    short.or_else(|| {
        let bytes = head.get(2..2 + extra)?;
        Some(bytes.iter().fold(0u64, |length, byte| (length << 8) | u64::from(*byte)))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(length: usize, masked: bool) -> Vec<u8> {
        let mask = if masked { 0x80 } else { 0 };
        let mut out = vec![0x82];
        match length {
            0..126 => out.push(u8::try_from(length).unwrap() | mask),
            126..65_536 => {
                out.push(126 | mask);
                out.extend(u16::try_from(length).unwrap().to_be_bytes());
            }
            _ => {
                out.push(127 | mask);
                out.extend(u64::try_from(length).unwrap().to_be_bytes());
            }
        }
        out.extend(vec![0x5a; length + if masked { 4 } else { 0 }]);
        out
    }

    proptest! {
        #[test]
        fn ends_of_frames_are_found_however_they_are_cut(
            lengths in prop::collection::vec((0usize..70_000, any::<bool>()), 1..5),
            step in 1usize..5_000,
        ) {
            let mut frames = Frames::default();
            for (length, masked) in lengths {
                let bytes = frame(length, masked);
                let (last, most) = bytes.split_last().unwrap();
                for piece in most.chunks(step) {
                    frames.follow(piece);
                    frames.written();
                    prop_assert!(!frames.between());
                }
                frames.follow(&[*last]);
                frames.written();
                prop_assert!(frames.between());
            }
        }
    }

    #[test]
    fn the_close_frame_is_one() {
        let frame = Cut::SESSION_OVER.frame();
        assert_eq!(frame[..4], [0x88, 15, 0x11, 0x31]);
        let mut frames = Frames::default();
        frames.follow(&frame);
        frames.written();
        assert!(frames.between());
    }
}
