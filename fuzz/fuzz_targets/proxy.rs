//! Fuzz target; see `src/proxy.rs`.

#![cfg_attr(fuzzing, no_main)]

portcullis_fuzz::target!(proxy);
