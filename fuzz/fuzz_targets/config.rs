//! Fuzz target; see `src/config.rs`.

#![cfg_attr(fuzzing, no_main)]

portcullis_fuzz::target!(config);
