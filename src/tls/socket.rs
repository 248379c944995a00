//! A client's socket under TLS.
//!
//! Looks at the first byte, since some clients speak plain HTTP by mistake, and holds back the session
//! ticket that ends a handshake: it goes out with the first answer, in the same system call and packet,
//! unless the client takes its time to ask.

use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Type of records whose content is encrypted (RFC 8446 section 5.2).
const APPLICATION_DATA: u8 = 23;
/// A ticket is smaller; what is larger is none.
const HELD_MOST: usize = 2 * 1024;
/// Pieces of one write; what is behind them is written next.
const PIECES: usize = 16;

/// The socket.
#[derive(Debug)]
pub(super) struct Socket<IO = TcpStream> {
    io: IO,
    /// How the handshake is getting on; `None` behind it.
    opening: Option<Opening>,
    /// Written, but not yet sent.
    held: Vec<u8>,
    /// Whether what is held waits for an answer, or has been given its time to wait for one.
    unasked: Unasked,
}

/// What is known of a client that has not been answered yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unasked {
    /// It may be about to ask.
    Fresh,
    /// It had the time.
    Waited,
    /// It has asked: there will be an answer.
    No,
}

#[derive(Debug, Default)]
struct Opening {
    /// Whether anything has come.
    begun: bool,
    /// The client does not speak TLS.
    plain: bool,
    /// Whether what was last done was to read: what is written then begins with a record.
    fresh: bool,
}

impl<IO> Socket<IO> {
    pub(super) fn new(io: IO) -> Self {
        Self { io, opening: Some(Opening::default()), held: Vec::new(), unasked: Unasked::Fresh }
    }

    /// The handshake is over: from here on everything goes out.
    pub(super) fn open(&mut self) {
        self.opening = None;
    }

    /// The client has sent something behind the handshake: what is held goes out with the answer.
    pub(super) fn asked(&mut self) {
        self.unasked = Unasked::No;
    }

    /// Whether the client has sent anything.
    pub(super) fn has_begun(&self) -> bool {
        self.opening.as_ref().is_none_or(|opening| opening.begun)
    }

    /// The socket of a client that speaks plain HTTP, or `None`.
    pub(super) fn into_plain(self) -> Option<IO> {
        self.opening.is_some_and(|opening| opening.plain).then_some(self.io)
    }

