//! Fuzz target; see `src/wire.rs`.

#![cfg_attr(fuzzing, no_main)]

portcullis_fuzz::target!(wire);
