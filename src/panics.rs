//! Panics that are caught: nothing is said of them where they happen, for whoever catches them tells what they mean.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};

thread_local! {
    /// Whether a panic of what runs now is caught here.
    static WATCHED: Cell<bool> = const { Cell::new(false) };
    static PLACE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Whether a panic of what this thread does now is caught.
pub fn is_watched() -> bool {
    WATCHED.get()
}

/// Leaves the place of a panic of this thread to whoever catches it; false when nobody does, and it must be told of
/// at once. For the hook of panics.
pub fn note(place: &str) -> bool {
    let watched = is_watched();
    if watched {
        PLACE.with_borrow_mut(|last| place.clone_into(last));
    }
    watched
}

/// Does something.
///
/// # Errors
/// The place of a panic in it, as far as the hook noted it.
pub fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    let outer = WATCHED.replace(true);
    let done = catch_unwind(AssertUnwindSafe(work));
    WATCHED.set(outer);
    done.map_err(|_| PLACE.take())
}

/// Keeps panics that are caught from standard error; others are told of as before.
pub fn hush() {
    let before = take_hook();
    set_hook(Box::new(move |info| {
        if !note(&info.location().map(ToString::to_string).unwrap_or_default()) {
            before(info);
        }
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_catches_a_panic_is_left_to_tell_of_it() {
        assert!(!note("outside"));
        let outer = caught(|| {
            let inner = caught(|| {
                assert!(note("inside"));
                panic!("inside");
            });
            assert_eq!(inner, Err("inside".to_owned()));
            assert!(note("outer"));
            panic!("outer");
        });
        assert_eq!(outer, Err("outer".to_owned()));
        assert!(!note("outside again"));
    }
}
