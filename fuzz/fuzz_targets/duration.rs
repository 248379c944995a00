//! Fuzz target; see `src/duration.rs`.

#![cfg_attr(fuzzing, no_main)]

portcullis_fuzz::target!(duration);
