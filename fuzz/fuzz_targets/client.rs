//! Fuzz target; see `src/client.rs`.

#![cfg_attr(fuzzing, no_main)]

portcullis_fuzz::target!(client);
