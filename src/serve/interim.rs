//! Interim answers (1xx) on their way from an app to the client.

use std::cell::RefCell;
use std::collections::VecDeque;

use crate::headers::AnswerHead;

/// What an app said ahead of its answer to one request and the client has not yet been told: early hints, that it is
/// still at work. Bounded by what an app may say (`upstream`).
#[derive(Debug, Default)]
pub(super) struct Interim(RefCell<VecDeque<Box<AnswerHead>>>);

impl Interim {
    /// One more.
    pub(super) fn add(&self, head: Box<AnswerHead>) {
        self.0.borrow_mut().push_back(head);
    }

    /// The first of them.
    pub(super) fn take(&self) -> Option<Box<AnswerHead>> {
        self.0.borrow_mut().pop_front()
    }

    /// The app gave no answer that they could stand ahead of.
    pub(super) fn forget(&self) {
        self.0.borrow_mut().clear();
    }
}
