//! Fuzz target; see `src/ticket.rs`.

#![cfg_attr(fuzzing, no_main)]

portcullis_fuzz::target!(ticket);
