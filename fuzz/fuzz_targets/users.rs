//! Fuzz target; see `src/users.rs`.

#![cfg_attr(fuzzing, no_main)]

portcullis_fuzz::target!(users);
