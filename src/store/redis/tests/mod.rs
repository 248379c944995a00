//! The store over real servers, which the tests start themselves.

#[allow(dead_code, unused_imports, reason = "a tool box that integration tests use, too")]
#[path = "../../../../tests/it/support/process.rs"]
mod process;
#[allow(dead_code, unused_imports, reason = "a tool box that integration tests use, too")]
#[path = "../../../../tests/it/support/redis/mod.rs"]
mod redis;

mod faults;
mod kinds;
mod mistyped;
mod nodes;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::clock::Clock;
use crate::section::{Problems, Section};
use crate::session::Store;
use crate::store;

/// What `[store]` text makes of it.
fn open(settings: &str, clock: Clock) -> Arc<dyn Store> {
    let problems = Problems::default();
    let text = format!("[store]\nkind = \"redis\"\n{settings}");
    let mut root = Section::parse(Path::new("/c.toml"), text, &problems);
    let mut table = root.table("store");
    let settings = store::Settings::read(&mut table);
    drop((table, root));
    assert!(problems.is_empty(), "{:?}", problems.list());
    settings.open(clock).unwrap()
}

/// A prefix that no other store has.
fn prefix() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("prefix = \"t{}:\"\n", NEXT.fetch_add(1, Ordering::Relaxed))
}
