//! Panics while a request is served: each ends what it was about and nothing else, and is told of once.
//!
//! Unwinding gives back what was borrowed, counted and held; what was half changed is the request's own. What others
//! go on with is changed in one step each, or made anew for the next request.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use http::HeaderValue;

thread_local! {
    /// Whether a panic of what runs now is caught here.
    static WATCHED: Cell<bool> = const { Cell::new(false) };
    static LAST: RefCell<Last> = const { RefCell::new(Last { place: String::new(), request: None }) };
}

/// What is known of a panic when it is caught.
#[derive(Debug, Default)]
struct Last {
    place: String,
    request: Option<HeaderValue>,
}

/// Leaves the place of a panic of this thread to whoever catches it; false when nobody does, and it must be told of
/// at once. For the hook of panics.
pub fn note_panic(place: &str) -> bool {
    let watched = WATCHED.get();
    if watched {
        LAST.with_borrow_mut(|last| place.clone_into(&mut last.place));
    }
    watched
}

/// This request is lost to a panic that is on its way up.
pub(super) fn note_lost(request: &HeaderValue) {
    if WATCHED.get() {
        LAST.with_borrow_mut(|last| last.request = Some(request.clone()));
    }
}

/// A panic that was caught.
#[derive(Debug)]
pub(super) struct Panicked(Last);

impl Panicked {
    /// Tells of it. Its place is enough to find the mistake: its words may quote a request.
    pub(super) fn log(&self, request: Option<&HeaderValue>) {
        let request = request.or(self.0.request.as_ref());
        let request = request.and_then(|id| id.to_str().ok()).unwrap_or_default();
        tracing::error!(place = self.0.place, request, "panic: one request is lost");
    }
}

/// Polls once.
///
/// # Errors
/// The panic in it. What was polled must not be polled again.
pub(super) fn poll<F: Future + ?Sized>(
    future: Pin<&mut F>,
    cx: &mut Context<'_>,
) -> Poll<Result<F::Output, Panicked>> {
    match caught(|| future.poll(cx)) {
        Ok(polled) => polled.map(Ok),
        Err(panicked) => Poll::Ready(Err(panicked)),
    }
}

/// Does something.
///
/// # Errors
/// The panic in it.
pub(super) fn caught<T>(work: impl FnOnce() -> T) -> Result<T, Panicked> {
    let outer = WATCHED.replace(true);
    let done = catch_unwind(AssertUnwindSafe(work));
    WATCHED.set(outer);
    done.map_err(|_| Panicked(LAST.take()))
}

#[cfg(test)]
mod tests;
