//! Fuzz target; see `src/record.rs`.

#![cfg_attr(fuzzing, no_main)]

portcullis_fuzz::target!(record);
