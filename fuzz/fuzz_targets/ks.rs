//! Fuzz target; see `src/ks.rs`.

#![cfg_attr(fuzzing, no_main)]

portcullis_fuzz::target!(ks);
