//! The time as HTTP writes it, made once a second.

use std::cell::RefCell;
use std::time::{Duration, UNIX_EPOCH};

/// The value of `Date`, kept for its second.
#[derive(Debug, Default)]
pub(super) struct Date(RefCell<(u64, String)>);

impl Date {
    /// Gives the date of a time in seconds since the epoch.
    pub(super) fn at(&self, seconds: u64, give: impl FnOnce(&[u8])) {
        let mut kept = self.0.borrow_mut();
        if kept.0 != seconds || kept.1.is_empty() {
            let time = UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
            *kept = (seconds, httpdate::fmt_http_date(time.unwrap_or(UNIX_EPOCH)));
        }
        give(kept.1.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_made_anew_each_second() {
        let date = Date::default();
        let at = |seconds| {
            let mut text = String::new();
            date.at(seconds, |bytes| text = String::from_utf8(bytes.to_vec()).unwrap());
            text
        };
        assert_eq!(at(0), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(at(0), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(at(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
    }
}
