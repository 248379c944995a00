//! A connection that is shared by requests, and run by a task of its worker.

use std::cell::Cell;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use h2::client::{Builder, SendRequest};

use super::input::Input;
use super::pieces::Piece;
use crate::upstream::connect::Stream;
use crate::upstream::http1::HEAD;

/// Bytes of an answer that may come before the client takes them.
pub(super) const STREAM_WINDOW: u32 = 64 << 10;
/// Requests on one connection at a time; an app may want fewer.
const STREAMS: u32 = 256;
/// Streams that were given up, whose last frames may still be on their way.
const GIVEN_UP: usize = 1024;
/// What small pieces of answers may cost h2 over the life of a connection: it counts those of requests that were given up
/// for good. How many wait is bounded by windows, and by whoever takes them over.
const PIECES: usize = 1 << 40;
/// Bytes of a request that are kept for an app that does not take them.
const SEND_BUFFER: usize = 64 << 10;

/// A connection that is shared by requests.
#[derive(Clone)]
pub(in crate::upstream) struct Shared {
    send: SendRequest<Piece>,
    usage: Rc<Usage>,
}

/// What its requests make of a connection.
#[derive(Debug, Default)]
struct Usage {
    open: Cell<usize>,
    /// Whether it left a request without an answer: its app's machine may be gone, and those to come try another one.
    doubtful: Cell<bool>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("usage", &self.usage).finish_non_exhaustive()
    }
}

/// The right to send one request on a connection.
#[derive(Debug)]
pub(in crate::upstream) struct Seat {
    pub(super) send: SendRequest<Piece>,
    pub(super) place: Rc<Place>,
}

/// One of the requests on a connection, until nothing of it or of its answer is on the way.
#[derive(Debug)]
pub(in crate::upstream) struct Place(Rc<Usage>);

impl Place {
    /// The request had no answer in time.
    pub(super) fn doubt(&self) {
        self.0.doubtful.set(true);
    }
}

impl Shared {
    /// Shakes hands on `stream`: ready when the app has said how many requests it takes.
    pub(in crate::upstream) async fn open(stream: Stream) -> io::Result<Self> {
        let handshake = Builder::new()
            .enable_push(false)
            .max_header_list_size(u32::try_from(HEAD).unwrap_or(u32::MAX))
            .max_send_buffer_size(SEND_BUFFER)
            // None until the app has said how many.
            .initial_max_send_streams(0)
            // Frames that come behind the end of a stream are no fault of the app, however many clients leave early: a
            // limit would end the requests of all others.
            .max_concurrent_reset_streams(GIVEN_UP)
            .max_local_error_reset_streams(None)
            .data_frame_budget(PIECES)
            // Clients that do not read fill their own streams, not the connection, however many they are.
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(STREAM_WINDOW * STREAMS)
            .handshake(Input::new(stream));
        let (send, mut connection) = handshake.await.map_err(io::Error::other)?;
        poll_fn(|cx| match Pin::new(&mut connection).poll(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(io::Error::other(error))),
            Poll::Ready(Ok(())) => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            Poll::Pending if send.current_max_send_streams() > 0 => Poll::Ready(Ok(())),
            Poll::Pending => Poll::Pending,
        })
        .await?;
        tokio::task::spawn_local(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection to an app");
            }
        });
        Ok(Self { send, usage: Rc::default() })
    }

    /// The right to send one more request, as long as the app takes one: what is beyond its limit would wait for others
    /// to end, for as long as they like.
    pub(in crate::upstream) fn seat(&self) -> Option<Seat> {
        let most = self.send.current_max_send_streams().min(STREAMS as usize);
        let open = &self.usage.open;
        if open.get() >= most || self.is_closed() {
            return None;
        }
        open.set(open.get() + 1);
        Some(Seat { send: self.send.clone(), place: Rc::new(Place(Rc::clone(&self.usage))) })
    }

    /// Whether the connection takes no more requests.
    pub(in crate::upstream) fn is_closed(&self) -> bool {
        if self.usage.doubtful.get() {
            return true;
        }
        // A clone waits for nothing but the connection.
        let ready = self.send.clone().poll_ready(&mut Context::from_waker(Waker::noop()));
        !matches!(ready, Poll::Ready(Ok(())))
    }

    pub(in crate::upstream) fn is_idle(&self) -> bool {
        self.usage.open.get() == 0
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get().saturating_sub(1));
    }
}
