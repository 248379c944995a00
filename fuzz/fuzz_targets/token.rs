//! Fuzz target; see `src/token.rs`.

#![cfg_attr(fuzzing, no_main)]

portcullis_fuzz::target!(token);
