//! Fuzz target; see `src/reply.rs`.

#![cfg_attr(fuzzing, no_main)]

portcullis_fuzz::target!(reply);
