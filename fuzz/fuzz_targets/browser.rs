//! Fuzz target; see `src/browser.rs`.

#![cfg_attr(fuzzing, no_main)]

portcullis_fuzz::target!(browser);