    /// Whether a write is to be held: the first one after the client's last message, encrypted. What
    /// the server says before that begins with its hello, which is not.
    fn holds(&mut self, bufs: &[IoSlice<'_>]) -> bool {
        let Some(opening) = &mut self.opening else { return false };
        let fresh = std::mem::take(&mut opening.fresh);
        let first = bufs.iter().find_map(|buf| buf.first());
        let length: usize = bufs.iter().map(|buf| buf.len()).sum();
        fresh && first == Some(&APPLICATION_DATA) && length <= HELD_MOST
    }
}

impl Socket {
    /// Sends what is held, as far as that goes without waiting: the alert of a handshake that failed.
    pub(super) fn give_up(&self) {
        if !self.held.is_empty() {
            let _ = self.io.try_write(&self.held);
        }
    }
}

impl<IO: AsyncWrite + Unpin> Socket<IO> {
    /// Sends all that is held, and of `bufs` what goes with it; the bytes of those. Without any in
    /// `bufs`, 0 when nothing is held any more.
    fn poll_send_held(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut pieces = [IoSlice::new(&[]); PIECES];
            let all = std::iter::once(&*self.held).chain(bufs.iter().map(|buf| &**buf));
            pieces.iter_mut().zip(all).for_each(|(piece, bytes)| *piece = IoSlice::new(bytes));
            let used = pieces.get(..=bufs.len()).unwrap_or(&pieces);
            let count = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, used))?;
            let ours = count.min(self.held.len());
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.held.drain(..ours);
            if self.held.is_empty() {
                self.held = Vec::new();
                if count > ours || bufs.iter().all(|buf| buf.is_empty()) {
                    return Poll::Ready(Ok(count - ours));
                }
                return Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
            }
        }
    }

    /// There is nothing to read. A client that has not asked for anything yet is given until the worker has
    /// looked at its sockets again; then what is held is sent alone. Some clients ask only once their last
    /// message is acknowledged (RFC 9293 section 3.7.4), and a kernel with nothing to send does that 40 ms
    /// later.
    fn poll_unasked(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.opening.is_some() || self.held.is_empty() {
            return Ok(());
        }
        match self.unasked {
            Unasked::No => Ok(()),
            Unasked::Fresh => {
                self.unasked = Unasked::Waited;
                // Wakes behind the look at the sockets, which a mere wake-up would come before.
                let _ = pin!(tokio::task::yield_now()).poll(cx);
                Ok(())
            }
            Unasked::Waited => match self.poll_send_held(cx, &[]) {
                Poll::Ready(sent) => sent.map(drop),
                Poll::Pending => Ok(()),
            },
        }
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncRead for Socket<IO> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let Poll::Ready(read) = Pin::new(&mut this.io).poll_read(cx, buf) else {
            this.poll_unasked(cx)?;
            return Poll::Pending;
        };
        read?;
        let Some(opening) = &mut this.opening else { return Poll::Ready(Ok(())) };
        let read = buf.filled().get(before..).unwrap_or_default();
        if let Some(first) = read.first() {
            opening.plain |= !opening.begun && first.is_ascii_uppercase();
            (opening.begun, opening.fresh) = (true, true);
            if opening.plain {
                return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Socket<IO> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.opening.is_none() && this.held.is_empty() {
            return Pin::new(&mut this.io).poll_write_vectored(cx, bufs);
        }
        if this.holds(bufs) {
            bufs.iter().for_each(|buf| this.held.extend_from_slice(buf));
            return Poll::Ready(Ok(bufs.iter().map(|buf| buf.len()).sum()));
        }
        if this.held.is_empty() {
            return Pin::new(&mut this.io).poll_write_vectored(cx, bufs);
        }
        this.poll_send_held(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.opening.is_none() && !this.held.is_empty() {
            ready!(this.poll_send_held(cx, &[]))?;
        }
        Pin::new(&mut this.io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.held.is_empty() {
            ready!(this.poll_send_held(cx, &[]))?;
        }
        Pin::new(&mut this.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    const TICKET: &[u8] = b"\x17\x03\x03\0\x06ticket";

    fn cx() -> Context<'static> {
        Context::from_waker(Waker::noop())
    }

    /// After the client's last message.
    async fn met(room: usize) -> (Socket<DuplexStream>, DuplexStream) {
        let (near, mut far) = duplex(room);
        let mut socket = Socket::new(near);
        let mut hello = [0; 5];
        for said in [b"\x16hell", b"\x14fini"] {
            far.write_all(said).await.unwrap();
            socket.read_exact(&mut hello).await.unwrap();
        }
        (socket, far)
    }

    #[tokio::test]
    async fn the_ticket_goes_out_with_the_first_answer() {
        for room in [5, 7, 11, 64] {
            let (mut socket, mut far) = met(room).await;
            socket.write_all(TICKET).await.unwrap();
            socket.flush().await.unwrap();
            let mut seen = [0; 1];
            let mut seen = ReadBuf::new(&mut seen);
            assert!(Pin::new(&mut far).poll_read(&mut cx(), &mut seen).is_pending());
            socket.open();
            let sending = async move {
                socket.write_all(b"an answer").await.unwrap();
                socket.write_all(b" and more").await.unwrap();
                socket.shutdown().await.unwrap();
                assert_eq!(socket.held.capacity(), 0, "an idle connection needs no memory for it");
            };
            let mut all = Vec::new();
            let (_, read) = tokio::join!(sending, far.read_to_end(&mut all));
            read.unwrap();
            assert_eq!(all, [TICKET, b"an answer and more"].concat(), "room for {room}");
        }
    }

    #[tokio::test]
    async fn a_flush_or_the_end_sends_it_alone() {
        for flush in [true, false] {
            let (mut socket, mut far) = met(5).await;
            socket.write_all(TICKET).await.unwrap();
            socket.open();
            let sending = async move {
                if flush {
                    socket.flush().await.unwrap();
                    assert!(socket.held.is_empty());
                }
                socket.shutdown().await.unwrap();
            };
            let mut all = Vec::new();
            let (_, read) = tokio::join!(sending, far.read_to_end(&mut all));
            read.unwrap();
            assert_eq!(all, TICKET);
        }
    }

    /// It was held until the first answer: a client that asks only once its last message is acknowledged
    /// waited 40 ms for that, on every connection.
    #[tokio::test]
    async fn a_client_that_does_not_ask_gets_it_alone() {
        for room in [5, 64] {
            let (mut socket, mut far) = met(room).await;
            socket.write_all(TICKET).await.unwrap();
            socket.open();
            let mut asked = [0; 5];
            let reading = async {
                socket.read_exact(&mut asked).await.unwrap();
                assert_eq!(socket.held.capacity(), 0);
            };
            let asking = async {
                let mut ticket = [0; TICKET.len()];
                far.read_exact(&mut ticket).await.unwrap();
                assert_eq!(ticket, TICKET);
                far.write_all(b"GET /").await.unwrap();
            };
            tokio::join!(reading, asking);
            assert_eq!(&asked, b"GET /");
        }
    }

    #[tokio::test]
    async fn a_client_that_asks_soon_gets_it_with_the_answer() {
        let (mut socket, mut far) = met(64).await;
        socket.write_all(TICKET).await.unwrap();
        socket.open();
        let mut asked = [0; 5];
        let mut asked = ReadBuf::new(&mut asked);
        assert!(Pin::new(&mut socket).poll_read(&mut cx(), &mut asked).is_pending());
        far.write_all(b"GET /").await.unwrap();
        assert!(Pin::new(&mut socket).poll_read(&mut cx(), &mut asked).is_ready());
        assert_eq!(socket.held, TICKET);
    }

    /// It came in one with the client's last message: the ticket does not go ahead of the answer.
    #[tokio::test]
    async fn a_client_that_has_asked_gets_it_with_the_answer() {
        let (mut socket, mut far) = met(64).await;
        socket.write_all(TICKET).await.unwrap();
        socket.open();
        socket.asked();
        for _ in 0..3 {
            let mut more = [0; 5];
            let mut more = ReadBuf::new(&mut more);
            assert!(Pin::new(&mut socket).poll_read(&mut cx(), &mut more).is_pending());
        }
        assert_eq!(socket.held, TICKET);
        socket.write_all(b"an answer").await.unwrap();
        let mut all = vec![0; TICKET.len() + 9];
        far.read_exact(&mut all).await.unwrap();
        assert_eq!(all, [TICKET, b"an answer"].concat());
    }

    #[tokio::test]
    async fn what_the_client_waits_for_is_not_held() {
        let (mut socket, mut far) = met(64).await;
        // A hello, and what comes right behind it.
        socket.write_all(b"\x16hello").await.unwrap();
        socket.write_all(TICKET).await.unwrap();
        assert!(socket.held.is_empty());
        let mut all = vec![0; 6 + TICKET.len()];
        far.read_exact(&mut all).await.unwrap();
        assert_eq!(all, [b"\x16hello", TICKET].concat());
        // Too much for a ticket.
        let (mut socket, _far) = met(8 * 1024).await;
        socket.write_all(&[APPLICATION_DATA; HELD_MOST + 1]).await.unwrap();
        assert!(socket.held.is_empty());
        // Before anything was read, and once the handshake is over.
        let (near, _far) = duplex(64);
        let mut socket = Socket::new(near);
        socket.write_all(TICKET).await.unwrap();
        assert!(socket.held.is_empty());
        let (mut socket, _far) = met(64).await;
        socket.open();
        socket.write_all(TICKET).await.unwrap();
        assert!(socket.held.is_empty());
    }

    #[tokio::test]
    async fn the_first_byte_tells_plain_http() {
        for (said, plain) in [(b"GET /", true), (b"\x16\x03\x01\0\0", false)] {
            let (near, mut far) = duplex(64);
            let mut socket = Socket::new(near);
            assert!(!socket.has_begun());
            far.write_all(said).await.unwrap();
            assert_eq!(socket.read(&mut [0; 8]).await.is_err(), plain);
            assert!(socket.has_begun());
            assert_eq!(socket.into_plain().is_some(), plain);
        }
    }
}
