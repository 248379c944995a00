//! Pieces of a body that h2 sends. It keeps each one as a frame until the peer's socket has it, and a frame takes up
//! hundreds of bytes: small ones are joined while others are on their way.

use std::cell::{Cell, RefCell};
use std::io::IoSlice;
use std::rc::Rc;
use std::task::{Context, Waker};

use bytes::{Buf, Bytes, BytesMut};

/// Pieces of a body that h2 has at a time before small ones are joined.
const QUEUED: usize = 8;
/// Bytes of a piece that is not small: those of a frame.
const FULL: usize = 16 << 10;

/// What a body has given and h2 has no room for yet.
#[derive(Debug, Default)]
pub struct Pieces {
    next: Bytes,
    /// In place of `next`, once there was more than that.
    joined: BytesMut,
    queue: Option<Rc<Queue>>,
}

/// Pieces of a body that h2 has.
#[derive(Debug, Default)]
struct Queue {
    length: Cell<usize>,
    /// Woken when there is one less.
    waiting: RefCell<Option<Waker>>,
}

/// A piece of a body, as h2 has it.
#[derive(Debug)]
pub struct Piece {
    bytes: Bytes,
    /// `None` for the last one: there are no others to be joined.
    _place: Option<Place>,
}

#[derive(Debug)]
struct Place(Rc<Queue>);

impl Pieces {
    /// Whether nothing is left to hand over.
    pub fn is_empty(&self) -> bool {
        self.next.is_empty() && self.joined.is_empty()
    }

    /// Bytes that are left to hand over.
    pub fn len(&self) -> usize {
        self.next.len() + self.joined.len()
    }

    /// Whether there is nothing yet that is worth handing over.
    pub fn want_more(&self) -> bool {
        self.is_empty()
            || self.len() < FULL && self.queue.as_ref().is_some_and(|queue| queue.is_full())
    }

    /// Adds what the body gave.
    pub fn put(&mut self, data: Bytes) {
        if self.is_empty() {
            self.next = data;
            return;
        }
        self.joined.extend_from_slice(&std::mem::take(&mut self.next));
        self.joined.extend_from_slice(&data);
    }

    /// Has the task woken when h2 has sent a piece.
    pub fn wait(&self, cx: &Context<'_>) {
        if let Some(queue) = &self.queue {
            queue.waiting.replace(Some(cx.waker().clone()));
        }
    }

    /// Takes up to `room` bytes for h2. `last`: nothing comes behind those that are here.
    pub fn take(&mut self, room: usize, last: bool) -> Piece {
        if !self.joined.is_empty() {
            self.next = self.joined.split().freeze();
        }
        let bytes = self.next.split_to(room.min(self.next.len()));
        let is_last = last && self.next.is_empty();
        let place = (!is_last).then(|| Place::new(Rc::clone(self.queue.get_or_insert_default())));
        Piece { bytes, _place: place }
    }
}

impl Queue {
    fn is_full(&self) -> bool {
        self.length.get() >= QUEUED
    }
}

impl Place {
    fn new(queue: Rc<Queue>) -> Self {
        queue.length.set(queue.length.get() + 1);
        Self(queue)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.length.set(self.0.length.get().saturating_sub(1));
        let waiting = self.0.waiting.take();
        if let Some(waker) = waiting {
            waker.wake();
        }
    }
}

impl Piece {
    /// The end of a body behind its last byte.
    pub fn end() -> Self {
        Self { bytes: Bytes::new(), _place: None }
    }
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn chunks_vectored<'a>(&'a self, into: &mut [IoSlice<'a>]) -> usize {
        self.bytes.chunks_vectored(into)
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
    }

    fn copy_to_bytes(&mut self, length: usize) -> Bytes {
        self.bytes.copy_to_bytes(length)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn bytes(piece: &Piece) -> &[u8] {
        piece.chunk()
    }

    #[test]
    fn pieces_go_one_by_one_until_some_wait() {
        let (mut pieces, mut queued) = (Pieces::default(), Vec::new());
        for number in 0..QUEUED {
            assert!(pieces.want_more(), "piece {number}");
            pieces.put(Bytes::from_static(b"x"));
            assert!(!pieces.want_more(), "piece {number}");
            queued.push(pieces.take(100, false));
            assert!(pieces.is_empty());
        }
        for _ in 1..FULL {
            pieces.put(Bytes::from_static(b"y"));
            assert!(pieces.want_more());
        }
        pieces.put(Bytes::from_static(b"y"));
        assert!(!pieces.want_more(), "a frame is full");
        let first = pieces.take(10, false);
        assert!(bytes(&first) == b"yyyyyyyyyy" && pieces.len() == FULL - 10);
        pieces.put(Bytes::from_static(b"zz"));
        let rest = pieces.take(FULL, false);
        assert!(bytes(&rest).len() == FULL - 8 && bytes(&rest).ends_with(b"yzz"));
    }

    #[test]
    fn who_waits_is_woken_once_there_is_one_less() {
        let mut pieces = Pieces::default();
        let mut queued: Vec<_> = (0..QUEUED)
            .map(|_| {
                pieces.put(Bytes::from_static(b"x"));
                pieces.take(1, false)
            })
            .collect();
        pieces.put(Bytes::from_static(b"y"));
        assert!(pieces.want_more());
        let count = Arc::new(Count::default());
        pieces.wait(&Context::from_waker(&Waker::from(Arc::clone(&count))));
        queued.pop();
        assert!(!pieces.want_more());
        queued.clear();
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn the_last_piece_needs_no_count() {
        let mut pieces = Pieces::default();
        pieces.put(Bytes::from_static(b"answer"));
        assert_eq!(bytes(&pieces.take(3, true)), b"ans");
        assert!(pieces.queue.is_some(), "more comes behind it");
        let mut pieces = Pieces::default();
        pieces.put(Bytes::from_static(b"answer"));
        assert_eq!(bytes(&pieces.take(64, true)), b"answer");
        assert!(pieces.is_empty() && pieces.queue.is_none());
    }
}
