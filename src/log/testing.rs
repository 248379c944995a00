//! What tests of the logs share.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::clock::{Clock, UnixMs};

/// How long a test waits for something that should take no time.
pub(super) const WAIT: Duration = Duration::from_secs(10);

pub(super) fn clock() -> Clock {
    Clock::manual(UnixMs(1_700_000_000_000))
}

/// Keeps what is written.
#[derive(Clone, Default)]
pub(super) struct Memory(Arc<Mutex<Vec<u8>>>);

impl Memory {
    pub(super) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
