//! Fuzz target; see `src/route.rs`.

#![cfg_attr(fuzzing, no_main)]

portcullis_fuzz::target!(route);
