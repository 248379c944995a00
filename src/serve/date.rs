//! The time as HTTP writes it, made once a second.

use std::cell::RefCell;
use std::time::{Duration, UNIX_EPOCH};

use http::HeaderValue;

/// The value of `Date`, kept for its second.
#[derive(Debug, Default)]
pub(super) struct Date(RefCell<Option<(u64, HeaderValue)>>);

impl Date {
    /// The date of a time in seconds since the epoch.
    pub(super) fn at(&self, seconds: u64) -> HeaderValue {
        let kept = &mut *self.0.borrow_mut();
        match kept {
            Some((second, value)) if *second == seconds => value.clone(),
            _ => kept.insert((seconds, made(seconds))).1.clone(),
        }
    }
}

fn made(seconds: u64) -> HeaderValue {
    let time = UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).unwrap_or(UNIX_EPOCH);
    let text = httpdate::fmt_http_date(time);
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("Thu, 01 Jan 1970 00:00:00 GMT"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_made_anew_each_second() {
        let date = Date::default();
        let at = |seconds| date.at(seconds);
        assert_eq!(at(0), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(at(0), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(at(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
    }
}
