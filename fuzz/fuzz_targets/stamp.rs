//! Fuzz target; see `src/stamp.rs`.

#![cfg_attr(fuzzing, no_main)]

portcullis_fuzz::target!(stamp);
