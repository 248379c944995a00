//! Fuzz target; see `src/reply_h2.rs`.

#![cfg_attr(fuzzing, no_main)]

portcullis_fuzz::target!(reply_h2);
