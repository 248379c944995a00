//! Fuzz target; see `src/nuvla.rs`.

#![cfg_attr(fuzzing, no_main)]

portcullis_fuzz::target!(nuvla);
