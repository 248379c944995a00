//! Fuzz target; see `src/cookie.rs`.

#![cfg_attr(fuzzing, no_main)]

portcullis_fuzz::target!(cookie);
