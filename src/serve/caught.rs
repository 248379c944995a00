//! Panics while a request is served: each ends what it was about and nothing else, and is told of once.
//!
//! Unwinding gives back what was borrowed, counted and held; what was half changed is the request's own. What others
//! go on with is changed in one step each, or made anew for the next request.

use std::cell::RefCell;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::HeaderValue;

use crate::panics;

thread_local! {
    /// The request that the last panic of this thread has cost.
    static LOST: RefCell<Option<HeaderValue>> = const { RefCell::new(None) };
}

/// This request is lost to a panic that is on its way up.
pub(super) fn note_lost(request: &HeaderValue) {
    if panics::is_watched() {
        LOST.set(Some(request.clone()));
    }
}

/// A panic that was caught.
#[derive(Debug)]
pub(super) struct Panicked {
    place: String,
    request: Option<HeaderValue>,
}

impl Panicked {
    /// Tells of it. Its place is enough to find the mistake: its words may quote a request.
    pub(super) fn log(&self, request: Option<&HeaderValue>) {
        let request = request.or(self.request.as_ref());
        let request = request.and_then(|id| id.to_str().ok()).unwrap_or_default();
        tracing::error!(place = self.place, request, "panic: one request is lost");
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
    panics::caught(work).map_err(|place| Panicked { place, request: LOST.take() })
}

#[cfg(test)]
mod tests;
