//! Fuzz target; see `src/request.rs`.

#![cfg_attr(fuzzing, no_main)]

portcullis_fuzz::target!(request);
