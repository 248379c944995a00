//! Fuzz target; see `src/frames.rs`.

#![cfg_attr(fuzzing, no_main)]

portcullis_fuzz::target!(frames);
