//! The streams of a connection that are being served, each with a waker of its own.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Waker};

use super::signals::{Signals, StreamWaker};

/// One stream, to its end.
pub(super) type Serving = Pin<Box<dyn Future<Output = ()>>>;

/// As many places as there were streams at once, which is bounded by what clients may open.
pub(super) struct Streams {
    signals: Arc<Signals>,
    places: Vec<Place>,
    free: Vec<usize>,
    /// Kept for its memory; empty but in `poll_woken`.
    woken: Vec<usize>,
}

struct Place {
    mark: Arc<StreamWaker>,
    waker: Waker,
    serving: Option<Serving>,
    is_free: bool,
}

impl fmt::Debug for Streams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let open = self.places.len() - self.free.len();
        f.debug_struct("Streams").field("open", &open).finish_non_exhaustive()
    }
}

impl Streams {
    pub(super) fn new(signals: Arc<Signals>) -> Self {
        Self { signals, places: Vec::new(), free: Vec::new(), woken: Vec::new() }
    }

    /// Begins with a stream and goes as far as it can.
    pub(super) fn start(&mut self, serving: Serving) {
        let place = self.free.pop().unwrap_or_else(|| self.add());
        if let Some(found) = self.places.get_mut(place) {
            found.serving = Some(serving);
            found.is_free = false;
        }
        self.poll(place);
    }

    fn add(&mut self) -> usize {
        let place = self.places.len();
        let mark = StreamWaker::new(&self.signals, place);
        let waker = Waker::from(Arc::clone(&mark));
        self.places.push(Place { mark, waker, serving: None, is_free: false });
        place
    }

    /// Goes on with the streams that were woken.
    pub(super) fn poll_woken(&mut self) {
        let mut woken = std::mem::take(&mut self.woken);
        self.signals.take_woken(&mut woken);
        for place in woken.drain(..) {
            if let Some(found) = self.places.get(place) {
                found.mark.reset();
            }
            self.poll(place);
        }
        self.woken = woken;
    }

    fn poll(&mut self, place: usize) {
        let Some(found) = self.places.get_mut(place) else { return };
        if let Some(serving) = &mut found.serving {
            let mut cx = Context::from_waker(&found.waker);
            if serving.as_mut().poll(&mut cx).is_pending() {
                return;
            }
            found.serving = None;
        }
        // Woken while it ended: given away only when that was seen, or the next one would be polled for it.
        if !found.mark.is_woken() && !found.is_free {
            found.is_free = true;
            self.free.push(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::future::poll_fn;
    use std::rc::Rc;
    use std::task::Poll;

    use super::super::signals::Part;
    use super::*;

    /// Streams that show how often they were polled, and end when they are told to.
    struct Told {
        streams: Streams,
        signals: Arc<Signals>,
        seen: Rc<RefCell<Vec<usize>>>,
    }

    impl Told {
        fn new() -> Self {
            let signals = Signals::new();
            let streams = Streams::new(Arc::clone(&signals));
            Self { streams, signals, seen: Rc::default() }
        }

        /// Its waker, and what ends it.
        fn start(&mut self, name: usize) -> (Waker, Rc<Cell<bool>>) {
            let (end, kept) = (Rc::new(Cell::new(false)), Rc::new(RefCell::new(None)));
            let (seen, told, keep) = (Rc::clone(&self.seen), Rc::clone(&end), Rc::clone(&kept));
            self.streams.start(Box::pin(poll_fn(move |cx| {
                seen.borrow_mut().push(name);
                keep.borrow_mut().replace(cx.waker().clone());
                if told.get() { Poll::Ready(()) } else { Poll::Pending }
            })));
            let waker = kept.borrow().clone().unwrap();
            (waker, end)
        }

        fn poll(&mut self) -> Vec<usize> {
            if self.signals.take(Part::STREAMS) {
                self.streams.poll_woken();
            }
            self.seen.take()
        }
    }

    #[test]
    fn only_what_was_woken_is_polled_and_once() {
        let mut told = Told::new();
        let (first, _) = told.start(1);
        let (second, _) = told.start(2);
        assert_eq!(told.poll(), [1, 2]);
        assert_eq!(told.poll(), [0; 0]);
        second.wake_by_ref();
        second.wake_by_ref();
        assert_eq!(told.poll(), [2]);
        second.wake_by_ref();
        first.wake_by_ref();
        assert_eq!(told.poll(), [2, 1]);
    }

    #[test]
    fn a_place_is_used_again_and_never_twice() {
        let mut told = Told::new();
        let (old, end) = told.start(1);
        end.set(true);
        old.wake_by_ref();
        assert_eq!(told.poll(), [1, 1]);
        // Whoever keeps the waker of what has ended does no harm with it.
        for _ in 0..3 {
            old.wake_by_ref();
            assert_eq!(told.poll(), [0; 0]);
        }
        let _ = (told.start(2), told.start(3));
        assert_eq!(told.poll(), [2, 3]);
        assert_eq!(told.streams.places.len(), 2);
    }
}
