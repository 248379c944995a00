//! Fuzz target; see `src/versal.rs`.

#![cfg_attr(fuzzing, no_main)]

portcullis_fuzz::target!(versal);
